"""How well classifiers do: accuracies over repeated splits and unseen nights, in tables."""

from time import perf_counter

import numpy as np
import pandas as pd
from astropy.stats import binom_conf_interval
from sklearn.base import clone
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import LeaveOneGroupOut, StratifiedShuffleSplit


def random_halves(labels, n_repeats=5, random_state=0):
    """Return random splits into halves with the same share of each class.

    Parameters
    ----------
    labels : array-like
        Shape (n,).
    n_repeats : int
    random_state : int

    Returns
    -------
    list of tuple
        Row numbers of the training half and of the test half.
    """
    splitter = StratifiedShuffleSplit(n_repeats, test_size=0.5, random_state=random_state)
    return list(splitter.split(np.zeros(len(labels)), labels))


def nights(obsmjd):
    """Return the night of each exposure as the integer part of its MJD [d].

    Parameters
    ----------
    obsmjd : array-like
        Start of exposure [MJD, d], shape (n,).

    Returns
    -------
    numpy.ndarray
        int, shape (n,).
    """
    return np.floor(np.asarray(obsmjd, dtype=float)).astype(int)


def leave_one_night_out(classifier, X, labels, obsmjd, cost=None):
    """Return probabilities of being a galaxy, each from a classifier that has not seen the object's night.

    Parameters
    ----------
    classifier : estimator
        Cloned for every night.
    X : CutoutSet or numpy.ndarray
        What the classifier takes; n rows.
    labels : numpy.ndarray
        0 star, 1 galaxy; shape (n,).
    obsmjd : array-like
        Start of exposure [MJD, d], shape (n,).
    cost : dict, optional
        Is given fit_s and predict_s, the seconds that all nights together took.

    Returns
    -------
    numpy.ndarray
        Shape (n,).

    Raises
    ------
    ValueError
        If all exposures are of one night.
    """
    groups = nights(obsmjd)
    if len(np.unique(groups)) < 2:
        raise ValueError(f"leaving one night out needs two nights, but all exposures are of MJD {groups[0]}")
    probability, spent = np.empty(len(labels)), np.zeros(2)
    for train, test in LeaveOneGroupOut().split(labels, groups=groups):
        started = perf_counter()
        fitted = clone(classifier).fit(X[train], labels[train])
        ready = perf_counter()
        probability[test] = fitted.predict_proba(X[test])[:, 1]
        spent += ready - started, perf_counter() - ready
    if cost is not None:
        cost["fit_s"], cost["predict_s"] = spent
    return probability


def compare_data(data, labels, classifier, splits):
    """Return the accuracy of one classifier on several kinds of data, over the same splits.

    Parameters
    ----------
    data : dict of str to array or CutoutSet
        n rows each.
    labels : numpy.ndarray
        Shape (n,).
    classifier : estimator or dict of str to estimator
        Cloned for every split; a dict gives each kind of data its own.
    splits : sequence of tuple
        Training and test rows, as of :func:`random_halves`.

    Returns
    -------
    pandas.DataFrame
        Columns data, accuracy (mean over the splits), accuracy_std (their standard deviation) and
        repeats.
    """
    rows = []
    for name, X in data.items():
        estimator = classifier[name] if isinstance(classifier, dict) else classifier
        scores = [_score(estimator, X, labels, train, test) for train, test in splits]
        rows.append(_summary(scores) | {"data": name})
    return pd.DataFrame(rows)[["data", "accuracy", "accuracy_std", "repeats"]]


def learning_curve(X, labels, classifier, train_sizes, n_repeats=5, random_state=0):
    """Return the accuracy against the number of training objects.

    Parameters
    ----------
    X : numpy.ndarray or CutoutSet
        n rows.
    labels : numpy.ndarray
        Shape (n,).
    classifier : estimator
        Cloned for every fit.
    train_sizes : sequence of int
        Each smaller than n; the rest of the objects are the test set.
    n_repeats : int
        Random splits a size.
    random_state : int

    Returns
    -------
    pandas.DataFrame
        Columns n_train, accuracy, accuracy_std and repeats.

    Raises
    ------
    ValueError
        If a size leaves nothing to test on.
    """
    rows = []
    for size in train_sizes:
        if not 2 <= size <= len(labels) - 2:
            raise ValueError(
                f"train_sizes: {size} of {len(labels)} objects leaves too few to train or test on"
            )
        splitter = StratifiedShuffleSplit(n_repeats, train_size=int(size), random_state=random_state)
        scores = [_score(classifier, X, labels, *split) for split in splitter.split(labels, labels)]
        rows.append({"n_train": int(size)} | _summary(scores))
    return pd.DataFrame(rows)


def confusion(labels, predicted):
    """Return the counts of true class (rows) against predicted class (columns), star then galaxy."""
    return confusion_matrix(labels, predicted, labels=[0, 1])


