"""Length and angle of faint trails: their means over all trails that the pixels allow.

Below a signal-to-noise ratio of some 15 the best fit of a trail often ends at a bump of the noise, and its
errors exceed the Cramer-Rao bound: the threshold effect of maximum likelihood. The mean of the posterior
distribution has the least mean squared error there. Its prior is broad: the middle of the trail is near that
of the stamp, and its ends are in the stamp; no direction is likelier than another, and the vector of motion
is as likely to end in one pixel as in another up to a length of `EVEN`, beyond which lengths are alike in
their logarithm. Faint and bright trails are alike; a trail whose best flux has a signal-to-noise ratio s has
the likelihood ``exp(s**2 / 2)``.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled, inlined
from ztf_sg.parallel import map_chunks
from ztf_sg.streaks.compiled import ENDS, PEAK_RADIUS, scatter_of_sums, sum_along
from ztf_sg.streaks.features import prepared_images
from ztf_sg.streaks.maps import LEAST_COVERED, brightest, matched_filter
from ztf_sg.streaks.trail_fit import fit, pixels_around

FAINT = 16.0  # signal-to-noise ratio of a trail below which it is measured so
EVEN = 5.0  # length up to which all vectors of motion are alike [px]
SHORTEST = 0.1  # added to lengths in their prior, so that it is not zero for a point [px]
OFF_CENTRE = 1.0  # scale of the Cauchy distribution of the middle of a trail around that of the stamp [px]
BRIGHTEST = 1.2  # part of a trail between pixels that counts [peak near the middle of the stamp]
BRIGHTER = 2.0  # source in the stamp to which trails would be drawn [the same peak]
TURNS, OFFSETS = 60, (-1.2, 0.0, 1.2)  # of the coarse grid: angles; offsets from the middle of the stamp [px]
STEPS, BEYOND = int(ENDS[-1]), 4  # of each end along a trail from its origin, outwards and inwards
FINEST, COARSEST = 0.2, 1.0  # steps along a trail [px]
STEP_ALONG, STEP_TURN, STEP_ACROSS = 1.2, 1.25, 1.0  # steps of the fine grid [standard errors]
AROUND = 4  # steps of the fine grid on both sides of the best trail, in angle and across
LEAST_SNR = 4.0  # of the best trail, for the steps of the fine grid
REACH = 2.5  # of the profile [widths]
NEGLIGIBLE = 15.0  # logarithm of the ratio to the probability of the best trail
# A fine grid misses the trail if its sum of probabilities [that of the best trail], or the deviation of the
# length or the angle [steps], is less.
LEAST_TOTAL, LEAST_DEVIATION = 0.03, 0.1
EDGE = 2.0  # an end this close to the edge of the stamp is not seen [widths]
MOST_UNSEEN = 0.5  # share of the probability that an end is not seen; with more, the length is not known


def with_faint_trails(triplets, raw):
    """Return raw measures whose faint trails have the lengths and angles, and errors, of their posterior.

    Trails above a signal-to-noise ratio of `FAINT` keep those of the fit, and so do trails that probably
    leave the stamp, whose length no pixel tells, and those in stamps with a much brighter source, to which
    the posterior would be drawn. The class does not depend on these.

    Parameters
    ----------
    triplets : Triplets
        n stamps.
    raw : pandas.DataFrame
        Of :func:`~ztf_sg.streaks.features.raw_measures`, n rows.
    """
    snr2 = raw["null_chi2"] - raw["trail_chi2"]
    faint = np.flatnonzero((raw["images"] != "none") & (raw["pixels"] > 0) & (snr2 < FAINT**2))
    if not len(faint):
        return raw
    found = np.concatenate(map_chunks(lambda rows: _measure_chunk(triplets, raw, faint[rows]), len(faint)))
    known, raw = np.isfinite(found).all(axis=1), raw.copy()
    for k, name in enumerate(("length", "length_error", "angle", "angle_error")):
        raw.loc[raw.index[faint[known]], name] = found[known, k]
    return raw


def _measure_chunk(triplets, raw, rows):
    """Return what `trail_moments` fills of some stamps, shape (n, 4)."""
    table = raw.iloc[rows]
    light, noise = prepared_images(triplets, rows)[3:]
    signals = light / noise[0].astype(np.float32)[:, None, None]
    valid = np.isfinite(signals)
    found = np.empty((len(rows), 4))
    signals = np.where(valid, signals, np.float32(0))
    _moments(signals, valid.astype(np.float32), table["width"].to_numpy(), found)
    return found


@compiled
def _moments(signals, valid, widths, found):
    for row in range(len(signals)):
        trail_moments(signals[row], valid[row], widths[row], found[row])


@compiled
def trail_moments(signal, valid, width, found):
    """Fill mean and standard deviation of the length [px] and of the angle [radian] of a trail.

    The angle's are those of the doubled angle on the circle, halved. All are NaN if none is found, if it
    probably leaves the stamp, or if a much brighter source is there.

    Parameters
    ----------
    signal, valid : numpy.ndarray
        float32 pixels in units of their noise, 0 where there are no data; and 1 where there are, else 0;
        shape (height, width).
    width : float
        Standard deviation of the profile of a point source [px].
    found : numpy.ndarray
        Shape (4,).
    """
    light, room, weights = np.empty_like(signal), np.empty_like(signal), np.empty_like(signal)
    matched_filter(signal, valid, width, light, room, weights)
    peak = brightest(light, 0.5 * (signal.shape[1] - 1), 0.5 * (signal.shape[0] - 1), PEAK_RADIUS)[0]
    peak, trail = max(peak, LEAST_SNR), np.empty(6)
    found[:] = np.nan
    if light.max() > BRIGHTER * peak:
        return
    best = _best_trail(light, width, peak, trail)
    coarse_length, snr = trail[4], math.sqrt(max(2 * best, LEAST_SNR**2))
    _polish(signal, valid, width, snr, trail)
    turn, across, along = _grid_steps(width, snr, coarse_length, trail[4])
    moments = np.zeros(6)
    _sum_grid(signal, valid, width, BRIGHTEST * peak, trail, turn, across, along, best, moments)
    _fill_means(moments, found)
    if not _is_covered(moments, found, turn, along):
        found[:] = np.nan


@compiled
def _is_covered(moments, found, turn, along):
    """Return whether the fine grid holds the trail, and both of its ends are seen."""
    is_resolved = found[1] > LEAST_DEVIATION * along and found[3] > LEAST_DEVIATION * turn
    return moments[0] > LEAST_TOTAL and is_resolved and moments[5] < MOST_UNSEEN * moments[0]


@compiled
def _grid_steps(width, snr, one_length, other_length):
    """Return the steps of the fine grid in angle [radian], across and along a trail [px].

    They follow from the standard errors of a trail, up to the second order in width / length, and are fine
    enough for both of two lengths.
    """
    shorter, longer = min(one_length, other_length), max(one_length, other_length, 1.0)
    across = math.sqrt(2.0) * width / snr
    turn = math.sqrt(12.0) * across / longer * (1 + 12 * (width / longer) ** 2)
    along = math.sqrt(width**2 + shorter**2 / 12) / snr
    turn = min(STEP_TURN * turn, math.pi / (2 * AROUND + 1))
    return turn, STEP_ACROSS * across, min(max(STEP_ALONG * along, FINEST), COARSEST)


@compiled
def _fill_means(moments, found):
    """Fill length, its deviation, angle, its deviation from the sums of `_add`."""
    total = max(moments[0], 1e-300)
    found[0] = moments[1] / total
    found[1] = math.sqrt(max(moments[2] / total - found[0] ** 2, 0.0))
    found[2] = 0.5 * math.atan2(moments[4], moments[3]) % math.pi
    certainty = min(max(math.hypot(moments[3], moments[4]) / total, 1e-9), 1.0)
    found[3] = 0.5 * math.sqrt(-2 * math.log(certainty))


@compiled
def _best_trail(light, width, most_light, trail):
    """Fill middle, length and angle of the best trail of a coarse grid; return its log probability."""
    scatter, lengths, sums = scatter_of_sums(width), _prior_of_lengths(1.0), np.empty(2 * STEPS + 2)
    best = -np.inf
    for turn in range(TURNS):
        angle = math.pi * turn / TURNS
        for offset in OFFSETS:
            x = 0.5 * (light.shape[1] - 1) - offset * math.sin(angle)
            y = 0.5 * (light.shape[0] - 1) + offset * math.cos(angle)
            sum_along(light, x, y, angle, most_light, sums)
            middles = _prior_of_middles(light.shape, x, y, angle, 1.0)
            for back in range(-BEYOND, STEPS + 1, 2):
                for front in range(max(-back, -BEYOND), STEPS + 1, 2):
                    n = back + front
                    score = max(sums[STEPS + front + 1] - sums[STEPS - back], 0.0) / scatter[n + 1]
                    if 0.5 * score**2 > best:  # the prior is below 1, and its logarithm takes time
                        prior = lengths[1, n] * middles[front - back + STEPS + BEYOND]
                        if 0.5 * score**2 + math.log(prior) > best:
                            best, ahead = 0.5 * score**2 + math.log(prior), 0.5 * (front - back)
                            trail[1], trail[2] = x + ahead * math.cos(angle), y + ahead * math.sin(angle)
                            trail[4], trail[5] = lengths[0, n], angle
    return best


@compiled
def _polish(signal, valid, width, snr, trail):
    """Fit a trail of a signal-to-noise ratio from its middle, length and angle on."""
    trail[0] = snr * math.sqrt(4 * math.pi * width**2 + 2 * math.sqrt(math.pi) * width * trail[4])
    trail[3], trail[4] = width, max(trail[4], width)
    fit(signal, pixels_around(valid, trail), 6, 0.0, width, trail, np.empty((6, 6)))


@compiled
def _sum_grid(signal, valid, width, most_light, trail, turn, across, along, best, moments):
    """Add the trails on a grid around one to the moments; steps are turn [radian], across and along [px]."""
    scatter, lengths = scatter_of_sums(width / along), _prior_of_lengths(along)
    sums, known = np.empty(2 * STEPS + 2), np.empty(2 * STEPS + 2, dtype=np.intp)
    seen = np.zeros(2 * STEPS + 1, dtype=np.bool_)
    for k in range(-AROUND, AROUND + 1):
        angle = trail[5] + k * turn
        for m in range(-AROUND, AROUND + 1):
            x, y = trail[1] - m * across * math.sin(angle), trail[2] + m * across * math.cos(angle)
            _sum_between_pixels(signal, valid, width, most_light, x, y, angle, along, sums, known, seen)
            middles = _prior_of_middles(signal.shape, x, y, angle, along)
            _add(sums, known, seen, scatter, lengths, middles, angle, best, moments)


@compiled
def _prior_of_lengths(step):
    """Return the lengths [px] of 1, 2 ... points at steps [px], and their probabilities, shape (2, n).

    A segment of that length has the variance of the points. Probabilities are relative, and below 1.
    """
    found = np.empty((2, 2 * STEPS + 1))
    for n in range(2 * STEPS + 1):
        length = step * math.sqrt(n * (n + 2.0))
        found[0, n], found[1, n] = length, (length + SHORTEST) / EVEN / (1 + (length / EVEN) ** 2)
    return found


@compiled
def _prior_of_middles(shape, x, y, angle, step):
    """Return the relative probabilities of middles at half steps along a line, one of them at (x, y)."""
    found = np.empty(2 * (STEPS + BEYOND) + 1)
    for k in range(len(found)):
        along = 0.5 * step * (k - STEPS - BEYOND)
        dx = x + along * math.cos(angle) - 0.5 * (shape[1] - 1)
        dy = y + along * math.sin(angle) - 0.5 * (shape[0] - 1)
        inverse = 1 + (dx**2 + dy**2) / OFF_CENTRE**2
        found[k] = 1 / (inverse * math.sqrt(inverse))
    return found


@compiled
def _add(sums, known, seen, scatter, lengths, middles, angle, best, moments):
    """Add the trails on a line to the moments.

    These are the sums of their probability, of length, its square, and cosine and sine of the doubled angle;
    and of the probability of those whose ends are not both seen.
    """
    total = 0.0
    for back in range(-BEYOND, STEPS + 1):
        for front in range(max(-back, -BEYOND), STEPS + 1):
            n = back + front
            first, last = STEPS - back, STEPS + front + 1
            score = (sums[last] - sums[first]) / scatter[known[last] - known[first]]
            if score > 0 and 0.5 * score**2 > best - NEGLIGIBLE:
                probability = lengths[1, n] * middles[front - back + STEPS + BEYOND]
                probability *= math.exp(0.5 * score**2 - best)
                total += probability
                moments[1] += probability * lengths[0, n]
                moments[2] += probability * lengths[0, n] ** 2
                if not (seen[STEPS - back] and seen[STEPS + front]):
                    moments[5] += probability
    moments[0] += total
    moments[3] += total * math.cos(2 * angle)
    moments[4] += total * math.sin(2 * angle)


@compiled
def _sum_between_pixels(signal, valid, width, most_light, x, y, angle, step, sums, known, seen):
    """Fill the sums of the signal-to-noise ratio of point sources at steps along a line through (x, y).

    `known` are the numbers of those that count: pixels without data say nothing, but trails are presumed to
    end in the stamp. `seen` tells at which points an end is seen: none near the edge or the line's own ends.
    """
    height, wide = signal.shape
    cosine, sine = step * math.cos(angle), step * math.sin(angle)
    sums[0], known[0] = 0.0, 0
    for n in range(2 * STEPS + 1):
        j, i = x + (n - STEPS) * cosine, y + (n - STEPS) * sine
        sums[n + 1], known[n + 1] = sums[n], known[n]
        inside = (-0.5 <= i < height - 0.5) & (-0.5 <= j < wide - 0.5)
        if not inside:
            known[n + 1] += 1
        elif valid[int(i + 0.5), int(j + 0.5)] > 0:
            sums[n + 1] += min(_point(signal, valid, width, j, i), most_light)
            known[n + 1] += 1
        to_edge = min(j, i, wide - 1 - j, height - 1 - i)
        seen[n] = to_edge > EDGE * width and BEYOND < n < 2 * STEPS - BEYOND


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
