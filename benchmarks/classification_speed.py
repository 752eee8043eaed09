"""Time training and classification of MuyGPSClassifier beside scikit-learn and stock MuyGPyS.

    python benchmarks/classification_speed.py [--folder FOLDER] [--repeats 5]

Trains on 750 cutouts (minmax pixels) and classifies 750 others, or halves of a smaller folder.
"""

import argparse
from pathlib import Path

import numpy as np
from MuyGPyS.neighbors import NN_Wrapper
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from timing import medians, repeat_alternately, thread_note

from ztf_sg import MuyGPSClassifier, load_cutouts, normalize

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "cutouts_test"
TRAIN_COUNT = TEST_COUNT = 750


def load_halves(folder):
    """Return minmax pixels and labels for training and for testing."""
    cutouts = load_cutouts(folder)
    cutouts = cutouts[cutouts.labels >= 0]
    pixels = normalize(cutouts.images, "minmax").reshape(len(cutouts), -1)
    train_count = min(TRAIN_COUNT, len(cutouts) // 2)
    test_count = min(TEST_COUNT, len(cutouts) - train_count)
    return train_test_split(
        pixels,
        cutouts.labels,
        train_size=train_count,
        test_size=test_count,
        stratify=cutouts.labels,
        random_state=0,
    )


def stock_posterior_mean(classifier, train, train_labels, test):
    """Predict by MuyGPyS alone, with the hyperparameters of a trained classifier."""
    train, test = train / classifier.distance_unit_, test / classifier.distance_unit_
    indices, _ = NN_Wrapper(train, classifier.nn_count_, nn_method="exact").get_nns(test)
    muygps = classifier.muygps_
    targets = np.where(train_labels == classifier.classes_[1], 1.0, -1.0)
    crosswise, pairwise, nn_targets = muygps.make_predict_tensors(
        np.arange(len(test)), indices, test, train, targets
    )
    crosswise, pairwise = muygps.kernel(crosswise), muygps.kernel(pairwise)
    muygps.posterior_variance(pairwise, crosswise)
    return muygps.posterior_mean(pairwise, crosswise, nn_targets)


def jobs_of(models, train, train_labels, test):
    """Return what to time, by name; fits come before predictions in every round."""
    jobs = {}
    for name, model in models.items():
        jobs[f"{name} fit"] = lambda model=model: model.fit(train, train_labels)
        jobs[f"{name} predict"] = lambda model=model: model.predict(test)
    ours = models["MuyGPSClassifier"]
    jobs["stock MuyGPyS predict"] = lambda: ours.classes_[
        (stock_posterior_mean(ours, train, train_labels, test) > 0).astype(int)
    ]
    return jobs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    train, test, train_labels, test_labels = load_halves(arguments.folder)
    models = {
        "MuyGPSClassifier": MuyGPSClassifier(),
        "SVC": SVC(),
        "k-NN": KNeighborsClassifier(),
    }
    print(thread_note())
    print(f"train on {len(train)}, classify {len(test)} cutouts of {train.shape[1]} minmax pixels")
    seconds, results = repeat_alternately(jobs_of(models, train, train_labels, test), arguments.repeats)
    times = medians(seconds)
    columns = ("fit [s]", "predict [s]", "fit ratio", "predict ratio", "accuracy")
    print(f"{'model':18}" + "".join(f"{column:>15}" for column in columns))
    for name in (*models, "stock MuyGPyS"):
        fit, predict = times.get(f"{name} fit"), times[f"{name} predict"]
        accuracy = np.mean(results[f"{name} predict"][-1] == test_labels)
        ratio = predict / times["MuyGPSClassifier predict"]
        fit_text, fit_ratio = (
            (f"{fit:.4f}", f"{fit / times['MuyGPSClassifier fit']:.3f}") if fit else ("-", "-")
        )
        row = (fit_text, f"{predict:.4f}", fit_ratio, f"{ratio:.3f}", f"{accuracy:.3f}")
        print(f"{name:18}" + "".join(f"{cell:>15}" for cell in row))
    print("ratios: time over that of MuyGPSClassifier; stock MuyGPyS predicts with its hyperparameters")


if __name__ == "__main__":
    main()
