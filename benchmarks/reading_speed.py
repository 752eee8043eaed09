"""Time reading cutouts beside astropy, and notebook 3's job beside the file access that it cannot avoid.

    python benchmarks/reading_speed.py [FOLDER] [--cutouts 1500] [--repeats 5]

Reading: load_cutouts on a folder; astropy on one file after the other (``fits.open``, then data, header and
the keywords in use), which must give the same values; the bytes of the files alone; one Parquet file.
The job: read the folder, apply every normalization, write a CSV file of each. Beside it the floor: read the
bytes of the files and write the same tables, whose numbers are known beforehand; both must write the same.
"""

import argparse
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from astropy.io import fits
from timing import medians, repeat_alternately, thread_note

from ztf_sg import NORMALIZATIONS, CutoutSet, load_cutouts, normalize
from ztf_sg.cutouts import HEADER_KEYS, list_cutouts, write_image_csv

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "cutouts_test"


class StepTimer:
    """Adds up the wall time of the steps of a job [s]."""

    def __init__(self):
        self.seconds = Counter()
        self._last = time.perf_counter()

    def done(self, step):
        """Book the time since the last call, or since the start, on a step."""
        now = time.perf_counter()
        self.seconds[step] += now - self._last
        self._last = now


def link_cutouts(folder, target, count):
    """Link count cutouts of a folder into another under new names, going round when there are too few."""
    target.mkdir()
    paths = list_cutouts(folder)
    for number, path in enumerate(islice(cycle(paths), count)):
        (target / f"{path.stem.split('_')[0]}_{number}.fits").symlink_to(path.resolve())
    return len(paths)


def read_one_by_one(paths):
    """Return images and headers' values in use, as astropy gives them."""
    images, rows = [], []
    for path in paths:
        with fits.open(path, memmap=False) as hdus:
            image, header = hdus[0].data, hdus[0].header
        images.append(image)
        rows.append([header.get(key) for key in HEADER_KEYS])
    return np.array(images), rows


def read_bytes(paths):
    return sum(len(path.read_bytes()) for path in paths)


def check_same_values(cutouts, images, rows):
    """Stop unless load_cutouts gave the pixels and the metadata that astropy gave."""
    np.testing.assert_array_equal(cutouts.images, images)
    table = cutouts.table[[key.lower() for key in HEADER_KEYS]]
    for ours, theirs in zip(table.itertuples(index=False), rows, strict=True):
        wanted = [np.nan if value is None else value for value in theirs]
        assert all(a == b or (a != a and b != b) for a, b in zip(ours, wanted, strict=True)), (ours, theirs)


def run_job(folder, out):
    """Do what notebook 3 does; return the seconds of each step."""
    timer = StepTimer()
    cutouts = load_cutouts(folder)
    timer.done("reading")
    for technique in NORMALIZATIONS:
        pixels = normalize(cutouts.images, technique)
        timer.done("normalizing")
        write_image_csv(out / f"{technique}.csv", pixels, cutouts.labels)
        timer.done("writing")
    return timer.seconds


def run_floor(paths, tables, labels, out):
    """Read the same files and write the same tables, and nothing else; return the seconds of each step."""
    timer = StepTimer()
    read_bytes(paths)
    timer.done("reading")
    for technique, pixels in tables.items():
        write_image_csv(out / f"{technique}.csv", pixels, labels)
    timer.done("writing")
    return timer.seconds


def time_reading(folder, paths, parquet, repeats):
    """Print the speeds of reading."""
    jobs = {
        "astropy": lambda: read_one_by_one(paths),
        "ours": lambda: load_cutouts(folder),
        "bytes": lambda: read_bytes(paths),
        "parquet": lambda: CutoutSet.read_parquet(parquet),
    }
    seconds, results = repeat_alternately(jobs, repeats)
    check_same_values(results["ours"][-1], *results["astropy"][-1])
    print("both read the same values")
    speed = {name: len(paths) / spent for name, spent in medians(seconds).items()}
    print(f"bytes alone {speed['bytes']:.0f} files/s, from one Parquet file {speed['parquet']:.0f} cutouts/s")
    print(
        f"reading ratio {speed['ours'] / speed['astropy']:.1f} ours {speed['ours']:.0f} files/s "
        f"astropy {speed['astropy']:.0f} files/s"
    )


def time_job(folder, paths, scratch, repeats):
    """Print the times of the job of notebook 3 and of its floor."""
    cutouts = load_cutouts(folder)
    tables = {technique: normalize(cutouts.images, technique) for technique in NORMALIZATIONS}
    jobs = {
        "ours": lambda: run_job(folder, scratch / "ours"),
        "floor": lambda: run_floor(paths, tables, cutouts.labels, scratch / "floor"),
    }
    seconds, steps = repeat_alternately(jobs, repeats)
    for technique in NORMALIZATIONS:
        ours, floor = ((scratch / name / f"{technique}.csv").read_bytes() for name in jobs)
        if ours != floor:
            raise SystemExit(f"{technique}: the two tables differ")
    print(f"{len(NORMALIZATIONS)} normalizations, of which both wrote the same tables")
    total = medians(seconds)
    for name, runs in steps.items():
        spent = {step: np.median([run[step] for run in runs]) for step in runs[0]}
        shares = ", ".join(
            f"{step} {100 * value / sum(spent.values()):.0f} %" for step, value in spent.items()
        )
        print(f"{name}: median {total[name]:.2f} s ({shares})")
    ratio = total["ours"] / total["floor"]
    print(f"times the floor {ratio:.2f} ours {total['ours']:.2f} s floor {total['floor']:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--cutouts", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if min(arguments.cutouts, arguments.repeats) < 1:
        parser.error("the numbers of cutouts and repeats must be at least 1")
    print(thread_note())
    with tempfile.TemporaryDirectory() as scratch:
        folder, parquet = Path(scratch) / "cutouts", Path(scratch) / "cutouts.parquet"
        found = link_cutouts(arguments.folder, folder, arguments.cutouts)
        print(f"{arguments.cutouts} cutouts (from {found} files)")
        paths = list_cutouts(folder)
        load_cutouts(folder).to_parquet(parquet)
        time_reading(folder, paths, parquet, arguments.repeats)
        time_job(folder, paths, Path(scratch), arguments.repeats)


if __name__ == "__main__":
    main()
