"""What the detector makes of the light: sky, noise, saturation, and marks that no object made."""

import numpy as np

from ztf_sg.simulation.parameters import (
    COSMIC_RAY_COUNTS,
    COSMIC_RAY_LENGTH,
    COSMIC_RAY_RATE,
    FLAT_ERROR,
    GAIN,
    HOT_PIXEL_COUNTS,
    HOT_PIXEL_RATE,
    TRAIL_COUNTS,
    TRAIL_FRACTION,
)
from ztf_sg.ztf import QUADRANT, READ_NOISE


def sky_level(exposure, origin, shape):
    """Return the sky [DN] of a stamp: a plane over its image.

    Parameters
    ----------
    exposure : pandas.Series
        With background [DN], and sky_slope_x, sky_slope_y, its relative change across the image.
    origin : tuple of int
        First pixel of the stamp, x and y.
    shape : tuple of int
        Of the stamp (height, width).

    Returns
    -------
    numpy.ndarray
        Of the shape asked for.
    """
    rows, columns = np.indices(shape)
    return exposure["background"] * across(exposure, "sky", columns + origin[0], rows + origin[1])


def across(exposure, name, x, y):
    """Return the factor by which something is larger at x, y [px] of its image than on average."""
    return 1 + sum(
        exposure[f"{name}_slope_{axis}"] * (place / side - 0.5)
        for axis, place, side in zip("xy", (x, y), QUADRANT, strict=True)
    )


def expose(light, sky, exposure, rng):
    """Return an image as the detector records it.

    Parameters
    ----------
    light : numpy.ndarray
        Noiseless counts of the objects [DN], shape (height, width).
    sky : numpy.ndarray or float
        Sky level [DN].
    exposure : pandas.Series
        With full_well [DN] and noise_excess.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Counts [DN], float32, same shape.
    """
    full_well = exposure["full_well"]
    light = np.maximum(light, 0) + satellite_trail(light.shape, rng)
    flat = rng.normal(1, FLAT_ERROR, light.shape)
    expected = bleed((light + sky) * flat, full_well)
    variance = expected / GAIN + (READ_NOISE / GAIN) ** 2
    counts = rng.poisson(expected * GAIN) / GAIN + rng.normal(0, READ_NOISE / GAIN, light.shape)
    counts += rng.normal(0, np.sqrt((exposure["noise_excess"] ** 2 - 1) * variance))
    counts += hot_pixels(light.shape, rng) + cosmic_rays(light.shape, rng)
    return np.minimum(counts, full_well).astype(np.float32)


def bleed(counts, full_well):
    """Spill charge above the full well along its column, outwards from the brightest pixel.

    Parameters
    ----------
    counts : numpy.ndarray
        [DN], shape (height, width).
    full_well : float
        [DN].

    Returns
    -------
    numpy.ndarray
        Same shape, nowhere above `full_well`; charge that finds no room in the stamp is lost.
    """
    counts = counts.copy()
    for column in np.flatnonzero((counts > full_well).any(axis=0)):
        line = counts[:, column]
        peak = np.argmax(line)
        spill = np.maximum(line - full_well, 0).sum()
        np.minimum(line, full_well, out=line)
        for pixel in sorted(range(len(line)), key=lambda row, peak=peak: abs(row - peak)):
            taken = min(full_well - line[pixel], spill)
            line[pixel] += taken
            spill -= taken
    return counts


def hot_pixels(shape, rng):
    """Return counts [DN] of pixels that leak current: `HOT_PIXEL_RATE` of them."""
    hot = rng.random(shape) < HOT_PIXEL_RATE
    return np.where(hot, rng.exponential(HOT_PIXEL_COUNTS, shape), 0.0)


def cosmic_rays(shape, rng):
    """Return counts [DN] of cosmic rays: straight tracks, one pixel wide."""
    counts = np.zeros(shape)
    for _ in range(rng.poisson(COSMIC_RAY_RATE * counts.size)):
        start, angle = rng.uniform(0, shape), rng.uniform(0, 2 * np.pi)
        steps = np.arange(1 + int(rng.exponential(COSMIC_RAY_LENGTH)))[:, None]
        track = np.floor(start + steps * [np.sin(angle), np.cos(angle)]).astype(int)
        track = track[((track >= 0) & (track < shape)).all(axis=1)]
        counts[tuple(track.T)] = rng.exponential(COSMIC_RAY_COUNTS)
    return counts


def satellite_trail(shape, rng, fwhm=2.0):
    """Return the light [DN] of a satellite's trail across the stamp, most often none.

    Parameters
    ----------
    shape : tuple of int
        (height, width).
    rng : numpy.random.Generator
    fwhm : float
        Of the trail's Gaussian cross-section [px].
    """
    chance, share, where, angle = rng.random(4)
    if chance >= TRAIL_FRACTION:
        return np.zeros(shape)
    rows, columns = np.indices(shape)
    angle *= np.pi
    across = (columns - shape[1] / 2) * np.cos(angle) + (rows - shape[0] / 2) * np.sin(angle)
    across -= (where - 0.5) * min(shape)
    peak = np.exp(np.interp(share, (0, 1), np.log(TRAIL_COUNTS)))
    return peak * np.exp(-4 * np.log(2) * across**2 / fwhm**2)
