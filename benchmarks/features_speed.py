"""Time the features of cutouts of many images, with one and with all processors.

python benchmarks/features_speed.py [--images 2000] [--per-image 8] [--repeats 5]

Each image is simulated in conditions of its own, which one cutout shows; repeated, it stands for several. The
time to find the PSFs of the images is a part of the whole, and is also given alone.
"""

import argparse

import numpy as np
from joblib import parallel_config
from timing import medians, repeat_alternately, thread_note

from ztf_sg.classification import CLASSIFIER_FEATURES
from ztf_sg.features import FEATURES, FLAGS, measure_features
from ztf_sg.features.psf import image_psf
from ztf_sg.simulation.conditions import simulate_cutouts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--per-image", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = simulate_cutouts(options.images, 1, seed=0)
    cutouts = images[np.tile(np.arange(len(images)), options.per_image)]
    wanted = (*CLASSIFIER_FEATURES, *FLAGS)
    measure_features(images, FEATURES)  # compiles
    jobs = {
        "features of the classifier": lambda: measure_features(cutouts, wanted),
        "the same on one processor": lambda: on_one_processor(cutouts, wanted),
        "all features": lambda: measure_features(cutouts, FEATURES + FLAGS),
        "the PSF alone": lambda: image_psf(cutouts.table),
    }
    print(thread_note())
    print(f"{len(cutouts)} simulated cutouts of {len(images)} images; medians of {options.repeats}")
    for name, seconds in medians(repeat_alternately(jobs, options.repeats)[0]).items():
        print(f"{name:26s} {len(cutouts) / seconds:8.0f} cutouts/s")


def on_one_processor(cutouts, wanted):
    """Measure without threads."""
    with parallel_config("sequential"):
        return measure_features(cutouts, wanted)


if __name__ == "__main__":
    main()
