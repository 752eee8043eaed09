import numpy as np
import pytest
from helpers import points
from scipy.spatial.distance import cdist

from ztf_sg.muygps.neighbours import FEW_FEATURES, BlockIndex, MatrixIndex, neighbour_index

INDICES = [BlockIndex, MatrixIndex]


def scattered(X):
    return X


def twelve_times(X):
    return np.tile(X, (12, 1))


def far_from_the_origin(X):
    return X + 1e6


def in_distant_clusters(X):
    return np.vstack([X, X + 1e4, X - 1e6])


def on_a_grid(X):
    return np.round(2 * X)


def with_an_outlier(X):
    return np.vstack([X, np.full_like(X[:1], 1e12)])


def all_equal(X):
    return np.ones_like(X)


def assert_nearest(found, queries, X, count):
    """Compare distances and rows with those of all points."""
    distances, indices = found
    everyone = cdist(queries, X)
    assert all(len(set(row)) == count for row in indices)
    assert (indices >= 0).all()
    for expected in (np.sort(everyone, axis=1)[:, :count], np.take_along_axis(everyone, indices, axis=1)):
        np.testing.assert_allclose(distances, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("n_features", [1, 9, 50])
@pytest.mark.parametrize(
    "arrange",
    [
        scattered,
        twelve_times,
        far_from_the_origin,
        in_distant_clusters,
        on_a_grid,
        with_an_outlier,
        all_equal,
    ],
)
def test_neighbours_are_the_nearest_points(index, n_features, arrange):
    X = arrange(np.random.default_rng(0).normal(size=(700, n_features)))
    queries = np.vstack([X[::70], X[5:9] + 0.1, X[:1] + 1e3])
    built = index(X)
    for count in (1, 7, 30):
        assert_nearest(built.query(queries, count), queries, X, count)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("n", [2, 31, 32, 33, 1023, 1024, 1025, 5000])
def test_any_number_of_points_can_be_searched(index, n):
    X = points(n, 8)[0]
    queries = points(40, 8, random_state=1)[0]
    for count in {1, min(n, 30), min(n, 1100)}:
        assert_nearest(index(X).query(queries, count), queries, X, count)


@pytest.mark.parametrize(("spacing", "count"), [(0, 30), (0.5, 900)])
def test_blocks_of_many_points_hold_the_nearest(spacing, count):
    X = np.random.default_rng(0).normal(size=(70_000, 3))
    X = np.round(X / spacing) * spacing if spacing else X
    queries = np.vstack([X[::7000] + 0.01, X[:2] + 50])
    assert_nearest(BlockIndex(X).query(queries, count), queries, X, count)


@pytest.mark.parametrize("index", INDICES)
def test_company_does_not_choose_among_equally_far_neighbours(index):
    X = np.tile(points(500, 32)[0], (20, 1))
    queries = points(250, 32, random_state=1)[0]
    built = index(X)
    whole = built.query(queries, 31)[1]
    for rows in (slice(0, 1), slice(10, 11), slice(1, None), slice(50, None), slice(None, None, -1)):
        np.testing.assert_array_equal(built.query(queries[rows], 31)[1], whole[rows])


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("far", [1e18, 1e25, 1e60])
def test_queries_beyond_single_precision_have_neighbours(index, far):
    X = points(300, 8)[0]
    queries = np.vstack([X[:2], np.full((1, 8), far), -far * X[2:4]])
    assert_nearest(index(X).query(queries, 9), queries, X, 9)


@pytest.mark.parametrize("index", INDICES)
def test_queries_beyond_all_numbers_have_no_finite_distance(index):
    distances = index(points(300, 8)[0]).query(np.full((1, 8), 1e308), 9)[0]
    assert not np.isfinite(distances[:, -1]).any()


def test_the_number_of_features_decides_how_to_search():
    assert isinstance(neighbour_index(points(100, FEW_FEATURES)[0]), BlockIndex)
    assert isinstance(neighbour_index(points(100, FEW_FEATURES + 1)[0]), MatrixIndex)
