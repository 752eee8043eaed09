"""Lists of objects of any kind, in one form: names and positions, and why rows are of no use."""

import os
import warnings
from contextlib import suppress

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord

from ztf_sg.positions.angles import column_text, is_numeric, read_angles, read_numbers
from ztf_sg.positions.catalogue import TRACTOR_TYPES, stripped_text
from ztf_sg.positions.sources import EPOCH_LIMITS, list_table
from ztf_sg.positions.tables import SURPLUS, read_table
from ztf_sg.ztf import one_turn

RA_LIMITS = (-360, 720)  # a turn beyond the circle on both sides [deg]
WHOLE_NUMBER = r"0|-?[1-9][0-9]{0,18}"
EXACT_FLOAT = 2**53  # up to here floats tell whole numbers apart
SURPLUS_FAULT = (
    "the line has more fields than the header, so that they cannot be told apart; put quotation marks around "
    "text that holds the delimiter"
)


def object_list(source):
    """Return a list of objects of any kind as a standard table, with the faults of rows that are of no use.

    Positions are found by the names of their columns, in any case, with or without a unit: RA and DEC,
    ra_deg and dec_deg, right_ascension and declination, RA_ICRS and DE_ICRS, RAJ2000 and DEJ2000, raMean and
    decMean, ALPHA_J2000 and DELTA_J2000, s_ra and s_dec and others; if there are several pairs, the first of
    `ztf_sg.positions.columns.RA_DEC` counts. Those of FK5 at J2000 are taken for ICRS; galactic ones (l and
    b, glon and glat) are converted if there are no others. Numbers are degrees, unless the unit of the column
    or its name (ra_hours) says otherwise; sexagesimal right ascension is in hours. Decimal commas are read.

    Parameters
    ----------
    source : pandas.DataFrame, astropy Table, SkyCoord, pyarrow.Table or path-like
        A file may be text with a delimiter and a line of names, an ECSV, IPAC, SExtractor or machine-readable
        table, a VOTable, FITS table or Parquet file; its content, not its name, tells which. Lines that begin
        with # are comments. A SkyCoord may have any frame that converts to ICRS, and any shape.

    Returns
    -------
    pandas.DataFrame
        One row per row of the list, in order, with an index from 0, and the columns

        - ``name``: of the column name, main_id, source_id, designation or the like, or of a named index;
          integers if all are whole numbers, else text, in which a row without one is "row 3" (from 0). The
          number of the row if the list has no names. They need not be unique.
        - ``RA``, ``DEC``: [deg, ICRS], RA from 0 on and below 360; NaN for a row with a fault.
        - ``type``: of Tractor, if the list has it.
        - ``pmra``, ``pmdec`` [mas/yr], ``ref_epoch`` [Julian year]: if the list has proper motions, pmra with
          the factor cos(dec); NaN if the object has none. The epoch is that of the row, else of the file
          (COOSYS of a VOTable), else 2000.0 for positions named J2000 or of SIMBAD, else 2016.0, that of
          Gaia DR3.
        - ``fault``: "" for a row that can be used, else why it cannot be, and what to do.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    TypeError
        If it is no such list.
    ValueError
        If it has no rows, no positions, or several pairs of them with the same right; if the file cannot be
        read; if its frame has to be converted first. The message names the file.

    Examples
    --------
    >>> stars = pd.DataFrame({"id": ["a", "b"], "ra_deg": [-1.0, 7.0], "dec_deg": ["-05:30:00", "95"]})
    >>> table = object_list(stars)
    >>> table[["name", "RA", "DEC"]]
      name     RA  DEC
    0    a  359.0 -5.5
    1    b    NaN  NaN
    >>> table.loc[1, "fault"]
    "dec_deg '95' is beyond -90..90 deg; correct it or leave the row out"
    """
    is_path = isinstance(source, str | bytes | os.PathLike)
    try:
        return _standard_table(list_table(read_table(source) if is_path else source))
    except ValueError as error:
        origin = os.fsdecode(source) if is_path else "the list"
        raise ValueError(f"{origin}: {error}") from error


def _standard_table(table):
    """Return the table that :func:`object_list` returns, of a ListTable."""
    frame = table.frame
    faults = np.full(len(frame), "", dtype=object)
    if SURPLUS in frame:
        _note(faults, frame[SURPLUS] != "", lambda row: SURPLUS_FAULT)
    ra, dec = _positions(table, faults)
    motions = _motions(table, faults) if "PMRA" in frame else {}
    usable = faults == ""
    return pd.DataFrame(
        {
            "name": _names(frame, table.indexed),
            "RA": np.where(usable, ra, np.nan),
            "DEC": np.where(usable, dec, np.nan),
            **_types(frame),
            **motions,
            "fault": pd.Series(faults, dtype=str),
        }
    )


def _note(faults, bad, message):
    """Set the faults of bad rows that have none so far, each to the message for its number."""
    for row in np.flatnonzero(np.asarray(bad) & (faults == "")):
        faults[row] = message(row)


