"""Known bodies of the solar system in a field at a time, from SkyBoT of the IMCCE.

Service: https://ssp.imcce.fr/webservices/skybot/.
"""

import json
import warnings

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astroquery.exceptions import NoResultsWarning
from astroquery.imcce import SkybotClass

from ztf_sg.streaks.known_bodies import EXPOSURE_TIME, check_field, with_ends
from ztf_sg.ztf import one_turn

from .errors import BadAnswer, RefusedRequest
from .http import REFUSALS, HttpSession
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries

PALOMAR = "I41"  # the camera's number at the Minor Planet Center
TIMEOUT = 120.0  # between two parts of an answer [s]
LARGEST_RADIUS = 10.0  # that the service allows [deg]
COLUMNS = {  # ours: that of astroquery, and the unit
    "name": ("Name", None),
    "number": ("Number", None),
    "kind": ("Type", None),
    "ra": ("RA", u.deg),
    "dec": ("DEC", u.deg),
    "ra_rate": ("RA_rate", u.arcsec / u.min),
    "dec_rate": ("DEC_rate", u.arcsec / u.min),
    "magnitude": ("V", None),
    "uncertainty": ("posunc", u.arcsec),
}


def bodies_in_field(ra, dec, time, radius, exptime=EXPOSURE_TIME, cache=None, retries=None):
    """Return the asteroids, comets and planets that an exposure from Palomar may show.

    Parameters
    ----------
    ra, dec : float
        Centre of the field [deg, ICRS].
    time : astropy.time.Time or float
        Of the middle of the exposure; a number is a Julian date (UTC).
    radius : float
        Of the field [deg], at most 10.
    exptime : float
        Exposure time [s].
    cache : path-like, optional
        Folder in which answers are kept.
    retries : Retries, optional
        How often and how patiently the service is asked again.

    Returns
    -------
    pandas.DataFrame
        One row per body: name, number (Int64), kind, ra, dec [deg], rate [arcsec/min], position_angle of the
        motion [deg, north through east], ra_start, dec_start, ra_end, dec_end [deg], magnitude [V],
        uncertainty of the position [arcsec]; no rows if there is none.

    Raises
    ------
    ValueError
        Position, time, radius or exposure time make no sense.
    RefusedRequest, BadAnswer, Unreachable, ServiceDown
        The service found fault with the request, answered no table, could not be reached, or was out of order
        for long.
    """
    time = check_field(ra, dec, time, radius, exptime)
    if radius > LARGEST_RADIUS:
        raise ValueError(f"radius={radius}: SkyBoT searches within at most {LARGEST_RADIUS:g} deg")
    question = {"ra": float(ra), "dec": float(dec), "radius": float(radius), "jd": float(time.utc.jd)}
    retries = retries or Retries(tries=TRIES_ONE_BY_ONE)
    table = QueryCache(cache).get(
        "SkyBoT", json.dumps(question), lambda: retries.call(_ask, ra, dec, time, radius)
    )
    rate = np.hypot(table["ra_rate"], table["dec_rate"])
    angle = one_turn(np.degrees(np.arctan2(table["ra_rate"], table["dec_rate"])))
    bodies = table.assign(rate=rate, position_angle=angle)
    return with_ends(bodies, exptime).drop(columns=["ra_rate", "dec_rate"])


def _ask(ra, dec, time, radius):
    """Return what the service knows in a field, with the columns `COLUMNS`."""
    client = SkybotClass()
    client._session = HttpSession("SkyBoT", read_timeout=TIMEOUT)
    field = SkyCoord(ra * u.deg, dec * u.deg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoResultsWarning)
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            answer = client.cone_search(field, radius * u.deg, time.utc, location=PALOMAR, cache=False)
            return _tidy(answer)
        except REFUSALS as error:
            raise RefusedRequest(f"{error}; check position, time and radius") from error
        except (ValueError, IndexError, AttributeError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:150]
            raise BadAnswer(f"SkyBoT answered no table of bodies ({reason}); try again later") from error


def _tidy(answer):
    """Return the table of astroquery as a DataFrame with the columns and units of `COLUMNS`."""
    if not len(answer):
        return pd.DataFrame({name: [] for name in COLUMNS}).astype({"name": object, "kind": object})
    columns = {
        name: answer[column] if unit is None else answer[column].to(unit)
        for name, (column, unit) in COLUMNS.items()
    }
    table = QTable(columns).to_pandas()
    numbers = [name for name, (_, unit) in COLUMNS.items() if unit is not None] + ["magnitude"]
    table = table.astype({"name": str, "kind": str, "number": "Int64"})
    return table.assign(**{name: table[name].to_numpy(float, na_value=np.nan) for name in numbers})
