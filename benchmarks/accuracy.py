"""Print how well MuyGPs and scikit-learn's classifiers do on the cutouts of a folder.

python benchmarks/accuracy.py [FOLDER] [--repeats N]

First the accuracy on random halves, mean and standard deviation over `--repeats` of them. Then the figures of
merit on unseen nights, each night classified by a model that never saw it, with standard errors from objects
drawn again, and the seconds that all nights took together: all classifiers get the same scaled numbers, and
measuring the features is in nobody's time. Then other seeds, the pretrained classifier, and
the objects that every classifier of the features contradicts: probable label errors.
"""

import argparse
from pathlib import Path

from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ztf_sg import (
    NORMALIZATIONS,
    MuyGPSClassifier,
    PixelClassifier,
    StarGalaxyClassifier,
    load_cutouts,
    normalize,
)
from ztf_sg.classification import BATCH_COUNT, CLASSIFIER_FEATURES, with_scaling
from ztf_sg.evaluation import (
    compare_classifiers,
    compare_data,
    contradicted_labels,
    leave_one_night_out,
    random_halves,
    scores,
    with_errors,
)
from ztf_sg.features import measure_features

BUNDLED = Path(__file__).parents[1] / "cutouts_test"
FEATURES = "features"
SEEDS = range(5)


def main():
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=BUNDLED, help="folder of labelled cutouts")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cutouts = load_cutouts(options.folder)
    labels, obsmjd = cutouts.labels, cutouts.table["obsmjd"]
    features = measure_features(cutouts)
    pixels = {name: normalize(cutouts.images, name).reshape(len(cutouts), -1) for name in NORMALIZATIONS}

    print(f"{cutouts}\naccuracy of MuyGPs, mean and standard deviation over {options.repeats} random halves:")
    models = dict.fromkeys(pixels, PixelClassifier()) | {FEATURES: StarGalaxyClassifier()}
    halves = random_halves(labels, options.repeats)
    table = compare_data(pixels | {FEATURES: cutouts}, labels, models, halves)
    print(table.to_string(index=False, float_format="%.4f"))

    print("\non unseen nights:")
    classifiers = {(name, "MuyGPs"): (X, PixelClassifier()) for name, X in pixels.items()}
    inputs = features[list(CLASSIFIER_FEATURES)].to_numpy()
    muygps = MuyGPSClassifier(StarGalaxyClassifier().nn_count, batch_count=BATCH_COUNT)
    for name, classifier in ({"MuyGPs": muygps} | baselines()).items():
        classifiers[FEATURES, name] = (inputs, with_scaling(classifier))
        reduced = make_pipeline(PCA(20, random_state=0), StandardScaler(), classifier)
        classifiers["minmax", name] = (pixels["minmax"], reduced)
    table, probabilities = compare_classifiers(classifiers, labels, obsmjd, features["magnitude"])
    shown = with_errors(table)
    shown[["fit_s", "predict_s"]] = table[["fit_s", "predict_s"]].round(2)
    print(shown.to_string(index=False))

    print("\nMuyGPs on the features, by seed:")
    for seed in SEEDS:
        probability = leave_one_night_out(StarGalaxyClassifier(random_state=seed), cutouts, labels, obsmjd)
        print(f"  seed {seed}: {format_scores(scores(labels, probability, features['magnitude']))}")
    ready = StarGalaxyClassifier.pretrained().predict_proba(cutouts)[:, 1]
    known = ", on the cutouts that it was trained on" if Path(options.folder).samefile(BUNDLED) else ""
    print(f"pretrained{known}: {format_scores(scores(labels, ready, features['magnitude']))}")
    print_label_errors(cutouts, features, probabilities)


def baselines():
    """Return scikit-learn's classifiers by name."""
    return {
        "SVM": CalibratedClassifierCV(SVC(random_state=0), ensemble=False),
        "random forest": RandomForestClassifier(300, random_state=0),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
        "k-NN": KNeighborsClassifier(15),
        "exact GP": GaussianProcessClassifier(RBF(2.0), optimizer=None, random_state=0),
    }


def format_scores(figures):
    """Return figures of merit as text."""
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def print_label_errors(cutouts, features, probabilities):
    """Print the objects of which all classifiers of the features say the opposite of the label."""
    by_features = [p for (data, _), p in probabilities.items() if data == FEATURES]
    contradicted = contradicted_labels(cutouts.labels, by_features)
    print(f"{len(contradicted)} objects that all {len(by_features)} classifiers of the features contradict:")
    for row in contradicted:
        print(f"  {cutouts.table['name'][row]} at {features['magnitude'][row]:.1f} mag")


if __name__ == "__main__":
    main()
