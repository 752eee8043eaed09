"""The detector: it adds sky and noise to the light, saturates, and shows marks that no object made."""

import numpy as np

from ztf_sg.simulation import parameters as p
from ztf_sg.ztf import QUADRANT, READ_NOISE


def sky_level(exposure, origin, shape):
    """Return the sky [DN] of a stamp of a shape (height, width), a plane over its image.

    `exposure` is a row of `simulate_exposures`, `origin` the first pixel of the stamp on the image (x, y).
    """
    rows, columns = np.indices(shape)
    return exposure["background"] * slope_factor(exposure, "sky", columns + origin[0], rows + origin[1])


def slope_factor(exposure, name, x, y):
    """Return the "sky" or the width of the "psf" at x, y [px] of an image, relative to its middle."""
    return 1 + sum(
        exposure[f"{name}_slope_{axis}"] * (position / side - 0.5)
        for axis, position, side in zip("xy", (x, y), QUADRANT, strict=True)
    )


def expose(light, sky, exposure, rng, gain=p.GAIN):
    """Return the counts [DN] that the detector records, float32 (height, width).

    `light` of the objects [DN] has that shape; `sky` [DN] may be one number; `exposure` is a row of
    `simulate_exposures`; the gain is in e-/DN.
    """
    return record(np.maximum(light, 0) + satellite_trail(light.shape, rng), sky, exposure, rng, gain)


def record(light, sky, exposure, rng, gain=p.GAIN):
    """Return the counts [DN] as :func:`expose` does, without a trail by chance; no light is negative."""
    full_well = exposure["full_well"]
    flat = rng.normal(1, p.FLAT_ERROR, light.shape)
    expected = bleed((light + sky) * flat, full_well)
    variance = expected / gain + (READ_NOISE / gain) ** 2
    counts = rng.poisson(expected * gain) / gain + rng.normal(0, READ_NOISE / gain, light.shape)
    counts += rng.normal(0, np.sqrt((exposure["noise_excess"] ** 2 - 1) * variance))
    counts += hot_pixels(light.shape, rng) + cosmic_rays(light.shape, rng)
    return np.minimum(counts, full_well).astype(np.float32)


def bleed(counts, full_well):
    """Return counts [DN] where charge above the full well spilled along its column, away from the peak.

    No pixel of the result is above `full_well` [DN]; charge that finds no room in the column is lost.
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
    """Return the counts [DN] of leaking pixels, which are a share `HOT_PIXEL_RATE` of all pixels."""
    hot = rng.random(shape) < p.HOT_PIXEL_RATE
    return np.where(hot, rng.exponential(p.HOT_PIXEL_COUNTS, shape), 0.0)


def cosmic_rays(shape, rng):
    """Return the counts [DN] of cosmic rays: straight tracks, one pixel wide."""
    counts = np.zeros(shape)
    for _ in range(rng.poisson(p.COSMIC_RAY_RATE * counts.size)):
        start, angle = rng.uniform(0, shape), rng.uniform(0, 2 * np.pi)
        steps = np.arange(1 + int(rng.exponential(p.COSMIC_RAY_LENGTH)))[:, None]
        track = np.floor(start + steps * [np.sin(angle), np.cos(angle)]).astype(int)
        track = track[((track >= 0) & (track < shape)).all(axis=1)]
        counts[tuple(track.T)] = rng.exponential(p.COSMIC_RAY_COUNTS)
    return counts


def satellite_trail(shape, rng):
    """Return the light [DN] of a satellite trail across a stamp; most stamps have none."""
    chance, share, offset, angle = rng.random(4)
    if chance >= p.TRAIL_FRACTION:
        return np.zeros(shape)
    rows, columns = np.indices(shape)
    angle *= np.pi
    distance = (columns - shape[1] / 2) * np.cos(angle) + (rows - shape[0] / 2) * np.sin(angle)
    distance -= (offset - 0.5) * min(shape)
    peak = np.exp(np.interp(share, (0, 1), np.log(p.TRAIL_COUNTS)))
    return peak * np.exp(-4 * np.log(2) * distance**2 / p.TRAIL_FWHM**2)
