"""Neighbour search and posterior compiled by numba, for many predictions; imported when first needed.

Both do without the interpreter, so that threads share the work. numba keeps the machine code on disk.
"""

import numpy as np
from numba import njit

LANES = 4  # queries whose posterior is computed together, each as if alone: their matrices fit the L1 cache
FORMULA = {0.5: 0, 1.5: 1, 2.5: 2, np.inf: 3}
PART = 64  # points of a block, by whose number the size of blocks can be divided
NEAREST_FIRST = 8  # blocks that are visited in the order of their distance
compiled = njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")


@compiled
def search(blocks, rows, low, high, X, distances, indices):
    """Write the nearest points of a chunk, nearest first; see :class:`ztf_sg.neighbours.BlockIndex`.

    Parameters
    ----------
    blocks, rows, low, high : numpy.ndarray
        The attributes of the index.
    X : numpy.ndarray
        Queries, shape (m, n_features).
    distances, indices : numpy.ndarray
        Results, shape (m, count).
    """
    n_blocks, size = rows.shape
    count = distances.shape[1]
    bounds, squared = np.empty(n_blocks), np.empty(size)
    best, best_rows = np.empty(count), np.zeros(count, dtype=np.intp)
    for query in range(len(X)):
        bounds[:] = 0
        for feature in range(len(low)):
            x = X[query, feature]
            for block in range(n_blocks):
                below, above = low[feature, block] - x, x - high[feature, block]
                outside = below if below > above else above
                outside = outside if outside > 0 else 0.0
                bounds[block] += outside * outside
        best[:], bound = np.inf, np.inf
        for turn in range(NEAREST_FIRST + n_blocks):
            block = np.argmin(bounds) if turn < NEAREST_FIRST else turn - NEAREST_FIRST
            if bounds[block] >= bound:
                continue
            bounds[block] = np.inf
            squared[:] = 0
            for feature in range(len(low)):
                x = X[query, feature]
                for place in range(size):
                    difference = blocks[block, feature, place] - x
                    squared[place] += difference * difference
            for start in range(0, size, PART):
                nearer = 0  # counted first, which can be done for many at a time
                for place in range(start, start + PART):
                    nearer += squared[place] < bound
                if not nearer:
                    continue
                for place in range(start, start + PART):
                    if squared[place] < bound:
                        position = count - 1
                        while position > 0 and best[position - 1] > squared[place]:
                            best[position], best_rows[position] = best[position - 1], best_rows[position - 1]
                            position -= 1
                        best[position], best_rows[position] = squared[place], rows[block, place]
                        bound = best[count - 1]
        distances[query], indices[query] = np.sqrt(best), best_rows


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
        matrix[:] = 0
        for one in range(nn_count + 1):
            for other in range(one):
                place = one * (one + 1) // 2 + other
                for feature in range(n_features):
                    for lane in range(LANES):
                        difference = offsets[one, feature, lane] - offsets[other, feature, lane]
                        matrix[place, lane] += difference * difference
        _correlate(formula, factor, matrix[:target].reshape(-1))
        for lane in range(LANES):
            row = min(start + lane, len(X) - 1)
            for one in range(nn_count):
                matrix[one * (one + 3) // 2, lane] = 1 + noise
                matrix[target + one, lane] = targets[indices[row, one]]
        for one in range(nn_count + 2):
            above = one * (one + 1) // 2
            for other in range(min(one + 1, nn_count)):
                left = other * (other + 1) // 2
                for earlier in range(other):
                    for lane in range(LANES):
                        matrix[above + other, lane] -= (
                            matrix[above + earlier, lane] * matrix[left + earlier, lane]
                        )
                for lane in range(LANES):
                    if one == other:
                        matrix[above + other, lane] = 1 / np.sqrt(matrix[above + other, lane])
                    else:
                        matrix[above + other, lane] *= matrix[left + other, lane]
        for lane in range(min(LANES, len(X) - start)):
            covered, weighted = 0.0, 0.0
            for one in range(nn_count):
                covered += matrix[query + one, lane] ** 2
                weighted += matrix[query + one, lane] * matrix[target + one, lane]
            mean[start + lane], variance[start + lane] = weighted, max(1 - covered, 0.0)
