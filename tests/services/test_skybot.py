from functools import partial

import numpy as np
import pandas as pd
import pytest
from archives import ArchiveServer, point_clients_to
from archives.brokers import FIELD
from astropy.time import Time

from ztf_sg.services import skybot
from ztf_sg.services.errors import BadAnswer, Unreachable
from ztf_sg.services.retries import Retries
from ztf_sg.streaks.known_bodies import ENDS, explain

QUICK = partial(Retries, tries=4, first_wait=0.01, longest_wait=0.02, patience=5)
JD = 2459000.8
COLUMNS = "name number kind ra dec magnitude uncertainty rate position_angle " + " ".join(ENDS)


@pytest.fixture(scope="module")
def server():
    with ArchiveServer(n_images=1, stall=0.3) as server:
        yield server


@pytest.fixture
def archive(server, monkeypatch):
    point_clients_to(server.url, monkeypatch.setattr)
    monkeypatch.setattr(skybot, "TIMEOUT", 0.2)
    server.log.clear()
    yield server
    left = list(server.faults._injected)
    server.faults._injected.clear()
    assert not left


def bodies_in_field(*args, **options):
    return skybot.bodies_in_field(*args, **{"retries": QUICK(), **options})


def test_bodies_come_with_their_motion(archive):
    bodies = bodies_in_field(*FIELD, JD, 0.5)
    assert sorted(bodies.columns) == sorted(COLUMNS.split())
    assert bodies["name"].tolist() == ["Benoitcarry", "2019 RB21"]
    assert bodies["number"].fillna(-1).tolist() == [8467, -1]
    np.testing.assert_allclose(bodies["ra"], [FIELD[0] + 0.01, FIELD[0]], atol=1e-6)
    np.testing.assert_allclose(bodies["dec"], [FIELD[1], FIELD[1] + 0.02], atol=1e-6)
    np.testing.assert_allclose(bodies["rate"], [np.hypot(0.5, 0.2), np.hypot(20, 10)], rtol=1e-6)
    angles = np.degrees(np.arctan2([-30, 1200], [12, -600])) % 360
    np.testing.assert_allclose(bodies["position_angle"], angles, rtol=1e-6)
    np.testing.assert_allclose((bodies["dec_end"] - bodies["dec_start"]) * 3600, [0.1, -5], rtol=1e-4)
    east = (bodies["ra_end"] - bodies["ra_start"]) * 3600 * np.cos(np.radians(bodies["dec"]))
    np.testing.assert_allclose(east, [-0.25, 10], rtol=1e-4)


def test_the_question_is_of_palomar_and_the_time(archive):
    bodies_in_field(*FIELD, Time(JD, format="jd", scale="utc"), 0.5)
    (record,) = archive.log
    assert record.args["-loc"] == "I41"
    assert float(record.args["-ep"]) == pytest.approx(JD, abs=1e-9)
    assert float(record.args["-rd"]) == 0.5


def test_a_field_without_bodies_has_no_rows(archive):
    bodies = bodies_in_field(10.0, 10.0, JD, 0.1)
    assert len(bodies) == 0 and sorted(bodies.columns) == sorted(COLUMNS.split())
    assert explain(pd.DataFrame({"ra": [10.0], "dec": [10.0]}), bodies)["body"].isna().all()


def test_a_question_is_asked_once(archive, tmp_path):
    first = bodies_in_field(*FIELD, JD, 0.5, cache=tmp_path)
    second = bodies_in_field(*FIELD, JD, 0.5, cache=tmp_path)
    assert len(archive.log) == 1
    pd.testing.assert_frame_equal(first, second)


FAULTS = "reset timeout slow_drip truncated http500 http429 html200".split()


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_passed_by_asking_again(archive, fault):
    archive.inject(fault, times=2)
    assert len(bodies_in_field(*FIELD, JD, 0.5)) == 2


@pytest.mark.parametrize("fault, error", [("html200", BadAnswer), ("http503", Unreachable)])
def test_lasting_faults_are_errors(archive, fault, error):
    archive.inject(fault, times=4)
    with pytest.raises(error, match="SkyBoT.*try again later"):
        bodies_in_field(*FIELD, JD, 0.5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a", 0.0, JD, 1.0), "expected a position"),
        ((0.0, 91.0, JD, 1.0), "expected a position"),
        ((0.0, 0.0, "noon", 1.0), "a Julian date"),
        ((0.0, 0.0, 59000.5, 1.0), "one time from 1941"),
        ((0.0, 0.0, JD, 0.0), "radius"),
        ((0.0, 0.0, JD, 20.0), "at most 10 deg"),
    ],
)
def test_fields_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bodies_in_field(*arguments)


def test_a_detection_is_explained_by_the_body_on_whose_path_it_lies(archive):
    bodies = bodies_in_field(*FIELD, JD, 0.5)
    detections = pd.DataFrame(
        {
            "ra": [bodies["ra"][0], bodies["ra_end"][1], FIELD[0], bodies["ra"][0]],
            "dec": [bodies["dec"][0], bodies["dec_end"][1], FIELD[1] + 0.01, bodies["dec"][0]],
            "magpsf": [17.5, np.nan, 18.0, 20.5],
        },
        index=[5, 6, 7, 8],
    )
    explained = explain(detections, bodies)
    assert explained["body"].fillna("none").tolist() == ["Benoitcarry", "2019 RB21", "none", "none"]
    assert explained.index.tolist() == [5, 6, 7, 8]
    assert explained["separation"][5] == pytest.approx(0, abs=0.01)
    assert explained["magnitude_difference"][5] == pytest.approx(-0.1, abs=1e-5)


@pytest.mark.remote_data
def test_live_bodies_of_the_ecliptic():
    bodies = skybot.bodies_in_field(180.0, 0.0, 2459000.5, 0.5)
    assert len(bodies) > 3
