"""Neighbour search and posterior compiled by numba, for many predictions; imported when first needed.

Both do without the interpreter, so that threads share the work. numba keeps the machine code on disk.
"""

import numpy as np
from numba import float32, njit

from ztf_sg.vectors import count_bits, first_bit, larger, load, spread, square_root, store, up_to

LANES = 8  # queries whose posterior is computed together, each as if alone: their matrices fit the L1 cache
FORMULA = {0.5: 0, 1.5: 1, 2.5: 2, np.inf: 3}
WIDTH = 32  # points of a block, and blocks of a group
ROOM = 8 * WIDTH  # candidates that are collected beyond the wanted ones before the nearest are chosen
ROUNDING = 2.0**-23  # of single precision
LOWEST_BIT = np.uint64(1)
compiled = njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")


@compiled
def search(blocks, block_sides, group_sides, points, rows, unit, X, distances, indices):
    """Write the nearest points of a chunk, nearest first; see :class:`ztf_sg.neighbours.BlockIndex`.

    The distances to a few near blocks, in single precision, give a limit that the wanted points do not
    exceed. Candidates are the points within the limit, which no block beyond it can hold. Their distances
    are computed anew in double precision.

    Parameters
    ----------
    blocks, block_sides, group_sides, points, rows, unit
        The attributes of the index.
    X : numpy.ndarray
        Queries, shape (m, n_features).
    distances, indices : numpy.ndarray
        Results, shape (m, count).
    """
    n_features, count = X.shape[1], distances.shape[1]
    near_blocks = 16 + 2 * count // WIDTH
    near_groups = 1 + near_blocks // 16
    group_bounds = np.empty(len(group_sides) * WIDTH, dtype=np.float32)
    groups = np.empty(4 * near_groups, dtype=np.intp)
    bounds = np.empty(len(groups) * WIDTH, dtype=np.float32)
    squared = np.empty(2 * near_blocks * WIDTH, dtype=np.float32)
    x, q = np.empty(n_features, dtype=np.float32), np.empty(n_features)
    candidates = np.empty(count + ROOM + WIDTH, dtype=np.intp)
    exact, order = np.empty(len(candidates) + WIDTH), np.empty(len(candidates), dtype=np.intp)
    group_guess = block_guess = guess = float32(1)
    for query in range(len(X)):
        largest = 0.0
        for feature in range(n_features):
            q[feature] = X[query, feature]
            x[feature] = q[feature] / unit
            largest = max(largest, abs(x[feature]))
        slack = 2 * np.sqrt(n_features) * ROUNDING * (1 + largest)
        for part in range(len(group_sides)):
            store(_outside(group_sides, part, x), group_bounds, part * WIDTH)

        group_guess = _threshold(group_bounds, len(group_bounds), near_groups, group_guess)
        n_groups = 0
        for start in range(0, len(group_bounds), WIDTH):
            bits = up_to(load(group_bounds, start, WIDTH), group_guess)
            while bits and n_groups < len(groups):
                groups[n_groups] = start + first_bit(bits)
                bits &= bits - LOWEST_BIT
                store(_outside(block_sides, groups[n_groups], x), bounds, n_groups * WIDTH)
                n_groups += 1
        block_guess = _threshold(bounds, n_groups * WIDTH, near_blocks, block_guess)
        n_squared = 0
        for turn in range(n_groups):
            bits = up_to(load(bounds, turn * WIDTH, WIDTH), block_guess)
            while bits and n_squared < len(squared):
                block = groups[turn] * WIDTH + first_bit(bits)
                bits &= bits - LOWEST_BIT
                store(_squared(blocks, block, x), squared, n_squared)
                n_squared += WIDTH
        guess = _threshold(squared, n_squared, count, guess)
        limit = _widened(guess, slack, n_features)

        n = 0
        for start in range(0, len(group_bounds), WIDTH):
            group_bits = up_to(load(group_bounds, start, WIDTH), limit)
            while group_bits:
                group = start + first_bit(group_bits)
                group_bits &= group_bits - LOWEST_BIT
                bits = up_to(_outside(block_sides, group, x), limit)
                while bits:
                    block = group * WIDTH + first_bit(bits)
                    bits &= bits - LOWEST_BIT
                    inside = up_to(_squared(blocks, block, x), limit)
                    while inside:
                        candidates[n] = block * WIDTH + first_bit(inside)
                        inside &= inside - LOWEST_BIT
                        n += 1
                    if n > count + ROOM:
                        _sort(candidates, n, points, q, exact, order)
                        n = count
                        limit = min(limit, _widened(exact[order[count - 1]] / unit**2, slack, n_features))
                        for place in range(count):
                            order[place] = candidates[order[place]]
                        candidates[:count] = order[:count]
        _sort(candidates, n, points, q, exact, order)
        for place in range(min(n, count)):
            distances[query, place] = np.sqrt(exact[order[place]])
            indices[query, place] = rows[candidates[order[place]]]


@compiled
def _outside(sides, part, x):
    """Return the squared distances, in units of the index, of a query to the boxes of a part, NaN if none."""
    low = part * 2 * len(x) * WIDTH
    high = low + len(x) * WIDTH
    zero = spread(float32(0), WIDTH)
    squared = zero
    for feature in range(len(x)):
        at = spread(x[feature], WIDTH)
        outside = larger(load(sides, low, WIDTH) - at, at - load(sides, high, WIDTH))
        outside = larger(zero, outside)
        squared = squared + outside * outside
        low, high = low + WIDTH, high + WIDTH
    return squared


@compiled
def _squared(blocks, block, x):
    """Return the squared distances, in units of the index, of a query to the points of a block."""
    place = block * len(x) * WIDTH
    squared = spread(float32(0), WIDTH)
    for feature in range(len(x)):
        offset = load(blocks, place, WIDTH) - spread(x[feature], WIDTH)
        squared = squared + offset * offset
        place += WIDTH
    return squared


