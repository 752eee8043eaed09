"""What looks like a source in a difference image and is none: marks and errors.

Each function adds one to a scene, and returns the truth of it. Its strength is a signal-to-noise ratio as a
star's would be, approximately.
"""

import numpy as np

from ztf_sg.simulation.fourier import BOX, blur, coarse, points, segment
from ztf_sg.simulation.scenes import BRIGHTEST, line
from ztf_sg.simulation.stamp_conditions import log_uniform

# What detections of all kinds have beside them: share of them, distance [px], strength [noise]. The shares of
# lines along columns or rows with a signal-to-noise ratio above 5 and above 7 are those of real alerts.
COLUMN_FRACTION, LAST_COLUMNS_FRACTION, COLUMN_DISTANCES = 0.03, 0.004, (5, 31)
COLUMN_COUNTS, LAST_COLUMNS_COUNTS = (0.3, 1.5), (3.0, 20.0)
COSMIC_RAY_FRACTION, COSMIC_RAY_SNR = 0.01, (5.0, 100.0)  # of cosmic rays beside

NOISE_TRAILS, NOISE_TRAIL_LENGTHS = 0.5, (5.0, 40.0)  # share of detections of noise; [px]
SEARCH = 4  # distance within which the highest peak of a mark is the detection [px]
SPIKE_DISTANCES = (6.0, 40.0)  # of a detection from the bright star whose spike it is [px]
RESIDUAL_SHIFT = 0.08  # scatter of the position of a bright star on each axis [px]
GHOST_RADII, GHOST_WIDTHS = (8.0, 80.0), (1.0, 5.0)  # [px]


def add_bad_column(rng, scene, snr):
    """Add one to three bright or dark columns, seldom rows, to either image; some begin within the stamp."""
    width, sign = rng.integers(1, 4), rng.choice([-1, 1], p=[0.3, 0.7])
    column = int(round(scene.x)) + np.arange(width) - rng.integers(width)
    marks = np.zeros((BOX, BOX), dtype=np.float32)
    marks[:, column] = sign * _per_pixel(scene, snr) * rng.uniform(0.7, 1.3, width)
    if rng.random() < 0.4:
        marks[: int(round(scene.y)) - rng.integers(0, 20)] = 0
    marks = marks.T if rng.random() < 0.1 else marks
    if rng.random() < 0.8:
        scene.science_marks += marks
    else:
        scene.template_marks -= marks
    return _truth(scene, sign * snr)


def add_spike(rng, scene, snr):
    """Add a saturated star off the detection, and spikes or bleeding that pass through it and change."""
    distance, angle = rng.uniform(*SPIKE_DISTANCES), rng.choice([0, 90, 180, 270]) + rng.normal(0, 1)
    if rng.random() < 0.4:
        angle = rng.uniform(0, 360)
    scale = rng.uniform(8, 25)
    strength = _per_pixel(scene, snr) * scene.exposure.fwhm * np.exp(distance / scale)
    direction = np.radians(angle)
    x, y = scene.x - distance * np.cos(direction), scene.y - distance * np.sin(direction)
    scene.add_static(points([x], [y], [log_uniform(rng, (1e5, 2e6))]))
    for turn in (0, 90, 180, 270):
        for light, change in ((scene.science, 1.0), (scene.template, rng.uniform(0.0, 0.9))):
            offset = rng.normal(0, 0.3) if change < 1 else 0.0
            light += change * _spike(scene, x, y, angle + turn, strength, scale, offset)
    return _truth(scene, snr)


def add_ghost(rng, scene, snr):
    """Add reflected light to the science image alone: a ring, a disc with an edge, or two arcs that cross."""
    shapes = [_ring, _ring] if rng.random() < 0.3 else [_ring if rng.random() < 0.6 else _disc]
    for shape in shapes:
        radius, width = log_uniform(rng, GHOST_RADII), log_uniform(rng, GHOST_WIDTHS)
        direction = rng.uniform(0, 2 * np.pi)
        dx, dy = scene.distances()
        distance = np.hypot(dx + radius * np.cos(direction), dy + radius * np.sin(direction))
        scene.science_marks += _per_pixel(scene, snr) * shape((distance - radius) / width)
    return _truth(scene, snr)


def add_dipole(rng, scene, snr):
    """Add a star that the reference has at another position, by proper motion or bad registration."""
    distance, angle = rng.uniform(0.15, 1.0), rng.uniform(0, 2 * np.pi)
    flux = min(2.0 * scene.exposure.flux(snr) * scene.exposure.fwhm / distance, BRIGHTEST)
    dx, dy = 0.5 * distance * np.cos(angle), 0.5 * distance * np.sin(angle)
    scene.science += points([scene.x + dx], [scene.y + dy], [flux])
    scene.template += points([scene.x - dx], [scene.y - dy], [flux * rng.uniform(0.97, 1.03)])
    return _truth(scene, snr)


def add_residual(rng, scene, snr):
    """Add a bright star whose PSF or position differs from that of the image: its difference has rings."""
    width, shift = rng.uniform(0.3, 1.2), rng.normal(0, RESIDUAL_SHIFT, 2)
    flux = min(scene.exposure.flux(snr) * 6.0 / width**2, 2 * BRIGHTEST)
    star = points([scene.x], [scene.y], [flux])
    wider, narrower = star * blur(width, 2.0), star
    if rng.random() < 0.5:
        wider, narrower = narrower, wider
    scene.science += wider * points(*shift[:, None], [rng.uniform(0.99, 1.01)])
    scene.template += narrower
    return _truth(scene, snr)


