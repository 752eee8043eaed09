"""Exact nearest neighbours, by boxes of points or by matrix products.

The answer to a query does not depend on the other queries, and threads may ask at the same time.
"""

import numpy as np
from scipy.spatial.distance import cdist

from ztf_sg.muygps.compiled import WIDTH, search, select
from ztf_sg.parallel import slices

FEW_FEATURES = 32  # with more, nearly every box can hold a neighbour
MATRIX_BYTES = 12 * 2**20  # memory for the distances of 16 to 128 queries


def neighbour_index(points):
    """Return the faster index for points near the origin, (n, n_features)."""
    return (BlockIndex if points.shape[1] <= FEW_FEATURES else MatrixIndex)(points)


class MatrixIndex:
    r"""Lower bounds of all distances by matrix products; exact distances of the points where they are least.

    With a bound :math:`\delta` of the rounding errors, :math:`(1 - \delta)(|p|^2 + |q|^2) - 2 pq` in single
    precision is not above the squared distance of p and q.
    """

    def __init__(self, points):
        n, n_features = points.shape
        self.points = np.ascontiguousarray(points)
        self.unit = float(np.abs(points).max() * np.sqrt(n_features)) or 1.0
        # the sum has n_features + 2 products of numbers that are rounded to single precision
        self.rounding = 2 * (n_features + 9) * np.finfo(np.float32).eps / 2
        scaled = points / self.unit
        self.columns = np.zeros((n_features + 2, n + -n % WIDTH), dtype=np.float32)
        self.columns[:-2, :n] = scaled.T
        self.columns[-2], self.columns[-1] = np.inf, 1
        self.columns[-2, :n] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)

    def query(self, X, count):
        """Return distances and rows of the nearest points, (m, count) each, nearest first."""
        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        for rows in slices(len(X), min(128, max(16, MATRIX_BYTES // (4 * self.columns.shape[1])))):
            select(self._bounds(X[rows]), self.points, self.unit, X[rows], distances[rows], indices[rows])
        for row in np.flatnonzero(np.isinf(distances[:, -1])):  # beyond single precision
            everyone = cdist(X[[row]], self.points)[0]
            indices[row] = np.argsort(everyone, kind="stable")[:count]
            distances[row] = everyone[indices[row]]
        return distances, indices

    def _bounds(self, X):
        """Return lower bounds of the squared distances in units of the index, (m, n + padding)."""
        scaled = X / self.unit
        rows = np.ones((len(X), len(self.columns)), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            rows[:, :-2] = -2 * scaled
            rows[:, -1] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)
            return rows @ self.columns


class BlockIndex:
    """Groups of `WIDTH` blocks of `WIDTH` points, and their bounding boxes; far boxes are passed over.

    The boxes lie along the principal `axes`, which makes them small. `points` (n_groups * WIDTH**2,
    n_features) are filled up with NaN; `rows` (n_groups * WIDTH**2,) are their rows. In single precision, in
    `unit` and along the axes: `blocks` (n_groups * WIDTH, n_features, WIDTH) of points, `block_sides`
    (n_groups, 2, n_features, WIDTH), lower and upper, and `group_sides`, WIDTH groups together.
    """

    def __init__(self, points):
        scale = 2.0 ** np.floor(np.log2(np.abs(points).max() or 1.0))  # a power of two rounds nothing
        self.axes = np.linalg.eigh(np.atleast_2d(np.cov((points / scale).T)))[1][:, ::-1]
        turned = points @ self.axes
        groups = list(_halved(turned, np.arange(len(points)), WIDTH**2))
        n, n_features = len(groups), points.shape[1]
        self.unit = float(np.abs(turned).max()) or 1.0
        padded = np.full((n, WIDTH, WIDTH), -1)  # row -1 is that of NaN
        for group, inside in enumerate(groups):
            for block, rows in enumerate(_halved(turned, inside, WIDTH)):
                padded[group, block, : len(rows)] = rows
        nothing = np.full((1, n_features), np.nan)
        self.rows, self.points = padded.ravel(), np.vstack([points, nothing])[padded.ravel()]
        blocks = np.vstack([turned / self.unit, nothing]).astype(np.float32)[padded].swapaxes(2, 3).copy()
        low, high = np.fmin.reduce(blocks, axis=3), np.fmax.reduce(blocks, axis=3)
        self.block_sides = np.stack([low, high], axis=1).swapaxes(2, 3).copy()
        sides = np.full((n + -n % WIDTH, 2, n_features), np.nan, dtype=np.float32)
        sides[:n, 0], sides[:n, 1] = np.fmin.reduce(low, axis=1), np.fmax.reduce(high, axis=1)
        self.group_sides = sides.reshape(-1, WIDTH, 2, n_features).transpose(0, 2, 3, 1).copy()
        self.blocks = blocks.reshape(n * WIDTH, n_features, WIDTH)

    def query(self, X, count):
        """Return distances and rows of the nearest points, (m, count) each, nearest first."""
        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        with np.errstate(over="ignore", invalid="ignore"):  # then every point is a candidate
            turned = (X @ self.axes / self.unit).astype(np.float32, order="C")
        index = self.blocks, self.block_sides, self.group_sides, self.points, self.rows, self.unit
        search(*index, turned, np.abs(turned).max(axis=1), X, distances, indices)
        return distances, indices


def _halved(points, rows, size):
    """Yield rows of up to `size` points close to each other, by halving the longest side again and again."""
    if len(rows) <= size:
        yield rows
        return
    inside = points[rows]
    side = np.ptp(inside, axis=0).argmax()
    half = max(1, len(rows) // 2 // size) * size
    order = np.argpartition(inside[:, side], half)
    yield from _halved(points, rows[order[:half]], size)
    yield from _halved(points, rows[order[half:]], size)