@compiled
def _threshold(values, n, count, guess):
    """Return a limit within which at least `count` of n values are, and not many more if possible."""
    low, high = float32(0), float32(np.inf)
    middle = guess if 0 < guess < np.inf else float32(1)
    for _ in range(40):
        within = 0
        for start in range(0, n, WIDTH):
            within += count_bits(up_to(load(values, start, WIDTH), middle))
        if within < count:
            low = middle
        else:
            high = middle
            if within <= count + count // 4 + 1:
                break
        middle = low + low if high == np.inf else (low + high) / float32(2)
    return high


@compiled
def _widened(squared, slack, n_features):
    """Return a limit for squared distances in single precision that covers their rounding errors."""
    return float32((np.sqrt(squared) + slack) ** 2 * (1 + (n_features + 16) * 4 * ROUNDING))


@compiled
def _sort(candidates, n, points, q, exact, order):
    """Write the squared distances of candidates, and the order from the nearest to the farthest."""
    for one in range(n):
        exact[one] = 0
        for feature in range(len(q)):
            offset = points[candidates[one], feature] - q[feature]
            exact[one] += offset * offset
        order[one] = -1
    exact[n : n + WIDTH] = np.nan  # not within any limit
    for one in range(n):
        place = -1
        for start in range(0, n, WIDTH):
            place += count_bits(up_to(load(exact, start, WIDTH), exact[one]))
        while order[place] >= 0:  # as far as another
            place -= 1
        order[place] = one


@compiled
def _correlate(formula, factor, squared):
    """Replace squared distances, times a factor, by the correlations of :func:`ztf_sg.prediction.matern`.

    The exponential is the 1024th power of its series, good to 1e-12, for that can be done to many numbers
    at a time; beyond exp(-700) it stays there.
    """
    for place in range(len(squared)):
        s = squared[place] * factor
        x = s if formula == 3 else np.sqrt(s)
        y = min(x, 700.0) / 1024
        series = 1 / 40320  # to the eighth power
        series = series * y - 1 / 5040
        series = series * y + 1 / 720
        series = series * y - 1 / 120
        series = series * y + 1 / 24
        series = series * y - 1 / 6
        series = series * y + 1 / 2
        series = series * y - 1
        series = series * y + 1
        for _ in range(10):
            series *= series
        if formula == 1:
            series *= 1 + x
        elif formula == 2:
            series *= 1 + x + s / 3
        squared[place] = series


@compiled
def posterior(X, points, targets, indices, formula, factor, noise, mean, variance):
    """Write posterior mean and variance of a chunk; see :func:`ztf_sg.prediction.posterior`.

    Parameters
    ----------
    X, points, targets, indices, noise
        See there.
    formula : int
        Of `FORMULA`.
    factor : float
        Of squared distances in the formula.
    mean, variance : numpy.ndarray
        Results, shape (m,).
    """
    nn_count, n_features = indices.shape[1], X.shape[1]
    offsets = np.zeros((nn_count + 1, n_features, LANES))  # the last one is the query, the origin
    matrix = np.empty(((nn_count + 2) * (nn_count + 3) // 2, LANES))  # lower triangle, row by row
    query, target = (nn_count * (nn_count + 1)) // 2, ((nn_count + 1) * (nn_count + 2)) // 2
    for start in range(0, len(X), LANES):
        for lane in range(LANES):
            row = min(start + lane, len(X) - 1)
            for one in range(nn_count):
                index = indices[row, one]
                for feature in range(n_features):
                    offsets[one, feature, lane] = points[index, feature] - X[row, feature]
        for one in range(nn_count + 1):
            for other in range(one):
                place = (one * (one + 1) // 2 + other) * LANES
                store(_between(offsets, one, other, n_features), matrix, place)
        _correlate(formula, factor, matrix[:target].reshape(-1))
        for lane in range(LANES):
            row = min(start + lane, len(X) - 1)
            for one in range(nn_count):
                matrix[target + one, lane] = targets[indices[row, one]]
        for one in range(nn_count + 2):
            above = one * (one + 1) // 2 * LANES
            for other in range(min(one, nn_count)):
                left, place = other * (other + 1) // 2 * LANES, above + other * LANES
                value = load(matrix, place, LANES) - _product(matrix, above, left, other)
                store(value * load(matrix, left + other * LANES, LANES), matrix, place)
            if one < nn_count:  # the inverse of the diagonal
                value = spread(1 + noise, LANES) - _product(matrix, above, above, one)
                store(spread(1.0, LANES) / square_root(value), matrix, above + one * LANES)
        for lane in range(min(LANES, len(X) - start)):
            covered, weighted = 0.0, 0.0
            for one in range(nn_count):
                covered += matrix[query + one, lane] ** 2
                weighted += matrix[query + one, lane] * matrix[target + one, lane]
            mean[start + lane], variance[start + lane] = weighted, max(1 - covered, 0.0)


@compiled
def _between(offsets, one, other, n_features):
    """Return the squared distances of two neighbours, in all lanes."""
    left, right = one * n_features * LANES, other * n_features * LANES
    squared = spread(0.0, LANES)
    for _ in range(n_features):
        difference = load(offsets, left, LANES) - load(offsets, right, LANES)
        squared = squared + difference * difference
        left, right = left + LANES, right + LANES
    return squared


@compiled
def _product(matrix, left, right, count):
    """Return the sums of products of `count` numbers from two places on, in all lanes."""
    total = spread(0.0, LANES)
    for place in range(0, count * LANES, LANES):
        total = total + load(matrix, left + place, LANES) * load(matrix, right + place, LANES)
    return total
