import hashlib
import importlib.util
import pickle
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import halves, modules_after, points, stock_posterior
from MuyGPyS.neighbors import NN_Wrapper
from scipy.spatial.distance import cdist

import ztf_sg.muygps.classifier
import ztf_sg.muygps.neighbours
import ztf_sg.muygps.posterior
from ztf_sg import MuyGPSClassifier
from ztf_sg.muygps import classifier as muygps
from ztf_sg.muygps.neighbours import BlockIndex, GraphIndex, MatrixIndex, TreeIndex, neighbour_index

pytestmark = pytest.mark.filterwarnings("error")

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
needs_hnswlib = pytest.mark.skipif(
    importlib.util.find_spec("hnswlib") is None, reason="hnswlib is not installed"
)
ENGINES = ["numpy", pytest.param("numba", marks=needs_numba)]


def tree_of(points):
    return TreeIndex(points, np.eye(points.shape[1])[::-1])


def compiled_matrix(points):
    return SimpleNamespace(query=partial(MatrixIndex(points).query, compiled=True))


EXACT = [tree_of, MatrixIndex, *(pytest.param(i, marks=needs_numba) for i in (compiled_matrix, BlockIndex))]


@pytest.fixture
def use(monkeypatch):
    def choose(engine):
        monkeypatch.setattr(ztf_sg.muygps.classifier, "COMPILED_FROM", 1 if engine == "numba" else np.inf)

    return choose


def scattered(X):
    return X


