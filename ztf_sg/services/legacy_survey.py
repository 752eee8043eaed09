"""Catalogues of the DESI Legacy Imaging Surveys: sweep files, and the tables at Astro Data Lab.

The Tractor catalogues are described at https://www.legacysurvey.org/dr10/catalogs/.
Fluxes are in nanomaggies: mag = 22.5 - 2.5 log10(flux).
"""

import http.client
import socket
from contextlib import contextmanager
from urllib.error import HTTPError, URLError

import numpy as np
import pandas as pd
import requests
from astropy.io import fits
from astroquery.utils.tap.core import TapPlus

from .errors import BadAnswer, NothingFound, Unreachable

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
MAX_ROWS = 2_000_000
TIMEOUT = 120  # seconds without a byte from the service; a waiting job is polled, so it may take longer


def read_sweep(path, columns=COLUMNS):
    """Read a sweep file of the Legacy Surveys.

    Parameters
    ----------
    path : str or path-like
        A FITS table with upper-case columns, such as ``sweep-000m005-010p000.fits``; a local file or a URL.
    columns : sequence of str
        Names of the columns to read; only these are taken from the file.

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
        The file is no complete FITS table, or lacks columns.
    BadAnswer, Unreachable
        The URL gives an error, or cannot be reached.
    """
    try:
        with fits.open(path) as hdus:
            return _columns_of(_first_table(hdus, path), columns, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no sweep file {path}: download it, or correct the path") from error
    except HTTPError as error:
        raise BadAnswer(f"{path}: HTTP status {error.code}; check the URL") from error
    except (URLError, TimeoutError, ConnectionError) as error:
        raise Unreachable(f"{path}: {error}; try again later, or use a downloaded sweep file") from error
    except (OSError, TypeError) as error:
        raise ValueError(f"{path} is not a complete FITS table ({error}); download it again") from error


def _first_table(hdus, path):
    """Return the data of the first table of an open FITS file."""
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU):
            return hdu.data
    raise ValueError(f"{path} is a FITS file without a table; a Legacy Survey sweep file is needed")


def _columns_of(records, columns, path):
    """Return the named columns of a FITS table, in the byte order of this machine."""
    columns = records.names if columns is None else columns
    missing = [name for name in columns if name not in records.names]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; is it a Legacy Survey sweep file?")
    return pd.DataFrame({name: _native(records[name]) for name in columns})


def _native(column):
    """Copy a FITS column: text stripped, numbers from big-endian to native byte order."""
    if column.dtype.kind in "SU":
        return np.char.strip(np.asarray(column).astype(str))
    return np.asarray(column).astype(column.dtype.newbyteorder("="))


class LegacySurvey:
    """The Tractor catalogue of one data release at NOIRLab's Astro Data Lab, asked by ADQL over TAP.

    Parameters
    ----------
    release : {"dr10", "dr9"}
        Data release. DR10 covers the sky south of about DEC +32 deg.

    Examples
    --------
    >>> LegacySurvey("dr9")
    LegacySurvey('dr9')
    """

    def __init__(self, release="dr10"):
        if release not in TABLES:
            raise ValueError(f"unknown Legacy Survey release {release!r}; known: {', '.join(sorted(TABLES))}")
        self.release = release

    def __repr__(self):
        return f"{type(self).__name__}({self.release!r})"

    def query_region(self, ra, dec, limits=None, max_fracflux=None):
        """Return the objects of a rectangle on the sky.

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

        Returns
        -------
        pandas.DataFrame
            One row per object, with the columns `COLUMNS` and their units as in a sweep file.

        Raises
        ------
        ValueError
            The bounds or limits make no sense.
        NothingFound, BadAnswer, Unreachable
            No object there; the service failed the query; the service cannot be reached.
        """
        query = _adql(TABLES[self.release], ra, dec, limits, max_fracflux)
        table = _primary_objects(_run(query))
        region = f"RA {ra[0]:g}..{ra[1]:g}, DEC {dec[0]:g}..{dec[1]:g} deg"
        if table.empty:
            raise NothingFound(f"{TABLES[self.release]} holds no object in {region} within the limits given")
        return table


def _adql(table, ra, dec, limits, max_fracflux):
    """Write the query for `LegacySurvey.query_region` in ADQL."""
    conditions = [*_position_conditions(ra, dec), *_flux_conditions(limits or {})]
    if max_fracflux is not None:
        conditions += [f"fracflux_{band} BETWEEN 0 AND {float(max_fracflux)!r}" for band in BANDS]
    columns = ", ".join([name.lower() for name in COLUMNS] + ["brick_primary"])
    return f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}"


def _position_conditions(ra, dec):
    (west, east), (south, north) = (map(float, ra), map(float, dec))
    if not (0 <= west <= 360 and 0 <= east <= 360 and west != east):
        raise ValueError(f"ra={ra}: expected two different bounds within 0..360 deg")
    if not -90 <= south < north <= 90:
        raise ValueError(f"dec={dec}: expected the lower, then the upper bound within -90..90 deg")
    ra_condition = (
        f"ra BETWEEN {west!r} AND {east!r}" if west < east else f"(ra >= {west!r} OR ra <= {east!r})"
    )
    return [ra_condition, f"dec BETWEEN {south!r} AND {north!r}"]


def _flux_conditions(limits):
    unknown = sorted(set(limits) - set(BANDS))
    if unknown:
        raise ValueError(f"limits for unknown bands {', '.join(unknown)}; known: {', '.join(BANDS)}")
    return [f"flux_{band} > {10 ** (0.4 * (22.5 - mag)):.9g}" for band, mag in limits.items()]


def _run(query):
    """Run an ADQL query as an asynchronous job, which no time limit of the web server cuts short."""
    try:
        with _default_socket_timeout(TIMEOUT):
            service = TapPlus(url=TAP_URL, use_names_over_ids=True)
            table = service.launch_job_async(query, maxrec=MAX_ROWS).get_results()
    # astroquery raises SystemError for a failed job
    except (requests.exceptions.HTTPError, SystemError) as error:
        raise BadAnswer(f"{TAP_URL} failed the query {query!r}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{TAP_URL}: {error!r}; try again later, or use the simulated sky (OFFLINE = True)"
        ) from error
    except (ValueError, IndexError, AttributeError) as error:
        raise BadAnswer(f"{TAP_URL} answered no VOTable ({error}); try again later") from error
    if len(table) >= MAX_ROWS:
        raise BadAnswer(f"{TAP_URL} cut the answer at {MAX_ROWS} rows; ask for a smaller region")
    return table.to_pandas()


@contextmanager
def _default_socket_timeout(seconds):
    """Give sockets opened inside a time limit: astroquery's TAP client has none of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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
