"""Fetch cutouts from a misbehaving loopback archive, kill the fetch now and then, and count what is wrong.

The archive of tests/archives answers a share of the requests with faults of every kind. The fetch is that of
notebook 2, every other time with an account: half of the cutouts as it comes cheapest, many from whole
images, the other half one by one. Its process is killed (SIGKILL) at random moments and started again. In the
end every file is compared, pixel by pixel, with the image it should come from, and the log of the archive is
searched for requests for what was there already.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote, quote_plus
from urllib.request import urlopen

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.fetching import (
    CENTRING_TOLERANCE,
    IMAGE_FOLDER,
    REQUEST_COST,
    fetch_cutouts,
    read_answer,
    read_manifest,
)
from ztf_sg.positions import cut_types, labels_of_types, position_table
from ztf_sg.services import http
from ztf_sg.services.account import find_account
from ztf_sg.services.errors import UnusableAnswer
from ztf_sg.services.irsa import Irsa
from ztf_sg.services.retries import Retries
from ztf_sg.simulation import MockSky

ARCHIVES = Path(__file__).parents[1] / "tests"
SKY_SEED = 1
USER, PASSWORD = "astronomer", "planted&secret 42%"
STALL = 1.5  # how long the archive keeps a client waiting, where it does [s]
TIME_LIMIT = 1.0  # the client's patience, instead of the minute of real life [s]


def main():
    arguments = parse_arguments()
    if arguments.client:
        return fetch(arguments)
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        archive = start_archive(arguments)
        try:
            url = archive.stdout.readline().strip()
            print(f"{arguments.cutouts} cutouts, {arguments.fault_rate:.0%} of the requests with a fault")
            start = time.monotonic()
            snapshots = run_with_kills(arguments, url, folder, rng)
            seconds = time.monotonic() - start
            audit(arguments, url, folder, snapshots, seconds)
        finally:
            archive.terminate()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutouts", type=int, default=2000)
    parser.add_argument("--fault-rate", type=float, default=0.25)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signed-on", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def targets(arguments):
    """Return positions of stars and of galaxies, from the catalogue of the archive's sky."""
    catalogue = cut_types(MockSky(seed=SKY_SEED).catalogue)
    catalogue = catalogue[catalogue["FLUX_I"] > 10 ** (0.4 * (22.5 - 20.5))]
    shuffled = position_table(catalogue).sample(frac=1, random_state=arguments.seed)
    labels = labels_of_types(shuffled["type"])
    return [shuffled[labels == label].reset_index(drop=True) for label in (0, 1)]


def fetch(arguments):
    """Do what notebook 2 does; in a process of its own, that may be killed."""
    url, folder = arguments.client
    sys.path.insert(0, str(ARCHIVES))
    from archives import point_clients_to

    # the fullest log there is: it must not hold the password either
    logging.basicConfig(
        level=logging.DEBUG, filename=Path(folder) / "log.txt", format="%(created)f %(message)s"
    )
    point_clients_to(url)
    http.READ_TIMEOUT = TIME_LIMIT
    retries = Retries(first_wait=0.02, longest_wait=0.5, patience=60)
    auth = find_account() if arguments.signed_on else None
    service = Irsa(auth=auth, cache=Path(folder) / "cache", retries=retries)
    for share, cost in ((4, REQUEST_COST), (2, 0)):
        fetch_cutouts(
            targets(arguments),
            Path(folder) / "cutouts",
            service,
            n_cutouts=arguments.cutouts // share,
            request_cost=cost,
        )


def start_archive(arguments):
    command = [sys.executable, ARCHIVES / "archives", "--sky-seed", SKY_SEED, "--stall", STALL]
    command += [
        "--fault-rate",
        arguments.fault_rate,
        "--seed",
        arguments.seed,
        "--account",
        f"{USER}:{PASSWORD}",
    ]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def run_with_kills(arguments, url, folder, rng):
    """Run the fetch, kill it a few times and let it finish; return what was there at each kill."""
    moments = np.sort(rng.uniform(0.03, 0.97, arguments.kills)) * arguments.cutouts
    snapshots = []
    for number, moment in enumerate([*moments, np.inf]):
        client = start_client(arguments, url, folder, signed_on=number % 2 == 0)
        while client.poll() is None and len(saved_files(folder)) < moment:
            time.sleep(0.02)
        if np.isfinite(moment):
            time.sleep(rng.uniform(0, 0.3))
            client.send_signal(signal.SIGKILL)
        client.wait()
        snapshots.append({"time": time.time(), "saved": saved_files(folder), "images": whole_images(folder)})
        print(f"{'killed' if client.returncode < 0 else 'ended'} at {len(snapshots[-1]['saved'])} cutouts")
    if client.returncode:
        print((folder / "output.txt").read_text()[-2000:])
    return snapshots


