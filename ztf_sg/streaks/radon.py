"""Straight lines across stamps: the fast discrete Radon transform, compiled by numba.

All lines through an image are summed at once, by halves of halves of it (Goetz & Druckmueller 1996, Pattern
Recognition 29, 711; Nir, Zackay & Ofek 2018, AJ 156, 229): N^2 log N additions for N x N pixels.
"""

import math

import numpy as np

from ztf_sg.compilation import compiled, copy_into, inlined

LINE_WIDTHS = (1, 3, 5)  # pixels side by side that are summed as one line
LEAST_SHARE = 0.35  # of the side of the stamp that must be in the line, for its pixels to be counted
CENTRE_REACH = 2.0  # a line that passes the centre so near goes through it [px]
SHIFT_STEP = 2  # between directions, as columns in the last row [px]
QUADRANTS = 4  # of directions: along rows or columns, to the left or to the right


@compiled
def radon_quadrant(square, sums, room):
    """Sum a square image along all lines that go from its first row to the last one, and to the right.

    Parameters
    ----------
    square : numpy.ndarray
        Shape (side, side), side a power of two.
    sums, room : numpy.ndarray
        Filled, shape (side, 2 side): ``sums[shift, side + start]`` is the sum along the line from column
        `start`, which may be negative, in the first row to column ``start + shift`` in the last one.
    """
    side = square.shape[0]
    room[:, :side], sums[:, :side] = 0.0, 0.0
    copy_into(room[:, side:], square)
    source, target, block = room, sums, 1
    while block < side:
        for first in range(0, side, 2 * block):
            for shift in range(2 * block):
                top, bottom = first + shift // 2, first + block + shift // 2
                step = (shift + 1) // 2
                # lines that start further left have not reached the square after so many rows
                left = side - 2 * block
                _add(source[top, left:], source[bottom, left + step :], target[first + shift, left:])
        source, target = target, source
        block *= 2
    if source is not sums:
        copy_into(sums, source)


@compiled
def _add(one, other, total):
    """Fill the sum of two rows, the other of which may be shorter, as if it went on with zeros."""
    for n in range(len(other)):
        total[n] = one[n] + other[n]
    for n in range(len(other), len(one)):
        total[n] = one[n]


@compiled
def turned(image, quadrant, square):
    """Fill a square with an image (height, width) as a quadrant of directions sees it, zeros around it."""
    height, width = image.shape
    square[:] = 0.0
    for i in range(height):
        for j in range(width):
            column = j if quadrant % 2 == 0 else width - 1 - j
            if quadrant < 2:
                square[i, column] = image[i, j]
            else:
                square[column, i] = image[i, j]


@compiled
def line_ends(quadrant, shift, start, height, width):
    """Return x and y where a line crosses the first row of the square and the next ones, and the steps.

    Returns
    -------
    x, y, dx, dy : float
        The line is (x + t dx, y + t dy) for t from 0 to the side of the square less 1 [px].
    """
    side = 1
    while side < max(height, width):
        side *= 2
    slope = shift / (side - 1)
    if quadrant == 0:
        return float(start), 0.0, slope, 1.0
    if quadrant == 1:
        return width - 1.0 - start, 0.0, -slope, 1.0
    if quadrant == 2:
        return 0.0, float(start), 1.0, slope
    return width - 1.0, float(start), -1.0, slope


@compiled
def best_lines(signal, valid, middle_x, middle_y, found):
    """Find the line of highest signal-to-noise ratio of each width, anywhere and through the centre.

    Parameters
    ----------
    signal : numpy.ndarray
        Pixels in units of their noise, 0 where there are none, float32 (height, width).
    valid : numpy.ndarray
        1 where there are pixels, else 0, float32 (height, width).
    middle_x, middle_y : float
        Position of the centre [px].
    found : numpy.ndarray
        Filled, shape (2, 3, 5): anywhere or through the centre, by width; the ratio, and x, y, dx, dy as
        `line_ends` returns them. The ratio is 0 where no line has pixels enough.
    """
    height, width = signal.shape
    side = 1
    while side < max(height, width):
        side *= 2
    square = np.empty((side, side), dtype=np.float32)
    room = np.empty((side, 2 * side), dtype=np.float32)
    sums, counts, ratios = np.empty_like(room), np.empty_like(room), np.empty(2 * side, dtype=np.float32)
    least = np.float32(LEAST_SHARE * min(height, width))
    found[:] = 0.0
    for quadrant in range(QUADRANTS):
        turned(signal, quadrant, square)
        radon_quadrant(square, sums, room)
        turned(valid, quadrant, square)
        radon_quadrant(square, counts, room)
        if quadrant < 2:
            row = middle_y
            column = middle_x if quadrant == 0 else width - 1 - middle_x
        else:
            row = middle_x if quadrant == 2 else width - 1 - middle_x
            column = middle_y
        for shift in range(0, side, SHIFT_STEP):
            slope = shift / (side - 1.0)
            central = side + column - slope * row
            reach = CENTRE_REACH * np.sqrt(1 + slope**2)
            for k in range(len(LINE_WIDTHS)):
                half = LINE_WIDTHS[k] // 2
                left, right = side - shift, 2 * side - LINE_WIDTHS[k] + 1
                _ratios(sums[shift, left:], counts[shift, left:], LINE_WIDTHS[k], least, ratios[left:])
                best, place = _greatest(ratios[left:right])
                if best > found[0, k, 0]:
                    ends = line_ends(quadrant, shift, left + place + half - side, height, width)
                    _fill(found[0, k], best, ends)
                left = max(left, int(np.ceil(central - reach)) - half)
                right = min(right, int(np.floor(central + reach)) - half + 1)
                best, place = _greatest(ratios[left : max(left, right)])
                if best > found[1, k, 0]:
                    ends = line_ends(quadrant, shift, left + place + half - side, height, width)
                    _fill(found[1, k], best, ends)
    for where in range(2):
        for k in range(len(LINE_WIDTHS)):
            found[where, k, 0] = math.sqrt(found[where, k, 0])


@inlined
def _fill(line, best, ends):
    """Fill a line with its squared signal-to-noise ratio and what `line_ends` returns."""
    line[0], line[1], line[2], line[3], line[4] = best, ends[0], ends[1], ends[2], ends[3]


@compiled
def _ratios(sums, counts, wide, least, ratios):
    """Fill the squared signal-to-noise ratio of lines `wide` px wide by their first column, or 0."""
    for start in range(len(sums) - wide + 1):
        total, count = sums[start], counts[start]
        for k in range(1, wide):
            total += sums[start + k]
            count += counts[start + k]
        total = max(total, np.float32(0))
        ratios[start] = total * total / count if count >= least * wide else np.float32(0)


@compiled
def _greatest(values):
    """Return the greatest of some positive numbers and its index; 0 if there are none."""
    best, place = np.float32(0), 0
    for n in range(len(values)):
        if values[n] > best:
            best, place = values[n], n
    return best, place
