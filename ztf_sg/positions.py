"""Positions and labels of stars and galaxies, selected from a Legacy Survey catalogue by cuts.

A catalogue is a pandas.DataFrame or astropy Table with the columns of a sweep file, in upper or lower case.
A cut returns a DataFrame of the rows that pass, which remembers what each cut left: :func:`cut_report`.
"""

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import Table

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.files import atomic_write, local_path
from ztf_sg.ztf import CUTOUT_SIZE

STAR_TYPES = ("PSF",)
GALAXY_TYPES = ("REX", "EXP", "DEV", "SER", "SIMP", "COMP")  # the last two before DR9
TEXT_COLUMNS = {"TYPE", "AUDIT"}
MAGNITUDE_LIMITS = {"g": 20.5, "r": 20.0, "z": 19.0}
RA_RANGE, DEC_RANGE = (5.0, 10.0), (-5.0, 0.0)
ISOLATION_RADIUS = CUTOUT_SIZE * np.sqrt(2) * u.arcsec  # the diagonal of a cutout
MOTION_THRESHOLD = 5  # times its error: the least motion or parallax that counts
POSITION_FILES, POSITION_COLUMNS = ("stars.csv", "gals.csv"), ("RA", "DEC", "type")
MOTION_COLUMNS = ("parallax", "parallax_error", "pmra", "pmdec", "pmra_error", "pmdec_error")
GAIA_COLUMNS = ("gaia_source_id", *MOTION_COLUMNS, "separation")


def standard_columns(catalogue, needed=()):
    """Return a catalogue as a DataFrame with upper-case columns, and types as stripped text.

    Numbers are in the byte order of this machine, and those of RA, DEC [deg] and the columns needed are
    floats, NaN where they are missing. Where two names differ in case only, such as RA and ra after a match,
    the upper-case one counts, and the other stays as it is. A column of arrays becomes one of objects.

    Parameters
    ----------
    catalogue : pandas.DataFrame, astropy.table.Table, pyarrow.Table or structured numpy.ndarray
        RA and DEC are in degrees, unless an astropy column has another unit.
    needed : sequence of str
        Upper-case columns that must be there.

    Raises
    ------
    KeyError
        If one of them is missing.
    TypeError
        If it is no table.
    ValueError
        If a column that is wanted is there several times, or holds something else than numbers.
    """
    table = _native(_frame_of(catalogue))
    table = table.rename(columns=_upper_case(list(table.columns), {"RA", "DEC", "TYPE", *needed}))
    missing = [name for name in needed if name not in table]
    if missing:
        found = list(map(str, table.columns))
        similar = [name for name in found if name.upper().startswith(tuple(f"{name}_" for name in missing))]
        hint = f"; rename one of {', '.join(similar)}" if similar else ""
        raise KeyError(f"the catalogue lacks {', '.join(missing)}; it has {', '.join(found)}{hint}")
    numbers = {"RA", "DEC", *needed}.intersection(table.columns) - TEXT_COLUMNS
    table = table.assign(**{name: _numbers(table[name]) for name in numbers})
    if "TYPE" in table:
        table = table.assign(TYPE=_type_names(table["TYPE"]))
    return table


def _frame_of(catalogue):
    """Return a table of any kind as a DataFrame, with RA and DEC in degrees."""
    if isinstance(catalogue, np.ndarray) and catalogue.dtype.names:
        catalogue = Table(catalogue)
    if isinstance(catalogue, Table):
        wide = [name for name in catalogue.colnames if getattr(catalogue[name], "ndim", 1) > 1]
        table = catalogue[[name for name in catalogue.colnames if name not in wide]]
        for name in table.colnames:
            unit = getattr(table[name], "unit", None)
            if name.upper() in ("RA", "DEC") and unit not in (None, u.deg):
                table[name] = _in_degrees(table[name], name, unit)
        frame = table.to_pandas(index=False)
        frame = frame.assign(**{name: list(catalogue[name]) for name in wide})
        return frame[[name for name in catalogue.colnames if name in frame]] if wide else frame
    if isinstance(catalogue, pa.Table):
        return catalogue.to_pandas()
    if not isinstance(catalogue, pd.DataFrame):
        kind = type(catalogue).__name__
        raise TypeError(f"catalogue: expected a pandas.DataFrame or an astropy Table, got {kind}")
    return catalogue


def _in_degrees(column, name, unit):
    values = np.ma.filled(np.ma.asarray(getattr(column, "value", column), float), np.nan)
    try:
        return u.Quantity(values, unit).to_value(u.deg)
    except u.UnitConversionError as error:
        raise ValueError(f"the catalogue has {name} in {unit}, which is no angle; give degrees") from error


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


