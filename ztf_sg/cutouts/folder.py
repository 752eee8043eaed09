"""Folders of FITS cutouts: which files there are, and what is in them."""

import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from math import prod
from statistics import mode
from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from ztf_sg.cutouts.listing import cutout_names, file_of, printable
from ztf_sg.cutouts.plain_fits import (
    DECOMPRESSORS,
    SKY_KEYWORD,
    decompressed,
    is_other_image,
    projection_cards,
    read_plain_image,
    sky_positions,
)
from ztf_sg.cutouts.schema import (
    HEADER_KEYS,
    NUMBER_KEYS,
    REFERENCE_KEYS,
    SKIPPED_COLUMNS,
    TEXT_KEYS,
    UNKNOWN,
    CutoutError,
    CutoutParts,
    check_cutout,
    check_on_error,
    label_of,
    natural_key,
    object_of,
    shape_fault,
    without_single_axes,
)
from ztf_sg.files import local_path
from ztf_sg.parallel import slices
from ztf_sg.ztf import CUTOUT_SHAPE

READERS, READ_CHUNK = 8, 64  # threads, and files that each reads at a time
SCIENCE_IMAGE = re.compile(r"SCI|^IMAGE|^IMG", re.IGNORECASE)
# EXTNAMEs of images that may be the cutout if there is no likelier one in the file
COMPANION_IMAGE = re.compile(r"REF|TEMPL|DIFF|RESID|^EXP|^SUB$", re.IGNORECASE)
MASK_VALUES = 16  # that a mask may have; a cutout has more

REMEDY = "fetch it again, remove it, or load with on_error='skip'"

