"""Length and angle of faint trails: their means over all trails that the pixels allow.

Below a signal-to-noise ratio of some 15 the best fit of a trail often ends at a bump of the noise, and its
errors exceed the Cramer-Rao bound (the threshold effect of maximum likelihood). The posterior mean is the
estimate of the least mean squared error there. Known beforehand are three things, all broad: the middle of the
trail is near that of the stamp; the motion has no direction that is likelier than others; and the vector of the
motion is as likely to end in one pixel as in another up to `EVEN` pixels, beyond which all lengths are alike
in the logarithm. The flux is solved for, with all signal-to-noise ratios alike.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled, inlined
from ztf_sg.streaks.compiled import PEAK_RADIUS, scatter_of_sums, sum_along
from ztf_sg.streaks.maps import LEAST_COVERED, brightest, matched_filter
from ztf_sg.streaks.trail_fit import fit, pixels_around

FAINT = 16.0  # signal-to-noise ratio of a trail below which its posterior is sought
EVEN = 5.0  # length up to which all vectors of motion are alike [px]
SHORTEST = 0.1  # length below which lengths are alike, so that a point is possible, too [px]
OFF_CENTRE = 1.0  # scale of the Cauchy distribution of the middle of a trail around that of the stamp [px]
TURNS, OFFSETS = 60, (-1.2, 0.0, 1.2)  # of the search for the best trail: angles; offsets [px]
STEPS, BEYOND = 44, 4  # of the ends from the middle of the best trail, outwards and inwards
FINEST, COARSEST = 0.2, 1.0  # steps along a trail [px]
SIGMAS = 4  # of angle and offset that the grid around the best trail reaches, in steps of one
LEAST_SNR = 4.0  # of the best trail, for the steps of the grid
BRIGHTEST = 1.2  # part of a trail that counts [peak near the middle of the stamp]
REACH = 2.5  # of the profile [widths]
NEGLIGIBLE = 15.0  # logarithm of the ratio to the probability of the best trail


@compiled
def trail_moments(signal, valid, width, found):
    """Fill mean and standard deviation of the length [px] and of the angle [radian] of a trail.

    Parameters
    ----------
    signal, valid : numpy.ndarray
        float32 pixels in units of their noise, 0 where there are no data; and 1 where there are, else 0;
        shape (height, width).
    width : float
        Standard deviation of the profile of a point source [px].
    found : numpy.ndarray
        length, its deviation, angle, its deviation; shape (4,). The angle's are those of the doubled angle.
    """
    light, room, weights = np.empty_like(signal), np.empty_like(signal), np.empty_like(signal)
    matched_filter(signal, valid, width, light, room, weights)
    peak = brightest(light, 0.5 * (signal.shape[1] - 1), 0.5 * (signal.shape[0] - 1), PEAK_RADIUS)[0]
    most_light = BRIGHTEST * max(peak, LEAST_SNR)
    trail, moments = np.empty(6), np.zeros(5)
    best = _best_trail(light, width, most_light, trail)
    snr, length = math.sqrt(max(2 * best, LEAST_SNR**2)), trail[4]
    trail[0] = snr * math.sqrt(4 * math.pi * width**2 + 2 * math.sqrt(math.pi) * width * length)
    trail[3], trail[4] = width, max(length, width)
    pixels = pixels_around(valid, trail)
    fit(signal, pixels, 6, 0.0, width, trail, np.empty((6, 6)))
    across = math.sqrt(2.0) * width / snr
    turn = math.sqrt(12.0) * across / max(length, 1.0) * (1 + 12 * (width / max(length, 1.0)) ** 2)
    turn = min(1.25 * turn, math.pi / (2 * SIGMAS + 1))
    along = 1.2 * math.sqrt(width**2 + length**2 / 12) / snr
    along = min(max(along, FINEST), COARSEST)
    scatter, lengths, sums = scatter_of_sums(width / along), _lengths(along), np.empty(2 * STEPS + 2)
    for k in range(-SIGMAS, SIGMAS + 1):
        angle = trail[5] + k * turn
        for m in range(-SIGMAS, SIGMAS + 1):
            x, y = trail[1] - m * across * math.sin(angle), trail[2] + m * across * math.cos(angle)
            _sum_between_pixels(signal, valid, width, most_light, x, y, angle, along, sums)
            _add(sums, scatter, lengths, _priors_of_middle(signal.shape, x, y, angle, along), angle, best, moments)
    total = max(moments[0], 1e-300)
    found[0] = moments[1] / total
    found[1] = math.sqrt(max(moments[2] / total - found[0] ** 2, 0.0))
    found[2] = 0.5 * math.atan2(moments[4], moments[3]) % math.pi
    certainty = min(max(math.hypot(moments[3], moments[4]) / total, 1e-9), 1.0)
    found[3] = 0.5 * math.sqrt(-2 * math.log(certainty))


@compiled
def _lengths(step):
    """Return the lengths of 1, 2 ... points at some steps [px], and what is presumed of them, shape (2, n).

    A segment of that length has the variance of the points.
    """
    found = np.empty((2, 2 * STEPS + 1))
    for n in range(2 * STEPS + 1):
        length = step * math.sqrt(n * (n + 2.0))
        found[0, n], found[1, n] = length, (length + SHORTEST) / (1 + (length / EVEN) ** 2)
    return found


@compiled
def _priors_of_middle(shape, x, y, angle, step):
    """Return what is presumed of middles at half steps along a line, shape (n,); the mean one is at (x, y)."""
    found = np.empty(2 * (STEPS + BEYOND) + 1)
    for k in range(len(found)):
        along = 0.5 * step * (k - STEPS - BEYOND)
        dx, dy = x + along * math.cos(angle) - 0.5 * (shape[1] - 1), y + along * math.sin(angle) - 0.5 * (shape[0] - 1)
        found[k] = (1 + (dx**2 + dy**2) / OFF_CENTRE**2) ** -1.5
    return found


@compiled
def _best_trail(light, width, most_light, found):
    """Return the logarithm of the probability of the best trail of a coarse grid; fill its `PARAMETERS`."""
    scatter, lengths, sums = scatter_of_sums(width), _lengths(1.0), np.empty(2 * STEPS + 2)
    best = -np.inf
    for turn in range(TURNS):
        angle = math.pi * turn / TURNS
        for offset in OFFSETS:
            x = 0.5 * (light.shape[1] - 1) - offset * math.sin(angle)
            y = 0.5 * (light.shape[0] - 1) + offset * math.cos(angle)
            sum_along(light, x, y, angle, most_light, sums)
            priors = _priors_of_middle(light.shape, x, y, angle, 1.0)
            for back in range(-BEYOND, STEPS + 1, 2):
                for front in range(max(-back, -BEYOND), STEPS + 1, 2):
                    n = back + front
                    score = max(sums[STEPS + front + 1] - sums[STEPS - back], 0.0) / scatter[n + 1]
                    if 0.5 * score**2 > best:
                        prior = lengths[1, n] * priors[front - back + STEPS + BEYOND]
                        if 0.5 * score**2 + math.log(prior) > best:
                            best = 0.5 * score**2 + math.log(prior)
                            found[1] = x + 0.5 * (front - back) * math.cos(angle)
                            found[2] = y + 0.5 * (front - back) * math.sin(angle)
                            found[4], found[5] = lengths[0, n], angle
    return best


@compiled
def _add(sums, scatter, lengths, priors, angle, best, moments):
    """Add the trails on a line to the moments: their probability, length, its square, and doubled angle."""
    total = 0.0
    for back in range(-BEYOND, STEPS + 1):
        for front in range(max(-back, -BEYOND), STEPS + 1):
            n = back + front
            score = (sums[STEPS + front + 1] - sums[STEPS - back]) / scatter[n + 1]
            if score > 0 and 0.5 * score**2 > best - NEGLIGIBLE:
                share = lengths[1, n] * priors[front - back + STEPS + BEYOND] * math.exp(0.5 * score**2 - best)
                total += share
                moments[1] += share * lengths[0, n]
                moments[2] += share * lengths[0, n] ** 2
    moments[0] += total
    moments[3] += total * math.cos(2 * angle)
    moments[4] += total * math.sin(2 * angle)


@compiled
def _sum_between_pixels(signal, valid, width, most_light, x, y, angle, step, sums):
    """Fill the sums of the signal-to-noise ratio of point sources at steps along a line through (x, y)."""
    height, wide = signal.shape
    cosine, sine = step * math.cos(angle), step * math.sin(angle)
    sums[0] = 0.0
    for n in range(2 * STEPS + 1):
        j, i = x + (n - STEPS) * cosine, y + (n - STEPS) * sine
        inside = (-0.5 <= i <= height - 0.5) & (-0.5 <= j <= wide - 0.5)
        sums[n + 1] = sums[n] + (min(_point(signal, valid, width, j, i), most_light) if inside else 0.0)


@inlined
def _point(signal, valid, width, x, y):
    """Return the signal-to-noise ratio of a point source at a position between pixels."""
    height, wide = signal.shape
    reach = REACH * width
    first, last = max(math.ceil(x - reach), 0), min(math.floor(x + reach), wide - 1)
    profile = np.empty(last - first + 1)
    for j in range(first, last + 1):
        profile[j - first] = math.exp(-0.5 * ((j - x) / width) ** 2)
    light = weight = 0.0
    for i in range(max(math.ceil(y - reach), 0), min(math.floor(y + reach), height - 1) + 1):
        row = known = 0.0
        for j in range(first, last + 1):
            row += profile[j - first] * signal[i, j]
            known += profile[j - first] ** 2 * valid[i, j]
        here = math.exp(-0.5 * ((i - y) / width) ** 2)
        light += here * row
        weight += here**2 * known
    return light / math.sqrt(max(weight, LEAST_COVERED * math.pi * width**2))
