"""How well classifiers do: the figures of merit that scikit-learn does not have.

Labels are 0 for a star and 1 for a galaxy, probabilities are those of being a galaxy, magnitudes are in mag;
all of them have shape (n,).
"""

from time import perf_counter

import numpy as np
import pandas as pd
from astropy.stats import binom_conf_interval
from sklearn.base import clone
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from tqdm.auto import tqdm

from ztf_sg.cutouts import UNKNOWN
from ztf_sg.files import local_path

MAGNITUDE_BIN = 0.5  # width of the bins in which the classes are counted [mag]
CALIBRATION_BINS = 10
MIN_PER_CLASS = 20  # stars, and galaxies, with which training and testing make sense
CLASS_COUNTS = {0: ("star", "stars"), 1: ("galaxy", "galaxies"), UNKNOWN: ("unknown", "unknown")}
TRUTH_COLUMNS = ["class", "label_error", "magnitude", "log_likelihood_ratio"]


def nights(obsmjd):
    """Return the night of each exposure, the whole part of its date, int (n,): groups for a split.

    Parameters
    ----------
    obsmjd : array-like (n,)
        Start of exposure [MJD, d].

    Raises
    ------
    ValueError
        If a date is missing or infinite; the message names its rows.
    """
    obsmjd = np.asarray(obsmjd, dtype=float)
    bad = np.flatnonzero(~np.isfinite(obsmjd))
    if len(bad):
        rows = ", ".join(map(str, bad[:5])) + ", ..." * (len(bad) > 5)
        count = f"{len(bad)} of {len(obsmjd)} dates are not finite (rows {rows})"
        raise ValueError(f"obsmjd: {count}; leave these objects out")
    return np.floor(obsmjd).astype(int)


def describe_data(cutouts):
    """Return in a few lines what cutouts there are, and what was left out when they were read."""
    counts = [_count(np.sum(cutouts.labels == label), *names) for label, names in CLASS_COUNTS.items()]
    height, width = cutouts.images.shape[1:]
    filters, origins = (
        ", ".join(sorted(set(cutouts.table[name].astype(str)))) for name in ("filter", "origin")
    )
    n_nights = len(np.unique(nights(cutouts.table["obsmjd"])))
    lines = [
        f"{_count(len(cutouts), 'cutout')} of {height} x {width} px: {', '.join(counts)}",
        f"{_count(n_nights, 'night')}; filter {filters}; origin: {origins}",
    ]
    if len(cutouts.skipped):
        first = cutouts.skipped["reason"].iloc[0]
        lines.append(f"{_count(len(cutouts.skipped), 'file')} left out; the first: {first}")
    return "\n".join(lines)


def why_no_training(labels):
    """Return why labels, (n,), are too few to train and test on; an empty text if they are enough."""
    stars, galaxies = (int(np.sum(np.asarray(labels) == label)) for label in (0, 1))
    if min(stars, galaxies) >= MIN_PER_CLASS:
        return ""
    return f"it takes {MIN_PER_CLASS} stars and {MIN_PER_CLASS} galaxies, there are {stars} and {galaxies}"


def held_out_thirds(obsmjd, labels):
    """Return groups of objects to be held out in turn, int (n,), and what they are: "unseen nights".

    If the nights are too few to leave stars and galaxies to train on, and more than a third of all objects,
    they are "thirds at random".

    Parameters
    ----------
    obsmjd, labels : array-like (n,)
    """
    labels = np.asarray(labels)
    thirds = np.unique(nights(obsmjd), return_inverse=True)[1] % 3
    rest = np.array([np.bincount(labels[thirds != third], minlength=2) for third in np.unique(thirds)])
    if rest.min() >= MIN_PER_CLASS // 2 and rest.sum(axis=1).min() > len(labels) // 3:
        return thirds, "unseen nights"
    thirds = np.zeros(len(labels), dtype=int)
    for third, (_, rows) in enumerate(StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels)):
        thirds[rows] = third
    return thirds, "thirds at random"


def draw_per_class(labels, largest, rng):
    """Return rows drawn at random, as many of stars as of galaxies, and at most `largest` of each.

    Parameters
    ----------
    labels : array-like (n,)
    largest : int
    rng : numpy.random.Generator
    """
    rows = [np.flatnonzero(np.asarray(labels) == label) for label in (0, 1)]
    count = min(largest, *map(len, rows))
    return rng.permutation(np.concatenate([rng.choice(of_class, count, replace=False) for of_class in rows]))


