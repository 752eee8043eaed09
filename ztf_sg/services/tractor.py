"""The Tractor catalogue of the DESI Legacy Imaging Surveys: its columns, and the query of a region.

Fluxes are in nanomaggies: mag = 22.5 - 2.5 log10(flux).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ztf_sg.positions import check_dec_range, in_region, ra_ranges

from .errors import NothingFound
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries

FLUXES = {"g": "FLUX_G", "r": "FLUX_R", "z": "FLUX_Z"}
SHARES = ("FRACFLUX_G", "FRACFLUX_R", "FRACFLUX_Z")
COLUMNS = ("RA", "DEC", "TYPE", *FLUXES.values(), *SHARES, "SHAPE_R")


@dataclass(frozen=True)
class Cuts:
    """A rectangle on the sky, and limits of brightness and blending.

    Parameters
    ----------
    ra : (float, float)
        Bounds in right ascension [deg or angles], from west to east: (355, 5) and (-5, 5) cross RA 0.
    dec : (float, float)
        Bounds in declination [deg or angles], the lower first.
    limits : dict of str to float, optional
        Faint limit [mag, AB] for each band, such as ``{"g": 20.5, "r": 20, "z": 19}``.
    max_fracflux : float, optional
        Largest share (0..1) of an object's flux that may belong to neighbours, in every band.

    Raises
    ------
    ValueError
        The bounds make no sense, or there are limits for unknown bands.
    """

    ra: tuple
    dec: tuple
    limits: dict = None
    max_fracflux: float = None

    def __post_init__(self):
        ra_ranges(self.ra)
        object.__setattr__(self, "dec", check_dec_range(self.dec))
        unknown = sorted(set(self.limits or {}) - set(FLUXES))
        if unknown:
            raise ValueError(f"limits for unknown bands {', '.join(unknown)}; known: {', '.join(FLUXES)}")

    @property
    def ra_ranges(self):
        """The range of right ascension as pairs of bounds [deg]: two if it crosses RA 0, else one."""
        return ra_ranges(self.ra)

    @property
    def least_flux(self):
        """The flux [nanomaggies] that objects must exceed, by the name of its column."""
        return {FLUXES[band]: 10 ** (0.4 * (22.5 - mag)) for band, mag in (self.limits or {}).items()}

    @property
    def adql(self):
        """All cuts except that of right ascension, in ADQL."""
        south, north = self.dec
        conditions = [f"dec BETWEEN {south!r} AND {north!r}"]
        conditions += [f"{name.lower()} > {flux:.9g}" for name, flux in self.least_flux.items()]
        conditions += [f"{name.lower()} BETWEEN 0 AND {float(self.max_fracflux)!r}" for name in self.shares]
        return " AND ".join(conditions)

    @property
    def shares(self):
        """Names of the columns that `max_fracflux` limits."""
        return () if self.max_fracflux is None else SHARES

    def passes(self, rows):
        """Return which of n objects pass, bool (n,), from a structured array or DataFrame with `COLUMNS`."""
        keep = in_region(rows, self.ra, self.dec)
        for name, flux in self.least_flux.items():
            keep &= rows[name].astype(float) > flux
        for name in self.shares:
            keep &= (rows[name] >= 0) & (rows[name] <= self.max_fracflux)
        return np.asarray(keep)


class TractorCatalogue:
    """The query of a region, which the catalogue at Astro Data Lab and its sweep files have in common.

    Parameters
    ----------
    cache : path-like, optional
        Folder in which answers are kept, so that a query that was interrupted goes on where it was.
    retries : Retries, optional
        How often and how patiently the service is asked again.
    """

    def __init__(self, cache=None, retries=None):
        self.cache = QueryCache(cache)
        self.retries = retries or Retries(tries=TRIES_ONE_BY_ONE)

    def query_region(self, ra, dec, limits=None, max_fracflux=None):
        """Return the objects of a rectangle on the sky; a progress bar shows if it takes several requests.

        Parameters
        ----------
        ra, dec, limits, max_fracflux
            The region and the limits, see `Cuts`.

        Returns
        -------
        pandas.DataFrame
            One row per object, with the columns `COLUMNS`: ``RA``, ``DEC`` [deg], ``TYPE`` (str, no padding),
            ``FLUX_*`` [nanomaggies], ``FRACFLUX_*`` [fraction], ``SHAPE_R`` [arcsec]. Its
            ``attrs["queries"]`` are for `describe_queries`.

        Raises
        ------
        ValueError, NothingFound
            The bounds or limits make no sense; there is no such object.
        RefusedRequest, BadAnswer, Unreachable, ServiceDown
            The service found fault with the query, answered something else, could not be reached, or was out
            of order for long.
        """
        cuts = Cuts(ra, dec, limits, max_fracflux)
        parts = self._parts(cuts)
        questions = [self._question(part, cuts) for part in parts]
        answers = []
        for part in self.cache.progress_bar(parts, questions, self._unit):
            answers += self._answers(part, cuts)
        tables = [answer for answer in answers if len(answer)]
        if not tables:
            region = f"RA {ra[0]:g}..{ra[1]:g}, DEC {dec[0]:g}..{dec[1]:g} deg"
            raise NothingFound(f"{self} holds no object in {region} within the limits given")
        records = [answer.attrs["query"] for answer in answers]
        table = pd.concat(tables, ignore_index=True)
        table.attrs = {"queries": records}
        return table