def start_client(arguments, url, folder, signed_on):
    command = [sys.executable, __file__, "--cutouts", str(arguments.cutouts), "--seed", str(arguments.seed)]
    command += ["--client", url, str(folder), *["--signed-on"] * signed_on]
    account = {"IRSA_USERNAME": USER, "IRSA_PASSWORD": PASSWORD}
    with open(folder / "output.txt", "a") as output:
        return subprocess.Popen(command, env={**os.environ, **account}, stdout=output, stderr=output)


def saved_files(folder):
    return {path.name for path in (folder / "cutouts").glob("*.fits")}


def whole_images(folder):
    return {path.name for path in (folder / "cutouts" / IMAGE_FOLDER).glob("*.fits")}


def audit(arguments, url, folder, snapshots, seconds):
    """Print what the archive did and what came of it."""
    log = json.loads(urlopen(f"{url}/_log").read())
    faults = json.loads(urlopen(f"{url}/_fault_counts").read())
    for kind, count in sorted(faults.items()):
        print(f"  {kind:16s} {count}")
    manifest = read_manifest(folder / "cutouts")
    listed = manifest[manifest["status"] == "saved"]
    places = place_of_each_file(arguments)
    verdicts = [check(row, places[row.file], folder / "cutouts", url) for row in listed.itertuples()]
    unlisted = saved_files(folder) ^ set(listed["file"])
    data = [record for record in log if "/data/" in record["path"]]
    whole = sum("center" not in record["args"] for record in data)
    print(f"{len(log)} requests: {whole} for whole images, {len(data) - whole} for cutouts; {seconds:.0f} s")
    print(f"password found in {count_secrets(folder)} files")
    twice = count_fetched_twice(log, folder, places, snapshots)
    print(
        f"requested {arguments.cutouts} saved {len(listed)} lost {arguments.cutouts - len(listed)} "
        f"corrupt {verdicts.count('corrupt') + len(unlisted)} "
        f"fetched_twice {twice} mixed {verdicts.count('mixed')}"
    )


def place_of_each_file(arguments):
    """Return RA and DEC by file name: exact ones, as the manifest's are rounded, and so may a cutout be."""
    return {
        f"{kind}_{number}.fits": (position.RA, position.DEC)
        for kind, table in zip(CLASS_NAMES, targets(arguments), strict=True)
        for number, position in enumerate(table.itertuples())
    }


def check(row, place, directory, url):
    """Return "corrupt" for a file that is not as the archive has it, "mixed" for one of something else."""
    try:
        hdu = read_answer((directory / row.file).read_bytes(), row.file)
    except (OSError, UnusableAnswer):
        return "corrupt"
    x, y = WCS(hdu.header).world_to_pixel_values(*place)
    exposure = hdu.header["FILENAME"].removesuffix(".fits")
    same_image = row.source_image.startswith(exposure) and f"_q{hdu.header['QID']}_" in row.source_image
    if max(abs(x - 9.5), abs(y - 9.5)) > CENTRING_TOLERANCE or not same_image:
        return "mixed"
    with urlopen(f"{url}/_truth/{row.source_image}?center={place[0]},{place[1]}") as answer:
        truth = fits.HDUList.fromstring(answer.read())[0].data
    return "good" if np.array_equal(hdu.data, truth) else "corrupt"


def count_fetched_twice(log, folder, places, snapshots):
    """Count requests for cutouts and images that were there when the request arrived."""
    there_since = {}
    for line in (folder / "log.txt").read_text().splitlines():
        moment, name, *status = line.split(" ")
        if status[:1] in (["saved"], ["kept"]):
            there_since.setdefault(name.rstrip(":"), float(moment))
    for snapshot in snapshots:
        for name in snapshot["saved"] | snapshot["images"]:
            there_since[name] = min(there_since.get(name, np.inf), snapshot["time"])
    name_of = {place: name for name, place in places.items()}
    twice = 0
    for record in log:
        asked = Path(record["path"]).name
        if "center" in record["args"]:
            asked = name_of[tuple(map(float, record["args"]["center"].split(",")))]
        twice += record["time"] > there_since.get(asked, np.inf)
    return twice


def count_secrets(folder):
    """Count the files that a run left behind with the planted password in them, its output among them."""
    forms = (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), quote_plus(PASSWORD))
    secrets = [form.encode() for form in forms]
    contents = (path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return sum(any(secret in content for secret in secrets) for content in contents)


if __name__ == "__main__":
    main()
