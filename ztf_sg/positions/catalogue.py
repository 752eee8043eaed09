"""Tables of objects of any kind, in one form: names of columns, numbers, types, and places on the sky."""

import re

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.io import fits
from astropy.table import Table

from ztf_sg.ztf import one_turn

STAR_TYPES = ("PSF",)
GALAXY_TYPES = ("REX", "EXP", "DEV", "SER", "SIMP", "COMP")  # the last two before DR9
TRACTOR_TYPES = (*STAR_TYPES, *GALAXY_TYPES, "DUP")
TEXT_COLUMNS = {"TYPE", "AUDIT"}
ID_COLUMNS = {"GAIA_SOURCE_ID"}  # numbers with more digits than a float can hold
# the units of columns, by a pattern of their upper-case names
UNITS = {
    "RA|DEC": u.deg,
    "FLUX_[A-Z0-9]+": u.nmgy,
    "FRACFLUX_[A-Z0-9]+": u.dimensionless_unscaled,
    "PARALLAX(_ERROR)?": u.mas,
    "PM(RA|DEC)(_ERROR)?": u.mas / u.yr,
}
AB_ZERO_POINT = u.zero_point_flux(3631 * u.Jy)  # the flux of 1 maggy


def standard_columns(catalogue, needed=()):
    """Return a catalogue as a DataFrame with upper-case columns, and types as stripped text.

    Numbers are in the byte order of this machine, and those of RA, DEC [deg] and the columns needed are
    floats, NaN where they are missing. Where two names differ in case only, such as RA and ra after a match,
    the upper-case one counts, and the other stays as it is. A column of arrays becomes one of objects.

    Parameters
    ----------
    catalogue : table
        As of :func:`data_frame`.
    needed : sequence of str
        Upper-case columns that must be there.

    Raises
    ------
    KeyError
        If one of them is missing.
    TypeError
        If it is no table.
    ValueError
        If a column that is wanted is there several times, or holds something else than numbers; if TYPE is
        wanted, and none of its types is one of `TRACTOR_TYPES`; as of :func:`data_frame`.
    """
    table = data_frame(catalogue)
    table = table.rename(columns=_upper_case(list(table.columns), {"RA", "DEC", "TYPE", *needed}))
    missing = [name for name in needed if name not in table]
    if missing:
        found = list(map(str, table.columns))
        similar = [name for name in found if name.upper().startswith(tuple(f"{name}_" for name in missing))]
        hint = f"; rename one of {', '.join(similar)}" if similar else ""
        raise KeyError(f"the catalogue lacks {', '.join(missing)}; it has {', '.join(found)}{hint}")
    wanted = {"RA", "DEC", *needed}.intersection(table.columns)
    numbers = {name: _numbers(table[name]) for name in wanted - TEXT_COLUMNS - ID_COLUMNS}
    texts = {name: stripped_text(table[name]) for name in wanted & TEXT_COLUMNS}
    table = table.assign(**numbers, **texts)
    if "TYPE" in table:
        table = table.assign(TYPE=_type_names(table["TYPE"]))
    if "TYPE" in needed:
        _check_types(table["TYPE"])
    return table


def data_frame(catalogue):
    """Return a table of any kind as a DataFrame, with the names, the order and the index that it has.

    Parameters
    ----------
    catalogue : pandas.DataFrame, astropy.table.Table, pyarrow.Table, FITS table or structured numpy.ndarray
        Also a pyarrow.RecordBatch. Positions [deg], fluxes [nanomaggies] and motions [mas, mas/yr] that have
        another unit, as astropy and FITS columns can, are converted; a unit that astropy does not know is
        taken for the expected one, except that of a position.

    Returns
    -------
    pandas.DataFrame
        Numbers are in the byte order of this machine.

    Raises
    ------
    TypeError
        If it is no table.
    ValueError
        If a column has a unit that cannot be converted.
    """
    if isinstance(catalogue, fits.FITS_rec):
        catalogue = fits.BinTableHDU(catalogue)
    if isinstance(catalogue, fits.BinTableHDU):
        catalogue = Table.read(catalogue, unit_parse_strict="silent")
    if isinstance(catalogue, np.ndarray) and catalogue.dtype.names:
        catalogue = Table(catalogue)
    if isinstance(catalogue, Table):
        return _frame_of(catalogue)
    if isinstance(catalogue, (pa.Table, pa.RecordBatch)):
        return catalogue.to_pandas()
    if not isinstance(catalogue, pd.DataFrame):
        kind = type(catalogue).__name__
        raise TypeError(f"catalogue: expected a pandas.DataFrame or an astropy Table, got {kind}")
    return _native(catalogue)


