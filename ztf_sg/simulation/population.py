"""Stars and galaxies of the simulated sky: their catalogue, and the truth behind it."""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.colours import band_fluxes, galaxy_colours, star_colours

TRUTH_COLUMNS = (
    "CLASS", "RADIUS", "E1", "E2", "INDEX", "BULGE", "KNOTS", "COMPANION", "SEPARATION", "ANGLE",
    "OFFSET_RA", "OFFSET_DEC", "LABEL_ERROR",
)  # fmt: skip


def simulate_population(seed=0):
    """Return a simulated catalogue, with the columns of a sweep file, and the truth behind its n rows.

    The truth: OBJID; CLASS (star or galaxy); half-light RADIUS without the bulge [arcsec]; ellipticity E1,
    E2; Sersic INDEX; shares of the light in a BULGE and in KNOTS; flux of a COMPANION star relative to the
    primary, its SEPARATION [arcsec] and position ANGLE [rad]; OFFSET_RA and OFFSET_DEC, from the catalogue
    position to the true one [arcsec]; LABEL_ERROR, whether TYPE belongs to the other class.
    """
    rng, colour_rng = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 9])
    table = pd.concat(
        [_simulate_stars(rng, colour_rng), _simulate_galaxies(rng, colour_rng)], ignore_index=True
    )
    table = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
    for band in "GRZ":
        table[f"FRACFLUX_{band}"] = _fracflux(table, f"FIRST_{band}")
    table = table.drop(columns=[f"FIRST_{band}" for band in "GRIZ"])
    table = _confuse_labels(table, rng)
    table = _add_defects(table, rng, colour_rng)
    table.insert(0, "OBJID", np.arange(len(table), dtype=np.int32))
    singles = table.select_dtypes("float64").columns.difference(["RA", "DEC"])
    table = table.astype(dict.fromkeys(singles, np.float32))
    return table.drop(columns=list(TRUTH_COLUMNS)), table[["OBJID", *TRUTH_COLUMNS]]


def plane_coordinates(ra, dec):
    """Return positions [deg] on a plane, shape (..., 2), with distances right to 0.1 % over the mock sky."""
    ra, dec = np.asarray(ra, dtype=float), np.asarray(dec, dtype=float)
    return np.stack([ra * np.cos(np.radians(np.mean(p.DEC_RANGE))), dec], axis=-1)


def _magnitudes(rng, population):
    """Draw i magnitudes whose counts grow as 10**(slope * magnitude)."""
    area = np.ptp(p.RA_RANGE) * np.ptp(np.degrees(np.sin(np.radians(p.DEC_RANGE))))
    count = rng.poisson(population["density"] * area)
    low, high = (10 ** (population["slope"] * population[end]) for end in ("bright", "faint"))
    return np.log10(rng.uniform(low, high, count)) / population["slope"]


def _positions(rng, count):
    """Draw right ascensions and declinations [deg]."""
    return rng.uniform(*p.RA_RANGE, count), rng.uniform(*p.DEC_RANGE, count)


def _with_companions(rng, ra, dec):
    """Move a share of the objects to within 1 to 6 arcsec of another one."""
    moved = np.flatnonzero(rng.random(len(ra)) < p.COMPANION_FRACTION)
    host = rng.integers(0, len(ra), len(moved))
    distance, angle = rng.uniform(1, 6, len(moved)) / 3600, rng.uniform(0, 2 * np.pi, len(moved))
    ra[moved] = ra[host] + distance * np.cos(angle)
    dec[moved] = dec[host] + distance * np.sin(angle)
    return ra, dec


