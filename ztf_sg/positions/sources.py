"""The columns of use of tables of any kind, with standard names, and what is known of their positions."""

from typing import NamedTuple

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from ztf_sg.positions.catalogue import data_frame
from ztf_sg.positions.columns import NAME_KEYS, find_columns, parse_header, shown_columns
from ztf_sg.positions.tables import SURPLUS

EPOCH_LIMITS = (1800.0, 2200.0)  # within which numbers are Julian years


class ListTable(NamedTuple):
    """The columns of use of a list.

    Attributes
    ----------
    frame : pandas.DataFrame of n rows
        RA and DEC, and if they are there NAME, TYPE, PMRA, PMDEC [mas/yr], REF_EPOCH and `SURPLUS`.
    headers : dict
        The names that the list has for them.
    units : dict
        The units of RA and DEC.
    galactic : bool
        Whether RA and DEC are galactic longitude and latitude.
    indexed : bool
        Whether NAME is an index of rows, not a column of names.
    epoch : float
        The epoch of rows that have none [Julian year].
    """

    frame: pd.DataFrame
    headers: dict
    units: dict
    galactic: bool
    indexed: bool
    epoch: float


def list_table(source):
    """Return the ListTable of a list of objects.

    Parameters
    ----------
    source : astropy Table or SkyCoord, pyarrow.Table, or other table of :func:`data_frame`

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it has no rows, no positions, or positions that have to be converted or renamed first.
    """
    table = _table_of(source)
    meta = {}
    if isinstance(table, Table):
        meta = {str(key).upper(): value for key, value in table.meta.items()}
        table = _with_coordinates(table)
    names = _names_of_columns(table)
    columns = find_columns(names)
    if columns.plain:
        _check_frame(meta)
    units = {target: unit or u.deg for target, unit in columns.units.items()}
    selected = _selected(table, columns.numbers)
    if isinstance(table, Table):
        units = {target: _take_unit(selected[target], unit) for target, unit in units.items()}
    frame = data_frame(selected).reset_index(drop=True)
    if frame.empty:
        raise ValueError(f"has no rows; its columns are {shown_columns(names)}")
    headers = {target: names[number] for target, number in columns.numbers.items()}
    epoch = _year(meta.get("REF_EPOCH")) or columns.epoch
    return ListTable(frame, headers, units, columns.galactic, columns.indexed, epoch)


def _table_of(source):
    """Return a list as a Table, pyarrow.Table or DataFrame, with its index as a column."""
    if isinstance(source, SkyCoord):
        return QTable({"coord": source.reshape(-1)})
    if isinstance(source, Table | pa.Table):
        return source
    table = data_frame(source)
    if isinstance(table.columns, pd.MultiIndex):
        flat = "['_'.join(map(str, name)) for name in table.columns]"
        raise ValueError(f"has columns of several levels; flatten them: table.columns = {flat}")
    return _with_index(table)


def _with_index(table):
    """Return a DataFrame with its index as a column if it has a name, or is text."""
    index = table.index
    if isinstance(index, pd.MultiIndex):
        return table.reset_index(allow_duplicates=True)
    if index.name is None and not pd.api.types.is_string_dtype(index):
        return table
    header = "index" if index.name is None else index.name
    if header != "index" and parse_header(header).key not in NAME_KEYS:
        header = "identifier"
    table = table.copy(deep=False)
    table.insert(0, header, index, allow_duplicates=True)
    return table


def _names_of_columns(table):
    if isinstance(table, Table):
        return table.colnames
    if isinstance(table, pa.Table):
        return table.column_names
    return [name for name in table.columns if name != SURPLUS]  # the last column, if it is there


def _with_coordinates(table):
    """Return a Table with ICRS positions, and motions, in the place of each column of SkyCoord."""
    coordinates = [name for name in table.colnames if isinstance(table[name], SkyCoord)]
    if not coordinates:
        return table
    result = QTable({name: table[name] for name in table.colnames if name not in coordinates})
    for name in coordinates:
        icrs = _icrs(table[name])
        result[f"{name}.ra"], result[f"{name}.dec"] = icrs.ra, icrs.dec
        if "s" in icrs.data.differentials and "PMRA" not in find_columns(result.colnames).numbers:
            result["pmra"], result["pmdec"] = icrs.pm_ra_cosdec, icrs.pm_dec
            if table[name].obstime is not None:
                result["ref_epoch"] = np.broadcast_to(table[name].obstime.jyear, icrs.shape)
    return result


def _icrs(coordinates):
    try:
        return coordinates.icrs
    except (AttributeError, TypeError, ValueError) as error:  # of a frame that lacks its place or time
        raise ValueError(
            f"has positions in the frame {coordinates.frame.name}, which do not convert to ICRS ({error}); "
            "convert them first"
        ) from error


def _check_frame(meta):
    """Raise a ValueError if the header of a file tells another equinox than J2000."""
    told = {key: meta[key] for key in ("RADESYS", "RADECSYS", "EQUINOX") if meta.get(key)}
    system = str(told.get("RADESYS", told.get("RADECSYS", ""))).upper()
    equinox = _year(told.get("EQUINOX"))
    if "FK4" in system or ("ICRS" not in system and equinox not in (None, 2000.0)):
        words = ", ".join(f"{key} {value}" for key, value in told.items())
        raise ValueError(
            f"has positions of {words}; convert them with the frame and equinox that these are, such as "
            "SkyCoord(ra, dec, unit='deg', frame='fk4', equinox='B1950').icrs, and hand over the result"
        )


def _year(value):
    """Return a year such as 2000.0, J2000 or B1950 as a number; None if it is none."""
    try:
        year = float(str(value).strip().lstrip("JBjb"))
    except ValueError:
        return None
    return year if EPOCH_LIMITS[0] <= year <= EPOCH_LIMITS[1] else None


def _selected(table, numbers):
    """Return columns of a table, given their numbers by their standard names."""
    if isinstance(table, Table):
        return Table({target: table.columns[number] for target, number in numbers.items()})
    if isinstance(table, pa.Table):
        columns = {target: table.column(number) for target, number in numbers.items()}
        # pandas would make floats of whole numbers of which some are missing
        if "NAME" in columns and columns["NAME"].null_count:
            columns["NAME"] = columns["NAME"].cast(pa.string())
        return pa.table(columns)
    selected = table.iloc[:, list(numbers.values())].set_axis(list(numbers), axis=1)
    return selected.assign(**{SURPLUS: table[SURPLUS]}) if SURPLUS in table else selected


def _take_unit(column, unit_of_header):
    """Return the unit in which data_frame will leave a column of angles; text loses its own unit."""
    unit = column.unit
    if unit in (None, u.dimensionless_unscaled):
        return unit_of_header
    if column.dtype.kind not in "OSU":
        return u.deg
    column.unit = None
    return unit if unit.is_equivalent(u.deg) else unit_of_header
