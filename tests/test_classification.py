import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, modules_after, run_python
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeaveOneGroupOut,
    StratifiedShuffleSplit,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)

from ztf_sg import CutoutSet, StarGalaxyClassifier, load_cutouts
from ztf_sg.cutouts.schema import BOUNDS
from ztf_sg.features import measure_features


@pytest.fixture(scope="module")
def bundle():
    return load_cutouts(ROOT / "cutouts_test")


@pytest.fixture(scope="module")
def halves(bundle):
    """Return one half of the bundle and the other."""
    train, test = split(bundle.labels)
    return bundle[train], bundle[test]


def split(labels):
    """Return the rows of two halves with the same share of each class."""
    return next(StratifiedShuffleSplit(1, test_size=0.5, random_state=0).split(labels, labels))


@pytest.fixture(scope="module")
def trained(halves):
    """Return a classifier trained on the first half."""
    return StarGalaxyClassifier().fit(halves[0], halves[0].labels)


@pytest.fixture(scope="module")
def ready():
    return StarGalaxyClassifier.pretrained()


@pytest.fixture(scope="module")
def few(bundle):
    """Return 60 stars and 60 galaxies."""
    return bundle[np.r_[:60, len(bundle) - 60 : len(bundle)]]


def relabelled(cutouts, labels):
    return CutoutSet(cutouts.images, np.asarray(labels, dtype=np.int8), cutouts.table)


def test_training_returns_the_classifier(few):
    classifier = StarGalaxyClassifier()
    assert classifier.fit(few, few.labels) is classifier
    assert classifier.classes_.tolist() == [0, 1]


def test_the_labels_of_the_set_are_used_when_none_are_given(few):
    given, own = (StarGalaxyClassifier(nn_count=15).fit(few, labels) for labels in (few.labels, None))
    np.testing.assert_array_equal(own.predict_proba(few), given.predict_proba(few))


def test_given_labels_win_over_those_of_the_set(few):
    unknown = relabelled(few, np.full(len(few), -1))
    expected = StarGalaxyClassifier(nn_count=15).fit(few).predict_proba(few)
    found = StarGalaxyClassifier(nn_count=15).fit(unknown, few.labels.tolist()).predict_proba(unknown)
    np.testing.assert_array_equal(found, expected)


def test_predictions_are_stars_and_galaxies(trained, halves):
    predicted = trained.predict(halves[1])
    assert predicted.shape == (len(halves[1]),)
    assert set(predicted) == {0, 1}


def test_probabilities_sum_to_one_and_agree_with_the_prediction(trained, halves):
    probabilities = trained.predict_proba(halves[1])
    assert probabilities.shape == (len(halves[1]), 2)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), trained.predict(halves[1]))


def test_the_first_column_is_star_and_the_second_galaxy(trained, halves):
    star, galaxy = trained.predict_proba(halves[1]).T
    assert star[halves[1].labels == 0].mean() > 0.9
    assert galaxy[halves[1].labels == 1].mean() > 0.9


def test_the_posterior_leans_to_the_predicted_class_and_its_variance_is_not_negative(trained, halves):
    mean, variance = trained.posterior(halves[1])
    np.testing.assert_array_equal(mean > 0, trained.predict(halves[1]) == 1)
    assert mean.shape == variance.shape == (len(halves[1]),)
    assert np.isfinite(variance).all() and (variance >= 0).all()


def test_one_half_of_the_bundle_teaches_the_other(trained, halves):
    assert trained.score(halves[1], halves[1].labels) > 0.95


def test_uncertain_objects_are_wrong_more_often(trained, halves):
    probability = trained.predict_proba(halves[1]).max(axis=1)
    wrong = trained.predict(halves[1]) != halves[1].labels
    assert wrong[probability < 0.9].mean() > 3 * wrong[probability > 0.99].mean()


@pytest.mark.slow
def test_unseen_nights_of_real_cutouts_are_classified(real_cutouts):
    cutouts = load_cutouts(real_cutouts)
    options = {"groups": nights_of(cutouts), "cv": GroupKFold(2)}
    predicted = cross_val_predict(StarGalaxyClassifier(), cutouts, cutouts.labels, **options)
    assert np.mean(predicted == cutouts.labels) > 0.98


def nights_of(cutouts):
    return np.floor(cutouts.table["obsmjd"]).astype(int)