def _simulate_stars(rng, colour_rng):
    """Draw stars along the stellar locus: turn-off stars and M dwarfs, redder when fainter, and binaries."""
    i = _magnitudes(rng, p.STARS)
    n = len(i)
    first, colours = star_colours(rng, colour_rng, i)
    ra, dec = _with_companions(rng, *_positions(rng, n))
    separation = p.BINARY_SEPARATION * np.exp(rng.normal(0, p.BINARY_SEPARATION_SCATTER, n))
    binary = (rng.random(n) < p.BINARY_FRACTION) & (separation < p.LARGEST_BINARY_SEPARATION)
    return pd.DataFrame(
        {
            "TYPE": "PSF", "RA": ra, "DEC": dec, **band_fluxes(i, colours), **band_fluxes(i, first, "FIRST"),
            "SHAPE_R": 0.0, "SHAPE_E1": 0.0, "SHAPE_E2": 0.0, "SERSIC": 0.0,
            "CLASS": "star", "RADIUS": 0.0, "E1": 0.0, "E2": 0.0, "INDEX": 0.0, "BULGE": 0.0, "KNOTS": 0.0,
            "COMPANION": np.where(binary, 10 ** (-0.4 * rng.exponential(2.0, n)), 0.0),
            "SEPARATION": np.where(binary, separation, 0.0), "ANGLE": rng.uniform(0, 2 * np.pi, n),
            **_offsets(rng, np.zeros(n)), "LABEL_ERROR": False,
        }
    )  # fmt: skip


def _simulate_galaxies(rng, colour_rng):
    """Draw galaxies of the red sequence and the blue cloud, smaller when fainter, some of them in groups."""
    i = _magnitudes(rng, p.GALAXIES)
    n = len(i)
    red = rng.random(n) < p.RED_FRACTION
    first, colours = galaxy_colours(rng, colour_rng, i, red)
    radius = p.RADIUS * 10 ** rng.normal(p.RADIUS_SLOPE * (i - 18.5), p.RADIUS_SCATTER)
    ellipticity = np.minimum(rng.rayleigh(p.ELLIPTICITY, n), p.LARGEST_ELLIPTICITY)
    angle = rng.uniform(0, 2 * np.pi, n)
    e1, e2 = ellipticity * np.cos(angle), ellipticity * np.sin(angle)
    kind, sersic = _profiles(rng, i, radius, red)
    ra, dec = _in_groups(rng, *_positions(rng, n))
    ra, dec = _with_companions(rng, ra, dec)
    disc, fitted_round = sersic < 2, kind == "REX"
    return pd.DataFrame(
        {
            "TYPE": kind, "RA": ra, "DEC": dec, **band_fluxes(i, colours), **band_fluxes(i, first, "FIRST"),
            "SHAPE_R": radius, "SHAPE_E1": np.where(fitted_round, 0, e1),
            "SHAPE_E2": np.where(fitted_round, 0, e2), "SERSIC": sersic,
            "CLASS": "galaxy", "RADIUS": radius, "E1": e1, "E2": e2, "INDEX": sersic,
            "BULGE": np.where(disc, rng.uniform(0, p.DISC_BULGE, n), 0.0),
            "KNOTS": np.where(disc & ~red, rng.uniform(0, p.KNOTS, n), 0.0),
            "COMPANION": 0.0, "SEPARATION": 0.0, "ANGLE": 0.0,
            **_offsets(rng, p.GALAXY_POSITION_SCATTER * radius), "LABEL_ERROR": False,
        }
    )  # fmt: skip


def _offsets(rng, extra_scatter):
    """Draw the offsets of objects from their catalogue positions [arcsec]."""
    scatter = np.hypot(p.POSITION_SCATTER, extra_scatter)
    return {name: rng.normal(0, scatter) for name in ("OFFSET_RA", "OFFSET_DEC")}


