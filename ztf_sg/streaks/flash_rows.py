"""Rows of flashes: points on a straight line at equal steps, some of them missing."""

import numpy as np
from scipy.spatial import cKDTree

FEWEST = 7  # points of a row: so many stars do not line up at equal steps by chance
MOST_MISSED = 2  # points in turn that may be missing
LONGEST_ROW = 400  # steps


def find_rows(points, shortest, longest, tolerance):
    """Return the rows of points at equal steps, those of the most points first.

    Each pair of neighbours is followed beyond its second point for as long as there is a point where the next
    one is expected; the step is made more exact by each.

    Parameters
    ----------
    points : numpy.ndarray (n, 2)
        x and y [px].
    shortest, longest : float
        Range of the steps [px].
    tolerance : float
        How far a point may be from where it is expected [px].

    Returns
    -------
    ends : numpy.ndarray (m, 4)
        x1, y1, x2, y2 [px] of the first and the last point.
    steps : numpy.ndarray (m,)
        Distance from one point to the next [px].
    """
    if len(points) < FEWEST:
        return np.empty((0, 4)), np.empty(0)
    tree = cKDTree(points)
    pairs = tree.query_pairs(longest, output_type="ndarray")
    far = np.hypot(*(points[pairs[:, 1]] - points[pairs[:, 0]]).T) >= shortest
    pairs = np.concatenate([pairs[far], pairs[far][:, ::-1]])
    first, last = points[pairs[:, 0]], points[pairs[:, 1]]
    steps, counts, taken = last - first, np.full(len(pairs), 2), np.ones(len(pairs))
    alive, ahead = np.arange(len(pairs)), np.ones(len(pairs))
    for _ in range(LONGEST_ROW):
        if not len(alive):
            break
        expected = last[alive] + ahead[alive, None] * steps[alive]
        distance, nearest = tree.query(expected, distance_upper_bound=tolerance)
        hit = np.isfinite(distance)
        rows = alive[hit]
        taken[rows] += ahead[rows]
        last[rows], counts[rows] = points[nearest[hit]], counts[rows] + 1
        steps[rows] = (last[rows] - first[rows]) / taken[rows, None]
        ahead[rows] = 1
        ahead[alive[~hit]] += 1
        alive = alive[ahead[alive] <= 1 + MOST_MISSED]
    order = np.flatnonzero(counts >= FEWEST)
    order = order[np.argsort(-counts[order], kind="stable")]
    return np.concatenate([first, last], axis=1)[order], np.hypot(*steps[order].T)
