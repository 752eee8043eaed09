from functools import partial

import numpy as np
import pytest
from archives import ArchiveServer, point_clients_to

from ztf_sg import load_alerts
from ztf_sg.services import fink
from ztf_sg.services.errors import BadAnswer, NothingFound, ServiceError, Stopped, Unreachable
from ztf_sg.services.retries import Retries
from ztf_sg.streaks import write_alerts

QUICK = partial(Retries, tries=4, first_wait=0.01, longest_wait=0.02, patience=5)
FIRST, SECOND = "ZTF18aaaaaaa", "ZTF19bbbbbbb"


@pytest.fixture(scope="module")
def server():
    with ArchiveServer(n_images=1, stall=0.3) as server:
        yield server


@pytest.fixture
def archive(server, monkeypatch):
    point_clients_to(server.url, monkeypatch.setattr)
    monkeypatch.setattr(fink, "TIMEOUT", 0.2)
    server.log.clear()
    yield server
    left = list(server.faults._injected)
    server.faults._injected.clear()
    assert not left


def fetch_alerts(names, **options):
    return fink.fetch_alerts(names, **{"retries": QUICK(), **options})


def check(stamps, server):
    """See that all stamps and numbers are those of the archive."""
    alerts = {each["i:candid"]: each for each in server.brokers.alerts}
    for row, candid in enumerate(stamps.table["candid"]):
        for images, truth in zip(
            (stamps.science, stamps.template, stamps.difference), server.brokers.stamps(candid), strict=True
        ):
            np.testing.assert_array_equal(images[row], truth)
        for key in ("jd", "fid", "ra", "dec", "magpsf", "fwhm", "magzpsci", "isdiffpos", "objectId"):
            assert stamps.table[key][row] == alerts[candid][f"i:{key}"]


def test_alerts_of_an_object_come_with_their_stamps(archive):
    stamps = fetch_alerts(FIRST)
    assert stamps.table["objectId"].tolist() == [FIRST] * 3
    assert stamps.labels.tolist() == [-1] * 3
    check(stamps, archive)
    assert [record.path.rpartition("/")[2] for record in archive.log] == ["objects"] + ["cutouts"] * 3


def test_alerts_of_bodies_are_labelled_where_they_are_near_the_predicted_position(archive):
    stamps = fetch_alerts(["8467", "Vesta", "10P", SECOND])
    assert stamps.labels.tolist() == [1, -1, 1, -1, 0, -1, -1, -1, -1]
    assert stamps.table["asked"].tolist() == ["8467"] * 2 + ["Vesta"] * 2 + ["10P"] * 2 + [SECOND] * 3
    check(stamps, archive)


def test_what_is_fetched_can_be_written_and_loaded(archive, tmp_path):
    stamps = fetch_alerts([FIRST, "8467"])
    write_alerts(stamps, tmp_path / "alerts.parquet")
    loaded = load_alerts(tmp_path / "alerts.parquet")
    check(loaded, archive)
    assert loaded.labels.tolist() == stamps.labels.tolist()


@pytest.mark.parametrize(
    "fault",
    [
        "refused",
        "reset",
        "timeout",
        "reset_midway",
        "slow_drip",
        "truncated",
        "http500",
        "http503",
        "html200",
    ],
)
def test_faults_are_passed_by_asking_again(archive, fault):
    archive.inject(fault, times=2)
    stamps = fetch_alerts(FIRST, retries=QUICK(tries=9, first_wait=0.05, longest_wait=0.4))
    assert len(stamps) == 3 and len(stamps.skipped) == 0
    check(stamps, archive)


@pytest.mark.parametrize(
    "fault, error", [("http500", Unreachable), ("html200", BadAnswer), ("truncated", BadAnswer)]
)
def test_an_interrupted_fetch_goes_on_where_it_was(archive, tmp_path, fault, error):
    last = str(archive.brokers.alerts[2]["i:candid"]).encode()
    archive.faults.inject(fault, 4, where=lambda request: last in request.get_data())
    with pytest.raises(error, match="Fink.*cutouts of"):
        fetch_alerts(FIRST, cache=tmp_path)
    archive.log.clear()
    stamps = fetch_alerts(FIRST, cache=tmp_path)
    check(stamps, archive)
    assert len(stamps) == 3 and len(archive.log) == 1
    archive.log.clear()
    check(fetch_alerts(FIRST, cache=tmp_path), archive)
    assert not archive.log


