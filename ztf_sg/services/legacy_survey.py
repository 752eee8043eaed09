"""The Tractor catalogue of the DESI Legacy Imaging Surveys at Astro Data Lab.

It is described at https://www.legacysurvey.org/dr10/catalogs/.
"""

from contextlib import suppress
from math import ceil
from typing import NamedTuple

import numpy as np
import pandas as pd

from .errors import BadAnswer, RefusedRequest
from .tap import TapJob, TooLarge, TooSlow
from .tractor import COLUMNS, Cuts, TractorCatalogue

TAP_URL = "https://datalab.noirlab.edu/tap"
TABLES = {"dr9": "ls_dr9.tractor", "dr10": "ls_dr10.tractor"}
STRIP_AREA = 1.0  # of a region, asked for at once [deg2]: some 150,000 objects, if no cut is made
NARROWEST_STRIP = 0.001  # what is too much for the service is asked for in halves, down to this [deg of RA]
MAX_ROWS = 500_000  # of one answer
TOO_LARGE = "TOO_LARGE"  # the only column of what is kept of a query with too many rows for the service


class LegacySurvey(TractorCatalogue):
    """The Tractor catalogue of one data release at NOIRLab's Astro Data Lab, asked by ADQL over TAP.

    A region is asked for in strips of right ascension of at most `STRIP_AREA`. A strip that is too much for
    the service, in rows or in time, is asked for in halves; a RefusedRequest says that even `NARROWEST_STRIP`
    is too much.

    Parameters
    ----------
    release : {"dr10", "dr9"}
        Data release. DR10 covers the sky south of about DEC +32 deg.
    cache, retries
        As of `TractorCatalogue`.

    Examples
    --------
    >>> LegacySurvey("dr9")
    LegacySurvey('dr9')
    """

    _unit = "strip"

    def __init__(self, release="dr10", cache=None, retries=None):
        if release not in TABLES:
            raise ValueError(f"unknown Legacy Survey release {release!r}; known: {', '.join(sorted(TABLES))}")
        super().__init__(cache, retries)
        self.release = release

    def __repr__(self):
        return f"{type(self).__name__}({self.release!r})"

    def queries(self, ra, dec, limits=None, max_fracflux=None):
        """Return the queries in ADQL that `query_region` would send, one for each strip of the region."""
        cuts = Cuts(ra, dec, limits, max_fracflux)
        return [self._question(strip, cuts)[1] for strip in self._parts(cuts)]

    def _parts(self, cuts):
        """Return strips from west to east that together hold each right ascension of a region once."""
        south, north = np.sin(np.radians(cuts.dec))
        strips = []
        for west, east in cuts.ra_ranges:
            count = max(1, ceil((east - west) * np.degrees(north - south) / STRIP_AREA))
            edges = np.linspace(west, east, count + 1).tolist()
            strips += [_Strip(*edges[i : i + 2], closed=False) for i in range(count)]
        whole_circle = strips[0].west == 0 and strips[-1].east == 360
        return [*strips[:-1], strips[-1]._replace(closed=not whole_circle)]

    def _question(self, strip, cuts):
        columns = ", ".join([name.lower() for name in COLUMNS] + ["brick_primary"])
        return TAP_URL, f"SELECT {columns} FROM {TABLES[self.release]} WHERE {strip.adql} AND {cuts.adql}"

    def _answers(self, strip, cuts):
        """Return the answer for a strip, or if that is too large the answers for its parts."""
        service, query = self._question(strip, cuts)
        with suppress(TooSlow):
            answer = self.cache.get(service, query, lambda: self._ask(query))
            if TOO_LARGE not in answer:
                return [answer]
        return [part for half in strip.halves() for part in self._answers(half, cuts)]

    def _ask(self, query):
        try:
            return _primary_objects(self.retries.call(TapJob(TAP_URL, query, MAX_ROWS).run))
        except TooLarge:  # kept, while a service that is too slow may be faster next time
            return pd.DataFrame({TOO_LARGE: []})


class _Strip(NamedTuple):
    """A range of right ascension from `west` to `east` [deg], which is included only if it is `closed`."""

    west: float
    east: float
    closed: bool

    @property
    def adql(self):
        text = f"ra >= {self.west!r} AND ra {'<=' if self.closed else '<'} {self.east!r}"
        return f"({text} OR ra = 0.0)" if self.closed and self.east == 360 else text

    def halves(self):
        """Return the western and the eastern half; a RefusedRequest if there is nothing left to halve."""
        if self.east - self.west < 2 * NARROWEST_STRIP:
            raise RefusedRequest(
                f"{TAP_URL} cannot manage even RA {self.west:.5f}..{self.east:.5f} deg, in rows or in time; "
                "ask for a smaller range of declination or brighter objects"
            )
        middle = (self.west + self.east) / 2
        return _Strip(self.west, middle, False), _Strip(middle, self.east, self.closed)


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
