"""Cutout sets: pixels, labels and metadata, read from folders of FITS files or from CSV tables."""

import os
import re
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.io import fits
from astropy.wcs import FITSFixedWarning, WcsError
from pyarrow import csv
from tqdm.auto import tqdm

from ztf_sg.cutouts.plain_fits import projection_cards, read_plain_image, sky_positions
from ztf_sg.files import atomic_write
from ztf_sg.ztf import CUTOUT_SHAPE

CLASS_NAMES = ("star", "galaxy")
UNKNOWN = -1

APERTURE_KEYS = tuple(f"APCOR{i}" for i in range(1, 7))
HEADER_KEYS = ("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE", *APERTURE_KEYS, "ORIGIN")
TEXT_KEYS = ("FILTER", "ORIGIN")
POSITIVE_KEYS = ("SEEING", "EXPTIME", "GAIN")
REQUIRED_KEYS = tuple(key for key in HEADER_KEYS if key not in APERTURE_KEYS)
REFERENCE_KEYS = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
NUMBER_KEYS = tuple(key for key in (*HEADER_KEYS, *REFERENCE_KEYS) if key not in TEXT_KEYS)
PROJECTION = "projection cards"  # beside the keywords in what is kept of a header
READERS, READ_CHUNK = 8, 64  # threads, and the files that each takes at a time
REMEDY = "fetch it again, remove it, or load with on_error='skip'"


class CutoutError(ValueError):
    """A cutout file that cannot be used; the message names the file, the fault and the remedy."""


@dataclass(frozen=True)
class CutoutSet:
    """Cutouts of one size with their labels and metadata, row by row.

    Parameters
    ----------
    images : numpy.ndarray
        Pixels in detector counts [DN], float32, shape (n, height, width).
    labels : numpy.ndarray
        0 star, 1 galaxy, -1 unknown; int8, shape (n,).
    table : pandas.DataFrame
        n rows with columns name, ra, dec [deg, ICRS; the centre of the cutout], seeing [px, FWHM],
        magzp [mag], filter, obsmjd [d], exptime [s], gain [e-/DN], saturate [DN],
        apcor1..apcor6 [mag] and origin. Absent aperture corrections are NaN.
    skipped : pandas.DataFrame
        Files left out by ``load_cutouts(..., on_error="skip")``: columns name and reason.

    Raises
    ------
    ValueError
        If the three do not have the same number of rows, or images is not a stack.
    """

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    skipped: pd.DataFrame = None

    def __post_init__(self):
        if np.ndim(self.images) != 3:
            raise ValueError(f"images: expected shape (n, height, width), got {np.shape(self.images)}")
        lengths = {"images": len(self.images), "labels": len(self.labels), "table": len(self.table)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"images, labels and table must have as many rows as each other, got {lengths}")
        if self.skipped is None:
            object.__setattr__(self, "skipped", pd.DataFrame(columns=["name", "reason"]))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """Return the CutoutSet of the rows that a mask, slice, integer or index array picks."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        table = self.table.iloc[rows].reset_index(drop=True)
        return CutoutSet(self.images[rows], self.labels[rows], table)

    def __array__(self, dtype=None, copy=None):
        """Refuse to become an array: it would not be clear of what."""
        raise TypeError("a CutoutSet is no array; pass its .images, .labels or .table")

    def __repr__(self):
        stars, galaxies = (int(np.sum(self.labels == label)) for label in (0, 1))
        unknown = len(self) - stars - galaxies
        height, width = self.images.shape[1:]
        return f"CutoutSet({stars} stars, {galaxies} galaxies, {unknown} unknown; {height} x {width} px)"

    def to_table(self):
        """Return an Arrow table with one row a cutout.

        Returns
        -------
        pyarrow.Table
            The columns of ``table``, then ``label`` (int8) and ``image`` (the pixels [DN] row by row, as
            lists of float32 of fixed length; height and width [px] stand in the field's metadata).
        """
        return _parquet().to_table(self)

    @classmethod
    def from_table(cls, table, on_error="raise"):
        """Return the CutoutSet of an Arrow table or of a DataFrame, such as one partition of a survey.

        Parameters
        ----------
        table : pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
            Needs the columns of ``CutoutSet.table`` and ``image``: lists or arrays of pixels [DN], row by row
            or with two axes. Lists are of square cutouts unless the metadata of the field, or of the table,
            state height and width. Without ``apcor1`` ... ``apcor6`` and ``origin`` they are NaN and None,
            without ``label`` it is that of the name. Other columns are kept; the index of a DataFrame is not.
        on_error : {"raise", "skip"}
            What to do about rows that cannot be used, because :func:`check_cutout` says so or because of
            their shape: raise, or leave them out and list them in the ``skipped`` table of the result.

        Returns
        -------
        CutoutSet

        Raises
        ------
        CutoutError
            If columns are missing or of another type, or rows cannot be used (with ``on_error="raise"``).
        """
        return _parquet().from_table(table, on_error)

    def to_parquet(self, path):
        """Write the cutouts as a Parquet file of row groups of 4096 cutouts, in the form of :meth:`to_table`.

        Parameters
        ----------
        path : path-like
            The file; written under another name first, so that it is whole or not there.
        """
        _parquet().write_parquet(self, path)

    @classmethod
    def read_parquet(cls, path, row_groups=None, on_error="raise"):
        """Read Parquet files: those of :meth:`to_parquet`, or any that :meth:`from_table` would take.

        Parameters
        ----------
        path : path-like
            A Parquet file, or a folder of ``*.parquet`` files, which are read in natural order.
        row_groups : sequence of int, optional
            Numbers of the row groups to read, counted from 0 through all files; by default all. Their sizes
            are told by :func:`ztf_sg.cutouts.arrow.row_group_sizes`; see also :func:`ztf_sg.iter_parquet`.
        on_error : {"raise", "skip"}
            What to do about rows that cannot be used; see :meth:`from_table`.

        Returns
        -------
        CutoutSet

        Raises
        ------
        FileNotFoundError
            If there is no such file, or no ``*.parquet`` file in the folder.
        CutoutError
            If a file is damaged or not Parquet, or for what :meth:`from_table` raises.
        IndexError
            If there is no row group of a number.
        """
        return _parquet().read_parquet(path, row_groups, on_error)


def natural_key(name):
    """Return a sorting key that puts star_2 before star_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(name))]


