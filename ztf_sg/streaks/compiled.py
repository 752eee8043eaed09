"""The measurement of one stamp after the other, compiled by numba.

Signals are pixels in units of their noise, float32 (height, width), 0 where there is no data; `valid` is 1
where there is data, else 0. A map holds, for each pixel, the signal-to-noise ratio of a point source there.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled, copy_into, inlined
from ztf_sg.streaks.companions import companion
from ztf_sg.streaks.maps import brightest, filtered_at, matched_filter, sharpness
from ztf_sg.streaks.radon import best_lines
from ztf_sg.streaks.trail_fit import POINT, elongation, fit, pixels_around

PEAK_RADIUS = 3.0  # the source is sought this close to the middle of the stamp [px]
CLIP = 4.0  # brightest pixel in the search for lines [noise]
TEMPLATE_LIGHT = 4.0  # signal-to-noise ratio of template light that hides what is there
EDGE = 2  # how far pixels without data spoil others [px]
DARK = -6.0  # signal-to-noise ratio of residuals whose surroundings are left out
BRIGHT_STAR = 30.0  # signal-to-noise ratio of template light whose residuals spoil what is there
LEFT_OUT = 4.0  # radius around a source within which light may be its own [profile widths]
WINGED, WINGS = 30.0, 1.5  # signal-to-noise ratio from which on it grows, by so much with its logarithm
ANGLES = 36  # of the first guess of a trail
OFFSETS = (-1.5, 0.0, 1.5)  # of the first guess from the middle, across [px]
ENDS = np.array([0, 1, 2, 3, 4, 6, 8, 10, 13, 17, 22, 28, 35, 44])  # of the first guess [px]
EVERY_END = np.arange(45)  # of the second guess [px]
LONG = 3.0  # a trail of more than so many widths is fitted once more
TURNED = 0.3  # sine of the angle from the elongation at which a short trail is fitted once more
LEAST_BEYOND = 3  # pixels beyond the end of a trail that tell whether it goes on
LIT = 1.5  # signal-to-noise ratio in a map of what counts as light on a line
SEEN = 3.0  # signal-to-noise ratio in a map of the template from which on it has light

MEASURES = (
    "snr science_snr template_snr template_near "
    "companion mirror flashes period covered_near template_lit sharpness "
    "null_chi2 point_chi2 trail_chi2 pixels point_flux point_width "
    "flux x y width length angle flux_error x_error y_error width_error length_error angle_error free_ends "
    "reach beyond line line_narrow line_lit line_x line_y line_dx line_dy "
    "central central_narrow central_lit central_x central_y central_dx central_dy"
).split()
"""Names of what `measure` fills, in their order."""
COMPANION, COVERED, TRAIL, LINE = (
    MEASURES.index(name) for name in ("companion", "covered_near", "null_chi2", "line")
)


@compiled
def hide(light, template, valid, width, usable):
    """Set `usable` to 0 around template light, residuals much darker than sky, and pixels without data."""
    height, wide = light.shape
    wider = int(math.ceil(1.5 * width))
    for i in range(height):
        for j in range(wide):
            bad = light[i, j] < DARK or template[i, j] > TEMPLATE_LIGHT
            reach = wider if bad else EDGE if valid[i, j] == 0 else 0
            if reach:
                for k in range(max(i - reach, 0), min(i + reach + 1, height)):
                    for m in range(max(j - reach, 0), min(j + reach + 1, wide)):
                        usable[k, m] = 0.0


@compiled
def leave_out_stars(template, x, y, width, valid, light):
    """Set `valid` and a map of light to 0 where stars of the template leave residuals.

    What is so near to the source at a position that it may be its own light stays.
    """
    height, wide = valid.shape
    for i in range(height):
        for j in range(wide):
            if template[i, j] > BRIGHT_STAR and math.hypot(i - y, j - x) > LEFT_OUT * width:
                valid[i, j], light[i, j] = 0.0, 0.0


@compiled
def guess_trail(light, x, y, width, parameters):
    """Fill middle, length and angle of the segment near a position that holds the most significant light."""
    scatter, sums = scatter_of_sums(width), np.empty(2 * ENDS[-1] + 2)
    most_light = max(brightest(light, x, y, width)[0], 3.0)
    best = -np.inf
    for turn in range(ANGLES):
        angle = math.pi * turn / ANGLES
        for offset in OFFSETS:
            origin_x, origin_y = x - offset * math.sin(angle), y + offset * math.cos(angle)
            sum_along(light, origin_x, origin_y, angle, most_light, sums)
            score, back, front = best_ends(sums, scatter, ENDS)
            if score > best:
                best = score
                _fill_segment(origin_x, origin_y, angle, back, front, parameters)


@compiled
def guess_ends(light, width, parameters):
    """Fill middle and length of the segment that holds the most significant light along a trail."""
    _, x, y, _, _, angle = parameters
    sums = np.empty(2 * ENDS[-1] + 2)
    sum_along(light, x, y, angle, np.inf, sums)
    _, back, front = best_ends(sums, scatter_of_sums(width), EVERY_END)
    _fill_segment(x, y, angle, back, front, parameters)


@compiled
def scatter_of_sums(width):
    """Return the noise of the sum of 0, 1, 2 ... values of a map, at steps of one pixel along a line.

    Values at a distance d have a correlation of ``exp(-d**2 / (4 width**2))``.
    """
    found = np.empty(2 * ENDS[-1] + 2)
    found[0], variance, correlated = 1.0, 0.0, 0.0
    for n in range(1, len(found)):
        variance += 1 + 2 * correlated
        correlated += math.exp(-0.25 * (n / width) ** 2)
        found[n] = math.sqrt(variance)
    return found


@compiled
def sum_along(light, x, y, angle, most_light, sums):
    """Fill the sums of a map, no value of which counts more than `most_light`, along a line on both sides."""
    height, wide = light.shape
    cosine, sine, reach = math.cos(angle), math.sin(angle), len(sums) // 2 - 1
    sums[0] = 0.0
    for n in range(len(sums) - 1):
        i, j = math.floor(y + (n - reach) * sine + 0.5), math.floor(x + (n - reach) * cosine + 0.5)
        inside = (0 <= i < height) & (0 <= j < wide)
        sums[n + 1] = sums[n] + (min(light[int(i), int(j)], most_light) if inside else 0.0)


@compiled
def best_ends(sums, scatter, ends):
    """Return the best significance of the light between two ends, and their distances from the middle."""
    middle = len(sums) // 2 - 1
    best, best_back, best_front = -np.inf, 0, 0
    for back in ends:
        for front in ends:
            score = (sums[middle + front + 1] - sums[middle - back]) / scatter[front + back + 1]
            if score > best:
                best, best_back, best_front = score, back, front
    return best, best_back, best_front


@compiled
def _fill_segment(x, y, angle, back, front, parameters):
    along = 0.5 * (front - back)
    parameters[1], parameters[2] = x + along * math.cos(angle), y + along * math.sin(angle)
    parameters[4], parameters[5] = front + back, angle


@compiled
def lit_share(light, usable, line):
    """Return the lit share of the usable pixels on a line, given as x, y, dx, dy."""
    height, wide = light.shape
    lit = count = 0
    for n in range(2 * max(height, wide)):
        j, i = int(math.floor(line[0] + n * line[2] + 0.5)), int(math.floor(line[1] + n * line[3] + 0.5))
        if not (0 <= i < height and 0 <= j < wide) or usable[i, j] == 0:
            continue
        count += 1
        lit += light[i, j] > LIT
    return lit / count if count else 0.0


@compiled
def measure(light, light_valid, template, template_valid, science, science_valid, width, per_electron, found):
    """Measure one stamp: fill `MEASURES`. The template, and the science image, may have no valid pixels."""
    height, wide = light.shape
    room, weights = np.empty_like(light), np.empty_like(light)
    bright, background = np.empty_like(light), np.empty_like(light)
    matched_filter(light, light_valid, width, bright, room, weights)
    matched_filter(template, template_valid, width, background, room, weights)
    middle_x, middle_y = 0.5 * (wide - 1), 0.5 * (height - 1)
    snr, x, y = brightest(bright, middle_x, middle_y, PEAK_RADIUS)
    found[0], found[1] = snr, filtered_at(science, science_valid, width, x, y)
    found[2] = brightest(background, x, y, 1.5)[0]
    found[3] = brightest(background, x, y, 4 * width)[0]
    usable, clean = light_valid.copy(), light_valid.copy()
    hide(bright, background, light_valid, width, usable)
    found[COVERED] = _covered_near(light_valid, x, y, 5 * width)
    leave_out_stars(background, x, y, width, clean, bright)
    _measure_trail(light, clean, bright, x, y, width, per_electron, found[TRAIL:LINE])
    trail, ends = found[TRAIL + 6 : TRAIL + 12], found[TRAIL + 18 : TRAIL + 20]
    ends[0], ends[1] = _free_ends(trail, light_valid)
    found[COVERED + 1] = _lit_part(trail, background, template_valid)
    found[COVERED + 2] = sharpness(light, light_valid, x, y, PEAK_RADIUS, width)
    radius = width * (LEFT_OUT + WINGS * math.log(max(snr / WINGED, 1.0)))
    _hide_source(trail, ends[0] == 2, x, y, radius, usable)
    companion(light, light_valid, bright, usable, x, y, width, found[COMPANION:COVERED])
    _measure_lines(light, bright, usable, x, y, found[LINE:])


@compiled
def _lit_part(trail, template, valid):
    """Return the share of the axis of a trail where the template has light, of pixels with data."""
    height, wide = template.shape
    lit = count = 0
    half = int(0.5 * trail[4])
    for n in range(-half, half + 1):
        i = math.floor(trail[2] + n * math.sin(trail[5]) + 0.5)
        j = math.floor(trail[1] + n * math.cos(trail[5]) + 0.5)
        if 0 <= i < height and 0 <= j < wide and valid[int(i), int(j)] > 0:
            count += 1
            lit += template[int(i), int(j)] > SEEN
    return lit / count if count else 0.0


@compiled
def _covered_near(valid, x, y, radius):
    """Return the share of the pixels around a position that have data."""
    near = known = 0
    for i in range(max(int(y - radius), 0), min(int(y + radius) + 2, valid.shape[0])):
        for j in range(max(int(x - radius), 0), min(int(x + radius) + 2, valid.shape[1])):
            if (i - y) ** 2 + (j - x) ** 2 <= radius**2:
                near += 1
                known += valid[i, j] > 0
    return known / near


@compiled
def _measure_trail(light, valid, bright, x, y, width, per_electron, found):
    """Fill what the fits of a point and of a trail say of the source at a position."""
    parameters, covariance = np.empty(6), np.empty((6, 6))
    point, room = np.empty(6), np.empty((6, 6))
    flux = max(bright[y, x], 1.0) * 2 * math.sqrt(math.pi) * width
    guess_trail(bright, x, y, width, parameters)
    parameters[3], parameters[4] = width, max(parameters[4], 1.5 * width)
    parameters[0] = flux * (1 + parameters[4] / (4 * width))
    pixels = pixels_around(valid, parameters)
    found[2] = fit(light, pixels, 6, per_electron, width, parameters, covariance)
    if parameters[4] > LONG * width:  # its ends may lie beyond what the first guess saw of it
        other = parameters.copy()
        guess_ends(bright, width, other)
        other[0] *= (other[4] + 2 * width) / (parameters[4] + 2 * width)
        pixels = pixels_around(valid, other if other[4] > parameters[4] else parameters)
        found[2] = fit(light, pixels, 6, per_electron, width, parameters, covariance)
        chi2 = fit(light, pixels, 6, per_electron, width, other, room)
        if chi2 < found[2]:
            found[2] = chi2
            copy_into(parameters, other)
            copy_into(covariance, room)
    found[0], found[3] = 0.0, len(pixels)
    for n in range(len(pixels)):
        found[0] += light[pixels[n, 0], pixels[n, 1]] ** 2
    point[0], point[1], point[2], point[3], point[4:] = flux, x, y, width, 0.0
    found[1] = fit(light, pixels, POINT, per_electron, width, point, room)
    found[4], found[5] = point[0], point[3]
    point[4], point[5] = width, elongation(light, pixels, point)
    is_turned = parameters[4] < LONG * width and abs(math.sin(parameters[5] - point[5])) > TURNED
    if is_turned or found[2] > found[1]:  # the fit is in another minimum
        chi2 = fit(light, pixels, 6, per_electron, width, point, room)
        if chi2 < found[2]:
            found[2] = chi2
            copy_into(parameters, point)
            copy_into(covariance, room)
    parameters[5] %= math.pi
    copy_into(found[6:12], parameters)
    for k in range(6):
        found[12 + k] = math.sqrt(max(covariance[k, k], 0.0))
    found[20] = _light_beyond(parameters, bright, valid)


@compiled
def _light_beyond(trail, light, valid):
    """Return the lit share of the axis of a trail beyond its ends, the sum of both.

    Where there are too few pixels to tell, it is 0 if the end is in the stamp, else 1.
    """
    height, wide = light.shape
    total = 0.0
    for sign in (-1, 1):
        cosine, sine = sign * math.cos(trail[5]), sign * math.sin(trail[5])
        start = 0.5 * trail[4] + 2.5 * trail[3]
        lit = count = 0
        for n in range(height + wide):
            i = math.floor(trail[2] + (start + n) * sine + 0.5)
            j = math.floor(trail[1] + (start + n) * cosine + 0.5)
            if not (0 <= i < height and 0 <= j < wide):
                break
            if valid[int(i), int(j)] > 0:
                count += 1
                lit += light[int(i), int(j)] > LIT
        if count >= LEAST_BEYOND:
            total += lit / count
        elif not _is_inside(trail, sign, valid.shape):
            total += 1.0
    return total


@inlined
def _end(trail, sign):
    """Return x and y of an end of a trail."""
    half = sign * 0.5 * trail[4]
    return trail[1] + half * math.cos(trail[5]), trail[2] + half * math.sin(trail[5])


@inlined
def _is_inside(trail, sign, shape):
    """Return whether an end of a trail is so far inside of the stamp that it is seen."""
    x, y = _end(trail, sign)
    return min(x, y, shape[1] - 1 - x, shape[0] - 1 - y) > 2 * trail[3]


@compiled
def _free_ends(trail, valid):
    """Return how many ends of a trail are inside of the stamp, and how far its nearer end reaches out.

    The latter is its distance from the middle of the stamp, as a share of the way to the edge.
    """
    height, wide = valid.shape
    free, nearest = 0, np.inf
    for sign in (-1, 1):
        x, y = _end(trail, sign)
        free += _is_inside(trail, sign, valid.shape) and valid[int(y + 0.5), int(x + 0.5)] > 0
        reach = max(abs(2 * x / (wide - 1) - 1), abs(2 * y / (height - 1) - 1))
        nearest = min(nearest, reach)
    return free, nearest


@compiled
def _hide_source(trail, has_ends, x, y, radius, usable):
    """Set `usable` to 0 near the source at a position, and near its trail if that ends in the stamp.

    A trail without ends stays, as it is the line that is looked for.
    """
    height, wide = usable.shape
    cosine, sine = math.cos(trail[5]), math.sin(trail[5])
    for i in range(height):
        for j in range(wide):
            near = math.hypot(i - y, j - x) <= radius
            if has_ends and not near:
                dx, dy = j - trail[1], i - trail[2]
                beyond = max(abs(dx * cosine + dy * sine) - 0.5 * trail[4], 0.0)
                near = math.hypot(beyond, dy * cosine - dx * sine) <= radius
            if near:
                usable[i, j] = 0.0


@compiled
def _measure_lines(light, bright, usable, x, y, found):
    """Fill what is known of the best lines, anywhere and through the source at a position."""
    height, wide = light.shape
    signal = np.empty_like(light)
    for i in range(height):
        for j in range(wide):
            signal[i, j] = min(max(light[i, j], -CLIP), CLIP) * usable[i, j]
    lines = np.empty((2, 3, 5))
    best_lines(signal, usable, float(x), float(y), lines)
    for where in range(2):
        best = 0
        for k in range(1, 3):
            if lines[where, k, 0] > lines[where, best, 0]:
                best = k
        line, part = lines[where, best], found[7 * where : 7 * where + 7]
        part[0], part[1] = line[0], lines[where, 0, 0] / max(line[0], 1e-6)
        part[2] = lit_share(bright, usable, line[1:])
        copy_into(part[3:], line[1:])


@compiled
def measure_stamps(light, template, science, noise, widths, gain, found):
    """Measure n stamps of sky-subtracted images [DN], NaN where there is no data: fill `MEASURES`.

    Parameters
    ----------
    light, template, science : numpy.ndarray
        float32 (n, height, width).
    noise : numpy.ndarray
        Of a pixel [DN], (3, n).
    widths : numpy.ndarray
        Standard deviation of the profile of a point source [px], (n,).
    gain : float
        [e-/DN]
    found : numpy.ndarray
        Shape (n, len(MEASURES)).
    """
    n, height, width = light.shape
    signals = np.empty((3, height, width), dtype=np.float32)
    valid = np.empty_like(signals)
    for row in range(n):
        for k in range(3):
            images = light if k == 0 else template if k == 1 else science
            for i in range(height):
                for j in range(width):
                    value = images[row, i, j] / noise[k, row]
                    valid[k, i, j] = math.isfinite(value)
                    signals[k, i, j] = value if math.isfinite(value) else 0.0
        measure(
            signals[0],
            valid[0],
            signals[1],
            valid[1],
            signals[2],
            valid[2],
            widths[row],
            1 / (gain * noise[0, row]),
            found[row],
        )
