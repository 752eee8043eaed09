"""The width of stars in a stamp, by the curvature of the peaks in it."""

import math

import numpy as np

from ztf_sg.compilation import compiled

STAR_SNR = 15.0  # of three by three pixels, from which on a source tells the width of stars
STARS, STAR_BIAS = 200, 1.2  # of them at most; how much too wide smoothed sources with wings look


@compiled
def star_fwhm(images, noise):
    """Return the FWHM [px] of sources in n sky-subtracted images, NaN where there is none that is bright.

    It is the median of what the curvature of the logarithm of their peaks says, along the direction in which
    each is narrowest, after smoothing by three by three pixels.
    """
    n, height, width = images.shape
    found, widths = np.empty(n), np.empty(STARS)
    smooth = np.zeros((height, width))
    for row in range(n):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                smooth[i, j] = images[row, i - 1 : i + 2, j - 1 : j + 2].sum() / 9
        count = 0
        for i in range(2, height - 2):
            for j in range(2, width - 2):
                if smooth[i, j] > STAR_SNR * noise[row] / 3 and count < STARS:
                    variance = _peak_variance(smooth, i, j)
                    if variance > 0:
                        widths[count] = variance
                        count += 1
        found[row] = np.nan
        if count:
            variance = max(np.median(widths[:count]) - 2 / 3, 0.1)
            found[row] = math.sqrt(8 * math.log(2.0) * variance) / STAR_BIAS
    return found


@compiled
def _peak_variance(image, i, j):
    """Return the variance [px2] of a peak along the direction in which it is narrowest; 0 if it is none."""
    peak, least = image[i, j], np.inf
    for di, dj in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one, other = image[i + di, j + dj], image[i - di, j - dj]
        if not (one < peak and other < peak and one > 0 and other > 0):
            return 0.0
        variance = (di**2 + dj**2) / (2 * math.log(peak) - math.log(one) - math.log(other))
        least = min(least, variance)
    return least
