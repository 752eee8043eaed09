"""Classify positions from a misbehaving archive, in processes that are killed now and then, and count."""

import threading
import time
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ztf_sg.own_objects import classify_positions, places
from ztf_sg.own_objects.part import FETCHED
from ztf_sg.services import http
from ztf_sg.services.irsa import Irsa
from ztf_sg.services.retries import Retries

from .clients import point_clients_to

RESULT = "result.parquet"
PATIENCE = 60.0  # [s]
# what takes long to load: once for all processes
PRELOADED = [f"ztf_sg.{name}" for name in "own_objects services.irsa services.gaia simulation".split()]


def classify(url, positions, directory, options, part, read_timeout):
    """Classify positions from an archive on loopback, and write the result; for a process of its own."""
    tqdm.set_lock(threading.RLock())  # tqdm's own lock outlives a killed process
    point_clients_to(url)
    http.READ_TIMEOUT = read_timeout
    places.OBJECTS = part
    retries = Retries(first_wait=0.02, longest_wait=0.1, patience=PATIENCE)
    service = Irsa(cache=directory / "searches", retries=retries)
    table = classify_positions(positions, directory, service, progress=False, **options)
    table.to_parquet(directory / RESULT)


def run_with_kills(archive, positions, directory, kills, part, read_timeout, **options):
    """Run until all is classified, killed (SIGKILL) whenever that many cutouts more have been asked for.

    Returns the table, and what was there at each kill: the length of the log, and the names of the cutouts.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    arguments = archive.url, positions, Path(directory), options, part, read_timeout
    snapshots = []
    for kill in [*kills, None]:
        process = context.Process(target=classify, args=arguments)
        process.start()
        while kill is not None and process.is_alive() and len(cutouts_in(directory)) < kill:
            time.sleep(0.002)
        if kill is not None:
            process.kill()
        process.join()
        snapshots.append((len(archive.log), cutouts_in(directory)))
    if process.exitcode:
        raise RuntimeError(f"the last run ended with status {process.exitcode}")
    return pd.read_parquet(Path(directory) / RESULT), snapshots[:-1]


def cutouts_in(directory):
    """Return object and image of the cutouts that are there, in finished parts and in others."""
    found = set()
    for path in (Path(directory) / FETCHED).glob("part-*/object_*.fits"):
        _, number, _, date = path.stem.split("_")
        found.add((int(number), date))
    for path in Path(directory).glob("part-*.parquet"):
        table = pd.read_parquet(path).query("status == 'saved'")
        found |= {(row.object, row.source_image.split("_")[1]) for row in table.itertuples()}
    return found


def audit(archive, positions, table, snapshots):
    """Say how many objects were asked for, classified, lost, and how many cutouts fetched twice."""
    numbers = {f"{ra:.5f}": number for number, ra in enumerate(positions["RA"])}
    twice = 0
    for asked, there in snapshots:
        for record in archive.log[asked:]:
            if "center" in record.args:
                number = numbers[f"{float(record.args['center'].split(',')[0]):.5f}"]
                twice += (number, Path(record.path).name.split("_")[1]) in there
    classified = (table["class"] != "").sum()
    lost = len(positions) - len(table) + (table["n_failed"] > 0).sum()
    return f"asked {len(positions)} classified {classified} lost {lost} twice {twice}"
