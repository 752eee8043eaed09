"""Print how well MuyGPs and scikit-learn's classifiers do on the cutouts of a folder.

python benchmarks/accuracy.py [FOLDER] [--repeats N]

First the accuracy on random halves, mean and standard deviation over `--repeats` of them. Then the figures
of merit on unseen nights, each night classified by a model that never saw it, with their errors and the
seconds of all nights together: all classifiers get the same scaled numbers, and no time includes measuring
the features. Then other seeds, the pretrained classifier, and the objects that every classifier of the
features contradicts: probable label errors. Where the folder has a ``truth.csv``, as simulated cutouts do,
MuyGPs and the pretrained classifier are judged by the true classes too, which no classifier was told.
"""

import argparse

import pandas as pd
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.model_selection import (
    LeaveOneGroupOut,
    StratifiedShuffleSplit,
    cross_val_predict,
    cross_val_score,
)
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
from ztf_sg.cutouts import BUNDLED_CUTOUTS, CLASS_NAMES
from ztf_sg.evaluation import (
    compare_classifiers,
    contradicted_labels,
    nights,
    read_truth,
    score_errors,
    scores,
    with_errors,
)
from ztf_sg.features import measure_features

FEATURES = "features"
CLASSIFIERS = {  # of the features, and of the principal components of pixels
    "MuyGPs": MuyGPSClassifier(StarGalaxyClassifier().nn_count, batch_count=BATCH_COUNT),
    "SVM": CalibratedClassifierCV(SVC(random_state=0), ensemble=False),
    "random forest": RandomForestClassifier(300, random_state=0),
    "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    "k-NN": KNeighborsClassifier(15),
    "exact GP": GaussianProcessClassifier(RBF(2.0), optimizer=None, random_state=0),
}


def main():
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=BUNDLED_CUTOUTS, help="folder of labelled cutouts")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cutouts = load_cutouts(options.folder)
    labels, night, features = cutouts.labels, nights(cutouts.table["obsmjd"]), measure_features(cutouts)
    pixels = {name: normalize(cutouts.images, name).reshape(len(cutouts), -1) for name in NORMALIZATIONS}

    print(f"{cutouts}\naccuracy of MuyGPs, mean and standard deviation over {options.repeats} random halves:")
    halves = StratifiedShuffleSplit(options.repeats, test_size=0.5, random_state=0)
    right = {name: cross_val_score(PixelClassifier(), X, labels, cv=halves) for name, X in pixels.items()}
    inputs = features[list(CLASSIFIER_FEATURES)].to_numpy()
    right[FEATURES] = cross_val_score(with_scaling(CLASSIFIERS["MuyGPs"]), inputs, labels, cv=halves)
    table = pd.DataFrame(right).agg(["mean", "std", "size"]).T.reset_index()
    table = table.set_axis(["data", "accuracy", "accuracy_std", "repeats"], axis=1).astype({"repeats": int})
    print(table.to_string(index=False, float_format="%.4f"))

    print("\non unseen nights, judged by the labels:")
    classifiers = {(name, "MuyGPs"): (X, PixelClassifier()) for name, X in pixels.items()}
    for name, classifier in CLASSIFIERS.items():
        classifiers[FEATURES, name] = (inputs, with_scaling(classifier))
        reduced = make_pipeline(PCA(20, random_state=0), StandardScaler(), classifier)
        classifiers["minmax", name] = (pixels["minmax"], reduced)
    table, probabilities = compare_classifiers(classifiers, labels, night, features["magnitude"])
    shown = with_errors(table)
    shown[["fit_s", "predict_s"]] = table[["fit_s", "predict_s"]].round(2)
    print(shown.to_string(index=False))

    print("\nMuyGPs on the features, by seed:")
    unseen = {"groups": night, "cv": LeaveOneGroupOut(), "method": "predict_proba"}
    for seed in range(5):
        seeded = with_scaling(clone(CLASSIFIERS["MuyGPs"]).set_params(random_state=seed))
        found = cross_val_predict(seeded, inputs, labels, **unseen)
        print(f"  seed {seed}: {format_scores(scores(labels, found[:, 1], features['magnitude']))}")

    ready = StarGalaxyClassifier.pretrained().predict_proba(cutouts)[:, 1]
    judged = {"MuyGPs on unseen nights": probabilities[FEATURES, "MuyGPs"], "pretrained": ready}
    for judge, classes in class_sources(options.folder, cutouts).items():
        print(f"\njudged by {judge}:")
        for name, probability in judged.items():
            print(f"  {name}: {scores_with_errors(classes, probability, features['magnitude'])}")
    by_features = [found for (data, _), found in probabilities.items() if data == FEATURES]
    suspects = contradicted_labels(labels, by_features)
    print(f"{len(suspects)} objects that all {len(by_features)} classifiers of the features contradict:")
    for row in suspects:
        print(f"  {cutouts.table['name'][row]} at {features['magnitude'][row]:.1f} mag")


def class_sources(folder, cutouts):
    """Return the classes of the cutouts, (n,), by who tells them: the labels, and the truth if known."""
    found = {"the labels": cutouts.labels}
    truth = read_truth(folder, cutouts.table["name"])
    if truth is not None:
        found["the truth"] = truth["class"].map(CLASS_NAMES.index).to_numpy()
    return found


def scores_with_errors(classes, probability, magnitude):
    """Return figures of merit with their standard errors as text."""
    errors = score_errors(classes, probability, magnitude)
    figures = scores(classes, probability, magnitude)
    return ", ".join(f"{name} {value:.4f} ± {errors[name]:.4f}" for name, value in figures.items())


def format_scores(figures):
    """Return figures of merit as text."""
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


if __name__ == "__main__":
    main()
