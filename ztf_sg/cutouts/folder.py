"""Folders of FITS cutouts: what is in their files."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import mode
from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import FITSFixedWarning, WcsError

from ztf_sg.cutouts.listing import cutout_names, file_of, printable
from ztf_sg.cutouts.plain_fits import projection_cards, read_plain_image, sky_positions
from ztf_sg.cutouts.schema import (
    HEADER_KEYS,
    NUMBER_KEYS,
    REMEDY,
    SKIPPED_COLUMNS,
    TEXT_KEYS,
    CutoutError,
    CutoutParts,
    check_cutout,
    check_on_error,
    label_of,
    natural_key,
    shape_fault,
)
from ztf_sg.files import local_path
from ztf_sg.parallel import slices
from ztf_sg.ztf import CUTOUT_SHAPE

READERS, READ_CHUNK = 8, 64  # threads, and files that each reads at a time


class _File(NamedTuple):
    """A cutout with its path and name; the rest is as read_plain_image returns it."""

    path: Path
    name: str
    image: np.ndarray
    header: dict
    projection: bytes


def read_files(paths, on_error, names=None):
    """Return the CutoutParts of some FITS files; see :func:`ztf_sg.cutouts.load_files`."""
    check_on_error(on_error)
    paths = [local_path(path) for path in paths]
    names = [cutout_names([path], path.parent)[0] for path in paths] if names is None else names
    files, skipped = [], []
    with closing(_read_ahead(paths)) as plain_images:
        for path, name, plain in zip(paths, names, plain_images, strict=True):
            try:
                files.append(_checked(path, name, plain))
            except CutoutError as error:
                if on_error == "raise":
                    raise
                skipped.append((file_of(path, name), printable(str(error))))
    shape = mode(file.image.shape for file in files) if files else CUTOUT_SHAPE
    for path, name, image, *_ in files:
        if image.shape != shape:
            file_name = file_of(path, name)
            skipped.append((file_name, shape_fault(file_name, shape, image.shape)))
    if skipped and on_error == "raise":
        raise CutoutError(f"{skipped[0][1]}; {REMEDY}")
    files = [file for file in files if file.image.shape == shape]
    return CutoutParts(
        np.array([file.image for file in files], dtype=np.float32).reshape(-1, *shape),
        np.array([label_of(file.name) for file in files], dtype=np.int8),
        _metadata_table(files, shape),
        pd.DataFrame(sorted(skipped, key=lambda row: natural_key(row[0])), columns=SKIPPED_COLUMNS),
    )


def read_cutout(path):
    """Return pixels [DN], float32, shape (height, width), and header of a FITS cutout.

    Parameters
    ----------
    path : path-like or binary file object
        The FITS file; its first image with data counts.

    Raises
    ------
    CutoutError
        If the file cannot be used as a cutout.
    """
    path = path if hasattr(path, "read") else local_path(path)
    name = path.name if hasattr(path, "read") else str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", fits.verify.VerifyWarning)
            warnings.filterwarnings("error", message="File may have been truncated")
            with fits.open(path, memmap=False) as hdus:
                hdu = next((hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"]), None)
                data, header = (hdu.data, hdu.header) if hdu else (None, None)
    except (OSError, ValueError, TypeError, KeyError, Warning) as error:
        raise CutoutError(f"{name}: {_what_is_wrong(path)}; {REMEDY}") from error
    if data is None:
        raise CutoutError(f"{name}: holds no image; {REMEDY}")
    check_cutout(name, data, header)
    return data.astype(np.float32), header


def _read_ahead(paths):
    """Yield what read_plain_image returns for each path, in order.

    Threads hide the wait for the disk; processes would take longer to send the pixels back.
    """
    chunks = [paths[rows] for rows in slices(len(paths), READ_CHUNK)]
    with ThreadPoolExecutor(READERS) as readers:
        for images in readers.map(lambda chunk: [read_plain_image(path) for path in chunk], chunks):
            yield from images


def _checked(path, name, plain):
    """Return a cutout that can be used, read by astropy if its file is not plain."""
    if plain:
        check_cutout(str(path), plain[0], plain[1])
        return _File(path, name, *plain)
    image, header = read_cutout(path)
    values = {key: header[key] for key in (*NUMBER_KEYS, *TEXT_KEYS) if key in header}
    return _File(path, name, image, values, projection_cards(header))


def _what_is_wrong(path):
    """Return why a file, or a file object in memory, is not a complete FITS file."""
    try:
        with nullcontext(path) if hasattr(path, "read") else open(path, "rb") as file:
            file.seek(0)
            start = file.read(6)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not start:
        return "is empty"
    return "is cut short" if start == b"SIMPLE" else "is not a FITS file"


def _metadata_table(files, shape):
    """Return the columns of CutoutSet.table for some cutouts of one shape."""
    ra, dec = _centres(files, shape).T
    table = pd.DataFrame({"name": [file.name for file in files], "ra": ra, "dec": dec})
    for key in HEADER_KEYS:
        values = [file.header.get(key) for file in files]
        table[key.lower()] = values if key in TEXT_KEYS else np.array(values, dtype=float)
    return table


def _centres(files, shape):
    """Return RA and DEC [deg] of the centres of cutouts, shape (n, 2); NaN without a usable WCS."""
    reference = [[file.header.get(key, np.nan) for key in ("CRPIX1", "CRPIX2")] for file in files]
    offsets = (np.array(shape[::-1]) + 1) / 2 - np.array(reference, dtype=float).reshape(-1, 2)
    rows_of = {}  # cutouts of one image share their projection, and are converted together
    for row, file in enumerate(files):
        if "CRVAL1" in file.header and "CRPIX1" in file.header:
            rows_of.setdefault(file.projection, []).append(row)
    sky = np.full((len(files), 2), np.nan)
    for projection, rows in rows_of.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FITSFixedWarning)
                sky[rows] = sky_positions(projection, offsets[rows])
        except (WcsError, ValueError) as error:
            names = ", ".join(files[row].path.name for row in rows[:3])
            warnings.warn(f"{names}: the WCS cannot be used, ra and dec are NaN ({error})", stacklevel=6)
    return sky