def _type_names(types):
    """Return types as stripped upper-case text."""
    text = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in types]
    return pd.Series(text, getattr(types, "index", None), dtype=object).str.strip().str.upper()


def ra_ranges(ra):
    """Return a range of right ascension as pairs of bounds within 0..360 [deg]: two if it crosses RA 0.

    Parameters
    ----------
    ra : tuple of float
        First and last right ascension [deg], eastwards: (-5, 5), (355, 5) and (355, 365) are the same range;
        (0, 360) is the whole circle.

    Raises
    ------
    ValueError
        If they are no two different numbers, or more than a circle apart.
    """
    west, east = map(float, ra)
    width = east - west
    if not -360 < width <= 360 or width == 0 or max(abs(west), abs(east)) > 720:
        raise ValueError(
            f"ra={tuple(ra)}: expected two different bounds [deg], from west to east, at most 360 apart"
        )
    if width == 360:
        return [(0.0, 360.0)]
    west, east = west % 360, east % 360 or 360.0
    return [(west, east)] if west < east else [(west, 360.0), (0.0, east)]


def check_dec_range(dec):
    """Raise a ValueError unless a range of declination [deg] is one, the lower bound first."""
    if not -90 <= dec[0] < dec[1] <= 90:
        raise ValueError(f"dec={tuple(dec)}: expected the lower, then the upper bound within -90..90 deg")


def in_region(table, ra, dec):
    """Return which rows are in a box of sky, edges included, bool (n,).

    Parameters
    ----------
    table : pandas.DataFrame or structured numpy.ndarray
        n rows with RA and DEC [deg]; those without a position are not in it.
    ra, dec : tuple of float
        As of :func:`ra_ranges`; the lower, then the upper bound [deg].
    """
    values = np.asarray(table["RA"], dtype=float) % 360
    inside = [(values >= west) & (values <= east) for west, east in ra_ranges(ra)]
    if ra_ranges(ra)[-1][1] == 360:
        inside.append(values == 0)
    check_dec_range(dec)
    north = np.asarray(table["DEC"], dtype=float)
    return np.any(inside, axis=0) & (north >= dec[0]) & (north <= dec[1])


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


def cut_region(catalogue, ra=RA_RANGE, dec=DEC_RANGE):
    """Keep objects in a box of sky, edges included.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    ra : tuple of float
        First and last right ascension [deg], eastwards: (355, 5) and (-5, 5) cross RA 0.
    dec : tuple of float
        Least and greatest declination [deg].

    Raises
    ------
    ValueError
        If a range makes no sense.
    """
    table = standard_columns(catalogue, ["RA", "DEC"])
    return _keep(table, in_region(table, ra, dec), f"RA {ra[0]:g}..{ra[1]:g}, DEC {dec[0]:g}..{dec[1]:g} deg")


def cut_types(catalogue):
    """Keep objects with the type of a star or a galaxy; DUP is neither."""
    table = standard_columns(catalogue, ["TYPE"])
    return _keep(table, labels_of_types(table["TYPE"]) >= 0, "type of a star or a galaxy")


def cut_fluxes(catalogue, bands="grz"):
    """Keep objects with a positive flux in every band; a flux of 0 or NaN means no measurement."""
    names = [f"FLUX_{band.upper()}" for band in bands]
    table = standard_columns(catalogue, names)
    positive = (table[names] > 0).to_numpy(bool, na_value=False).all(axis=1)
    return _keep(table, positive, f"flux > 0 in {', '.join(bands)}")


def cut_magnitudes(catalogue, limits=MAGNITUDE_LIMITS):
    """Keep objects brighter than a limit in every band.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    limits : dict of str to float
        Faintest magnitude [mag, AB] by band. Objects without a positive flux do not pass.
    """
    table = standard_columns(catalogue, [f"FLUX_{band.upper()}" for band in limits])
    bright = [magnitude(table[f"FLUX_{band.upper()}"]) < limit for band, limit in limits.items()]
    text = ", ".join(f"{band} < {limit:g}" for band, limit in limits.items())
    return _keep(table, np.all(bright, axis=0), text)


def cut_blends(catalogue, max_fracflux=0.1, bands="grz"):
    """Keep objects whose FRACFLUX, the neighbours' light over their own, is at most a limit in every band.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    max_fracflux : float
        Largest share, of each band's flux.
    bands : sequence of str
        Such as "grz".
    """
    names = [f"FRACFLUX_{band.upper()}" for band in bands]
    table = standard_columns(catalogue, names)
    clean = ((table[names] >= 0) & (table[names] <= max_fracflux)).to_numpy(bool, na_value=False)
    return _keep(table, clean.all(axis=1), f"FRACFLUX <= {max_fracflux:g} in {', '.join(bands)}")


