"""The light of objects on the detector, before its noise."""

import galsim
import numpy as np

from ztf_sg.simulation.detector import across
from ztf_sg.simulation.parameters import BULGE_RADIUS, KNOT_COUNT, PSF_BETAS
from ztf_sg.simulation.psf import psf_of
from ztf_sg.ztf import PIXEL_SCALE

FINE = 7  # points a side over which the light of a star is averaged in a pixel
SMALLEST_RADIUS = 0.05  # of a profile [px]: GalSim cannot draw points as galaxies


def add_light(stamp, row, exposure, x, y):
    """Add the light of an object to a stamp.

    Parameters
    ----------
    stamp : galsim.Image
        [DN], with pixels of unit scale; changed in place.
    row : named tuple
        FLUX_I [nanomaggies], OBJID, and the columns of the truth table, see
        :func:`~ztf_sg.simulation.population.simulate_population`.
    exposure : pandas.Series
        Row of :func:`~ztf_sg.simulation.exposures.simulate_exposures`.
    x, y : float
        Place of the object on the image, in whose coordinates the stamp has its bounds [px].

    Notes
    -----
    A star is drawn in real space, which is fast; a galaxy by Fourier transforms, since it is convolved.
    """
    counts = _counts(row, exposure)
    psf = psf_of(exposure).dilate(across(exposure, "psf", x, y))
    if row.CLASS == "star":
        add_star(stamp, _with_companion(psf, row) * counts, x, y)
    else:
        galaxy = galsim.Convolve(galaxy_profile(row), psf) * counts
        galaxy.drawImage(stamp, center=(x, y), add_to_image=True)


def add_star(stamp, profile, x, y):
    """Add the light of a profile that need not be convolved, averaged over each pixel, to a stamp."""
    fine = galsim.ImageD(stamp.ncol * FINE, stamp.nrow * FINE, scale=1 / FINE)
    centre = [(v - first + 0.5) * FINE + 0.5 for v, first in ((x, stamp.xmin), (y, stamp.ymin))]
    profile.drawImage(fine, center=tuple(centre), method="no_pixel")
    stamp.array[:] += fine.array.reshape(stamp.nrow, FINE, stamp.ncol, FINE).sum(axis=(1, 3))


def galaxy_profile(row):
    """Return the GalSim profile [px] of a galaxy of unit flux, with a bulge and knots if it has any.

    Ellipticity components and position angles are from north over east, as Tractor's. On the detector, x
    grows to the west and y to the south, so that g1 = -e1 and g2 = e2.
    """
    radius = max(row.RADIUS / PIXEL_SCALE, SMALLEST_RADIUS)
    parts = galsim.Sersic(n=row.INDEX, half_light_radius=radius, flux=1 - row.BULGE - row.KNOTS)
    if row.BULGE:
        bulge_radius = max(BULGE_RADIUS * radius, SMALLEST_RADIUS)
        parts += galsim.DeVaucouleurs(half_light_radius=bulge_radius, flux=row.BULGE)
    if row.KNOTS:
        rng = galsim.BaseDeviate(int(row.OBJID) + 1)
        parts += galsim.RandomKnots(KNOT_COUNT, half_light_radius=radius, flux=row.KNOTS, rng=rng)
    return parts.shear(g1=-row.E1, g2=row.E2)


def place(row, exposure, wcs):
    """Return where an object is on its image [px, from 0], its true offset and the image's included."""
    dec = row.DEC + row.OFFSET_DEC / 3600
    ra = row.RA + row.OFFSET_RA / 3600 / np.cos(np.radians(row.DEC))
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    return float(x) + exposure["shift_x"], float(y) + exposure["shift_y"]


def reach(row, exposure):
    """Return how far from its place [px] the light of an object falls below some 0.1 DN a pixel."""
    return 2 * _counts(row, exposure) ** (1 / (2 * PSF_BETAS[0])) + 4 * row.RADIUS / PIXEL_SCALE


def _counts(row, exposure):
    """Return all the light of an object [DN]."""
    return 10 ** (0.4 * (exposure["magzp"] - exposure["psf_mag_offset"] - 22.5)) * row.FLUX_I


def _with_companion(psf, row):
    """Return a star with its companion, the pair's centre of light at the origin."""
    if not row.COMPANION:
        return psf
    east, north = (row.SEPARATION / PIXEL_SCALE * f(row.ANGLE) for f in (np.sin, np.cos))
    share = row.COMPANION / (1 + row.COMPANION)
    first, second = -share, 1 - share
    return (
        psf.shift(-first * east, -first * north) * (1 - share)
        + psf.shift(-second * east, -second * north) * share
    )
