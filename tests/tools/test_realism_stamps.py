import numpy as np
import pandas as pd
import pytest
import realism_stamps

from ztf_sg import Triplets
from ztf_sg.simulation.stamps import simulate_stamps


@pytest.fixture(scope="module")
def asteroids():
    return realism_stamps.complete(simulate_stamps(24, seed=3, kinds=["asteroid"], n_jobs=1))


def test_measures_are_finite_and_do_not_depend_on_counts(asteroids):
    measures = realism_stamps.describe_stamps(asteroids)
    scaled = Triplets(*(3 * getattr(asteroids, name) + 50 for name in ("science", "template", "difference")))
    assert np.isfinite(measures.to_numpy(dtype=float)).all()
    np.testing.assert_allclose(realism_stamps.describe_stamps(scaled), measures, rtol=0.02, atol=0.02)


def test_measures_tell_asteroids_from_stars(asteroids):
    stars = realism_stamps.complete(simulate_stamps(24, seed=3, kinds=["variable"], n_jobs=1))
    light = [realism_stamps.describe_stamps(s)["template_light_2.5"].median() for s in (stars, asteroids)]
    assert light[0] > light[1] + 2


def test_alerts_are_read_as_stamps_with_their_labels(tmp_path, asteroids):
    columns = {name: [image.ravel() for image in getattr(asteroids, name)] for name in realism_stamps.IMAGES}
    pd.DataFrame({"label": "asteroid", "jd": 1.0, **columns}).to_parquet(tmp_path / "alerts.parquet")
    read = realism_stamps.read_real(tmp_path)
    np.testing.assert_array_equal(read.difference, asteroids.difference)
    assert set(read.table["label"]) == {"asteroid"}


def test_figure_shows_both(tmp_path, asteroids):
    real = Triplets(asteroids.science, asteroids.template, asteroids.difference)
    real.table["label"] = "asteroid"
    realism_stamps.draw(real, {"asteroid": asteroids}, tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 10_000