def _frame_of(table):
    """Return an astropy Table as a DataFrame, with numbers in the units of `UNITS`."""
    wide = [name for name in table.colnames if getattr(table[name], "ndim", 1) > 1]
    narrow = table[[name for name in table.colnames if name not in wide]]
    frame = narrow.to_pandas(index=False)
    for name in narrow.colnames:
        unit = getattr(table[name], "unit", None)
        for pattern, expected in UNITS.items():
            if unit not in (None, u.dimensionless_unscaled, expected) and re.fullmatch(pattern, name.upper()):
                frame[name] = _converted(frame[name], unit, expected)
    frame = frame.assign(**{name: list(table[name]) for name in wide})
    return frame[[name for name in table.colnames if name in frame]] if wide else frame


def _converted(column, unit, expected):
    """Return a column of a DataFrame, converted from one unit to another."""
    if isinstance(unit, u.UnrecognizedUnit):  # of a FITS file, whose standard has no maggy
        unit = u.Unit(str(unit).replace("maggies", "maggy").replace("degrees", "deg"), parse_strict="silent")
    if isinstance(unit, u.UnrecognizedUnit) and expected != u.deg:
        return column
    values = _numbers(column).to_numpy(float)
    try:
        values = unit.to(expected, values, AB_ZERO_POINT)
    except ValueError as error:
        wanted = "is no angle; give degrees" if expected == u.deg else f"does not convert to {expected}"
        raise ValueError(f"the catalogue has {column.name} in {unit}, which {wanted}") from error
    return pd.Series(values, column.index)


def _native(table):
    """Return a DataFrame with all numbers in the byte order of this machine, as pandas wants them."""
    swapped = [n for n, kind in enumerate(table.dtypes) if not getattr(kind, "isnative", True)]
    if not swapped:
        return table
    columns = [table.iloc[:, number] for number in range(table.shape[1])]
    for number in swapped:
        values = columns[number].to_numpy()
        columns[number] = pd.Series(values.astype(values.dtype.newbyteorder("=")), name=columns[number].name)
    columns = [column.set_axis(range(len(table))) for column in columns]
    native = pd.concat(columns, axis=1).set_axis(table.index)
    native.attrs = table.attrs
    return native


def _upper_case(names, wanted):
    """Return the upper-case names of columns by their names; those that are there twice stay."""
    upper = {}
    for name in names:
        upper.setdefault(str(name).upper(), []).append(name)
    for target, sources in upper.items():
        if target in wanted and len(sources) > 1 and sources.count(target) != 1:
            found = ", ".join(map(str, sources))
            raise ValueError(f"the catalogue has several columns for {target}: {found}; rename all but one")
    return {sources[0]: target for target, sources in upper.items() if len(sources) == 1}


def _numbers(column):
    """Return a column as numbers of its own type, else as float64 with NaN where they are missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu":
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(
        numbers.isna() & column.notna() & (column.astype(str).str.strip().str.lower() != "nan")
    )
    if len(bad):
        value = column.iloc[bad[0]]
        hint = "; convert it with astropy.coordinates.SkyCoord" * (column.name in ("RA", "DEC"))
        raise ValueError(f"{column.name} of row {bad[0]}, from 0, is {value!r}, expected a number{hint}")
    return pd.Series(numbers.to_numpy(float, na_value=np.nan), column.index)


def stripped_text(values):
    """Return values as stripped text, empty where they are missing."""
    values = pd.Series(values, dtype=object)
    values = values.where(values.notna(), "")
    text = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    # bytes that were written as text: b'PSF'
    stripped = {value: re.sub(r"^b(['\"])(.*)\1$", r"\2", value.strip()).strip() for value in set(text)}
    return pd.Series([stripped[value] for value in text], values.index, dtype=object)


def _type_names(types):
    """Return types as stripped upper-case text."""
    return stripped_text(types).str.upper()


def _check_types(types):
    """Raise a ValueError if there are types, and none of them is Tractor's."""
    found = sorted(set(types) - {""})
    if found and not set(found).intersection(TRACTOR_TYPES):
        examples = ", ".join(found[:5]) + ", ..." * (len(found) > 5)
        raise ValueError(f"TYPE: the types found are {examples}, expected some of {', '.join(TRACTOR_TYPES)}")


def degrees(bounds):
    """Return two bounds on the sky as floats [deg]; (NaN, NaN) if they are no two numbers [deg] or angles."""
    try:
        first, last = (u.Quantity(bound, u.deg) for bound in bounds if not isinstance(bound, str))
        return float(first.value), float(last.value)
    except (TypeError, ValueError):
        return np.nan, np.nan


