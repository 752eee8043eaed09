"""Time notebook 3's job: read cutouts, apply every normalization, write a CSV file of each.

    python benchmarks/normalization_job.py [FOLDER] [--cutouts 1500] [--repeats 1] [--no-row-by-row]

The job is timed three times: with ztf_sg, on whole stacks; row by row with pandas: one table a technique
that is filled with ``table.loc[number] = row``, one normalized cutout at a time, then written; and the floor,
which is to read the bytes of the files and to write the same tables, their numbers known beforehand. All
write the same numbers, which is checked. With --no-row-by-row the slow way is left out.
"""

import argparse
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from timing import medians, repeat_alternately, thread_note

from ztf_sg import NORMALIZATIONS, load_cutouts, normalize
from ztf_sg.cutouts import label_of, natural_key, read_image_csv, write_image_csv
from ztf_sg.normalization import GlobalStatistics

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "cutouts_test"
STEPS = ("reading", "normalizing", "writing")

# One cutout x, with the smallest and largest pixel of the whole set: written out again, so that
# the comparison of the two outputs tests the formulas too.
ONE_CUTOUT = {
    "raw": lambda x, low, high: x,
    "log_minus_min": lambda x, low, high: np.log10(x) - np.log10(x).min(),
    "minmax": lambda x, low, high: (x - x.min()) / (x.max() - x.min()),
    "global_minmax": lambda x, low, high: (x - low) / (high - low),
    "min_over_global_max": lambda x, low, high: (x - x.min()) / high,
    "log_min_over_global_max": lambda x, low, high: (np.log10(x) - np.log10(x).min()) / np.log10(high),
    "root_minmax": lambda x, low, high: np.sqrt((x - x.min()) / (x.max() - x.min())),
    "asinh_minmax": lambda x, low, high: (
        np.arcsinh((x - x.min()) / (x.max() - x.min()) / 0.3) / np.arcsinh(1 / 0.3)
    ),
}


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
    names = [path for path in folder.glob("*.fits")] if folder.is_dir() else []
    if not names:
        raise SystemExit(f"{folder}: holds no FITS files; make cutouts with notebook 2 or name another")
    paths = sorted(names, key=lambda path: natural_key(path.name))
    for number, path in enumerate(islice(cycle(paths), count)):
        (target / f"{path.stem.split('_')[0]}_{number}.fits").symlink_to(path.resolve())
    return len(paths)


def run_ours(folder, out):
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
    timer = StepTimer()
    for path in paths:
        path.read_bytes()
    timer.done("reading")
    for technique, pixels in tables.items():
        write_image_csv(out / f"{technique}.csv", pixels, labels)
    timer.done("writing")
    return timer.seconds


def run_row_by_row(paths, statistics, out):
    timer = StepTimer()
    raw = pd.DataFrame()
    for number, path in enumerate(paths):
        row = [label_of(path.stem), *fits.getdata(path).astype(float).ravel()]
        if raw.empty:
            raw = pd.DataFrame(columns=range(len(row)))
        raw.loc[number] = row
    timer.done("reading")
    for technique in NORMALIZATIONS:
        table = pd.DataFrame(columns=raw.columns)
        for number, row in raw.iterrows():
            pixels = row[1:].to_numpy(dtype=float)
            low, high = statistics.minimum, statistics.maximum
            table.loc[number] = [row[0], *ONE_CUTOUT[technique](pixels, low, high)]
        timer.done("normalizing")
        table.astype({0: int}).to_csv(out / f"{technique}.csv", header=False, index=False)
        timer.done("writing")
    return timer.seconds


def check_same_numbers(ours, others):
    """Stop unless two sets of CSV files agree."""
    for technique in NORMALIZATIONS:
        pixels, labels = read_image_csv(ours / f"{technique}.csv")
        expected, expected_labels = read_image_csv(others / f"{technique}.csv")
        np.testing.assert_array_equal(labels, expected_labels, err_msg=technique)
        np.testing.assert_allclose(pixels, expected, rtol=1e-6, atol=1e-12, err_msg=technique)


def report_shares(name, runs, total):
    """Print the time of a job and how reading, normalizing and writing share it."""
    spent = {step: np.median([run[step] for run in runs]) for step in STEPS}
    shares = ", ".join(f"{step} {100 * spent[step] / sum(spent.values()):.0f} %" for step in STEPS)
    print(f"{name}: median {total:.2f} s ({shares})")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--cutouts", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-row-by-row", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.cutouts, arguments.repeats) < 1:
        parser.error("the numbers of cutouts and repeats must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    if set(ONE_CUTOUT) != set(NORMALIZATIONS):
        raise SystemExit(f"ONE_CUTOUT lacks or exceeds: {set(ONE_CUTOUT) ^ set(NORMALIZATIONS)}")
    print(thread_note())
    with tempfile.TemporaryDirectory() as scratch:
        names = ("cutouts", "ours", "floor", "row-by-row")
        folder, ours, floor, row_by_row = (Path(scratch) / name for name in names)
        for directory in (folder, ours, floor, row_by_row):
            directory.mkdir()
        found = link_cutouts(arguments.folder, folder, arguments.cutouts)
        print(f"{arguments.cutouts} cutouts (from {found} files), {len(NORMALIZATIONS)} normalizations")
        paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        cutouts = load_cutouts(folder)
        statistics = GlobalStatistics.of(cutouts.images)
        tables = {technique: normalize(cutouts.images, technique) for technique in NORMALIZATIONS}
        jobs = {
            "ours": lambda: run_ours(folder, ours),
            "floor": lambda: run_floor(paths, tables, cutouts.labels, floor),
        }
        if not arguments.no_row_by_row:
            jobs["row-by-row"] = lambda: run_row_by_row(paths, statistics, row_by_row)
        seconds, steps = repeat_alternately(jobs, arguments.repeats)
        for name in list(jobs)[1:]:
            check_same_numbers(ours, Path(scratch) / name)
    total = medians(seconds)
    print("all wrote the same numbers, to 1e-6")
    for name, seconds_spent in total.items():
        report_shares(name, steps[name], seconds_spent)
    times = total["ours"] / total["floor"]
    print(f"times the floor {times:.2f} ours {total['ours']:.2f} s floor {total['floor']:.2f} s")
    if "row-by-row" in total:
        ratio = total["row-by-row"] / total["ours"]
        print(f"ratio {ratio:.1f} ours {total['ours']:.2f} s row-by-row {total['row-by-row']:.1f} s")


if __name__ == "__main__":
    main()
