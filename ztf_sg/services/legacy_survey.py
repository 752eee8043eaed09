"""Catalogues of the DESI Legacy Imaging Surveys: sweep files, and the tables at Astro Data Lab.

The Tractor catalogues are described at https://www.legacysurvey.org/dr10/catalogs/.
Fluxes are in nanomaggies: mag = 22.5 - 2.5 log10(flux).
"""

import http.client
import io
import re
import socket
import time
import zlib
from contextlib import contextmanager, suppress
from gzip import GzipFile
from math import ceil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import requests
import urllib3
from astropy.io import fits, votable
from astroquery.utils.tap.conn.tapconn import TapConn
from astroquery.utils.tap.core import TapPlus
from tqdm.auto import tqdm

from .errors import BadAnswer, NothingFound, RefusedRequest, ServiceError, Unreachable
from .query_cache import QueryCache
from .retries import Retries

TAP_URL = "https://datalab.noirlab.edu/tap"
TABLES = {"dr9": "ls_dr9.tractor", "dr10": "ls_dr10.tractor"}
BANDS = ("g", "r", "z")
COLUMNS = (
    "RA",
    "DEC",
    "TYPE",
    *(f"FLUX_{band.upper()}" for band in BANDS),
    *(f"FRACFLUX_{band.upper()}" for band in BANDS),
    "SHAPE_R",
)
STRIP_AREA = 1.0  # of a region, asked for at once [deg2]: some 150,000 objects, if no cut is made
NARROWEST_STRIP = 0.001  # what is too much for the service is asked for in halves, down to this [deg of RA]
MAX_ROWS = 500_000  # of one answer
LONGEST_JOB = 1800.0  # from the beginning of a job to its end, queue included [s]
POLL_FIRST, POLL_LONGEST = 0.5, 10.0  # the wait between two looks at a job doubles from one to the other [s]
TIMEOUT = 120  # seconds without a byte from the service; a waiting job is polled, so it may take longer
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60  # for sweep files: to connect, and between two parts [s]
TRIES = 20  # one request at a time is no burden: let the patience of `Retries` end before its tries
CHUNK_ROWS = 2**16  # rows of a sweep file in memory at a time
PART = 2**18  # bytes of a sweep file asked of the line at a time

WAITING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")
TOO_LARGE = "TOO_LARGE"  # the only column of what is kept of a query that the service could not manage
SWEEP_NAME = re.compile(r"sweep-(\d{3})([pm])(\d{3})-(\d{3})([pm])(\d{3})")
REMEDY = "try again later, or use the simulated sky (OFFLINE = True)"


