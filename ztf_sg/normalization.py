"""Pixel normalizations of cutouts, by name.

Each normalization takes a stack of cutouts and gives a stack of the same shape. Those that use
statistics of the whole set ("global" ones) learn them on a training set and keep them: see
:class:`Normalizer`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.visualization import AsinhStretch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ztf_sg.parallel import map_chunks


@dataclass(frozen=True)
class GlobalStatistics:
    """Extremes of all pixels of a training set [DN].

    Parameters
    ----------
    minimum, maximum : float
        Smallest and largest pixel of the set.
    """

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
    """Return log10 x - min(log10 x), the extreme taken per cutout."""
    logs = _log10(images, "log_minus_min")
    return logs - _low(logs)


def minmax(images, statistics=None):
    """Return (x - min) / (max - min), the extremes taken per cutout; 0 for a constant cutout."""
    low = _low(images)
    return _ratio(images - low, _high(images) - low)


def global_minmax(images, statistics):
    """Return (x - min_all) / (max_all - min_all), the extremes taken over the training set."""
    return _ratio(images - statistics.minimum, statistics.maximum - statistics.minimum)


def min_over_global_max(images, statistics):
    """Return (x - min) / max_all: the cutout's own minimum, the training set's maximum."""
    return _ratio(images - _low(images), _positive(statistics.maximum, "min_over_global_max"))


def log_min_over_global_max(images, statistics):
    """Return (log10 x - min(log10 x)) / log10 max_all."""
    name = "log_min_over_global_max"
    logs = _log10(images, name)
    return _ratio(logs - _low(logs), np.log10(_positive(statistics.maximum, name)))


def root_minmax(images, statistics=None, r=2):
    """Return minmax to the power 1/r, which lifts faint wings and keeps the range 0..1.

    Parameters
    ----------
    images : numpy.ndarray
        Pixels, shape (n, height, width).
    statistics : ignored
    r : float
        Order of the root; 2 and 3 are usual.
    """
    return minmax(images) ** (1 / r)


def asinh_minmax(images, statistics=None, softening=0.3):
    """Return asinh(y / a) / asinh(1 / a) of y = minmax, linear near the sky and logarithmic at the peak.

    The stretch of Lupton, Gunn & Szalay 1999, AJ 118, 1406, as astropy has it.

    Parameters
    ----------
    images : numpy.ndarray
        Pixels, shape (n, height, width); zero and negative values are welcome.
    statistics : ignored
    softening : float
        Where linear turns into logarithmic, a, as a share of the cutout's range.
    """
    return AsinhStretch(softening)(minmax(images))


NORMALIZATIONS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        raw,
        log_minus_min,
        minmax,
        global_minmax,
        min_over_global_max,
        log_min_over_global_max,
        root_minmax,
        asinh_minmax,
    )
}
"""Normalization functions by name; the place in this order is the technique number, 0 for raw."""


def normalize(images, technique, statistics=None, **parameters):
    """Normalize a stack of cutouts.

    Parameters
    ----------
    images : array-like
        Pixels [DN], shape (n, height, width).
    technique : str
        A name in :data:`NORMALIZATIONS`.
    statistics : GlobalStatistics, optional
        Extremes of the training set, for the techniques that use them; learned on ``images``
        itself when absent.
    **parameters
        Further parameters of the technique, such as ``r`` of root_minmax.

    Returns
    -------
    numpy.ndarray
        float64, same shape as ``images``; never NaN.

    Raises
    ------
    ValueError
        If the technique is unknown, the shape is not that of a stack, a pixel is not finite, or
        a logarithm of a pixel <= 0 is asked for (the message names the first such cutout).
    """
    if technique not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization {technique!r}; choose one of {', '.join(NORMALIZATIONS)}")
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
    except ValueError:  # its message is to count in the whole set, not in a chunk
        NORMALIZATIONS[technique](images.astype(float), statistics, **parameters)
        raise
    return result


class Normalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A normalization as a scikit-learn transformer of flattened cutouts.

    The extremes over the whole set are learned in ``fit``, on the training set only, and kept.

    Parameters
    ----------
    technique : str
        A name in :data:`NORMALIZATIONS`.

    Attributes
    ----------
    statistics_ : GlobalStatistics
        Extremes of the training set [DN].
    """

    def __init__(self, technique="minmax"):
        self.technique = technique

    def fit(self, X, y=None):
        """Learn the extremes of the training pixels.

        Parameters
        ----------
        X : array-like
            Flattened cutouts [DN], shape (n, height * width).
        y : ignored
        """
        X = validate_data(self, X, dtype=float)
        if self.technique not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            raise ValueError(f"unknown normalization {self.technique!r}; choose one of {known}")
        self.statistics_ = GlobalStatistics.of(X)
        return self

    def transform(self, X):
        """Return normalized flattened cutouts, float64, of the shape of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=float, reset=False)
        return normalize(self._as_stack(X), self.technique, self.statistics_).reshape(X.shape)

    @staticmethod
    def _as_stack(X):
        side = int(round(X.shape[1] ** 0.5))
        return X.reshape(len(X), side, side) if side * side == X.shape[1] else X[:, None, :]


def _low(images):
    return images.min(axis=(1, 2), keepdims=True)


def _high(images):
    return images.max(axis=(1, 2), keepdims=True)


def _ratio(numerator, denominator):
    """Divide, giving 0 where the denominator is 0 (a constant cutout has no contrast)."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=np.asarray(denominator) != 0)


def _log10(images, name):
    bad = (images <= 0).any(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{name}: cutout {np.argmax(bad)} (and {bad.sum() - 1} more) has pixels <= 0, whose logarithm "
            "is undefined; use minmax, root_minmax or asinh_minmax for such images"
        )
    return np.log10(images)


def _positive(value, name):
    if value <= 0:
        raise ValueError(f"{name}: the largest pixel of the training set is {value:g} DN, expected > 0")
    return value
