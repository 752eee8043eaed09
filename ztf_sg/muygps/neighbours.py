"""Nearest training points of every query: exact in few or many dimensions, or approximate.

All indices answer ``query(X, count)`` with distances and row numbers, nearest first. The nearest points of
a query do not depend on the other queries; threads may ask for equally many at the same time.
"""

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from ztf_sg.parallel import slices

METHODS = ("exact", "hnsw")
SPARE = 8  # candidates beyond the wanted ones, so that rounding rarely matters
GROUP = 16  # distances that are first compared by their least
PADDING = 32  # to a multiple of it points of a MatrixIndex are filled up; one of GROUP, and of compiled.WIDTH
FEW_FEATURES = 32  # with more, there is no hope that most points need not be looked at
MATRIX_BYTES = 12 * 2**20  # memory of distances, for 16 to 128 queries
OFFSET_BYTES = 2**18  # memory of differences: what a processor keeps at hand
HNSW_LINKS, HNSW_BREADTH = 16, 200  # M and ef_construction of hnswlib


def neighbour_index(points, method="exact"):
    """Return an index of points.

    A k-d tree looks at few points if they fill few dimensions and at nearly all of them otherwise, when
    matrix products are faster. Which of the two is exact and faster is decided by the effective dimension
    of the points, the participation ratio of the variances along their principal axes.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features), near the origin; any units.
    method : {"exact", "hnsw"}
        ``"hnsw"`` is approximate and needs the package hnswlib.

    Returns
    -------
    TreeIndex, MatrixIndex or GraphIndex

    Raises
    ------
    ValueError
        If there is no such method.
    ImportError
        If hnswlib is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"neighbours: expected one of {', '.join(METHODS)}, got {method!r}")
    if method == "hnsw":
        return GraphIndex(points)
    if points.shape[1] > FEW_FEATURES:
        return MatrixIndex(points)
    variances, axes = _principal_axes(points)
    dimension = variances.sum() ** 2 / max((variances**2).sum(), np.finfo(float).tiny)
    if dimension > np.log2(len(points)) / 2 - 1:
        return MatrixIndex(points)
    return TreeIndex(points, axes)


def _principal_axes(points):
    """Return the variances along the principal axes, the largest first, and the axes in columns."""
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))
    return variances[::-1], axes[:, ::-1]


class TreeIndex:
    """Exact neighbours by a k-d tree along the principal axes of the points.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features).
    axes : numpy.ndarray
        Orthonormal columns, shape (n_features, n_features).
    """

    def __init__(self, points, axes):
        self.axes = axes
        self.tree = KDTree(self._turned(points), leafsize=20)

    def query(self, X, count):
        """Return distances [units of X] and rows of the `count` nearest points, shape (m, count) each."""
        return self.tree.query(self._turned(X), np.arange(1, count + 1))

    def _turned(self, X):
        """Return X along the axes, each row by itself: a matrix product rounds by the number of rows."""
        turned = np.zeros_like(X)
        for column, axis in zip(X.T, self.axes, strict=True):
            turned += column[:, None] * axis
        return turned


class MatrixIndex:
    r"""Exact neighbours by matrix products in single precision, corrected in double precision.

    With a bound :math:`\delta` of the rounding errors, :math:`(1 - \delta)(|p|^2 + |q|^2) - 2 pq` in single
    precision is not above the squared distance of p and q. The candidates are the points where it is
    least; their distances are computed from differences. If a point that is no candidate could be nearer
    than the farthest neighbour, more points are compared by differences.

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
        self.columns = np.zeros((n_features + 2, n + -n % PADDING), dtype=np.float32)
        self.columns[:-2, :n] = scaled.T
        self.columns[-2], self.columns[-1] = np.inf, 1
        self.columns[-2, :n] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)

    def query(self, X, count, compiled=False):
        """Return distances [units of X] and rows of the `count` nearest points, shape (m, count) each.

        If `compiled`, candidates are chosen by code of numba: faster, with other rounding errors, and maybe
        another one of equally far points.
        """
        distances, indices = np.empty((len(X), count)), np.empty((len(X), count), dtype=np.intp)
        nearest = self._nearest_compiled if compiled else self._nearest
        for rows in slices(len(X), min(128, max(16, MATRIX_BYTES // (4 * self.columns.shape[1])))):
            distances[rows], indices[rows] = nearest(X[rows], count)
        return distances, indices

    def _nearest(self, X, count):
        if count + SPARE >= len(self.points):
            return self._nearest_by_differences(X, count)
        bounds, candidates = self._candidates(X, count + SPARE)
        far = ~np.isfinite(bounds)  # beyond single precision
        candidates[far] = 0
        squared = crosswise_distances(X, self.points, candidates)
        distances, indices = _sorted(squared, candidates, count)
        return self._corrected(X, distances, indices, far | (distances[:, -1] ** 2 > bounds))

    def _nearest_compiled(self, X, count):
        from ztf_sg.muygps.compiled import select

        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        select(self._bounds(X), self.points, self.unit, X, distances, indices)
        return self._corrected(X, distances, indices, np.isinf(distances[:, -1]))

    def _corrected(self, X, distances, indices, doubtful):
        rows = np.flatnonzero(doubtful)
        if len(rows):
            distances[rows], indices[rows] = self._nearest_by_differences(X[rows], distances.shape[1])
        return distances, indices

    def _bounds(self, X):
        """Return numbers not above the squared distances in units of the index, shape (m, n + padding)."""
        scaled = X / self.unit
        rows = np.ones((len(X), len(self.columns)), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            rows[:, :-2] = -2 * scaled
            rows[:, -1] = (1 - self.rounding) * np.einsum("ij,ij->i", scaled, scaled)
            return rows @ self.columns

    def _candidates(self, X, count):
        """Return below what squared distance all points are candidates, (m,), and the candidates."""
        bounds = self._bounds(X)
        n_groups = bounds.shape[1] // GROUP
        indices = np.broadcast_to(np.arange(bounds.shape[1]), bounds.shape)
        if n_groups > count:  # the least ones are in the groups with the least minima
            least = bounds.reshape(len(X), GROUP, n_groups).min(axis=1)
            groups = np.argpartition(least, count - 1, axis=1)[:, :count]
            indices = (groups[:, None] + n_groups * np.arange(GROUP)[:, None]).reshape(len(X), -1)
            bounds = np.take_along_axis(bounds, indices, axis=1)
        chosen = np.argpartition(bounds, count - 1, axis=1)[:, :count]
        farthest = np.take_along_axis(bounds, chosen[:, -1:], axis=1)[:, 0].astype(float)
        return farthest * self.unit**2, np.take_along_axis(indices, chosen, axis=1)

    def _nearest_by_differences(self, X, count):
        squared = cdist(X, self.points, "sqeuclidean")
        chosen = np.argpartition(squared, count - 1, axis=1)[:, :count]
        return _sorted(np.take_along_axis(squared, chosen, axis=1), chosen, count)


class BlockIndex:
    """Exact neighbours by looking at blocks of points that can hold any, compiled by numba.

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
        from ztf_sg.muygps.compiled import WIDTH

        self.axes = _principal_axes(points)[1]
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
        """Return distances [units of X] and rows of the `count` nearest points, shape (m, count) each."""
        from ztf_sg.muygps.compiled import search

        X = np.ascontiguousarray(X, dtype=float)
        distances, indices = np.full((len(X), count), np.inf), np.zeros((len(X), count), dtype=np.intp)
        index = self.blocks, self.block_sides, self.group_sides, self.points, self.rows, self.unit
        with np.errstate(over="ignore", invalid="ignore"):  # then all points are looked at
            turned = (X @ self.axes / self.unit).astype(np.float32, order="C")
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


class GraphIndex:
    """Approximate neighbours by hnswlib, the hierarchical graphs of Malkov & Yashunin, arXiv:1603.09320.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n, n_features); stored in single precision.

    Raises
    ------
    ImportError
        If hnswlib is not installed.
    """

    def __init__(self, points):
        try:
            from hnswlib import Index
        except ImportError as error:
            raise ImportError(
                "neighbours='hnsw' needs the package hnswlib; install it with: pip install 'ztf_sg[hnsw]'"
            ) from error
        self.points = points
        self.graph = Index("l2", points.shape[1])
        self.graph.init_index(len(points), M=HNSW_LINKS, ef_construction=HNSW_BREADTH, random_seed=0)
        self.graph.add_items(points, num_threads=1)  # with more, the graph differs from run to run

    def query(self, X, count):
        """Return distances [units of X] and rows of about the nearest points, shape (m, count) each."""
        self.graph.set_ef(min(len(self.points), 4 * count))
        indices = self.graph.knn_query(X, count, num_threads=1)[0].astype(np.intp)
        return _sorted(crosswise_distances(X, self.points, indices), indices, count)


def crosswise_distances(X, points, indices):
    """Return squared distances of queries to points.

    Parameters
    ----------
    X : numpy.ndarray
        Queries, shape (m, n_features).
    points : numpy.ndarray
        Shape (n, n_features).
    indices : numpy.ndarray
        Rows of the points that each query is compared with, shape (m, count).

    Returns
    -------
    numpy.ndarray
        Squared units of X, shape (m, count).
    """
    squared = np.empty(indices.shape)
    for rows in slices(len(X), OFFSET_BYTES // (8 * indices.shape[1] * X.shape[1])):
        offsets = np.take(points, indices[rows], axis=0)
        offsets -= X[rows, None]
        squared[rows] = np.einsum("ijk,ijk->ij", offsets, offsets)
    return squared


def _sorted(squared, indices, count):
    """Return the `count` least distances and their indices, the lower index first among equals."""
    order = np.lexsort((indices, squared))[:, :count]
    return np.sqrt(np.take_along_axis(squared, order, axis=1)), np.take_along_axis(indices, order, axis=1)
