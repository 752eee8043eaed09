"""Measure how well simulated cutouts can be told from real ones, and real nights from other real nights.

python tools/realism.py [REAL] [--images IMAGES] [--splits 10]

i band: the nights of REAL are split into halves A and B at random, and a sky is simulated with parameters
that are fitted to A alone. Gradient boosting tells the simulated cutouts from B and, as the floor, A from B,
with samples of one size; see two_sample.py. The figure is the difference of the areas under the ROC curve
(AUC), its mean over the splits and the standard error of that mean. Most cutouts are of two nights, which are
never in the same half: the splits are not independent, and the true error is larger.

g and r band: IMAGES are halved at random, and stars are simulated with the headers of half B and with the
ellipticity and coma of half A; see realism_images.py. They are told from the real stars of B, whole images
left out. The floor is how well they are told from stars simulated with the ellipticity and coma of B: by how
much the halves differ. (The real stars of A from those of B would be no floor: so few images pull it below
0.5, as an image left out is missed on its own side. Here each image is on both sides.)

REAL and IMAGES default to the folders that the environment variables ZTF_SG_REAL_CUTOUTS and
ZTF_SG_REAL_IMAGES name.
"""

import argparse
import os
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from calibrate_mock_sky import fit_images, fitted_parameters, matched_medians
from realism_images import compare_images
from simulate import simulate
from two_sample import compare, describe, summary, telling_features

from ztf_sg import load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.evaluation import nights
from ztf_sg.simulation import parameters as p

CLASSES = ("star", "galaxy")
PER_CLASS = 250  # cutouts simulated per split and class; a class has about 200 in a half


def main():
    """Print the AUCs of each split, the features that differ most, and a line per class and band."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", nargs="?", default=os.environ.get("ZTF_SG_REAL_CUTOUTS"))
    parser.add_argument("--images", default=os.environ.get("ZTF_SG_REAL_IMAGES"))
    parser.add_argument("--splits", type=int, default=10)
    options = parser.parse_args()
    if not options.real:
        parser.error("name a folder of real cutouts, or set ZTF_SG_REAL_CUTOUTS")
    results = compare_nights(load_cutouts(options.real), options.splits)
    if options.images:
        results |= compare_images(options.images, options.splits)
    print("\nAUC, 0.5 is a coin; mean and standard error over the splits; the floor is A from B")
    for name, scores in results.items():
        print(summary(name, scores))


def compare_nights(real, splits):
    """Print how simulated cutouts compare with real ones; return AUCs, one row per split, by class."""
    fits, found = fit_images(real), matched_medians(load_cutouts(BUNDLED_CUTOUTS))
    described, night = describe(real), nights(real.table["obsmjd"])
    scores, simulated = {f"{name}, i": [] for name in CLASSES}, []
    for split in range(splits):
        in_a = half_of_nights(night, np.random.default_rng(split))
        fitted = fitted_parameters(
            fits.loc[fits.index.isin(described["image"][in_a])], matched_medians(real[in_a]), found
        )
        sky = simulate_with(fitted, seed=1000 + split)
        simulated.append(describe(sky).assign(label=sky.labels))
        for label, rows in enumerate(scores.values()):
            half_a, half_b = (described[(real.labels == label) & half] for half in (in_a, ~in_a))
            rows.append(compare(simulated[-1].query("label == @label").drop(columns="label"), half_a, half_b))
            figures = ", ".join(f"{name} {value:+.3f}" for name, value in rows[-1].items())
            print(f"split {split}, {CLASSES[label]}: {figures}", flush=True)
    simulated = pd.concat(simulated)
    for label, name in enumerate(CLASSES):
        print(f"\n{name}, i: what tells simulated from real")
        print(telling_features(simulated[simulated["label"] == label], described[real.labels == label]))
    return {name: pd.DataFrame(rows) for name, rows in scores.items()}


def half_of_nights(night, rng):
    """Return which objects belong to half A: nights, in random order, go to the half with fewer objects."""
    names, sizes = np.unique(night, return_counts=True)
    counts, half_a = [0, 0], []
    for row in rng.permutation(len(names)):
        half = rng.integers(2) if counts[0] == counts[1] else int(np.argmin(counts))
        counts[half] += sizes[row]
        half_a += [names[row]] if half == 0 else []
    return np.isin(night, half_a)


def simulate_with(fitted, seed):
    """Return a CutoutSet of a sky with some parameters, by name; all others stay as they are."""
    usual = {name: getattr(p, name) for name in fitted}
    try:
        for name, value in fitted.items():
            setattr(p, name, value)
        with TemporaryDirectory() as folder:
            simulate(folder, PER_CLASS, seed)
            return load_cutouts(folder)
    finally:
        for name, value in usual.items():
            setattr(p, name, value)


if __name__ == "__main__":
    main()