def twice(X):
    return np.vstack([X, X])


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("smoothness", [0.5, 0.8, 1.5, 2.5, np.inf])
@pytest.mark.parametrize("n_features", [1, 8, 32, 400])
@pytest.mark.parametrize("arrange", [scattered, twice, far_from_the_origin, in_distant_clusters])
def test_every_engine_predicts_what_muygpys_does(use, engine, smoothness, n_features, arrange):
    use(engine)
    rng = np.random.default_rng(2)
    X = arrange(rng.normal(size=(60, n_features)))
    y = halves(X)
    queries = 0.45 * X[1:40] + 0.55 * X[:39]
    classifier = MuyGPSClassifier(nn_count=16, smoothness=1.5, batch_count=40).fit(X, y)
    classifier.smoothness = smoothness
    mean, variance = classifier.posterior(queries)
    stock_mean, stock_variance = stock_posterior(classifier, X, y, queries)
    np.testing.assert_allclose(mean, stock_mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(variance, stock_variance, rtol=0, atol=1e-6 * max(1, classifier.scale_))


@pytest.mark.parametrize("smoothness", [0.1, 0.3, 1.0, 4.2])
def test_a_smoothness_without_a_short_formula_is_that_of_muygpys(smoothness):
    X, y = points(n_features=3)
    classifier = MuyGPSClassifier(nn_count=12).fit(X, y)
    classifier.smoothness = smoothness
    queries = points(50, 3, random_state=1)[0]
    for ours, stock in zip(
        classifier.posterior(queries), stock_posterior(classifier, X, y, queries), strict=True
    ):
        np.testing.assert_allclose(ours, stock, rtol=0, atol=1e-6 * max(1, classifier.scale_))


@needs_numba
@pytest.mark.parametrize("n_features", [2, 8, 20])
def test_compiled_predictions_are_those_of_numpy(use, n_features):
    X, y = points(3000, n_features)
    queries = 3 * points(1000, n_features, random_state=1)[0]
    classifier = MuyGPSClassifier().fit(X, y)
    found = []
    for engine in ("numpy", "numba"):
        use(engine)
        found.append(classifier.posterior(queries))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_features", [3, 8, 40])
def test_the_order_of_features_in_memory_does_not_matter(use, engine, n_features):
    use(engine)
    X, y = points(300, n_features)
    by_rows, by_columns = (MuyGPSClassifier().fit(arrange(X), y) for arrange in (np.array, np.asfortranarray))
    expected = by_rows.posterior(X[::2])
    for queries in (X[::2], np.asfortranarray(X[::2])):
        np.testing.assert_array_equal(by_columns.posterior(queries), expected)
    np.testing.assert_array_equal(by_columns.predict_fast(np.asfortranarray(X)), by_rows.predict_fast(X))


def test_a_model_that_was_stored_by_columns_predicts_the_same():
    X, y = points(300, 8)
    classifier = MuyGPSClassifier().fit(X, y)
    state = {name: np.asfortranarray(array) for name, array in classifier.get_state().items()}
    again = MuyGPSClassifier().set_state(classifier.classes_, **state)
    np.testing.assert_array_equal(again.posterior(X), classifier.posterior(X))


@needs_numba
def test_machine_code_is_not_kept_when_the_vectors_change():
    from ztf_sg.muygps import compiled, vectors

    digest = hashlib.sha256(Path(vectors.__file__).read_bytes()).hexdigest()
    assert digest.startswith(compiled.VECTORS), f"set VECTORS of compiled.py to {digest[:16]!r}"
    assert len(compiled.VECTORS) == 16


@needs_numba
def test_few_predictions_are_not_worth_compiling(monkeypatch):
    monkeypatch.setattr(muygps, "_numba_works", lambda: pytest.fail("asked for numba"))
    classifier = MuyGPSClassifier().fit(*points(100))
    classifier.predict(points(muygps.COMPILED_FROM - 1, random_state=1)[0])
    with pytest.raises(pytest.fail.Exception):
        classifier.predict(points(muygps.COMPILED_FROM, random_state=1)[0])


@needs_numba
def test_numba_that_does_not_work_is_told_of_and_done_without(monkeypatch):
    classifier = MuyGPSClassifier().fit(*points(100))
    X = points(muygps.COMPILED_FROM, random_state=1)[0]
    expected = classifier.predict_proba(X)
    muygps._numba_works.cache_clear()
    monkeypatch.setitem(sys.modules, "ztf_sg.muygps.compiled", None)  # its import fails
    try:
        with pytest.warns(UserWarning, match="numba does not work here"):
            found = classifier.predict_proba(X)
    finally:
        muygps._numba_works.cache_clear()
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("count", [10, muygps.COMPILED_FROM])
def test_numbers_too_large_for_distances_are_refused(count):
    X, y = points(300)
    classifier = MuyGPSClassifier().fit(X, y)
    queries = points(count, random_state=1)[0]
    queries[5] = 1e160
    with pytest.raises(ValueError, match="overflow"):
        classifier.predict_proba(queries)


def test_optional_packages_are_not_loaded_by_import(tmp_path):
    optional = {"numba", "hnswlib", "ztf_sg.muygps.compiled"}
    loaded = modules_after(
        ["ztf_sg", "MuyGPyS", "ztf_sg.muygps.classifier", "ztf_sg.classification"], tmp_path
    )
    assert not loaded["ztf_sg"] & optional
    assert not (loaded["ztf_sg.classification"] - loaded["MuyGPyS"]) & optional  # it looks for hnswlib


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("n_features", "index"), [(3, TreeIndex), (8, MatrixIndex), (40, MatrixIndex)])
def test_chunks_threads_and_company_change_no_bit(monkeypatch, use, engine, n_features, index):
    use(engine)
    X, y = points(900, n_features)
    queries = points(700, n_features, random_state=1)[0]
    classifier = MuyGPSClassifier(n_jobs=1).fit(X, y)
    assert isinstance(classifier.neighbours_, index)
    whole = classifier.posterior(queries)
    alone = [classifier.posterior(query[None]) for query in queries[:40]]
    np.testing.assert_array_equal(np.hstack(alone), np.array(whole)[:, :40])
    for n_jobs in (2, 5):
        classifier.n_jobs = n_jobs
        np.testing.assert_array_equal(classifier.posterior(queries), whole)
    for rows in (slice(1, None), slice(3, 400), slice(None, None, -1)):
        np.testing.assert_array_equal(classifier.posterior(queries[rows]), np.array(whole)[:, rows])
    monkeypatch.setattr(ztf_sg.muygps.classifier, "CHUNK", (1, 17))
    monkeypatch.setattr(ztf_sg.muygps.neighbours, "MATRIX_BYTES", 1)
    monkeypatch.setattr(ztf_sg.muygps.neighbours, "OFFSET_BYTES", 1)
    monkeypatch.setattr(ztf_sg.muygps.posterior, "CHUNK_BYTES", 1)
    np.testing.assert_array_equal(classifier.posterior(queries), whole)