def cut_neighbours(catalogue, radius=ISOLATION_RADIUS):
    """Keep objects without another object of the catalogue nearby.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    radius : astropy.units.Quantity or float
        An angle; a plain number is in arcsec; by default the diagonal of a cutout.

    Raises
    ------
    ValueError
        If the radius is no angle above 0.
    """
    radius = angle(radius)
    table = standard_columns(catalogue, ["RA", "DEC"])
    alone = _has_position(table)
    rows = np.flatnonzero(alone)
    if len(rows) > 1:
        sky = SkyCoord(*table[["RA", "DEC"]].to_numpy(float)[rows].T, unit="deg")
        first, second, _, _ = search_around_sky(sky, sky, radius)
        alone[rows[first[first != second]]] = False
    return _keep(table, alone, f"no neighbour within {radius:.1f}")


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


def _has_position(table):
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
    bad = np.flatnonzero(~_has_position(table))
    if len(bad):
        row = table.iloc[bad[0]]
        raise ValueError(
            f"{len(bad)} of {len(table)} rows have no position in the sky, the first, row {bad[0]} from 0 is "
            f"RA {row['RA']}, DEC {row['DEC']} [deg]; mend or leave them out"
        )
    ra, dec = table[["RA", "DEC"]].to_numpy(float).T
    return pd.DataFrame({"RA": np.where((ra >= 0) & (ra < 360), ra, ra % 360), "DEC": dec})


def select_positions(catalogue, n_per_class=10_000, random_state=0):
    """Apply all cuts with their default limits, in order, then `sample_classes`.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
        Columns RA, DEC, TYPE, FLUX_G, R, Z and FRACFLUX_G, R, Z.
    n_per_class, random_state : int
        As of `sample_classes`.

    Returns
    -------
    stars, galaxies : pandas.DataFrame

    Raises
    ------
    KeyError
        If the catalogue lacks a column.
    ValueError
        If a class has no object left.
    """
    for cut in (cut_region, cut_types, cut_fluxes, cut_magnitudes, cut_blends, cut_neighbours):
        catalogue = cut(catalogue)
    return sample_classes(catalogue, n_per_class, random_state)


def sample_classes(catalogue, n_per_class=10_000, random_state=0):
    """Return the stars and the galaxies, two DataFrames of up to `n_per_class` rows in random order.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
        Columns RA, DEC and TYPE.
    n_per_class : int
        Largest number of stars, and of galaxies.
    random_state : int
        Seed of the order.

    Raises
    ------
    ValueError
        If a class has no object left.
    """
    table = standard_columns(catalogue, ["RA", "DEC", "TYPE"])
    labels = labels_of_types(table["TYPE"])
    for label, name in enumerate(CLASS_NAMES):
        if not np.any(labels == label):
            raise ValueError(f"no {name} is left after the cuts; loosen them or enlarge the region")
    shuffled = (table[labels == label].sample(frac=1, random_state=random_state) for label in (0, 1))
    return tuple(rows.head(n_per_class).reset_index(drop=True) for rows in shuffled)


def motion_significance(matched):
    """Return the proper motion or the parallax of Gaia sources over its error, whichever ratio is larger.

    Parameters
    ----------
    matched : pandas.DataFrame
        n rows with ``parallax``, ``parallax_error`` [mas], ``pmra``, ``pmdec``, ``pmra_error`` and
        ``pmdec_error`` [mas/yr], in lower or upper case.

    Returns
    -------
    numpy.ndarray (n,)
        NaN without a source, or for a source with a position only.

    Notes
    -----
    The total proper motion is mu = sqrt(pmra^2 + pmdec^2), and its error, for uncorrelated components,
    sqrt((pmra * pmra_error)^2 + (pmdec * pmdec_error)^2) / mu.
    """
    table = _gaia_columns(matched)
    motion = np.hypot(table["pmra"], table["pmdec"])
    error_times_motion = np.hypot(table["pmra"] * table["pmra_error"], table["pmdec"] * table["pmdec_error"])
    moves = motion**2 / error_times_motion.where(error_times_motion > 0)
    return np.fmax(moves, table["parallax"] / table["parallax_error"]).to_numpy(float)


def significant_motion(matched):
    """Return where :func:`motion_significance` is above `MOTION_THRESHOLD`, as of nearby stars, bool (n,)."""
    return motion_significance(matched) > MOTION_THRESHOLD


def audit_labels(matched):
    """Add a column ``audit`` to a table: whether the motion that Gaia measured agrees with the Tractor type.

    It is "confirmed" for a star that moves, "unchallenged" for a galaxy that does not, and "doubtful" for a
    galaxy that moves and for a point source that does not, which may be a quasar or a compact galaxy.

    Parameters
    ----------
    matched : pandas.DataFrame
        n rows with a column TYPE (or type) and those of :func:`motion_significance`.
    """
    is_star = labels_of_types(standard_columns(matched, ["TYPE"])["TYPE"]) == 0
    moves = significant_motion(matched)
    verdict = np.select([is_star & moves, ~is_star & ~moves], ["confirmed", "unchallenged"], "doubtful")
    return matched.assign(audit=verdict)


