"""Print what features, kernels, neighbours, pixels and augmentation do for MuyGPs on unseen nights.

python benchmarks/ablation.py [FOLDER] [--seeds 3]

Each row changes one thing in StarGalaxyClassifier. Each night is classified by a model that never saw it.
Figures are means over seeds, with the standard deviation of the accuracy over the seeds; accuracy.py prints
the errors due to the finite number of objects. An augmented training set holds each cutout and changed
copies of it, which leave-one-out training takes for one object.
"""

import argparse

import numpy as np
from scipy.ndimage import shift
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA

from ztf_sg import CutoutSet, MuyGPSClassifier, StarGalaxyClassifier, load_cutouts, normalize
from ztf_sg.classification import BATCH_COUNT, CLASSIFIER_FEATURES, with_scaling
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.evaluation import compare_classifiers, nights
from ztf_sg.features import FEATURES, background, measure_features
from ztf_sg.pixels import orientations

NN_COUNT = StarGalaxyClassifier().nn_count
COMPONENTS = 5  # of the pixels, added to the features


class OnCopies(ClassifierMixin, BaseEstimator):
    """A classifier of features (n, copies, m) that trains on all copies and classifies the first."""

    def __init__(self, nn_count=NN_COUNT, smoothness=1.5, random_state=0):
        self.nn_count = nn_count
        self.smoothness = smoothness
        self.random_state = random_state

    def fit(self, X, y):
        """Train on the copies, those of one object in one group."""
        n, copies, m = X.shape
        muygps = MuyGPSClassifier(
            self.nn_count, self.smoothness, batch_count=BATCH_COUNT, random_state=self.random_state
        )
        groups = {"muygpsclassifier__groups": np.repeat(np.arange(n), copies)}
        self.pipeline_ = with_scaling(muygps).fit(X.reshape(-1, m), np.repeat(y, copies), **groups)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict_proba(self, X):
        """Return the probabilities of the two classes, shape (n, 2)."""
        return self.pipeline_.predict_proba(X[:, 0])


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=BUNDLED_CUTOUTS, help="folder of labelled cutouts")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cutouts = load_cutouts(options.folder)
    magnitude = measure_features(cutouts, ["magnitude"])["magnitude"]
    night = nights(cutouts.table["obsmjd"])
    print(f"{cutouts}\n{'':34s}accuracy          matched   ece     brier")
    for name, (X, changes) in variants(cutouts).items():
        classifiers = {
            (name, seed): (X, OnCopies(random_state=seed, **changes)) for seed in range(options.seeds)
        }
        table, _ = compare_classifiers(classifiers, cutouts.labels, night, magnitude)
        others = "  ".join(f"{table[column].mean():.4f}" for column in ("matched", "ece", "brier"))
        accuracy = table["accuracy"]
        print(f"{name:34s}{accuracy.mean():.4f} +- {accuracy.std(ddof=0):.4f}  {others}")


def variants(cutouts):
    """Return the inputs, shape (n, copies, m), and the parameters of the classifiers to compare, by name."""
    features = measure_features(cutouts)
    default = list(CLASSIFIER_FEATURES)
    brightness, rest = default[:2], [name for name in FEATURES if name not in default]
    subsets = {
        "default: brightness, spread_model": default,
        "brightness, concentrations": brightness + [n for n in rest if n.startswith("conc")],
        "brightness, size, ellipticity": [*brightness, "size", "ellipticity"],
        **{f"default and {name}": [*default, name] for name in rest},
        f"all {len(FEATURES)} features": list(FEATURES),
    }
    found = {name: (features[names].to_numpy()[:, None], {}) for name, names in subsets.items()}
    usual = features[default].to_numpy()[:, None]
    for smoothness in (0.5, 2.5, np.inf):
        found[f"Matern smoothness {smoothness} for 1.5"] = usual, {"smoothness": smoothness}
    for count in (10, 30, 100):
        found[f"{count} neighbours for 50"] = usual, {"nn_count": count}
    pixels = normalize(cutouts.images, "minmax").reshape(len(cutouts), -1)
    components = PCA(COMPONENTS, random_state=0).fit_transform(pixels)  # which see all nights, but no label
    with_pixels = np.concatenate([usual, components[:, None]], axis=2)
    found[f"default and {COMPONENTS} components of pixels"] = with_pixels, {}
    for name, copies in augmented(cutouts).items():
        measured = [measure_features(copy, default).to_numpy()[:, None] for copy in copies]
        found[name] = np.concatenate([usual, *measured], axis=1), {}
    return found


def augmented(cutouts, random_state=0):
    """Return changed copies of the cutouts, by what is changed."""
    rng = np.random.default_rng(random_state)
    images = cutouts.images.astype(float)
    noise = background(images)[1][:, None, None]
    turned = orientations(images.reshape(len(images), -1)).reshape(-1, *images.shape)[1:]
    moved = [shift(images, (0, *rng.uniform(-0.5, 0.5, 2)), order=3, mode="nearest") for _ in range(3)]
    noisy = [images + rng.normal(0, 0.5, images.shape) * noise for _ in range(3)]
    names = ("augmented: 7 orientations", "augmented: 3 sub-pixel shifts", "augmented: 3 times noise")
    return {
        name: [CutoutSet(copy.astype(np.float32), cutouts.labels, cutouts.table) for copy in copies]
        for name, copies in zip(names, (turned, moved, noisy), strict=True)
    }


if __name__ == "__main__":
    main()
