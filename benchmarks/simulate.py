"""Simulate cutouts of a sky into a folder, catalogue and all, and print how long it took.

python benchmarks/simulate.py FOLDER [--per-class 750] [--seed 1]
"""

import argparse
import time

from timing import thread_note

from ztf_sg import fetch_cutouts
from ztf_sg.manifest import SAVED
from ztf_sg.positions import select_positions
from ztf_sg.services.mock_sky import MockSky


def main():
    """Simulate, and print the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--per-class", type=int, default=750)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(thread_note())
    start = time.perf_counter()
    made = simulate(options.folder, options.per_class, options.seed)
    print(f"simulated {len(made)} cutouts in {time.perf_counter() - start:.1f} s")


def simulate(folder, per_class, seed):
    """Write cutouts of so many stars and galaxies of a new sky; return the lines of their manifest."""
    sky = MockSky(seed=seed)
    positions = select_positions(sky.catalogue)
    made = fetch_cutouts(list(positions), folder, sky, n_cutouts=per_class, progress=False)
    return made[made["status"] == SAVED]


if __name__ == "__main__":
    main()
