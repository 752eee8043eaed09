import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from ztf_sg import MovingObjectClassifier, StarGalaxyClassifier, Triplets, load_alerts
from ztf_sg.model_file import ModelFileError
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks import FEATURES
from ztf_sg.streaks.classifier import PRETRAINED
from ztf_sg.ztf import PIXEL_SCALE

CLEAR = ["asteroid", "trail", "train", "variable"]


@pytest.fixture(scope="module")
def pretrained():
    return MovingObjectClassifier.pretrained()


@pytest.fixture(scope="module")
def stamps():
    found = simulate_stamps(160, 9, CLEAR, n_jobs=1)
    whole = np.isfinite(found.science).any(axis=(1, 2)) & np.isfinite(found.template).any(axis=(1, 2))
    return found[whole & (found.table["snr"] > 10).to_numpy()]


def alone(stamps, name):
    return Triplets(**{name: getattr(stamps, name)}, table=stamps.table)


def test_clear_cases_are_told(pretrained, stamps):
    probabilities = pretrained.predict_proba(stamps)
    assert probabilities.shape == (len(stamps), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.mean(pretrained.predict(stamps) == stamps.labels) > 0.9
    np.testing.assert_array_equal(pretrained.predict(stamps), probabilities.argmax(axis=1))


def test_a_difference_image_alone_tells_satellites_and_says_what_is_lost(pretrained, stamps):
    with pytest.warns(UserWarning, match="have a difference image alone: lost is whether the template"):
        probabilities = pretrained.predict_proba(alone(stamps, "difference"))
    assert roc_auc_score(stamps.labels == 2, probabilities[:, 2]) > 0.95


def test_without_any_image_of_use_the_probabilities_are_the_class_fractions(stamps):
    model = MovingObjectClassifier.load(PRETRAINED).set_params(class_fractions=(8, 1, 1))
    with pytest.warns(UserWarning, match="have neither a science nor a difference image"):
        found = model.predict_proba(alone(stamps, "template"))
    np.testing.assert_allclose(found, np.tile([0.8, 0.1, 0.1], (len(stamps), 1)))


def test_class_fractions_change_the_odds_as_bayes_says(pretrained, stamps):
    alike = pretrained.predict_proba(stamps)
    wanted = (
        MovingObjectClassifier.load(PRETRAINED).set_params(class_fractions=[2, 1, 1]).predict_proba(stamps)
    )
    odds = [(found[:, 0] / found[:, 1]) for found in (alike, wanted)]
    np.testing.assert_allclose(odds[1], 2 * odds[0])


def test_class_fractions_may_be_as_large_as_numbers_are(pretrained, stamps):
    model = MovingObjectClassifier.load(PRETRAINED).set_params(class_fractions=(1e308, 1e308, 1e308))
    np.testing.assert_allclose(model.predict_proba(stamps[:4]), pretrained.predict_proba(stamps[:4]))


@pytest.mark.parametrize(
    "fractions",
    [(1, 1), (1, 0, 1), (1, np.nan, 1), (1, np.inf, 1), (10**400, 1, 1), 0.5, "abc", (1, True, 1)],
)
def test_wrong_class_fractions_are_named(stamps, tmp_path, fractions):
    model = MovingObjectClassifier.load(PRETRAINED).set_params(class_fractions=fractions)
    with pytest.raises(ValueError, match="class_fractions: expected 3 numbers above 0"):
        model.predict_proba(stamps[:1])
    with pytest.raises(ValueError, match="class_fractions: expected 3 numbers above 0"):
        model.save(tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


def test_a_model_is_trained_saved_and_loaded(stamps, tmp_path):
    model = clone(MovingObjectClassifier(nn_count=10)).fit(stamps)
    model.save(tmp_path / "model.npz")
    loaded = MovingObjectClassifier.load(tmp_path / "model.npz")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_allclose(model.predict_proba(stamps), loaded.predict_proba(stamps), atol=1e-9)
    assert loaded.confidence_threshold(0.1) == pytest.approx(model.confidence_threshold(0.1))
    assert np.mean(model.predict(stamps) == stamps.labels) > 0.9


def test_streaks_are_learned_apart_where_it_is_told_which_asteroids_are(tmp_path):
    stamps = simulate_stamps(160, 9, [*CLEAR, "streak"], n_jobs=1)
    is_streak = (stamps.table["length"] > 3).to_numpy()
    plain = MovingObjectClassifier(nn_count=10).fit(stamps)
    assert plain.describe(stamps, 0.1)["p_streak"].isna().all()
    model = MovingObjectClassifier(nn_count=10).fit(stamps, is_streak=is_streak)
    model.save(tmp_path / "model.npz")
    found = MovingObjectClassifier.load(tmp_path / "model.npz").describe(stamps, 0.1)
    pd.testing.assert_frame_equal(found, model.describe(stamps, 0.1), check_exact=False, atol=1e-9)
    np.testing.assert_allclose(found.filter(regex="^p_[^s]|p_sat").sum(axis=1), 1)
    assert (found["p_streak"] <= found["p_asteroid"]).all()
    asteroids = stamps.labels == 1
    assert roc_auc_score(is_streak[asteroids], found["p_streak"][asteroids]) > 0.9


@pytest.mark.parametrize(
    "is_streak, message",
    [
        ([True], "expected 4 of True and False"),
        ([0, 1, 0, 0], "expected 4 of True and False"),
        ([True, False, False, False], "is False of all asteroids"),
    ],
)
def test_wrong_streaks_are_named(stamps, is_streak, message):
    with pytest.raises(ValueError, match=f"is_streak: {message}"):
        MovingObjectClassifier().fit(stamps[:4], [0, 1, 1, 2], is_streak)


def test_stamps_that_train_no_model_for_some_images_are_named(stamps):
    model = MovingObjectClassifier(nn_count=10)
    with pytest.raises(ValueError, match="no other, asteroid, satellite has two of the three images"):
        model.fit(alone(stamps, "difference"), stamps.labels)
    with pytest.raises(NotFittedError):
        model.predict(stamps)
    science = np.where((stamps.labels == 2)[:, None, None], np.nan, stamps.science)
    with pytest.raises(ValueError, match="no satellite has a science image"):
        model.fit(Triplets(science, stamps.template, stamps.difference), stamps.labels)
    with pytest.raises(NotFittedError):
        model.predict(stamps)


def test_other_models_are_no_models_of_moving_objects(tmp_path):
    with pytest.raises(ModelFileError, match="expected a 'ztf_sg moving-object classifier"):
        MovingObjectClassifier.load(PRETRAINED.with_name("pretrained.npz"))
    with pytest.raises(ModelFileError, match="expected a 'ztf_sg star-galaxy classifier"):
        StarGalaxyClassifier.load(PRETRAINED)
    assert PRETRAINED.stat().st_size < 2.5e6


@pytest.mark.parametrize(
    "name, value, fault", [("labels", 4, "labels"), ("labels", 0.5, "labels"), ("odds", 1e9, "odds")]
)
def test_a_model_of_impossible_numbers_is_refused(tmp_path, name, value, fault):
    with np.load(PRETRAINED) as stored:
        arrays = dict(stored)
    arrays[f"all_{name}"] = arrays[f"all_{name}"].astype(float)
    arrays[f"all_{name}"][:3] = value
    np.savez(tmp_path / "damaged.npz", **arrays)
    with pytest.raises(ModelFileError, match=rf"damaged\.npz: no model that can be used \(its {fault}"):
        MovingObjectClassifier.load(tmp_path / "damaged.npz")


def test_a_model_of_other_features_must_be_trained_again(tmp_path):
    with np.load(PRETRAINED) as stored:
        arrays = dict(stored)
    description = json.loads(str(arrays["description"]))
    arrays["description"] = np.array(json.dumps(description | {"features": FEATURES[:-1]}))
    np.savez(tmp_path / "older.npz", **arrays)
    with pytest.raises(ModelFileError, match=r"older\.npz.*other features.*train it again"):
        MovingObjectClassifier.load(tmp_path / "older.npz")


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], "expected shape"),
        ([0, 1, 2, -1], "labels must be 0 .other., 1 .asteroid. or 2 .satellite., got .'-1'."),
        ([0, 1, 1, 0], "there is no stamp of class satellite"),
    ],
)
def test_wrong_labels_are_named(stamps, labels, message):
    with pytest.raises(ValueError, match=message):
        MovingObjectClassifier().fit(stamps[:4], labels)


