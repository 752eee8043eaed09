import numpy as np
import pandas as pd
import pytest
import realism
import two_sample
from helpers import ROOT

from ztf_sg import load_cutouts
from ztf_sg.simulation import parameters


@pytest.fixture(scope="module")
def bundled():
    """Return every fifth bundled cutout."""
    return load_cutouts(ROOT / "cutouts_test")[::5]


def table(rng, count, shift=0.0, per_image=5):
    """Return a table of two features of some objects."""
    values = pd.DataFrame(rng.normal(shift, 1, (count, 2)), columns=["size", "ellipticity"])
    return values.assign(image=[f"{shift} {row // per_image}" for row in range(count)])


def test_sets_that_are_alike_cannot_be_told_apart(monkeypatch):
    monkeypatch.setattr(two_sample, "DRAWS", 1)
    rng = np.random.default_rng(0)
    scores = two_sample.compare(table(rng, 150, 3.0), table(rng, 120), table(rng, 100))
    assert scores["simulated"] > 0.95
    assert 0.35 < scores["floor"] < 0.65
    assert scores["excess"] == pytest.approx(scores["simulated"] - scores["floor"])


def test_recognised_images_do_not_help():
    rng = np.random.default_rng(0)
    sets = [table(rng, 100), table(rng, 100)]
    for number, one in enumerate(sets):  # each image has a value of its own, which says nothing of others
        one["image"] = one["image"] + str(number)
        one["size"] = one["image"].map({name: rng.normal() for name in one["image"].unique()})
    assert two_sample.auc(*sets) < 0.7


def test_features_are_finite_and_stars_grow_as_their_image_says(bundled):
    features = two_sample.describe(bundled)
    assert np.isfinite(features.drop(columns="image").to_numpy()).all()
    stars = features[bundled.labels == 0]
    assert stars[["growth_2", "growth_3", "growth_4", "growth_10"]].median().abs().max() < 0.02
    assert "growth_2" in two_sample.telling_features(features[bundled.labels == 1], stars, count=60)


def test_halves_of_nights_share_no_night():
    night = np.repeat(np.arange(6), [100, 90, 5, 4, 3, 2])
    for seed in range(5):
        half = realism.half_of_nights(night, np.random.default_rng(seed))
        assert not set(night[half]) & set(night[~half])
        assert half[night == 0].all() != half[night == 1].all()  # the large ones are in different halves


def test_parameters_of_a_simulation_are_put_back(monkeypatch):
    seen = []
    monkeypatch.setattr(realism, "simulate", lambda *_: seen.append(parameters.NOISE_EXCESS))
    monkeypatch.setattr(realism, "load_cutouts", lambda _: "cutouts")
    usual = parameters.NOISE_EXCESS
    assert realism.simulate_with({"NOISE_EXCESS": 2.0}, seed=1) == "cutouts"
    assert seen == [2.0]
    assert usual == parameters.NOISE_EXCESS


def test_summary_gives_the_error_of_the_mean():
    scores = pd.DataFrame({"simulated": [0.7, 0.8], "floor": [0.7, 0.7], "excess": [0.0, 0.1]})
    assert "excess +0.050 +- 0.050" in two_sample.summary("star, i", scores)
