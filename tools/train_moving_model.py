"""Train the classifier of moving objects that comes with the package, on simulated stamps alone.

``python tools/train_moving_model.py [FILE]`` simulates them, writes the model and prints how long that took.
Left out is what no stamp tells, as it would cast doubt on what others tell: flashes of satellites in stamps
that show neither a further flash nor a line, which look like asteroids; asteroids that a trail passes; and
asteroids in front of a star, which look as if it varied, unless they are long and the star is no bright one.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ztf_sg import Triplets
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks.classifier import PRETRAINED, MovingObjectClassifier
from ztf_sg.streaks.features import SEEN, raw_measures
from ztf_sg.streaks.stamps import CLASS_NAMES, IMAGES

# How many stamps of which kinds. Streaks need many, as they differ in length, brightness and what they cross,
# and so do the artifacts that look most like them.
SAMPLES = (
    (("asteroid",), 4000),
    (("streak",), 7000),
    (("trail", "trail_end", "trail_beside", "trails", "train"), 6000),
    (("variable",), 3000),
    (("nucleus",), 1100),
    (("supernova",), 900),
    (("comet",), 30),
    (("bad_column", "spike", "ghost", "dipole", "residual", "reference_edge", "cosmic_ray", "hot_pixels",
      "noise"), 4000),
    (("cosmic_ray", "noise"), 1000),
)  # fmt: skip
ASTEROID, SATELLITE = CLASS_NAMES.index("asteroid"), CLASS_NAMES.index("satellite")
# Signal-to-noise ratios of template light in front of which no asteroid is told but one that is longer than
# some pixels, so that it is no star that varies; and in front of which none is.
HIDING_SNR, LONG, BLINDING_SNR = 30.0, 5.0, 300.0
STREAK_LENGTH = 3.0  # least length of a streak [px]; shorter trails are learned as points
SEED, LARGEST_SIZE = 1, 2.5  # of the simulation; of the file [MB]


def training_set(seed=SEED, share=1.0, n_jobs=2):
    """Return the simulated Triplets that train the classifier, or a share of as many."""
    parts = [
        simulate_stamps(round(count * share), [seed, number], kinds, n_jobs)
        for number, (kinds, count) in enumerate(SAMPLES)
    ]
    images = {name: np.concatenate([getattr(part, name) for part in parts]) for name in IMAGES}
    table = pd.concat([part.table for part in parts], ignore_index=True)
    triplets = Triplets(**images, labels=np.concatenate([part.labels for part in parts]), table=table)
    return triplets[~is_hopeless(triplets)]


def is_hopeless(triplets):
    """Return which of n stamps show asteroids or satellites that no stamp tells from others, bool (n,)."""
    raw, table = raw_measures(triplets), triplets.table
    star, is_long = raw["template_snr"], table["length"] > LONG
    hidden = (star > BLINDING_SNR) | ((star > HIDING_SNR) & ~is_long) | table["beside"]
    alone = raw[["companion", "line", "central"]].max(axis=1) < SEEN
    reasons = ((ASTEROID, hidden), (SATELLITE, alone))
    return np.any([(triplets.labels == label) & reason for label, reason in reasons], axis=0)


def train(path, share=1.0):
    """Simulate stamps, train a classifier on them, write it to a path, and print times and size."""
    start = time.perf_counter()
    triplets = training_set(share=share)
    simulated = time.perf_counter()
    MovingObjectClassifier().fit(triplets, is_streak=triplets.table["length"] >= STREAK_LENGTH).save(path)
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
