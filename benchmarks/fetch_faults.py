"""Fetch cutouts from a misbehaving loopback archive, kill the fetch now and then, and count what is wrong.

The archive of tests/archives answers a share of the requests with faults of every kind. The fetch is that of
notebook 2, every other time with an account: half of the cutouts as it comes cheapest, many from whole
images, the other half one by one. Its process is killed (SIGKILL) at random moments and started again. In the
end every file is compared, pixel by pixel, with the image it should come from, and the log of the archive is
searched for requests for what was there already.
"""

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import quote, quote_plus

import numpy as np
from astropy.wcs import WCS
from tqdm.auto import tqdm

from ztf_sg.cutouts import CLASS_NAMES, CutoutError, read_cutout
from ztf_sg.fetching import CENTRING_TOLERANCE, IMAGE_FOLDER, REQUEST_COST, fetch_cutouts, read_manifest
from ztf_sg.positions import cut_types, labels_of_types, position_table
from ztf_sg.services import http
from ztf_sg.services.account import find_account
from ztf_sg.services.irsa import Irsa
from ztf_sg.services.retries import Retries

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from archives import ArchiveServer, point_clients_to  # noqa: E402

USER, PASSWORD = "astronomer", "planted&secret 42%"
STALL = 1.5  # how long the archive keeps a client waiting, where it does [s]
TIME_LIMIT = 1.0  # the client's patience, instead of the minute of real life [s]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutouts", type=int, default=2000)
    parser.add_argument("--fault-rate", type=float, default=0.25)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.cutouts} cutouts, {options.fault_rate:.0%} of the requests with a fault")
    faults = {"fault_rate": options.fault_rate, "fault_seed": options.seed, "stall": STALL}
    with (
        ArchiveServer(accounts={USER: (PASSWORD, True)}, **faults) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        tables = positions_of(archive.sky.catalogue, options.seed)
        start = time.monotonic()
        snapshots = run_with_kills(options, tables, archive.url, Path(folder))
        print(f"{time.monotonic() - start:.0f} s")
        audit(options.cutouts, tables, archive, Path(folder), snapshots)


def positions_of(catalogue, seed):
    """Return positions of the stars and of the galaxies of a catalogue, shuffled."""
    catalogue = cut_types(catalogue[catalogue["FLUX_I"] > 10 ** (0.4 * (22.5 - 20.5))])
    shuffled = position_table(catalogue).sample(frac=1, random_state=seed)
    labels = labels_of_types(shuffled["type"])
    return [shuffled[labels == label].reset_index(drop=True) for label in (0, 1)]


def fetch(tables, n_cutouts, url, folder, with_account):
    """Do what notebook 2 does; in a process of its own, that may be killed."""
    sys.stdout = sys.stderr = open(folder / "output.txt", "a")  # noqa: SIM115
    tqdm.set_lock(threading.RLock())  # tqdm's own lock outlives a killed process
    # the fullest log there is: it must not hold the password either
    logging.basicConfig(level=logging.DEBUG, filename=folder / "log.txt", format="%(created)f %(message)s")
    point_clients_to(url)
    http.READ_TIMEOUT = TIME_LIMIT
    os.environ.update(IRSA_USERNAME=USER, IRSA_PASSWORD=PASSWORD)
    retries = Retries(first_wait=0.02, longest_wait=0.5, patience=60)
    service = Irsa(find_account() if with_account else None, cache=folder / "cache", retries=retries)
    for share, cost in ((4, REQUEST_COST), (2, 0)):
        fetch_cutouts(tables, folder / "cutouts", service, n_cutouts=n_cutouts // share, request_cost=cost)


def run_with_kills(options, tables, url, folder):
    """Run the fetch, kill it a few times and let it finish; return what was there at each kill."""
    rng = np.random.default_rng(options.seed)
    moments = np.sort(rng.uniform(0.03, 0.97, options.kills)) * options.cutouts
    snapshots = []
    for number, moment in enumerate([*moments, np.inf]):
        arguments = (tables, options.cutouts, url, folder, number % 2 == 0)
        client = get_context("spawn").Process(target=fetch, args=arguments)
        client.start()
        while client.is_alive() and len(files_in(folder / "cutouts")) < moment:
            time.sleep(0.02)
        if np.isfinite(moment):
            time.sleep(rng.uniform(0, 0.3))
            client.kill()
        client.join()
        saved = files_in(folder / "cutouts")
        snapshots.append((time.time(), saved | files_in(folder / "cutouts" / IMAGE_FOLDER)))
        print(f"{'killed' if client.exitcode < 0 else 'ended'} at {len(saved)} cutouts")
    if client.exitcode:
        print((folder / "output.txt").read_text()[-2000:])
    return snapshots


def files_in(folder):
    return {path.name for path in folder.glob("*.fits")}


def audit(n_cutouts, tables, archive, folder, snapshots):
    """Print what the archive did and what came of it."""
    for kind, count in sorted(archive.fault_counts.items()):
        print(f"  {kind:16s} {count}")
    manifest = read_manifest(folder / "cutouts")
    listed = manifest[manifest["status"] == "saved"]
    # the positions of the manifest are rounded, and so may a cutout of them be
    positions = {
        f"{kind}_{number}.fits": (position.RA, position.DEC)
        for kind, table in zip(CLASS_NAMES, tables, strict=True)
        for number, position in enumerate(table.itertuples())
    }
    verdicts = [verdict(row, positions[row.file], folder, archive.sky) for row in listed.itertuples()]
    corrupt = verdicts.count("corrupt") + len(files_in(folder / "cutouts") ^ set(listed["file"]))
    data = [record for record in archive.log if "/data/" in record.path]
    whole = sum("center" not in record.args for record in data)
    print(f"{len(archive.log)} requests: {whole} for whole images, {len(data) - whole} for cutouts")
    print(f"password found in {count_secrets(folder)} files")
    twice = count_fetched_twice(data, folder, positions, snapshots)
    print(
        f"requested {n_cutouts} saved {len(listed)} lost {n_cutouts - len(listed)} corrupt {corrupt} "
        f"fetched_twice {twice} mixed {verdicts.count('mixed')}"
    )


def verdict(row, position, folder, sky):
    """Return "corrupt" for a file that is not as the archive has it, "mixed" for one of something else."""
    try:
        pixels, header = read_cutout(folder / "cutouts" / row.file)
    except CutoutError:
        return "corrupt"
    x, y = WCS(header).world_to_pixel_values(*position)
    exposure = header["FILENAME"].removesuffix(".fits")
    same_image = row.source_image.startswith(exposure) and f"_q{header['QID']}_" in row.source_image
    if max(abs(x - 9.5), abs(y - 9.5)) > CENTRING_TOLERANCE or not same_image:
        return "mixed"
    return "good" if np.array_equal(pixels, sky.cutout(row.source_image, *position)) else "corrupt"


def count_fetched_twice(data, folder, positions, snapshots):
    """Count requests for cutouts and images that were there when the request arrived."""
    there_since = {}
    for line in (folder / "log.txt").read_text().splitlines():
        moment, name, *status = line.split(" ")
        if status[:1] in (["saved"], ["kept"]):
            there_since.setdefault(name.rstrip(":"), float(moment))
    for moment, names in snapshots:
        there_since |= {name: min(there_since.get(name, np.inf), moment) for name in names}
    name_of = {position: name for name, position in positions.items()}
    twice = 0
    for record in data:
        asked = Path(record.path).name
        if "center" in record.args:
            asked = name_of[tuple(map(float, record.args["center"].split(",")))]
        twice += record.time > there_since.get(asked, np.inf)
    return twice


def count_secrets(folder):
    """Count the files that a run left behind with the planted password in them, its output among them."""
    forms = {PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), quote_plus(PASSWORD)}
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return sum(any(form.encode() in content for form in forms) for content in contents)


if __name__ == "__main__":
    main()