def ra_ranges(ra):
    """Return a range of right ascension as pairs of bounds within 0..360 [deg]: two if it crosses RA 0.

    Parameters
    ----------
    ra : tuple of float or angles
        First and last right ascension [deg], eastwards: (-5, 5), (355, 5) and (355, 365) are the same range;
        (0, 360) is the whole circle.

    Raises
    ------
    ValueError
        If they are no two different numbers or angles, or more than a circle apart.
    """
    west, east = degrees(ra)
    width = east - west
    if not -360 < width <= 360 or width == 0 or max(abs(west), abs(east)) > 720:
        raise ValueError(
            f"ra={ra!r}: expected two different bounds [deg], from west to east, at most 360 apart"
        )
    if width == 360:
        return [(0.0, 360.0)]
    west, east = west % 360, east % 360 or 360.0
    return [(west, east)] if west < east else [(west, 360.0), (0.0, east)]


def check_dec_range(dec):
    """Return a range of declination [deg or angles] as two floats [deg].

    Raises
    ------
    ValueError
        If they are no two numbers or angles within -90..90 deg, the lower first.
    """
    south, north = degrees(dec)
    if not -90 <= south < north <= 90:
        raise ValueError(f"dec={dec!r}: expected the lower, then the upper bound within -90..90 deg")
    return south, north


def in_region(table, ra, dec):
    """Return which rows are in a box of sky, edges included, bool (n,).

    Parameters
    ----------
    table : pandas.DataFrame or structured numpy.ndarray
        n rows with RA and DEC [deg]; those without a position are not in it.
    ra, dec : tuple of float or angles
        As of :func:`ra_ranges`; the lower, then the upper bound [deg].
    """
    ranges, (south, north) = ra_ranges(ra), check_dec_range(dec)
    values = one_turn(table["RA"])
    inside = [(values >= west) & (values <= east) for west, east in ranges]
    if ranges[-1][1] == 360:
        inside.append(values == 0)
    values = np.asarray(table["DEC"], dtype=float)
    return np.any(inside, axis=0) & (values >= south) & (values <= north)


def angle(radius):
    """Return a radius as a Quantity in arcsec, as which a plain number is taken.

    Raises
    ------
    ValueError
        If it is no angle above 0.
    """
    try:
        radius = u.Quantity(radius, u.arcsec)
    except (u.UnitConversionError, TypeError) as error:
        raise ValueError(f"radius={radius!r}: expected an angle, or a number of arcsec") from error
    if not (radius.isscalar and 0 < radius.value < np.inf):
        raise ValueError(f"radius={radius}: expected an angle above 0")
    return radius


def has_position(table):
    """Return which rows of a table have a position on the sphere, RA and DEC [deg], bool (n,)."""
    return np.isfinite(table["RA"].to_numpy(float)) & (np.abs(table["DEC"].to_numpy(float)) <= 90)


def checked_positions(catalogue):
    """Return the RA (0..360) and DEC [deg] of a table, a DataFrame of n rows.

    Raises
    ------
    KeyError
        If the table, of any kind that :func:`standard_columns` takes, lacks a column.
    ValueError
        If a row has no position on the sphere; the message names the first.
    """
    table = standard_columns(catalogue, ["RA", "DEC"])
    bad = np.flatnonzero(~has_position(table))
    if len(bad):
        row = table.iloc[bad[0]]
        raise ValueError(
            f"{len(bad)} of {len(table)} rows have no position in the sky, the first, row {bad[0]} from 0 is "
            f"RA {row['RA']}, DEC {row['DEC']} [deg]; mend or leave them out"
        )
    ra, dec = table[["RA", "DEC"]].to_numpy(float).T
    return pd.DataFrame({"RA": one_turn(ra), "DEC": dec})


def position_table(catalogue):
    """Return the columns of the position files: RA, DEC [deg] and type.

    Raises
    ------
    KeyError
        If the catalogue lacks one of them.
    ValueError
        As of :func:`checked_positions`.
    """
    table = standard_columns(catalogue, ["RA", "DEC", "TYPE"])
    return checked_positions(table).assign(type=table["TYPE"].to_numpy())


def magnitude(flux):
    """Return magnitudes [mag, AB], 22.5 - 2.5 log10(flux); NaN where flux <= 0.

    Parameters
    ----------
    flux : array-like
        Fluxes [nanomaggies], of any shape, which the result has too.
    """
    flux = np.asarray(flux, dtype=float)
    return 22.5 - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def labels_of_types(types):
    """Return the labels of Tractor types: 0 for PSF, 1 for those of `GALAXY_TYPES`, -1 for any other.

    Parameters
    ----------
    types : array-like of n str

    Returns
    -------
    numpy.ndarray of int8 (n,)
    """
    types = _type_names(np.asarray(types, dtype=object))
    return np.select([types.isin(STAR_TYPES), types.isin(GALAXY_TYPES)], [0, 1], -1).astype(np.int8)