def read_truth(folder, names):
    """Return the rows of ``truth.csv`` in a folder for the names of its cutouts, (n,), in their order.

    None if there is no such file, or it does not tell the truth of each of them.
    """
    path = local_path(folder) / "truth.csv"
    if not path.exists():
        return None
    truth = pd.read_csv(path)
    if not {"name", *TRUTH_COLUMNS} <= set(truth) or not set(names) <= set(truth["name"]):
        return None
    return truth.drop_duplicates("name").set_index("name").loc[list(names)]


def magnitude_bins(magnitude):
    """Return edges of bins [mag] for :func:`accuracy_by_magnitude` that hold at least 96 % of the objects."""
    low, high = np.percentile(magnitude, (2, 98)) / MAGNITUDE_BIN
    return np.arange(np.floor(low), np.floor(high) + 2) * MAGNITUDE_BIN


def magnitude_matched_weights(magnitude, labels):
    """Return weights, (n,), that give both classes the same histogram of magnitudes.

    In each bin the rarer class keeps weight 1 and the other is weighted down to it, so that a classifier
    cannot earn accuracy from brightness alone. A ValueError says that the classes share no bin.
    """
    bins, counts = _count_by_magnitude(magnitude, labels)
    common = counts.min(axis=0)
    if not common.any():
        raise ValueError(f"stars and galaxies share no bin of {MAGNITUDE_BIN} mag")
    weights = np.divide(common, counts, out=np.zeros(counts.shape), where=counts > 0)
    return weights[np.asarray(labels), bins]


def matched_accuracy(labels, predicted, magnitude):
    """Return the accuracy with `magnitude_matched_weights`."""
    weights = magnitude_matched_weights(magnitude, labels)
    return float(np.average(np.asarray(labels) == np.asarray(predicted), weights=weights))


def star_completeness(labels, probability, false_positive_rate=0.005):
    """Return the share of the stars that is kept if few galaxies may be taken for stars.

    It is the figure of merit of Tachibana & Miller 2018 (PASP 130, 128001): all objects up to a probability
    are taken for stars, and it is the largest that keeps the false-positive rate. That is a share of the
    galaxies, not of the sample that is taken for stars. Few galaxies decide it, 3 of 600 at 0.5 %: against
    labels of which some are wrong it tells of the labels more than of the classifier.

    Parameters
    ----------
    labels, probability : array-like (n,)
    false_positive_rate : float
        Largest share of the galaxies that are taken for stars. Of n galaxies it is known in steps of 1/n.
    """
    order = np.argsort(probability, kind="stable")
    galaxy, ranked = np.asarray(labels)[order] == 1, np.asarray(probability)[order]
    last_of_its_value = np.append(ranked[1:] > ranked[:-1], True)  # equal probabilities cannot be separated
    most = np.floor(false_positive_rate * galaxy.sum() + 1e-9)  # rounding must not cost a galaxy
    allowed = last_of_its_value & (np.cumsum(galaxy) <= most)
    return float(np.max((np.cumsum(~galaxy) / max(np.sum(~galaxy), 1))[allowed], initial=0.0))


def calibration_error(labels, probability):
    """Return the mean distance of predicted from observed frequencies (Guo et al. 2017, arXiv:1706.04599)."""
    labels, probability = np.asarray(labels), np.asarray(probability)
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.bincount(bins, probability - labels)
    return float(np.abs(excess).sum() / len(labels))


def accuracy_after_deferring(labels, probability, share=0.05):
    """Return the accuracy when the least sure objects are left undecided.

    Parameters
    ----------
    labels, probability : array-like (n,)
    share : float
        Share of the objects that are left undecided.
    """
    labels, probability = np.asarray(labels), np.asarray(probability)
    surest = np.argsort(-np.abs(probability - 0.5), kind="stable")[: len(labels) - round(share * len(labels))]
    return float(np.mean((probability > 0.5)[surest] == (labels == 1)[surest]))


