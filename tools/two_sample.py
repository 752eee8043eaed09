"""A two-sample test of cutouts: whether gradient boosting tells one set from another, and by what.

Header values are no features. What depends on them, as the width of a star does on the seeing, is compared as
it is and, by `growth`, relative to the stars of the same image.
"""

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, kurtosis, skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from ztf_sg import normalize
from ztf_sg.features import aperture_fluxes, background, centroids, measure_features
from ztf_sg.ztf import APERTURES, READ_NOISE

DIAMETERS = (1.5, 2, 3, 4, 5, 6, 8, 10)  # diameters of the apertures whose fluxes are compared [px]
RANKS = [1, 2, 3, 5, 8, 12]  # ranks by brightness of the central pixels that are compared
DRAWS = 2  # of samples and folds, over which an AUC is averaged


def describe(cutouts):
    """Return features of cutouts: shape, concentration, centring, S/N, noise, surroundings and pixels."""
    images = cutouts.images.astype(float)
    sky, noise = background(images)
    signal = images - sky[:, None, None]
    x, y = centroids(signal)
    # together with the S/N, the magnitude would give the background away
    features = measure_features(cutouts).drop(columns="magnitude", errors="ignore")
    gain = cutouts.table["gain"].to_numpy()
    theory = np.sqrt(np.maximum(sky, 0) / gain + (READ_NOISE / gain) ** 2)
    fluxes = aperture_fluxes(signal, x, y, DIAMETERS)
    total = np.maximum(fluxes[:, [5]], 20 * theory[:, None])
    features[[f"curve_{d}" for d in DIAMETERS]] = fluxes / total
    features[[f"growth_{d}" for d in APERTURES[:5]]] = growth(signal, x, y, cutouts.table, theory)
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
    features["image"] = image_names(cutouts)
    return features


def growth(signal, x, y, table, noise):
    """Return log10 of the fluxes inside 2, 3, 4, 6 and 10 px over that of a star of the image, (n, 5) [dex].

    Stars are scaled to the flux inside 6 px, so that the fourth column says how much light is inside 6 px
    relative to 14 px.
    """
    fluxes = np.maximum(aperture_fluxes(signal, x, y, APERTURES), 3 * noise[:, None])
    corrected = np.log10(fluxes) - 0.4 * table[[f"apcor{k}" for k in range(1, 7)]].to_numpy(dtype=float)
    relative = corrected - corrected[:, [3]]
    relative[:, 3] = corrected[:, 3] - corrected[:, 5]
    return relative[:, :5]


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


def image_names(cutouts):
    """Return a name of the image of each cutout, (n,)."""
    table = cutouts.table
    return (table["obsmjd"].astype(str) + " " + table["apcor1"].astype(str)).to_numpy()


def compare(simulated, half_a, half_b):
    """Return the AUCs of simulated from B and of A from B by name, for tables of features, with one size."""
    count = min(map(len, (simulated, half_a, half_b)))
    found = [
        [
            auc(*(table.sample(count, random_state=draw) for table in (first, half_b)), draw)
            for draw in range(DRAWS)
        ]
        for first in (simulated, half_a)
    ]
    simulated_b, floor = np.mean(found, axis=1)
    return {"simulated": simulated_b, "floor": floor, "excess": simulated_b - floor}


def auc(first, second, random_state=0):
    """Return the AUC of gradient boosting that tells one table of features from another.

    Five-fold cross-validation does not split images, the column `image`: to recognise one must not help. The
    AUC is the mean over the folds, and trained on as many objects of both tables: otherwise a fold that takes
    an image away from one of them would make its objects look like those of the other.
    """
    both = pd.concat([first, second])
    y = np.repeat([0, 1], [len(first), len(second)])
    X, groups = both.drop(columns="image").to_numpy(), both["image"].to_numpy()
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=random_state)
    scores = []
    for train, test in folds.split(X, y, groups):
        if len(set(y[test])) == 2:
            shuffled = np.random.default_rng(random_state).permutation(train)
            count = np.bincount(y[train]).min()  # class_weight="balanced" is ten times slower
            equal = np.concatenate([shuffled[y[shuffled] == label][:count] for label in (0, 1)])
            model = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.06, min_samples_leaf=10)
            model.fit(X[equal], y[equal])
            scores.append(roc_auc_score(y[test], model.predict_proba(X[test])[:, 1]))
    return np.mean(scores)


def summary(name, scores):
    """Return as text the means of a table of `compare`, one row per split, and the error of the excess."""
    means, error = scores.mean(), scores["excess"].std() / np.sqrt(len(scores))
    return (
        f"{name:10s} simulated from B {means['simulated']:.3f}, A from B {means['floor']:.3f}, "
        f"excess {means['excess']:+.3f} +- {error:.3f}, mean plus error {means['excess'] + error:+.3f}"
    )


def telling_features(simulated, real, count=10):
    """Return as text the features whose distributions have the largest Kolmogorov-Smirnov distances."""
    rows = []
    for name in real.columns.drop("image"):
        distance = ks_2samp(simulated[name], real[name]).statistic
        rows.append((distance, name, *(f"{table[name].quantile(q):9.3f}" for q in (0.1, 0.5, 0.9)
                                       for table in (simulated, real))))  # fmt: skip
    lines = [f"  {name:16s} KS {distance:.3f}   sim/real at 10, 50, 90 %: {' '.join(values)}"
             for distance, name, *values in sorted(rows, reverse=True)[:count]]  # fmt: skip
    return "\n".join(lines)
