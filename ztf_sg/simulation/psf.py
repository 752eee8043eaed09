"""The point-spread function (PSF) of an exposure, and the aperture corrections that follow from it."""

from functools import lru_cache

import galsim
import numpy as np

from ztf_sg.simulation.parameters import COMA_FLUX, COMA_WIDTH, PSF_BETAS
from ztf_sg.ztf import APERTURES

PSF_COLUMNS = ("psf_fwhm", "psf_steep", "psf_e1", "psf_e2", "coma_x", "coma_y")
SCALE, SIDE = 0.2, 161  # pixel size and width of the image that aperture_shares sums [px], [its pixels]
WINDOW_FWHM = 3.0  # [px]
CORE_BETA, HALO_BETA, HALO_WIDTH = 4.5, 3.5, 2.2  # Moffat indices; width of the halo in units of the core's


def psf_of(exposure):
    """Return the PSF in the middle of an image, a row with the columns `PSF_COLUMNS`; see `make_psf`."""
    return make_psf(*(float(exposure[name]) for name in PSF_COLUMNS))


@lru_cache(maxsize=2048)
def make_psf(fwhm, steep, e1=0.0, e2=0.0, coma_x=0.0, coma_y=0.0):
    """Return a PSF as a GalSim profile [px] of unit flux, not yet convolved with the pixel.

    `fwhm` is the width of the core [px]; `steep` the share of its light in the steeper of two Moffat profiles
    (`PSF_BETAS`); e1, e2 its distortion, (a^2 - b^2) / (a^2 + b^2) along the rows and along their diagonal;
    coma_x, coma_y the offset of the wide component, in units of `fwhm`. The centroid, to which astrometry is
    calibrated, is at the origin. GalSim draws Moffat profiles with half-integer indices many times faster
    than others, so a mixture of two of them stands for an index in between.
    """
    flat, steeper = (galsim.Moffat(beta=beta, fwhm=fwhm) for beta in PSF_BETAS)
    core = (flat * (1 - steep) + steeper * steep).shear(e1=e1, e2=e2)
    coma = galsim.Moffat(beta=PSF_BETAS[0], fwhm=COMA_WIDTH * fwhm).shift(coma_x * fwhm, coma_y * fwhm)
    profile = core * (1 - COMA_FLUX) + coma * COMA_FLUX
    return profile.shift(-profile.centroid)


def core_and_halo(fwhm, halo, e1=0.0, e2=0.0, coma_x=0.0, coma_y=0.0):
    """Return a PSF as a GalSim profile [px] of unit flux, for images whose APCOR are known.

    `fwhm` is the width of the core [px], a Moffat profile; `halo` the share of the light in a wider one; e1,
    e2 their distortion, as of `make_psf`; coma_x and coma_y the coma, the displacement of the halo times its
    share [px], which the optics make and the seeing does not change. The origin is the middle of the core.
    """
    core = galsim.Moffat(beta=CORE_BETA, fwhm=fwhm) * (1 - halo)
    wide = galsim.Moffat(beta=HALO_BETA, fwhm=HALO_WIDTH * fwhm) * halo
    shift = [np.clip(coma / max(halo, 1e-3), -fwhm, fwhm) for coma in (coma_x, coma_y)]
    return core.shear(e1=e1, e2=e2) + wide.shear(e1=e1, e2=e2).shift(*shift)


@lru_cache(maxsize=2048)
def aperture_shares(psf, diameters=APERTURES):
    """Return the shares of a star's light inside circular apertures of some diameters [px].

    An aperture is centred on the centroid under a Gaussian window, and a pixel at its edge counts by the
    share of it that is inside. Averaged over the positions of a star on the pixel grid, this sums the PSF
    convolved with the pixel twice: once by the detector, once by the cut pixels.
    """
    counted = galsim.Convolve(psf, galsim.Pixel(1.0), galsim.Pixel(1.0))
    image = counted.drawImage(nx=SIDE, ny=SIDE, scale=SCALE, method="no_pixel").array
    y, x = (np.indices(image.shape) - SIDE // 2) * SCALE
    radius = np.hypot(*_from_centroid(image, x, y))
    inside = [np.clip((diameter / 2 - radius) / SCALE + 0.5, 0, 1) for diameter in diameters]
    return tuple(float((image * weight).sum()) for weight in inside)


def aperture_corrections(exposure):
    """Return APCOR1..6 of an exposure: PSF magnitude minus aperture magnitude [mag], for `APERTURES`."""
    return [2.5 * np.log10(share) - exposure["psf_mag_offset"] for share in aperture_shares(psf_of(exposure))]


def _from_centroid(image, x, y, iterations=10):
    """Return x, y [px] measured from the centroid under a Gaussian window, found step by step."""
    for _ in range(iterations):
        weight = image * np.exp(-4 * np.log(2) * (x**2 + y**2) / WINDOW_FWHM**2)
        x, y = (axis - 2 * (weight * axis).sum() / weight.sum() for axis in (x, y))
    return x, y