@pytest.mark.parametrize("index", EXACT)
def test_company_does_not_choose_among_equally_far_neighbours(index):
    X = np.tile(points(500, 32)[0], (20, 1))
    queries = points(250, 32, random_state=1)[0]
    query = partial(index(X).query, count=31)
    whole = query(queries)[1]
    for start in range(0, 250, 10):
        np.testing.assert_array_equal(query(queries[start : start + 1])[1][0], whole[start])
    for start in (1, 5, 50, 200):
        np.testing.assert_array_equal(query(queries[start:])[1], whole[start:])


@pytest.mark.parametrize("index", EXACT)
@pytest.mark.parametrize("far", [1e18, 1e25, 1e60])
@pytest.mark.parametrize("n_features", [2, 8, 40])
def test_queries_beyond_single_precision_have_neighbours(index, far, n_features):
    X = points(300, n_features)[0]
    queries = np.vstack([X[:2], np.full((1, n_features), far), -far * X[2:4]])
    distances, indices = index(X).query(queries, 9)
    assert all(len(set(row)) == 9 for row in indices)
    assert indices.min() >= 0
    np.testing.assert_allclose(distances, np.sort(cdist(queries, X), axis=1)[:, :9], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("index", EXACT)
@pytest.mark.parametrize("n_features", [1, 2, 9, 50])
@pytest.mark.parametrize(
    "arrange",
    [
        scattered,
        twice,
        twelve_times,
        far_from_the_origin,
        in_distant_clusters,
        on_a_grid,
        with_an_outlier,
        all_equal,
    ],
)
def test_exact_neighbours_are_the_nearest(index, n_features, arrange):
    X = arrange(np.random.default_rng(0).normal(size=(700, n_features)))
    queries = np.vstack([X[::70], X[5:9] + 0.1, X[:1] + 1e3])
    for count in (1, 7, 30):
        distances, indices = index(X).query(queries, count)
        everyone = cdist(queries, X)
        assert all(len(set(row)) == count for row in indices)
        np.testing.assert_allclose(distances, np.sort(everyone, axis=1)[:, :count], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(distances, np.take_along_axis(everyone, indices, 1), rtol=1e-7, atol=1e-8)


@needs_numba
@pytest.mark.parametrize("n_features", [8, 32])
@pytest.mark.parametrize("n", [2, 31, 32, 33, 1023, 1024, 1025, 5000])
def test_blocks_and_groups_of_any_size_hold_all_points(n, n_features):
    X = points(n, n_features)[0]
    queries = points(40, n_features, random_state=1)[0]
    for count in {1, min(n, 30), min(n, 1100)}:
        expected = np.sort(cdist(queries, X), axis=1)[:, :count]
        for arrange in (np.array, np.asfortranarray):
            distances, indices = BlockIndex(X).query(arrange(queries), count)
            np.testing.assert_allclose(distances, expected, rtol=1e-12)
            assert all(len(set(row)) == count for row in indices)


@needs_numba
@pytest.mark.parametrize("spacing", [0, 0.5])
@pytest.mark.parametrize("count", [1, 30, 900])
def test_blocks_of_many_points_hold_the_nearest(spacing, count):
    X = np.random.default_rng(0).normal(size=(70_000, 3))
    X = np.round(X / spacing) * spacing if spacing else X
    queries = np.vstack([X[::7000] + 0.01, X[:2] + 50])
    distances, indices = BlockIndex(X).query(queries, count)
    everyone = cdist(queries, X)
    np.testing.assert_allclose(distances, np.sort(everyone, axis=1)[:, :count], rtol=1e-12)
    np.testing.assert_allclose(distances, np.take_along_axis(everyone, indices, 1), rtol=1e-12)
    assert all(len(set(row)) == count for row in indices)


@pytest.mark.parametrize("index", [*EXACT, pytest.param(GraphIndex, marks=needs_hnswlib)])
def test_all_points_can_be_asked_for(index):
    X = points(41, 3)[0]
    assert (np.sort(index(X).query(X[:5], 41)[1], axis=1) == np.arange(41)).all()


def test_points_that_fill_few_dimensions_are_searched_by_a_tree():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 20)) + 1e-3 * rng.normal(size=(2000, 20))
    assert isinstance(neighbour_index(flat), TreeIndex)
    assert isinstance(neighbour_index(rng.normal(size=(2000, 20))), MatrixIndex)


