"""Nearest training points of every query, exactly: by boxes of points, or by matrix products.

Both indices answer ``query(X, count)`` with distances [units of X] and row numbers, nearest first, shape
(m, count) each. The answer to a query does not depend on the other queries, and threads may ask at the same
time.
"""

import numpy as np
from scipy.spatial.distance import cdist

from ztf_sg.muygps.compiled import WIDTH, search, select
from ztf_sg.parallel import slices

FEW_FEATURES = 32  # with more, nearly every box can hold a neighbour
MATRIX_BYTES = 12 * 2**20  # memory of distances, for 16 to 128 queries


def neighbour_index(points):
    """Return the index that is fast for points of that many features.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features), near the origin; any units.

    Returns
    -------
    BlockIndex or MatrixIndex
    """
    return (BlockIndex if points.shape[1] <= FEW_FEATURES else MatrixIndex)(points)


class MatrixIndex:
    r"""Exact neighbours by matrix products in single precision, corrected in double precision.

    With a bound :math:`\delta` of the rounding errors, :math:`(1 - \delta)(|p|^2 + |q|^2) - 2 pq` in single
    precision is not above the squared distance of p and q. The candidates are the points where it is
    least; their distances are computed from differences. If another point could be nearer than the farthest
    neighbour, more points are compared by differences.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features).
    """

    def __init__(self, points):
        n, n_features = points.shape
        self.points = np.ascontiguousarray(points)
        self.unit = float(np.abs(points).max() * np.sqrt(n_features)) or 1.0
        # n_features + 2 products are summed, and numbers are rounded to single precision beforehand
        self.rounding = 2 * (n_features + 9) * np.finfo(np.float32).eps / 2
        scaled = points / self.unit
        self.columns = np.zeros((n_features + 2, n + -n % WIDTH), dtype=np.float32)
        self.columns[:-2, :n] = scaled.T
        self.columns[-2], self.columns[-1] = np.inf, 1
        self.columns[-2, :n] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)

    def query(self, X, count):
        """Return distances and rows of the `count` nearest points; see the module."""
        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        for rows in slices(len(X), min(128, max(16, MATRIX_BYTES // (4 * self.columns.shape[1])))):
            select(self._bounds(X[rows]), self.points, self.unit, X[rows], distances[rows], indices[rows])
        for row in np.flatnonzero(np.isinf(distances[:, -1])):  # beyond single precision
            everyone = cdist(X[[row]], self.points)[0]
            indices[row] = np.argsort(everyone, kind="stable")[:count]
            distances[row] = everyone[indices[row]]
        return distances, indices

    def _bounds(self, X):
        """Return numbers not above the squared distances in units of the index, shape (m, n + padding)."""
        scaled = X / self.unit
        rows = np.ones((len(X), len(self.columns)), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            rows[:, :-2] = -2 * scaled
            rows[:, -1] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)
            return rows @ self.columns


class BlockIndex:
    """Exact neighbours by looking only at the blocks of points that can hold any.

    Blocks are boxes along the principal axes of the points, which makes them small.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features).

    Attributes
    ----------
    axes : numpy.ndarray
        Orthonormal columns, shape (n_features, n_features).
    points : numpy.ndarray
        Points, halved again and again at the median of their longest side, in groups of `WIDTH` blocks of
        `WIDTH` points, filled up with NaN; shape (n_groups * `WIDTH`**2, n_features).
    rows : numpy.ndarray
        The rows that they had, shape (n_groups * `WIDTH`**2,).
    unit : float
        Unit of the numbers in single precision.
    blocks : numpy.ndarray
        Points along the axes, in single precision; shape (n_groups * `WIDTH`, n_features, `WIDTH`).
    block_sides, group_sides : numpy.ndarray
        Lower and upper sides of the blocks of each group, shape (n_groups, 2, n_features, `WIDTH`), and of
        the groups, `WIDTH` of them together.
    """

    def __init__(self, points):
        self.axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))[1][:, ::-1]
        turned = points @ self.axes
        groups = list(_halved(turned, np.arange(len(points)), WIDTH**2))
        n, n_features = len(groups), points.shape[1]
        self.unit = float(np.abs(turned).max()) or 1.0
        self.rows = np.zeros((n, WIDTH, WIDTH), dtype=np.intp)
        self.points = np.full((n, WIDTH, WIDTH, n_features), np.nan)
        blocks = np.full((n, WIDTH, n_features, WIDTH), np.nan, dtype=np.float32)
        for group, inside in enumerate(groups):
            for block, rows in enumerate(_halved(turned, inside, WIDTH)):
                self.rows[group, block, : len(rows)] = rows
                self.points[group, block, : len(rows)] = points[rows]
                blocks[group, block, :, : len(rows)] = turned[rows].T / self.unit
        low, high = np.fmin.reduce(blocks, axis=3), np.fmax.reduce(blocks, axis=3)
        self.block_sides = np.stack([low, high], axis=1).swapaxes(2, 3).copy()
        self.group_sides = np.full((-(-n // WIDTH), 2, n_features, WIDTH), np.nan, dtype=np.float32)
        for group in range(n):
            sides = self.group_sides[group // WIDTH, :, :, group % WIDTH]
            sides[0], sides[1] = np.fmin.reduce(low[group]), np.fmax.reduce(high[group])
        self.blocks = blocks.reshape(n * WIDTH, n_features, WIDTH)
        self.rows, self.points = self.rows.ravel(), self.points.reshape(-1, n_features)

    def query(self, X, count):
        """Return distances and rows of the `count` nearest points; see the module."""
        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        with np.errstate(over="ignore", invalid="ignore"):  # then all points are looked at
            turned = (X @ self.axes / self.unit).astype(np.float32, order="C")
        index = self.blocks, self.block_sides, self.group_sides, self.points, self.rows, self.unit
        search(*index, turned, X, distances, indices)
        return distances, indices


def _halved(points, rows, size):
    """Yield rows of up to `size` points close to each other; all but the last are full."""
    if len(rows) <= size:
        yield rows
        return
    inside = points[rows]
    side = np.ptp(inside, axis=0).argmax()
    half = max(1, len(rows) // 2 // size) * size
    order = np.argpartition(inside[:, side], half)
    yield from _halved(points, rows[order[:half]], size)
    yield from _halved(points, rows[order[half:]], size)
