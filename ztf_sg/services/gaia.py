"""Gaia DR3 counterparts of catalogue positions, by the cross-match service of the CDS.

Service: http://cdsxmatch.u-strasbg.fr; catalogue: https://vizier.cds.unistra.fr/viz-bin/VizieR?-source=I/355.
"""

import astropy.units as u
import numpy as np
import pandas as pd
import requests
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError
from astroquery.xmatch import XMatchClass

from .errors import BadAnswer, Unreachable

CATALOGUE = "vizier:I/355/gaiadr3"
# our name: the names the service may use (Gaia archive, VizieR), all in lower case
COLUMNS = {
    "gaia_source_id": ("source_id", "source"),
    "parallax": ("parallax", "plx"),
    "parallax_error": ("parallax_error", "e_plx"),
    "pmra": ("pmra",),
    "pmdec": ("pmdec", "pmde"),
    "pmra_error": ("pmra_error", "e_pmra"),
    "pmdec_error": ("pmdec_error", "e_pmde"),
    "separation": ("angdist",),
}
# source numbers have more digits than a float can hold
DTYPES = {name: "Int64" if name == "gaia_source_id" else "float64" for name in COLUMNS}


class _XMatch(XMatchClass):
    """astroquery's client without its look-up of the names of all tables.

    The look-up has no time limit, and its answer is kept on disk even when it is an error page.
    """

    def is_table_available(self, table_id):
        return isinstance(table_id, str)


def crossmatch_gaia(positions, radius=1 * u.arcsec):
    """Add the nearest Gaia DR3 source to each position.

    Parameters
    ----------
    positions : pandas.DataFrame
        n rows with ``RA`` and ``DEC`` [deg, ICRS]; other columns are kept.
    radius : astropy.units.Quantity or float
        Largest separation, at most 180 arcsec; a plain number is in arcsec.

    Returns
    -------
    pandas.DataFrame
        The n rows in the same order, with ``gaia_source_id`` (Int64), ``parallax``, ``parallax_error`` [mas],
        ``pmra``, ``pmdec``, ``pmra_error``, ``pmdec_error`` [mas/yr] and ``separation`` [arcsec];
        missing where no source is within `radius`.

    Raises
    ------
    ValueError
        `positions` lacks a column, or `radius` is too large.
    BadAnswer, Unreachable
        The service answered no match table; the service cannot be reached.
    """
    missing = [name for name in ("RA", "DEC") if name not in positions]
    if missing:
        raise ValueError(f"positions lack the columns {', '.join(missing)}; found {list(positions.columns)}")
    radius = u.Quantity(radius, u.arcsec)
    if not 0 < radius.value <= 180:
        raise ValueError(f"radius={radius}: the service matches within at most 180 arcsec")
    matches = _nearest(_ask(positions, radius)) if len(positions) else _no_matches()
    in_order = matches.reindex(range(len(positions)))
    return positions.assign(**{name: column.array for name, column in in_order.items()})


def _ask(positions, radius):
    """Return all the matches the service finds; ``position_row`` counts the rows of `positions`."""
    upload = Table(
        {
            "position_row": np.arange(len(positions)),
            "position_ra": np.asarray(positions["RA"], dtype=float),
            "position_dec": np.asarray(positions["DEC"], dtype=float),
        }
    )
    try:
        return _XMatch().query(
            upload, CATALOGUE, radius, colRA1="position_ra", colDec1="position_dec", cache=False
        )
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise Unreachable(f"CDS cross-match: {error}; try again later") from error
    except (requests.exceptions.RequestException, InvalidQueryError) as error:
        raise BadAnswer(f"CDS cross-match with {CATALOGUE} failed: {error}") from error
    except (ValueError, IndexError, AttributeError) as error:
        raise BadAnswer(f"CDS cross-match answered no VOTable ({error}); try again later") from error


def _nearest(answer):
    """Return the nearest match of each position, by position number, under our column names."""
    found = {name.lower(): name for name in answer.colnames}
    names = {"position_row": "position_row"}
    for name, aliases in COLUMNS.items():
        names[name] = next((found[alias] for alias in aliases if alias in found), None)
    missing = [name for name, column in names.items() if column not in answer.colnames]
    if missing:
        raise BadAnswer(f"CDS cross-match answered without {', '.join(missing)}; found {answer.colnames}")
    matches = answer[list(names.values())].to_pandas()
    matches.columns = list(names)
    matches = matches.sort_values("separation").drop_duplicates("position_row").set_index("position_row")
    return matches.astype(DTYPES)


def _no_matches():
    return pd.DataFrame(columns=list(COLUMNS), index=pd.RangeIndex(0)).astype(DTYPES)


def significant_motion(matched, threshold=5):
    """Tell which objects Gaia saw move or stand near: stars of our own galaxy.

    Parameters
    ----------
    matched : pandas.DataFrame
        n rows from `crossmatch_gaia`.
    threshold : float
        Least ratio of a measurement to its error.

    Returns
    -------
    numpy.ndarray
        bool (n,): parallax or total proper motion above `threshold` times its error;
        False without a match or with a two-parameter solution.

    Notes
    -----
    The total proper motion is mu = sqrt(pmra^2 + pmdec^2), and its error, for uncorrelated components,
    sqrt((pmra * pmra_error)^2 + (pmdec * pmdec_error)^2) / mu.
    """
    motion = np.hypot(matched["pmra"], matched["pmdec"])
    motion_error_times_motion = np.hypot(
        matched["pmra"] * matched["pmra_error"], matched["pmdec"] * matched["pmdec_error"]
    )
    moves = motion**2 > threshold * motion_error_times_motion
    near = matched["parallax"] > threshold * matched["parallax_error"]
    return np.asarray(moves | near, dtype=bool)
