"""Simulated Gaia sources for the objects of the mock sky, with parallaxes and proper motions."""

import numpy as np
import pandas as pd

# An object moves or not by its true class: a "galaxy" that moves is a star with a wrong label.
GAIA_LIMIT = 21.0  # faintest magnitude of a source [mag, G]
QUASAR_FRACTION, BRIGHTEST_QUASAR = 0.02, 16.0  # share of the point sources fainter than this [mag, G]
TWO_PARAMETER_FRACTION = 0.02  # share of the sources that have a position only
GALAXY_SOURCE_FRACTION = 0.04  # share of the galaxies whose core is a source
FIRST_SOURCE_ID = 9 * 10**18  # higher than every number in Gaia DR3
GAIA_ERRORS = {  # typical error [mas, mas/yr] by G, as in DR3
    13.0: 0.02, 15.0: 0.02, 16.0: 0.04, 17.0: 0.07, 18.0: 0.12, 19.0: 0.23, 20.0: 0.5, 20.9: 1.0, 22.0: 2.0,
}  # fmt: skip


def simulate_gaia(objects, seed=0):
    """Return Gaia sources of the rows of `MockSky.objects`: RA, DEC [deg], motions [mas, mas/yr] and errors.

    Every star and quasar brighter than `GAIA_LIMIT` has a source, and a few galaxies do. A star is at the
    distance where a main-sequence star of its colour has its magnitude, and moves like a star of the disc or,
    if it is far away, of the halo.
    """
    rng = np.random.default_rng([seed, 3])
    table = objects[objects["FLUX_I"] > 0].reset_index(drop=True)
    magnitude, colour = _gaia_magnitude(table)
    chance = rng.random(len(table))
    point = (table["CLASS"] == "star").to_numpy()
    quasar = (chance < QUASAR_FRACTION) & (magnitude > BRIGHTEST_QUASAR)
    still = ~point | quasar
    seen = (magnitude < GAIA_LIMIT) & (point | (chance < GALAXY_SOURCE_FRACTION))
    motions = _motions(rng, magnitude, colour, still)
    errors = np.interp(magnitude, list(GAIA_ERRORS), list(GAIA_ERRORS.values()))
    errors = errors * np.where(point, 1, 2) * np.exp(rng.normal(0, 0.15, len(table)))
    position_only = rng.random(len(table)) < TWO_PARAMETER_FRACTION
    offset = rng.normal(0, np.where(point, 0.02, 0.08) / 3600, (2, len(table)))
    sources = pd.DataFrame({"RA": table["RA"] + offset[0], "DEC": table["DEC"] + offset[1]})
    sources["gaia_source_id"] = FIRST_SOURCE_ID + np.arange(len(table))
    for name, motion in motions.items():
        sources[name] = np.where(position_only, np.nan, motion + rng.normal(0, errors))
        sources[f"{name}_error"] = np.where(position_only, np.nan, errors)
    return sources[seen].reset_index(drop=True)


def _gaia_magnitude(table):
    """Return G [mag], by section 5.3.7 of the Gaia DR2 documentation, and the colour g - i [mag]."""
    i = 22.5 - 2.5 * np.log10(table["FLUX_I"].to_numpy(float))
    g = 22.5 - 2.5 * np.log10(np.maximum(table["FLUX_G"].to_numpy(float), 1e-9))
    colour = np.where(table["FLUX_G"] > 0, np.clip(g - i, 0, 4), 1.5)
    return i + colour - 0.074 - 0.514 * colour - 0.081 * colour**2, colour


def _motions(rng, magnitude, colour, still):
    """Draw parallaxes [mas] and proper motions [mas/yr], which are 0 for objects that stand still."""
    n = len(magnitude)
    absolute = 3.5 + 2.4 * colour + rng.normal(0, 0.4, n)
    distance = 10 ** ((magnitude - absolute) / 5 - 2)  # [kpc]
    halo = rng.random(n) < 1 / (1 + np.exp(-(distance - 3) / 0.7))
    velocity = rng.normal(0, np.where(halo, 140, 40), (2, n))  # [km/s], across the line of sight
    motion = velocity / (4.74 * distance)
    values = {"parallax": 1 / distance, "pmra": motion[0], "pmdec": motion[1]}
    return {name: np.where(still, 0.0, value) for name, value in values.items()}
