"""Sweep files of the DESI Legacy Imaging Surveys, on disk or at URLs.

They are described at https://www.legacysurvey.org/dr10/files/#sweep-catalogs-region-sweep.
"""

import io
import re
import zlib
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from astropy.io import fits

from ztf_sg.files import local_path

from .errors import BadAnswer, RefusedRequest
from .http import REFUSALS, HttpSession
from .retries import TRIES_ONE_BY_ONE, Retries
from .tractor import COLUMNS, TractorCatalogue

CHUNK_ROWS = 2**16  # rows in memory at a time
PART = 2**18  # bytes asked of the line at a time
SWEEP_NAME = re.compile(r"sweep-(\d{3})([pm]\d{3})-(\d{3})([pm]\d{3})")


class LegacySurveySweeps(TractorCatalogue):
    """The Tractor catalogue as sweep files; errors about a file are those of `read_sweep`.

    Parameters
    ----------
    files : sequence of str or path-like
        On disk or at URLs. Those that lie outside the region by their name, such as
        ``sweep-000m005-010p000.fits``, are not opened.
    cache, retries
        As of `TractorCatalogue`; the selections from the files are kept.
    """

    _unit = "file"

    def __init__(self, files, cache=None, retries=None):
        super().__init__(cache, retries)
        self.files = [str(file) if "://" in str(file) else str(local_path(file)) for file in files]

    def __repr__(self):
        return f"<{type(self).__name__}: {len(self.files)} files>"

    def _parts(self, cuts):
        return [file for file in self.files if _may_overlap(file, cuts)]

    def _question(self, file, cuts):
        ranges = " OR ".join(f"ra BETWEEN {west!r} AND {east!r}" for west, east in cuts.ra_ranges)
        return _identity(file), f"{', '.join(COLUMNS)} WHERE ({ranges}) AND {cuts.adql}"

    def _answers(self, file, cuts):
        question = self._question(file, cuts)
        return [self.cache.get(*question, lambda: read_sweep(file, COLUMNS, cuts, self.retries))]


