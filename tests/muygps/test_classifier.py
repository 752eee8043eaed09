import pickle
import tracemalloc

import numpy as np
import pytest
from helpers import halves, points, stock_posterior
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_info, threadpool_limits

from ztf_sg import MuyGPSClassifier
from ztf_sg.muygps import training

pytestmark = pytest.mark.filterwarnings("error")

SMOOTHNESSES = (0.5, 1.5, 2.5, np.inf)
CLUSTER_DISTANCE = 1e5  # in standard deviations of a cluster


def flipped(y, share, random_state=0):
    """Turn a share of the labels around."""
    return y ^ (np.random.default_rng(random_state).random(len(y)) < share)


def as_drawn(X, random_state):
    return X


def with_exact_duplicates(X, random_state):
    return np.vstack([X, X])


def with_near_duplicates(X, random_state):
    return np.vstack([X, X + 1e-7 * random_state.normal(size=X.shape)])


def as_pixels(X, random_state):
    return 1e3 + 1e4 * X


def with_a_large_offset(X, random_state):
    return 1e6 + X


def in_two_distant_clusters(X, random_state):
    return np.vstack([X, X[::-1] + CLUSTER_DISTANCE])


def test_scikit_learn_finds_nothing_to_complain_about():
    with pytest.warns(UserWarning, match="nn_count=30"):  # its data sets are small
        check_estimator(MuyGPSClassifier(), on_skip=None)


