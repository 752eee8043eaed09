"""Straight lines in an image: the sums along all of them, for segments of every dyadic length.

The sums are those of the approximate discrete Radon transform (Brady 1998, SIAM J. Comput. 27, 107), which is
stopped after each doubling of the length, as in Nir, Zackay & Ofek 2018, AJ 156, 229. A sum is compared with
its own noise, so that pixels without data need no filling.
"""

import numpy as np
from scipy.ndimage import correlate1d, uniform_filter1d

from ztf_sg.compilation import compiled

SHORTEST, LONGEST = 5, 10  # segments have 2**5 to 2**10 px
CELL = 16  # of neighbouring segments, in both of their ends, the best one is returned [px]
BESIDE = 41  # pixels across a line that its sky is measured in
FEWEST = 0.3  # share of a segment's pixels that must have data


def line_segments(values, has_data, sigma, min_snr):
    """Return the segments whose light along a line stands out of the noise, the best of each neighbourhood.

    Parameters
    ----------
    values : numpy.ndarray (height, width)
        Pixels in units of their noise, 0 where there is no data.
    has_data : numpy.ndarray of bool (height, width)
    sigma : float
        Standard deviation of the profile across the lines looked for, a Gaussian [px].
    min_snr : float
        Smallest signal-to-noise ratio of a segment.

    Returns
    -------
    numpy.ndarray (n, 5)
        Signal-to-noise ratio, and the ends x1, y1, x2, y2 [px], by falling ratio.
    """
    flat = [np.ascontiguousarray(array.T, dtype=np.float32) for array in (values, has_data)]
    steep = [np.ascontiguousarray(array, dtype=np.float32) for array in (values, has_data)]
    found = []
    for arrays, axes in ((flat, (0, 1, 2, 3, 4)), (steep, (0, 2, 1, 4, 3))):
        light, variance = _light_across(*arrays, sigma)
        least = FEWEST * variance.max()
        rising = _rising_segments(light, variance, least, min_snr)
        falling = _rising_segments(light[:, ::-1], variance[:, ::-1], least, min_snr)
        falling[:, [2, 4]] = light.shape[1] - 1 - falling[:, [2, 4]]
        found += [rising[:, axes], falling[:, axes]]
    found = np.concatenate(found)
    return found[np.argsort(-found[:, 0], kind="stable")]


def _light_across(values, has_data, sigma):
    """Return the light around each pixel, along the last axis, under a Gaussian profile, and its variance."""
    radius = int(np.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    sums = [uniform_filter1d(array, BESIDE, mode="constant") for array in (values, has_data)]
    level = has_data * sums[0] / np.maximum(sums[1], 1 / BESIDE)
    light = correlate1d(values - level, kernel, mode="constant")
    return light, correlate1d(has_data, kernel**2, mode="constant")


def _rising_segments(light, variance, least, min_snr):
    """Return the segments that rise by 0 to 1 px per column; columns as of `line_segments`.

    `light` and `variance` are column by column, (width, height); a segment whose pixels have less than
    `least` variance on average is left out.
    """
    found = [
        _strip_segments(light[start:stop], variance[start:stop], least, min_snr, start)
        for start, stop in _strips(len(light))
    ]
    return np.concatenate(found)


def _strips(width):
    """Return the first columns of strips of the longest segments' length, and the columns after their last.

    The last strip reaches back, so that it is a full one, too.
    """
    longest = 2**LONGEST
    starts = [*range(0, max(width - longest, 0), longest), max(width - longest, 0)]
    return [(start, min(start + longest, width)) for start in starts]


def _strip_segments(light, variance, least, min_snr, start):
    """Return the segments within a strip of columns."""
    width = len(light)
    levels = int(np.ceil(np.log2(max(width, 2))))
    sums = [_as_columns(array, 2**levels) for array in (light, variance)]
    below, found = 2**levels, []
    for level in range(1, levels + 1):
        sums = [_doubled(array, 2 ** (level - 1)) for array in sums]
        if level >= min(SHORTEST, levels):
            found.append(_best_segments(*sums, 2**level, below, least, min_snr))
    segments = np.concatenate(found)
    segments[:, [1, 3]] += start
    return segments


def _as_columns(array, padding):
    """Return columns as (columns, 1, rows), a number `padding` of them, each with so many rows more below."""
    width, height = array.shape
    columns = np.zeros((padding, 1, height + padding), dtype=np.float32)
    columns[:width, 0, padding:] = array
    return columns


@compiled
def _doubled(sums, length):
    """Return the sums along segments of twice the length, from pairs of segments of strips side by side.

    Sums have the shape (strips, rises, rows of the first pixel); a segment of `length` columns rises by at
    most length - 1.
    """
    strips, _, rows = sums.shape
    doubled = np.empty((strips // 2, 2 * length, rows), dtype=np.float32)
    for strip in range(strips // 2):
        for rise in range(2 * length):
            first, second = sums[2 * strip, rise // 2], sums[2 * strip + 1, rise // 2]
            shift = (rise + 1) // 2
            target = doubled[strip, rise]
            inside = max(rows - shift, 0)
            for row in range(inside):
                target[row] = first[row] + second[row + shift]
            for row in range(inside, rows):
                target[row] = first[row]
    return doubled


def _best_segments(light, variance, length, below, least, min_snr):
    """Return the segments of one length, the best of each cell of first rows and rises."""
    best, places = _best_of_cells(light, variance, np.float32(least * length), np.float32(min_snr**2))
    strip, rise_cell, row_cell = np.nonzero(best > min_snr**2)
    rise, row = np.divmod(places[strip, rise_cell, row_cell], light.shape[2])
    x, y = strip * length, row - below
    snr = np.sqrt(best[strip, rise_cell, row_cell])
    return np.stack([snr, x, y, x + length - 1, y + rise], axis=1).astype(float)


@compiled
def _best_of_cells(light, variance, least, lowest):
    """Return the highest squared signal-to-noise ratio of each cell, and where: rise * rows + row."""
    strips, rises, rows = light.shape
    shape = (strips, (rises + CELL - 1) // CELL, (rows + CELL - 1) // CELL)
    best, places = np.full(shape, lowest, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    for strip in range(strips):
        for rise in range(rises):
            cells, cell_places = best[strip, rise // CELL], places[strip, rise // CELL]
            lights, variances = light[strip, rise], variance[strip, rise]
            for row in range(rows):
                signal, spread = lights[row], variances[row]
                if signal > 0 and spread > least and signal * signal > cells[row // CELL] * spread:
                    cells[row // CELL] = signal * signal / spread
                    cell_places[row // CELL] = rise * rows + row
    return best, places
