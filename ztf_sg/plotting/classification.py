"""Figures of notebook 4 that scikit-learn has not: how MuyGPs predicts, and which answers to trust."""

from itertools import cycle

import numpy as np
from astropy.stats import binom_conf_interval
from matplotlib.patches import Rectangle
from sklearn.calibration import CalibrationDisplay

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.plotting import style

BINS = 10  # of the predicted probabilities
TRIALS_APART = 0.34  # in the chart of accuracies [rows]
BARS_APART = 0.06  # that the bars of stars and galaxies do not hide each other [px of seeing]
SHOWN_DISTANCE = 6.0  # of kernels, in the unit of their length scale
FUNCTION_LENGTH, FUNCTIONS_APART = 20.0, 4.0  # of functions drawn from kernels: in x, and between them in y


def plot_accuracies(tables, *, title=None):
    """Mean accuracies with their errors, one row per kind of data, the best of the first table at the top.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        By name of the trial, one or two: columns mean and std; the index holds the kinds of data, those of
        the first table or some of them.
    """
    order = next(iter(tables.values())).sort_values("mean").index
    ax = style.new_axes((7.5, 1.0 + 0.36 * len(order)))
    for number, (name, table) in enumerate(tables.items()):
        offset = TRIALS_APART * (number - (len(tables) - 1) / 2)
        rows = np.array([order.get_loc(kind) for kind in table.index]) + offset
        look = {"color": style.LINE_COLORS[2 * number], "marker": "os"[number], "label": name}
        ax.errorbar(table["mean"], rows, xerr=table["std"], ls="none", capsize=3, **look)
        for row, (mean, std) in zip(rows, table[["mean", "std"]].to_numpy(), strict=True):
            place = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8}
            ax.text(1.02, row, f"{mean:.3f} ± {std:.3f}", color=look["color"], **place)
    ax.set_yticks(range(len(order)), order)
    ax.grid(axis="both", color=style.GRID_COLOR)
    ax.set_axisbelow(True)
    ax.margins(y=0.5 / len(order))
    if len(tables) > 1:
        ax.legend(loc="lower right", fontsize=9)
    return style.describe(ax, "accuracy (fraction of objects classified correctly)", None, title)


def plot_accuracy_by_magnitude(tables, limit=None, *, title=None):
    """Accuracy against magnitude with 68 % intervals, one line per classifier.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        By name, each from :func:`ztf_sg.evaluation.accuracy_by_magnitude`.
    limit : pandas.DataFrame, optional
        The same for the best possible classifier.
    """
    ax = style.new_axes((6.5, 4))
    for marker, (name, table) in zip(cycle("osD^v"), tables.items()):
        look = {"marker": marker, "capsize": 3, "linewidth": 1.8, "label": name}
        ax.errorbar(table["magnitude"], table["accuracy"], _interval(table), **look)
    if limit is not None:
        ax.plot("magnitude", "accuracy", "k:", data=limit, lw=2, label="limit of the data")
        ax.fill_between("magnitude", "low", "high", data=limit, color="0.85", zorder=0)
    ax.grid(color=style.GRID_COLOR)
    style.legend_beside(ax, fontsize=9)
    return style.describe(ax, "magnitude [mag]", "accuracy (fraction correct)", title)


def plot_accuracy_by_seeing(table, *, title=None):
    """Accuracy for stars and galaxies against seeing with 68 % intervals, one panel per filter.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ztf_sg.evaluation.accuracy_by_seeing`. Panels are in the order of the wavelengths.

    Returns
    -------
    matplotlib.figure.Figure
    """
    style.check_columns(table, ["filter", "label", "seeing", "accuracy", "low", "high"], "table")
    filters = sorted(table["filter"].unique(), key=lambda name: ("gri".find(name[-1]), name))
    fig, axes = style.new_panels(len(filters), 3, (2.6, 2.8), extra_height=0.6)
    for ax, band in zip(axes, filters, strict=True):
        for label, name in enumerate(CLASS_NAMES):
            rows = table[(table["filter"] == band) & (table["label"] == label)]
            look = {"color": style.COLORS[label], "marker": "os"[label], "ls": ("-", "--")[label]}
            x = rows["seeing"] + (label - 0.5) * BARS_APART
            ax.errorbar(x, rows["accuracy"], _interval(rows), label=name, capsize=3, **look)
        ax.grid(color=style.GRID_COLOR)
        ax.sharey(axes[0])
        style.describe(ax, "seeing (FWHM) [px]", "accuracy (fraction correct)", band).label_outer()
    style.title_above(fig, title, axes[0].get_legend_handles_labels()[0])
    return fig


