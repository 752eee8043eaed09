"""Classify positions end to end, offline: speed, memory, the share of each stage, and requests per object.

python benchmarks/own_objects.py [--positions 20000] [--images 1]
python benchmarks/own_objects.py --live 200

The positions are of objects of the simulated sky, in the filters g, r and i. To draw an object takes longer
than all the rest, so each image draws its first objects only, and repeats them, with fresh noise, for the
others. Memory is the largest of the process while nothing is drawn, since a rare galaxy takes the simulated
sky 0.4 GB. Requests are what IRSA would be sent: searches, and whole images or cutouts, whichever is cheaper.
A quarter of the positions is classified first, in a process of its own: its memory tells how the need grows.

With --live a loopback archive, at which a quarter of the requests meets a fault, is asked for so many
positions, two images each, in parts of a dozen, while the process is killed (SIGKILL) five times.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from timing import thread_note

from ztf_sg import classify_positions
from ztf_sg.fetching.choose import costs_less_whole
from ztf_sg.own_objects.output import write_classes
from ztf_sg.own_objects.part import STAGES, read_part
from ztf_sg.positions import cut_types, position_table
from ztf_sg.simulation import MockSky
from ztf_sg.ztf import image_name

FAINTEST = 20.5  # of the objects, in r [mag]
DRAWN = 12  # objects that each image draws


class RepeatingSky(MockSky):
    """The mock sky, of which each image draws its first objects only, and repeats them."""

    searches = 0
    memory = 0.0  # largest so far, without that of drawing [GB]

    def search_images(self, *arguments):
        """Count the search, and do it."""
        self.searches += 1
        return super().search_images(*arguments)

    def draw(self, exposure, wcs, centre, origin, shape):
        """Draw the light of a stamp, or return that of another one."""
        drawn = self.__dict__.setdefault("_drawn", {}).setdefault((image_name(exposure), shape), [])
        if len(drawn) < DRAWN:
            self.memory = max(self.memory, largest_memory())
            drawn.append(super().draw(exposure, wcs, centre, origin, shape))
            Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the largest memory
            return drawn[-1]
        return drawn[origin[0] % DRAWN]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=1, help="of each object in each filter")
    parser.add_argument("--live", type=int, metavar="POSITIONS")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        return run_live(options.live)
    if options.alone:
        return run_offline(options.positions, options.images)
    print(thread_note(), flush=True)
    for positions in (options.positions // 4, options.positions):
        arguments = ["--positions", str(positions), "--images", str(options.images), "--alone"]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


def run_offline(n, n_images):
    """Classify n positions; print what it took."""
    sky = RepeatingSky()
    positions = positions_of(sky.catalogue, n)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        options = {"n_images": n_images, "progress": False}
        classify_positions(positions, scratch, sky, **options)
        classified = time.perf_counter()
        again = classify_positions(positions, scratch, sky, **options)
        combined = time.perf_counter()
        write_classes(again, f"{scratch}/classes.parquet")
        written = time.perf_counter()
        parts = [read_part(path) for path in sorted(Path(scratch).glob("part-*.parquet"))]
    seconds = classified - started + written - combined
    spent = Counter()
    for _, note in parts:
        spent.update(note["seconds"])
    spent = {stage: spent[stage] for stage in STAGES}
    spent |= {"combining": combined - classified, "table": written - combined}
    shares = ", ".join(f"{stage} {100 * value / seconds:.1f} %" for stage, value in spent.items())
    saved = sum((images["status"] == "saved").sum() for images, _ in parts)
    speed = f"{n / seconds:.0f} positions/s, {seconds:.0f} s"
    print(f"{n} positions, {saved} cutouts, {len(parts)} parts: {speed}")
    print(f"  {shares}")
    memory = max(sky.memory, largest_memory())
    downloads = sum(requests_of(images) for images, _ in parts)
    print(f"  largest memory {memory:.2f} GB")
    each = (sky.searches + downloads) / n
    print(f"  {sky.searches} searches, {downloads} downloads: {each:.3f} requests per object", flush=True)


def largest_memory():
    """Return the largest memory of this process [GB], since Linux was told to forget it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6


def positions_of(catalogue, n):
    """Return n positions of objects, which repeat if there are not so many."""
    bright = catalogue[catalogue["FLUX_R"] > 10 ** (0.4 * (22.5 - FAINTEST))]
    bright = bright[["RA", "DEC"]].sample(frac=1, random_state=0)
    return pd.concat([bright] * -(-n // len(bright))).head(n).reset_index(drop=True)


def requests_of(images):
    """Return how many downloads the images of a part take: one for a whole image, or one for each cutout."""
    counts = images.loc[images["status"] == "saved", "source_image"].value_counts().to_numpy()
    return int(np.where(costs_less_whole(counts), 1, counts).sum())


def run_live(n):
    """Classify n positions from a faulty archive, killed five times; print what was lost or fetched twice."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from archives import ArchiveServer
    from archives.own_objects import audit, run_with_kills

    started = time.perf_counter()
    with (
        ArchiveServer(n_images=6, fault_rate=0.25, stall=1.5) as archive,
        tempfile.TemporaryDirectory() as scratch,
    ):
        catalogue = cut_types(archive.sky.catalogue)
        inside = catalogue["RA"].between(5.55, 5.95) & catalogue["DEC"].between(-0.99, -0.7)
        positions = position_table(catalogue[inside & (catalogue["FLUX_I"] > 10)])[["RA", "DEC"]].head(n)
        positions = positions.reset_index(drop=True)
        kills = np.random.default_rng(0).uniform(0, 2 * len(positions), 5)
        # parts so small that no image is cheaper fetched whole, which would take few requests
        options = {"filters": ["zi"], "n_images": 2, "max_seeing": 3.0, "part": 12, "read_timeout": 1.0}
        table, snapshots = run_with_kills(archive, positions, Path(scratch), sorted(kills), **options)
        faults = sum(archive.fault_counts.values())
        print(f"{len(archive.log)} requests, {faults} with a fault, in {time.perf_counter() - started:.0f} s")
        print(audit(archive, positions, table, snapshots))


if __name__ == "__main__":
    main()