def test_an_untrained_classifier_says_so(stamps):
    with pytest.raises(NotFittedError):
        MovingObjectClassifier().predict(stamps)


def test_motion_is_measured(pretrained):
    streaks = simulate_stamps(120, 3, ["streak"], n_jobs=1)
    truth = streaks.table
    clear = ((truth["length"] > 8) & (truth["length"] < 40) & (truth["snr"] > 20)).to_numpy()
    found, truth = pretrained.measure(streaks)[clear], truth[clear]
    assert clear.sum() > 8
    length = found["length"] / PIXEL_SCALE - truth["length"]
    assert length.abs().median() < 1
    angle = (found["angle"] - truth["angle"] + 90) % 180 - 90
    assert angle.abs().median() < 1
    np.testing.assert_allclose(found["rate"], 2 * found["length"])
    assert (found["free_ends"] == 2).mean() > 0.8
    assert (found["length_error"] > 0).all()
    np.testing.assert_allclose(pretrained.measure(streaks, exptime=60.0)["rate"][clear], found["rate"] / 2)


def test_stated_errors_hold_for_points_and_streaks_of_stars_that_are_not_round(pretrained):
    stamps = simulate_stamps(160, 6, ["asteroid", "streak"], n_jobs=1)
    truth = stamps.table
    clear = ((truth["length"] < 20) & (truth["snr"] > 16) & ~truth["beside"]).to_numpy()
    found, truth = pretrained.measure(stamps)[clear], truth[clear]
    length = (found["length"] / PIXEL_SCALE - truth["length"]) * PIXEL_SCALE / found["length_error"]
    assert length.abs().quantile(0.9) < 3
    long = truth["length"] > 5
    angle = ((found["angle"] - truth["angle"] + 90) % 180 - 90) / found["angle_error"]
    assert clear.sum() > 50 and long.sum() > 5
    assert angle[long].abs().quantile(0.8) < 2
    assert found["length_error"][long].median() < 1
    assert found["length_error"][~long].max() < 5
    assert length[truth["length"] < 0.5].quantile(0.68) < 1.2


