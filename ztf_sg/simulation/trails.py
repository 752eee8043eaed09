"""Simulated science images with trails: wide fields of the simulated sky, and marks that look like trails.

Satellites in low orbits cross the whole field; those in geosynchronous ones move 15 arcsec/s from west to
east, which is 444 px in 30 s; fast asteroids leave shorter trails still.
"""

from functools import lru_cache

import galsim
import numpy as np
import pandas as pd
from astropy.wcs import WCS

from ztf_sg.simulation.detector import record, sky_level
from ztf_sg.simulation.drawing import add_light, light_radius, object_counts, pixel_position
from ztf_sg.simulation.mock_sky import MockSky, image_header
from ztf_sg.simulation.parameters import DEC_RANGE, EXPTIME, GAIN, PSF_BETAS, RA_RANGE
from ztf_sg.simulation.population import plane_coordinates
from ztf_sg.ztf import PIXEL_SCALE, READ_NOISE

TRAIL_COLUMNS = ("x1", "y1", "x2", "y2", "snr", "width", "spacing")
MARGIN = 60  # beyond the edges of a field, where objects still shine into it [px]
TRAIL_BETA = 3.0  # Moffat index of the point sources that a trail is a row of
GEOSYNCHRONOUS = 15.04 * EXPTIME / PIXEL_SCALE  # length of a trail [px]
GEOSYNCHRONOUS_SHARE, SHORT_SHARE, DOTTED_SHARE = 0.15, 0.15, 0.2  # of the trails
SHORT_LENGTHS, SPACINGS = (60.0, 200.0), (6.0, 16.0)  # [px], [PSF FWHM]
BROADENING = (1.0, 2.0)  # width of a trail in units of that of point sources

# Marks that look like trails; all assumed.
BAD_COLUMNS, COLUMN_WIDTH = 0.4, 7  # mean number in a field of 1024 px, largest width [px]
COLUMN_LEVEL, COLUMN_NOISE = 1.5, 1.0  # of the columns, standard deviations in units of the sky noise
FAINT_FLUX = 80.0  # galaxies with less flux in i are drawn without details [nanomaggies]
SPIKE_COUNTS = 2e5  # stars with so much light have spikes [DN]
SPIKE_SHARE, SPIKE_REACH = 2e-5, 150.0  # light in a pixel near the star, relative to its own; length [px]
SPIKE_ANGLES = (45.0, 135.0)  # [deg]


def simulate_field(seed, shape=(1024, 1024), trails=None, filtercode="zr", sky=None):
    """Return a simulated science image of a field of the mock sky.

    Parameters
    ----------
    seed : int
        Seed of the place on the sky, the conditions and the noise.
    shape : tuple of int
        Height and width [px], at most those of a quadrant.
    trails : pandas.DataFrame, optional
        Trails to draw, of the columns `TRAIL_COLUMNS`: ends [px]; snr, the signal-to-noise ratio of all their
        light in the field; width, their FWHM in units of that of point sources; spacing of their flashes
        [FWHM of point sources], NaN for a continuous one. None by default.
    filtercode : str
        "zg", "zr" or "zi".
    sky : MockSky, optional
        The sky; that of seed 0 by default.

    Returns
    -------
    image : numpy.ndarray (height, width)
        Pixels [DN], float32.
    header : astropy.io.fits.Header
    """
    rng = np.random.default_rng([seed, 7])
    sky = _default_sky() if sky is None else sky
    exposures = sky.exposures[sky.exposures["filtercode"] == filtercode]
    exposure = exposures.iloc[rng.integers(len(exposures))].copy()
    exposure["crval1"], exposure["crval2"] = _field_centre(rng, shape)
    exposure["crpix1"], exposure["crpix2"] = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    header = image_header(exposure)
    level = sky_level(exposure, (0, 0), shape)
    noise = sky_noise(exposure)
    light = _draw_objects(sky, exposure, WCS(header), shape)
    for trail in () if trails is None else trails.itertuples():
        light += draw_trail(trail, shape, exposure["seeing_px"], noise)
    image = record(np.maximum(light, 0), level, exposure, rng) + _bad_columns(rng, shape, noise)
    return image.astype(np.float32), header