def add_reference_edge(rng, scene, snr):
    """Add an edge of the reference near the detection: a step, beyond which it may have no data."""
    dx, dy = scene.distances()
    direction, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 6)
    beyond = dx * np.cos(direction) + dy * np.sin(direction) - distance
    scene.template_marks -= (
        _per_pixel(scene, snr) * np.clip(beyond + 0.5, 0, 1) * np.exp(-np.maximum(beyond, 0))
    )
    if rng.random() < 0.8:
        scene.no_data |= beyond > rng.uniform(0, 3)
    return _truth(scene, snr)


def add_cosmic_ray(rng, scene, snr):
    """Add a cosmic ray through the detection: a track as sharp as a pixel."""
    length, angle = _add_track(rng, scene, snr, scene.x, scene.y)
    return _truth(scene, snr) | {"length": length, "angle": np.degrees(angle)}


def add_cosmic_ray_beside(rng, scene):
    """Add to some scenes a cosmic ray anywhere in the image."""
    if rng.random() < COSMIC_RAY_FRACTION:
        _add_track(rng, scene, log_uniform(rng, COSMIC_RAY_SNR), *rng.uniform(0, BOX, 2))


def _add_track(rng, scene, snr, x, y):
    """Add a track through x, y to the science image; return its length [px] and angle [rad]."""
    length, angle = rng.exponential(4.0), rng.uniform(0, np.pi)
    along = np.arange(-length / 2, length / 2 + 0.25, 0.25)
    x, y = x + along * np.cos(angle), y + along * np.sin(angle)
    strength = 2.0 * _per_pixel(scene, snr) * np.exp(rng.normal(0, 0.3))
    # charge diffuses over a part of the next pixels
    near = np.clip(1.1 - np.abs(np.arange(BOX) - x[:, None]), 0, 1)[:, None, :]
    near = near * np.clip(1.1 - np.abs(np.arange(BOX) - y[:, None]), 0, 1)[:, :, None]
    scene.science_marks += (strength * near.max(axis=0)).astype(np.float32)
    return length, angle


def add_hot_pixels(rng, scene, snr):
    """Add one to three hot pixels, side by side."""
    x, y = int(round(scene.x)), int(round(scene.y))
    for _ in range(rng.integers(1, 4)):
        scene.science_marks[y, x] += 2.0 * _per_pixel(scene, snr) * rng.uniform(0.3, 1)
        x, y = x + rng.integers(-1, 2), y + rng.integers(-1, 2)
    return _truth(scene, snr)


def add_nothing(rng, scene, snr):
    """Make the highest peak of noise the detection, or, as where streaks are sought, the best trail of it."""
    scene.search = BOX // 2
    if rng.random() < NOISE_TRAILS:
        scene.trail = coarse(segment(log_uniform(rng, NOISE_TRAIL_LENGTHS), rng.uniform(0, 180)))
    return {"flux": 0.0, "snr": 0.0}


def add_columns_beside(rng, scene):
    """Add to some scenes a faint bad column beside the detection, or the dark end of the detector."""
    if rng.random() < COLUMN_FRACTION:
        column = int(scene.x) + rng.choice([-1, 1]) * rng.integers(*COLUMN_DISTANCES)
        counts = scene.exposure.noise * rng.choice([-1, 1]) * log_uniform(rng, COLUMN_COUNTS)
        scene.science_marks[:, column : column + rng.integers(1, 3)] += counts
    if rng.random() < LAST_COLUMNS_FRACTION:
        first = int(scene.x) + rng.integers(*COLUMN_DISTANCES)
        last = first + rng.integers(2, 6)
        counts = scene.exposure.noise * log_uniform(rng, LAST_COLUMNS_COUNTS)
        mirrored = slice(None, None, rng.choice([-1, 1]))
        scene.science_marks[:, mirrored][:, first:last] -= counts
        scene.template_marks[:, mirrored][:, first:last] -= counts * rng.uniform(0.7, 1.3)
        scene.no_data[:, mirrored][:, last:] = True


def _ring(distance):
    """Return the brightness of a ring at distances from it in its widths."""
    return np.exp(-0.5 * distance**2)


def _disc(distance):
    """Return the brightness of an even disc at distances from its edge in the widths of the edge."""
    return 0.5 * (1 - np.tanh(distance))


def _spike(scene, x, y, angle, strength, scale, offset):
    """Return the transform of a spike that fades with the distance from a star at x, y [px]."""
    direction = np.radians(angle)
    dx, dy = scene.x - x, scene.y - y
    start = -(dx * np.cos(direction) + dy * np.sin(direction))
    side = dx * np.sin(direction) - dy * np.cos(direction)
    along = start + np.arange(0.0, 5 * scale)
    return line(scene, side + offset, angle, lambda s: strength * np.exp(-(s - start) / scale), along)


def _per_pixel(scene, snr):
    """Return about the counts of the brightest pixel [DN] of a star of a signal-to-noise ratio."""
    return 1.3 * scene.exposure.flux(snr) / scene.exposure.area


def _truth(scene, snr):
    """Return the truth of a mark, with the flux [DN] of a star of its signal-to-noise ratio.

    Its detection is the highest peak near by.
    """
    scene.search = SEARCH
    return {"flux": np.sign(snr) * scene.exposure.flux(abs(snr)), "snr": abs(snr)}
