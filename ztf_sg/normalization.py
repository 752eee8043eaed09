"""Pixel normalizations of cutouts, by name.

Each one takes pixels of shape (n, height, width) and returns as many. Global ones use the extremes of a whole
set; :class:`Normalizer` learns them on a training set and keeps them.
"""

import warnings
from dataclasses import dataclass
from inspect import signature

import numpy as np
import pandas as pd
from astropy.visualization import AsinhStretch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.metrics import pairwise_distances
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.checks import check_unmasked, image_stack, is_number
from ztf_sg.cutouts import csv_name, read_image_csv, write_image_csv
from ztf_sg.files import local_path
from ztf_sg.parallel import map_chunks


@dataclass(frozen=True)
class GlobalStatistics:
    """Smallest and largest pixel of a training set [DN]; a ValueError refuses what are no such numbers."""

    minimum: float
    maximum: float

    def __post_init__(self):
        are_numbers = all(map(is_number, (self.minimum, self.maximum)))
        if not (are_numbers and 0 <= float(self.maximum) - float(self.minimum) < np.inf):
            raise ValueError(
                "expected the smallest and largest pixel of a training set, of finite difference, got "
                f"{self.minimum!r} and {self.maximum!r}"
            )

    @classmethod
    def of(cls, images):
        """Return the statistics of a stack of cutouts; raise a ValueError if it is empty."""
        if not np.size(images):
            raise ValueError("no cutouts: the set is empty")
        return cls(float(np.min(images)), float(np.max(images)))


def raw(images, statistics=None):
    """Return the pixels as they are: x."""
    return images.copy()


def log_minus_min(images, statistics=None):
    """Return log10 x - min(log10 x), with the minimum of each cutout."""
    return _log_contrast(images, "log_minus_min")


def minmax(images, statistics=None):
    """Return (x - min) / (max - min), with the extremes of each cutout; 0 for a constant cutout."""
    low = _low(images)
    return _ratio(images - low, images.max(axis=(1, 2), keepdims=True) - low)


def global_minmax(images, statistics):
    """Return (x - min_all) / (max_all - min_all), with those of the training set; 0 if it is constant."""
    return _ratio(images - statistics.minimum, statistics.maximum - statistics.minimum)


def min_over_global_max(images, statistics):
    """Return (x - min) / max_all, with the minimum of each cutout and the maximum of the training set."""
    return (images - _low(images)) / _maximum(statistics, "min_over_global_max")


def log_min_over_global_max(images, statistics):
    """Return (log10 x - min(log10 x)) / log10 max_all."""
    name = "log_min_over_global_max"
    return _log_contrast(images, name) / np.log10(_maximum(statistics, name))


def root_minmax(images, statistics=None, r=2):
    """Return minmax to the power 1/r, which lifts faint wings and keeps the range 0..1."""
    return minmax(images) ** (1 / r)


def asinh_minmax(images, statistics=None, softening=0.3):
    """Return asinh(y / a) / asinh(1 / a) of y = minmax, linear below the softening a and logarithmic above.

    The stretch of Lupton, Gunn & Szalay 1999, AJ 118, 1406, as astropy has it.
    """
    return AsinhStretch(softening)(minmax(images))


_IN_ORDER = (
    raw,
    log_minus_min,
    minmax,
    global_minmax,
    min_over_global_max,
    log_min_over_global_max,
    root_minmax,
    asinh_minmax,
)
OF_LOGARITHMS = ("log_minus_min", "log_min_over_global_max")
LEAST_MAXIMUM = {"min_over_global_max": 0, "log_min_over_global_max": 1}  # of all pixels, exclusive [DN]
NORMALIZATIONS = {function.__name__: function for function in _IN_ORDER}
"""Normalization functions by name; their order is that of the technique numbers, from 0 for raw."""