_silence = threading.RLock()


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
                    raise CutoutError(f"{error}; {REMEDY}") from error
                skipped.append((file, printable(str(error))))
    shape = mode(file.image.shape for file in files) if files else CUTOUT_SHAPE
    for file in files:
        if file.image.shape != shape:
            skipped.append((file.file, f"{file.file}: {shape_fault(shape, file.image.shape)}"))
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

    Of several images in the file it is the one that is no mask, error or background by its EXTNAME, that has
    two axes, more than 8 bits, more values than a mask, the cutout's keywords, floating-point pixels, and
    most pixels, in this order; further axes of length 1 do not count. It inherits those keywords of the
    primary HDU that it lacks. Files may be compressed by gzip, bzip2, xz, zip or fpack, whatever their names
    are. Bytes after the last HDU are ignored, and its padding may be missing.

    Parameters
    ----------
    path : path-like or binary file object
        The FITS file.

    Raises
    ------
    CutoutError
        If the file cannot be used as a cutout.
    """
    return _read(path)[:2]


def _read(path):
    """Return pixels, header, values in use and projection of a cutout; see :func:`read_cutout`."""
    path = path if hasattr(path, "read") else local_path(path)
    name = path.name if hasattr(path, "read") else str(path)
    try:
        content = path.read() if hasattr(path, "read") else path.read_bytes()
    except OSError as error:
        raise CutoutError(f"{name}: cannot be read ({error.strerror})") from error
    try:
        with quiet_astropy():
            data, header = _read_science(decompressed(content))
            values, projection = header_values(header), projection_cards(header)
    except CutoutError as error:
        raise CutoutError(f"{name}: {error}") from error
    except Exception as error:  # damaged files raise errors of many kinds
        raise CutoutError(f"{name}: {_what_is_wrong(content, error)}") from error
    check_cutout(name, data, values)
    return data.astype(np.float32), header, values, projection


@contextmanager
def quiet_astropy():
    """Silence the warnings of astropy, for one thread at a time: the filters are those of all threads."""
    with _silence, warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def header_values(header):
    """Return the values in use of an astropy header, by keyword."""
    values = {key: _value(header, key) for key in (*NUMBER_KEYS, *TEXT_KEYS) if key in header}
    return {key: value for key, value in values.items() if not isinstance(value, fits.card.Undefined)}


def _value(header, key):
    """Return a value of a header; one that is not written as the standard wants, as the text that it is."""
    try:
        return header[key]
    except (fits.VerifyError, ValueError):
        return header.cards[key].image[10:].partition("/")[0].strip(" '")


def _read_science(content):
    """Return pixels and header of the cutout in the bytes of a FITS file."""
    with _opened(content) as file:
        hdus = [file[0]]
        with suppress(Exception):  # an IndexError at the end, others at bytes that are no HDU
            while not isinstance(file[len(hdus)], fits.PrimaryHDU):  # as of a second copy of the file
                hdus.append(file[len(hdus)])
        scalings = [_scaling(hdu.header) for hdu in hdus]  # astropy takes the cards away with the pixels
        hdu = _science_image(hdus)
        for key, value in scalings[hdus.index(hdu)].items():
            if isinstance(value, bool | complex | str) or value == 0:
                raise CutoutError(f"its header has {key} = {value!r}, expected a number other than 0")
        if hdu.data.dtype.itemsize == 1 and _has_few_values(hdu):
            raise CutoutError("holds no image but one of 8 bits with few values, which looks like a mask")
        return hdu.data.reshape(_image_shape(hdu)), _with_inherited(hdu.header, hdus[0].header)


def _scaling(header):
    """Return BSCALE, and BZERO unless it is 0, of a header that has them."""
    values = {key: _value(header, key) for key in ("BSCALE", "BZERO") if key in header}
    return {key: value for key, value in values.items() if key == "BSCALE" or value != 0}


def _opened(content):
    """Return the HDUs in the bytes of a FITS file; only the first if what follows it is no HDU."""
    try:
        return fits.open(BytesIO(content))
    except OSError:
        return fits.HDUList([fits.PrimaryHDU.fromstring(content)])


def _science_image(hdus):
    """Return the HDU of the cutout among those of a file; raise a CutoutError if it cannot be told."""
    images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS")]
    if not images:
        raise CutoutError("holds no image")
    candidates = [hdu for hdu in images if not is_other_image(_extension(hdu))]
    if not candidates:
        raise CutoutError(f"holds no image but {', '.join(map(_extension, images))}")
    largest = max(prod(hdu.shape) for hdu in candidates)
    for is_likelier in (
        lambda hdu: SCIENCE_IMAGE.search(_extension(hdu)),
        lambda hdu: not COMPANION_IMAGE.search(_extension(hdu)),
        lambda hdu: len(_image_shape(hdu)) == 2,
        lambda hdu: hdu.header["BITPIX"] != 8,
        lambda hdu: not _has_few_values(hdu),
        lambda hdu: "SEEING" in hdu.header,
        lambda hdu: hdu.header["BITPIX"] < 0,
        lambda hdu: prod(hdu.shape) == largest,
    ):
        if len(candidates) > 1:
            candidates = list(filter(is_likelier, candidates)) or candidates
    if len(candidates) > 1:
        numbers = ", ".join(str(hdus.index(hdu)) for hdu in candidates)
        raise CutoutError(
            f"holds several images (HDUs {numbers}), of which none is marked as the cutout by EXTNAME = 'SCI'"
        )
    return candidates[0]


def _image_shape(hdu):
    """Return the shape of an image, without leading axes of length 1."""
    return without_single_axes(hdu.shape)


def _has_few_values(hdu):
    """Tell whether an image has as few values as a mask; noise gives a cutout more."""
    try:
        return len(np.unique(hdu.data)) <= MASK_VALUES
    except Exception:  # it is damaged, and only counts if it is chosen
        return False


def _extension(hdu):
    return str(_value(hdu.header, "EXTNAME")).strip() if "EXTNAME" in hdu.header else ""


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
    image, _, values, projection = _read(path)
    return _File(name, file, image, values, projection)


def _what_is_wrong(content, error):
    """Return why the bytes of a file cannot be read, given the error that this raised."""
    if not content:
        return "is empty"
    if not content.startswith((b"SIMPLE", *DECOMPRESSORS)):
        return "is not a FITS file"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, fits.VerifyError):
        return f"its header is damaged ({reason})"
    return f"is cut short or damaged ({reason})"


def _metadata_table(files, shape):
    """Return the columns of CutoutSet.table for some cutouts of one shape."""
    ra, dec = _centres(files, shape).T
    table = pd.DataFrame({"name": [file.name for file in files], "ra": ra, "dec": dec})
    for key in HEADER_KEYS:
        values = [file.header.get(key) for file in files]
        table[key.lower()] = values if key in TEXT_KEYS else np.array(values, dtype=float)
    objects = np.array([object_of(file.name) for file in files], dtype=np.int64)
    return table.assign(object=objects) if (objects != UNKNOWN).any() else table


def _centres(files, shape):
    """Return RA and DEC [deg, ICRS] of the centres of cutouts, shape (n, 2); NaN without a usable WCS."""
    reference = [[file.header.get(key, np.nan) for key in ("CRPIX1", "CRPIX2")] for file in files]
    offsets = (np.array(shape[::-1]) + 1) / 2 - np.array(reference, dtype=float).reshape(-1, 2)
    rows_of = {}  # cutouts of one image share their projection, and are converted together
    for row, file in enumerate(files):
        if np.isfinite(offsets[row]).all():
            rows_of.setdefault(file.projection, []).append(row)
    sky, faults = np.full((len(files), 2), np.nan), {}
    with quiet_astropy():
        for projection, rows in rows_of.items():
            try:
                sky[rows] = sky_positions(projection, offsets[rows])
            except Exception as error:  # damaged projections raise errors of many kinds
                faults |= dict.fromkeys(rows, error)
    nowhere = np.flatnonzero(~np.isfinite(sky).all(axis=1))
    if len(nowhere):
        sky[nowhere] = np.nan
        names = ", ".join(files[row].file for row in nowhere[:3]) + ", ..." * (len(nowhere) > 3)
        reason = " ".join(
            str(faults.get(nowhere[0], "the header lacks CRPIX1 or CRPIX2, or it gives none")).split()
        )
        warnings.warn(f"{names}: the WCS cannot be used, ra and dec are NaN ({reason})", stacklevel=6)
    return sky
