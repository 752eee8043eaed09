"""Pixels of stamps without data: bad regions that the pipeline masks, and edges of the detector."""

import numpy as np

from ztf_sg.simulation.fourier import BOX

MASKED_FRACTION = 0.1  # share of the stamps in which some are masked, besides saturated stars
CLEAR = 9.0  # none is masked within this of a detection [px]
SQUARE = 17  # width of what is masked about a bad pixel [px]
SATURATED_FRACTION = 0.5  # share of the saturated stars that are masked


def draw_mask(rng, x, y):
    """Draw which pixels have no data, bool (BOX, BOX), about a detection at x, y [px]; mostly none."""
    if rng.random() > MASKED_FRACTION:
        return np.zeros((BOX, BOX), dtype=bool)
    shape = rng.choice([_squares, _edge, _band, _curve])
    mask = shape(rng)
    rows, columns = np.indices((BOX, BOX))
    return mask & (np.hypot(columns - x, rows - y) > CLEAR)


def saturated_mask(rng, science, full_well):
    """Draw which pixels are masked about saturated ones of a science image [DN] without background.

    There are none if a detection would be masked.
    """
    saturated = np.argwhere(science >= 0.98 * full_well)
    mask = np.zeros(science.shape, dtype=bool)
    if len(saturated) and rng.random() < SATURATED_FRACTION:
        low, high = saturated.min(axis=0), saturated.max(axis=0)
        low, high = np.maximum(low - SQUARE // 2, 0), high + SQUARE // 2 + 1
        mask[low[0] : high[0], low[1] : high[1]] = True
    return mask & ~mask[BOX // 2, BOX // 2]


def _squares(rng):
    """Draw one to three squares about bad pixels."""
    mask = np.zeros((BOX, BOX), dtype=bool)
    width = rng.choice([7, SQUARE, SQUARE])
    for _ in range(rng.integers(1, 4)):
        x, y = rng.integers(0, BOX - width, 2)
        mask[y : y + width, x : x + width] = True
    return mask


def _edge(rng):
    """Draw an edge of the detector: straight, or with steps where the squares of bad pixels meet it."""
    depth = rng.integers(17, 40) + np.zeros(BOX, dtype=int)
    if rng.random() < 0.6:
        depth += np.repeat(rng.integers(0, 9, BOX // 8), 8)
    mask = np.arange(BOX)[None, :] < depth[:, None]
    return np.rot90(mask, rng.choice([0, 0, 1, 2, 2, 3]))


def _band(rng):
    """Draw a band of masked columns."""
    left, width = rng.integers(0, BOX), rng.integers(3, 11)
    wiggle = np.repeat(rng.integers(-1, 2, BOX // 8), 8)[:, None]
    columns = np.arange(BOX) + wiggle
    return (columns >= left) & (columns < left + width)


def _curve(rng):
    """Draw the inside or the outside of a large circle, or half of the box, at some distance."""
    rows, columns = np.indices((BOX, BOX)) - BOX / 2
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(CLEAR, 35)
    radius = rng.choice([60.0, 120.0, 1e4])
    x, y = (distance + radius) * np.cos(angle), (distance + radius) * np.sin(angle)
    return np.hypot(columns - x, rows - y) < radius
