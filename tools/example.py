"""Write the example cutouts of the package: evenly chosen ones of the bundled cutouts.

python tools/example.py
"""

import numpy as np

from ztf_sg.cutouts import BUNDLED_CUTOUTS, CLASS_NAMES, load_cutouts
from ztf_sg.cutouts.example import EXAMPLE

PER_CLASS = 20


def choose_example(cutouts):
    """Return `PER_CLASS` cutouts of each class, evenly spaced in a CutoutSet, in its order."""
    classes = [np.flatnonzero(cutouts.labels == label) for label in range(len(CLASS_NAMES))]
    return cutouts[np.sort(np.concatenate([rows[:: len(rows) // PER_CLASS][:PER_CLASS] for rows in classes]))]


if __name__ == "__main__":
    choose_example(load_cutouts(BUNDLED_CUTOUTS)).to_parquet(EXAMPLE)
    print(EXAMPLE)
