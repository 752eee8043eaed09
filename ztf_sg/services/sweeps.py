"""Sweep files of the DESI Legacy Imaging Surveys, on disk or at URLs.

They are described at https://www.legacysurvey.org/dr10/files/#sweep-catalogs-region-sweep.
"""

import io
import re
import zlib
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path

import numpy as np
import pandas as pd
import requests
import urllib3
from astropy.io import fits

from .download import CONNECT_TIMEOUT, READ_TIMEOUT, REMEDY, check_in_order
from .errors import BadAnswer, RefusedRequest, ServiceError, Unreachable
from .legacy_survey import COLUMNS, adql_conditions, check_region, columns_of_cuts, join_answers, passes
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries

CHUNK_ROWS = 2**16  # rows in memory at a time
PART = 2**18  # bytes asked of the line at a time
SWEEP_NAME = re.compile(r"sweep-(\d{3})([pm])(\d{3})-(\d{3})([pm])(\d{3})")


class LegacySurveySweeps:
    """The Tractor catalogue as sweep files, on disk or at URLs.

    Parameters
    ----------
    files : sequence of str or path-like
        Sweep files. Those whose name, such as ``sweep-000m005-010p000.fits``, says that they lie outside the
        region that is asked for are not opened.
    cache : path-like, optional
        Folder in which the selections are kept.
    retries : Retries, optional
        How often and how patiently the server of a URL is asked again.
    """

    def __init__(self, files, cache=None, retries=None):
        self.files = [str(file) for file in files]
        self.cache = QueryCache(cache)
        self.retries = retries or Retries(tries=TRIES_ONE_BY_ONE)

    def __repr__(self):
        return f"<{type(self).__name__}: {len(self.files)} files>"

    def query_region(self, ra, dec, limits=None, max_fracflux=None, progress=True):
        """Return the objects of a rectangle on the sky, as `LegacySurvey.query_region` does.

        Parameters
        ----------
        ra, dec : (float, float)
            Bounds [deg]; the first right ascension may exceed the second, across RA 0.
        limits : dict of str to float, optional
            Faint limit [mag, AB] for each band.
        max_fracflux : float, optional
            Largest share (0..1) of an object's flux that may belong to neighbours, in every band.
        progress : bool
            Show a progress bar if more than one file has to be read.

        Returns
        -------
        pandas.DataFrame
            One row per object, with the columns `COLUMNS` and ``attrs["queries"]``.

        Raises
        ------
        FileNotFoundError, ValueError, RefusedRequest, BadAnswer, Unreachable, ServiceDown
            As `read_sweep`.
        NothingFound
            There is no such object.
        """
        check_region(ra, dec)
        files = [file for file in self.files if _may_overlap(file, ra, dec)]
        ranges = " AND ".join(
            f"{name} {float(low)!r}..{float(high)!r}" for name, (low, high) in (("ra", ra), ("dec", dec))
        )
        query = f"{', '.join(COLUMNS)} WHERE {ranges} AND {adql_conditions(dec, limits, max_fracflux)}"
        cuts = {"limits": limits, "max_fracflux": max_fracflux, "ra": ra, "dec": dec, "retries": self.retries}
        questions = [(_identity(file), query) for file in files]
        bar = self.cache.progress_bar(files, questions, "file", progress)
        answers = [
            self.cache.get(*question, lambda file=file: read_sweep(file, **cuts))
            for file, question in zip(bar, questions, strict=True)
        ]
        return join_answers(answers, repr(self), ra, dec)