def test_a_prediction_does_not_depend_on_its_company(trained, halves):
    some = halves[1][:20]
    alone = np.vstack([trained.predict_proba(some[row]) for row in range(20)])
    np.testing.assert_allclose(alone, trained.predict_proba(some), atol=1e-4)


def test_log_ratio_knows_neither_the_share_of_galaxies_that_is_wanted_nor_that_of_the_training_set(few):
    model = StarGalaxyClassifier(nn_count=15).fit(few[:90])
    features = model.features(few)
    found = model.classify_features(features, 0.0)
    assert model.training_fraction_ == pytest.approx(2 / 3)
    np.testing.assert_allclose(expit(found["log_ratio"] + np.log(2)), found["p_galaxy"], rtol=1e-9)
    model.galaxy_fraction = 0.5
    even = model.classify_features(features, 0.0)
    np.testing.assert_array_equal(even["log_ratio"], found["log_ratio"])
    np.testing.assert_allclose(expit(even["log_ratio"]), even["p_galaxy"], rtol=1e-9)


def test_training_twice_gives_the_same(few):
    once, twice = (StarGalaxyClassifier(nn_count=15).fit(few).predict_proba(few) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_training_leaves_the_cutouts_alone(few):
    images, labels, table = few.images.copy(), few.labels.copy(), few.table.copy()
    StarGalaxyClassifier(nn_count=15).fit(few).predict(few)
    np.testing.assert_array_equal(few.images, images)
    np.testing.assert_array_equal(few.labels, labels)
    assert few.table.equals(table)


def test_clones_keep_parameters_and_drop_what_was_learned(few):
    fitted = StarGalaxyClassifier(nn_count=20, random_state=3).fit(few)
    copy = clone(fitted)
    assert copy.get_params() == {"nn_count": 20, "galaxy_fraction": None, "random_state": 3}
    with pytest.raises(NotFittedError):
        copy.predict(few)
    assert fitted.pipeline_[-1].nn_count_ == 20


def test_pickles_predict_the_same(trained, halves):
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(again.predict_proba(halves[1]), trained.predict_proba(halves[1]))


def test_odd_cutouts_are_classified_all_the_same(trained, few):
    images = few.images.copy()
    images[0], images[1], images[2] = 0, 60000, -1e6
    images[3, 9, 9] = 1e8
    probabilities = trained.predict_proba(CutoutSet(images, few.labels, few.table))
    assert np.isfinite(probabilities).all()


@st.composite
def judged_sets(draw):
    """Return sets of two cutouts with any pixels and header values that are not refused."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    images = draw(hnp.arrays(np.float32, (2, *shape), elements=finite))
    header = {key.lower(): draw(st.floats(*bounds[:2])) for key, bounds in BOUNDS.items()}
    return CutoutSet(images, [0, 1], pd.DataFrame(header, index=range(2)))


@given(cutouts=judged_sets())
def test_whatever_is_not_refused_has_finite_features_and_probabilities(cutouts):
    assert np.isfinite(measure_features(cutouts)).all(axis=None)
    probabilities = StarGalaxyClassifier.pretrained().predict_proba(cutouts)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_unknown_labels_are_named(few):
    labels = few.labels.copy()
    labels[5] = -1
    for arguments in ((few, labels), (relabelled(few, labels),)):
        with pytest.raises(ValueError, match="must be 0 .star. or 1 .galaxy., got -1, 0, 1"):
            StarGalaxyClassifier().fit(*arguments)


@pytest.mark.parametrize("labels", [[0, 1], np.zeros((120, 1)), 0])
def test_labels_must_be_one_a_cutout(few, labels):
    with pytest.raises(ValueError, match=r"labels: expected shape \(120,\)"):
        StarGalaxyClassifier().fit(few, labels)


BAD_LABELS = {
    "masked": (np.ma.masked_equal(np.arange(120) % 3, 2), "labels: 40 values are masked"),
    "missing": (pd.array([pd.NA, *[0, 1] * 59, 1], dtype="Int8"), "labels: 1 values are masked"),
    "NaN": (np.where(np.arange(120) < 9, np.nan, 1), "got 1.0, nan"),
    "floats": (np.linspace(0, 1, 120), "got 0.0, "),
    "names": (np.repeat(["star", "galaxy"], 60), "got 'galaxy', 'star'"),
    "digits": (np.repeat(["0", "1"], 60), "got '0', '1'"),
    "None": ([None, *[0, 1] * 59, 1], "None"),
    "signs": (np.repeat([-1, 1], 60), "got -1, 1; .* leaves out unknown ones"),
    "complex": (np.repeat([0j, 1], 60), "0j"),
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_of_another_kind_are_named(few, labels):
    with pytest.raises(ValueError, match=labels[1]) as raised:
        StarGalaxyClassifier().fit(few, labels[0])
    assert str(raised.value).startswith("labels")


@pytest.mark.parametrize(
    "labels", [np.float64, np.bool_, np.uint8, np.ndarray.tolist, pd.Series, np.ma.masked_array]
)
def test_zeros_and_ones_of_any_kind_are_labels(few, labels):
    model = StarGalaxyClassifier(nn_count=15).fit(few, labels(few.labels))
    assert model.training_fraction_ == 0.5
    assert model.score(few, few.labels) > 0.9


def test_one_cutout_is_too_few_to_train_on(few):
    with pytest.raises(ValueError, match="1 sample.*minimum of 2"):
        StarGalaxyClassifier().fit(few[:1])


@pytest.mark.parametrize("n", [2, 3, 10])
def test_few_cutouts_train_with_a_warning(few, n):
    some = few[60 - n // 2 : 60 - n // 2 + n]
    with pytest.warns(UserWarning, match=f"nn_count=50 needs more than {n} training points; using {n - 1}"):
        model = StarGalaxyClassifier().fit(some)
    assert np.isfinite(model.predict_proba(some)).all()
    with pytest.warns(UserWarning, match="all objects are ambiguous"):
        assert model.ambiguous(some).all()


@pytest.mark.parametrize("nn_count", [True, "30", 2.0, 0])
def test_an_impossible_number_of_neighbours_is_named(few, nn_count):
    with pytest.raises(ValueError, match=f"nn_count: expected an integer >= 1, got {nn_count!r}"):
        StarGalaxyClassifier(nn_count).fit(few)


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_is_named(few, label):
    with pytest.raises(ValueError, match="two classes"):
        StarGalaxyClassifier().fit(few, np.full(len(few), label))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "posterior"])
def test_an_untrained_classifier_says_so(few, method):
    with pytest.raises(NotFittedError):
        getattr(StarGalaxyClassifier(), method)(few)


def test_an_empty_set_is_named(trained, few):
    nothing = few[np.zeros(len(few), dtype=bool)]
    for method in (trained.predict, trained.predict_proba, trained.posterior, StarGalaxyClassifier().fit):
        with pytest.raises(ValueError, match="no cutouts"):
            method(nothing)


@pytest.mark.filterwarnings("ignore:.*outside of what the classifier was trained on")
def test_the_pretrained_classifier_knows_the_bundle(bundle):
    ready = StarGalaxyClassifier.pretrained()
    assert ready.training_fraction_ == 0.5
    assert np.mean(ready.predict(bundle) == bundle.labels) >= 0.98


@pytest.mark.filterwarnings("ignore:.*outside of what the classifier was trained on")
def test_the_pretrained_classifier_knows_real_cutouts(real_cutouts):
    cutouts = load_cutouts(real_cutouts)
    right = StarGalaxyClassifier.pretrained().predict(cutouts) == cutouts.labels
    assert right.mean() >= 0.98


def test_intervals_widen_with_the_care_that_is_asked_for(trained, halves):
    scales = [trained.confidence_threshold(error) for error in (0.5, 0.01, 0.0075)]
    assert scales[0] == 0
    assert np.all(np.diff(scales) > 0)
    deferred = [trained.ambiguous(halves[1], error).mean() for error in (0.5, 0.01, 0.0075)]
    assert deferred[0] == 0
    assert np.all(np.diff(deferred) > 0)


class TestSharesThatTheTrainingSetCannotShow:
    @pytest.mark.parametrize("max_error", [0.01, 0.005, 0.0075, 0.5])
    def test_usual_ones_are_no_such(self, ready, bundle, max_error):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="max_error")
            unsure = ready.ambiguous(bundle[::5], max_error)
        assert unsure.mean() < 0.4

    @pytest.mark.parametrize("max_error", [1e-4, 1e-300, 0, 0.0])
    @pytest.mark.filterwarnings("ignore:.*outside of what the classifier was trained on")
    def test_smaller_ones_warn_and_make_all_objects_ambiguous(self, ready, bundle, max_error):
        text = r"20000 training objects can .* below 0\.00.*0\.\d\d% of"
        for _ in range(2):
            with pytest.warns(UserWarning, match=text):
                assert ready.ambiguous(bundle[::50], max_error).all()
        with pytest.warns(UserWarning, match=f"max_error={max_error:g}:"):
            assert ready.confidence_threshold(max_error) == np.inf

    def test_the_smallest_share_that_the_warning_names_can_be_asked_for(self, trained, halves):
        for model in (trained, StarGalaxyClassifier.pretrained()):
            with pytest.warns(UserWarning, match="no share of wrong answers below") as seen:
                model.confidence_threshold(1e-6)
            least = float(str(seen[0].message).split("below ")[1].split(",")[0])
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*all objects are ambiguous")
                assert np.isfinite(model.confidence_threshold(least))

    def test_few_training_objects_show_no_small_one(self, few):
        some = few[::2]
        model = StarGalaxyClassifier(nn_count=10).fit(some)
        with pytest.warns(UserWarning, match="the 60 training objects can show no .* below 0.01"):
            assert model.ambiguous(some).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not model.ambiguous(some, 0.1).all()

    def test_one_below_the_share_of_wrong_labels_is_doubted(self, ready, halves):
        text = r"^max_error=0\.002: about 0\.\d\d% of the training labels seem wrong"
        with pytest.warns(UserWarning, match=text):
            careful = ready.confidence_threshold(0.002)
        assert ready.confidence_threshold(0.01) < careful < np.inf
        with pytest.warns(UserWarning, match=text):
            assert 0.1 < ready.ambiguous(halves[1], 0.002).mean() < 1


def test_the_training_set_has_no_more_false_decisions_than_asked_for(trained):
    mean, variance = trained.pipeline_[-1].leave_one_out()
    targets = trained.pipeline_[-1].get_state()["targets"]
    probability = trained.pipeline_[-1].probability(mean, variance)
    for error in (0.0075, 0.01):
        decided = np.maximum(probability, 1 - probability) > trained.confidence_threshold(error)
        assert np.mean((mean * targets < 0)[decided]) <= error
        assert 0 < decided.sum() < len(decided)


def test_what_is_not_ambiguous_is_right_more_often(trained, halves):
    unsure = trained.ambiguous(halves[1], max_error=0.01)
    right = trained.predict(halves[1]) == halves[1].labels
    assert 0 < unsure.mean() < 0.3
    assert right[~unsure].mean() > 0.985 > right[unsure].mean()


def test_saturated_objects_that_seem_to_be_galaxies_are_ambiguous(trained, halves):
    features = trained.features(halves[1])
    sure = trained.classify_features(features, 0.5)
    saturated = trained.classify_features(features.assign(saturated=True), 0.5)
    galaxy = sure["class"] == 1
    assert not sure["ambiguous"][galaxy].all()
    assert saturated["ambiguous"][galaxy].all()
    np.testing.assert_array_equal(saturated["ambiguous"][~galaxy], sure["ambiguous"][~galaxy])


def test_objects_whose_class_the_share_of_galaxies_changes_are_ambiguous(halves):
    rare = StarGalaxyClassifier(galaxy_fraction=0.02).fit(halves[0])
    mean, _ = rare.posterior(halves[1])
    changed = (mean > 0) != (rare.predict(halves[1]) == 1)
    assert changed.any()
    assert rare.ambiguous(halves[1])[changed].all()


@pytest.mark.parametrize(
    "share", [-0.1, 1.0, 2, np.nan, np.inf, "0.01", True, False, None, [0.01], np.array(0.01), 0.1j], ids=repr
)
def test_impossible_shares_of_false_decisions_are_named(trained, few, share):
    for method in (lambda: trained.ambiguous(few, share), lambda: trained.confidence_threshold(share)):
        with pytest.raises(ValueError, match="max_error: expected a number of at least 0 and below 1, got"):
            method()


METHODS = ("predict", "predict_proba", "posterior", "ambiguous")


def with_columns(cutouts, **columns):
    return CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(**columns))


class TestTrainingRange:
    """The bundled cutouts have a seeing of 1.4 to 1.8 px."""

    def test_it_is_that_of_the_training_set(self, few):
        model = StarGalaxyClassifier(nn_count=15).fit(few)
        snr = 10 ** measure_features(few, ["log_snr"])["log_snr"]
        assert model.ranges_["S/N"] == pytest.approx((snr.min(), snr.max()))
        assert model.ranges_["seeing"] == (few.table["seeing"].min(), few.table["seeing"].max())
        model.fit(with_columns(few, seeing=3.0))
        assert model.ranges_["seeing"] == (3, 3)

    @pytest.mark.parametrize("method", METHODS)
    def test_cutouts_outside_are_warned_of_once_a_call(self, trained, few, method):
        mixed = with_columns(few[:30], seeing=[6.1, 7.0, *few.table["seeing"][2:30]])
        text = r"^2 of 30 cutouts are outside of .*: seeing 6.1 to 7.0 px \(trained on 1.4 to 1.8 px\); their"
        for _ in range(2):
            with pytest.warns(UserWarning, match=text) as seen:
                getattr(trained, method)(mixed)
            assert len(seen) == 1
            assert seen[0].filename == __file__

    @pytest.mark.parametrize("method", METHODS)
    def test_those_within_it_or_next_to_it_are_not_warned_of(self, trained, few, method):
        low, high = trained.ranges_["seeing"]
        seeing = [low, high, 0.91 * low, 1.09 * high]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(trained, method)(with_columns(few[:4], seeing=seeing, filter="ZTF_g"))

    def test_they_are_ambiguous_however_sure_the_classifier_is(self, trained, few):
        seeing = np.where(np.arange(120) % 2, 9.0, few.table["seeing"])
        features = trained.features(with_columns(few, seeing=seeing))
        found = trained.classify_features(features, threshold=0.0)
        assert found["outside"].tolist() == [False, True] * 60
        assert found["ambiguous"].tolist() == [False, True] * 60

    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    def test_fainter_and_brighter_ones_are_outside(self, trained, few, factor):
        features = trained.features(few)
        features["log_snr"] += np.log10(factor)
        assert trained.classify_features(features, 0.0)["outside"].all()
        assert trained.summarize_outside(features)["outside"] == 120

    def test_few_real_cutouts_of_the_band_are_outside_and_only_faint_ones(self, real_cutouts):
        cutouts, ready = load_cutouts(real_cutouts), StarGalaxyClassifier.pretrained()
        summary = ready.summarize_outside(ready.features(cutouts))
        assert summary["outside"] < 0.015 * len(cutouts)
        assert summary["ranges"]["S/N"][1] < ready.ranges_["S/N"][0]
        assert "seeing" not in summary["ranges"]


class TestShareOfEachObject:
    @pytest.fixture
    def model(self, few):
        return StarGalaxyClassifier(nn_count=15, galaxy_fraction="fraction").fit(few)

    def test_column_gives_what_numbers_give(self, model, few):
        shares = np.tile([0.1, 0.5, 0.9], 40)
        cutouts = with_columns(few, fraction=shares)
        expected = np.empty((120, 2))
        unsure = np.empty(120, dtype=bool)
        for share in (0.1, 0.5, 0.9):
            alone = clone(model).set_params(galaxy_fraction=share).fit(few)
            expected[shares == share] = alone.predict_proba(few)[shares == share]
            unsure[shares == share] = alone.ambiguous(few, 0.1)[shares == share]
        np.testing.assert_allclose(model.predict_proba(cutouts), expected, rtol=1e-12)
        np.testing.assert_array_equal(model.predict(cutouts), expected[:, 1] > 0.5)
        np.testing.assert_array_equal(model.ambiguous(cutouts, 0.1), unsure)

    def test_column_is_not_needed_to_train(self, model, few):
        assert model.training_fraction_ == 0.5
        with pytest.raises(ValueError, match="lacks the column; add it, such as cutouts.table"):
            model.predict(few)

    @pytest.mark.parametrize("bad", [np.nan, 0.0, 1.0, -0.2, 1.5, None, "many", True, pd.NA], ids=repr)
    def test_rows_of_impossible_shares_are_named(self, model, few, bad):
        column = pd.Series([0.3] * 120, dtype=object)
        column[[3, 7]] = bad
        cutouts = with_columns(few, fraction=column)
        for method in (model.predict, model.predict_proba, model.ambiguous, model.features):
            with pytest.raises(ValueError, match=r"'fraction': 2 of 120 values .* \(rows 3, 7\); mend them"):
                method(cutouts)

    def test_masked_shares_are_named(self, model, few):
        shares = np.ma.masked_array(np.full(120, 0.3), np.arange(120) == 5)
        with pytest.raises(ValueError, match=r"1 of 120 values .* \(rows 5\)"):
            model.predict(with_columns(few, fraction=shares))


def test_a_share_of_galaxies_moves_the_probabilities_by_bayes(few):
    plain = StarGalaxyClassifier(nn_count=15).fit(few).predict_proba(few)
    same = StarGalaxyClassifier(nn_count=15, galaxy_fraction=0.5).fit(few).predict_proba(few)
    np.testing.assert_allclose(same, plain, atol=1e-12)
    rare = StarGalaxyClassifier(nn_count=15, galaxy_fraction=0.1).fit(few).predict_proba(few)
    odds, expected = rare[:, 1] / rare[:, 0], plain[:, 1] / plain[:, 0] / 9
    np.testing.assert_allclose(odds, expected, rtol=1e-6)
    np.testing.assert_allclose(rare.sum(axis=1), 1)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_few_galaxies_in_training_are_made_up_for(bundle):
    galaxies, stars = np.flatnonzero(bundle.labels == 1), np.flatnonzero(bundle.labels == 0)
    train = bundle[np.r_[galaxies[:75], stars[:600]]]
    test = bundle[np.r_[galaxies[-150:], stars[-150:]]]
    found = {
        share: np.mean(StarGalaxyClassifier(galaxy_fraction=share).fit(train).predict(test) == test.labels)
        for share in (None, 0.5)
    }
    assert found[0.5] >= found[None]
    assert found[0.5] > 0.93


@pytest.mark.parametrize("share", [0, 1, -1, 1.5, np.nan, True, [0.5], b"share"])
def test_impossible_shares_of_galaxies_are_named(few, share):
    with pytest.raises(ValueError, match="galaxy_fraction"):
        StarGalaxyClassifier(galaxy_fraction=share).fit(few)


class TestModelSelection:
    """scikit-learn's tools take cutouts for X."""

    def test_cross_validation_scores_cutouts(self, few):
        for labels in (few.labels, few.labels.tolist()):
            scores = cross_val_score(StarGalaxyClassifier(15), few, labels, cv=3, error_score="raise")
            assert scores.min() > 0.8

    @pytest.mark.slow
    def test_left_out_nights_are_predicted_as_by_hand(self, bundle):
        some, classifier = bundle[::4], StarGalaxyClassifier(20)
        nights, expected = nights_of(some), np.empty((len(some), 2))
        assert nights.nunique() > 5
        for night in nights.unique():
            rest = clone(classifier).fit(some[nights != night], some.labels[nights != night])
            expected[nights == night] = rest.predict_proba(some[nights == night])
        options = {"groups": nights, "cv": LeaveOneGroupOut(), "method": "predict_proba"}
        found = cross_val_predict(classifier, some, some.labels, **options)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

    def test_more_cutouts_are_learned_from(self, few):
        sizes, train, test = learning_curve(
            StarGalaxyClassifier(10),
            few,
            few.labels,
            train_sizes=[20, 80],
            cv=3,
            shuffle=True,
            random_state=0,
        )
        assert sizes.tolist() == [20, 80]
        assert train.shape == test.shape == (2, 3)
        assert np.isfinite(test).all()

    def test_parameters_are_searched(self, few):
        search = GridSearchCV(StarGalaxyClassifier(), {"nn_count": [5, 20]}, cv=3, error_score="raise")
        search.fit(few, few.labels)
        assert search.best_params_["nn_count"] in (5, 20)
        assert search.predict(few).shape == (len(few),)

    def test_cutouts_are_split_with_their_labels(self, few):
        train, test, train_labels, test_labels = train_test_split(few, few.labels, random_state=0)
        assert isinstance(train, CutoutSet) and isinstance(test, CutoutSet)
        np.testing.assert_array_equal(train.labels, train_labels)
        np.testing.assert_array_equal(test.labels, test_labels)


class TestImports:
    unwanted = {"galsim", "MuyGPyS"}

    def test_predicting_loads_nothing_that_only_training_or_the_simulation_needs(self, tmp_path):
        code = f"""
import sys
from ztf_sg import StarGalaxyClassifier, load_cutouts
cutouts = load_cutouts({str(ROOT / "cutouts_test")!r})[:5]
print(StarGalaxyClassifier.pretrained().predict_proba(cutouts).shape, {self.unwanted} & set(sys.modules))
"""
        assert run_python(code, tmp_path).strip() == "(5, 2) set()"

    def test_training_does_not_load_the_simulation(self, tmp_path):
        loaded = modules_after(["ztf_sg.muygps", "ztf_sg.muygps.training"], tmp_path)
        assert not loaded["ztf_sg.muygps"] & self.unwanted
        assert loaded["ztf_sg.muygps.training"] & self.unwanted == {"MuyGPyS"}
