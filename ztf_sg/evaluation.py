"""How well classifiers do: accuracies over repeated splits and unseen nights, in tables."""

import numpy as np
import pandas as pd
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


def leave_one_night_out(classifier, X, labels, obsmjd):
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
    probability = np.empty(len(labels))
    for train, test in LeaveOneGroupOut().split(labels, groups=groups):
        fitted = clone(classifier).fit(X[train], labels[train])
        probability[test] = fitted.predict_proba(X[test])[:, 1]
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


def _score(classifier, X, labels, train, test):
    fitted = clone(classifier).fit(X[train], labels[train])
    return float(np.mean(fitted.predict(X[test]) == labels[test]))


def _summary(scores):
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return {"accuracy": float(np.mean(scores)), "accuracy_std": spread, "repeats": len(scores)}
