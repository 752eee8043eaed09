"""Conditions of the exposures that alerts come from: PSF, noise, reference image, and how well both match.

Ranges follow the population of real alert stamps in g and r; i band has the zero point of real i images. No
kind of source has conditions of its own.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import rfft2

from ztf_sg.simulation.fourier import BOX, PIXEL, blur, effective_area, points, sampled
from ztf_sg.ztf import READ_NOISE

FIDS = (1, 2, 3)  # g, r, i
GAIN_RANGE, FULL_WELL_RANGE = (5.8, 6.5), (35000.0, 60000.0)  # [e-/DN], [DN]

# FWHM of stars with the pixel [px, log-normal], and exponents of the profiles.
FWHM, FWHM_SCATTER, FWHM_RANGE = 2.5, 0.27, (1.55, 5.6)
REFERENCE_FWHM, REFERENCE_FWHM_SCATTER = 2.25, 0.14
EXPONENTS, REFERENCE_EXPONENTS = (1.5, 2.0), (1.35, 1.65)  # many nights in one image have wider wings
ELLIPTICITY = 0.13  # scatter of each component
PIXEL_VARIANCE = 0.7  # what the pixel adds to FWHM^2 [px^2]
COMA_SHARE, COMA_WIDTH, COMA_OFFSET = 0.2, 2.0, 0.4  # at most; width [FWHM]; scatter of its offset [px]

# The sky of stamps is that of the reference: it says nothing of the noise, which is that of the true sky.
BACKGROUND, BACKGROUND_SCATTER = 130.0, 0.5  # median [DN], log-normal
SKY_RANGE, NOISE_EXCESS = (60.0, 1200.0), (1.05, 1.4)  # true sky [DN], even in its logarithm
CLOUDY_FRACTION, CLOUD_RANGE = 0.06, (0.3, 4.0)  # extinction [mag]: the counts are scaled, the noise too
REFERENCE_NOISE, REFERENCE_NOISE_SCATTER = 0.20, 0.35  # of the noise of the science image, log-normal
ROW_CORRELATION = (-0.11, -0.01)  # of neighbours in a row of a science image
PATTERN_FRACTION, PATTERN_RANGE = 0.25, (0.1, 0.4)  # exposures with column patterns; amplitude [noise]
SKY_OFFSET, SKY_SLOPE = 0.03, 0.03  # scatter of the sky beyond the reference's, and of its slopes [noise]

MAGZP = {1: 26.15, 2: 26.25, 3: 25.6}  # [mag]
MAGZP_SCATTER = 0.12

# Errors of image subtraction.
REGISTRATION_ERROR = 0.1  # scatter of the shift on each axis [px]
GAIN_ERROR = 0.015  # relative
WIDTH_ERROR, SHAPE_ERROR = 0.03, 0.03  # of the PSF that the subtraction assumes

NEIGHBOURS, NEIGHBOURS_SCATTER = 5.0, 1.2  # median per stamp of those above five sigma of the reference
FIRST_NIGHT = 2459000


@dataclass(frozen=True)
class Exposure:
    """Conditions of a science image and of its reference; transforms as in `fourier`."""

    number: int
    fid: int
    fwhm: float  # of stars with the pixel [px]
    psf: np.ndarray  # with the pixel, and errors of registration and zero point; a transform
    reference_psf: np.ndarray  # with the pixel
    assumed_psf: np.ndarray  # what the subtraction takes for them: transforms of pixels, (BOX, BOX / 2 + 1)
    assumed_reference_psf: np.ndarray
    area: float  # 1 / sum(PSF^2) [px]
    background: float  # [DN]
    noise: float  # of the sky, per pixel [DN]
    reference_noise: float  # [DN]
    gain: float  # [e-/DN]
    full_well: float  # [DN]
    row_correlation: float
    pattern: np.ndarray  # what the science image has besides, (BOX, BOX) [DN]: slope of the sky, columns
    magzp: float  # [mag]
    neighbours: float  # mean number of sources per stamp

    @property
    def night(self):
        """Julian day number of the night; each exposure is of another night."""
        return FIRST_NIGHT + self.number

    def flux(self, snr, area=None):
        """Return the flux [DN] of a source with a signal-to-noise ratio; area is 1 / sum(light^2) [px]."""
        sky = (self.area if area is None else area) * self.noise**2
        photons = snr**2 / self.gain
        return (photons + np.sqrt(photons**2 + 4 * snr**2 * sky)) / 2


def draw_exposure(rng, number):
    """Draw the conditions of an exposure."""
    fid = int(rng.choice(FIDS))
    gain, cloud = rng.uniform(*GAIN_RANGE), 1.0
    if rng.random() < CLOUDY_FRACTION:
        cloud = 10 ** (-0.4 * rng.uniform(*CLOUD_RANGE))
    sky = log_uniform(rng, SKY_RANGE)
    noise = rng.uniform(*NOISE_EXCESS) * np.sqrt(sky / gain + (READ_NOISE / gain) ** 2)
    fwhm = float(np.clip(FWHM * np.exp(rng.normal(0, FWHM_SCATTER)), *FWHM_RANGE))
    reference_fwhm = float(
        np.clip(REFERENCE_FWHM * np.exp(rng.normal(0, REFERENCE_FWHM_SCATTER)), *FWHM_RANGE)
    )
    (psf, assumed), (reference, assumed_reference) = (
        _draw_psf(rng, fwhm, EXPONENTS),
        _draw_psf(rng, reference_fwhm, REFERENCE_EXPONENTS),
    )
    error = points(*rng.normal(0, REGISTRATION_ERROR, (2, 1)), [1 + rng.normal(0, GAIN_ERROR)])
    share = min(REFERENCE_NOISE * np.exp(rng.normal(0, REFERENCE_NOISE_SCATTER)), 0.6)
    return Exposure(
        number=number, fid=fid, fwhm=fwhm, psf=psf * error, reference_psf=reference, assumed_psf=assumed,
        assumed_reference_psf=assumed_reference, area=effective_area(psf), noise=noise, gain=gain,
        background=BACKGROUND * np.exp(rng.normal(0, BACKGROUND_SCATTER)) * cloud,
        reference_noise=noise * share * cloud, full_well=rng.uniform(*FULL_WELL_RANGE),
        row_correlation=rng.uniform(*ROW_CORRELATION),
        pattern=_draw_slope(rng, noise) + _draw_pattern(rng, noise),
        magzp=MAGZP[fid] + rng.normal(0, MAGZP_SCATTER) + 2.5 * np.log10(cloud),
        neighbours=NEIGHBOURS * np.exp(rng.normal(0, NEIGHBOURS_SCATTER)),
    )  # fmt: skip


def log_uniform(rng, limits):
    """Draw a number evenly in its logarithm."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _draw_psf(rng, fwhm, exponents):
    """Draw a PSF of a FWHM with the pixel [px], and the one that the image subtraction takes for it."""
    core = np.sqrt(max(fwhm**2 - PIXEL_VARIANCE, 0.5))
    exponent, shape = rng.uniform(*exponents), rng.normal(0, ELLIPTICITY, 2)
    share, offset = rng.uniform(0, COMA_SHARE), rng.normal(0, COMA_OFFSET, 2)
    coma = points(*offset[:, None], [share]) * blur(COMA_WIDTH * core, exponent)
    coma = coma * points(*(-share * offset[:, None]), [1.0])  # the centroid is at the origin
    core_shift = points(*(-share * offset[:, None]), [1 - share])
    true = PIXEL * (core_shift * blur(core, exponent, *shape) + coma)
    width, shape = core * (1 + rng.normal(0, WIDTH_ERROR)), shape + rng.normal(0, SHAPE_ERROR, 2)
    assumed = sampled(PIXEL * (core_shift * blur(width, exponent, *shape) + coma))
    return true, rfft2(assumed.astype(float))


def _draw_slope(rng, noise):
    """Draw what the sky of a science image has beyond that of the reference, a plane, (BOX, BOX) [DN]."""
    offset, *slopes = noise * rng.normal(0, (SKY_OFFSET, SKY_SLOPE, SKY_SLOPE))
    across = np.linspace(-1, 1, BOX)
    return (offset + slopes[0] * across[:, None] + slopes[1] * across).astype(np.float32)


def _draw_pattern(rng, noise):
    """Draw what columns share [DN], (BOX, BOX): a period of two to four columns, or none."""
    if rng.random() > PATTERN_FRACTION:
        return np.zeros((BOX, BOX), dtype=np.float32)
    amplitude, period = rng.uniform(*PATTERN_RANGE) * noise, rng.integers(2, 5)
    columns = rng.normal(0, amplitude, period)[np.arange(BOX) % period]
    rows = 1 + 0.5 * (-1.0) ** np.arange(BOX) * rng.random()
    return (rows[:, None] * (columns - columns.mean())).astype(np.float32)