def magnitude_matched_weights(magnitude, labels, bin_width=0.5):
    """Return weights that give both classes the same histogram of magnitudes.

    In each bin the rarer class keeps weight one and the other is weighted down to it, so that a
    classifier cannot earn accuracy from brightness alone. Bins with one class only have weight 0.

    Parameters
    ----------
    magnitude : array-like
        [mag], shape (n,).
    labels : array-like
        0 star, 1 galaxy; shape (n,).
    bin_width : float
        [mag].

    Returns
    -------
    numpy.ndarray
        Shape (n,).

    Raises
    ------
    ValueError
        If the classes share no bin, a label is not 0 or 1, or a magnitude is not finite.
    """
    magnitude, labels = np.asarray(magnitude, dtype=float), np.asarray(labels)
    if not (np.isfinite(magnitude).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("magnitudes must be finite and labels 0 or 1; leave out the others")
    bins = np.floor(magnitude / bin_width).astype(int)
    bins -= bins.min()
    counts = np.stack([np.bincount(bins[labels == label], minlength=bins.max() + 1) for label in (0, 1)])
    common = counts.min(axis=0)
    if not common.any():
        raise ValueError("stars and galaxies share no magnitude bin; widen the bins")
    weights = np.divide(common, counts, out=np.zeros(counts.shape), where=counts > 0)
    return weights[labels, bins]


def matched_accuracy(labels, predicted, magnitude, bin_width=0.5):
    """Return the accuracy with the classes weighted to one magnitude histogram."""
    weights = magnitude_matched_weights(magnitude, labels, bin_width)
    return float(np.average(np.asarray(labels) == np.asarray(predicted), weights=weights))


def star_completeness(labels, probability, contamination=0.01):
    """Return the share of the stars that a clean sample holds.

    Parameters
    ----------
    labels : array-like
        0 star, 1 galaxy; shape (n,).
    probability : array-like
        Of being a galaxy, shape (n,).
    contamination : float
        Largest share of galaxies in the sample, which is that of the objects below some probability. 0.005 is
        the figure of merit of ZTF's point-source catalogue (Tachibana & Miller 2018, PASP 130, 128001).

    Returns
    -------
    float
    """
    order = np.argsort(probability, kind="stable")
    galaxy, ranked = np.asarray(labels)[order] == 1, np.asarray(probability)[order]
    galaxies = np.cumsum(galaxy)
    whole = np.append(
        ranked[1:] > ranked[:-1], True
    )  # a sample takes all objects of one probability, or none
    clean = whole & (galaxies <= contamination * np.arange(1, len(order) + 1))
    return float(np.max((np.cumsum(~galaxy) / max(np.sum(~galaxy), 1))[clean], initial=0.0))


def calibration_error(labels, probability, n_bins=10):
    """Return the expected calibration error: mean distance of probabilities from frequencies, in equal bins.

    Parameters
    ----------
    labels : array-like
        0 star, 1 galaxy; shape (n,).
    probability : array-like
        Of being a galaxy, shape (n,).
    n_bins : int
        Of equal width, between 0 and 1 (Guo et al. 2017, arXiv:1706.04599, for the galaxy class).

    Returns
    -------
    float
    """
    labels, probability = np.asarray(labels), np.asarray(probability)
    bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    excess = np.bincount(bins, probability - labels, minlength=n_bins)
    return float(np.abs(excess).sum() / len(labels))


def accuracy_after_deferring(labels, probability, share=0.05):
    """Return the accuracy on the rest when a share of the objects, those nearest to 1/2, is not decided."""
    labels, probability = np.asarray(labels), np.asarray(probability)
    surest = np.argsort(-np.abs(probability - 0.5), kind="stable")[: len(labels) - round(share * len(labels))]
    return float(np.mean((probability > 0.5)[surest] == (labels == 1)[surest]))


def scores(labels, probability, magnitude):
    """Return the figures of merit of predicted probabilities.

    Parameters
    ----------
    labels : array-like
        0 star, 1 galaxy; shape (n,).
    probability : array-like
        Of being a galaxy, shape (n,).
    magnitude : array-like
        [mag], shape (n,).

    Returns
    -------
    dict of str to float
        accuracy; matched, see :func:`matched_accuracy`, NaN where the classes share no magnitudes;
        complete_0.5% and complete_1%, see :func:`star_completeness`; ece, see :func:`calibration_error`;
        brier, the mean square of probability less label; deferring_5%, see
        :func:`accuracy_after_deferring`.
    """
    labels, probability, magnitude = map(np.asarray, (labels, probability, magnitude))
    predicted = (probability > 0.5).astype(int)
    try:
        matched = matched_accuracy(labels, predicted, magnitude)
    except ValueError:  # a handful of objects may share no magnitudes
        matched = np.nan
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "matched": matched,
        "complete_0.5%": star_completeness(labels, probability, 0.005),
        "complete_1%": star_completeness(labels, probability, 0.01),
        "ece": calibration_error(labels, probability),
        "brier": float(np.mean((probability - labels) ** 2)),
        "deferring_5%": accuracy_after_deferring(labels, probability, 0.05),
    }


def score_errors(labels, probability, magnitude, n_repeats=100, random_state=0):
    """Return the standard errors of :func:`scores`, from sets of objects drawn with replacement."""
    rng = np.random.default_rng(random_state)
    columns = [np.asarray(column) for column in (labels, probability, magnitude)]
    draws = (rng.integers(0, len(columns[0]), len(columns[0])) for _ in range(n_repeats))
    return pd.DataFrame([scores(*(column[rows] for column in columns)) for rows in draws]).std().to_dict()


