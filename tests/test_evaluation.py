from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import write_cutout
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_curve
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from ztf_sg import load_cutouts
from ztf_sg.cutouts import BUNDLED_CUTOUTS
from ztf_sg.evaluation import (
    accuracy_after_deferring,
    accuracy_by_magnitude,
    accuracy_by_seeing,
    calibration_error,
    compare_classifiers,
    contradicted_labels,
    describe_data,
    draw_per_class,
    held_out_thirds,
    likeliest_class,
    magnitude_bins,
    magnitude_matched_weights,
    matched_accuracy,
    nights,
    paired_over_objects,
    paired_over_splits,
    read_truth,
    score_errors,
    scores,
    share_with_interval,
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


def test_nights_are_whole_days():
    found = nights([58738.0, 58738.49, 58738.999, 59739.01 - 1000, "58740.5"])
    assert found.tolist() == [58738, 58738, 58738, 58739, 58740]
    assert np.issubdtype(found.dtype, np.integer)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_missing_dates_are_named(bad):
    with pytest.raises(ValueError, match=r"2 of 4 dates are not finite \(rows 1, 3\)"):
        nights([58738.1, bad, 58739.2, bad])
    with pytest.raises(ValueError, match=r"rows 0, 1, 2, 3, 4, \.\.\."):
        nights([bad] * 6)


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


def test_cutout_sets_are_classified_by_what_has_not_seen_their_group(simulated_cutouts):
    cutouts = load_cutouts(simulated_cutouts)
    groups, magnitude = np.arange(len(cutouts)) % 3, np.full(len(cutouts), 17.0)
    classifiers = {("cutouts", "bright pixels"): (cutouts, BrightPixels())}
    _, probabilities = compare_classifiers(classifiers, cutouts.labels, groups, magnitude)
    for group in range(3):
        seen, new = cutouts[groups != group], cutouts[groups == group]
        expected = BrightPixels().fit(seen, seen.labels).predict(new)
        np.testing.assert_array_equal(probabilities["cutouts", "bright pixels"][groups == group], expected)


def histograms(magnitude, labels, weights):
    """Return the weighted histogram of each class over the same bins."""
    bins = np.floor(np.asarray(magnitude) / 0.5)
    edges = np.arange(bins.min(), bins.max() + 2) - 0.5
    return [
        np.histogram(bins[labels == label], edges, weights=weights[labels == label])[0] for label in (0, 1)
    ]


@given(st.lists(st.tuples(MAGNITUDES, st.integers(0, 1)), min_size=2, max_size=60))
def test_matched_classes_have_the_same_weighted_histogram(objects):
    magnitude, labels = (np.array(column) for column in zip(*objects, strict=True))
    bins = np.floor(magnitude / 0.5)
    assume(set(bins[labels == 0]) & set(bins[labels == 1]))
    weights = magnitude_matched_weights(magnitude, labels)
    assert weights.shape == labels.shape
    assert ((weights >= 0) & (weights <= 1)).all()
    stars, galaxies = histograms(magnitude, labels, weights)
    np.testing.assert_allclose(stars, galaxies)
    counts = histograms(magnitude, labels, np.ones(len(labels)))
    np.testing.assert_allclose(stars, np.minimum(*counts))


def test_bins_of_one_class_weigh_nothing():
    weights = magnitude_matched_weights([15.1, 15.2, 17.1, 17.2, 17.3, 19.1], [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(weights, [0, 0, 1, 0.5, 0.5, 0])


def test_classes_without_a_common_bin_cannot_be_matched():
    with pytest.raises(ValueError, match="share no bin"):
        magnitude_matched_weights([15.1, 15.2, 19.1], [0, 0, 1])
    with pytest.raises(ValueError, match="share no bin"):
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
    assert star_completeness(labels, probability, 1 / 3) == 1.0
    assert star_completeness(labels, probability, 0.33) == 0.75


def test_star_completeness_counts_galaxies_and_no_stars():
    """Tachibana & Miller limit the share of the galaxies, not that of galaxies in the sample of stars."""
    galaxies = np.linspace(0, 1, 200)  # of which one may be taken for a star
    stars = np.full(7, 0.001)
    for copies in (1, 50):
        few = np.tile(stars, copies)
        labels = np.repeat([0, 1], [len(few), 200])
        assert star_completeness(labels, np.concatenate([few, galaxies])) == 1.0
        assert star_completeness(labels, np.concatenate([few + 0.007, galaxies])) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=60), st.floats(0, 1))
def test_star_completeness_is_a_point_of_the_roc_curve(objects, rate):
    labels, probability = np.array(objects).T
    assume(0 < labels.sum() < len(labels))
    false_positive, true_positive, _ = roc_curve(labels == 0, -probability, drop_intermediate=False)
    expected = true_positive[false_positive <= rate + 1e-12].max()
    assert star_completeness(labels, probability, rate) == pytest.approx(expected)


@pytest.mark.parametrize("rate, n", [(0.29, 100), (0.07, 100), (0.005, 600)])
def test_rounding_costs_no_galaxy(rate, n):
    allowed = round(rate * n)
    probability = np.r_[np.arange(n), allowed - 0.5]
    assert star_completeness(np.r_[np.ones(n), 0], probability, rate) == 1


def test_objects_of_one_probability_are_in_a_sample_together():
    assert star_completeness([0, 1, 0], [0.2, 0.2, 0.2], 0.1) == 0
    assert star_completeness([0, 0, 1], [0.1, 0.2, 0.2], 0) == 0.5


def test_a_sample_of_one_class_has_all_stars_or_none():
    assert star_completeness([1, 1], [0.1, 0.2], 0.5) == 0
    assert star_completeness([0, 0], [0.1, 0.9]) == 1


def test_calibration_error_by_hand():
    labels, probability = [0, 1, 1, 1], [0.05, 0.05, 0.95, 1.0]
    assert calibration_error(labels, probability) == pytest.approx((abs(0.1 - 1) + abs(1.95 - 2)) / 4)


def test_true_frequencies_are_calibrated_and_boasts_are_not():
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    labels = (rng.random(20_000) < probability).astype(int)
    assert calibration_error(labels, probability) < 0.02
    assert calibration_error(labels, np.round(probability)) > 0.2


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


def test_what_cannot_be_had_is_a_dash():
    columns = {"data": ["x"], "classifier": ["y"], "matched": [np.nan], "matched_err": [np.nan]}
    assert with_errors(pd.DataFrame(columns))["matched"].tolist() == ["-"]


def test_one_cutout_is_described_in_the_singular(tmp_path):
    write_cutout(tmp_path / "star_1.fits")
    (tmp_path / "star_2.fits").write_bytes(b"no FITS")
    first, second, third = describe_data(load_cutouts(tmp_path, on_error="skip")).splitlines()
    assert first == "1 cutout of 20 x 20 px: 1 star, 0 galaxies, 0 unknown"
    assert second.startswith("1 night; filter ZTF_i; origin: ")
    assert third.startswith("1 file left out; the first: ")


class TestHeldOutThirds:
    def test_nights_stay_together(self):
        obsmjd = 58000 + np.arange(90) // 15 + 0.2
        thirds, what = held_out_thirds(obsmjd, np.arange(90) % 2)
        assert what == "unseen nights"
        assert thirds.tolist() == ((np.arange(90) // 15) % 3).tolist()

    @pytest.mark.parametrize(
        "night",
        [np.zeros(90), np.where(np.arange(90) < 66, 0, np.arange(90) % 3), np.arange(90) % 2],
        ids=["one night", "the rest is less than a third", "a class is missing from the rest"],
    )
    def test_thirds_at_random_have_both_classes(self, night):
        labels = np.arange(90) % 2
        thirds, what = held_out_thirds(58000.2 + night, labels)
        assert what == "thirds at random"
        assert np.bincount(3 * labels + thirds).tolist() == [15] * 6


@pytest.mark.parametrize("largest, count", [(30, 5), (3, 3)])
def test_draws_have_as_many_of_both_classes(largest, count):
    labels = np.repeat([0, 1, -1], [200, 5, 9])
    rows = draw_per_class(labels, largest, np.random.default_rng(0))
    assert len(set(rows)) == len(rows)
    assert np.bincount(labels[rows]).tolist() == [count, count]


class TestTruth:
    def test_rows_come_in_the_order_of_the_names(self):
        names = ["star_7", "galaxy_3"]
        assert read_truth(BUNDLED_CUTOUTS, names).index.tolist() == names

    def test_a_file_that_lacks_names_or_columns_tells_no_truth(self, tmp_path):
        assert read_truth(tmp_path, ["star_7"]) is None
        assert read_truth(BUNDLED_CUTOUTS, ["star_7", "star_7000"]) is None
        pd.DataFrame({"name": ["star_7"]}).to_csv(tmp_path / "truth.csv")
        assert read_truth(tmp_path, ["star_7"]) is None


@pytest.mark.parametrize("magnitude", [np.linspace(14.2, 20.1, 50), np.full(3, 17.0)])
def test_bins_of_half_a_magnitude_hold_nearly_all(magnitude):
    edges = magnitude_bins(magnitude)
    np.testing.assert_allclose(np.diff(edges), 0.5)
    np.testing.assert_allclose(edges % 0.5, 0)
    assert np.mean((magnitude >= edges[0]) & (magnitude <= edges[-1])) >= 0.96


def test_score_errors_are_those_of_counts():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    probability = np.where(rng.random(400) < 0.9, labels, 1 - labels).astype(float)
    magnitude = np.full(400, 17.0)
    error = score_errors(labels, probability, magnitude, n_repeats=200)["accuracy"]
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 400), rel=0.2)
    assert error == score_errors(labels, probability, magnitude, n_repeats=200)["accuracy"]


def test_classifiers_are_compared_on_unseen_groups(blobs):
    X, labels = blobs
    groups, magnitude = np.arange(len(X)) % 4, np.full(len(X), 17.0)
    classifiers = {("blobs", f"{k}-NN"): (X, KNeighborsClassifier(k)) for k in (3, 1)}
    table, probabilities = compare_classifiers(classifiers, labels, groups, magnitude)
    assert table["classifier"].tolist() == ["3-NN", "1-NN"]
    unseen = {"groups": groups, "cv": LeaveOneGroupOut(), "method": "predict_proba"}
    expected = cross_val_predict(KNeighborsClassifier(3), X, labels, **unseen)[:, 1]
    np.testing.assert_array_equal(probabilities["blobs", "3-NN"], expected)
    assert table["accuracy"][0] == np.mean((expected > 0.5) == labels)
    assert (table[["fit_s", "predict_s", "accuracy_err"]] >= 0).all(axis=None)
    assert not hasattr(classifiers["blobs", "3-NN"][1], "classes_")
    text = with_errors(table)
    assert list(text)[:3] == ["data", "classifier", "accuracy"]
    assert text["accuracy"].str.fullmatch(r"\d\.\d{3} ± \d\.\d{3}").all()


def test_paired_differences_between_splits_ignore_what_the_splits_have_in_common():
    luck = np.array([0.02, -0.01, 0.03, -0.04])
    accuracies = pd.DataFrame({"a": 0.9 + luck, "b": 0.89 + luck + [0.001, -0.001, 0.001, -0.001]})
    table = paired_over_splits(accuracies, "a", test_share=0.5)
    assert table.loc["a", ["difference", "error"]].tolist() == [0, 0]
    assert table["difference"]["b"] == pytest.approx(-0.01)
    assert table["error"]["b"] == pytest.approx(np.std([1, -1, 1, -1], ddof=1) / 1000 * np.sqrt(1 / 4 + 1))
    assert table["error"]["b"] < table["std"]["b"] / 10


def test_paired_differences_between_objects_are_those_of_discordant_ones():
    right = pd.DataFrame({"a": [True] * 90 + [False] * 10, "b": [False] * 4 + [True] * 87 + [False] * 9})
    table = paired_over_objects(right, "a")
    assert table["mean"].tolist() == [0.9, 0.87]
    assert table["difference"]["b"] == pytest.approx((1 - 4) / 100)
    assert table["error"]["b"] == pytest.approx(np.sqrt((1 + 4) / 100 - 0.03**2) / 10, rel=0.01)  # McNemar


def test_shares_are_written_with_counts_and_interval():
    assert share_with_interval(0, 0) == "0 of 0"
    assert share_with_interval(5, 100) == "5 of 100, 5.00 % (3.23 to 7.66 %)"


def test_one_group_alone_cannot_be_left_out(blobs):
    classifiers = {("blobs", "3-NN"): (blobs[0], KNeighborsClassifier(3))}
    with pytest.raises(ValueError, match="fewer than 2 unique groups"):
        compare_classifiers(classifiers, blobs[1], np.zeros(100), np.full(100, 17.0))


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


def test_accuracy_by_magnitude_counts_objects_on_every_edge_once():
    table = accuracy_by_magnitude([0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [15, 15.5, 16, 17, 17.1], [15, 16, 17])
    assert table["count"].tolist() == [3, 1]
    assert table["magnitude"].tolist() == [15.5, 17]


def test_accuracy_by_seeing_keeps_filters_and_classes_apart():
    table = pd.DataFrame({"filter": ["ZTF_r"] * 4 + ["ZTF_g"], "seeing": [1.2, 1.4, 1.4, 3.0, 2.5]})
    cutouts = SimpleNamespace(labels=np.array([0, 0, 1, 1, 0]), table=table)
    found = accuracy_by_seeing(cutouts, [0, 1, 1, 0, 0], [1, 2, 4]).set_index(["filter", "label"])
    assert found.loc[("ZTF_r", 0), "seeing"] == pytest.approx(1.3)
    assert found.loc[("ZTF_r", 0), "accuracy"] == 0.5
    assert found.loc[("ZTF_r", 1), "accuracy"].tolist() == [1.0, 0.0]
    assert found.loc[("ZTF_g", 0), "count"] == 1
    assert ((found["low"] <= found["accuracy"]) & (found["accuracy"] <= found["high"] + 1e-9)).all()


def test_likelier_class_weighs_the_image_with_the_frequencies():
    magnitude = np.repeat([15.1, 19.1], 10)
    labels = np.repeat([0, 1, 0, 1], [9, 1, 1, 9])
    assert likeliest_class(np.zeros(20), magnitude, labels).tolist() == [0] * 10 + [1] * 10
    assert likeliest_class(np.full(20, 5.0), magnitude, labels).all()
    assert not likeliest_class(np.full(20, -5.0), magnitude, labels).any()
    with pytest.raises(ValueError, match="finite"):
        likeliest_class(np.zeros(20), np.append(magnitude[1:], np.nan), labels)
