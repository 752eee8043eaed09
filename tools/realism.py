"""Measure how well simulated cutouts can be told from real ones, and real nights from other real nights.

python tools/realism.py [SIM] [REAL] [--repeats 5] [--sheets FOLDER]

The nights of REAL are split into halves A and B. Gradient boosting is trained to tell SIM from B, SIM from A
and, as the floor, A from B. The figure is the area under the ROC curve (AUC) in five-fold cross-validation;
0.5 is a coin. Its mean and standard deviation are taken over draws of as many simulated cutouts as the other
half has. The features do not include the absolute background. REAL defaults to the folder that the
environment variable ZTF_SG_REAL_CUTOUTS names.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, kurtosis, skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict

from ztf_sg import StarGalaxyClassifier, load_cutouts, normalize
from ztf_sg.evaluation import nights
from ztf_sg.features import aperture_fluxes, background, centroids, measure_features
from ztf_sg.plotting import plot_cutouts
from ztf_sg.ztf import READ_NOISE

BUNDLED = Path(__file__).parents[1] / "cutouts_test"
CLASSES = ("star", "galaxy")
DIAMETERS = (1.5, 2, 3, 4, 5, 6, 8, 10)  # diameters of the apertures whose fluxes are compared [px]
RANKS = [1, 2, 3, 5, 8, 12]  # ranks by brightness of the central pixels that are compared


def main():
    """Print the AUCs, the features that differ most, and the accuracies of classifiers on the other set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("simulated", nargs="?", default=BUNDLED, help="folder of simulated cutouts")
    parser.add_argument("real", nargs="?", default=os.environ.get("ZTF_SG_REAL_CUTOUTS"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets, simulated beside real")
    options = parser.parse_args()
    if not options.real:
        parser.error("name a folder of real cutouts, or set ZTF_SG_REAL_CUTOUTS")
    simulated, real = load_cutouts(options.simulated), load_cutouts(options.real)
    in_a = half_of_nights(real.table["obsmjd"])
    print(f"simulated: {simulated}\nreal: {real}, half A {in_a.sum()}, half B {(~in_a).sum()}\n")
    for label, name in enumerate(CLASSES):
        sim = describe(simulated[simulated.labels == label])
        half_a, half_b = (describe(real[(real.labels == label) & half]) for half in (in_a, ~in_a))
        floor = separate(half_a, half_b, options.repeats)
        print(f"{name}: A from B {floor[0]:.3f} +- {floor[1]:.3f} (the floor)")
        for letter, half, other in (("B", half_b, half_a), ("A", half_a, half_b)):
            auc = separate(sim, half, options.repeats, size=len(other))
            print(f"{name}: SIM from {letter} {auc[0]:.3f} +- {auc[1]:.3f}, excess {auc[0] - floor[0]:+.3f}")
        print(telling_features(sim, pd.concat([half_a, half_b])), "\n")
    print_accuracies(simulated, real, in_a)
    if options.sheets:
        write_sheets(simulated, real, options.sheets)


def half_of_nights(obsmjd):
    """Return which objects belong to half A; each night goes to the half that has fewer objects so far."""
    night = nights(obsmjd)
    sizes = pd.Series(night).value_counts()
    counts, half_a = [0, 0], []
    for one, size in sizes.items():
        smaller = int(counts[1] < counts[0])
        counts[smaller] += size
        half_a += [one] if smaller == 0 else []
    return np.isin(night, half_a)


def describe(cutouts):
    """Return features of cutouts: shape, concentration, centring, S/N, noise, surroundings and pixels."""
    images = cutouts.images.astype(float)
    sky, noise = background(images)
    signal = images - sky[:, None, None]
    x, y = centroids(signal)
    # together with the S/N, the magnitude would give the background away
    features = measure_features(cutouts).drop(columns="magnitude")
    gain = cutouts.table["gain"].to_numpy()
    theory = np.sqrt(np.maximum(sky, 0) / gain + (READ_NOISE / gain) ** 2)
    fluxes = aperture_fluxes(signal, x, y, DIAMETERS)
    total = np.maximum(fluxes[:, [5]], 20 * theory[:, None])
    features[[f"curve_{d}" for d in DIAMETERS]] = fluxes / total
    features[["offset_x", "offset_y"]] = np.stack([x - 9.5, y - 9.5], axis=1)
    features["noise_to_theory"] = noise / theory
    border = np.ones(images.shape[1:], dtype=bool)
    border[3:-3, 3:-3] = False
    sigmas = np.clip(signal[:, border] / theory[:, None], -10, 50)
    features["border_max"], features["border_min"] = sigmas.max(axis=1), sigmas.min(axis=1)
    features["border_skew"], features["border_kurtosis"] = skew(sigmas, axis=1), kurtosis(sigmas, axis=1)
    for axis, lines in (("y", signal), ("x", signal.swapaxes(1, 2))):
        first, last = np.median(lines[:, :4], axis=(1, 2)), np.median(lines[:, -4:], axis=(1, 2))
        features[f"gradient_{axis}"] = (last - first) / theory
        sigmas = np.clip(lines[:, 3:-3, 3:-3] / theory[:, None, None], -3, 3)
        features[f"correlation_{axis}"] = (sigmas[:, 1:] * sigmas[:, :-1]).mean(axis=(1, 2))
    features[["e1", "e2", "asymmetry", "coma_x", "coma_y"]] = shape(signal, x, y)
    pixels = normalize(cutouts.images, "minmax")
    features["minmax_sky"] = np.median(pixels, axis=(1, 2))
    features["minmax_spread"] = pixels.std(axis=(1, 2))
    brightest = -np.sort(-pixels[:, 7:13, 7:13].reshape(len(images), -1), axis=1)
    features[[f"pixel_rank_{rank}" for rank in RANKS]] = brightest[:, RANKS]
    return features


def shape(signal, x, y, fwhm=4.0):
    """Return ellipticity components, 180-degree asymmetry and third moments under a Gaussian weight."""
    rows, columns = np.indices(signal.shape[1:])
    dx, dy = columns - x[:, None, None], rows - y[:, None, None]
    radius = np.hypot(dx, dy)
    weight = np.exp(-4 * np.log(2) * radius**2 / fwhm**2) * signal
    total = np.maximum(weight.sum(axis=(1, 2)), 1)
    xx, yy, xy = ((weight * product).sum(axis=(1, 2)) / total for product in (dx * dx, dy * dy, dx * dy))
    trace = np.clip(xx + yy, 0.1, None)
    third = [(weight * d * radius**2).sum(axis=(1, 2)) / total / trace**1.5 for d in (dx, dy)]
    turned = np.stack([_turn(*row) for row in zip(signal, x, y, strict=True)])
    near = radius < 4
    light = np.maximum((signal * near).sum(axis=(1, 2)), 1)
    asymmetry = (np.abs(signal - turned) * near).sum(axis=(1, 2)) / light
    measures = [(xx - yy) / trace, 2 * xy / trace, asymmetry, *third]
    return np.clip(np.stack(measures, axis=1), -2, 2)


def _turn(image, x, y):
    """Return the image turned by 180 degrees about the nearest half pixel."""
    turned = image[::-1, ::-1]
    shift = (round(2 * y) - (image.shape[0] - 1), round(2 * x) - (image.shape[1] - 1))
    return np.roll(turned, shift, axis=(0, 1))


def separate(first, second, repeats, size=None):
    """Return mean and standard deviation of the AUC of gradient boosting that tells first from second."""
    scores = []
    for seed in range(repeats):
        sample = first.sample(min(size or len(first), len(first)), random_state=seed)
        X = np.concatenate([sample, second])
        y = np.repeat([0, 1], [len(sample), len(second)])
        model = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.06, min_samples_leaf=10, class_weight="balanced", random_state=seed
        )
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        scores.append(
            roc_auc_score(y, cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1])
        )
    return np.mean(scores), np.std(scores)