@pytest.mark.parametrize("n_features", [1, 8, 400])
@pytest.mark.parametrize(
    "arrange",
    [
        as_drawn,
        with_exact_duplicates,
        with_near_duplicates,
        as_pixels,
        with_a_large_offset,
        in_two_distant_clusters,
    ],
)
def test_posterior_is_that_of_muygpys(arrange, n_features):
    rng = np.random.RandomState(3)
    X = arrange(rng.normal(size=(80, n_features)), rng)
    y = halves(X)
    between = 0.45 * X[1:20] + 0.55 * X[:19]  # nearer to one of the two: no ties
    queries = np.vstack([between, X[::8]])
    classifier = MuyGPSClassifier(nn_count=20, batch_count=40).fit(X, y)
    for classifier.smoothness in SMOOTHNESSES:
        mean, variance = classifier.posterior(queries)
        stock_mean, stock_variance = stock_posterior(classifier, X, y, queries)
        np.testing.assert_allclose(mean, stock_mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(variance, stock_variance, rtol=0, atol=1e-6 * max(1, classifier.scale_))
        assert (variance >= 0).all()


def test_prediction_memory_is_bounded_by_the_chunk():
    X, y = points(2000, 40)
    queries = points(5000, 40, random_state=1)[0]
    classifier = MuyGPSClassifier(batch_count=20, n_jobs=1).fit(X, y)
    tracemalloc.start()
    classifier.posterior(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(X) * len(queries) / 2  # of all distances, in single precision


def test_a_single_class_is_named():
    with pytest.raises(ValueError, match="two classes.*'star'"):
        MuyGPSClassifier().fit(points(40)[0], np.full(40, "star"))


def test_three_classes_are_refused():
    with pytest.raises(ValueError, match="binary.*3 classes"):
        MuyGPSClassifier().fit(points(60)[0], np.arange(60) % 3)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_too_few_training_points_warn_and_still_predict(n):
    X, y = points(n)
    with pytest.warns(UserWarning, match=rf"nn_count=30 .* {n} training points.* {n - 1}$"):
        classifier = MuyGPSClassifier().fit(X, y)
    assert classifier.nn_count_ == n - 1
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_one_more_training_point_than_neighbours_is_enough():
    assert MuyGPSClassifier(nn_count=30).fit(*points(31)).nn_count_ == 30


def test_prediction_wants_the_features_of_training():
    classifier = MuyGPSClassifier().fit(*points(40, n_features=3))
    for method in (classifier.predict, classifier.predict_proba, classifier.posterior):
        with pytest.raises(ValueError, match="2 features.*expecting 3"):
            method(np.zeros((5, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    X, y = points(40)
    classifier = MuyGPSClassifier().fit(X, y)
    X[7, 1] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        MuyGPSClassifier().fit(X, y)
    with pytest.raises(ValueError, match="NaN|infinity"):
        classifier.predict(X)


@pytest.mark.parametrize("nn_count", [0, -1, 2.5, "3", None, True, np.True_])
def test_an_impossible_number_of_neighbours_is_named(nn_count):
    with pytest.raises(ValueError, match=f"nn_count: expected an integer >= 1, got {nn_count!r}"):
        MuyGPSClassifier(nn_count=nn_count).fit(*points(40))


@pytest.mark.parametrize(
    "parameter",
    [
        {"batch_count": 0},
        {"batch_count": 2.5},
        {"batch_count": True},
        {"smoothness": -1.0},
        {"smoothness": None},
        {"n_jobs": "2"},
        {"n_jobs": 0},
        {"n_jobs": 1.5},
        {"n_jobs": True},
    ],
)
def test_an_impossible_parameter_is_named(parameter):
    with pytest.raises(ValueError, match=f"{next(iter(parameter))}: expected"):
        MuyGPSClassifier(**parameter).fit(*points(40))


@pytest.mark.parametrize("parameter", [{"n_jobs": "2"}, {"n_jobs": 0}, {"smoothness": 0.8}])
def test_a_parameter_that_is_made_impossible_after_training_is_named(parameter):
    classifier = MuyGPSClassifier(nn_count=5).fit(*points(40)).set_params(**parameter)
    with pytest.raises(ValueError, match=f"{next(iter(parameter))}: expected"):
        classifier.predict(points(40)[0])


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1, -2, np.int64(2)])
def test_threads_do_not_change_the_numbers(n_jobs):
    X, y = points(300)
    expected = MuyGPSClassifier(n_jobs=1).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(MuyGPSClassifier(n_jobs=n_jobs).fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize("masked", ["X", "y", "groups"])
def test_masked_values_are_refused(masked):
    X, y = points(40)
    arguments = {"X": X, "y": y, "groups": np.arange(40)}
    arguments[masked] = np.ma.masked_equal(arguments[masked], arguments[masked].flat[3])
    with pytest.raises(ValueError, match=rf"{masked}: \d+ values are masked; leave out the rows"):
        MuyGPSClassifier(nn_count=5).fit(**arguments)
    classifier = MuyGPSClassifier(nn_count=5).fit(np.ma.masked_array(X), np.ma.masked_array(y))  # none is
    with pytest.raises(ValueError, match="X: 1 values are masked"):
        classifier.predict(np.ma.masked_equal(X, X[2, 1]))


def test_a_smoothness_without_a_closed_form_is_refused_with_those_that_have_one():
    for smoothness in (0.8, [1.5], "1.5"):
        with pytest.raises(ValueError, match="smoothness: expected one of 0.5, 1.5, 2.5, inf, got"):
            MuyGPSClassifier(smoothness=smoothness).fit(*points(40))


def test_groups_of_another_shape_than_the_labels_are_refused():
    X, y = points(40)
    with pytest.raises(ValueError, match="1d array"):
        MuyGPSClassifier(nn_count=5).fit(X, y, groups=np.zeros((40, 2)))
    MuyGPSClassifier(nn_count=5).fit(X, y, groups=[f"object {row // 2}" for row in range(40)])


def test_an_option_that_is_no_more_is_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'neighbours'"):
        MuyGPSClassifier(neighbours="hnsw")


def test_an_unfitted_classifier_says_so():
    classifier = MuyGPSClassifier()
    for method in (classifier.predict, classifier.predict_proba, classifier.posterior):
        with pytest.raises(NotFittedError):
            method(np.zeros((1, 2)))
    with pytest.raises(NotFittedError):
        classifier.muygps_  # noqa: B018


def test_pickles_predict_the_same():
    X, y = points()
    classifier = MuyGPSClassifier().fit(X, y)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(again.posterior(X), classifier.posterior(X))


def test_clones_keep_parameters_and_drop_what_was_learned():
    fitted = MuyGPSClassifier(nn_count=12, smoothness=2.5, batch_count=60, random_state=4).fit(*points())
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "neighbours_")


def test_the_random_state_decides_everything_random():
    X, y = points(200)

    def learned(random_state):
        classifier = MuyGPSClassifier(batch_count=40, random_state=random_state).fit(X, y)
        return [classifier.length_scale_, classifier.noise_, classifier.slope_, *classifier.posterior(X)[0]]

    assert learned(5) == learned(5)
    assert learned(5) == learned(np.random.RandomState(5))
    assert learned(5) != learned(6)


def test_training_leaves_its_input_alone():
    X, y = points()
    before = X.copy(), y.copy()
    MuyGPSClassifier().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("names", [("star", "galaxy"), (1, 0), (-1, 1), (False, True)])
def test_labels_of_any_kind_come_back(names):
    X, y = points()
    labels = np.array(names)[y]
    classifier = MuyGPSClassifier().fit(X, labels)
    assert list(classifier.classes_) == sorted(names)
    assert set(classifier.predict(X)) == set(names)
    assert classifier.score(X, labels) > 0.85


def test_swapping_the_class_names_swaps_the_probabilities():
    X, y = points()
    one, other = (MuyGPSClassifier().fit(X, labels).predict_proba(X) for labels in (y, 1 - y))
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-5)


def test_probabilities_sum_to_one_and_agree_with_the_prediction():
    X, y = points()
    queries = 3 * points(500, random_state=1)[0]
    classifier = MuyGPSClassifier().fit(X, y)
    probabilities = classifier.predict_proba(queries)
    assert probabilities.shape == (500, 2)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(classifier.predict(queries), classifier.classes_[probabilities.argmax(1)])


def test_log_odds_are_those_of_the_probability_and_finite_however_sure():
    X, y = points()
    classifier = MuyGPSClassifier().fit(X, y)
    mean, variance = classifier.posterior(X)
    odds = np.exp(classifier.log_odds(mean, variance))
    np.testing.assert_allclose(odds / (1 + odds), classifier.probability(mean, variance), rtol=1e-9)
    sure = classifier.log_odds(np.array([-1e3, 1e3]), np.zeros(2))
    assert np.isfinite(sure).all()
    assert sure[0] == -sure[1] < -1e5


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_of_the_features_do_not_matter(factor):
    X, y = points()
    here, there = (MuyGPSClassifier().fit(scale * X, y).predict_proba(scale * X) for scale in (1, factor))
    np.testing.assert_allclose(there, here, atol=1e-4)


def test_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, size=(1500, 2))
    true = 1 / (1 + np.exp(-1.5 * X[:, 0]))
    y = (rng.random(1500) < true).astype(int)
    predicted = MuyGPSClassifier().fit(X[:1000], y[:1000]).predict_proba(X[1000:])[:, 1]
    true = true[1000:]
    assert abs(predicted.mean() - true.mean()) < 0.04
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)):
        inside = (predicted >= low) & (predicted <= high)
        assert abs(predicted[inside].mean() - true[inside].mean()) < 0.1
    assert np.abs(predicted - true).mean() < 0.12


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_wrong_labels_cost_no_more_than_they_cost_a_neighbour_vote(share):
    X = points(400, random_state=1)[0]
    truth = (X[:, 0] > 0).astype(int)
    y = flipped(truth, share)
    queries = points(1000, random_state=2)[0]
    expected = queries[:, 0] > 0
    vote = KNeighborsClassifier(30).fit(X, y).score(queries, expected)
    assert MuyGPSClassifier().fit(X, y).score(queries, expected) > vote - 0.03