def test_magnitudes_need_a_zero_point(pretrained):
    points = simulate_stamps(40, 4, ["asteroid"], n_jobs=1)
    clear = (points.table["snr"] > 15).to_numpy()
    found = pretrained.measure(points)[clear]
    assert (found["magnitude"] - points.table["magpsf"][clear]).abs().median() < 0.15
    bare = Triplets(points.science, points.template, points.difference)
    assert pretrained.measure(bare)["magnitude"].isna().all()


def test_the_period_of_flashes_is_measured(pretrained):
    trains = simulate_stamps(80, 6, ["train"], n_jobs=1)
    clear = (trains.table["snr"] > 20) & trains.table["period"].between(10, 25)
    found = pretrained.measure(trains)[clear.to_numpy()]
    seen = found["flashes"] > 1
    assert seen.mean() > 0.5
    ratio = (found["period"] / PIXEL_SCALE / trains.table["period"][clear.to_numpy()])[seen]
    assert abs(ratio.median() - 1) < 0.1


def test_streaks_are_told_from_points_and_from_stars(pretrained):
    points, streaks, stars = (
        simulate_stamps(100, 12, [kind], n_jobs=1) for kind in ("asteroid", "streak", "variable")
    )
    found = pretrained.describe(streaks)
    assert (found["p_streak"] <= found["p_asteroid"]).all()
    clear = ((streaks.table["length"] > 8) & (streaks.table["snr"] > 10)).to_numpy()
    assert clear.sum() > 20
    assert np.mean(found["p_streak"][clear] > 0.7) > 0.8
    assert pretrained.describe(points)["p_streak"].median() < 0.1
    assert pretrained.describe(stars)["p_streak"].median() < 0.02


def test_a_star_beside_a_trail_is_other_with_a_trail(pretrained):
    stars = simulate_stamps(24, 7, ["variable"], n_jobs=1)
    y, x = np.indices((63, 63))
    noise = 1.4826 * np.nanmedian(np.abs(stars.difference - np.nanmedian(stars.difference)))
    trail = (4 * noise * np.exp(-0.5 * ((y - 0.4 * x - 4) / 1.4) ** 2)).astype(np.float32)
    both = Triplets(stars.science + trail, stars.template, stars.difference + trail, table=stars.table)
    assert pretrained.trail(both).mean() > 0.8
    assert pretrained.trail(stars).mean() < 0.1


@pytest.mark.parametrize("exptime", [0, -1.0, np.nan, np.inf, "30"])
def test_wrong_exposure_times_are_named(pretrained, stamps, exptime):
    with pytest.raises(ValueError, match="exptime: expected a number above 0"):
        pretrained.measure(stamps, exptime)


def test_ambiguous_stamps_are_wrong_more_often(pretrained, stamps):
    ambiguous = pretrained.ambiguous(stamps)
    wrong = pretrained.predict(stamps) != stamps.labels
    assert ambiguous.shape == (len(stamps),)
    assert 0 < ambiguous.mean() < 0.7
    assert wrong[ambiguous].mean() > wrong[~ambiguous].mean()
    with pytest.raises(ValueError, match="max_error: expected a number"):
        pretrained.ambiguous(stamps, max_error=1)


def test_real_stamps_are_told(pretrained):
    folder = os.environ.get("ZTF_SG_REAL_ALERTS")
    if not folder:
        pytest.skip("needs real alerts: set ZTF_SG_REAL_ALERTS to a folder with alerts.parquet")
    real = load_alerts(os.path.join(folder, "alerts.parquet"))
    probabilities = pretrained.predict_proba(real)
    called = probabilities.argmax(axis=1)
    assert roc_auc_score(real.labels == 1, probabilities[:, 1]) > 0.995
    assert np.sum(called[real.labels == 2] == 1) == 0
    glints = np.load(os.path.join(folder, "glints_8bit.npz"))
    trails = glints["label"] == "satellite"
    images = np.where(glints["mask"], glints["stamp"].astype(np.float32), np.nan)[trails]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert np.sum(pretrained.predict(Triplets(difference=images)) == 2) >= 16


def test_confidence_threshold_follows_the_class_fractions():
    model = MovingObjectClassifier.pretrained()
    alike = model.confidence_threshold(0.05)
    assert model.set_params(class_fractions=[0.9, 0.09, 0.01]).confidence_threshold(0.05) != alike
