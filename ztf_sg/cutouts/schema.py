"""What cutouts consist of: names, labels, header keywords and columns, with the checks of them."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

CLASS_NAMES = ("star", "galaxy")
UNKNOWN = -1
LABELS = (0, 1, UNKNOWN)

APERTURE_KEYS = tuple(f"APCOR{number}" for number in range(1, 7))
HEADER_KEYS = ("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE", *APERTURE_KEYS, "ORIGIN")
TEXT_KEYS = ("FILTER", "ORIGIN")
POSITIVE_KEYS = ("SEEING", "EXPTIME", "GAIN")
REQUIRED_KEYS = tuple(key for key in HEADER_KEYS if key not in APERTURE_KEYS)
REFERENCE_KEYS = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
NUMBER_KEYS = tuple(key for key in (*HEADER_KEYS, *REFERENCE_KEYS) if key not in TEXT_KEYS)
COLUMNS = ("name", "ra", "dec", *(key.lower() for key in HEADER_KEYS))  # of CutoutSet.table
SKIPPED_COLUMNS = ("name", "reason")

REMEDY = "fetch it again, remove it, or load with on_error='skip'"


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


def check_labels(labels, name="labels"):
    """Return labels as an int8 array; raise a CutoutError unless all are 0, 1 or -1."""
    labels = np.asarray(labels)
    others = set(labels.ravel().tolist()) - set(LABELS)
    if others:
        found = ", ".join(sorted(map(repr, others))[:5])
        raise CutoutError(f"{name}: expected 0 (star), 1 (galaxy) or -1 (unknown), got {found}")
    return labels.astype(np.int8)


def shape_fault(name, expected, found):
    """Return what to say of a cutout of another shape than expected [px]."""
    expected, found = (" x ".join(map(str, shape)) for shape in (expected, found))
    return f"{name}: expected {expected} px, got {found}"


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
        Pixels [DN], which must be finite, with two axes.
    header : mapping
        Values by keyword: all but APCOR1..6 are needed, and SEEING, EXPTIME and GAIN must be above 0.
    """
    if data.ndim != 2:
        raise CutoutError(f"{name}: expected an image with two axes, got shape {data.shape}")
    bad = int(np.sum(~np.isfinite(data)))
    if bad:
        raise CutoutError(f"{name}: {bad} of {data.size} pixels are NaN or infinite; {REMEDY}")
    missing = [key for key in REQUIRED_KEYS if header.get(key) is None]
    if missing:
        raise CutoutError(f"{name}: its header lacks {', '.join(missing)}; {REMEDY}")
    for key in NUMBER_KEYS:
        if not isinstance(header.get(key, 0.0), (int, float, type(None))):
            raise CutoutError(f"{name}: its header has {key} = {header[key]!r}, expected a number")
    for key in POSITIVE_KEYS:
        if not header[key] > 0:
            raise CutoutError(f"{name}: its header has {key} = {header[key]}, expected more than 0")
