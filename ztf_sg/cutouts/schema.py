"""What cutouts consist of: names, labels, header keywords and columns, with the checks of them."""

import re
from math import inf, isfinite
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

CLASS_NAMES = ("star", "galaxy")
OBJECT = "object"  # what names of cutouts of unknown class begin with, before the number of the object
UNKNOWN = -1
LABELS = (0, 1, UNKNOWN)

APERTURE_KEYS = tuple(f"APCOR{number}" for number in range(1, 7))
HEADER_KEYS = ("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE", *APERTURE_KEYS, "ORIGIN")
TEXT_KEYS = ("FILTER", "ORIGIN")
REQUIRED_KEYS = tuple(key for key in HEADER_KEYS if key not in APERTURE_KEYS)
REFERENCE_KEYS = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
NUMBER_KEYS = tuple(key for key in (*HEADER_KEYS, *REFERENCE_KEYS) if key not in TEXT_KEYS)
# Smallest and largest value that a header may state, and the unit. They are far wider than what any camera
# needs; with values beyond them features may not be finite.
BOUNDS = {
    "SEEING": (0.1, 100.0, "px"),
    "GAIN": (1e-6, 1e6, "e-/DN"),
    "EXPTIME": (1e-3, 1e6, "s"),
    "OBSMJD": (0.0, 1e7, "d"),
    "SATURATE": (0.0, 1e12, "DN"),
    **dict.fromkeys(("MAGZP", *APERTURE_KEYS), (-100.0, 100.0, "mag")),
}
COLUMNS = ("name", "ra", "dec", *(key.lower() for key in HEADER_KEYS))  # of CutoutSet.table
SKIPPED_COLUMNS = ("name", "reason")


class CutoutError(ValueError):
    """A cutout that cannot be used; the message names the file or row, the fault and the remedy."""


class CutoutParts(NamedTuple):
    """The arguments of :class:`ztf_sg.cutouts.CutoutSet`, as read from files and tables."""

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    skipped: pd.DataFrame


def natural_key(name):
    """Return a sorting key that puts star_2 before star_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(name))]


def label_of(name):
    """Return the label that a file name's prefix states: 0 for star_, 1 for galaxy_, else -1."""
    prefix = Path(name).name.split("_")[0]
    return CLASS_NAMES.index(prefix) if prefix in CLASS_NAMES else UNKNOWN


def object_of(name):
    """Return the number of the object that a name such as object_3_zr_20180917123456 states; else -1."""
    match = re.match(rf"{OBJECT}_(\d+)(_|$)", Path(name).name)
    return int(match[1]) if match else UNKNOWN


def masks_by_class(labels):
    """Return which of n objects are star, galaxy and unknown, those that occur: a dict of bool (n,)."""
    names = dict(zip(LABELS, (*CLASS_NAMES, "unknown"), strict=True))
    masks = {name: np.asarray(labels) == label for label, name in names.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def check_labels(labels, name="labels"):
    """Return labels as an int8 array; raise a CutoutError unless all are 0, 1 or -1, and none is masked."""
    if np.ma.is_masked(labels):
        raise CutoutError(f"{name}: {np.ma.count_masked(labels)} are masked; give -1 for unknown classes")
    labels = np.asarray(labels)
    others = set(labels.ravel().tolist()) - set(LABELS)
    if others:
        found = ", ".join(sorted(map(repr, others))[:5])
        raise CutoutError(f"{name}: expected 0 (star), 1 (galaxy) or -1 (unknown), got {found}")
    return labels.astype(np.int8)


def without_single_axes(shape):
    """Return a shape less leading axes of length 1, as of (channel, height, width)."""
    shape = tuple(shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def plain_float(value):
    """Return a value as a float; raise a ValueError for texts that only Python takes for numbers, as 2_5."""
    if isinstance(value, str | bytes) and ("_" in str(value) or not value.isascii()):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def shape_fault(expected, found):
    """Return what to say of a cutout of another shape than expected [px]."""
    expected, found = (" x ".join(map(str, shape)) for shape in (expected, found))
    return f"expected {expected} px, got {found}"


def check_on_error(on_error):
    """Raise a ValueError unless on_error is "raise" or "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")


def check_cutout(name, data, header):
    """Raise a CutoutError unless pixels and header values make a usable cutout.

    Parameters
    ----------
    name : str
        What to call the cutout in the message.
    data : numpy.ndarray
        Pixels [DN], real numbers that are finite as float32, with two axes.
    header : mapping
        Values by keyword: FILTER and ORIGIN are text, all others finite numbers within the `BOUNDS`. Only
        APCOR1..6, which may be NaN too, and the WCS are not needed.
    """
    faults = [*_pixel_faults(np.asarray(data)), *_header_faults(header)]
    if faults:
        raise CutoutError(f"{name}: {', and '.join(faults)}")


def _pixel_faults(data):
    """Yield what is wrong with the pixels of a cutout."""
    if data.dtype.kind not in "fiu":
        yield f"its pixels are of type {data.dtype}, expected numbers"
    elif data.ndim != 2 or not data.size:
        yield f"expected an image with two axes, got shape {data.shape}"
    else:
        with np.errstate(over="ignore"):
            bad = int(np.sum(~np.isfinite(data.astype(np.float32, copy=False))))
        if bad:
            yield f"{bad} of {data.size} pixels are NaN or infinite"


def _header_faults(header):
    """Yield what is wrong with the header values of a cutout."""
    missing = [key for key in REQUIRED_KEYS if header.get(key) is None]
    if missing:
        yield f"its header lacks {', '.join(missing)}"
    for key in TEXT_KEYS:
        if not isinstance(header.get(key, ""), str | None):
            yield f"its header has {key} = {header[key]!r}, expected text"
    for key in NUMBER_KEYS:
        value = header.get(key)
        if value is None:
            continue
        least, most, unit = BOUNDS.get(key, (-inf, inf, ""))
        if type(value) is not float and (not isinstance(value, Real) or isinstance(value, bool)):
            yield f"its header has {key} = {value!r}, expected a number"
        elif not (_is_finite(value) or (key in APERTURE_KEYS and value != value)):
            yield f"its header has {key} = {value}, expected a finite number"
        elif float(value) < least or float(value) > most:  # float16 cannot be compared with 1e6
            yield f"its header has {key} = {value}, expected {least:g} to {most:g} {unit}"


def _is_finite(value):
    try:
        return isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
