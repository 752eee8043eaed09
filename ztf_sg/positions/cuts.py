"""Cuts of a catalogue: each returns the rows that pass, and remembers what it left."""

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky

from ztf_sg.checks import is_number, is_whole_number
from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.positions.catalogue import (
    angle,
    degrees,
    has_position,
    in_region,
    labels_of_types,
    magnitude,
    standard_columns,
)
from ztf_sg.ztf import CUTOUT_SIZE

BANDS = ("g", "r", "i", "z", "w1", "w2", "w3", "w4")  # of the Legacy Surveys
MAGNITUDE_LIMITS = {"g": 20.5, "r": 20.0, "z": 19.0}
RA_RANGE, DEC_RANGE = (5.0, 10.0), (-5.0, 0.0)
ISOLATION_RADIUS = CUTOUT_SIZE * np.sqrt(2) * u.arcsec  # the diagonal of a cutout


def cut_region(catalogue, ra=RA_RANGE, dec=DEC_RANGE):
    """Keep objects in a box of sky, edges included.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    ra : tuple of float or angles
        First and last right ascension [deg], eastwards: (355, 5) and (-5, 5) cross RA 0.
    dec : tuple of float or angles
        Least and greatest declination [deg].

    Raises
    ------
    ValueError
        If a range makes no sense.
    """
    table = standard_columns(catalogue, ["RA", "DEC"])
    inside = in_region(table, ra, dec)
    (west, east), (south, north) = degrees(ra), degrees(dec)
    return keep(table, inside, f"RA {west:g}..{east:g}, DEC {south:g}..{north:g} deg")


def cut_types(catalogue):
    """Keep objects with the type of a star or a galaxy.

    DUP is neither: a Gaia source that coincides with an extended object, which is fitted in its place.

    Raises
    ------
    ValueError
        If none of the types is one of Tractor's.
    """
    table = standard_columns(catalogue, ["TYPE"])
    return keep(table, labels_of_types(table["TYPE"]) >= 0, "type of a star or a galaxy")


def cut_fluxes(catalogue, bands="grz"):
    """Keep objects with a positive flux in every band.

    A flux below 0 is noise about 0, a non-detection; one of 0 or NaN belongs to a band without an image.
    """
    names = band_columns("FLUX", bands, "bands")
    table = standard_columns(catalogue, names)
    positive = (table[names] > 0).to_numpy(bool, na_value=False).all(axis=1)
    return keep(table, positive, f"flux > 0 in {', '.join(bands)}")


def cut_magnitudes(catalogue, limits=MAGNITUDE_LIMITS):
    """Keep objects brighter than a limit in every band.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    limits : dict of str to float
        Faintest magnitude [mag, AB] by band. Objects without a positive flux do not pass.

    Raises
    ------
    ValueError
        If there is no limit, one that is no number, or one for an unknown band.
    """
    if not (isinstance(limits, dict) and all(is_number(limit) for limit in limits.values())):
        raise ValueError(f"limits={limits!r}: expected magnitudes by band, such as {MAGNITUDE_LIMITS}")
    names = band_columns("FLUX", limits, "limits")
    table = standard_columns(catalogue, names)
    bright = [magnitude(table[name]) < limit for name, limit in zip(names, limits.values(), strict=True)]
    text = ", ".join(f"{band} < {limit:g}" for band, limit in limits.items())
    return keep(table, np.all(bright, axis=0), text)


def cut_blends(catalogue, max_fracflux=0.1, bands="grz"):
    """Keep objects whose FRACFLUX, the neighbours' light over their own, is from 0 to a limit in every band.

    A negative share comes from a flux below 0, its own or its neighbours'; it says nothing of blending.

    Parameters
    ----------
    catalogue : pandas.DataFrame or astropy.table.Table
    max_fracflux : float
        Largest share, of each band's flux.
    bands : sequence of str
        Such as "grz".

    Raises
    ------
    ValueError
        If the share is no number of at least 0, or a band is unknown.
    """
    if not (is_number(max_fracflux) and max_fracflux >= 0):
        raise ValueError(f"max_fracflux={max_fracflux!r}: expected a share of at least 0, such as 0.1")
    names = band_columns("FRACFLUX", bands, "bands")
    table = standard_columns(catalogue, names)
    clean = ((table[names] >= 0) & (table[names] <= max_fracflux)).to_numpy(bool, na_value=False)
    return keep(table, clean.all(axis=1), f"0 <= FRACFLUX <= {max_fracflux:g} in {', '.join(bands)}")


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
    alone = has_position(table)
    rows = np.flatnonzero(alone)
    if len(rows) > 1:
        sky = SkyCoord(*table[["RA", "DEC"]].to_numpy(float)[rows].T, unit="deg")
        first, second, _, _ = search_around_sky(sky, sky, radius)
        alone[rows[first[first != second]]] = False
    return keep(table, alone, f"no neighbour within {radius:.1f}")


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
        If a class has no object left, or `n_per_class` is no whole number above 0.
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
        If a class has no object left, or `n_per_class` is no whole number above 0.
    """
    if not (is_whole_number(n_per_class) and n_per_class > 0):
        raise ValueError(f"n_per_class={n_per_class!r}: expected a whole number above 0")
    table = standard_columns(catalogue, ["RA", "DEC", "TYPE"])
    labels = labels_of_types(table["TYPE"])
    for label, name in enumerate(CLASS_NAMES):
        if not np.any(labels == label):
            raise ValueError(f"no {name} is left after the cuts; loosen them or enlarge the region")
    shuffled = (table[labels == label].sample(frac=1, random_state=random_state) for label in (0, 1))
    return tuple(rows.head(n_per_class).reset_index(drop=True) for rows in shuffled)


def cut_report(catalogue):
    """Return what each cut left: a DataFrame with columns cut, before, left and removed."""
    report = pd.DataFrame(catalogue.attrs.get("cuts", []), columns=["cut", "before", "left"])
    return report.assign(removed=report["before"] - report["left"])


def keep(table, mask, cut):
    """Return the rows of a mask, and add the cut to the report of the table."""
    kept = table[np.asarray(mask)].reset_index(drop=True)
    kept.attrs["cuts"] = [*table.attrs.get("cuts", []), {"cut": cut, "before": len(table), "left": len(kept)}]
    return kept


def band_columns(quantity, bands, argument):
    """Return the names of the columns of a quantity in some bands, which are an argument of this name."""
    try:
        columns = [f"{quantity}_{band.upper()}" for band in bands if band.lower() in BANDS]
        wrong = not columns or len(columns) < len(bands)
    except (TypeError, AttributeError):
        wrong = True
    if wrong:
        raise ValueError(f"{argument}={bands!r}: expected bands among {', '.join(BANDS)}")
    return columns