def scores(labels, probability, magnitude):
    """Return the figures of merit of predicted probabilities, by name.

    Returns
    -------
    dict of str to float
        accuracy; matched (:func:`matched_accuracy`, NaN where the classes share no magnitudes);
        star_completeness (:func:`star_completeness` at a false-positive rate of 0.5 %); ece
        (:func:`calibration_error`); brier (:func:`sklearn.metrics.brier_score_loss`); deferring_5%
        (:func:`accuracy_after_deferring`).
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
        "star_completeness": star_completeness(labels, probability),
        "ece": calibration_error(labels, probability),
        "brier": float(brier_score_loss(labels, probability)),
        "deferring_5%": accuracy_after_deferring(labels, probability, 0.05),
    }


def score_errors(labels, probability, magnitude, n_repeats=100, random_state=0):
    """Return the standard errors of `scores` by bootstrap: from objects drawn with replacement."""
    rng = np.random.default_rng(random_state)
    columns = [np.asarray(column) for column in (labels, probability, magnitude)]
    draws = (rng.integers(0, len(columns[0]), len(columns[0])) for _ in range(n_repeats))
    return pd.DataFrame([scores(*(column[rows] for column in columns)) for rows in draws]).std().to_dict()


def compare_classifiers(classifiers, labels, groups, magnitude):
    """Return the figures of merit of several classifiers on unseen groups of objects, and what they cost.

    Parameters
    ----------
    classifiers : dict of tuple to tuple
        By (data, classifier), both names: the input of the classifier, n rows, and the classifier.
    labels, groups, magnitude : numpy.ndarray (n,)
        Each group, such as a night, is classified by a classifier that was trained on the others.

    Returns
    -------
    table : pandas.DataFrame
        One row per classifier: data, classifier, fit_s and predict_s [s, all groups together], and the
        columns of :func:`scores`, each followed by its standard error in a column that ends in ``_err``.
    probabilities : dict of tuple to numpy.ndarray (n,)
        By (data, classifier).
    """
    rows, probabilities = [], {}
    for (data, name), (X, classifier) in tqdm(classifiers.items(), "classifiers", leave=False):
        probability, (fit_s, predict_s) = _predict_unseen_groups(classifier, X, labels, groups)
        errors = score_errors(labels, probability, magnitude)
        row = {"data": data, "classifier": name, "fit_s": fit_s, "predict_s": predict_s}
        for column, value in scores(labels, probability, magnitude).items():
            row |= {column: value, f"{column}_err": errors[column]}
        rows.append(row)
        probabilities[data, name] = probability
    return pd.DataFrame(rows), probabilities


def paired_over_splits(accuracies, reference, test_share):
    r"""Return by how much kinds of data differ from a reference that was tried on the same random splits.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One row per split, one column per kind of data.
    reference : str
        Name of a column.
    test_share : float
        Share of the objects that each split tests.

    Returns
    -------
    pandas.DataFrame
        One row per kind: mean and std of its accuracies, difference of the mean from that of the reference,
        and its standard error. Splits share training objects, so that the variance :math:`s^2` of J
        differences counts as :math:`s^2 (1/J + n_{test} / n_{train})` (Nadeau & Bengio 2003, Machine Learning
        52, 239).
    """
    differences = accuracies.sub(accuracies[reference], axis=0)
    factor = 1 / len(accuracies) + test_share / (1 - test_share)
    columns = {"difference": differences.mean(), "error": differences.std() * np.sqrt(factor)}
    return pd.DataFrame({"mean": accuracies.mean(), "std": accuracies.std(), **columns})


def paired_over_objects(right, reference):
    """Return by how much kinds of data differ from a reference that was tried on the same objects.

    Parameters
    ----------
    right : pandas.DataFrame of bool
        One row per object, one column per kind of data: whether its class was found.
    reference : str
        Name of a column.

    Returns
    -------
    pandas.DataFrame
        As of :func:`paired_over_splits`, for one prediction of each object: std is the standard error of the
        accuracy, and both errors take the objects for independent.
    """
    right, root = right.astype(float), np.sqrt(len(right))
    differences = right.sub(right[reference], axis=0)
    columns = {"difference": differences.mean(), "error": differences.std() / root}
    return pd.DataFrame({"mean": right.mean(), "std": right.std() / root, **columns})


def share_with_interval(count, n):
    """Return a count, its share of n and the 68 % Wilson interval of the share, as text; of none, "0 of 0".

    Examples
    --------
    >>> share_with_interval(2, 400)
    '2 of 400, 0.50 % (0.25 to 1.00 %)'
    """
    if n == 0:
        return "0 of 0"
    low, high = 100 * binom_conf_interval(count, n, interval="wilson")
    return f"{count} of {n}, {100 * count / n:.2f} % ({low:.2f} to {high:.2f} %)"


def with_errors(table):
    """Return a table of :func:`compare_classifiers` for reading: "value ± error" as text, and no seconds.

    A dash stands for what cannot be had, such as the matched accuracy of classes that share no magnitudes.
    """
    shown = table[["data", "classifier"]].copy()
    for name in (name.removesuffix("_err") for name in table if name.endswith("_err")):
        pairs = zip(table[name], table[f"{name}_err"], strict=True)
        shown[name] = ["-" if np.isnan(value) else f"{value:.3f} ± {error:.3f}" for value, error in pairs]
    return shown


def contradicted_labels(labels, probabilities):
    """Return the numbers of the rows whose labels all classifiers contradict: probable label errors.

    Parameters
    ----------
    labels : array-like (n,)
    probabilities : sequence of array-like (n,)
        From each classifier, on objects that it was not trained on.
    """
    guesses = np.stack([np.asarray(probability) > 0.5 for probability in probabilities])
    return np.flatnonzero((guesses != (np.asarray(labels) == 1)).all(axis=0))


def accuracy_by_magnitude(labels, predicted, magnitude, edges):
    """Return the accuracy in bins of magnitude.

    Parameters
    ----------
    labels, predicted, magnitude : array-like (n,)
    edges : array-like
        Increasing edges of the bins [mag]. A bin includes its upper edge, and the first its lower edge too;
        objects beyond the edges are left out.

    Returns
    -------
    pandas.DataFrame
        One row per bin that holds objects: magnitude (their mean), accuracy, low and high (68 % Wilson
        interval) and count.
    """
    right = np.asarray(labels) == np.asarray(predicted)
    return _accuracy_in_bins("magnitude", magnitude, right, edges)


def accuracy_by_seeing(cutouts, predicted, edges):
    """Return the accuracy for the stars and the galaxies of each filter in bins of seeing.

    Parameters
    ----------
    cutouts : CutoutSet
        n cutouts of known class.
    predicted : array-like (n,)
    edges : array-like
        Increasing edges of the bins [px], as of :func:`accuracy_by_magnitude`.

    Returns
    -------
    pandas.DataFrame
        One row per filter, class and bin that holds objects: filter, label, seeing (mean, in px), accuracy,
        low and high (68 % Wilson interval) and count.
    """
    right, seeing = cutouts.labels == np.asarray(predicted), cutouts.table["seeing"].to_numpy()
    parts = [
        _accuracy_in_bins("seeing", seeing[rows], right[rows], edges).assign(filter=band, label=label)
        for (band, label), rows in cutouts.table.groupby(["filter", cutouts.labels]).indices.items()
    ]
    return pd.concat(parts, ignore_index=True)


def likeliest_class(log_likelihood_ratio, magnitude, labels):
    """Return the likelier label of each object, (n,), given its image and how common the classes are.

    Parameters
    ----------
    log_likelihood_ratio : array-like (n,)
        Logarithm of the likelihood of a galaxy over that of a star.
    magnitude, labels : array-like (n,)
        They tell how common the classes are among objects of a magnitude.

    Raises
    ------
    ValueError
        If a magnitude is not finite, or a label is not 0 or 1.
    """
    bins, (stars, galaxies) = _count_by_magnitude(magnitude, labels)
    log_odds = np.log((galaxies + 0.5) / (stars + 0.5))
    return (np.asarray(log_likelihood_ratio) + log_odds[bins] > 0).astype(int)


def _count(n, singular, plural=None):
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def _accuracy_in_bins(name, values, right, edges):
    """Return the share of right answers in bins of a quantity of some name, a row per bin with objects."""
    table = pd.DataFrame({name: values, "right": right})
    grouped = table.groupby(pd.cut(table[name], edges, include_lowest=True), observed=True)
    columns = {name: (name, "mean"), "accuracy": ("right", "mean"), "count": ("right", "size")}
    result = grouped.agg(**columns).reset_index(drop=True)
    count = (result["accuracy"] * result["count"]).round()
    result["low"], result["high"] = binom_conf_interval(count, result["count"], interval="wilson")
    return result


def _predict_unseen_groups(classifier, X, labels, groups):
    """Return what ``cross_val_predict`` returns, and the seconds of fitting and of predicting."""
    probability, seconds = np.empty(len(labels)), np.zeros(2)
    for train, test in LeaveOneGroupOut().split(labels, groups=groups):
        started = perf_counter()
        fitted = clone(classifier).fit(X[train], labels[train])
        ready = perf_counter()
        probability[test] = fitted.predict_proba(X[test])[:, 1]
        seconds += ready - started, perf_counter() - ready
    return probability, seconds


def _count_by_magnitude(magnitude, labels):
    """Return the magnitude bin of each object, (n,), and the stars and galaxies in each bin, (2, n_bins)."""
    magnitude, labels = np.asarray(magnitude, dtype=float), np.asarray(labels)
    if not (np.isfinite(magnitude).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("magnitudes must be finite and labels 0 or 1; leave out the others")
    bins = np.floor(magnitude / MAGNITUDE_BIN).astype(int)
    bins -= bins.min()
    return bins, np.stack([np.bincount(bins[labels == label], minlength=bins.max() + 1) for label in (0, 1)])