def test_works_in_a_pipeline_under_cross_validation():
    X, y = points(240, n_features=3)
    model = make_pipeline(StandardScaler(), MuyGPSClassifier())
    scores = cross_val_score(model, 1000 * X + 50, y, cv=3, error_score="raise")
    assert scores.min() > 0.8


def test_nearly_as_accurate_as_an_exact_gaussian_process():
    X, y = make_moons(600, noise=0.25, random_state=0)
    train, test = slice(0, 120), slice(120, None)
    exact = GaussianProcessClassifier(2.0 * Matern(nu=1.5), random_state=0).fit(X[train], y[train])
    ours = MuyGPSClassifier().fit(X[train], y[train])
    assert ours.score(X[test], y[test]) > exact.score(X[test], y[test]) - 0.02
    difference = ours.predict_proba(X[test]) - exact.predict_proba(X[test])
    assert np.abs(difference).mean() < 0.15


@pytest.mark.parametrize("smoothness", SMOOTHNESSES)
def test_each_prediction_is_scikit_learns_exact_regression_on_the_neighbours(smoothness):
    X, y = points()
    queries = 2 * points(20, random_state=1)[0]
    classifier = MuyGPSClassifier(nn_count=25, smoothness=smoothness).fit(X, y)
    mean, variance = classifier.posterior(queries)
    length_scale = classifier.length_scale_ * classifier.distance_unit_
    kernel = Matern(length_scale, length_scale_bounds="fixed", nu=smoothness)
    for row, query in enumerate(queries):
        nearest = np.argsort(np.linalg.norm(X - query, axis=1))[:25]
        exact = GaussianProcessRegressor(kernel, alpha=classifier.noise_, optimizer=None)
        exact.fit(X[nearest], 2.0 * y[nearest] - 1)
        exact_mean, exact_deviation = exact.predict(query[None], return_std=True)
        np.testing.assert_allclose(mean[row], exact_mean[0], atol=1e-6)
        np.testing.assert_allclose(
            variance[row], classifier.scale_ * exact_deviation[0] ** 2, atol=1e-6 * max(1, classifier.scale_)
        )