def test_names_that_are_not_known_are_named_and_the_others_fetched(archive):
    stamps = fetch_alerts(["ZTF18zzzzzzz", FIRST, "Nibiru"])
    assert len(stamps) == 3
    assert stamps.skipped["name"].tolist() == ["ZTF18zzzzzzz", "Nibiru"]
    assert "holds no alert of ZTF18zzzzzzz" in stamps.skipped["reason"][0]
    assert "Nibiru is not a valid name" in stamps.skipped["reason"][1]


def test_nothing_found_under_any_name(archive):
    with pytest.raises(NothingFound, match="no alert with stamps of ZTF18zzzzzzz"):
        fetch_alerts("ZTF18zzzzzzz")


@pytest.mark.parametrize("names", [[], "", ["8467", " "], [8467], [None], None, 8467])
def test_what_is_no_name_is_refused(names):
    with pytest.raises(ValueError, match="expected names"):
        fetch_alerts(names)


def send_as_template(stamp, bad, monkeypatch):
    """Have the archive send something else for the template of an alert."""
    true = fink.json.loads

    def loads(content):
        answer = true(content)
        if isinstance(answer, dict) and "b:cutoutScience_stampData" in answer and loads.asked == bad:
            answer["b:cutoutTemplate_stampData"] = stamp
        if isinstance(answer, dict) and "candid" in answer:
            loads.asked = int(answer["candid"])
        return answer

    loads.asked = None
    monkeypatch.setattr(fink.json, "loads", loads)


@pytest.mark.parametrize("stamp", [[], [[1.0, 2.0], [3.0]], "image", [["a"]], [[1.0] * 600] * 600])
def test_a_stamp_of_no_use_is_named_and_the_others_are_kept(archive, stamp, monkeypatch):
    send_as_template(stamp, archive.brokers.alerts[1]["i:candid"], monkeypatch)
    stamps = fetch_alerts(FIRST)
    assert len(stamps) == 2
    assert f"{FIRST}: Fink sent a template stamp that" in stamps.skipped["reason"][0]


def test_an_alert_without_a_template_is_kept(archive, monkeypatch):
    send_as_template(None, archive.brokers.alerts[1]["i:candid"], monkeypatch)
    stamps = fetch_alerts(FIRST)
    assert np.isnan(stamps.template).all(axis=(1, 2)).tolist() == [False, True, False]
    assert stamps.skipped.empty


@pytest.mark.parametrize("candid", [1.5e18, True, None, "", "1.5e18"])
def test_an_alert_without_a_number_is_a_bad_answer(candid):
    with pytest.raises(ValueError, match="without objectId and candid"):
        fink._alert_table([{"i:objectId": FIRST, "i:candid": candid}], FIRST)


def test_an_answer_nested_without_end_is_a_bad_answer(archive, monkeypatch):
    monkeypatch.setattr(fink, "_alert_table", lambda *_: fink.json.loads("[" * 100_000))
    with pytest.raises(BadAnswer, match="Fink answered no objects"):
        fetch_alerts(FIRST)


def test_a_stopped_fetch_says_so(archive):
    retries = QUICK()
    retries.stop()
    with pytest.raises(Stopped):
        fetch_alerts(FIRST, retries=retries)


def test_messages_hold_no_address(archive):
    archive.inject("html200", times=4)
    with pytest.raises(ServiceError) as caught:
        fetch_alerts(FIRST)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.remote_data
def test_live_alerts_of_an_asteroid():
    stamps = fink.fetch_alerts("ZTF21abfmbix")
    assert stamps.difference.shape[1:] == (63, 63)
