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
from ztf_sg.streaks.compiled import scatter_of_sums, sum_along
from ztf_sg.streaks.maps import LEAST_COVERED, matched_filter

FAINT = 16.0  # signal-to-noise ratio of a trail below which its posterior is sought
EVEN = 5.0  # length up to which all vectors of motion are alike [px]
OFF_CENTRE = 1.0  # of the middle of a trail from that of the stamp: half of a Cauchy distribution's width [px]
FARTHEST = 44  # of an end from the middle of the stamp, along the trail [px]
INSIDE = 4  # the nearer end is at most so far beyond the middle of the stamp [px]
TURNS, OFFSETS = 60, (-1.2, 0.0, 1.2)  # of the search for the best line: angles; offsets [px]
SIGMAS = 5  # of angle and offset that the grid around it reaches, in steps of one
SHORTEST = 0.1  # length below which lengths are alike, so that a point is possible, too [px]
LEAST_SNR = 4.0  # from which the steps of the grid follow
REACH = 2.5  # of the profile [widths]
NEGLIGIBLE = 12.0  # logarithm of the ratio to the most probable trail


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
    scatter, lengths, line = scatter_of_sums(width), prior_of_lengths(), np.empty(5)
    _best_line(signal, valid, width, scatter, lengths, line)
    best, angle, offset, along, length = line
    across = math.sqrt(2.0) * width / math.sqrt(max(2 * best, LEAST_SNR**2))
    turn = math.sqrt(12.0) * across / max(length, 1.0) * (1 + 12 * (width / max(length, 1.0)) ** 2)
    turn = min(turn, math.pi / (2 * SIGMAS + 1))
    sums, moments = np.empty(2 * FARTHEST + 2), np.zeros(5)
    for k in range(-SIGMAS, SIGMAS + 1):
        for m in range(-SIGMAS, SIGMAS + 1):
            here = offset * math.cos(k * turn) - along * math.sin(k * turn) + m * across
            _sum_between_pixels(signal, valid, width, angle + k * turn, here, sums)
            _add(sums, scatter, lengths, angle + k * turn, here, best, moments)
    total = max(moments[0], 1e-300)
    found[0] = moments[1] / total
    found[1] = math.sqrt(max(moments[2] / total - found[0] ** 2, 0.0))
    found[2] = 0.5 * math.atan2(moments[4], moments[3]) % math.pi
    certainty = min(max(math.hypot(moments[3], moments[4]) / total, 1e-9), 1.0)
    found[3] = 0.5 * math.sqrt(-2 * math.log(certainty))


@compiled
def prior_of_lengths():
    """Return the lengths of 1, 2 ... points at steps of one pixel, and their probabilities, shape (2, n).

    A segment of that length has the variance of the points.
    """
    found = np.empty((2, 2 * FARTHEST + 1))
    for n in range(2 * FARTHEST + 1):
        length = math.sqrt(n * (n + 2.0))
        found[0, n], found[1, n] = length, (length + SHORTEST) / (1 + (length / EVEN) ** 2)
    return found


@inlined
def _prior_of_middle(along, offset):
    """Return the probability of the middle of a trail, given along the trail and across it [px]."""
    return (1 + (along**2 + offset**2) / OFF_CENTRE**2) ** -1.5


@compiled
def _best_line(signal, valid, width, scatter, lengths, found):
    """Fill the logarithm of the probability of the best trail, its angle, offset, middle and length."""
    light, room, weights = np.empty_like(signal), np.empty_like(signal), np.empty_like(signal)
    matched_filter(signal, valid, width, light, room, weights)
    x, y = 0.5 * (signal.shape[1] - 1), 0.5 * (signal.shape[0] - 1)
    sums = np.empty(2 * FARTHEST + 2)
    found[0] = -np.inf
    for turn in range(TURNS):
        angle = math.pi * turn / TURNS
        for offset in OFFSETS:
            origin_x, origin_y = x - offset * math.sin(angle), y + offset * math.cos(angle)
            sum_along(light, origin_x, origin_y, angle, np.inf, sums)
            for back in range(-INSIDE, FARTHEST + 1, 2):
                for front in range(max(-back, -INSIDE), FARTHEST + 1, 2):
                    n = back + front
                    score = (sums[FARTHEST + front + 1] - sums[FARTHEST - back]) / scatter[n + 1]
                    if score > 0 and 0.5 * score**2 > found[0]:
                        along = 0.5 * (front - back)
                        prior = lengths[1, n] * _prior_of_middle(along, offset)
                        probability = 0.5 * score**2 + math.log(prior)
                        if probability > found[0]:
                            found[0], found[1], found[2] = probability, angle, offset
                            found[3], found[4] = along, lengths[0, n]


@compiled
def _add(sums, scatter, lengths, angle, offset, best, moments):
    """Add the trails on a line to the moments: their probability, length, its square, and doubled angle."""
    priors = np.empty(2 * (FARTHEST + INSIDE) + 1)
    for k in range(len(priors)):
        priors[k] = _prior_of_middle(0.5 * (k - FARTHEST - INSIDE), offset)
    all_of_it = 0.0
    for back in range(-INSIDE, FARTHEST + 1):
        for front in range(max(-back, -INSIDE), FARTHEST + 1):
            n = back + front
            score = (sums[FARTHEST + front + 1] - sums[FARTHEST - back]) / scatter[n + 1]
            if score > 0 and 0.5 * score**2 > best - NEGLIGIBLE:
                share = lengths[1, n] * priors[front - back + FARTHEST + INSIDE]
                share *= math.exp(0.5 * score**2 - best)
                all_of_it += share
                moments[1] += share * lengths[0, n]
                moments[2] += share * lengths[0, n] ** 2
    moments[0] += all_of_it
    moments[3] += all_of_it * math.cos(2 * angle)
    moments[4] += all_of_it * math.sin(2 * angle)


@compiled
def _sum_between_pixels(signal, valid, width, angle, offset, sums):
    """Fill the sums of the signal-to-noise ratio of point sources at steps of one pixel along a line."""
    height, wide = signal.shape
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = 0.5 * (wide - 1) - offset * sine, 0.5 * (height - 1) + offset * cosine
    sums[0] = 0.0
    for n in range(2 * FARTHEST + 1):
        j, i = x + (n - FARTHEST) * cosine, y + (n - FARTHEST) * sine
        inside = (-0.5 <= i <= height - 0.5) & (-0.5 <= j <= wide - 0.5)
        sums[n + 1] = sums[n] + (_point(signal, valid, width, j, i) if inside else 0.0)


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