@needs_hnswlib
def test_approximate_neighbours_are_nearly_all_the_nearest():
    X, y = points(3000, 8)
    queries = points(500, 8, random_state=1)[0]
    exact, approximate = (MuyGPSClassifier(neighbours=method).fit(X, y) for method in ("exact", "hnsw"))
    true, found = (model.neighbours_.query(queries, 30)[1] for model in (exact, approximate))
    shared = [len(set(one) & set(other)) for one, other in zip(true, found, strict=True)]
    assert np.mean(shared) / 30 > 0.98
    assert np.mean(exact.predict(queries) == approximate.predict(queries)) > 0.98


@needs_hnswlib
def test_approximate_neighbours_are_the_same_every_time():
    X, y = points(1000, 8)
    one, other = (MuyGPSClassifier(neighbours="hnsw", n_jobs=n).fit(X, y) for n in (1, 3))
    again = pickle.loads(pickle.dumps(one))
    for model in (other, again):
        np.testing.assert_array_equal(one.posterior(X), model.posterior(X))


def test_a_missing_package_for_approximate_neighbours_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(ImportError, match=r"hnswlib.*ztf_sg\[hnsw\]"):
        MuyGPSClassifier(neighbours="hnsw").fit(*points(40))


def test_an_unknown_kind_of_neighbours_is_named():
    with pytest.raises(ValueError, match="neighbours: expected one of exact, hnsw, got 'near'"):
        MuyGPSClassifier(neighbours="near").fit(*points(40))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_fast_class_is_nearly_always_the_exact_one(use, engine):
    use(engine)
    X, y = points(2000, 3)
    queries = points(1000, 3, random_state=1)[0]
    classifier = MuyGPSClassifier().fit(X, np.array(["star", "galaxy"])[y])
    fast = classifier.predict_fast(queries)
    assert set(fast) == {"star", "galaxy"}
    assert np.mean(fast == classifier.predict(queries)) > 0.97


def test_the_fast_mean_is_that_of_muygpys():
    X, y = points(300, 4)
    queries = points(60, 4, random_state=1)[0]
    classifier = MuyGPSClassifier(nn_count=10).fit(X, y)
    muygps, unit = classifier.muygps_, classifier.distance_unit_
    train, test, targets = X / unit, queries / unit, 2.0 * y - 1
    index = NN_Wrapper(train, 10, nn_method="exact")
    hoods = np.hstack([np.arange(300)[:, None], index.nbrs.kneighbors(train, 10)[1][:, 1:]])
    pairwise = muygps.kernel(cdist_stack(train[hoods], train[hoods]))
    coefficients = muygps.fast_coefficients(pairwise, targets[hoods])
    nearest = index.nbrs.kneighbors(test, 1)[1][:, 0]
    crosswise = muygps.kernel(cdist_stack(test[:, None], train[hoods[nearest]])[:, 0])
    expected = muygps.fast_posterior_mean(crosswise, coefficients[nearest])
    classifier.predict_fast(queries)
    np.testing.assert_allclose(classifier._fast[1], np.squeeze(coefficients), atol=1e-6)
    found = ztf_sg.muygps.posterior.fast_mean(
        queries, X, nearest, *classifier._fast, classifier._correlation()
    )
    np.testing.assert_allclose(found, np.ravel(expected), atol=1e-6)


def cdist_stack(one, other):
    return np.linalg.norm(one[:, :, None] - other[:, None], axis=3)


def test_training_again_forgets_what_was_prepared_for_fast_classes():
    X, y = points(200, 3)
    classifier = MuyGPSClassifier(nn_count=1).fit(X, y)
    np.testing.assert_array_equal(classifier.predict_fast(X), y)
    np.testing.assert_array_equal(classifier.fit(X, 1 - y).predict_fast(X), 1 - y)


@needs_numba
def test_too_little_noise_is_an_error_in_both_engines(use):
    X, y = points(50)
    classifier = MuyGPSClassifier(nn_count=20).fit(np.vstack([X, X]), np.tile(y, 2))
    classifier.noise_ = -1e-6
    for engine in ("numpy", "numba"):
        use(engine)
        with pytest.raises(np.linalg.LinAlgError):
            classifier.posterior(X)
