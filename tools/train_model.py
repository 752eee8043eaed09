"""Train the classifier that comes with the package, on simulated cutouts of images in all conditions.

``python tools/train_model.py`` simulates them, writes the model and prints how long that took; the same
version of the package and of its requirements writes the same bytes.
"""

import sys
import time
from pathlib import Path

from ztf_sg.classification import PRETRAINED, StarGalaxyClassifier
from ztf_sg.simulation.conditions import simulate_cutouts

IMAGES, PER_IMAGE, SEED = 1000, 20, 1
LARGEST_SIZE = 2.0  # of the file [MB]


def train(path, images=IMAGES, per_image=PER_IMAGE, n_jobs=2):
    """Simulate cutouts, train a classifier on them, write it to a path, and print times and size."""
    start = time.perf_counter()
    cutouts = simulate_cutouts(images, per_image, SEED, n_jobs=n_jobs)
    simulated = time.perf_counter()
    StarGalaxyClassifier().fit(cutouts).save(path)
    trained, size = time.perf_counter(), Path(path).stat().st_size / 1e6
    print(
        f"simulated {cutouts} in {images} images in {simulated - start:.0f} s, "
        f"trained in {trained - simulated:.0f} s; wrote {Path(path).name}, {size:.2f} MB"
    )
    if size > LARGEST_SIZE:
        raise SystemExit(f"the model is larger than {LARGEST_SIZE} MB; train it on fewer cutouts")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit("usage: python tools/train_model.py [FILE]")
    train(sys.argv[1] if len(sys.argv) == 2 else PRETRAINED)