class LegacySurvey:
    """The Tractor catalogue of one data release at NOIRLab's Astro Data Lab, asked by ADQL over TAP.

    Parameters
    ----------
    release : {"dr10", "dr9"}
        Data release. DR10 covers the sky south of about DEC +32 deg.
    cache : path-like, optional
        Folder in which answers are kept, so that a query that was interrupted goes on where it was.
    retries : Retries, optional
        How often and how patiently the service is asked again.

    Examples
    --------
    >>> LegacySurvey("dr9")
    LegacySurvey('dr9')
    """

    def __init__(self, release="dr10", cache=None, retries=None):
        if release not in TABLES:
            raise ValueError(f"unknown Legacy Survey release {release!r}; known: {', '.join(sorted(TABLES))}")
        self.release = release
        self.cache = QueryCache(cache)
        self.retries = retries or Retries(tries=TRIES)

    def __repr__(self):
        return f"{type(self).__name__}({self.release!r})"

    def query_region(self, ra, dec, limits=None, max_fracflux=None, progress=True):
        """Return the objects of a rectangle on the sky.

        The region is asked for in strips of right ascension of at most `STRIP_AREA`. A strip that is too
        much for the service, in rows or in time, is asked for in halves.

        Parameters
        ----------
        ra : (float, float)
            Bounds in right ascension [deg, 0..360]; the first may exceed the second, across RA 0.
        dec : (float, float)
            Bounds in declination [deg], the lower first.
        limits : dict of str to float, optional
            Faint limit [mag, AB] for each band, such as ``{"g": 20.5, "r": 20, "z": 19}``.
        max_fracflux : float, optional
            Largest share (0..1) of an object's flux that may belong to neighbours, in every band.
        progress : bool
            Show a progress bar if more than one strip has to be asked for.

        Returns
        -------
        pandas.DataFrame
            One row per object, with the columns `COLUMNS` and their units as in a sweep file. Its
            ``attrs["queries"]`` has service, query, date, rows and cached (bool) of each answer; see
            `describe_queries`.

        Raises
        ------
        ValueError
            The bounds or limits make no sense.
        NothingFound
            There is no such object.
        RefusedRequest
            The service found fault with the query, or cannot manage even the narrowest strip of the region.
        BadAnswer, Unreachable, ServiceDown
            The service answered something else, could not be reached, or was out of order for long.
        """
        strips = region_strips(ra, dec)
        conditions = _conditions(dec, limits, max_fracflux)
        questions = [(TAP_URL, self._adql(strip, conditions)) for strip in strips]
        answers = []
        for strip in _progress_bar(strips, questions, self.cache, progress, "strip"):
            answers += self._answers(strip, conditions)
        return _together(answers, TABLES[self.release], ra, dec)

    def _adql(self, strip, conditions):
        columns = ", ".join([name.lower() for name in COLUMNS] + ["brick_primary"])
        return f"SELECT {columns} FROM {TABLES[self.release]} WHERE {strip.condition} AND {conditions}"

    def _answers(self, strip, conditions):
        """Return the answer for a strip, or if that is too large the answers for its parts."""
        query = self._adql(strip, conditions)
        answer = self.cache.get(TAP_URL, query, lambda: self._ask(query))
        if TOO_LARGE not in answer:
            return [answer]
        return [part for half in strip.halves() for part in self._answers(half, conditions)]

    def _ask(self, query):
        try:
            return self.retries.call(_Job(query).run)
        except _TooLarge:
            return pd.DataFrame({TOO_LARGE: []})


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
        self.retries = retries or Retries(tries=TRIES)

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
        _check_region(ra, dec)
        files = [file for file in self.files if _may_overlap(file, ra, dec)]
        ranges = " AND ".join(f"{name} {low:g}..{high:g}" for name, (low, high) in (("ra", ra), ("dec", dec)))
        query = f"{', '.join(COLUMNS)} WHERE {ranges} AND {_conditions(dec, limits, max_fracflux)}"
        cuts = {"limits": limits, "max_fracflux": max_fracflux, "ra": ra, "dec": dec, "retries": self.retries}
        questions = [(_identity(file), query) for file in files]
        answers = [
            self.cache.get(_identity(file), query, lambda file=file: read_sweep(file, **cuts))
            for file in _progress_bar(files, questions, self.cache, progress, "file")
        ]
        return _together(answers, repr(self), ra, dec)


class Strip(NamedTuple):
    """A range of right ascension: from `west` to `east` [deg], the latter included only if it is `closed`."""

    west: float
    east: float
    closed: bool

    @property
    def condition(self):
        """The range in ADQL."""
        return f"ra >= {self.west!r} AND ra {'<=' if self.closed else '<'} {self.east!r}"

    def halves(self):
        """Return the western and the eastern half; a RefusedRequest if there is nothing left to halve."""
        if self.east - self.west < 2 * NARROWEST_STRIP:
            raise RefusedRequest(
                f"{TAP_URL} cannot manage even RA {self.west:.5f}..{self.east:.5f} deg, in rows or in time; "
                "ask for a smaller range of declination or brighter objects"
            )
        middle = (self.west + self.east) / 2
        return Strip(self.west, middle, False), Strip(middle, self.east, self.closed)


def region_strips(ra, dec):
    """Cut a rectangle on the sky into strips that together hold each right ascension once.

    Parameters
    ----------
    ra, dec : (float, float)
        Bounds [deg]; the first right ascension may exceed the second, across RA 0.

    Returns
    -------
    list of Strip
        From west to east, each of at most `STRIP_AREA`.

    Raises
    ------
    ValueError
        The bounds make no sense.
    """
    (west, east), (south, north) = _check_region(ra, dec)
    height = np.degrees(np.sin(np.radians(north)) - np.sin(np.radians(south)))
    strips = []
    for first, last in [(west, east)] if west < east else [(west, 360.0), (0.0, east)]:
        count = max(1, ceil((last - first) * height / STRIP_AREA))
        edges = np.linspace(first, last, count + 1).tolist()
        strips += [Strip(*edges[i : i + 2], closed=i == count - 1) for i in range(count)]
    return strips