def _shown(value):
    """Return a value for a message, text with quotation marks."""
    return repr(value) if isinstance(value, str) else str(value)


def _positions(table, faults):
    """Return RA and DEC [deg, ICRS], and note the faults of rows that have none."""
    ra = _angles(table, "RA", u.deg if table.galactic else u.hourangle, *RA_LIMITS, faults)
    dec = _angles(table, "DEC", u.deg, -90, 90, faults)
    if table.galactic:
        usable = faults == ""
        icrs = SkyCoord(ra[usable], dec[usable], unit=u.deg, frame="galactic").icrs
        ra[usable], dec[usable] = icrs.ra.deg, icrs.dec.deg
    return one_turn(ra), dec


def _angles(table, target, sexagesimal_unit, low, high, faults):
    """Return a column of angles [deg], and note the faults of rows that are none from low to high."""
    column, header = table.frame[target], table.headers[target]
    values, empty = read_angles(column, table.units[target], sexagesimal_unit)
    form = "hours as hh:mm:ss" if sexagesimal_unit == u.hourangle else "dd:mm:ss"
    remedy = "correct it or leave the row out"
    _note(faults, empty, lambda row: f"{header} is missing; give a position, or leave the row out")
    _note(
        faults,
        np.isnan(values),
        lambda row: f"{header} {_shown(column[row])} is no angle; give degrees, or {form}",
    )
    _note(
        faults,
        ~((values >= low) & (values <= high)),
        lambda row: f"{header} {_shown(column[row])} is beyond {low}..{high} deg; {remedy}",
    )
    return values


def _motions(table, faults):
    """Return the proper motions [mas/yr] and epochs [Julian year] as columns, and note the faults of rows."""
    frame, headers = table.frame, table.headers
    motions = []
    for target in ("PMRA", "PMDEC"):
        values, empty = read_numbers(frame[target])
        motions.append(values)
        _note(
            faults,
            ~np.isfinite(values) & ~empty,
            lambda row, target=target: (
                f"{headers[target]} {_shown(frame[target][row])} is no number; give mas/yr, or leave it empty"
            ),
        )
    pmra, pmdec = np.where(np.isfinite(motions).all(axis=0), motions, np.nan)
    epoch = np.full(len(frame), table.epoch)
    if "REF_EPOCH" in frame:
        column = frame["REF_EPOCH"]
        years, empty = read_numbers(column if is_numeric(column) else column_text(column).str.lstrip("Jj"))
        given = (years >= EPOCH_LIMITS[0]) & (years <= EPOCH_LIMITS[1])
        epoch = np.where(given, years, epoch)
        # catalogues give objects that have no motion the epoch 0
        moving = (np.nan_to_num(pmra) != 0) | (np.nan_to_num(pmdec) != 0)
        _note(
            faults,
            moving & ~given & ~empty,
            lambda row: f"{headers['REF_EPOCH']} {_shown(column[row])} is no year; give one such as 2016.0",
        )
    return {"pmra": pmra, "pmdec": pmdec, "ref_epoch": epoch}


def _names(frame, indexed):
    """Return the names of rows: whole numbers, or text, or the numbers of rows if there are no names."""
    rows = pd.Series(np.arange(len(frame)))
    if "NAME" not in frame:
        return rows
    names = _whole_or_text(frame["NAME"])
    if names.dtype.kind in "iu":
        return rows if indexed else names
    unnamed = names == ""
    if unnamed.all() or (indexed and is_numeric(frame["NAME"])):
        return rows
    return names.mask(unnamed, "row " + rows.astype(str)).astype(str)


def _whole_or_text(column):
    """Return a column as whole numbers if it holds nothing else, else as text, empty where it is missing."""
    if is_numeric(column) and column.dtype.kind == "f":
        column = _exact(column)
    if column.dtype.kind in "iu" and not column.isna().any():
        return column.astype("uint64" if column.dtype.kind == "u" else "int64")
    text = column_text(column)
    if text.str.fullmatch(WHOLE_NUMBER).all():
        with suppress(OverflowError):
            return text.astype("int64")
    return text


def _exact(column):
    """Return a column of floats as whole numbers if it holds nothing else, which may be missing."""
    values = column.to_numpy(float, na_value=np.nan)
    if (np.abs(values) > EXACT_FLOAT).any():
        warnings.warn(
            "the names of objects are floats, which hold 16 digits only, so the last digits may be wrong; "
            "read them as whole numbers, such as by pandas.read_csv(..., dtype={'source_id': 'Int64'})",
            stacklevel=2,
        )
        return column
    return column.astype("Int64") if (np.isnan(values) | (values % 1 == 0)).all() else column


def _types(frame):
    """Return the column of Tractor types, by its name, if there is one."""
    types = stripped_text(frame["TYPE"]).str.upper() if "TYPE" in frame else []
    return {"type": types} if set(types).intersection(TRACTOR_TYPES) else {}
