"""Simulate a sky, write cutouts of it to a folder, and print how long it took.

python tools/simulate.py FOLDER [--per-class 750] [--seed 1]
"""

import argparse
import shutil
import time
from pathlib import Path

from joblib import Parallel, delayed

from ztf_sg import fetch_cutouts
from ztf_sg.positions import select_positions
from ztf_sg.simulation import MockSky


def main():
    """Simulate cutouts and print the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--per-class", type=int, default=750)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    start = time.perf_counter()
    made = simulate(options.folder, options.per_class, options.seed)
    print(f"simulated {len(made)} cutouts in {time.perf_counter() - start:.1f} s")


def simulate(folder, per_class, seed):
    """Write cutouts of `per_class` stars and galaxies of a new sky to a folder; return their paths."""
    folder, sky = Path(folder), MockSky(seed=seed)
    tables = select_positions(sky.catalogue)
    len(sky.exposures)  # made here, as other processes do not know parameters that were changed in this one
    parts = [folder / "stars", folder / "galaxies"]
    Parallel(n_jobs=2)(
        delayed(fetch_cutouts)(table, part, sky, n_cutouts=per_class, progress=False)
        for table, part in zip(tables, parts, strict=True)
    )
    made = [path.rename(folder / path.name) for part in parts for path in part.glob("*.fits")]
    for part in parts:
        shutil.rmtree(part)
    return made


if __name__ == "__main__":
    main()