def normalize(images, technique, statistics=None, **parameters):
    """Normalize a stack of cutouts.

    Parameters
    ----------
    images : array-like
        Pixels [DN], shape (n, height, width).
    technique : str
        A name in :data:`NORMALIZATIONS`.
    statistics : GlobalStatistics, optional
        Extremes of the training set, for the techniques that use them; by default those of ``images``.
    **parameters
        Further parameters of the technique, such as ``r`` of root_minmax.

    Returns
    -------
    numpy.ndarray
        float64, of the shape of ``images``; never NaN.

    Raises
    ------
    TypeError
        If statistics is no GlobalStatistics.
    ValueError
        If the technique or a parameter is unknown, images is no stack of numbers, a pixel or what becomes of
        it is not finite, or a logarithm of a pixel <= 0 is asked for (the message names the first such
        cutout).

    Warns
    -----
    UserWarning
        If cutouts, or those of the training set, are constant and their contrast is divided by, which makes
        them 0.
    """
    _check_technique(technique)
    _check_parameters(technique, parameters)
    if np.ma.isMaskedArray(images) and np.ma.is_masked(images):
        raise ValueError("images: some pixels are masked; leave out these cutouts")
    if not isinstance(statistics, GlobalStatistics | None):
        raise TypeError(
            f"statistics: expected GlobalStatistics, such as GlobalStatistics.of(images), got {statistics!r}"
        )
    images = image_stack(images)
    if images.dtype != np.float32:
        images = images.astype(float, copy=False)
    if images.ndim != 3 or not images.size:
        raise ValueError(
            f"images: expected shape (n, height, width) with n >= 1, got {images.shape}; "
            "give a single cutout as image[None], and flattened ones to a Normalizer"
        )
    bad = ~np.isfinite(images).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"cutout {np.argmax(bad)} (and {bad.sum() - 1} more) has NaN or infinite pixels; leave it out"
        )
    statistics = GlobalStatistics.of(images) if statistics is None else statistics
    if flat := _describe_flat(images, technique, statistics):
        warnings.warn(f"{technique}: {flat}", stacklevel=2)
    result = np.empty(images.shape)

    def normalized(some):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            return NORMALIZATIONS[technique](some.astype(float), statistics, **parameters)

    def fill(rows):
        result[rows] = normalized(images[rows])

    try:
        map_chunks(fill, len(images))
    except ValueError:  # counts cutouts within a chunk; this one counts them in the whole set
        normalized(images)
        raise
    bad = ~np.isfinite(result).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{technique}: cutout {np.argmax(bad)} (and {bad.sum() - 1} more) becomes NaN or infinite, as "
            "its pixels, the statistics or a parameter are too extreme; leave it out, or change them"
        )
    return result


def applies(images, technique):
    """Return to which cutouts a technique applies.

    One that divides by the largest pixel of the set, or by its logarithm, applies to none unless that is
    above 0; one that takes logarithms applies to cutouts whose pixels are all above 0.

    Parameters
    ----------
    images : numpy.ndarray
        Pixels [DN], shape (n, height, width).
    technique : str
        A name in :data:`NORMALIZATIONS`.

    Returns
    -------
    numpy.ndarray of bool (n,)

    Raises
    ------
    ValueError
        If there are no images, or the technique is not known.
    """
    _check_technique(technique)
    if GlobalStatistics.of(images).maximum <= LEAST_MAXIMUM.get(technique, -np.inf):
        return np.zeros(len(images), dtype=bool)
    if technique in OF_LOGARITHMS:
        return (images > 0).all(axis=(1, 2))
    return np.ones(len(images), dtype=bool)


def describe_left_out(images):
    """Return in a line per technique to how many cutouts it does not apply, and why; see :func:`applies`."""
    lines, largest = [], GlobalStatistics.of(images).maximum
    for name in NORMALIZATIONS:
        count = int(np.sum(~applies(images, name)))
        least = LEAST_MAXIMUM.get(name, -np.inf)
        why = "their logarithm is undefined, as they have pixels <= 0"
        if largest <= least:
            why = f"the largest of all pixels is {largest:g} DN, expected > {least}"
        if count:
            lines.append(f"{name} leaves out {count} of {len(images)} cutouts: {why}")
    return "\n".join(lines) or "all techniques apply to all cutouts"