def _confuse_labels(table, rng):
    """Give a few stars the type of a small galaxy, and a few compact galaxies that of a star."""
    chance, star = rng.random(len(table)), table["CLASS"] == "star"
    as_galaxy = star & (chance < p.STAR_AS_GALAXY)
    compact = ~star & (table["RADIUS"] < p.COMPACT_RADIUS)
    as_star = compact & (chance < p.GALAXY_AS_STAR)
    table.loc[as_galaxy, ["TYPE", "SERSIC"]] = "REX", 1.0
    table.loc[as_galaxy, "SHAPE_R"] = rng.uniform(0.2, 0.5, as_galaxy.sum())
    table.loc[as_star, "TYPE"] = "PSF"
    table.loc[as_star, ["SHAPE_R", "SHAPE_E1", "SHAPE_E2", "SERSIC"]] = 0.0
    return table.assign(LABEL_ERROR=as_galaxy | as_star)


def _profiles(rng, i, radius, red):
    """Draw Tractor types and Sersic indices: many faint galaxies are round, bright ones have a free index."""
    n = len(i)
    kind = np.where(red, "DEV", "EXP")
    kind[(i < 18.5) & (rng.random(n) < 0.5)] = "SER"
    kind[(radius < 0.8) | ((i > 19) & (rng.random(n) < 0.5))] = "REX"
    free = np.clip(np.round(np.where(red, rng.normal(3.4, 0.9, n), rng.normal(1.4, 0.5, n)) * 4) / 4, 0.5, 6)
    fixed = pd.Series(kind).map({"EXP": 1.0, "REX": 1.0, "DEV": 4.0}).to_numpy()
    return kind, np.where(kind == "SER", free, fixed)


def _in_groups(rng, ra, dec):
    """Move a share of the galaxies into groups with a Gaussian radius of 2 arcmin."""
    members = np.flatnonzero(rng.random(len(ra)) < p.GROUPED_FRACTION)
    centres = np.stack(_positions(rng, max(len(members) // 25, 1)), axis=1)
    moved = centres[rng.integers(0, len(centres), len(members))] + rng.normal(0, 2 / 60, (len(members), 2))
    from_middle = np.abs(moved - [np.mean(p.RA_RANGE), np.mean(p.DEC_RANGE)])
    inside = (from_middle < np.ptp(p.RA_RANGE) / 2).all(axis=1)
    ra[members[inside]], dec[members[inside]] = moved[inside].T
    return ra, dec


def _fracflux(table, flux):
    """Return the share of each object's flux that belongs to neighbours, in an image of 1.2 arcsec seeing."""
    positions = plane_coordinates(table["RA"], table["DEC"]) * 3600
    pairs = cKDTree(positions).query_pairs(8.0, output_type="ndarray")
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    values, radius = table[flux].to_numpy(), table["SHAPE_R"].to_numpy()
    variance = 2 * (1.2 / 2.355) ** 2 + (0.6 * radius[first]) ** 2 + (0.6 * radius[second]) ** 2
    overlap = np.exp(-np.sum((positions[first] - positions[second]) ** 2, axis=1) / (2 * variance))
    return np.bincount(first, overlap * values[second], len(table)) / values


def _add_defects(table, rng, noise_rng):
    """Add the defects of a real catalogue: rows of type DUP, and bands without a detection.

    Rows of type DUP have no flux. A band without an image has a flux of 0, and one in which nothing was seen
    has noise, here below 0: then FRACFLUX, which is relative to it, is negative too.
    """
    fluxes = [f"FLUX_{band}" for band in "GRIZ"]
    table.loc[rng.random(len(table)) < p.DUPLICATE_FRACTION, "TYPE"] = "DUP"
    table.loc[table["TYPE"] == "DUP", fluxes] = 0.0
    for band in "GRZ":
        flux, share = f"FLUX_{band}", f"FRACFLUX_{band}"
        undetected = (rng.random(len(table)) < p.UNDETECTED_FRACTION / 3) & (table["TYPE"] != "DUP")
        noise_only = np.minimum(noise_rng.normal(0, p.FLUX_NOISE, len(table)), 0)  # half have no image
        table[flux] = np.where(undetected, noise_only, table[flux])
        table[share] = np.where(table[flux] < 0, 0 - table[share], table[share])
    return table
