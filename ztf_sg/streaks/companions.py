"""Other sources in a stamp: the brightest one, and flashes on a line with the source in the middle.

Signals and maps are those of `ztf_sg.streaks.compiled`.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled
from ztf_sg.streaks.maps import FILTER_REACH, brightest, darkest, sharpness

SHARP = 0.5  # `sharpness` below which a companion is a cosmic ray
FAR = 7.0  # companions are at least so far from the source [profile widths]
FLASH, DIP = 5.0, 0.6  # signal-to-noise ratio of flashes; light between them [the fainter one's]
MIRROR_REACH = 2  # of the place opposite of a companion [px]


@compiled
def companion(signal, valid, light, usable, x, y, width, found):
    """Fill the brightest other source, the light opposite of it, and what `flashes` says of their direction.

    Residuals of subtracted stars are dark beside bright pixels, and cosmic rays are sharper than a point
    source; those are no companions.
    """
    height, wide = light.shape
    best, column, row = 0.0, -1, -1
    reach = 2.5 * width
    for i in range(height):
        for j in range(wide):
            if light[i, j] > best and usable[i, j] > 0 and math.hypot(i - y, j - x) > FAR * width:
                clean = light[i, j] + 1.5 * min(darkest(light, j, i, reach) + 3.0, 0.0)
                if clean > best and sharpness(signal, valid, j, i, FILTER_REACH * width, width) > SHARP:
                    best, column, row = clean, j, i
    found[0], found[1], found[2], found[3] = best, 0.0, 1.0, np.nan
    if column >= 0:
        found[1] = max(brightest(light, 2 * x - column, 2 * y - row, MIRROR_REACH)[0], 0.0)
    if best > FLASH:
        found[2], found[3] = flashes(light, x, y, math.atan2(row - y, column - x), width)


@compiled
def flashes(light, x, y, angle, width):
    """Return the number of flashes along a line through a position, and their median distance [px].

    Between flashes the light is less than `DIP` of the fainter one.
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = light.shape[0] + light.shape[1]
    along = np.empty(2 * reach + 1)
    for n in range(2 * reach + 1):
        j, i = x + (n - reach) * cosine, y + (n - reach) * sine
        inside = (0 <= i <= light.shape[0] - 1) & (0 <= j <= light.shape[1] - 1)
        along[n] = brightest(light, j, i, 1.5)[0] if inside else 0.0
    peaks, steps = np.empty(2 * reach + 1), np.empty(2 * reach + 1)
    count, last = 0, 0
    for n in range(1, 2 * reach):
        if along[n] > FLASH and along[n] >= along[n - 1] and along[n] > along[n + 1]:
            dip = along[last : n + 1].min() if count else 0.0
            if count and dip > DIP * min(along[last], along[n]):
                if along[n] > along[last]:
                    peaks[count - 1], last = n, n
            else:
                peaks[count], last = n, n
                count += 1
    for k in range(1, count):
        steps[k - 1] = peaks[k] - peaks[k - 1]
    return count, np.median(steps[: count - 1]) if count > 1 else np.nan
