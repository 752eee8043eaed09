"""Maps of the signal-to-noise ratio of point sources, compiled by numba.

Signals are pixels in units of their noise, float32 (height, width), 0 where there is no data; `valid` is 1
where there is data, else 0.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled

FILTER_REACH = 2.5  # of the profile that filters an image [its widths]
LEAST_COVERED = 0.3  # share of the profile that must be on pixels
NOISE_BESIDE = 1.0  # that the mean of two pixels may be too faint by [noise]


@compiled
def matched_filter(signal, valid, width, found, rows, weights):
    """Fill a map of the signal-to-noise ratio of a point source of Gaussian profile at each pixel.

    `rows` and `weights` are room of the shape of the signal.
    """
    height, wide = signal.shape
    reach = int(math.ceil(FILTER_REACH * width))
    profile = np.empty(2 * reach + 1, dtype=np.float32)
    for k in range(2 * reach + 1):
        profile[k] = math.exp(-0.5 * ((k - reach) / width) ** 2)
    squared = profile**2
    _convolve(signal, profile, rows, found)
    if valid.min() > 0:
        _covered(squared, weights)
    else:
        _convolve(valid, squared, rows, weights)
    least = np.float32(LEAST_COVERED * squared.sum() ** 2)
    for i in range(height):
        for j in range(wide):
            if weights[i, j] >= least and valid[i, j] > 0:
                found[i, j] /= math.sqrt(weights[i, j])
            else:
                found[i, j] = 0.0


@compiled
def _covered(profile, found):
    """Fill what `_convolve` makes of an image of ones."""
    height, width = found.shape
    reach = len(profile) // 2
    along = np.zeros((2, max(height, width)), dtype=np.float32)
    for axis in range(2):
        n = found.shape[axis]
        for i in range(n):
            for k in range(max(-reach, -i), min(reach, n - 1 - i) + 1):
                along[axis, i] += profile[k + reach]
    for i in range(height):
        for j in range(width):
            found[i, j] = along[0, i] * along[1, j]


@compiled
def filtered_at(signal, valid, width, x, y):
    """Return the value of the map of `matched_filter` at one pixel."""
    height, wide = signal.shape
    reach = int(math.ceil(FILTER_REACH * width))
    total = weight = 0.0
    for i in range(max(y - reach, 0), min(y + reach + 1, height)):
        for j in range(max(x - reach, 0), min(x + reach + 1, wide)):
            profile = math.exp(-0.5 * ((i - y) ** 2 + (j - x) ** 2) / width**2)
            total += profile * signal[i, j]
            weight += profile**2 * valid[i, j]
    return total / math.sqrt(max(weight, 1e-30))


@compiled
def _convolve(image, profile, rows, found):
    """Fill an image convolved with a symmetric profile along both axes, as if there were zeros around it."""
    height, width = image.shape
    reach = len(profile) // 2
    rows[:], found[:] = 0.0, 0.0
    for i in range(height):
        for k in range(-reach, reach + 1):
            if 0 <= i + k < height:
                for j in range(width):
                    rows[i, j] += profile[k + reach] * image[i + k, j]
    for i in range(height):
        for k in range(-reach, reach + 1):
            first, last = max(-k, 0), min(width - k, width)
            for j in range(first, last):
                found[i, j] += profile[k + reach] * rows[i, j + k]


@compiled
def brightest(light, x, y, radius):
    """Return the greatest value of a map within a radius of a position, and its column and row."""
    best, column, row = -np.inf, int(x), int(y)
    for i in range(max(int(y - radius), 0), min(int(y + radius) + 2, light.shape[0])):
        for j in range(max(int(x - radius), 0), min(int(x + radius) + 2, light.shape[1])):
            if (i - y) ** 2 + (j - x) ** 2 <= radius**2 and light[i, j] > best:
                best, column, row = light[i, j], j, i
    return best, column, row


@compiled
def darkest(light, x, y, radius):
    """Return the smallest value of a map within a radius of a position."""
    least = np.inf
    for i in range(max(int(y - radius), 0), min(int(y + radius) + 2, light.shape[0])):
        for j in range(max(int(x - radius), 0), min(int(x + radius) + 2, light.shape[1])):
            if (i - y) ** 2 + (j - x) ** 2 <= radius**2:
                least = min(least, light[i, j])
    return least


@compiled
def sharpness(signal, valid, x, y, radius, width):
    """Return the light beside the brightest pixel near a position, in that of a point source at least.

    It is the least of four directions, of the mean of two opposite neighbours. Of a Gaussian profile,
    wherever on the pixels its middle is, that is at least ``exp(-step**2 / (2 width**2))`` of the pixel
    between them, and one neighbour alone, where the other has no data, at least the square of that; across
    the track of a cosmic ray it is less. The noise of the pixels is allowed for. It is infinite if no
    neighbour has data.
    """
    height, wide = signal.shape
    peak, j, i = brightest(signal, x, y, radius)
    least = np.inf
    for di, dj in ((0, 1), (1, 0), (1, 1), (1, -1)):
        light, known = 0.0, 0
        for sign in (-1, 1):
            k, m = i + sign * di, j + sign * dj
            if 0 <= k < height and 0 <= m < wide and valid[k, m] > 0:
                light += signal[k, m]
                known += 1
        if known:
            expected = math.exp(-(di**2 + dj**2) / (known * width**2)) * peak
            beside = light / known + NOISE_BESIDE * math.sqrt(2 / known)
            least = min(least, beside / max(expected, NOISE_BESIDE))
    return least