def describe_queries(table):
    """Say in a line what a table from a service is made of: what was asked now, what had been kept.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``query_region`` or ``crossmatch_gaia``.

    Returns
    -------
    str
        Such as "26 queries of https://datalab.noirlab.edu/tap, 200,123 rows: 26 from the cache of
        2026-11-25".
    """
    records = table.attrs.get("queries", [])
    if not records:
        return "no query was sent"
    services = sorted({record["service"] for record in records})
    days = sorted({record["date"][:10] for record in records if record["cached"]})
    kept = sum(record["cached"] for record in records)
    parts = [f"{len(records) - kept} sent now"] * (kept < len(records))
    parts += [f"{kept} from the cache of {' to '.join(sorted({days[0], days[-1]}))}"] if kept else []
    where = services[0] if len(services) == 1 else f"{len(services)} files"
    queries = "1 query" if len(records) == 1 else f"{len(records)} queries"
    return f"{queries} of {where}, {sum(record['rows'] for record in records):,} rows: {', '.join(parts)}"


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
    raw = _HttpFile(path, retries or Retries(tries=TRIES)) if remote else io.FileIO(path)
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
    needed = [*columns, *_cut_columns(*cuts)]
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
        keep = _passes(rows, *cuts)
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


def _cut_columns(limits, max_fracflux, ra, dec):
    """Return the columns that some cuts need."""
    fluxes = [f"FLUX_{band.upper()}" for band in _check_bands(limits)]
    shares = [f"FRACFLUX_{band.upper()}" for band in BANDS] if max_fracflux is not None else []
    return [*fluxes, *shares, *["RA"] * (ra is not None), *["DEC"] * (dec is not None)]