def read_sweep(path, columns=COLUMNS, limits=None, max_fracflux=None, ra=None, dec=None, retries=None):
    """Read a sweep file of the Legacy Surveys, or those of its objects that pass some cuts.

    The file is read from its beginning to its end in chunks, of which only the columns and rows wanted are
    kept: it may be larger than the memory, and one at a URL is not stored. A connection that breaks is taken
    up where it broke.

    Parameters
    ----------
    path : str or path-like
        A FITS table with upper-case columns, such as ``sweep-000m005-010p000.fits``; a local file or a URL.
    columns : sequence of str, optional
        Names of the columns to keep; None means all.
    limits, max_fracflux, ra, dec : optional
        Cuts, as in `LegacySurvey.query_region`.
    retries : Retries, optional
        How often and how patiently the server of a URL is asked again.

    Returns
    -------
    pandas.DataFrame
        One row per object, the columns as named: ``RA``, ``DEC`` [deg], ``TYPE`` (str, no padding),
        ``FLUX_*`` [nanomaggies], ``FRACFLUX_*`` [fraction], ``SHAPE_R`` [arcsec].

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no complete FITS table, lacks columns, or has them in a form that is not understood.
    RefusedRequest, BadAnswer, Unreachable, ServiceDown
        The server refuses the URL, answers a web page, cannot be reached, or is out of order for long.
    """
    try:
        with _open_sweep(str(path), retries) as stream:
            header = _table_header(stream, path)
            chunks = _chunks(stream, header, columns, (limits, max_fracflux, ra, dec), path)
            return pd.concat(list(chunks), ignore_index=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no sweep file {path}: download it, or correct the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _incomplete(path, error) from error


@contextmanager
def _open_sweep(path, retries):
    """Open a local file or a URL as a buffered stream; gzip-compressed ones are unpacked."""
    remote = path.startswith(("http://", "https://"))
    raw = _HttpFile(path, retries or Retries(tries=TRIES_ONE_BY_ONE)) if remote else io.FileIO(path)
    with io.BufferedReader(raw, PART) as stream:
        yield GzipFile(fileobj=stream) if stream.peek(2)[:2] == b"\x1f\x8b" else stream


def _table_header(stream, path):
    """Read on to the data of the first table of a FITS stream, and return its header."""
    if stream.peek(6)[:6] != b"SIMPLE":
        raise _incomplete(path, "it does not begin like one")
    while stream.peek(1):
        try:
            header = fits.Header.fromfile(stream)
        except (OSError, EOFError, ValueError) as error:
            raise _incomplete(path, error) from error
        if header.get("XTENSION") == "BINTABLE":
            return header
        left = header.data_size_padded
        while left and (part := stream.read(min(left, PART))):
            left -= len(part)
    raise ValueError(f"{path} is a FITS file without a table; a Legacy Survey sweep file is needed")


def _chunks(stream, header, columns, cuts, path):
    """Yield the rows that pass the cuts, and the columns wanted of them, chunk by chunk."""
    definitions = fits.BinTableHDU.fromstring(header.tostring().encode()).columns
    columns = definitions.names if columns is None else columns
    needed = [*columns, *columns_of_cuts(*cuts)]
    missing = [name for name in dict.fromkeys(needed) if name not in definitions.names]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; is it a Legacy Survey sweep file?")
    for name in needed:
        _check_definition(definitions[name], path)
    dtype = definitions.dtype.newbyteorder(">")
    for start in range(0, max(header["NAXIS2"], 1), CHUNK_ROWS):
        size = min(CHUNK_ROWS, header["NAXIS2"] - start) * dtype.itemsize
        data = stream.read(size)
        if len(data) < size:
            raise _incomplete(path, f"it ends before row {min(start + CHUNK_ROWS, header['NAXIS2'])}")
        rows = np.frombuffer(data, dtype)
        keep = passes(rows, *cuts)
        yield pd.DataFrame({name: _native(rows[name][keep], definitions[name]) for name in columns})


def _check_definition(column, path):
    """Refuse columns whose bytes are not their values."""
    scaled = column.bscale not in (None, "", 1) or column.bzero not in (None, "", 0)
    if scaled or _letter(column) in "PQX":
        raise ValueError(
            f"{path}: column {column.name} is scaled, of variable length or of bits, which is not understood "
            "here; read the file with astropy.table.Table.read"
        )


def _letter(column):
    return str(column.format).lstrip("0123456789")[0]


def _native(values, column):
    """Copy a FITS column: text stripped, truth values as such, numbers in the byte order of this machine."""
    if values.dtype.kind == "S":
        return np.char.strip(values.astype(str))
    if _letter(column) == "L":
        return values == ord("T")
    return values.astype(values.dtype.newbyteorder("="))


def _incomplete(path, reason):
    return ValueError(f"{path} is not a complete FITS table ({reason}); download it again")


class _HttpFile(io.RawIOBase):
    """The bytes of a URL, once and in order; where the connection breaks, a new one goes on."""

    def __init__(self, url, retries):
        self._url = url
        self._retries = retries
        self._answer = None
        self._position = 0
        self._version = None

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self._retries.call(lambda: self._read(min(len(buffer), PART)))
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self):
        self._disconnect()
        super().close()

    def _read(self, size):
        try:
            if self._answer is None:
                self._connect()
            part = self._answer.raw.read(size)
            if not part and self._position < (self._version[0] or 0):
                raise ConnectionError(f"the connection ended at byte {self._position}")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            self._disconnect()
            raise Unreachable(f"{self._url}: {error}; {REMEDY}, or a downloaded sweep file") from error
        except ServiceError:
            self._disconnect()
            raise
        return part

    def _connect(self):
        """Open a connection at the present position, if need be by reading up to it once more."""
        headers = {"Accept-Encoding": "identity"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        limits = (CONNECT_TIMEOUT, READ_TIMEOUT)
        self._answer = requests.get(self._url, stream=True, timeout=limits, headers=headers)
        self._check_answer()
        skipped = self._position if self._answer.status_code == 206 else 0
        length = self._answer.headers.get("Content-Length")
        version = length and int(length) + skipped, self._answer.headers.get("ETag")
        if self._version not in (None, version):
            raise RefusedRequest(f"{self._url} has changed since its first part was read; start again")
        self._version = version
        while skipped < self._position:
            part = self._answer.raw.read(min(PART, self._position - skipped))
            if not part:
                raise ConnectionError(f"the connection ended at byte {skipped}")
            skipped += len(part)

    def _check_answer(self):
        status, headers = self._answer.status_code, self._answer.headers
        told = f"{self._url}: HTTP status {status}"
        check_in_order(status, headers, told)
        if status >= 400:
            raise RefusedRequest(f"{told}; check the URL")
        first = headers.get("Content-Range", "")
        if status == 206 and not first.startswith(f"bytes {self._position}-"):
            raise BadAnswer(f"{self._url}: asked for the bytes from {self._position} on, got {first!r}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise BadAnswer(f"{self._url} answered a web page; is there a log-in page of your network?")

    def _disconnect(self):
        if self._answer is not None:
            self._answer.close()
        self._answer = None


def _identity(file):
    """Return what tells a sweep file from another one: its URL, or its path, size and time of change."""
    path = Path(file)
    if file.startswith(("http://", "https://")) or not path.exists():
        return file
    status = path.stat()
    return f"{path.resolve()} of {status.st_size} bytes, changed {status.st_mtime_ns}"


def _may_overlap(file, ra, dec):
    """Tell whether a sweep file may hold objects of a region, as far as its name says."""
    match = SWEEP_NAME.search(file.rsplit("/")[-1])
    if not match:
        return True
    west, south_sign, south, east, north_sign, north = match.groups()
    south, north = (
        int(value) * (-1 if sign == "m" else 1) for sign, value in ((south_sign, south), (north_sign, north))
    )
    pieces = [ra] if ra[0] <= ra[1] else [(ra[0], 360), (0, ra[1])]
    beside = all(last < int(west) or first > int(east) for first, last in pieces)
    return not beside and dec[0] <= north and dec[1] >= south