def simulate_trails(n, seed, shape=(1024, 1024), snr_range=(5.0, 100.0)):
    """Return n trails for :func:`simulate_field`: through the field, geosynchronous, and short ones.

    The signal-to-noise ratios are even in their logarithm.
    """
    rng = np.random.default_rng([seed, 8])
    return pd.DataFrame([_simulate_trail(rng, shape, snr_range) for _ in range(n)], columns=TRAIL_COLUMNS)


def sky_noise(exposure):
    """Return the standard deviation of the sky of an exposure [DN]."""
    variance = exposure["background"] / GAIN + (READ_NOISE / GAIN) ** 2
    return exposure["noise_excess"] * np.sqrt(variance)


def draw_trail(trail, shape, fwhm, noise):
    """Return the light of a trail [DN], (height, width).

    Parameters
    ----------
    trail : named tuple
        With the attributes `TRAIL_COLUMNS`.
    shape : tuple of int
    fwhm : float
        FWHM of point sources [px].
    noise : float
        Standard deviation of the sky [DN]; the signal-to-noise ratio is the root of the sum of the squares of
        the pixels in units of it.
    """
    y, x = np.indices(shape, dtype=np.float32)
    length = np.hypot(trail.x2 - trail.x1, trail.y2 - trail.y1)
    c, s = (trail.x2 - trail.x1) / length, (trail.y2 - trail.y1) / length
    along, across = (x - trail.x1) * c + (y - trail.y1) * s, (y - trail.y1) * c - (x - trail.x1) * s
    width = trail.width * fwhm
    if np.isfinite(trail.spacing):
        spacing = trail.spacing * fwhm
        nearest = np.clip(np.round(along / spacing), 0, np.floor(length / spacing)) * spacing
        light = _moffat(np.hypot(along - nearest, across), width, TRAIL_BETA)
    else:
        beyond = np.maximum(np.maximum(-along, along - length), 0)
        light = _moffat(across, width, TRAIL_BETA - 0.5) * _moffat(beyond, width, TRAIL_BETA)
    return light * (trail.snr * noise / np.sqrt(np.sum(light**2)))


def _moffat(radius, fwhm, beta):
    """Return a Moffat profile with a peak of 1."""
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    return (1 + (radius / alpha) ** 2) ** -beta


@lru_cache(maxsize=1)
def _default_sky():
    return MockSky()


def _field_centre(rng, shape):
    """Draw the centre of a field [deg] so that all of it is on the mock sky."""
    half = max(shape) / 2 * PIXEL_SCALE / 3600
    return [rng.uniform(low + half, high - half) for low, high in (RA_RANGE, DEC_RANGE)]


def _simulate_trail(rng, shape, snr_range):
    """Draw a trail."""
    kind, dotted = rng.random(2)
    x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
    angle, length = rng.uniform(0, np.pi), 2.0 * np.hypot(*shape)
    if kind < GEOSYNCHRONOUS_SHARE:
        angle, length = np.radians(rng.normal(0, 1)), GEOSYNCHRONOUS
    elif kind < GEOSYNCHRONOUS_SHARE + SHORT_SHARE:
        length = np.exp(rng.uniform(*np.log(SHORT_LENGTHS)))
    half = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    spacing = rng.uniform(*SPACINGS) if dotted < DOTTED_SHARE and length > GEOSYNCHRONOUS else np.nan
    snr = np.exp(rng.uniform(*np.log(snr_range)))
    return (x - half[0], y - half[1], x + half[0], y + half[1], snr, rng.uniform(*BROADENING), spacing)