def compare_classifiers(classifiers, labels, obsmjd, magnitude):
    """Return the figures of merit of several classifiers on unseen nights, with what they cost.

    Parameters
    ----------
    classifiers : dict of tuple to tuple
        By (data, classifier): what the classifier takes, n rows, and the classifier.
    labels : numpy.ndarray
        0 star, 1 galaxy; shape (n,).
    obsmjd : array-like
        Start of exposure [MJD, d], shape (n,).
    magnitude : array-like
        [mag], shape (n,).

    Returns
    -------
    table : pandas.DataFrame
        One row a classifier: data, classifier, fit_s and predict_s, seconds for all nights together, and the
        columns of :func:`scores`, each with its standard error in a column of the same name and ``_err``.
    probabilities : dict of tuple to numpy.ndarray
        Of being a galaxy, shape (n,), by (data, classifier).
    """
    rows, probabilities = [], {}
    for (data, name), (X, classifier) in classifiers.items():
        cost = {}
        probability = leave_one_night_out(classifier, X, labels, obsmjd, cost)
        errors = score_errors(labels, probability, magnitude)
        measured = {
            key: figure
            for column, value in scores(labels, probability, magnitude).items()
            for key, figure in ((column, value), (f"{column}_err", errors[column]))
        }
        rows.append({"data": data, "classifier": name, **cost, **measured})
        probabilities[data, name] = probability
    return pd.DataFrame(rows), probabilities


def with_errors(table):
    """Return a table of :func:`compare_classifiers` for reading: "value ± error" as text, and no seconds."""
    names = [name.removesuffix("_err") for name in table if name.endswith("_err")]
    shown = table[["data", "classifier"]].copy()
    for name in names:
        pairs = zip(table[name], table[f"{name}_err"], strict=True)
        shown[name] = [f"{value:.3f} ± {error:.3f}" for value, error in pairs]
    return shown


def contradicted_labels(labels, probabilities):
    """Return the rows whose labels all classifiers contradict: probable label errors.

    Parameters
    ----------
    labels : array-like
        0 star, 1 galaxy; shape (n,).
    probabilities : sequence of array-like
        Of being a galaxy, from each classifier, on objects that it was not trained on; shape (n,) each.

    Returns
    -------
    numpy.ndarray
        int.
    """
    guesses = np.stack([np.asarray(probability) > 0.5 for probability in probabilities])
    return np.flatnonzero((guesses != (np.asarray(labels) == 1)).all(axis=0))


def accuracy_by_magnitude(labels, predicted, magnitude, edges):
    """Return the accuracy in bins of magnitude.

    Parameters
    ----------
    labels, predicted : array-like
        True and predicted classes, shape (n,).
    magnitude : array-like
        [mag], shape (n,).
    edges : array-like
        Of the bins [mag], increasing.

    Returns
    -------
    pandas.DataFrame
        One row a bin that holds objects: magnitude (their mean), accuracy, low, high (68 % Wilson interval)
        and count.
    """
    table = pd.DataFrame({"magnitude": magnitude, "right": np.asarray(labels) == np.asarray(predicted)})
    grouped = table.groupby(pd.cut(table["magnitude"], edges), observed=True)
    result = grouped.agg(
        magnitude=("magnitude", "mean"), accuracy=("right", "mean"), count=("right", "size")
    ).reset_index(drop=True)
    right = (result["accuracy"] * result["count"]).round()
    result["low"], result["high"] = binom_conf_interval(right, result["count"], interval="wilson")
    return result


def likeliest_class(log_likelihood_ratio, magnitude, labels, bin_width=0.5):
    """Return the class that is likelier, in view of an image and of how frequent the classes are.

    Parameters
    ----------
    log_likelihood_ratio : array-like
        Logarithm of the likelihood of a galaxy over that of a star, shape (n,).
    magnitude : array-like
        [mag], shape (n,).
    labels : array-like
        0 star, 1 galaxy; shape (n,): they tell how frequent the classes are among objects of a magnitude.
    bin_width : float
        In which they are counted [mag].

    Returns
    -------
    numpy.ndarray
        0 star, 1 galaxy; shape (n,).
    """
    bins = np.floor(np.asarray(magnitude) / bin_width).astype(int)
    bins -= bins.min()
    stars, galaxies = (np.bincount(bins[np.asarray(labels) == c], minlength=bins.max() + 1) for c in (0, 1))
    log_odds = np.log((galaxies + 0.5) / (stars + 0.5))
    return (np.asarray(log_likelihood_ratio) + log_odds[bins] > 0).astype(int)


def _score(classifier, X, labels, train, test):
    fitted = clone(classifier).fit(X[train], labels[train])
    return float(np.mean(fitted.predict(X[test]) == labels[test]))


def _summary(scores):
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return {"accuracy": float(np.mean(scores)), "accuracy_std": spread, "repeats": len(scores)}