def plot_calibration(labels, probability, *, title=None):
    """Reliability diagram: of the objects given a probability of 80 %, 80 % should be galaxies.

    Each point carries the number of objects in its bin. Error bars are 68 % Wilson intervals of a binomial
    fraction (Wilson 1927, JASA 22, 209), which keep their width where all objects of a bin are of one class.

    Parameters
    ----------
    labels, probability : array_like (n,)
        0 star, 1 galaxy; predicted probability of being a galaxy.

    Raises
    ------
    ValueError
        If a probability is not between 0 and 1.
    """
    if not np.all((np.asarray(probability) >= 0) & (np.asarray(probability) <= 1)):
        raise ValueError("probabilities lie between 0 and 1; some do not")
    ax = style.new_axes((5, 4.6))
    look = {"color": style.STAR_COLOR, "marker": "o", "linestyle": "none", "label": "objects in a bin"}
    display = CalibrationDisplay.from_predictions(labels, probability, n_bins=BINS, ax=ax, **look)
    predicted, observed = display.prob_pred, display.prob_true
    count = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability))
    count = count[count > 0]
    interval = binom_conf_interval(np.round(observed * count), count, interval="wilson")
    distance = np.abs(interval - observed)
    ax.errorbar(predicted, observed, distance, fmt="none", color=style.STAR_COLOR, capsize=3)
    for x, y, n in zip(predicted, observed, count, strict=True):  # beside the point, away from the diagonal
        offset, ha, va = ((-6, 3), "right", "bottom") if y > x else ((6, -3), "left", "top")
        look = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": 8}
        ax.annotate(f"{n:,}", (x, y), offset, **look)
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.08, 1.08))
    style.legend_beside(ax, fontsize=9)
    return style.describe(ax, "predicted probability of being a galaxy", "fraction that are galaxies", title)


def plot_kernels(kernels, *, title=None):
    """Kernels against distance, and one function drawn from each, by the same random numbers.

    Parameters
    ----------
    kernels : dict of str to callable
        By name, a kernel that returns the covariances of points (n, 1), shape (n, n), as those of
        :mod:`sklearn.gaussian_process.kernels` do.

    Returns
    -------
    matplotlib.figure.Figure
    """
    distance, x = (np.linspace(0, end, 300)[:, None] for end in (SHOWN_DISTANCE, FUNCTION_LENGTH))
    numbers = np.random.default_rng(5).normal(size=len(x))
    fig, (left, right) = style.new_panels(2, 2, (4, 3), extra_height=0.6)
    for ax in (left, right):
        ax.set_prop_cycle(style.LINES)
    for number, (name, kernel) in enumerate(kernels.items()):
        left.plot(distance, kernel(distance)[0], lw=1.8, label=name)
        root = np.linalg.cholesky(kernel(x) + 1e-8 * np.eye(len(x)))  # its own rounding errors
        right.plot(x, root @ numbers - FUNCTIONS_APART * number, lw=1.8)
    left.grid(color=style.GRID_COLOR)
    right.set_yticks(())
    style.describe(left, "distance", "kernel (correlation)", "How alike two points are")
    style.describe(right, "x", "function, moved apart", "A function that varies so")
    style.title_above(fig, title, left.get_legend_handles_labels()[0])
    return fig


def plot_muygps_sketch(X, y, point, neighbours, *, feature_names, title=None):
    """How MuyGPs predicts: a test point, its nearest training points, and all others ignored; and a zoom.

    Parameters
    ----------
    X, point : array_like (n, 2), array_like (2,)
        Two features of the training points and of the test point, in units in which distances make sense: the
        axes are drawn equal.
    y : array_like (n,)
        0 star (circles), 1 galaxy (squares).
    neighbours : array_like (nn_count,) of int
        Rows of `X` that are the nearest neighbours of the test point.
    feature_names : tuple of two str
        Axis labels, with units.

    Returns
    -------
    matplotlib.figure.Figure
        All points to the left, with the zoom's edges, and the zoom to the right.
    """
    X, y, point = np.asarray(X, float), style.check_labels(y, len(X)), np.asarray(point, float)
    near = np.isin(np.arange(len(X)), neighbours)
    reach = 1.25 * np.abs(X[near] - point).max()
    fig, (everything, zoom) = style.new_panels(2, 2, (4.2, 3.9), extra_height=0.7)
    for ax, size in ((everything, 8), (zoom, 40)):
        _sketch(ax, X, y, point, near, size)
        style.describe(ax, *feature_names, "all" if ax is everything else "zoom: who is asked")
    everything.set_aspect("equal", adjustable="datalim")
    everything.add_patch(Rectangle(point - reach, 2 * reach, 2 * reach, fill=False, lw=1.2, zorder=4))
    zoom.set(xlim=point[0] + np.array([-reach, reach]), ylim=point[1] + np.array([-reach, reach]))
    zoom.set_aspect("equal")
    style.title_above(fig, title, zoom.get_legend_handles_labels()[0])
    return fig