def _draw_objects(sky, exposure, wcs, shape):
    """Return the light of all objects in a field [DN], with the spikes of bright stars."""
    stamp = galsim.ImageD(shape[1], shape[0], xmin=0, ymin=0, scale=1.0)
    for row, x, y in _objects_near(sky, exposure, wcs, shape):
        radius = int(np.ceil(light_radius(row, exposure)))
        around = galsim.BoundsI(*(int(v) + side for v in (x, y) for side in (-radius, radius)))
        inside = around & stamp.bounds
        if inside.isDefined():
            draw = _add_faint_galaxy if _is_faint_galaxy(row) else add_light
            draw(stamp[inside], row, exposure, x, y)
        if row.CLASS == "star" and (counts := object_counts(row, exposure)) > SPIKE_COUNTS:
            _add_spikes(stamp.array, x, y, counts * SPIKE_SHARE, exposure["seeing_px"])
    return stamp.array


def _is_faint_galaxy(row):
    return row.CLASS == "galaxy" and row.FLUX_I < FAINT_FLUX


def _add_faint_galaxy(stamp, row, exposure, x, y):
    """Add a galaxy as one Moffat profile of its size in the image, as convolution takes most of the time."""
    radius = np.hypot(row.RADIUS / PIXEL_SCALE, 0.6 * exposure["seeing_px"])
    profile = galsim.Moffat(beta=PSF_BETAS[0], half_light_radius=radius, flux=object_counts(row, exposure))
    share = (row.RADIUS / PIXEL_SCALE / radius) ** 2
    profile = profile.shear(g1=-row.E1 * share, g2=row.E2 * share)
    profile.drawImage(stamp, center=(x, y), method="no_pixel", add_to_image=True)


def _objects_near(sky, exposure, wcs, shape):
    """Return the objects of a field, a named tuple each, with x and y on the image [px]."""
    table = sky.objects
    table = table[table["FLUX_I"] > 0]
    offset = np.abs(plane_coordinates(table["RA"], table["DEC"]) - plane_coordinates(*wcs.wcs.crval))
    reach = (np.array(shape[::-1]) / 2 + MARGIN) * PIXEL_SCALE / 3600
    near = table[(offset < reach).all(axis=1)]
    return [(row, *pixel_position(row, exposure, wcs)) for row in near.itertuples()]


def _add_spikes(light, x, y, peak, fwhm):
    """Add the diffraction spikes of a star [DN] to the light of a field; they fade along their way."""
    reach = 4 * SPIKE_REACH
    first = [int(np.clip(v - reach, 0, side)) for v, side in zip((y, x), light.shape, strict=True)]
    part = light[first[0] : max(int(y + reach), 0), first[1] : max(int(x + reach), 0)]
    dy, dx = np.ogrid[: part.shape[0], : part.shape[1]]
    dy, dx = dy + first[0] - y, dx + first[1] - x
    distance = np.hypot(dx, dy)
    fading = peak * np.exp(-distance / SPIKE_REACH) / (1 + distance / 10)
    for angle in np.radians(SPIKE_ANGLES):
        across = dy * np.cos(angle) - dx * np.sin(angle)
        part += fading * np.exp(-4 * np.log(2) * (across / fwhm) ** 2)


def _bad_columns(rng, shape, noise):
    """Return what columns with leaking charge add [DN]: some of them begin within the image."""
    counts = np.zeros(shape)
    for _ in range(rng.poisson(BAD_COLUMNS * shape[0] * shape[1] / 1024**2)):
        left, width = rng.integers(shape[1]), rng.integers(1, COLUMN_WIDTH + 1)
        first = rng.integers(shape[0]) if rng.random() < 0.5 else 0
        part = counts[first:, left : left + width]
        level, scatter = noise * np.abs(rng.normal(0, (COLUMN_LEVEL, COLUMN_NOISE)))
        part += rng.normal(rng.choice([-1, 1]) * level, scatter, part.shape)
    return counts
