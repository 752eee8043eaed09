"""Pixel normalizations of cutouts, by name.

Each one takes pixels of shape (n, height, width) and returns as many. Global ones use the extremes of a whole
set; :class:`Normalizer` learns them on a training set and keeps them.
"""

from dataclasses import dataclass

import numpy as np
from astropy.visualization import AsinhStretch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.parallel import map_chunks


@dataclass(frozen=True)
class GlobalStatistics:
    """Smallest and largest pixel of a training set [DN]."""

    minimum: float
    maximum: float

    @classmethod
    def of(cls, images):
        """Return the statistics of a stack of cutouts."""
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
    """Return (x - min_all) / (max_all - min_all), with the extremes of the training set."""
    return _ratio(images - statistics.minimum, statistics.maximum - statistics.minimum)


def min_over_global_max(images, statistics):
    """Return (x - min) / max_all, with the minimum of each cutout and the maximum of the training set."""
    return _ratio(images - _low(images), _positive(statistics.maximum, "min_over_global_max"))


def log_min_over_global_max(images, statistics):
    """Return (log10 x - min(log10 x)) / log10 max_all."""
    name = "log_min_over_global_max"
    return _ratio(_log_contrast(images, name), np.log10(_positive(statistics.maximum, name)))


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
    ValueError
        If the technique is unknown, the shape is not that of a stack, a pixel is not finite, or
        a logarithm of a pixel <= 0 is asked for (the message names the first such cutout).
    """
    _check_technique(technique)
    images = np.asarray(images)
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
    statistics = statistics or GlobalStatistics.of(images)
    result = np.empty(images.shape)

    def fill(rows):
        result[rows] = NORMALIZATIONS[technique](images[rows].astype(float), statistics, **parameters)

    try:
        map_chunks(fill, len(images))
    except ValueError:  # counts cutouts within a chunk; this one counts them in the whole set
        NORMALIZATIONS[technique](images.astype(float), statistics, **parameters)
        raise
    return result


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
        X = validate_data(self, X, dtype=float)
        _check_technique(self.technique)
        self.statistics_ = GlobalStatistics.of(X)
        return self

    def transform(self, X):
        """Return normalized flattened cutouts, float64, of the shape of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=float, reset=False)
        return normalize(X[:, None, :], self.technique, self.statistics_).reshape(X.shape)


def _check_technique(technique):
    if technique not in NORMALIZATIONS:
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


def _positive(value, name):
    if value <= 0:
        raise ValueError(f"{name}: the largest pixel of the training set is {value:g} DN, expected > 0")
    return value
