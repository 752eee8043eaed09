"""The light of point sources, trails and galaxies in a periodic box of pixels, as Fourier transforms.

A transform is complex, (2 BOX, BOX + 1), of the light at half pixels, so that what is finer than a pixel is
sampled as a detector samples it. A blur is a product, and a trail has an exact form. The centres of pixels
have whole coordinates x, y from 0 on.
"""

from functools import lru_cache

import numpy as np
from scipy.fft import irfft2
from scipy.special import j0, j1

BOX = 96  # width and height of the box [px]
FINE = 2  # samples per pixel along each axis
KX, KY = np.fft.rfftfreq(FINE * BOX, 1 / FINE)[None, :], np.fft.fftfreq(FINE * BOX, 1 / FINE)[:, None]
PIXEL = np.sinc(KX) * np.sinc(KY)


def points(x, y, flux):
    """Return the transform of point sources at x, y [px] with fluxes [DN], all (n,)."""
    columns, rows = _powers(x), _powers(y)
    rows = np.concatenate([rows[:BOX], np.conj(rows[:0:-1])])
    return (rows * np.asarray(flux, dtype=np.float32)) @ columns.T


def _powers(coordinates):
    """Return exp(-2 pi i k coordinates) of the frequencies k from 0 on, (BOX + 1, n), by multiplication."""
    steps = np.empty((BOX + 1, len(coordinates)), dtype=complex)
    steps[0], steps[1:] = 1.0, np.exp(-2j * np.pi / BOX * np.asarray(coordinates))
    return np.cumprod(steps, axis=0).astype(np.complex64)


def segment(length, angle):
    """Return the transform of an even line of unit flux about the origin: length [px] and angle [deg]."""
    angle = np.radians(angle)
    return np.sinc(length * (KX * np.cos(angle) + KY * np.sin(angle))).astype(np.float32)


def coarse(transform):
    """Return the frequencies of a transform that whole pixels have, (BOX, BOX // 2 + 1), as of `rfft2`."""
    return np.concatenate([transform[: BOX // 2], transform[-(BOX // 2) :]])[:, : BOX // 2 + 1]


def disc(diameter):
    """Return the transform of an even disc of unit flux and a diameter [px], as of a defocused mirror."""
    argument = np.maximum(np.pi * diameter * np.hypot(KX, KY), 1e-6)
    return (2 * j1(argument) / argument).astype(np.float32)


def spergel(scale, index, ratio, angle):
    """Return the transform of a galaxy of unit flux: scale length [px], index, axis ratio, angle [deg].

    The index of Spergel 2010, ApJS 191, 58, is 0.5 for an exponential disc and -0.6 for a profile much like
    de Vaucouleurs'.
    """
    angle = np.radians(angle)
    along, across = KX * np.cos(angle) + KY * np.sin(angle), KY * np.cos(angle) - KX * np.sin(angle)
    squared = (2 * np.pi * scale) ** 2 * (along**2 + (ratio * across) ** 2)
    return ((1 + squared) ** -(1 + index)).astype(np.float32)


def blur(fwhm, exponent, e1=0.0, e2=0.0):
    """Return the transform of a seeing profile of unit flux, without the pixel.

    It is exp(-(k / k0)^exponent): 5/3 is the profile of Kolmogorov's turbulence, 2 a Gaussian, and smaller
    exponents have wider wings. e1 and e2 are the components of the distortion.
    """
    squared = (1 + e1) * KX**2 + (1 - e1) * KY**2 + 2 * e2 * KX * KY
    return np.exp(-((squared * (fwhm / unit_fwhm(round(exponent, 2))) ** 2) ** (exponent / 2))).astype(
        np.float32
    )


@lru_cache
def unit_fwhm(exponent):
    """Return the FWHM of the profile whose transform is exp(-k^exponent)."""
    k, radius = np.linspace(0, 12, 6001), np.linspace(0.1, 0.4, 301)
    profile = (j0(2 * np.pi * radius[:, None] * k) * k * np.exp(-(k**exponent))).sum(axis=1)
    half = 0.5 * (k * np.exp(-(k**exponent))).sum()
    return 2 * float(np.interp(-half, -profile, radius))


def effective_area(transform):
    """Return 1 / sum(light^2) [px] of a transform of unit flux, the mean over all positions on the pixels.

    It gives the noise of a flux under the best weights.
    """
    power = np.abs(transform) ** 2
    power[:, 1:-1] *= 2  # the half that is not stored
    return float(BOX**2 / power.sum(dtype=float))


def sampled(transform):
    """Return the light in each pixel, float32 (BOX, BOX) [DN], of a transform that includes the pixel."""
    shape = (FINE * BOX, FINE * BOX)
    return FINE**2 * irfft2(transform, shape)[::FINE, ::FINE]
