import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from ztf_sg import load_cutouts
from ztf_sg.evaluation import (
    accuracy_after_deferring,
    accuracy_by_magnitude,
    calibration_error,
    compare_classifiers,
    compare_data,
    confusion,
    contradicted_labels,
    learning_curve,
    leave_one_night_out,
    likeliest_class,
    magnitude_matched_weights,
    matched_accuracy,
    nights,
    random_halves,
    score_errors,
    scores,
    star_completeness,
    with_errors,
)

LABELS = np.repeat([0, 1], [60, 40])
MAGNITUDES = st.floats(12, 22)


@pytest.fixture
def blobs():
    """Return features and labels of two overlapping classes in random order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(LABELS)
    return rng.normal(size=(100, 2)) + 1.2 * labels[:, None], labels


class Spy(ClassifierMixin, BaseEstimator):
    """Writes down what every clone is trained and asked on; columns of X: row number, night."""

    trained, asked = [], []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.trained.append((X, y))
        return self

    def predict(self, X):
        self.asked.append(X)
        return np.zeros(len(X), dtype=int)

    def predict_proba(self, X):
        self.asked.append(X)
        galaxy = X[:, 0] / 1000
        return np.stack([1 - galaxy, galaxy], axis=1)


@pytest.fixture
def spy(monkeypatch):
    """Return a spy with empty notebooks."""
    monkeypatch.setattr(Spy, "trained", [])
    monkeypatch.setattr(Spy, "asked", [])
    return Spy()


@pytest.mark.parametrize("n_repeats", [1, 4])
def test_random_halves_are_disjoint_and_cover_everything(n_repeats):
    splits = random_halves(LABELS, n_repeats)
    assert len(splits) == n_repeats
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(100))
        assert len(train) == len(test) == 50


def test_random_halves_keep_the_share_of_each_class():
    for half in (rows for split in random_halves(LABELS) for rows in split):
        np.testing.assert_array_equal(np.bincount(LABELS[half]), [30, 20])


def test_random_halves_differ_from_each_other_and_by_random_state_alone():
    first, again, other = (random_halves(LABELS, 3, random_state=state) for state in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({tuple(sorted(train)) for train, _ in first}) == 3


def test_random_halves_take_labels_of_any_kind():
    halves = random_halves(["star", "galaxy"] * 5, 1)
    assert len(halves[0][0]) == 5


def test_nights_are_whole_days():
    found = nights([58738.0, 58738.49, 58738.999, 58739.01, "58740.5"])
    assert found.tolist() == [58738, 58738, 58738, 58739, 58740]
    assert np.issubdtype(found.dtype, np.integer)


def test_unseen_nights_are_never_trained_on(spy):
    rng = np.random.default_rng(0)
    night = rng.integers(58380, 58386, 100)
    X = np.stack([np.arange(100.0), night], axis=1)
    labels = rng.permutation(LABELS)
    probability = leave_one_night_out(spy, X, labels, night + rng.uniform(0.1, 0.5, 100))
    assert len(spy.trained) == len(spy.asked) == 6
    for (trained, taught), asked in zip(spy.trained, spy.asked, strict=True):
        assert len(set(asked[:, 1])) == 1
        assert not set(trained[:, 1]) & set(asked[:, 1])
        assert len(trained) + len(asked) == 100
        np.testing.assert_array_equal(taught, labels[trained[:, 0].astype(int)])
    np.testing.assert_allclose(probability, np.arange(100) / 1000)


def test_leaving_nights_out_leaves_the_given_classifier_untrained(spy):
    X = np.stack([np.arange(4.0), [1, 1, 2, 2]], axis=1)
    leave_one_night_out(spy, X, np.array([0, 1, 0, 1]), X[:, 1])
    assert not hasattr(spy, "classes_")


def test_one_night_alone_cannot_be_left_out(spy):
    with pytest.raises(ValueError, match="two nights.*58738"):
        leave_one_night_out(spy, np.zeros((100, 2)), LABELS, np.linspace(58738.1, 58738.9, 100))
    assert not spy.trained


class BrightPixels(ClassifierMixin, BaseEstimator):
    """Takes cutouts and calls the brighter ones stars."""

    def fit(self, cutouts, labels):
        assert len(cutouts) == len(labels)
        self.classes_ = np.unique(labels)
        self.threshold_ = np.median(cutouts.images.max(axis=(1, 2)))
        return self

    def predict(self, cutouts):
        return (cutouts.images.max(axis=(1, 2)) < self.threshold_).astype(int)

    def predict_proba(self, cutouts):
        galaxy = self.predict(cutouts)
        return np.stack([1 - galaxy, galaxy], axis=1)


def test_cutout_sets_can_be_evaluated(simulated_cutouts):
    cutouts = load_cutouts(simulated_cutouts)
    days = np.arange(len(cutouts)) % 3
    probability = leave_one_night_out(BrightPixels(), cutouts, cutouts.labels, days)
    assert set(probability) == {0, 1}
    table = compare_data({"cutouts": cutouts}, cutouts.labels, BrightPixels(), random_halves(cutouts.labels))
    curve = learning_curve(cutouts, cutouts.labels, BrightPixels(), [6, 12])
    assert table["accuracy"].between(0, 1).all() and curve["accuracy"].between(0, 1).all()


def by_hand(estimator, X, labels, splits):
    """Return accuracies over splits, written out."""
    return [(estimator.fit(X[a], labels[a]).predict(X[b]) == labels[b]).mean() for a, b in splits]


def test_compared_accuracies_are_means_over_the_splits(blobs):
    X, labels = blobs
    data = {"both": X, "one": X[:, :1], "poor": 0.1 * X + np.random.default_rng(1).normal(size=X.shape)}
    splits = random_halves(labels, 4)
    table = compare_data(data, labels, GaussianNB(), splits)
    assert list(table.columns) == ["data", "accuracy", "accuracy_std", "repeats"]
    assert table["data"].tolist() == list(data)
    assert table["repeats"].tolist() == [4, 4, 4]
    for row in table.itertuples():
        scores = by_hand(GaussianNB(), data[row.data], labels, splits)
        mean = sum(scores) / 4
        assert row.accuracy == pytest.approx(mean)
        assert row.accuracy_std == pytest.approx((sum((score - mean) ** 2 for score in scores) / 3) ** 0.5)
    assert table["accuracy"][0] > table["accuracy"][2]


def test_each_kind_of_data_can_have_its_own_classifier(blobs):
    X, labels = blobs
    own = {"near": KNeighborsClassifier(3), "any": DummyClassifier(strategy="constant", constant=0)}
    splits = random_halves(labels, 3)
    table = compare_data({"near": X, "any": X}, labels, own, splits).set_index("data")
    expected = np.mean(by_hand(KNeighborsClassifier(3), X, labels, splits))
    assert table.loc["near", "accuracy"] == pytest.approx(expected)
    assert table.loc["any", "accuracy"] == pytest.approx(0.6)
    assert table.loc["any", "accuracy_std"] == pytest.approx(0)
    assert not hasattr(own["near"], "classes_")


def test_one_split_has_no_scatter(blobs):
    table = compare_data({"X": blobs[0]}, blobs[1], GaussianNB(), random_halves(blobs[1], 1))
    assert table["accuracy_std"].tolist() == [0]


def test_learning_curve_trains_on_the_sizes_asked_for_and_tests_on_the_rest(spy, blobs):
    X = np.stack([np.arange(100.0), np.zeros(100)], axis=1)
    curve = learning_curve(X, blobs[1], spy, [10, np.int64(40), 98], n_repeats=3)
    assert [len(trained) for trained, _ in spy.trained] == [10] * 3 + [40] * 3 + [98] * 3
    for (trained, taught), asked in zip(spy.trained, spy.asked, strict=True):
        assert sorted([*trained[:, 0], *asked[:, 0]]) == list(range(100))
        np.testing.assert_array_equal(taught, blobs[1][trained[:, 0].astype(int)])
    assert list(curve.columns) == ["n_train", "accuracy", "accuracy_std", "repeats"]
    assert curve["n_train"].tolist() == [10, 40, 98]
    assert curve["repeats"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(curve["accuracy"][:2], 0.6)


def test_learning_curve_repeats_itself_by_random_state(blobs):
    first, again, other = (
        learning_curve(*blobs, GaussianNB(), [10, 20], random_state=state) for state in (3, 3, 4)
    )
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 1000])
def test_impossible_training_sizes_are_named(size, blobs):
    with pytest.raises(ValueError, match=f"train_sizes: {size} of 100"):
        learning_curve(*blobs, GaussianNB(), [10, size])


def test_confusion_has_true_classes_in_rows_and_predicted_ones_in_columns():
    counts = confusion([0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(counts, [[2, 1], [3, 1]])


def test_confusion_keeps_both_classes_when_one_is_absent():
    np.testing.assert_array_equal(confusion([0, 0], [0, 0]), [[2, 0], [0, 0]])


def histograms(magnitude, labels, weights, bin_width):
    """Return the weighted histogram of each class over the same bins."""
    bins = np.floor(np.asarray(magnitude) / bin_width)
    edges = np.arange(bins.min(), bins.max() + 2) - 0.5
    return [
        np.histogram(bins[labels == label], edges, weights=weights[labels == label])[0] for label in (0, 1)
    ]


@given(
    st.lists(st.tuples(MAGNITUDES, st.integers(0, 1)), min_size=2, max_size=60),
    st.sampled_from([0.25, 0.5, 1.0, 3.0]),
)
def test_matched_classes_have_the_same_weighted_histogram(objects, bin_width):
    magnitude, labels = (np.array(column) for column in zip(*objects, strict=True))
    bins = np.floor(magnitude / bin_width)
    assume(set(bins[labels == 0]) & set(bins[labels == 1]))
    weights = magnitude_matched_weights(magnitude, labels, bin_width)
    assert weights.shape == labels.shape
    assert ((weights >= 0) & (weights <= 1)).all()
    stars, galaxies = histograms(magnitude, labels, weights, bin_width)
    np.testing.assert_allclose(stars, galaxies)
    counts = histograms(magnitude, labels, np.ones(len(labels)), bin_width)
    np.testing.assert_allclose(stars, np.minimum(*counts))


def test_bins_of_one_class_weigh_nothing():
    weights = magnitude_matched_weights([15.1, 15.2, 17.1, 17.2, 17.3, 19.1], [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(weights, [0, 0, 1, 0.5, 0.5, 0])


def test_classes_without_a_common_bin_cannot_be_matched():
    with pytest.raises(ValueError, match="share no magnitude bin"):
        magnitude_matched_weights([15.1, 15.2, 19.1], [0, 0, 1])
    with pytest.raises(ValueError, match="share no magnitude bin"):
        magnitude_matched_weights([15.1, 15.2], [0, 0])


@pytest.mark.parametrize("labels", [[0, 1, -1, 1], [0, 1, 2, 1]])
def test_unknown_classes_cannot_be_matched(labels):
    with pytest.raises(ValueError, match="labels"):
        magnitude_matched_weights([17.1, 17.2, 17.3, 17.4], labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_unknown_magnitudes_cannot_be_matched(bad):
    with pytest.raises(ValueError, match="finite"):
        magnitude_matched_weights([17.1, 17.2, bad, 17.4], [0, 1, 0, 1])


@pytest.mark.parametrize("threshold", [17.5, 18.0, 18.1, 18.25])
def test_brightness_alone_earns_nothing_when_magnitudes_are_matched(threshold):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5000)
    magnitude = np.where(labels, rng.normal(18.5, 0.8, 10000), rng.normal(17, 1.4, 10000))
    predicted = (magnitude > threshold).astype(int)
    assert (predicted == labels).mean() > 0.7
    assert matched_accuracy(labels, predicted, magnitude) == pytest.approx(0.5, abs=0.03)


def test_matched_accuracy_of_a_perfect_and_an_inverted_classifier():
    rng = np.random.default_rng(0)
    labels, magnitude = rng.integers(0, 2, 200), rng.uniform(16, 19, 200)
    assert matched_accuracy(labels, labels, magnitude) == 1
    assert matched_accuracy(labels, 1 - labels, magnitude) == 0


def test_matched_accuracy_by_hand():
    magnitude = [17.1, 17.2, 17.3, 18.1, 18.2, 15.0]
    labels, predicted = [0, 1, 1, 0, 1, 0], [0, 1, 0, 1, 1, 1]
    # weights 1, 1/2, 1/2, 1, 1, 0: right are the first, the second and the fifth
    assert matched_accuracy(labels, predicted, magnitude) == pytest.approx(2.5 / 4)


def test_star_completeness_by_hand():
    labels = [0, 0, 0, 1, 0, 1, 1]
    probability = [0.01, 0.02, 0.03, 0.04, 0.05, 0.5, 0.9]
    assert star_completeness(labels, probability, 0) == 0.75
    assert star_completeness(labels, probability, 0.2) == 1.0
    assert star_completeness(labels, probability, 0.199) == 0.75


def test_objects_of_one_probability_are_in_a_sample_together():
    assert star_completeness([0, 1, 0], [0.2, 0.2, 0.2], 0.1) == 0
    assert star_completeness([0, 0, 1], [0.1, 0.2, 0.2], 0) == 0.5


def test_a_sample_without_stars_has_no_completeness():
    assert star_completeness([1, 1], [0.1, 0.2], 0.5) == 0


def test_calibration_error_by_hand():
    labels, probability = [0, 1, 1, 1], [0.05, 0.05, 0.95, 1.0]
    assert calibration_error(labels, probability) == pytest.approx((abs(0.1 - 1) + abs(1.95 - 2)) / 4)


@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_true_frequencies_are_calibrated_and_boasts_are_not(n_bins):
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    labels = (rng.random(20_000) < probability).astype(int)
    assert calibration_error(labels, probability, n_bins) < 0.02
    assert calibration_error(labels, np.round(probability), 10) > 0.2


def test_deferring_leaves_out_the_least_sure():
    labels, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.55, 0.45, 0.9])
    assert accuracy_after_deferring(labels, probability, 0) == 0.5
    assert accuracy_after_deferring(labels, probability, 0.5) == 1.0


def test_scores_of_a_perfect_classifier():
    labels, magnitude = np.arange(40) % 2, np.linspace(16, 16.4, 40)
    found = scores(labels, labels.astype(float), magnitude)
    assert found.pop("ece") == found.pop("brier") == 0
    assert set(found.values()) == {1.0}
    errors = score_errors(labels, labels.astype(float), magnitude, n_repeats=5)
    assert set(errors) == {*found, "ece", "brier"}
    assert set(errors.values()) == {0.0}


def test_classes_without_common_magnitudes_have_no_matched_accuracy():
    found = scores([0, 0, 1], [0.1, 0.2, 0.9], [14.0, 15.0, 19.0])
    assert np.isnan(found["matched"])
    assert found["accuracy"] == 1


def test_score_errors_are_those_of_counts():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    probability = np.where(rng.random(400) < 0.9, labels, 1 - labels).astype(float)
    magnitude = np.full(400, 17.0)
    error = score_errors(labels, probability, magnitude, n_repeats=200)["accuracy"]
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 400), rel=0.2)
    assert error == score_errors(labels, probability, magnitude, n_repeats=200)["accuracy"]


def test_classifiers_are_compared_on_unseen_nights(blobs):
    X, labels = blobs
    obsmjd, magnitude = 58000 + np.arange(len(X)) % 4, np.full(len(X), 17.0)
    classifiers = {
        ("blobs", "3-NN"): (X, KNeighborsClassifier(3)),
        ("blobs", "1-NN"): (X, KNeighborsClassifier(1)),
    }
    table, probabilities = compare_classifiers(classifiers, labels, obsmjd, magnitude)
    assert table["classifier"].tolist() == ["3-NN", "1-NN"]
    expected = leave_one_night_out(KNeighborsClassifier(3), X, labels, obsmjd)
    np.testing.assert_array_equal(probabilities["blobs", "3-NN"], expected)
    assert table["accuracy"][0] == np.mean((expected > 0.5) == labels)
    assert (table[["fit_s", "predict_s", "accuracy_err"]] >= 0).all(axis=None)
    text = with_errors(table)
    assert list(text)[:3] == ["data", "classifier", "accuracy"]
    assert text["accuracy"].str.fullmatch(r"\d\.\d{3} ± \d\.\d{3}").all()


def test_labels_are_suspect_only_if_all_contradict_them():
    labels = [0, 0, 1, 1]
    first, second = [0.9, 0.9, 0.1, 0.9], [0.8, 0.2, 0.3, 0.9]
    assert contradicted_labels(labels, [first, second]).tolist() == [0, 2]


def test_accuracy_by_magnitude_by_hand():
    magnitude = [15.2, 15.4, 16.1, 17.5]
    table = accuracy_by_magnitude([0, 1, 1, 0], [0, 0, 1, 0], magnitude, [15, 16, 17])
    assert table["magnitude"].tolist() == pytest.approx([15.3, 16.1])
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["count"].tolist() == [2, 1]
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] <= table["high"])).all()


def test_likelier_class_weighs_the_image_with_the_frequencies():
    magnitude = np.repeat([15.1, 19.1], 10)
    labels = np.repeat([0, 1, 0, 1], [9, 1, 1, 9])
    assert likeliest_class(np.zeros(20), magnitude, labels).tolist() == [0] * 10 + [1] * 10
    assert likeliest_class(np.full(20, 5.0), magnitude, labels).all()
    assert not likeliest_class(np.full(20, -5.0), magnitude, labels).any()
