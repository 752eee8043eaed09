import runpy

import pytest
from helpers import ROOT

BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "unseen_psfs.py"))


@pytest.fixture(scope="module")
def model():
    return BENCHMARK["train_on"](None, images=20, per_image=8, seed=0, n_jobs=1)


@pytest.mark.slow
def test_stars_stay_stars_if_the_psf_is_of_another_kind(model):
    row = BENCHMARK["compare"](
        BENCHMARK["core_and_halo"], model, train=12, test=10, per_image=8, seed=0, n_jobs=1
    )
    assert row["stars"] > 20
    assert row["share"] < 0.1
    assert row["right"] > row["rival"] - 0.08
