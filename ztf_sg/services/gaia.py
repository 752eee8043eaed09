"""Gaia DR3 counterparts of catalogue positions, by the cross-match service of the CDS.

Service: http://cdsxmatch.u-strasbg.fr; catalogue: https://vizier.cds.unistra.fr/viz-bin/VizieR?-source=I/355.
"""

import hashlib
from contextlib import redirect_stdout
from io import StringIO

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.table import Table

from ztf_sg.positions import angle, checked_positions, data_frame

from .errors import BadAnswer, RefusedRequest
from .http import REFUSALS, REMEDY, HttpSession, NotAllowed
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries

with redirect_stdout(StringIO()):  # it prints that an optional package is missing, which is not needed here
    from astroquery.xmatch import XMatchClass

CATALOGUE = "vizier:I/355/gaiadr3"
TIMEOUT = 300.0  # between two parts of an answer [s]: the service matches before it answers
CHUNK_SIZE = 20_000  # positions matched at once: an upload of 1 MB, far below the 100 MB the service allows
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


def crossmatch_gaia(positions, radius=1 * u.arcsec, cache=None, retries=None):
    """Add the nearest Gaia DR3 source to each position.

    Several requests are sent, under a progress bar, for more than `CHUNK_SIZE` positions.

    Parameters
    ----------
    positions : pandas.DataFrame, astropy.table.Table or another table of `data_frame`
        n rows with ``RA`` and ``DEC`` [deg, ICRS], in upper or lower case; other columns are kept.
    radius : astropy.units.Quantity or float
        Largest separation, at most 180 arcsec; a plain number is in arcsec.
    cache : path-like, optional
        Folder in which matches are kept, so that work that was interrupted goes on where it was.
    retries : Retries, optional
        How often and how patiently the service is asked again.

    Returns
    -------
    pandas.DataFrame
        The n rows in the same order, with ``gaia_source_id`` (Int64), ``parallax``, ``parallax_error`` [mas],
        ``pmra``, ``pmdec``, ``pmra_error``, ``pmdec_error`` [mas/yr] and ``separation`` [arcsec];
        missing where no source is within `radius`. Its ``attrs["queries"]`` are for `describe_queries`.

    Raises
    ------
    ValueError
        `positions` lacks a column or has rows without a position, or `radius` is out of range.
    RefusedRequest
        The service found fault with the request, or has banned this address.
    BadAnswer, Unreachable, ServiceDown
        The service answered no match table; could not be reached; was out of order for long.
    """
    positions, asked, radius = check_match(positions, radius)
    cache, retries = QueryCache(cache), retries or Retries(tries=TRIES_ONE_BY_ONE)
    chunks = [asked.iloc[start : start + CHUNK_SIZE] for start in range(0, len(asked), CHUNK_SIZE)]
    questions = [(XMatchClass.URL, _query(chunk, radius)) for chunk in chunks]
    parts, records = [], []
    for chunk, question in zip(cache.progress_bar(chunks, questions, "chunk"), questions, strict=True):
        answer = cache.get(*question, lambda chunk=chunk: retries.call(_nearest, chunk, radius))
        parts.append(add_matches(chunk, answer.set_index("position_row")))
        records.append(answer.attrs["query"])
    matches = pd.concat(parts or [add_matches(asked, pd.DataFrame(columns=list(COLUMNS)))], ignore_index=True)
    matched = add_matches(positions, matches)
    matched.attrs = positions.attrs | {"queries": records}
    return matched


def check_match(positions, radius):
    """Return what `crossmatch_gaia` is asked, which has the same parameters and errors.

    Returns
    -------
    positions : pandas.DataFrame
        The table as it was given.
    asked : pandas.DataFrame
        RA (0..360) and DEC [deg] of its n rows.
    radius : astropy.units.Quantity
        In arcsec.
    """
    positions = data_frame(positions)
    names = {str(name).upper() for name in positions}
    missing = [name for name in ("RA", "DEC") if name not in names]
    if missing:
        raise ValueError(f"positions lack the columns {', '.join(missing)}; found {list(positions.columns)}")
    radius = angle(radius)
    if radius.value > 180:
        raise ValueError(f"radius={radius}: the service matches within at most 180 arcsec")
    return positions, checked_positions(positions), radius


def add_matches(positions, matches):
    """Return the positions with `COLUMNS` added, missing where there is no source.

    Parameters
    ----------
    positions : pandas.DataFrame
        n rows.
    matches : pandas.DataFrame
        The columns `COLUMNS`, indexed by row number (0..n-1) in `positions`; at most one source per row.
    """
    in_order = matches[list(COLUMNS)].astype(DTYPES).reindex(range(len(positions)))
    return positions.assign(**{name: column.array for name, column in in_order.items()})


def _query(chunk, radius):
    """Return on one line what is asked about a chunk of positions."""
    digest = hashlib.sha256(np.asarray(chunk[["RA", "DEC"]], dtype="<f8").tobytes()).hexdigest()
    return f"{CATALOGUE} within {float(radius.value)!r} arcsec of {len(chunk)} positions, SHA-256 {digest}"


def _ask(chunk, radius):
    """Return all matches that the service finds; ``position_row`` counts the rows of the chunk."""
    columns = np.arange(len(chunk)), chunk["RA"].to_numpy(float), chunk["DEC"].to_numpy(float)
    upload = Table(columns, names=["position_row", "position_ra", "position_dec"])
    names = {"colRA1": "position_ra", "colDec1": "position_dec"}
    client = XMatchClass()
    client._session = HttpSession("CDS cross-match", read_timeout=TIMEOUT)
    # it would ask for the names of all tables, and keep the answer on disk even if that is an error page
    client.is_table_available = lambda table: isinstance(table, str)
    try:
        return client.query(upload, CATALOGUE, radius, **names, cache=False)
    except REFUSALS as error:
        banned = "; your address may be banned: write to cds-question@unistra.fr, or use the simulated sky"
        raise RefusedRequest(f"{error}{banned * isinstance(error, NotAllowed)}") from error
    except (ValueError, IndexError, AttributeError) as error:
        raise BadAnswer(f"CDS cross-match answered no VOTable ({error}); {REMEDY}") from error


def _nearest(chunk, radius):
    """Return the nearest match of each position that has one: its ``position_row`` and `COLUMNS`."""
    answer = _ask(chunk, radius)
    found = {name.lower(): name for name in answer.colnames}
    names = {"position_row": "position_row"}
    for name, aliases in COLUMNS.items():
        names[name] = next((found[alias] for alias in aliases if alias in found), None)
    missing = [name for name, column in names.items() if column not in answer.colnames]
    if missing:
        raise BadAnswer(f"CDS cross-match answered without {', '.join(missing)}; found {answer.colnames}")
    matches = answer[list(names.values())].to_pandas()
    matches.columns = list(names)
    matches = matches.sort_values("separation").drop_duplicates("position_row")
    return matches.sort_values("position_row").astype(DTYPES | {"position_row": "int64"})
