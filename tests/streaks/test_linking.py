import time

import numpy as np
import pandas as pd
import pytest

from ztf_sg.streaks import link_flashes, linking
from ztf_sg.streaks.linking import find_tracks

FIELD = 7 * 3600  # [arcsec]


def flashes(rng, step=21.0, steps=(0, 1, 2, 4, 5, 6, 8, 9, 11, 12), error=0.3):
    """Return flashes in the tangent plane [arcsec], at some whole steps."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.array(steps)[:, None] * step * np.array([np.cos(angle), np.sin(angle)])
    return line + rng.uniform(0.3, 0.7, 2) * FIELD + rng.normal(0, error, (len(steps), 2))


def sky(points, ra=10.0, dec=20.0):
    """Return a table of points [arcsec] near a position [deg]."""
    north = dec + (points[:, 1] - FIELD / 2) / 3600
    east = ra + (points[:, 0] - FIELD / 2) / 3600 / np.cos(np.radians(dec))
    return pd.DataFrame({"ra": east % 360, "dec": north})


@pytest.mark.parametrize("step", [9.0, 21.0, 150.0, 900.0])
@pytest.mark.parametrize("n_others", [0, 300])
def test_flashes_at_equal_steps_become_one_satellite(step, n_others):
    rng = np.random.default_rng(1)
    points = np.concatenate([flashes(rng, step), rng.uniform(0, FIELD, (n_others, 2))])
    linked = link_flashes(sky(points, ra=0.0, dec=1.0))
    assert linked["satellite"].tolist() == [0] * 10 + [-1] * n_others
    assert linked["step"][:10].tolist() in (
        [0, 1, 2, 4, 5, 6, 8, 9, 11, 12],
        [12, 11, 10, 8, 7, 6, 4, 3, 1, 0],
    )
    assert linked["spacing"][0] == pytest.approx(step, rel=0.01, abs=0.1)
    assert (linked["n_flashes"][:10] == 10).all() and (linked["n_flashes"][10:] == 0).all()
    assert 0.1 < linked["rms"][0] < 0.6 and linked["rms"][10:].isna().all()


def test_copies_of_flashes_are_flashes_of_the_same_satellite():
    rng = np.random.default_rng(1)
    points = np.concatenate([flashes(rng), rng.uniform(0, FIELD, (100, 2))])
    copies = np.concatenate([points, points[:40], points[:40] + 0.1])
    linked = link_flashes(sky(copies))
    columns = ["satellite", "step", "n_flashes"]
    assert linked["satellite"][:110].tolist() == [0] * 10 + [-1] * 100
    assert (linked["n_flashes"][:10] == 10).all() and linked["step"][:10].nunique() == 10
    for start in (110, 150):
        part = linked[columns][start : start + 40].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, linked[columns][:40])


def test_thousands_of_detections_of_one_star_do_not_hide_a_satellite():
    rng = np.random.default_rng(5)
    star = FIELD / 3 + rng.normal(0, 0.1, (10_000, 2))
    table = sky(np.concatenate([flashes(rng), star, rng.uniform(0, FIELD, (100, 2))]))
    start = time.perf_counter()
    linked = link_flashes(table)
    assert time.perf_counter() - start < 5, "all pairs of detections take half a minute"
    assert (linked["satellite"] == 0).sum() == 10


def test_what_is_no_table_is_refused():
    with pytest.raises(TypeError, match=r"expected a pandas.DataFrame, got dict"):
        link_flashes({"ra": [1.0], "dec": [2.0]})


def test_steps_are_the_smallest_at_which_flashes_are():
    rng = np.random.default_rng(2)
    points = flashes(rng, 30.0, (0, 2, 4, 6, 8, 9, 10, 12, 13))
    (track,) = find_tracks(points)
    assert track.spacing == pytest.approx(30, abs=0.3)
    assert len(track.members) == 9


def test_a_path_that_gains_speed_is_followed():
    steps = np.arange(25)
    along = 800.0 * steps + 2.1 * steps**2
    points = np.stack([along, 0.3 * along], axis=1) + np.random.default_rng(0).normal(0, 0.3, (25, 2))
    (track,) = find_tracks(points)
    assert track.steps.tolist() == steps.tolist()


def test_points_without_order_are_not_linked():
    assert find_tracks(np.random.default_rng(3).uniform(0, FIELD, (4000, 2))) == []


@pytest.mark.parametrize("n", [20, 60])
def test_points_on_a_line_without_equal_steps_are_not_linked(n):
    """Such as along a trail, or a bad column."""
    rng = np.random.default_rng(n)
    for _ in range(2):
        line = np.stack([np.full(n, 5000.0), rng.uniform(0, 3000, n)], axis=1) + rng.normal(0, 0.3, (n, 2))
        points = np.concatenate([line, rng.uniform(0, FIELD, (200, 2))])
        assert not find_tracks(points)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_detections_are_no_satellite(n):
    linked = link_flashes(sky(np.arange(2.0 * n).reshape(n, 2) * 20))
    assert linked["satellite"].tolist() == [-1] * n


def test_detections_at_one_position_are_no_satellite():
    assert (link_flashes(sky(np.full((50, 2), 1000.0)))["satellite"] == -1).all()


@pytest.mark.parametrize("keys", [["exposure"], ["jd", "fid"], ["jd"]])
def test_exposures_are_not_mixed(keys):
    rng = np.random.default_rng(4)
    table = sky(flashes(rng, 21.0, range(16)), dec=-30.0)
    for key in keys:
        table[key] = np.arange(16) % 2 if key == keys[0] else 1
    apart = link_flashes(table)
    assert set(apart["satellite"][::2]) == {0} and set(apart["satellite"][1::2]) == {1}
    assert apart["spacing"].to_numpy() == pytest.approx(42, abs=1)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(link_flashes(shuffled).sort_index()[["n_flashes"]], apart[["n_flashes"]])
    assert list(link_flashes(shuffled).index) == list(shuffled.index)


def test_across_ra_zero_and_at_the_pole():
    rng = np.random.default_rng(5)
    steps = np.arange(10)[:, None] * [15.0, 15.0] + rng.normal(0, 0.3, (10, 2))
    around_zero = pd.DataFrame({"ra": (steps[:, 0] - 70) / 3600 % 360, "dec": steps[:, 1] / 3600})
    assert (link_flashes(around_zero)["n_flashes"] == 10).all()
    x, y = (steps - 70).T / 206_265
    at_pole = pd.DataFrame({"ra": np.degrees(np.arctan2(y, x)) % 360, "dec": 90 - np.degrees(np.hypot(x, y))})
    assert (link_flashes(at_pole)["n_flashes"] == 10).all()


@pytest.mark.parametrize(
    "table, message",
    [
        (pd.DataFrame({"ra": [1.0]}), "lacks the columns dec"),
        (
            pd.DataFrame({"ra": [1.0, np.nan], "dec": 0.0}),
            "1 detections have no position, the first in row 1",
        ),
        (pd.DataFrame({"ra": np.linspace(0, 90, 5), "dec": 0.0, "exposure": 7}), "exposure = .*7.* 30 deg"),
    ],
)
def test_tables_that_cannot_be_of_exposures_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        link_flashes(table)


def test_lattice_of_points_ends_the_search(monkeypatch):
    """Each of its points is on many lines of equal steps, none of which is a surprise."""
    followed = []
    candidate = linking._candidate
    monkeypatch.setattr(linking, "_candidate", lambda *given: followed.append(1) or candidate(*given))
    monkeypatch.setattr(linking, "MOST_IN_VAIN", 5)
    lattice = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 20.0
    tracks = find_tracks(lattice)
    assert len(followed) == 5 + len(tracks)