def plot_posterior_1d(x_grid, posteriors, x_train, y_train, *, xlabel="feature", title=None):
    """Posteriors of Gaussian processes in one feature: the mean, plus and minus two standard deviations.

    Parameters
    ----------
    x_grid : array_like (m,)
        Test points.
    posteriors : dict of str to tuple of array_like (m,)
        By name, the posterior mean and variance there. The first has a shaded band, the next dashed edges.
    x_train, y_train : array_like (n,)
        Training points and their targets: -1 star, +1 galaxy.
    xlabel : str
        Name and unit of the feature.
    """
    x_train, y_train = np.asarray(x_train, float), np.asarray(y_train, float)
    ax = style.new_axes((7, 4))
    for number, (name, (mean, variance)) in enumerate(posteriors.items()):
        low, high = np.asarray(mean) + np.outer((-2, 2), np.sqrt(np.clip(variance, 0, None)))
        color, dashes = (style.LINE_COLORS[0], "-") if number == 0 else ("black", "--")
        if number == 0:
            ax.fill_between(x_grid, low, high, color=color, alpha=0.2, lw=0, label=f"{name}: mean ± 2 sigma")
        else:
            ax.plot(x_grid, np.transpose([low, high]), color=color, lw=0.8, ls=dashes)
        ax.plot(x_grid, mean, color=color, lw=2 - 0.6 * number, ls=dashes, label=f"{name}: mean")
    for label, name in enumerate(CLASS_NAMES):
        x = x_train[y_train == 2 * label - 1]
        look = {"s": 22, "color": style.COLORS[label], "marker": "os"[label], "zorder": 3}
        ax.scatter(x, np.full(len(x), 2 * label - 1), label=f"training {name}", **look)
    ax.axhline(0, color=style.UNKNOWN_COLOR, lw=1, ls=":", zorder=0)
    ax.set_yticks((-1, 0, 1), ("star -1", "0", "galaxy +1"))
    style.legend_beside(ax, fontsize=9)
    return style.describe(ax, xlabel, "class as a number", title)


def plot_uncertainty(mean, std, correct, *, title=None):
    """Posterior mean against posterior standard deviation, right and wrong predictions apart.

    Parameters
    ----------
    mean, std, correct : array_like (n,)
        Posterior mean (-1 star, +1 galaxy) and standard deviation of each test object; whether the predicted
        class is the true one.
    """
    mean, std, correct = np.asarray(mean), np.asarray(std), np.asarray(correct, bool)
    size = style.marker_size(len(mean))
    ax = style.new_axes((6, 4))
    right = {"s": size, "color": style.PALE_BLUE, "marker": "o"}
    wrong = {"s": 3 * size, "color": "black", "marker": "x"}
    for chosen, name, look in ((correct, "right", right), (~correct, "wrong", wrong)):
        label = style.counted(name, np.count_nonzero(chosen))
        ax.scatter(mean[chosen], std[chosen], lw=1, label=label, rasterized=True, **look)
    ax.axvline(0, color=style.UNKNOWN_COLOR, lw=1, ls="--", zorder=0)
    style.legend_beside(ax)
    return style.describe(ax, "posterior mean (star -1, galaxy +1)", "posterior standard deviation", title)


def _sketch(ax, X, y, point, near, size):
    """Draw a test point, its neighbours joined to it, and other training points in grey."""
    for x in X[near]:
        ax.plot(*np.transpose([point, x]), color="#555555", lw=0.7, ls="-", zorder=1)
    for label, (name, marker) in enumerate(zip(CLASS_NAMES, "os", strict=True)):
        far, close = X[~near & (y == label)].T, X[near & (y == label)].T
        pale = {"s": size, "color": ("#cccccc", "#999999")[label], "zorder": 0, "rasterized": True}
        bright = {"s": size, "color": style.COLORS[label], "edgecolor": "white", "lw": 0.6, "zorder": 2}
        ax.scatter(*far, marker=marker, label=f"{name}, not asked", **pale)
        ax.scatter(*close, marker=marker, label=f"{name}, neighbour", **bright)
    ax.scatter(
        *point, s=4 * size, marker="*", color="black", edgecolor="white", label="test object", zorder=3
    )


def _interval(table):
    """Return the distances of the accuracies of a table from the ends of their intervals, shape (2, n)."""
    return np.maximum((table["accuracy"] - table["low"], table["high"] - table["accuracy"]), 0)