def _passes(rows, limits, max_fracflux, ra, dec):
    """Return which rows of a sweep file pass the cuts, shape (n,)."""
    keep = np.ones(len(rows), dtype=bool)
    if ra is not None:
        after, before = rows["RA"] >= ra[0], rows["RA"] <= ra[1]
        keep &= after & before if ra[0] <= ra[1] else after | before
    if dec is not None:
        keep &= (rows["DEC"] >= dec[0]) & (rows["DEC"] <= dec[1])
    for band, limit in (limits or {}).items():
        keep &= rows[f"FLUX_{band.upper()}"].astype(float) > _flux(limit)
    for band in BANDS if max_fracflux is not None else ():
        share = rows[f"FRACFLUX_{band.upper()}"]
        keep &= (share >= 0) & (share <= max_fracflux)
    return keep


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
            raise BadAnswer(f"{self._url} has changed since its first part was read; start again")
        self._version = version
        while skipped < self._position:
            part = self._answer.raw.read(min(PART, self._position - skipped))
            if not part:
                raise ConnectionError(f"the connection ended at byte {skipped}")
            skipped += len(part)

    def _check_answer(self):
        status, headers = self._answer.status_code, self._answer.headers
        _check_status(status, headers, f"{self._url}: HTTP status {status}", "check the URL")
        first = headers.get("Content-Range", "")
        if status == 206 and not first.startswith(f"bytes {self._position}-"):
            raise BadAnswer(f"{self._url}: asked for the bytes from {self._position} on, got {first!r}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise BadAnswer(f"{self._url} answered a web page; is there a log-in page of your network?")

    def _disconnect(self):
        if self._answer is not None:
            self._answer.close()
        self._answer = None


def _check_status(status, headers, told, remedy):
    """Raise `Unreachable` if a service is busy or out of order, `RefusedRequest` if it finds fault."""
    if status == 429 or status >= 500:
        wait = headers.get("Retry-After") or ""
        raise Unreachable(f"{told}; {REMEDY}", float(wait) if wait.isdigit() else 0.0)
    if status >= 400:
        raise RefusedRequest(f"{told}; {remedy}")


def _identity(file):
    """Return what tells a sweep file from another one: its URL, or its name and size."""
    if file.startswith(("http://", "https://")):
        return file
    path = Path(file)
    return f"{path.name} of {path.stat().st_size} bytes" if path.exists() else path.name


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


def _progress_bar(parts, questions, cache, progress, unit):
    """Return the parts under a progress bar, which shows if more than one has no answer in the cache."""
    kept = set(cache.report()[["service", "query"]].itertuples(index=False, name=None))
    new = sum(question not in kept for question in questions)
    return tqdm(parts, unit=unit, disable=not progress or new < 2)


def _together(answers, catalogue, ra, dec):
    """Join answers into one table that knows where each came from."""
    tables = [answer for answer in answers if len(answer)]
    if not tables:
        region = f"RA {ra[0]:g}..{ra[1]:g}, DEC {dec[0]:g}..{dec[1]:g} deg"
        raise NothingFound(f"{catalogue} holds no object in {region} within the limits given")
    records = [answer.attrs["query"] for answer in answers]
    table = pd.concat(tables, ignore_index=True)
    table.attrs = {"queries": records}
    return table


def _check_region(ra, dec):
    """Return the bounds as floats, or raise a ValueError."""
    (west, east), (south, north) = (map(float, ra), map(float, dec))
    if not (0 <= west <= 360 and 0 <= east <= 360 and west != east):
        raise ValueError(f"ra={ra}: expected two different bounds within 0..360 deg")
    if not -90 <= south < north <= 90:
        raise ValueError(f"dec={dec}: expected the lower, then the upper bound within -90..90 deg")
    return (west, east), (south, north)


def _check_bands(limits):
    """Return the limits, or an empty dict, or raise a ValueError."""
    unknown = sorted(set(limits or {}) - set(BANDS))
    if unknown:
        raise ValueError(f"limits for unknown bands {', '.join(unknown)}; known: {', '.join(BANDS)}")
    return limits or {}


def _flux(magnitude):
    return 10 ** (0.4 * (22.5 - magnitude))


def _conditions(dec, limits, max_fracflux):
    """Write all but the right ascension of a query in ADQL."""
    south, north = map(float, dec)
    conditions = [f"dec BETWEEN {south!r} AND {north!r}"]
    conditions += [f"flux_{band} > {_flux(mag):.9g}" for band, mag in _check_bands(limits).items()]
    if max_fracflux is not None:
        conditions += [f"fracflux_{band} BETWEEN 0 AND {float(max_fracflux)!r}" for band in BANDS]
    return " AND ".join(conditions)


class _TooLarge(Exception):
    """The service cut the answer short, or did not finish it in time."""


class _Connection(TapConn):
    """astroquery's connection to a TAP service, with an exception for every answer that says no."""

    def __init__(self, url):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        super().__init__(
            parts.scheme == "https", parts.hostname, server_context=parts.path, port=port, sslport=port
        )

    def execute_tappost(self, *args, **options):
        return self._checked(super().execute_tappost(*args, **options))

    def execute_tapget(self, subcontext, **options):
        response = self._checked(super().execute_tapget(subcontext, **options))
        if response.status in (301, 302, 303, 307):
            return self._checked(super().execute_tapget(response.headers["Location"], **options))
        return response

    def _checked(self, response):
        if response.status >= 400:
            told = f"{TAP_URL} answered HTTP status {response.status} {response.reason}"
            _check_status(
                response.status, response.headers, told, _plain(response.read().decode(errors="replace"))
            )
        return response


class _Job:
    """A query as an asynchronous job, which no time limit of the web server cuts short."""

    def __init__(self, query):
        self.query = query
        self._connection = _Connection(TAP_URL)
        self._job = None

    def run(self):
        """Return the answer; called again after `Unreachable`, it goes on with the job that it has."""
        try:
            with _default_socket_timeout(TIMEOUT), _faults_of(self.query):
                if self._job is None:
                    self._create()
                self._wait()
                return self._fetch()
        except BadAnswer:
            self._job = None
            raise

    def _create(self):
        service = TapPlus(url=TAP_URL, connhandler=self._connection)
        try:
            self._job = service.launch_job_async(self.query, maxrec=MAX_ROWS, background=True)
        except RefusedRequest as error:
            raise RefusedRequest(f"the query {self.query!r} was refused: {error}") from error
        self._deadline = time.monotonic() + LONGEST_JOB

    def _wait(self):
        """Return when the job is completed; raise an exception if it ends in another way."""
        pause = POLL_FIRST
        while (phase := self._phase()) in WAITING:
            if time.monotonic() > self._deadline:
                self._abort()
                if phase == "EXECUTING":
                    raise _TooLarge
                raise Unreachable(f"{TAP_URL} left a query waiting for {LONGEST_JOB:.0f} s; {REMEDY}")
            time.sleep(pause)
            pause = min(2 * pause, POLL_LONGEST)
        if phase == "ERROR":
            self._raise_error()
        if phase == "ABORTED":
            raise _TooLarge
        if phase != "COMPLETED":
            raise BadAnswer(f"{TAP_URL} told no phase of a job, but {phase[:80]!r}; {REMEDY}")

    def _phase(self):
        with _job_is_there():
            return self._job.get_phase(update=True).strip().upper()

    def _raise_error(self):
        reason = "it gave no reason"
        with suppress(RefusedRequest):
            reason = self._job.get_error().removeprefix("Error 200:").strip()
        if re.search(r"time.?out|time limit", reason, re.IGNORECASE):
            raise _TooLarge
        raise RefusedRequest(f"{TAP_URL} failed the query {self.query!r}: {reason}")

    def _fetch(self):
        with _job_is_there():
            response = self._connection.execute_tapget(f"async/{self._job.jobid}/results/result")
        answer = votable.parse(io.BytesIO(response.read()))
        table = answer.get_first_table().to_table(use_names_over_ids=True)
        status = [
            info.value for part in answer.resources for info in part.infos if info.name == "QUERY_STATUS"
        ]
        if "OVERFLOW" in status or len(table) >= MAX_ROWS:
            raise _TooLarge
        return _primary_objects(table.to_pandas())

    def _abort(self):
        """Spare the service the rest of the work, if it can be told so."""
        with suppress(ServiceError, OSError, http.client.HTTPException):
            self._connection.execute_tappost(f"async/{self._job.jobid}/phase", "PHASE=ABORT")
        self._job = None


@contextmanager
def _job_is_there():
    """Turn a refusal into `BadAnswer`: a job that was accepted and cannot be found is to be sent again."""
    try:
        yield
    except RefusedRequest as error:
        raise BadAnswer(f"the service has lost a job: {error}") from error


@contextmanager
def _faults_of(query):
    """Turn the exceptions of astroquery and its HTTP client into ours."""
    try:
        yield
    except requests.exceptions.HTTPError as error:
        raise BadAnswer(f"{TAP_URL} took the query {query!r} for something else: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{TAP_URL}: {error!r}; {REMEDY}") from error
    except (ValueError, IndexError, AttributeError) as error:
        raise BadAnswer(f"{TAP_URL} answered no VOTable ({error}); {REMEDY}") from error


@contextmanager
def _default_socket_timeout(seconds):
    """Give sockets opened inside a time limit: astroquery's TAP client has none of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _plain(text):
    """Return the beginning of the text of a web page or VOTable."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:300]


def _primary_objects(table):
    """Return the columns of a sweep file; like it, leave out the duplicates where bricks overlap."""
    table = table.rename(columns=str.upper)
    missing = [name for name in (*COLUMNS, "BRICK_PRIMARY") if name not in table]
    if missing:
        raise BadAnswer(f"{TAP_URL} answered without the columns {', '.join(missing)}")
    # filtered here and not in ADQL, where it matters whether the service holds a number or a truth value
    primary = table["BRICK_PRIMARY"].astype(str).str.lower().isin(["1", "t", "true"])
    table = table.loc[primary, list(COLUMNS)].reset_index(drop=True)
    return table.assign(TYPE=table["TYPE"].astype(str).str.strip())