def telling_features(simulated, real, count=10):
    """Return as text the features whose distributions have the largest Kolmogorov-Smirnov distances."""
    rows = []
    for name in simulated:
        distance = ks_2samp(simulated[name], real[name]).statistic
        rows.append((distance, name, *(f"{table[name].quantile(q):9.3f}" for q in (0.1, 0.5, 0.9)
                                       for table in (simulated, real))))  # fmt: skip
    lines = [f"  {name:16s} KS {distance:.3f}   sim/real at 10, 50, 90 %: {' '.join(values)}"
             for distance, name, *values in sorted(rows, reverse=True)[:count]]  # fmt: skip
    return "\n".join(lines)


def print_accuracies(simulated, real, in_a):
    """Print the accuracy of StarGalaxyClassifier trained on one set and tested on the other."""
    to_real = StarGalaxyClassifier().fit(simulated, simulated.labels).predict(real) == real.labels
    to_simulated = StarGalaxyClassifier().fit(real, real.labels).predict(simulated) == simulated.labels
    unseen_nights = {"groups": nights(real.table["obsmjd"]), "cv": LeaveOneGroupOut()}
    unseen = cross_val_predict(StarGalaxyClassifier(), real, real.labels, **unseen_nights) == real.labels
    for name, right in (
        ("trained on simulated, tested on real", to_real),
        ("trained on real nights, left-out ones", unseen),
    ):
        print(f"{name}: {right.mean():.4f} (half A {right[in_a].mean():.4f}, B {right[~in_a].mean():.4f})")
    print(f"trained on real, tested on simulated: {to_simulated.mean():.4f}")


def write_sheets(simulated, real, folder, count=32, random_state=0):
    """Write one picture per class: simulated cutouts above real ones, drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(random_state)
    for label, name in enumerate(CLASSES):
        chosen = [
            rng.choice(np.flatnonzero(s.labels == label), count, replace=False) for s in (simulated, real)
        ]
        images = np.concatenate([s.images[rows] for s, rows in zip((simulated, real), chosen, strict=True)])
        titles = ["simulated"] * count + ["real"] * count
        figure = plot_cutouts(images, titles, title=f"{name}: simulated above, real below; asinh stretch")
        getattr(figure, "figure", figure).savefig(folder / f"realism_{name}.png", dpi=110)
        print(f"wrote {folder / f'realism_{name}.png'}")


if __name__ == "__main__":
    main()
