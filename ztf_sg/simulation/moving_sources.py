"""Light of asteroids, comets and satellites: what moves while the shutter is open.

Each function adds one to the science image of a scene, and returns the truth of it. A moving source is the
PSF convolved with the segment that it crosses (Veres et al. 2012, PASP 124, 1197).
"""

import numpy as np

from ztf_sg.simulation.fourier import BOX, disc, effective_area, points, segment, spergel
from ztf_sg.simulation.parameters import EXPTIME
from ztf_sg.simulation.scenes import line
from ztf_sg.simulation.stamp_conditions import log_uniform
from ztf_sg.simulation.subtraction import SIDE
from ztf_sg.ztf import PIXEL_SCALE

POINT_LENGTHS, STREAK_LENGTHS = (0.02, 1.0), (1.0, 55.0)  # of asteroids [px], even in the logarithm
FAINTEST_COMA = 0.3  # share of a comet's light in its coma, at least

# Satellites: height [km] and own size [m], both even in the logarithm; the mirror of the telescope [m].
HEIGHTS, SIZES, MIRROR = (450.0, 36000.0), (0.5, 8.0), 1.2
BRIGHTEST_TRAIL = 100.0  # signal-to-noise ratio within one FWHM: brighter ones are masked
TRAIL_TO_DETECTION = (0.05, 3.0)  # brightness of a trail beside a detection, in that of the detection
FAINTEST_TRAIL = 2.0  # signal-to-noise ratio within one FWHM of a trail beside a detection
BESIDE = (4.0, 28.0)  # distance of a trail beside a detection [px]
CROSSING_FRACTION, CROSSED_STARS = 0.1, (5.0, 300.0)  # trails that cross a star; its signal-to-noise ratio
PERIODS = (5.0, 29.0)  # of flashes along a train [px]
MISSING_FLASHES = 0.15
LARGEST_CONTRAST = 6.0  # of the strengths of flashes, which alternate
LONGEST_FLASH = 0.4  # in periods
GLOW_FRACTION, GLOW_RANGE = 0.6, (0.01, 0.5)  # trains with light between the flashes; its share
FAINTEST_FLASH = 4.0  # signal-to-noise ratio of the flashes next to a detection, at least


def add_asteroid(rng, scene, snr):
    """Add an asteroid that moves by less than a pixel."""
    return _add_segment(rng, scene, snr, log_uniform(rng, POINT_LENGTHS))


def add_streak(rng, scene, snr):
    """Add a near-Earth asteroid that moves by more than a pixel."""
    return _add_segment(rng, scene, snr, log_uniform(rng, STREAK_LENGTHS))


def add_comet(rng, scene, snr):
    """Add a comet: a point with a coma, and often a tail."""
    truth, angle = add_asteroid(rng, scene, snr), rng.uniform(0, 360)
    coma = truth["flux"] * rng.uniform(FAINTEST_COMA, 3.0)
    light = spergel(rng.uniform(1.5, 5.0), 0.5, 1.0, 0.0) * points(*_at(scene), [coma])
    scale, tail = rng.uniform(4, 15), coma * rng.uniform(0, 1)
    along = np.arange(0, 4 * scale)
    light += line(scene, 0.0, angle, lambda along: tail / scale * np.exp(-along / scale), along) * disc(2.0)
    scene.science += light
    return truth | {"flux": truth["flux"] + coma + tail, "angle": np.nan}


def add_trail(rng, scene, snr):
    """Add an endless trail through the detection, which may be where it crosses a star."""
    if rng.random() < CROSSING_FRACTION:
        star = scene.exposure.flux(log_uniform(rng, CROSSED_STARS))
        scene.add_static(points(*_at(scene), [star]))
    return _add_trail(rng, scene, snr, rng.uniform(-0.5, 0.5))


def add_trail_end(rng, scene, snr):
    """Add a trail that ends in the stamp, where the exposure or a flash of the satellite began."""
    end = rng.uniform(0, SIDE / 2) * rng.choice([0.1, 1.0])
    return _add_trail(rng, scene, snr, rng.uniform(-0.5, 0.5), first=-end)


def add_trail_beside(rng, scene, snr):
    """Add a flash of a satellite at the detection, and the trail of the same or another one beside it."""
    truth = add_flash(rng, scene, snr)
    return truth | add_passing_trail(rng, scene, snr)


def add_trails(rng, scene, snr):
    """Add two or three trails, the first through the detection."""
    truth = add_trail(rng, scene, snr)
    for _ in range(rng.integers(1, 3)):
        parallel = {"angle": truth["angle"] + rng.normal(0, 2)} if rng.random() < 0.5 else {}
        add_passing_trail(rng, scene, snr, **parallel)
    return truth | {"beside": True}


def add_passing_trail(rng, scene, snr, angle=None):
    """Add a trail that passes a detection at some distance; return the truth of the trail."""
    offset = rng.uniform(*BESIDE) * rng.choice([-1, 1])
    brightness = snr * log_uniform(rng, TRAIL_TO_DETECTION)
    trail = _add_trail(rng, scene, max(brightness, FAINTEST_TRAIL), offset, angle=angle)
    return {key: trail[key] for key in ("length", "angle", "width")} | {"beside": True}