def read_sweep(path, columns=COLUMNS, cuts=None, retries=None):
    """Read a sweep file, or those of its objects that pass some cuts.

    The file is read once from its beginning to its end, and only the columns and rows wanted are kept: it may
    be larger than the memory, and one at a URL is not stored. Where a connection breaks, a new one goes on.

    Parameters
    ----------
    path : str or path-like
        A FITS table, perhaps compressed by gzip, on disk or at a URL.
    columns : sequence of str, optional
        Names of the columns to keep; None means all.
    cuts : Cuts, optional
        Which objects to keep; the file must have the columns `COLUMNS` then.
    retries : Retries, optional
        As of `TractorCatalogue`, for the server of a URL.

    Returns
    -------
    pandas.DataFrame
        One row per object, in native byte order, text without padding.

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
            return pd.concat(list(_chunks(stream, header, columns, cuts, path)), ignore_index=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no sweep file {path}: download it, or correct the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _incomplete(path, error) from error


@contextmanager
def _open_sweep(path, retries):
    """Open a local file or a URL as a buffered stream; gzip-compressed ones are unpacked."""
    is_url = path.startswith(("http://", "https://"))
    retries = retries or Retries(tries=TRIES_ONE_BY_ONE)
    raw = _HttpFile(path, retries) if is_url else io.FileIO(local_path(path))
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
    needed = [*columns, *(COLUMNS if cuts else ())]
    missing = [name for name in dict.fromkeys(needed) if name not in definitions.names]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; is it a Legacy Survey sweep file?")
    for column in (definitions[name] for name in needed):
        # the bytes of such columns are not their values
        is_scaled = column.bscale not in (None, "", 1) or column.bzero not in (None, "", 0)
        if re.match(r"\d*[PQX]", column.format) or is_scaled:
            raise ValueError(
                f"{path}: column {column.name} is scaled, of variable length or of bits, which is not "
                "understood here; read the file with astropy.table.Table.read"
            )
    dtype = definitions.dtype.newbyteorder(">")
    for start in range(0, max(header["NAXIS2"], 1), CHUNK_ROWS):
        size = min(CHUNK_ROWS, header["NAXIS2"] - start) * dtype.itemsize
        data = stream.read(size)
        if len(data) < size:
            raise _incomplete(path, f"it ends before row {min(start + CHUNK_ROWS, header['NAXIS2'])}")
        rows = np.frombuffer(data, dtype)
        keep = cuts.passes(rows) if cuts else slice(None)
        yield pd.DataFrame({name: _native(rows[name][keep], definitions[name].format) for name in columns})


def _native(values, form):
    """Copy a FITS column: text stripped, truth values as such, numbers in the byte order of this machine."""
    if values.dtype.kind == "S":
        return np.char.strip(values.astype(str))
    if "L" in form:
        return values == ord("T")
    return values.astype(values.dtype.newbyteorder("="))


def _incomplete(path, reason):
    return ValueError(f"{path} is not a complete FITS table ({reason}); download it again")


class _HttpFile(io.RawIOBase):
    """The bytes of a URL, once and in order; where the connection breaks, a new one goes on."""

    def __init__(self, url, retries):
        parts = urlsplit(url)
        self._url, self._name, self._retries = url, parts.path, retries
        self._session = HttpSession(parts.netloc.rpartition("@")[-1], connections=1)
        self._answer = None
        self._position = 0
        self._version = None

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), PART)
        part = self._retries.call(self._session.guard, self._name, lambda: self._read(size))
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self):
        if self._answer is not None:
            self._answer.close()
        super().close()

    def _read(self, size):
        """Return the next bytes; after a fault, the next call connects anew."""
        answer = self._connect() if self._answer is None else self._answer
        self._answer = None
        part = answer.raw.read(size)
        self._answer = answer
        return part

    def _connect(self):
        """Open a connection at the present position, if need be by reading up to it once more."""
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        try:
            answer = self._session.open("GET", self._url, self._name, headers=headers)
        except REFUSALS as error:
            raise RefusedRequest(f"{error}; check the URL") from error
        headers = answer.headers
        if headers.get("Content-Type", "").startswith("text/html"):
            raise BadAnswer(f"{self._name} is a web page; is there a log-in page of your network?")
        skipped = self._position if answer.status_code == 206 else 0
        first = headers.get("Content-Range", "")
        if skipped and not first.startswith(f"bytes {skipped}-"):
            raise BadAnswer(f"{self._name}: asked for the bytes from {skipped} on, got {first!r}")
        length = headers.get("Content-Length")
        version = length and int(length) + skipped, headers.get("ETag")
        if self._version not in (None, version):
            raise RefusedRequest(f"{self._name} has changed since its first part was read; start again")
        self._version = version
        while skipped < self._position:
            part = answer.raw.read(min(PART, self._position - skipped))
            if not part:
                raise BadAnswer(f"{self._name} ended before byte {self._position}, where it was broken off")
            skipped += len(part)
        return answer


def _identity(file):
    """Return what a sweep file is known by: its URL, or its path, size and time of change."""
    path = Path(file)
    if not path.exists():
        return file
    status = path.stat()
    return f"{path.resolve()} of {status.st_size} bytes, changed {status.st_mtime_ns}"


def _may_overlap(file, cuts):
    """Say whether a sweep file may hold objects of a region, as far as its name tells."""
    match = SWEEP_NAME.search(file.rsplit("/")[-1])
    if not match:
        return True
    west, south, east, north = (int(bound.replace("p", "+").replace("m", "-")) for bound in match.groups())
    beside = all(last < west or first > east for first, last in cuts.ra_ranges)
    return not beside and cuts.dec[0] <= north and cuts.dec[1] >= south