def label_of(name):
    """Return the label that a file name's prefix states: 0 for star_, 1 for galaxy_, else -1."""
    prefix = Path(name).name.split("_")[0]
    return CLASS_NAMES.index(prefix) if prefix in CLASS_NAMES else UNKNOWN


def load_cutouts(folder, on_error="raise", progress=False):
    """Read a folder of FITS cutouts.

    Parameters
    ----------
    folder : path-like
        Folder with ``*.fits`` files. Files named ``star_*`` and ``galaxy_*`` get labels 0 and 1,
        all others -1.
    on_error : {"raise", "skip"}
        What to do about a file that cannot be used: raise, or leave it out and list it in the
        ``skipped`` table of the result.
    progress : bool
        Show a progress bar.

    Returns
    -------
    CutoutSet
        Files in natural order of their names (star_2 before star_10).

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no FITS file.
    CutoutError
        If a file is empty, truncated, not FITS, of another shape than most, has non-finite
        pixels or lacks a needed header keyword (with ``on_error="raise"``), or if none is usable.

    Warns
    -----
    UserWarning
        If labels are missing from some names, or the folder mixes cutouts of several origins.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    cutouts = load_files(list_cutouts(folder), on_error, progress)
    if not len(cutouts):
        names, reasons = cutouts.skipped["name"], cutouts.skipped["reason"]
        raise CutoutError(f"{folder}: none of its {len(names)} FITS files can be used; {reasons[0]}")
    _warn_of_mixtures(folder, cutouts.labels, cutouts.table)
    return cutouts


def load_files(paths, on_error="raise", progress=False):
    """Read cutouts from some FITS files; see :func:`load_cutouts`, but for its warnings.

    Parameters
    ----------
    paths : list of pathlib.Path
        At least one.
    on_error, progress
        See :func:`load_cutouts`.

    Returns
    -------
    CutoutSet
        In the order of the paths; empty if none is usable (with ``on_error="skip"``).
    """
    images, headers, kept, skipped = [], [], [], []
    with closing(_read_ahead(paths)) as found:
        for path, plain in tqdm(found, "reading cutouts", len(paths), unit="file", disable=not progress):
            try:
                image, header = _usable(path, plain)
            except CutoutError as error:
                if on_error == "raise":
                    raise
                skipped.append({"name": path.name, "reason": str(error)})
                continue
            images.append(image)
            headers.append(header)
            kept.append(path)
    if images:
        images, headers, kept = _of_one_shape(images, headers, kept, on_error, skipped)
    shape = images[0].shape if images else CUTOUT_SHAPE
    skipped.sort(key=lambda row: natural_key(row["name"]))
    labels = np.array([label_of(path.stem) for path in kept], dtype=np.int8)
    table = _metadata_table(kept, headers, shape)
    images = np.array(images, dtype=np.float32).reshape(-1, *shape)
    return CutoutSet(images, labels, table, pd.DataFrame(skipped, columns=["name", "reason"]))


def write_image_csv(path, images, labels):
    """Write flattened cutouts as CSV: the label, then the pixels row by row; no header.

    Parameters
    ----------
    path : path-like
        The file; written under another name first, so that it is whole or not there.
    images : numpy.ndarray
        Raw or normalized pixels, shape (n, height, width) or (n, pixels); written with float32 precision.
    labels : array-like of int
        0 star, 1 galaxy, -1 unknown; shape (n,).
    """
    pixels = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
    columns = [pa.array(np.asarray(labels, dtype=np.int8)), *map(pa.array, np.ascontiguousarray(pixels.T))]
    table = pa.table(columns, names=[str(number) for number in range(len(columns))])
    with atomic_write(path) as file:
        csv.write_csv(table, file, csv.WriteOptions(include_header=False))


def read_image_csv(path):
    """Read what :func:`write_image_csv` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    pixels : numpy.ndarray
        float64, shape (n, pixels).
    labels : numpy.ndarray
        int8, shape (n,).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If rows differ in length, or a value is no finite number, or a label is not 0, 1 or -1; the
        message names the file and the row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run notebook 3 (data normalization) first")
    try:
        options = csv.ReadOptions(autogenerate_column_names=True, use_threads=False)
        table = csv.read_csv(path, options)
        values = np.column_stack([column.cast(pa.float64()).to_numpy() for column in table.columns])
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a table of numbers with rows of equal length ({error})") from error
    bad = ~np.isfinite(values).all(axis=1) | ~np.isin(values[:, 0], (0, 1, UNKNOWN))
    if bad.any():
        raise ValueError(
            f"{path}: row {np.argmax(bad) + 1} holds a non-finite number or a label other than 0, 1, -1"
        )
    return values[:, 1:], values[:, 0].astype(np.int8)


