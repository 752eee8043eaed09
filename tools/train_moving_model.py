"""Train the classifier of moving objects that comes with the package, on simulated stamps alone.

``python tools/train_moving_model.py [FILE]`` simulates them, writes the model and prints how long that took.
Lone flashes of satellites are left out, as they look like asteroids: no stamp could tell them apart.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ztf_sg import Triplets
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks.classifier import PRETRAINED, MovingObjectClassifier
from ztf_sg.streaks.stamps import IMAGES

# How many stamps of which kinds, whose shares among each other are those of the simulation.
SAMPLES = (
    (("asteroid",), 1200),
    (("streak",), 1200),
    (("trail", "trail_end", "trail_beside", "trails", "train"), 2400),
    (("variable", "nucleus", "supernova"), 1700),
    (("comet", "bad_column", "spike", "ghost", "dipole", "residual", "reference_edge", "cosmic_ray",
      "hot_pixels", "noise"), 700),
)  # fmt: skip
SEED, LARGEST_SIZE = 1, 2.0  # of the simulation; of the file [MB]


def training_set(seed=SEED, share=1.0, n_jobs=2):
    """Return the simulated Triplets that train the classifier, or a share of as many."""
    parts = [
        simulate_stamps(round(count * share), [seed, number], kinds, n_jobs)
        for number, (kinds, count) in enumerate(SAMPLES)
    ]
    images = {name: np.concatenate([getattr(part, name) for part in parts]) for name in IMAGES}
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Triplets(**images, labels=np.concatenate([part.labels for part in parts]), table=table)


def train(path, share=1.0):
    """Simulate stamps, train a classifier on them, write it to a path, and print times and size."""
    start = time.perf_counter()
    triplets = training_set(share=share)
    simulated = time.perf_counter()
    MovingObjectClassifier().fit(triplets).save(path)
    trained, size = time.perf_counter(), Path(path).stat().st_size / 1e6
    print(
        f"simulated {triplets} in {simulated - start:.0f} s, "
        f"trained in {trained - simulated:.0f} s; wrote {Path(path).name}, {size:.2f} MB"
    )
    if size > LARGEST_SIZE:
        raise SystemExit(f"the model is larger than {LARGEST_SIZE} MB; train it on fewer stamps")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit("usage: python tools/train_moving_model.py [FILE]")
    train(sys.argv[1] if len(sys.argv) == 2 else PRETRAINED)