def normalize_all(images):
    """Return the cutouts under all techniques, with the extremes of the set: a dict by name.

    Its values are the normalized cutouts, (k, height, width), and to which of the n cutouts the technique
    :func:`applies`, bool (n,). A technique that applies to none is left out.
    """
    statistics = GlobalStatistics.of(images)
    rows = {name: applies(images, name) for name in NORMALIZATIONS}
    return {
        name: (normalize(images[mask], name, statistics), mask) for name, mask in rows.items() if mask.any()
    }


def write_tables(directory, cutouts):
    """Write the cutouts under each technique as a table; see :func:`~ztf_sg.cutouts.write_image_csv`.

    Returns
    -------
    pandas.DataFrame
        One row per technique: file, technique, cutouts and left_out, the number to which it does not apply.
        There is no file if it applies to none.

    Raises
    ------
    NotADirectoryError
        If the directory is a file.
    ValueError
        If the set is empty.
    """
    normalized, rows = normalize_all(cutouts.images), []
    for number, name in enumerate(NORMALIZATIONS):
        path = local_path(directory) / csv_name(number)
        if name in normalized:
            stack, mask = normalized[name]
            write_image_csv(path, stack, cutouts.labels[mask])
        else:
            path.unlink(missing_ok=True)  # of other cutouts
        count = len(normalized[name][0]) if name in normalized else 0
        rows.append((path.name if count else "", name, count, len(cutouts) - count))
    return pd.DataFrame(rows, columns=["file", "technique", "cutouts", "left_out"])


def read_tables(directory, cutouts):
    """Return what :func:`write_tables` wrote: a dict by technique, as of :func:`normalize_all`.

    The cutouts are flattened, (k, height * width).

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    ValueError
        If a table is damaged, or was made from other cutouts.
    """
    tables, directory = {}, local_path(directory)
    for number, name in enumerate(NORMALIZATIONS):
        mask = applies(cutouts.images, name)
        if not mask.any():
            continue
        pixels, labels = read_image_csv(directory / csv_name(number))
        same = np.array_equal(labels, cutouts.labels[mask]) and pixels.shape[1] == cutouts.images[0].size
        if not same or (name == "raw" and not np.allclose(pixels, cutouts.images.reshape(len(pixels), -1))):
            raise ValueError(
                f"{directory / csv_name(number)}: was not made from these cutouts; run notebook 3 on them"
            )
        tables[name] = pixels, mask
    return tables


