"""Measure what MuyGPs cost against the number of predictions and of training points.

    python benchmarks/scaling.py [--counts 10000 ... 1000000] [--sizes 1000 ... 100000] [--plot FILE]

Simulated objects with 8 features, see prediction_speed.py; 30 neighbours, their search included.

Predictions: mean and variance from 20,000 training points. The counts take turns, so that a slow moment of
the machine hits all of them alike; in its turn a small count is predicted again and again, up to 300,000
objects. Peak memory is that of a process of its own, and holds the features too.

Training points: MuyGPs beside scikit-learn's classifiers, each up to the size that it can stand, `LARGEST`.
Training is timed once, and prediction of 5,000 other objects as the median of three: of probabilities, or of
decision values for the SVM. Ratios are to MuyGPs at that size.
"""

import argparse
import resource
import subprocess
import sys
from functools import partial
from time import perf_counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from prediction_speed import N_TRAIN, NN_COUNT, simulate
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from timing import medians, repeat_alternately, thread_note

from ztf_sg import MuyGPSClassifier

N_FEATURES, N_PREDICT = 8, 5000
TURNS, REPEATS = 7, 3
OBJECTS_A_TURN = 300_000
CLASSIFIERS = {
    "MuyGPs": MuyGPSClassifier(NN_COUNT),
    "k-NN": KNeighborsClassifier(30, n_jobs=-1),
    "random forest": RandomForestClassifier(100, n_jobs=-1, random_state=0),
    "SVM": SVC(random_state=0),
    "exact GP": GaussianProcessClassifier(RBF(3.0), optimizer=None, random_state=0),
}
LARGEST = {"SVM": 30_000, "exact GP": 3_000}  # training points: time grows as their square or cube
LINES = dict(zip(CLASSIFIERS, ("o-", "s--", "^-.", "D:", "v-"), strict=True))
COLOURS = dict(zip(CLASSIFIERS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"), strict=True))


def trained():
    """Return a classifier that has predicted before."""
    classifier = MuyGPSClassifier(NN_COUNT).fit(*simulate(N_TRAIN, N_FEATURES, 1))
    classifier.posterior(simulate(N_PREDICT, N_FEATURES, 2)[0])
    return classifier


def predictions(counts):
    """Return time and peak memory of each count of predictions."""
    memory = [peak_memory_apart(count) for count in counts]  # first: a process inherits its parent's peak
    classifier, X = trained(), simulate(max(counts), N_FEATURES, 2)[0]
    turns = {count: max(1, OBJECTS_A_TURN // count) for count in counts}

    def predict(count):
        for turn in range(turns[count]):
            start = turn * count % (len(X) - count + 1)
            classifier.posterior(X[start : start + count])

    times = medians(repeat_alternately({count: partial(predict, count) for count in counts}, TURNS)[0])
    costs = [1e6 * times[count] / (count * turns[count]) for count in counts]
    return pd.DataFrame({"objects": counts, "predict_us": costs, "peak_MB": memory})


def peak_memory(count):
    """Return the peak memory [MB] of this process after predicting."""
    trained().posterior(simulate(count, N_FEATURES, 2)[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # ru_maxrss is in kB


def peak_memory_apart(count):
    """Return what `peak_memory` does in a new process."""
    command = [sys.executable, __file__, "--memory", str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def training(size):
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
        seconds, _ = repeat_alternately({name: partial(predict, test)}, REPEATS)
        guess = guess > 0 if name == "SVM" else guess[:, 1] > 0.5
        row = {"classifier": name, "n_train": size, "fit_s": fitted}
        row["predict_us"] = 1e6 * medians(seconds)[name] / N_PREDICT
        rows.append(row | {"accuracy": np.mean(guess == test_labels)})
    for row in rows:
        row["fit_ratio"] = row["fit_s"] / rows[0]["fit_s"]
        row["predict_ratio"] = row["predict_us"] / rows[0]["predict_us"]
    return rows


def plot(predicted, learned):
    """Return a figure of all costs."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    above, below = figure.subplots(2, 2)
    labels = {"predict_us": "prediction [µs/object]", "peak_MB": "peak memory [MB]", "fit_s": "training [s]"}
    for axes, column in zip(above, ("predict_us", "peak_MB"), strict=True):
        axes.plot(predicted["objects"], predicted[column], "o-", color=COLOURS["MuyGPs"])
        axes.set(xscale="log", xlabel="objects predicted", ylabel=labels[column])
        axes.set_ylim(0, 1.3 * predicted[column].max())
    for axes, column in zip(below, ("fit_s", "predict_us"), strict=True):
        for name, rows in learned.groupby("classifier", sort=False):
            axes.loglog(rows["n_train"], rows[column], LINES[name], color=COLOURS[name], label=name)
        axes.set(xlabel="training objects", ylabel=labels[column])
        axes.grid(alpha=0.3)
    figure.legend(*below[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    counts, sizes = [10_000, 30_000, 100_000, 300_000, 1_000_000], [1000, 3000, 10_000, 30_000, 100_000]
    parser.add_argument("--counts", type=int, nargs="+", default=counts)
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--plot", metavar="FILE", help="draw a figure, too")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(peak_memory(options.memory))
        return
    print(thread_note())
    predicted = predictions(options.counts)
    print(predicted.to_string(index=False, float_format="%.4g"))
    cost = predicted["predict_us"]
    print(f"largest over smallest cost {cost.max() / cost.min():.2f}\n")
    learned = pd.DataFrame([row for size in options.sizes for row in training(size)])
    print(learned.to_string(index=False, float_format="%.4g"))
    if options.plot:
        plot(predicted, learned).savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
