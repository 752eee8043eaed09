"""Draw the picture of notebook 5 that shows real stamps: asteroids, satellites, a star and a galaxy.

python docs/real_stamps.py

The environment variable ZTF_SG_REAL_ALERTS names the folder of the alerts, which are no part of the project.
"""

import os
from pathlib import Path

import numpy as np

from ztf_sg import load_alerts
from ztf_sg.plotting import plot_triplets

HERE = Path(__file__).parent
SHOWN = {1: 3, 2: 3, 0: 2}  # stamps of each class


def main():
    """Draw stamps spread evenly over the magnitudes of their class, from the brightest fifth on."""
    folder = os.environ.get("ZTF_SG_REAL_ALERTS")
    if not folder:
        raise SystemExit("needs real alerts: set ZTF_SG_REAL_ALERTS to a folder with alerts.parquet")
    stamps = load_alerts(Path(folder) / "alerts.parquet")
    magnitude = stamps.table["magpsf"].to_numpy()
    rows = []
    for label, count in SHOWN.items():
        members = np.flatnonzero(stamps.labels == label)
        members = members[np.argsort(magnitude[members])]
        rows += list(members[(np.linspace(0.2, 0.8, count) * len(members)).astype(int)])
    titles = [f"{value:.1f} mag" for value in magnitude[rows]]
    plot_triplets(stamps[rows], titles).savefig(HERE / "real_stamps.png")


if __name__ == "__main__":
    main()
