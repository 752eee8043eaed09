"""Neighbour search and posterior compiled by numba, for many predictions; imported when first needed.

Both do without the interpreter, so that threads share the work. numba keeps the machine code on disk for as
long as this file stays the same; `VECTORS` tells it of changes in :mod:`ztf_sg.muygps.vectors`.
"""

import numpy as np
from numba import float32, njit

from ztf_sg.muygps.vectors import (
    count_bits,
    first_bit,
    larger,
    load,
    spread,
    square_root,
    store,
    total,
    up_to,
)

VECTORS = "2a56fd1a4553ab3c"  # the start of the file's SHA-256
LANES = 8  # queries whose posterior is computed together, each as if alone
FORMULA = {0.5: 0, 1.5: 1, 2.5: 2, np.inf: 3}
WIDTH = 32  # points of a block, and blocks of a group
ROOM = 8 * WIDTH  # candidates that are collected beyond the wanted ones before the nearest are chosen
ROUNDING, UNDERFLOW = 2.0**-23, 1e-35  # of single precision, relative and of squares, with a margin
LEAST_GUESS = 1e-9  # of a limit, from which it is found in few steps
LOWEST_BIT = np.uint64(1)
OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
compiled, inlined = njit(**OPTIONS), njit(**OPTIONS, forceinline=True)


@compiled
def search(blocks, block_sides, group_sides, points, rows, unit, x, X, distances, indices):
    """Write the nearest points of a chunk, nearest first; see :class:`ztf_sg.muygps.neighbours.BlockIndex`.

    The distances to a few near blocks, in single precision, give a limit that the wanted points do not
    exceed. Candidates are the points within the limit, which no block beyond it can hold. Their distances
    are computed anew in double precision.

    Parameters
    ----------
    blocks, block_sides, group_sides, points, rows, unit
        The attributes of the index.
    x : numpy.ndarray
        Queries along the axes of the index, in its unit and in single precision, shape (m, n_features).
    X : numpy.ndarray
        Queries, shape (m, n_features).
    distances, indices : numpy.ndarray
        Results, shape (m, count). Places for which there are no points stay as they are.
    """
    m, n_features = X.shape
    count, n_groups = distances.shape[1], len(block_sides)
    bounds = np.empty((m, len(group_sides) * WIDTH), dtype=np.float32)  # of squared distances to groups
    limits, largest = np.empty(m, dtype=np.float32), np.empty(m)
    for query in range(m):
        largest[query] = np.abs(x[query]).max()
        for part in range(len(group_sides)):
            store(_outside(group_sides, part, x, query), bounds, query * bounds.shape[1] + part * WIDTH)
    _limit(blocks, block_sides, x, bounds, count, limits)
    for query in range(m):
        limits[query] = _widened(limits[query], largest[query], n_features)

    candidates, found = np.empty((m, count + ROOM + WIDTH), dtype=np.intp), np.zeros(m, dtype=np.intp)
    exact = np.empty(candidates.shape[1])
    for group in range(n_groups):  # whose points the processor keeps at hand
        for query in range(m):
            if not bounds[query, group] <= limits[query]:
                continue
            bits, n = up_to(_outside(block_sides, group, x, query), limits[query]), found[query]
            while bits:
                block = group * WIDTH + first_bit(bits)
                bits &= bits - LOWEST_BIT
                inside = up_to(_squared(blocks, block, x, query), limits[query])
                while inside:
                    candidates[query, n] = block * WIDTH + first_bit(inside)
                    inside &= inside - LOWEST_BIT
                    n += 1
                if n > count + ROOM:
                    _sort(candidates[query], exact, n, points, X[query])
                    n = count
                    limit = _widened(exact[count - 1] / unit**2, largest[query], n_features)
                    limits[query] = min(limits[query], limit)
            found[query] = n
    for query in range(m):
        n = min(found[query], count)
        _sort(candidates[query], exact, found[query], points, X[query])
        for place in range(n):
            distances[query, place] = np.sqrt(exact[place])
            indices[query, place] = rows[candidates[query, place]]


