"""Straight lines in an image: the sums along all of them, for segments of every dyadic length.

The sums are those of the approximate discrete Radon transform (Brady 1998, SIAM J. Comput. 27, 107), which is
stopped after each doubling of the length, as in Nir, Zackay & Ofek 2018, AJ 156, 229. A sum is compared with
its own noise, so that pixels without data need no filling.
"""

import numpy as np
from scipy.ndimage import correlate1d

from ztf_sg.compilation import compiled

SHORTEST, LONGEST = 5, 10  # segments have 2**5 to 2**10 px
CELL = 16  # of neighbouring segments, in both of their ends, the best one is returned [px]
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
    found = []
    for transposed in (False, True):
        for flipped in (False, True):
            views = [_turned(array, transposed, flipped) for array in (values, has_data)]
            segments = _rising_segments(*views, sigma, min_snr)
            found.append(_turned_back(segments, views[0].shape[0], transposed, flipped))
    found = np.concatenate(found)
    return found[np.argsort(-found[:, 0], kind="stable")]


def _turned(array, transposed, flipped):
    """Return an image in which lines of the slopes of one octant rise by at most 45 degrees."""
    array = array.T if transposed else array
    return array[::-1] if flipped else array


def _turned_back(segments, height, transposed, flipped):
    """Return segments of a turned image in the pixels of the image."""
    snr, x1, y1, x2, y2 = segments.T
    if flipped:
        y1, y2 = height - 1 - y1, height - 1 - y2
    ends = (y1, x1, y2, x2) if transposed else (x1, y1, x2, y2)
    return np.stack([snr, *ends], axis=1)


def _rising_segments(values, has_data, sigma, min_snr):
    """Return the segments that rise by 0 to 1 px per column; columns as of `line_segments`."""
    radius = int(np.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    light = correlate1d(values.astype(np.float32), kernel, axis=0, mode="constant")
    variance = correlate1d(has_data.astype(np.float32), kernel**2, axis=0, mode="constant")
    least = FEWEST * np.sum(kernel**2)
    found = [
        _strip_segments(light[:, start:stop], variance[:, start:stop], least, min_snr, start)
        for start, stop in _strips(values.shape[1])
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
    width = light.shape[1]
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
    """Return an image column by column, (columns, 1, rows), with as many rows more below as it has columns."""
    height, width = array.shape
    columns = np.zeros((padding, 1, height + padding), dtype=np.float32)
    columns[:width, 0, padding:] = array.T
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
