"""Colours of the simulated stars and galaxies: stars along a locus, galaxies red or blue.

Each object has two sets of colours. The first ones, of two clumps for each class, decide which objects are
within the limits of ZTF and which are blended; with them, the numbers and magnitudes i of the sample are
calibrated. Then colours are drawn along the locus, or by redshift, until each object is on the same side of
the limits. Only these are in the catalogue.
"""

import numpy as np

from ztf_sg.positions.cuts import MAGNITUDE_LIMITS
from ztf_sg.simulation import parameters as p

TRIES = 200  # of colours for an object, before its first ones are kept


def star_colours(rng, colour_rng, i):
    """Draw the first colours g - r, r - i and i - z of n stars [mag], (3, n), and those along the locus.

    Parameters
    ----------
    rng, colour_rng : numpy.random.Generator
        Of the first colours; of those along the locus.
    i : numpy.ndarray (n,)
        Magnitudes [mag, AB]; faint stars are more often M dwarfs.
    """
    n = len(i)
    dwarf = rng.random(n) < np.clip(0.15 + 0.08 * (i - 14), 0.05, 0.75)
    g_r = np.where(dwarf, rng.normal(1.42, 0.08, n), np.clip(rng.normal(0.55, 0.2, n), 0.1, 1.3))
    r_i = np.where(dwarf, 0.5 + rng.gamma(2.5, 0.28, n), 0.02 + 0.35 * g_r + rng.normal(0, 0.03, n))
    i_z = 0.52 * r_i + rng.normal(0, 0.03, n)

    def along_locus(rows):
        turn_off = 0.06 + colour_rng.gamma(2.5, 0.065, len(rows))
        m_dwarf = 0.15 + colour_rng.gamma(4.5, 0.22, len(rows))
        return _locus(colour_rng, np.where(dwarf[rows], m_dwarf, turn_off))

    first = np.stack([g_r, r_i, i_z])
    return first, _redraw(i, first, along_locus)


def galaxy_colours(rng, colour_rng, i, red):
    """Draw the first colours of n galaxies [mag], (3, n), and those by redshift, which have no sharp end.

    Parameters are those of `star_colours`, and which galaxies are `red`: without young stars, bool (n,).
    """
    n = len(i)
    g_r = np.where(red, rng.normal(1.15, 0.18, n), rng.normal(0.62, 0.16, n))
    r_i = np.where(red, rng.normal(0.45, 0.05, n), rng.normal(0.30, 0.07, n))
    i_z = np.where(red, rng.normal(0.26, 0.04, n), rng.normal(0.14, 0.06, n))

    def by_redshift(rows):
        redshift = colour_rng.gamma(4, 0.25, len(rows))  # relative to a typical one
        # Of each colour: at redshift 0, its growth with redshift and its scatter, by object.
        values = np.array(p.GALAXY_COLOURS)[red[rows].astype(int)].T
        scatter = colour_rng.normal(size=(3, len(rows)))
        return values[:, 0] + values[:, 1] * redshift + values[:, 2] * scatter

    first = np.stack([g_r, r_i, i_z])
    return first, _redraw(i, first, by_redshift)


def band_fluxes(i, colours, name="FLUX"):
    """Return the fluxes [nanomaggies] by column, such as FLUX_G, of objects with magnitudes i and colours."""
    g_r, r_i, i_z = colours
    magnitudes = {"G": i + r_i + g_r, "R": i + r_i, "I": i, "Z": i - i_z}
    return {f"{name}_{band}": 10 ** (0.4 * (22.5 - m)) for band, m in magnitudes.items()}


def _locus(rng, r_i):
    """Return colours (3, n) of stars with a colour r - i, and scatter.

    The locus in g - r is that of Juric et al. 2008, ApJ 673, 864, eq. 4.
    """
    g_r = 1.39 * (1 - np.exp(-4.9 * r_i**3 - 2.45 * r_i**2 - 1.68 * r_i - 0.05))
    return np.stack([g_r, r_i, 0.52 * r_i]) + rng.normal(0, p.LOCUS_SCATTER, (3, len(r_i)))


def _redraw(i, first, draw):
    """Draw colours until each object is on that side of the limits of ZTF where its first colours put it.

    An object for which no colours fit keeps its first ones.
    """
    colours, side = first.copy(), _within_limits(i, first)
    rows = np.arange(len(i))
    for _ in range(TRIES):
        drawn = draw(rows)
        fits = _within_limits(i[rows], drawn) == side[rows]
        colours[:, rows[fits]] = drawn[:, fits]
        rows = rows[~fits]
    return colours


def _within_limits(i, colours):
    """Tell which objects are brighter than the limits of ZTF in g, r and z."""
    fluxes = band_fluxes(i, colours)
    limits = {f"FLUX_{band.upper()}": 10 ** (0.4 * (22.5 - m)) for band, m in MAGNITUDE_LIMITS.items()}
    return np.all([fluxes[name] > limit for name, limit in limits.items()], axis=0)