def compare_neighbours(cutouts):
    """Return how often the nearest of n cutouts is like the cutout itself, under each technique.

    The work grows with the square of n.

    Returns
    -------
    pandas.DataFrame
        One row per technique that applies to two cutouts or more, and the last for pairs at random. Columns
        are fractions: "same class"; "same night"; and "same class, other nights", of the nearest cutout of
        another night. What cannot be told is left out: classes if some are unknown, and nights if all
        cutouts are of one.
    """
    night = np.floor(cutouts.table["obsmjd"].to_numpy(float))
    classes_known = np.all(cutouts.labels >= 0)
    nights_differ = len(np.unique(night)) > 1
    same_class, same_night = (values == values[:, None] for values in (cutouts.labels, night))
    rows = {}
    for name, (stack, mask) in normalize_all(cutouts.images).items():
        if np.sum(mask) > 1:
            distances = pairwise_distances(stack.reshape(len(stack), -1))
            rows[name] = _nearest_alike(distances, *(a[np.ix_(mask, mask)] for a in (same_class, same_night)))
    if rows:
        pairs = ~np.eye(len(night), dtype=bool)
        apart = pairs & ~same_night if nights_differ else pairs
        rows["at random"] = same_class[pairs].mean(), same_night[pairs].mean(), same_class[apart].mean()
    columns = {
        "same class": classes_known,
        "same night": nights_differ,
        "same class, other nights": classes_known and nights_differ,
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    return table[[name for name, is_told in columns.items() if is_told]]


def _nearest_alike(distances, same_class, same_night):
    """Return the three fractions of `compare_neighbours` for n cutouts; all arguments are (n, n)."""
    np.fill_diagonal(distances, np.inf)  # nobody is a neighbour of oneself
    row, nearest = np.arange(len(distances)), distances.argmin(axis=1)
    apart = np.where(same_night, np.inf, distances).argmin(axis=1)
    return tuple(
        np.mean(a) for a in (same_class[row, nearest], same_night[row, nearest], same_class[row, apart])
    )


class Normalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A normalization as a scikit-learn transformer of flattened cutouts.

    Parameters
    ----------
    technique : str
        A name in :data:`NORMALIZATIONS`.

    Attributes
    ----------
    statistics_ : GlobalStatistics
        Extremes of the training set [DN], learned in ``fit``.
    """

    def __init__(self, technique="minmax"):
        self.technique = technique

    def fit(self, X, y=None):
        """Learn the extremes of flattened cutouts X [DN], shape (n, height * width); y is ignored."""
        _check_technique(self.technique)
        check_unmasked(X=X)
        X = validate_data(self, X, dtype=float)
        self.statistics_ = GlobalStatistics.of(X)
        return self

    def transform(self, X):
        """Return normalized flattened cutouts, float64, of the shape of X."""
        check_is_fitted(self)
        check_unmasked(X=X)
        X = validate_data(self, X, dtype=float, reset=False)
        return normalize(X[:, None, :], self.technique, self.statistics_).reshape(X.shape)


def _check_parameters(technique, parameters):
    """Raise a ValueError unless a technique has these parameters, and they are above 0."""
    known = [
        name
        for name in signature(NORMALIZATIONS[technique]).parameters
        if name not in ("images", "statistics")
    ]
    for name, value in parameters.items():
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{technique}: unknown parameter {name!r}; {takes}")
        if not (is_number(value) and 0 < value < np.inf):
            raise ValueError(f"{technique}: {name}={value!r}, expected a number above 0")


def _describe_flat(images, technique, statistics):
    """Return what to say of contrasts that a technique divides by though they are 0; empty if none are."""
    if technique == "global_minmax":
        is_flat = statistics.minimum == statistics.maximum
        return "the cutouts of the training set are constant and the same, so that all become 0" * is_flat
    flat = (images == images[:, :1, :1]).all(axis=(1, 2)).sum() if technique.endswith("minmax") else 0
    return f"{flat} of {len(images)} cutouts are constant, and become 0" * bool(flat)


def _check_technique(technique):
    if not isinstance(technique, str) or technique not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization {technique!r}; choose one of {', '.join(NORMALIZATIONS)}")


def _low(images):
    return images.min(axis=(1, 2), keepdims=True)


def _ratio(numerator, denominator):
    """Return the ratio, 0 where the denominator is 0: a constant cutout has no contrast."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=np.asarray(denominator) != 0)


def _log_contrast(images, name):
    """Return log10 x - min(log10 x) of each cutout; errors state the name of the technique."""
    bad = (images <= 0).any(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{name}: cutout {np.argmax(bad)} (and {bad.sum() - 1} more) has pixels <= 0, whose logarithm "
            "is undefined; use minmax, root_minmax or asinh_minmax for such images"
        )
    logs = np.log10(images)
    return logs - _low(logs)


def _maximum(statistics, name):
    """Return the largest pixel of the training set, by which, or by its logarithm, a technique can divide."""
    if statistics.maximum <= LEAST_MAXIMUM[name]:
        raise ValueError(
            f"{name}: the largest pixel of the training set is {statistics.maximum:g} DN, "
            f"expected > {LEAST_MAXIMUM[name]}; use minmax, root_minmax or asinh_minmax for such images"
        )
    return statistics.maximum
