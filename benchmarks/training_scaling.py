"""Time training and prediction of MuyGPs and of scikit-learn's classifiers against the training set's size.

    python benchmarks/training_scaling.py [--sizes 1000 3000 10000 30000 100000] [--plot FILE]

Simulated objects with 8 features, see prediction_speed.py; each classifier goes up to the size that it can
stand, by `LARGEST`. Training is timed once, and prediction of 5,000 other objects as the median of three: of
probabilities, but for the SVM, which gives decision values. For each size, all classifiers run in turn in one
process, with all processors where they can use them (MuyGPs, k-NN and random forest); ratios are to MuyGPs at
that size.
"""

import argparse
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from prediction_speed import simulate
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from timing import medians, repeat_alternately, thread_note

from ztf_sg import MuyGPSClassifier

N_FEATURES, N_PREDICT, REPEATS = 8, 5000, 3
CLASSIFIERS = {
    "MuyGPs": MuyGPSClassifier(),
    "k-NN": KNeighborsClassifier(30, n_jobs=-1),
    "random forest": RandomForestClassifier(100, n_jobs=-1, random_state=0),
    "SVM": SVC(random_state=0),
    "exact GP": GaussianProcessClassifier(RBF(3.0), optimizer=None, random_state=0),
}
LARGEST = {"SVM": 30_000, "exact GP": 3_000}  # training points: time grows as their square or cube
LINES = {"MuyGPs": "o-", "k-NN": "s--", "random forest": "^-.", "SVM": "D:", "exact GP": "v-"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000, 30_000, 100_000])
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    print(thread_note())
    table = pd.DataFrame([row for size in options.sizes for row in measure(size)])
    print(table.to_string(index=False, float_format="%.4g"))
    if options.plot:
        plot(table).savefig(options.plot, dpi=110)


def measure(size):
    """Return times and accuracy of each classifier that can stand so many training points."""
    train, labels = simulate(size, N_FEATURES, 1)
    test, test_labels = simulate(N_PREDICT, N_FEATURES, 2)
    rows = []
    for name, classifier in CLASSIFIERS.items():
        if size > LARGEST.get(name, size):
            continue
        started = perf_counter()
        classifier.fit(train, labels)
        fitted = perf_counter() - started
        predict = classifier.decision_function if name == "SVM" else classifier.predict_proba
        guess = predict(test)  # and what is done once, such as compiling
        seconds, _ = repeat_alternately({name: lambda predict=predict: predict(test)}, REPEATS)
        guess = guess > 0 if name == "SVM" else guess[:, 1] > 0.5
        rows.append(
            {
                "classifier": name,
                "n_train": size,
                "fit_s": fitted,
                "predict_us": 1e6 * medians(seconds)[name] / N_PREDICT,
                "accuracy": np.mean(guess == test_labels),
            }
        )
    for row in rows:
        row["fit_ratio"] = row["fit_s"] / rows[0]["fit_s"]
        row["predict_ratio"] = row["predict_us"] / rows[0]["predict_us"]
    return rows


def plot(table):
    """Return a figure of both times against the size of the training set."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, column, label in zip(
        axes, ("fit_s", "predict_us"), ("training time [s]", "prediction time an object [µs]"), strict=True
    ):
        for (name, line), colour in zip(LINES.items(), COLOURS, strict=True):
            rows = table[table["classifier"] == name]
            axis.loglog(rows["n_train"], rows[column], line, color=colour, label=name)
        axis.set(xlabel="training objects", ylabel=label)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


if __name__ == "__main__":
    main()