def audit_report(audited):
    """Count the objects of :func:`audit_labels`; the columns are class, audit, reason and objects."""
    table = _gaia_columns(audited, ["audit", "gaia_source_id"])
    is_star = labels_of_types(standard_columns(audited, ["TYPE"])["TYPE"]) == 0
    verdict = table["audit"].to_numpy()
    moves = verdict == np.where(is_star, "confirmed", "doubtful")
    reason = np.select(
        [table["gaia_source_id"].isna(), moves, table["pmra"].isna()],
        ["no Gaia source", "significant motion", "Gaia source without a measured motion"],
        "no significant motion",
    )
    report = pd.DataFrame({"class": np.where(is_star, *CLASS_NAMES), "audit": verdict, "reason": reason})
    counts = report.value_counts(sort=False).rename("objects").reset_index()
    return counts.sort_values(["class", "audit", "objects"], ascending=False, ignore_index=True)


def cut_doubtful(audited):
    """Drop objects whose label Gaia makes doubtful; see :func:`audit_labels`."""
    table = standard_columns(audited, ["AUDIT"])
    return _keep(table, table["AUDIT"] != "doubtful", "label not doubtful to Gaia")


def cut_report(catalogue):
    """Return what each cut left: a DataFrame with columns cut, before, left and removed."""
    report = pd.DataFrame(catalogue.attrs.get("cuts", []), columns=["cut", "before", "left"])
    return report.assign(removed=report["before"] - report["left"])


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


def write_positions(stars, galaxies, directory):
    """Write the `POSITION_FILES` into a directory; return their paths.

    Parameters
    ----------
    stars, galaxies : pandas.DataFrame or astropy.table.Table
        As of `position_table`.
    directory : path-like
    """
    paths = [local_path(directory) / name for name in POSITION_FILES]
    for path, table in zip(paths, (stars, galaxies), strict=True):
        _write_csv(position_table(table), path)
    return paths


def write_audit(stars, galaxies, directory):
    """Write the rows of :func:`audit_labels` to ``label_audit.csv`` in a directory; return its path."""
    names = [*GAIA_COLUMNS, "audit"]
    tables = [position_table(table).join(_gaia_columns(table, names)[names]) for table in (stars, galaxies)]
    path = local_path(directory) / "label_audit.csv"
    _write_csv(pd.concat(tables), path)
    return path


def read_positions(directory):
    """Return the stars and galaxies that :func:`write_positions` wrote, as of `position_table`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file lacks a column, or holds a position that is not on the sphere, or an object of the other
        class.
    """
    directory = local_path(directory)
    return tuple(_read_class(directory / name, label) for label, name in enumerate(POSITION_FILES))


def _read_class(path, label):
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run notebook 1 (getting object positions) first")
    try:
        table = pd.read_csv(path, dtype={"type": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a table of positions ({reason}); run notebook 1 again") from error
    missing = [name for name in POSITION_COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{path}: lacks the column {', '.join(missing)}; run notebook 1 again")
    ra, dec = (pd.to_numeric(table[name], errors="coerce") for name in ("RA", "DEC"))
    bad = ~(ra.between(0, 360) & dec.between(-90, 90)) | (labels_of_types(table["type"]) != label)
    if bad.any():
        row = int(np.argmax(bad))
        what = f"row {row} is no {CLASS_NAMES[label]} with a position"
        raise ValueError(f"{path}: {what}: {table.iloc[row].to_dict()}")
    return position_table(table)


def _write_csv(table, path):
    with atomic_write(path) as file:
        table.to_csv(file, index=False, float_format="%.7f")


def _gaia_columns(table, needed=MOTION_COLUMNS):
    """Return the columns of Gaia and of the audit, in lower case as the cross-match has them."""
    names = {*GAIA_COLUMNS, "audit"}
    table = table.rename(columns=lambda name: str(name).lower() if str(name).lower() in names else name)
    missing = [name for name in needed if name not in table]
    if missing:
        raise KeyError(f"the table lacks {', '.join(missing)}; match it with Gaia, then audit its labels")
    return table[[name for name in (*GAIA_COLUMNS, "audit") if name in table]]


def _keep(table, mask, cut):
    """Return the rows of a mask, and add the cut to the report of the table."""
    kept = table[np.asarray(mask)].reset_index(drop=True)
    kept.attrs["cuts"] = [*table.attrs.get("cuts", []), {"cut": cut, "before": len(table), "left": len(kept)}]
    return kept
