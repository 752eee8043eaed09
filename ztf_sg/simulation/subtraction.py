"""Science image, reference and difference of a scene, with noise, masks and what image subtraction leaves.

The difference is that of Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27 (ZOGY), as in the pipeline of ZTF. It knows
the PSFs, the zero point and the registration with some error, so that residuals of stars come by themselves.
"""

import numpy as np
from scipy.fft import irfft2, rfft2

from ztf_sg.simulation.fourier import BOX, sampled

SIDE = 63  # width and height of a stamp [px]
FIRST = BOX // 2 - SIDE // 2  # first pixel of the stamp in the box
STAMP = (slice(FIRST, FIRST + SIDE),) * 2
REFERENCE_CORRELATION = (0.2, -0.1, 0.05)  # of pixels of a reference 1, 2 and 3 px apart, by resampling
RELATIVE_NOISE_FLOOR = 1e-3  # of the reference in the ZOGY weights, so that they stay finite
FREQUENCIES = np.fft.fftfreq(BOX)


def observe(rng, scene):
    """Return science image and reference of a scene, and their difference, float32 (BOX, BOX) [DN].

    Pixels have no NaN yet; the backgrounds of both images are alike, as the pipeline makes them.
    """
    exposure = scene.exposure
    light = sampled(scene.science * exposure.psf)
    reference = sampled(scene.template * exposure.reference_psf)
    noise = science_noise(rng, exposure, np.maximum(light + scene.science_marks, 0))
    science = np.minimum(light + scene.science_marks + noise, exposure.full_well)
    reference = reference + scene.template_marks + reference_noise(rng, exposure, np.maximum(reference, 0))
    reference = np.minimum(reference, 0.8 * exposure.full_well)
    difference = subtract(exposure, science, reference)
    images = (science + exposure.background, reference + exposure.background, difference)
    return [image.astype(np.float32) for image in images]


def science_noise(rng, exposure, light):
    """Return noise of a science image [DN], for light [DN] (BOX, BOX): sky, photons, and column patterns."""
    white = rng.standard_normal((BOX, BOX + 1), dtype=np.float32)
    share = exposure.row_correlation
    first = np.sqrt((1 + np.sqrt(1 - 4 * share**2)) / 2)  # so that the variance is one, and the correlation
    white = first * white[:, 1:] + share / first * white[:, :-1]
    return np.sqrt(exposure.noise**2 + light / exposure.gain) * white + exposure.pattern


def reference_noise(rng, exposure, light):
    """Return noise of a reference [DN], correlated by resampling, for light [DN] (BOX, BOX)."""
    white = irfft2(rfft2(rng.standard_normal((BOX, BOX), dtype=np.float32)) * _resampling())
    ratio = (exposure.reference_noise / exposure.noise) ** 2
    return np.sqrt(exposure.reference_noise**2 + ratio * light / exposure.gain) * white


def subtract(exposure, science, reference):
    """Return the ZOGY difference of two images without background, in counts of the science image [DN]."""
    psf, reference_psf = exposure.assumed_psf, exposure.assumed_reference_psf
    noise = max(exposure.reference_noise, RELATIVE_NOISE_FLOOR * exposure.noise)
    weight = np.sqrt(np.abs(exposure.noise * reference_psf) ** 2 + np.abs(noise * psf) ** 2)
    change = rfft2(science) * reference_psf - rfft2(reference) * psf
    return np.hypot(exposure.noise, noise) * irfft2(change / weight)


def matched(exposure, difference, trail=1.0):
    """Return the difference under the PSF, (BOX, BOX) [sigma]; or, up to a factor, under that of a trail.

    The trail is the transform of what the PSF is moved along, (BOX, BOX // 2 + 1).
    """
    light = exposure.assumed_psf * trail
    return irfft2(rfft2(difference) * np.conj(light)) * np.sqrt(exposure.area) / exposure.noise


def _resampling():
    """Return the transform of the filter that gives white noise the correlation of a reference."""
    power = 1 + sum(
        2 * correlation * np.cos(2 * np.pi * step * FREQUENCIES)
        for step, correlation in enumerate(REFERENCE_CORRELATION, start=1)
    )
    axis = np.sqrt(power)
    return axis[:, None] * axis[: BOX // 2 + 1]