def add_flash(rng, scene, snr):
    """Add a lone flash of a tumbling satellite, which one stamp does not tell from an asteroid."""
    angle, optics, width = rng.uniform(0, 180), *_defocus(rng, scene)
    length = rng.choice([0.0, rng.exponential(2.0)], p=[0.6, 0.4])
    light = optics * segment(length, angle)
    flux = scene.exposure.flux(snr, effective_area(light * scene.exposure.psf))
    scene.science += light * points(*_at(scene), [flux])
    return _truth(flux, snr, length, angle, width)


def add_train(rng, scene, snr):
    """Add a train of flashes at equal steps, one at the detection: a satellite that tumbles.

    Flashes alternate in strength, some are missing, and fainter light may connect them.
    """
    angle, period, optics, width = rng.uniform(0, 180), log_uniform(rng, PERIODS), *_defocus(rng, scene)
    numbers = np.arange(-(BOX // period), BOX // period + 1)
    strength = _flash_strengths(rng, numbers, snr)
    length = LONGEST_FLASH * period * rng.random() ** 2
    light = optics * segment(length, angle)
    flux = scene.exposure.flux(snr, effective_area(light * scene.exposure.psf))
    direction = np.radians(angle)
    x, y = scene.x + numbers * period * np.cos(direction), scene.y + numbers * period * np.sin(direction)
    inside = (x > 0) & (x < BOX - 1) & (y > 0) & (y < BOX - 1)
    scene.science += light * points(x[inside], y[inside], flux * strength[inside])
    if rng.random() < GLOW_FRACTION:
        faint = flux / period * log_uniform(rng, GLOW_RANGE)
        scene.science += optics * line(scene, 0.0, angle, lambda along: np.full(len(along), faint))
    return _truth(flux, snr, np.inf, angle, width) | {"period": period}


def _flash_strengths(rng, numbers, snr):
    """Draw the strengths of the flashes of a train by their numbers, (n,); that of number 0 is one."""
    contrast = log_uniform(rng, (1 / LARGEST_CONTRAST, LARGEST_CONTRAST))
    strength = np.where(numbers % 2 == 0, 1.0, max(contrast, FAINTEST_FLASH / snr))
    strength *= np.exp(rng.normal(0, 0.1) * numbers + rng.normal(0, 0.1, len(numbers)))
    strength[(rng.random(len(numbers)) < MISSING_FLASHES) & (np.abs(numbers) > 1)] = 0.0
    return strength / strength[numbers == 0]


def _add_segment(rng, scene, snr, length):
    """Add a point that moves evenly while the shutter is open; return the truth."""
    angle = rng.uniform(0, 180)
    light = segment(length, angle)
    flux = scene.exposure.flux(snr, effective_area(light * scene.exposure.psf))
    scene.science += light * points(*_at(scene), [flux])
    rate = length * PIXEL_SCALE / (EXPTIME / 60)
    return _truth(flux, snr, length, angle, scene.exposure.fwhm) | {"rate": rate}


def _add_trail(rng, scene, snr, offset, angle=None, first=-np.inf):
    """Add a trail whose light within one FWHM has a signal-to-noise ratio; return the truth.

    Its flux is that within an area of the PSF; `first` is where it begins along its direction [px].
    """
    angle = rng.uniform(0, 360) if angle is None else angle
    optics, width = _defocus(rng, scene)
    snr = min(snr, BRIGHTEST_TRAIL)
    flux = scene.exposure.flux(snr, effective_area(optics * scene.exposure.psf))
    brightness = _modulation(rng)

    def profile(along):
        return flux / scene.exposure.fwhm * brightness(along) * (along >= first)

    scene.science += optics * line(scene, offset, angle, profile)
    return _truth(flux, snr, np.inf, angle % 180, width)


def _modulation(rng):
    """Draw how the brightness of a trail changes along it: not, slowly, or with a period; one at zero."""
    kind = rng.choice(["even", "slow", "periodic"], p=[0.5, 0.25, 0.25])
    if kind == "even":
        return lambda along: np.ones(len(along))
    period = rng.uniform(40, 120) if kind == "slow" else rng.uniform(4, 25)
    depth, sharpness = rng.uniform(0.2, 1.0), rng.uniform(1, 4)
    wave = lambda along: (0.5 + 0.5 * np.cos(2 * np.pi * along / period)) ** sharpness  # noqa: E731
    return lambda along: 1 - depth + depth * wave(along)


def _defocus(rng, scene):
    """Draw the blur of a satellite: its transform, and the FWHM of the trail [px].

    A satellite near by is out of focus: it looks as large as itself and the mirror seen from it.
    """
    size = np.hypot(log_uniform(rng, SIZES), MIRROR) / (1e3 * log_uniform(rng, HEIGHTS))
    size = np.degrees(size) * 3600 / PIXEL_SCALE
    return disc(size), np.hypot(scene.exposure.fwhm, size)


def _at(scene):
    """Return x and y of the detection, as `points` takes them."""
    return [scene.x], [scene.y]


def _truth(flux, snr, length, angle, width):
    """Return the truth of a source as a dict."""
    return {"flux": flux, "snr": snr, "length": length, "angle": angle, "width": width}
