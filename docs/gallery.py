"""Draw the picture of the README and of the site: eight stars and eight galaxies of the bundle.

python docs/gallery.py
"""

from pathlib import Path

import numpy as np

from ztf_sg import load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.features import measure_features
from ztf_sg.plotting import plot_cutouts

HERE = Path(__file__).parent


def main():
    """Draw objects spread evenly over the magnitudes of their class."""
    cutouts = load_cutouts(BUNDLED_CUTOUTS)
    magnitude = measure_features(cutouts)["magnitude"].to_numpy()
    rows = []
    for label in (0, 1):
        members = np.flatnonzero(cutouts.labels == label)
        members = members[np.argsort(magnitude[members])]
        rows += list(members[(np.linspace(0.02, 0.8, 8) * len(members)).astype(int)])
    rows = np.array(rows)
    titles = [f"{value:.1f} mag" for value in magnitude[rows]]
    plot_cutouts(cutouts.images[rows], titles, cutouts.labels[rows]).savefig(HERE / "gallery.png")


if __name__ == "__main__":
    main()
