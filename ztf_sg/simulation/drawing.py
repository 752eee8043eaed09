"""The light of objects on the detector, without noise."""

import galsim
import numpy as np

from ztf_sg.simulation.detector import slope_factor
from ztf_sg.simulation.parameters import BULGE_RADIUS, KNOT_COUNT, PSF_BETAS
from ztf_sg.simulation.psf import psf_of
from ztf_sg.ztf import PIXEL_SCALE

SUBPIXELS = 7  # the light of a star in a pixel is the mean over this many points per side
SMALLEST_RADIUS = 0.05  # of a galaxy profile [px]: GalSim cannot draw galaxies that are points


def add_light(stamp, row, exposure, x, y):
    """Add the light [DN] of an object, a row of `MockSky.objects`, to a stamp, at x, y [px] of its image.

    The pixels of the stamp have unit scale, and its bounds are in pixels of the image.
    """
    psf = psf_of(exposure).dilate(slope_factor(exposure, "psf", x, y))
    add_object(stamp, row, psf, object_counts(row, exposure), x, y)


def add_object(stamp, row, psf, counts, x, y):
    """Add an object of so many counts [DN] to a stamp, blurred by a PSF; else as :func:`add_light`.

    A star is drawn in real space, which is fast; a galaxy has to be convolved, so Fourier transforms draw it.
    """
    if row.CLASS == "star":
        add_star(stamp, _with_companion(psf, row) * counts, x, y)
    else:
        galaxy = galsim.Convolve(galaxy_profile(row), psf, gsparams=psf.gsparams) * counts
        galaxy.drawImage(stamp, center=(x, y), add_to_image=True)


def add_star(stamp, profile, x, y):
    """Add the light of a profile to a stamp without any convolution, averaged over each pixel."""
    fine = galsim.ImageD(stamp.ncol * SUBPIXELS, stamp.nrow * SUBPIXELS, scale=1 / SUBPIXELS)
    centre = [(v - first + 0.5) * SUBPIXELS + 0.5 for v, first in ((x, stamp.xmin), (y, stamp.ymin))]
    profile.drawImage(fine, center=tuple(centre), method="no_pixel")
    stamp.array[:] += fine.array.reshape(stamp.nrow, SUBPIXELS, stamp.ncol, SUBPIXELS).sum(axis=(1, 3))


def galaxy_profile(row):
    """Return the GalSim profile [px] of a galaxy of unit flux, with its bulge and knots.

    Ellipticities are measured from north over east, as in the Tractor catalogue. On the detector x grows to
    the west and y to the south, so that g1 = -e1 and g2 = e2.
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


def pixel_position(row, exposure, wcs):
    """Return the true position of an object on its image, x and y [px, from 0]."""
    dec = row.DEC + row.OFFSET_DEC / 3600
    ra = row.RA + row.OFFSET_RA / 3600 / np.cos(np.radians(row.DEC))
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    return float(x) + exposure["shift_x"], float(y) + exposure["shift_y"]


def light_radius(row, exposure):
    """Return the radius [px] beyond which an object adds less than about 0.1 DN to a pixel."""
    return 2 * object_counts(row, exposure) ** (1 / (2 * PSF_BETAS[0])) + 4 * row.RADIUS / PIXEL_SCALE


def band_flux(exposure):
    """Return the name of the column of fluxes in the band of an exposure, such as FLUX_I."""
    return f"FLUX_{exposure['filtercode'][1].upper()}"


def object_counts(row, exposure):
    """Return all the light of an object [DN]; none if its flux in the catalogue is noise below 0."""
    flux = max(getattr(row, band_flux(exposure)), 0.0)
    return flux * 10 ** (0.4 * (exposure["magzp"] - exposure["psf_mag_offset"] - 22.5))


def _with_companion(psf, row):
    """Return a star with its companion; the centre of light of the pair is at the origin."""
    if not row.COMPANION:
        return psf
    east, north = (row.SEPARATION / PIXEL_SCALE * f(row.ANGLE) for f in (np.sin, np.cos))
    share = row.COMPANION / (1 + row.COMPANION)
    parts = ((-share, 1 - share), (1 - share, share))
    first, second = (psf.shift(-offset * east, -offset * north) * light for offset, light in parts)
    return first + second
