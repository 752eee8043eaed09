"""Checks of arguments, for which True and False are no numbers."""

from numbers import Integral, Real

import numpy as np


def is_number(value):
    """Tell whether a value is a real number; NaN is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def is_whole_number(value):
    """Tell whether a value is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_unmasked(**arrays):
    """Raise a ValueError if an array holds masked values, which numpy would take for valid ones."""
    for name, array in arrays.items():
        if np.ma.is_masked(array):
            n_masked = np.ma.count_masked(array)
            raise ValueError(f"{name}: {n_masked} values are masked; leave out the rows that hold them")


def image_stack(images):
    """Return a stack of images as an array of real numbers, NaN where it is masked.

    Raises
    ------
    ValueError
        If they are of several sizes, or no numbers.
    """
    try:
        images = images if np.ma.isMaskedArray(images) else np.asarray(images)
    except ValueError as error:
        raise ValueError(
            f"images: expected cutouts of one size, shape (n, height, width) ({error})"
        ) from error
    if images.dtype.kind not in "fiu":
        raise ValueError(f"images: expected real numbers, got {images.dtype}")
    return filled(images)


def filled(values):
    """Return an array of numbers with NaN where it is masked."""
    return values.astype(float).filled(np.nan) if np.ma.is_masked(values) else np.asarray(values)
