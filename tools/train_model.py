"""Train the classifiers that come with the package, on simulated cutouts of images in all conditions.

``python tools/train_model.py`` simulates them, writes both models and prints how long that took; the same
version of the package and of its requirements writes the same bytes.
"""

import sys
import time
from pathlib import Path

import numpy as np

from ztf_sg.classification import PRETRAINED, PRETRAINED_ANY_DEPTH, StarGalaxyClassifier
from ztf_sg.evaluation import draw_per_class
from ztf_sg.features import measure_features
from ztf_sg.simulation.conditions import SNR_RANGE, simulate_cutouts

IMAGES, PER_IMAGE, SEED = 1000, 20, 1
FAINTER = 3.5, 3000.0  # signal-to-noise ratios in an aperture, for sources of any depth ...
LEAST_SNR = 5.5  # ... and the least in a fit of the PSF, below which some kinds of sources are missing
LARGEST_SIZE = 2.0  # of all files together [MB]


def limited(images, per_image, n_jobs):
    """Return a CutoutSet of sources that are limited by their signal-to-noise ratio in an aperture."""
    return simulate_cutouts(images, per_image, SEED, snr_range=SNR_RANGE, n_jobs=n_jobs)


def any_depth(images, per_image, n_jobs):
    """Return a CutoutSet of as many stars as galaxies at any signal-to-noise ratio in a fit of the PSF."""
    cutouts = simulate_cutouts(images * 5 // 4, per_image, SEED, snr_range=FAINTER, n_jobs=n_jobs)
    log_snr = measure_features(cutouts, ("log_snr",))["log_snr"].to_numpy()
    cutouts = cutouts[log_snr >= np.log10(LEAST_SNR)]
    return cutouts[draw_per_class(cutouts.labels, len(cutouts), np.random.default_rng(SEED))]


MODELS = {PRETRAINED.name: limited, PRETRAINED_ANY_DEPTH.name: any_depth}


def train(folder, images=IMAGES, per_image=PER_IMAGE, n_jobs=2):
    """Simulate cutouts, train both classifiers, write them to a folder, and print times and sizes."""
    size = 0.0
    for name, draw in MODELS.items():
        start, path = time.perf_counter(), Path(folder) / name
        cutouts = draw(images, per_image, n_jobs)
        simulated = time.perf_counter()
        StarGalaxyClassifier().fit(cutouts).save(path)
        trained, megabytes = time.perf_counter(), path.stat().st_size / 1e6
        size += megabytes
        print(
            f"simulated {cutouts} in {simulated - start:.0f} s, "
            f"trained in {trained - simulated:.0f} s; wrote {name}, {megabytes:.2f} MB"
        )
    if size > LARGEST_SIZE:
        raise SystemExit(f"the models are larger than {LARGEST_SIZE} MB; train them on fewer cutouts")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit("usage: python tools/train_model.py [FOLDER]")
    train(sys.argv[1] if len(sys.argv) == 2 else PRETRAINED.parent)
