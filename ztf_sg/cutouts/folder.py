"""Folders of FITS cutouts: which files there are, and what is in them."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from statistics import mode
from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from ztf_sg.cutouts.listing import cutout_names, file_of, printable
from ztf_sg.cutouts.plain_fits import (
    OTHER_IMAGE,
    SKY_KEYWORD,
    projection_cards,
    read_plain_image,
    sky_positions,
)
from ztf_sg.cutouts.schema import (
    HEADER_KEYS,
    NUMBER_KEYS,
    REFERENCE_KEYS,
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

COMPRESSED = (b"\x1f\x8b", b"BZh")
READERS, READ_CHUNK = 8, 64  # threads, and files that each reads at a time


SCIENCE_IMAGE = re.compile(r"SCI|^IMAGE|^IMG", re.IGNORECASE)


class _File(NamedTuple):
    """A cutout with its name, and that of its file in the folder; the rest is as of read_plain_image."""

    name: str
    file: str
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
            file = file_of(path, name)
            try:
                files.append(_checked(path, name, file, plain))
            except CutoutError as error:
                if on_error == "raise":
                    raise
                skipped.append((file, printable(str(error))))
    shape = mode(file.image.shape for file in files) if files else CUTOUT_SHAPE
    for file in files:
        if file.image.shape != shape:
            skipped.append((file.file, f"{file.file}: {shape_fault(shape, file.image.shape)}; {REMEDY}"))
    if skipped and on_error == "raise":
        raise CutoutError(skipped[0][1])
    files = [file for file in files if file.image.shape == shape]
    return CutoutParts(
        np.array([file.image for file in files], dtype=np.float32).reshape(-1, *shape),
        np.array([label_of(file.name) for file in files], dtype=np.int8),
        _metadata_table(files, shape),
        pd.DataFrame(sorted(skipped, key=lambda row: natural_key(row[0])), columns=SKIPPED_COLUMNS),
    )


def read_cutout(path):
    """Return pixels [DN], float32, shape (height, width), and header of a FITS cutout.

    Of several images in the file it is the one that is no mask, error or background by its EXTNAME, that has
    two axes, counts of more than 8 bits, and the cutout's keywords; it inherits those of the primary HDU that
    it lacks. Files may be compressed. Bytes after the last HDU are ignored.

    Parameters
    ----------
    path : path-like or binary file object
        The FITS file.

    Raises
    ------
    CutoutError
        If the file cannot be used as a cutout.
    """
    path = path if hasattr(path, "read") else local_path(path)
    name = path.name if hasattr(path, "read") else str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.filterwarnings("error", message="File may have been truncated")
            with _opened(path) as hdus:
                hdu = _science_image(_readable(hdus))
                data, header = hdu.data, _with_inherited(hdu.header, hdus[0].header)
        values = header_values(header)
    except CutoutError as error:
        raise CutoutError(f"{name}: {error}; {REMEDY}") from error
    except Exception as error:  # damaged files raise errors of many kinds
        raise CutoutError(f"{name}: {_what_is_wrong(path, error)}; {REMEDY}") from error
    if data is None:
        raise CutoutError(f"{name}: holds no image; {REMEDY}")
    check_cutout(name, data, values)
    return data.astype(np.float32), header


def header_values(header):
    """Return the values in use of an astropy header, by keyword.

    A value that is not written as the standard wants, such as an unquoted nan, is the text as it stands.
    """
    values = {}
    for key in (*NUMBER_KEYS, *TEXT_KEYS):
        if key not in header:
            continue
        try:
            value = header[key]
        except (fits.VerifyError, ValueError):
            value = header.cards[key].image[10:].partition("/")[0].strip(" '")
        if not isinstance(value, fits.card.Undefined):
            values[key] = value
    return values


@contextmanager
def _opened(path):
    """Open a FITS file, or a file object in memory; of one with bytes that are no HDU, only the first HDU."""
    try:
        hdus = fits.open(path, memmap=False)
    except OSError:
        with nullcontext(path) if hasattr(path, "read") else open(path, "rb") as file:
            file.seek(0)
            hdus = fits.HDUList([fits.PrimaryHDU.readfrom(file)])
            hdus[0].data  # noqa: B018 - reads it before the file is closed
    with hdus:
        yield hdus


def _readable(hdus):
    """Return the HDUs of an open file up to bytes that are none."""
    found = [hdus[0]]
    with suppress(Exception):  # an IndexError at the end, others at bytes that are no HDU
        while True:
            found.append(hdus[len(found)])
    return found


def _science_image(hdus):
    """Return the HDU of the cutout among those of a file; raise a CutoutError if it cannot be told."""
    images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS")]
    if not images:
        raise CutoutError("holds no image")
    candidates = [hdu for hdu in images if not OTHER_IMAGE.search(_extension(hdu))]
    if not candidates:
        raise CutoutError(f"holds no image but {', '.join(map(_extension, images))}")
    for is_likelier in (
        lambda hdu: SCIENCE_IMAGE.search(_extension(hdu)),
        lambda hdu: hdu.header["NAXIS"] == 2,
        lambda hdu: hdu.header["BITPIX"] != 8,
        lambda hdu: hdu.header["BITPIX"] < 0,
        lambda hdu: "SEEING" in hdu.header,
    ):
        candidates = list(filter(is_likelier, candidates)) or candidates
    if len(candidates) > 1:
        numbers = ", ".join(str(hdus.index(hdu)) for hdu in candidates)
        raise CutoutError(f"holds several images, and nothing says which is the cutout (HDUs {numbers})")
    return candidates[0]


def _extension(hdu):
    return str(hdu.header.get("EXTNAME", "")).strip()


def _with_inherited(header, primary):
    """Return a header with those keywords in use, and the WCS, that it lacks and the primary HDU has."""
    inherited = [key for key in HEADER_KEYS if key in primary and key not in header]
    if "CRVAL1" not in header:
        inherited += [key for key in primary if SKY_KEYWORD.fullmatch(key) or key in REFERENCE_KEYS]
    header = header.copy()
    for key in dict.fromkeys(inherited):
        if key not in header:
            header.append(fits.Card.fromstring(primary.cards[key].image), end=True)
    return header


def _read_ahead(paths):
    """Yield what read_plain_image returns for each path, in order.

    Threads hide the wait for the disk; processes would take longer to send the pixels back.
    """
    chunks = [paths[rows] for rows in slices(len(paths), READ_CHUNK)]
    with ThreadPoolExecutor(READERS) as readers:
        for images in readers.map(lambda chunk: [read_plain_image(path) for path in chunk], chunks):
            yield from images


def _checked(path, name, file, plain):
    """Return a cutout that can be used, read by astropy if its file is not plain."""
    if plain:
        check_cutout(str(path), plain[0], plain[1])
        return _File(name, file, *plain)
    image, header = read_cutout(path)
    return _File(name, file, image, header_values(header), projection_cards(header))


def _what_is_wrong(path, error):
    """Return why a file, or a file object in memory, cannot be read, given the error that this raised."""
    try:
        with nullcontext(path) if hasattr(path, "read") else open(path, "rb") as file:
            file.seek(0)
            start = file.read(6)
    except OSError as fault:
        return f"cannot be read ({fault.strerror})"
    if not start:
        return "is empty"
    if start != b"SIMPLE" and not start.startswith(COMPRESSED):
        return "is not a FITS file"
    return f"is cut short or damaged ({' '.join(str(error).split()) or type(error).__name__})"


def _metadata_table(files, shape):
    """Return the columns of CutoutSet.table for some cutouts of one shape."""
    ra, dec = _centres(files, shape).T
    table = pd.DataFrame({"name": [file.name for file in files], "ra": ra, "dec": dec})
    for key in HEADER_KEYS:
        values = [file.header.get(key) for file in files]
        table[key.lower()] = values if key in TEXT_KEYS else np.array(values, dtype=float)
    return table


def _centres(files, shape):
    """Return RA and DEC [deg, ICRS] of the centres of cutouts, shape (n, 2); NaN without a usable WCS."""
    reference = [[file.header.get(key, np.nan) for key in ("CRPIX1", "CRPIX2")] for file in files]
    offsets = (np.array(shape[::-1]) + 1) / 2 - np.array(reference, dtype=float).reshape(-1, 2)
    rows_of = {}  # cutouts of one image share their projection, and are converted together
    for row, file in enumerate(files):
        if "CRVAL1" in file.header and "CRPIX1" in file.header:
            rows_of.setdefault(file.projection, []).append(row)
    sky, faults = np.full((len(files), 2), np.nan), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        for projection, rows in rows_of.items():
            try:
                sky[rows] = sky_positions(projection, offsets[rows])
            except Exception as error:  # damaged projections raise errors of many kinds
                faults |= dict.fromkeys(rows, error)
    if faults:
        names = ", ".join(files[row].file for row in list(faults)[:3]) + ", ..." * (len(faults) > 3)
        reason = " ".join(str(next(iter(faults.values()))).split())
        warnings.warn(f"{names}: the WCS cannot be used, ra and dec are NaN ({reason})", stacklevel=6)
    return sky
