"""Compare the predictions of MuyGPSClassifier with those of stock MuyGPyS: time, and mean and variance.

    python benchmarks/prediction_speed.py [--features 400 32 8] [--repeats 3]

Posterior mean and variance with the same hyperparameters, neighbour search included, of simulated objects:
two classes of correlated features with some wrong labels, 20,000 training points, 30 neighbours. The last
line is "ratio R max_diff D": stock time over ours, and the largest difference of mean or variance.
"""

import argparse
import time

import numpy as np
from MuyGPyS.neighbors import NN_Wrapper
from timing import medians, repeat_alternately, thread_note

from ztf_sg import MuyGPSClassifier

N_TRAIN, N_PREDICT, NN_COUNT = 20_000, 5_000, 30
WRONG_LABELS = 0.03
STOCK_BYTES = 500e6  # memory for the differences of a batch of stock predictions
STOCK_COUNT = {400: 500}  # of the predictions, as many as stock MuyGPyS makes


def simulate(n, n_features, random_state):
    """Return features (n, n_features) and labels (n,) of two classes that differ in position and shape."""
    shape_rng, rng = np.random.default_rng(n_features), np.random.default_rng(random_state)
    y = rng.integers(0, 2, n)
    X = rng.normal(size=(n, n_features))
    for label in (0, 1):
        mixing = shape_rng.normal(size=(n_features, n_features)) / np.sqrt(n_features)
        centre = shape_rng.normal(size=n_features) / np.sqrt(n_features)
        X[y == label] = X[y == label] @ mixing + 1.5 * centre
    return X, y ^ (rng.random(n) < WRONG_LABELS)


def stock_posterior(classifier, neighbours, labels, test):
    """Predict mean and variance by MuyGPyS alone, with the hyperparameters of a trained classifier."""
    train, test = neighbours.train, test / classifier.distance_unit_
    targets = np.where(labels == classifier.classes_[1], 1.0, -1.0)
    muygps, posteriors = classifier.muygps_, []
    step = max(1, int(STOCK_BYTES / (8 * classifier.nn_count_**2 * train.shape[1])))
    for start in range(0, len(test), step):
        batch = test[start : start + step]
        indices, _ = neighbours.get_nns(batch)
        crosswise, pairwise, nn_targets = muygps.make_predict_tensors(
            np.arange(len(batch)), indices, batch, train, targets
        )
        crosswise, pairwise = muygps.kernel(crosswise), muygps.kernel(pairwise)
        mean = muygps.posterior_mean(pairwise, crosswise, nn_targets)
        posteriors.append((mean, muygps.posterior_variance(pairwise, crosswise)))
    return tuple(np.concatenate(parts) for parts in zip(*posteriors, strict=True))


def compare(n_features, repeats):
    """Print a line on one number of features; return the ratio of times and the largest difference."""
    train, labels = simulate(N_TRAIN, n_features, 1)
    test = simulate(N_PREDICT, n_features, 2)[0]
    few = test[: STOCK_COUNT.get(n_features, N_PREDICT)]
    classifier = MuyGPSClassifier(NN_COUNT).fit(train, labels)
    neighbours = NN_Wrapper(train / classifier.distance_unit_, NN_COUNT, nn_method="exact")
    start = time.perf_counter()
    classifier.posterior(test)
    first = time.perf_counter() - start
    jobs = {
        "ours": lambda: classifier.posterior(test),
        "stock": lambda: stock_posterior(classifier, neighbours, labels, few),
    }
    seconds, results = repeat_alternately(jobs, repeats)
    times = medians(seconds)
    rates = {"ours": len(test) / times["ours"], "stock": len(few) / times["stock"]}
    ratio = rates["ours"] / rates["stock"]
    pairs = zip(results["ours"][0], results["stock"][0], strict=True)
    difference = max(np.abs(ours[: len(few)] - stock).max() for ours, stock in pairs)
    print(
        f"{n_features:8}{rates['stock']:10.0f}{rates['ours']:10.0f}{ratio:8.1f}{difference:12.1e}{first:11.1f}",
        flush=True,
    )
    return ratio, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, nargs="+", default=[400, 32, 8])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.repeats < 1 or min(arguments.features) < 1:
        parser.error("--repeats and --features must be at least 1")
    print(thread_note())
    print(f"{N_TRAIN} training points, {NN_COUNT} neighbours, {N_PREDICT} predictions; objects per second")
    print(f"features{'stock':>10}{'ours':>10}{'ratio':>8}{'difference':>12}{'first [s]':>11}")
    for n_features in arguments.features:
        ratio, difference = compare(n_features, arguments.repeats)
    print(f"ratio {ratio:.1f} max_diff {difference:.1e}")


if __name__ == "__main__":
    main()
