"""Time reading a folder of cutouts with load_cutouts, and one by one with astropy.

    python benchmarks/reading_speed.py [FOLDER] [--cutouts 1500] [--repeats 5]

One by one means ``fits.open``, then data and header of every file; of the header the keywords in use are
looked up. Both read the same values, which is checked. Reading the bytes alone, and the same cutouts from one
Parquet file, is timed too.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from normalization_job import DEFAULT_FOLDER, link_cutouts
from timing import medians, repeat_alternately, thread_note

from ztf_sg import CutoutSet, load_cutouts
from ztf_sg.cutouts import HEADER_KEYS, natural_key


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


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--cutouts", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if min(arguments.cutouts, arguments.repeats) < 1:
        parser.error("the numbers of cutouts and repeats must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    print(thread_note())
    with tempfile.TemporaryDirectory() as scratch:
        folder, parquet = Path(scratch) / "cutouts", Path(scratch) / "cutouts.parquet"
        folder.mkdir()
        found = link_cutouts(arguments.folder, folder, arguments.cutouts)
        print(f"{arguments.cutouts} cutouts (from {found} files)")
        paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        load_cutouts(folder).to_parquet(parquet)
        jobs = {
            "astropy": lambda: read_one_by_one(paths),
            "ours": lambda: load_cutouts(folder),
            "bytes": lambda: read_bytes(paths),
            "parquet": lambda: CutoutSet.read_parquet(parquet),
        }
        seconds, results = repeat_alternately(jobs, arguments.repeats)
    check_same_values(results["ours"][-1], *results["astropy"][-1])
    print("both read the same values")
    speed = {name: arguments.cutouts / spent for name, spent in medians(seconds).items()}
    print(f"bytes alone {speed['bytes']:.0f} files/s, from one Parquet file {speed['parquet']:.0f} cutouts/s")
    ratio = speed["ours"] / speed["astropy"]
    print(
        f"reading ratio {ratio:.1f} ours {speed['ours']:.0f} files/s astropy {speed['astropy']:.0f} files/s"
    )


if __name__ == "__main__":
    main()
