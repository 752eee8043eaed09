"""The Tractor catalogue of the DESI Legacy Imaging Surveys at Astro Data Lab, and cuts of its regions.

It is described at https://www.legacysurvey.org/dr10/catalogs/; :mod:`ztf_sg.services.sweeps` has it as files.
Fluxes are in nanomaggies: mag = 22.5 - 2.5 log10(flux).
"""

from contextlib import suppress
from math import ceil
from typing import NamedTuple

import numpy as np
import pandas as pd

from .errors import BadAnswer, NothingFound, RefusedRequest
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries
from .tap import TapJob, TooLarge, TooSlow

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
TOO_LARGE = "TOO_LARGE"  # the only column of what is kept of a query with too many rows for the service


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
        self.retries = retries or Retries(tries=TRIES_ONE_BY_ONE)

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
        conditions = adql_conditions(dec, limits, max_fracflux)
        questions = [(TAP_URL, self._adql(strip, conditions)) for strip in strips]
        answers = []
        for strip in self.cache.progress_bar(strips, questions, "strip", progress):
            answers += self._answers(strip, conditions)
        return join_answers(answers, TABLES[self.release], ra, dec)

    def _adql(self, strip, conditions):
        columns = ", ".join([name.lower() for name in COLUMNS] + ["brick_primary"])
        return f"SELECT {columns} FROM {TABLES[self.release]} WHERE {strip.condition} AND {conditions}"

    def _answers(self, strip, conditions):
        """Return the answer for a strip, or if that is too large the answers for its parts."""
        query = self._adql(strip, conditions)
        with suppress(TooSlow):
            answer = self.cache.get(TAP_URL, query, lambda: self._ask(query))
            if TOO_LARGE not in answer:
                return [answer]
        return [part for half in strip.halves() for part in self._answers(half, conditions)]

    def _ask(self, query):
        try:
            return _primary_objects(self.retries.call(TapJob(TAP_URL, query, MAX_ROWS).run))
        except TooSlow:  # which may change: this is not kept
            raise
        except TooLarge:
            return pd.DataFrame({TOO_LARGE: []})


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
    (west, east), (south, north) = check_region(ra, dec)
    height = np.degrees(np.sin(np.radians(north)) - np.sin(np.radians(south)))
    strips = []
    for first, last in [(west, east)] if west < east else [(west, 360.0), (0.0, east)]:
        count = max(1, ceil((last - first) * height / STRIP_AREA))
        edges = np.linspace(first, last, count + 1).tolist()
        strips += [Strip(*edges[i : i + 2], closed=i == count - 1) for i in range(count)]
    return strips


def check_region(ra, dec):
    """Return the bounds of a rectangle on the sky as floats, or raise a ValueError if they make no sense.

    Parameters
    ----------
    ra, dec : (float, float)
        Bounds [deg].

    Returns
    -------
    (float, float), (float, float)
    """
    (west, east), (south, north) = (map(float, ra), map(float, dec))
    if not (0 <= west <= 360 and 0 <= east <= 360 and west != east):
        raise ValueError(f"ra={ra}: expected two different bounds within 0..360 deg")
    if not -90 <= south < north <= 90:
        raise ValueError(f"dec={dec}: expected the lower, then the upper bound within -90..90 deg")
    return (west, east), (south, north)


def adql_conditions(dec, limits=None, max_fracflux=None):
    """Write all the cuts but that of right ascension in ADQL; parameters as of `passes`.

    Raises
    ------
    ValueError
        There are limits for unknown bands.
    """
    south, north = map(float, dec)
    conditions = [f"dec BETWEEN {south!r} AND {north!r}"]
    conditions += [f"flux_{band} > {_flux(mag):.9g}" for band, mag in _check_bands(limits).items()]
    if max_fracflux is not None:
        conditions += [f"fracflux_{band} BETWEEN 0 AND {float(max_fracflux)!r}" for band in BANDS]
    return " AND ".join(conditions)


def passes(rows, limits=None, max_fracflux=None, ra=None, dec=None):
    """Tell which objects pass the cuts that `LegacySurvey.query_region` makes.

    Parameters
    ----------
    rows : numpy structured array or pandas.DataFrame
        n objects, with the columns of a sweep file that `columns_of_cuts` names.
    limits : dict of str to float, optional
        Faint limit [mag, AB] for each band.
    max_fracflux : float, optional
        Largest share (0..1) of an object's flux that may belong to neighbours, in every band.
    ra, dec : (float, float), optional
        Bounds [deg]; the first right ascension may exceed the second, across RA 0.

    Returns
    -------
    numpy.ndarray
        bool (n,).
    """
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


def columns_of_cuts(limits=None, max_fracflux=None, ra=None, dec=None):
    """Return the names of the columns that some cuts need; parameters as of `passes`."""
    fluxes = [f"FLUX_{band.upper()}" for band in _check_bands(limits)]
    shares = [f"FRACFLUX_{band.upper()}" for band in BANDS] if max_fracflux is not None else []
    return [*fluxes, *shares, *["RA"] * (ra is not None), *["DEC"] * (dec is not None)]


def join_answers(answers, catalogue, ra, dec):
    """Join answers into one table that knows where each came from.

    Parameters
    ----------
    answers : list of pandas.DataFrame
        From `QueryCache.get`.
    catalogue : str
        What was asked, for the message.
    ra, dec : (float, float)
        Bounds that were asked for [deg].

    Returns
    -------
    pandas.DataFrame
        Its ``attrs["queries"]`` has the record of each answer.

    Raises
    ------
    NothingFound
        All answers are empty.
    """
    tables = [answer for answer in answers if len(answer)]
    if not tables:
        region = f"RA {ra[0]:g}..{ra[1]:g}, DEC {dec[0]:g}..{dec[1]:g} deg"
        raise NothingFound(f"{catalogue} holds no object in {region} within the limits given")
    records = [answer.attrs["query"] for answer in answers]
    table = pd.concat(tables, ignore_index=True)
    table.attrs = {"queries": records}
    return table


def _check_bands(limits):
    """Return the limits, or an empty dict, or raise a ValueError."""
    unknown = sorted(set(limits or {}) - set(BANDS))
    if unknown:
        raise ValueError(f"limits for unknown bands {', '.join(unknown)}; known: {', '.join(BANDS)}")
    return limits or {}


def _flux(magnitude):
    return 10 ** (0.4 * (22.5 - magnitude))


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