@pytest.mark.parametrize(("n_features", "copies"), [(1, 1), (2, 2), (2, 60), (400, 5)])
def test_training_never_conditions_a_point_on_itself(monkeypatch, n_features, copies):
    X, y = points(120 // copies, n_features)
    X, y = np.tile(X, (copies, 1)), np.tile(y, copies)
    watched = []

    def train(smoothness, points, targets, batch, distances, indices, unit):
        watched.append(indices)
        return trained(smoothness, points, targets, batch, distances, indices, unit)

    trained = training.train
    monkeypatch.setattr(training, "train", train)
    MuyGPSClassifier(nn_count=15, batch_count=len(X), random_state=8).fit(X, y)
    batch = check_random_state(8).choice(len(X), len(X), replace=False)
    (used,) = watched
    assert used.shape == (len(X), 15)
    assert not (used == batch[:, None]).any()
    assert all(len(set(row)) == 15 for row in used)
    distance = np.linalg.norm(X[used] - X[batch][:, None], axis=2).max(axis=1)
    everyone = np.sort(np.linalg.norm(X[batch][:, None] - X[None], axis=2), axis=1)
    np.testing.assert_allclose(distance, everyone[:, 15], atol=1e-6)  # the 0th is the point itself


def test_training_keeps_linear_algebra_to_one_thread(monkeypatch):
    threads = []

    def train(*system):
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return trained(*system)

    trained = training.train
    monkeypatch.setattr(training, "train", train)
    with threadpool_limits(2, user_api="blas"):
        MuyGPSClassifier().fit(*points(60))
    assert set(threads) == {1}


def test_duplicates_with_opposite_labels_are_told_to_be_noise():
    X = points(100)[0]
    twice = np.vstack([X, X])
    agreeing = MuyGPSClassifier().fit(twice, np.tile(halves(X, noise=0), 2))
    opposed = MuyGPSClassifier().fit(twice, np.repeat([0, 1], 100))
    assert agreeing.score(twice, np.tile(halves(X, noise=0), 2)) > 0.98
    np.testing.assert_allclose(opposed.predict_proba(X), 0.5, atol=0.15)


@pytest.mark.parametrize("smoothness", SMOOTHNESSES)
def test_variance_grows_away_from_the_data_up_to_the_prior(smoothness):
    X, y = points()
    classifier = MuyGPSClassifier(smoothness=smoothness).fit(X / np.abs(X).max(), y)
    radii = np.array([0, 2, 4, 8, 1e3])
    mean, variance = classifier.posterior(np.stack([radii, 0 * radii], axis=1))
    assert (np.diff(variance) >= -1e-9 * classifier.scale_).all()
    assert variance[0] < 0.5 * variance[-1]
    np.testing.assert_allclose(variance[-1], classifier.scale_, rtol=1e-3)
    np.testing.assert_allclose(mean[-1], 0, atol=1e-3)


def test_far_from_the_data_probabilities_are_undecided():
    X, y = points()
    classifier = MuyGPSClassifier().fit(X, y)
    near, far = classifier.predict_proba([[1.5, 0], [1e6, 0]])[:, 1]
    assert near > 0.9
    assert abs(far - 0.5) < 0.2


@pytest.mark.parametrize("random_state", range(2))
def test_noisier_labels_train_a_larger_noise(random_state):
    X = points(400, random_state=random_state)[0]
    truth = (X[:, 0] > 0).astype(int)
    noises = [MuyGPSClassifier().fit(X, flipped(truth, share)).noise_ for share in (0, 0.1, 0.3)]
    assert noises == sorted(noises)
    assert noises[-1] > 3 * noises[0]


def test_wrong_labels_widen_the_probabilities():
    X = points(400)[0]
    truth = (X[:, 0] > 0).astype(int)
    sure, unsure = (
        np.abs(MuyGPSClassifier().fit(X, labels).predict_proba(X)[:, 1] - 0.5).mean()
        for labels in (truth, flipped(truth, 0.2))
    )
    assert unsure < 0.8 * sure


def test_finer_structure_trains_a_shorter_length_scale():
    X = np.random.default_rng(0).uniform(size=(500, 1))
    coarse, fine = (
        MuyGPSClassifier().fit(X, (np.sin(2 * np.pi * waves * X[:, 0]) > 0).astype(int)).length_scale_
        for waves in (1, 20)
    )
    assert fine < coarse


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_leave_one_out_predictions_are_those_of_a_model_without_the_object(groups):
    X, y = points(60)
    model = MuyGPSClassifier(nn_count=10).fit(X, y, groups=groups)
    groups = np.arange(60) if groups is None else groups
    mean, variance = model.leave_one_out()
    state = model.get_state()
    for row in (0, 17, 59):
        rest = groups != groups[row]
        others = {name: state[name][rest] for name in ("points", "targets", "groups")}
        other = MuyGPSClassifier(nn_count=10).set_state(model.classes_, **(state | others))
        expected = other.posterior(X[[row]])
        np.testing.assert_allclose((mean[row], variance[row]), np.ravel(expected), atol=1e-8)


def test_a_model_that_is_given_back_its_state_leaves_the_same_objects_out():
    X, y = points(60)
    model = MuyGPSClassifier(nn_count=10).fit(X, y, groups=np.arange(60) // 3)
    again = MuyGPSClassifier(nn_count=10).set_state(model.classes_, **model.get_state())
    np.testing.assert_array_equal(again.leave_one_out(), model.leave_one_out())