def read_cutout(path):
    """Read and check one FITS cutout.

    Parameters
    ----------
    path : path-like or binary file object
        The FITS file; its first image with data counts.

    Returns
    -------
    image : numpy.ndarray
        Pixels [DN], float32, shape (height, width).
    header : astropy.io.fits.Header

    Raises
    ------
    CutoutError
        If the file cannot be used as a cutout.
    """
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


def check_cutout(name, data, header):
    """Raise a CutoutError unless data and header make a usable cutout.

    Parameters
    ----------
    name : str
        What to call the cutout in the message.
    data : numpy.ndarray
        Pixels [DN].
    header : mapping
        FITS header.
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


def csv_name(number):
    """Return the name of the table of a normalization by its technique number; 0 is raw."""
    return f"norm_{number}_image_data.csv" if number else "raw_image_data.csv"


def _parquet():
    """Return the module that knows Parquet, which builds on this one."""
    return import_module("ztf_sg.cutouts.arrow")


def _of_one_shape(images, headers, paths, on_error, skipped):
    """Return the cutouts of the commonest shape; raise for the others, or list them as skipped."""
    (height, width), _ = Counter(image.shape for image in images).most_common(1)[0]
    fits_in = [image.shape == (height, width) for image in images]
    for image, path, good in zip(images, paths, fits_in, strict=True):
        if good:
            continue
        reason = f"{path.name}: expected {height} x {width} px, got {image.shape[0]} x {image.shape[1]}"
        if on_error == "raise":
            raise CutoutError(f"{reason}; {REMEDY}")
        skipped.append({"name": path.name, "reason": reason})
    return (list(compress(column, fits_in)) for column in (images, headers, paths))


def list_cutouts(folder):
    """Return the FITS files of a folder in natural order of their names; see :func:`load_cutouts`."""
    folder = Path(folder)
    if folder.is_file():
        raise FileNotFoundError(f"{folder}: is a file; name the folder that holds it")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; make cutouts with notebook 2 or name another")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith((".fits", ".fit"))]
    if not names:
        raise FileNotFoundError(
            f"{folder}: holds no FITS files; make cutouts with notebook 2 or name another"
        )
    return [folder / name for name in sorted(names, key=natural_key)]


def _read_ahead(paths):
    """Yield each path with what :func:`~ztf_sg.cutouts.plain_fits.read_plain_image` makes of it, in order.

    Threads hide the wait for a disk or a network, and do no harm when the files are in memory. Processes
    would have to send the pixels back, which takes longer than reading them.
    """
    chunks = [paths[start : start + READ_CHUNK] for start in range(0, len(paths), READ_CHUNK)]
    if len(chunks) == 1:
        yield from _read_plain(paths)
        return
    with ThreadPoolExecutor(min(READERS, len(chunks))) as readers:
        for found in readers.map(_read_plain, chunks):
            yield from found


def _read_plain(paths):
    return [(path, _read_one_plain(path)) for path in paths]


def _read_one_plain(path):
    try:
        return read_plain_image(path, NUMBER_KEYS, TEXT_KEYS)
    except OSError:  # which is told of when it is the file's turn
        return None


def _usable(path, plain):
    """Return pixels and the header values in use of a cutout, its projection among them."""
    if plain:
        image, header, projection = plain
        check_cutout(str(path), image, header)
    else:
        image, header = read_cutout(path)
        projection = projection_cards(header)
        header = {key: header[key] for key in (*NUMBER_KEYS, *TEXT_KEYS) if key in header}
    return image, header | {PROJECTION: projection}


def _what_is_wrong(path):
    """Return why a file, or a file object in memory, is no complete FITS file."""
    if hasattr(path, "read"):
        path.seek(0)
        start = path.read(6)
    else:
        try:
            start = Path(path).read_bytes()[:6]
        except OSError as error:
            return f"cannot be read ({error.strerror})"
    if not start:
        return "is empty"
    return "is cut short" if start == b"SIMPLE" else "is not a FITS file"


def _metadata_table(paths, headers, shape):
    ra, dec = _centres(paths, headers, shape)
    table = pd.DataFrame({"name": [path.stem for path in paths], "ra": ra, "dec": dec})
    for key in HEADER_KEYS:
        values = [header.get(key) for header in headers]
        table[key.lower()] = values if key in TEXT_KEYS else np.array(values, dtype=float)
    return table


def _centres(paths, headers, shape):
    """Return RA and DEC [deg] of the centres of cutouts, all of one projection at a time."""
    reference = [[header.get(key, np.nan) for key in ("CRPIX1", "CRPIX2")] for header in headers]
    centre = np.array([(shape[1] + 1) / 2, (shape[0] + 1) / 2])
    offsets = centre - np.array(reference, dtype=float).reshape(-1, 2)
    groups = {}
    for row, header in enumerate(headers):
        if "CRVAL1" in header and "CRPIX1" in header:
            groups.setdefault(header[PROJECTION], []).append(row)
    sky = np.full((len(headers), 2), np.nan)
    for projection, rows in groups.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FITSFixedWarning)
                sky[rows] = sky_positions(projection, offsets[rows])
        except (WcsError, ValueError) as error:
            names = ", ".join(paths[row].name for row in rows[:3])
            warnings.warn(f"{names}: the WCS cannot be used, ra and dec are NaN ({error})", stacklevel=4)
    return sky[:, 0], sky[:, 1]


def _warn_of_mixtures(folder, labels, table):
    unknown = int(np.sum(labels == UNKNOWN))
    if unknown:
        warnings.warn(
            f"{folder}: {unknown} of {len(labels)} names start with neither star_ nor galaxy_; labelled -1",
            stacklevel=3,
        )
    origins = sorted(table["origin"].astype(str).unique())
    if len(origins) > 1:
        warnings.warn(f"{folder}: mixes cutouts of several origins: {', '.join(origins)}", stacklevel=3)