@compiled
def _limit(blocks, block_sides, x, bounds, count, limits):
    """Write limits for squared distances within which `count` points are, from those of a few near blocks."""
    near_blocks = 16 + 2 * count // WIDTH
    near_groups = 1 + near_blocks // 16
    groups = np.empty(4 * near_groups, dtype=np.intp)
    block_bounds = np.empty(len(groups) * WIDTH, dtype=np.float32)
    squared = np.empty(2 * near_blocks * WIDTH, dtype=np.float32)
    group_limit = block_limit = limit = float32(1)
    for query in range(len(x)):
        group_limit = _threshold(bounds[query], bounds.shape[1], near_groups, 1, group_limit)
        n = 0
        for start in range(0, bounds.shape[1], WIDTH):
            bits = up_to(load(bounds, query * bounds.shape[1] + start, WIDTH), group_limit)
            while bits and n < len(groups):
                groups[n] = start + first_bit(bits)
                bits &= bits - LOWEST_BIT
                store(_outside(block_sides, groups[n], x, query), block_bounds, n * WIDTH)
                n += 1
        block_limit = _threshold(block_bounds, n * WIDTH, near_blocks, 4, block_limit)
        n_squared = 0
        for start in range(0, n * WIDTH, WIDTH):
            bits = up_to(load(block_bounds, start, WIDTH), block_limit)
            while bits and n_squared < len(squared):
                block = groups[start // WIDTH] * WIDTH + first_bit(bits)
                bits &= bits - LOWEST_BIT
                store(_squared(blocks, block, x, query), squared, n_squared)
                n_squared += WIDTH
        limits[query] = limit = _threshold(squared, n_squared, count, 8, limit)


@compiled
def select(bounds, points, unit, X, distances, indices):
    """Write the nearest points of a chunk, nearest first; see :class:`ztf_sg.muygps.neighbours.MatrixIndex`.

    Parameters
    ----------
    bounds : numpy.ndarray
        In single precision, not above the squared distances in units of the index; shape (m, n), filled up
        to a multiple of `WIDTH` with infinity.
    points, unit
        The attributes of the index.
    X : numpy.ndarray
        Queries, shape (m, n_features).
    distances, indices : numpy.ndarray
        Results, shape (m, count). Rows stay as they are where fewer than `count` bounds are finite.
    """
    count = distances.shape[1]
    candidates = np.empty(count + ROOM + WIDTH, dtype=np.intp)
    exact = np.empty(len(candidates))
    guess, q = float32(1), np.empty(X.shape[1])
    for query in range(len(X)):
        values, q[:] = bounds[query], X[query]
        guess = _threshold(values, len(values), count, count, guess)
        limit, sure = guess, False
        while limit < np.inf and not sure:
            n, last = 0, limit
            for start in range(0, len(values), WIDTH):
                bits = up_to(load(values, start, WIDTH), limit)
                while bits:
                    candidates[n] = start + first_bit(bits)
                    bits &= bits - LOWEST_BIT
                    n += 1
                if n > count + ROOM:
                    _sort(candidates, exact, n, points, q)
                    n = count
            _sort(candidates, exact, n, points, q)
            limit = float32(exact[count - 1] / unit**2 * (1 + 2 * ROUNDING))
            sure = limit <= last
        if sure:
            distances[query], indices[query] = np.sqrt(exact[:count]), candidates[:count]


@inlined
def _outside(sides, part, x, query):
    """Return the squared distances, in units of the index, of a query to the boxes of a part, NaN if none."""
    low = part * 2 * x.shape[1] * WIDTH
    high = low + x.shape[1] * WIDTH
    zero = spread(float32(0), WIDTH)
    squared = zero
    for feature in range(x.shape[1]):
        at = spread(x[query, feature], WIDTH)
        outside = larger(load(sides, low, WIDTH) - at, at - load(sides, high, WIDTH))
        outside = larger(zero, outside)
        squared = squared + outside * outside
        low, high = low + WIDTH, high + WIDTH
    return squared


@inlined
def _squared(blocks, block, x, query):
    """Return the squared distances, in units of the index, of a query to the points of a block."""
    place = block * x.shape[1] * WIDTH
    squared = spread(float32(0), WIDTH)
    for feature in range(x.shape[1]):
        offset = spread(x[query, feature], WIDTH) - load(blocks, place, WIDTH)
        squared = squared + offset * offset
        place += WIDTH
    return squared


@compiled
def _threshold(values, n, count, spare, guess):
    """Return a limit within which at least `count` of n values are, and at most `spare` more if possible."""
    low, high = float32(0), float32(np.inf)
    middle = guess if LEAST_GUESS < guess < np.inf else float32(1)
    for _ in range(40):
        within = 0
        for start in range(0, n, WIDTH):
            within += count_bits(up_to(load(values, start, WIDTH), middle))
        if within < count:
            low = middle
        else:
            high = middle
            if within <= count + spare:
                break
        middle = low + low if high == np.inf else (low + high) / float32(2)
    return high


@compiled
def _widened(squared, largest, n_features):
    """Return a limit for squared distances in single precision that covers their rounding errors.

    Of a query whose largest number is given. The numbers of points within the limit are not larger by more
    than the distance; two of them, and their difference, are rounded for each feature.
    """
    distance = np.sqrt(np.float64(squared))
    slack = 2 * np.sqrt(n_features) * ROUNDING * (2 * largest + distance)
    return float32((distance + slack) ** 2 * (1 + (n_features + 16) * 4 * ROUNDING) + UNDERFLOW)


@compiled
def _sort(candidates, squared, n, points, q):
    """Sort n candidates by their squared distances, which it writes; equally far ones keep their order."""
    n_features = len(q)
    found, exact = np.full(n, -1, dtype=np.intp), np.empty(n + WIDTH)
    exact[n:] = np.nan  # not within any limit
    for one in range(n):
        place, squares, rest = candidates[one] * n_features, spread(0.0, LANES), 0.0
        for feature in range(0, n_features - LANES + 1, LANES):
            offset = load(points, place + feature, LANES) - load(q, feature, LANES)
            squares = squares + offset * offset
        for feature in range(n_features // LANES * LANES, n_features):
            rest += (points[candidates[one], feature] - q[feature]) ** 2
        exact[one] = total(squares) + rest
    for one in range(n - 1, -1, -1):
        place = -1
        for start in range(0, n, WIDTH):
            place += count_bits(up_to(load(exact, start, WIDTH), exact[one]))
        while found[place] >= 0:  # as far as another one, which came after
            place -= 1
        found[place], squared[place] = candidates[one], exact[one]
    candidates[:n] = found


@compiled
def _correlate(formula, factor, squared):
    """Replace squared distances, times a factor, by Matern correlations; see `posterior.matern`.

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
    """Write posterior mean and variance of a chunk; see :func:`ztf_sg.muygps.posterior.posterior`.

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


@inlined
def _between(offsets, one, other, n_features):
    """Return the squared distances of two neighbours, in all lanes."""
    left, right = one * n_features * LANES, other * n_features * LANES
    squared = spread(0.0, LANES)
    for _ in range(n_features):
        difference = load(offsets, left, LANES) - load(offsets, right, LANES)
        squared = squared + difference * difference
        left, right = left + LANES, right + LANES
    return squared


@inlined
def _product(matrix, left, right, count):
    """Return the sums of products of `count` numbers from two places on, in all lanes."""
    products = spread(0.0, LANES)
    for place in range(0, count * LANES, LANES):
        products = products + load(matrix, left + place, LANES) * load(matrix, right + place, LANES)
    return products
