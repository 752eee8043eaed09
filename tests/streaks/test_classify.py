"""Alerts in, a table of classes out: what is linked, skipped and told, in Python and by the command."""

import os

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from ztf_sg import Triplets, cli
from ztf_sg.own_objects.output import write_classes
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks import MovingObjectClassifier, classify, classify_alerts, write_alerts
from ztf_sg.streaks.classify import summarize
from ztf_sg.streaks.stamps import IMAGES

KINDS = ("asteroid", "trail", "variable")
STEP = 25 / 3600  # between flashes [deg]


@pytest.fixture(scope="module")
def stamps():
    """Return 30 simulated stamps of one exposure: asteroids, trails and variable stars."""
    found = simulate_stamps(30, 5, KINDS, 1)
    rng = np.random.default_rng(0)
    places = {"ra": 10 + rng.uniform(0, 0.8, 30), "dec": rng.uniform(0, 0.8, 30)}
    table = found.table.assign(jd=2459000.75, fid=2, candid=np.arange(30), **places)
    return Triplets(found.science, found.template, found.difference, table=table)


def in_a_row(stamps):
    """Return stamps at equal steps on a line."""
    places = {"ra": 10 + STEP * np.arange(len(stamps)), "dec": 0.3}
    table = stamps.table.assign(**places)
    return Triplets(stamps.science, stamps.template, stamps.difference, table=table)


def test_classes_are_those_of_the_classifier(stamps):
    table = classify_alerts(stamps)
    model = MovingObjectClassifier.pretrained()
    probabilities = model.predict_proba(stamps)
    np.testing.assert_allclose(table[["p_other", "p_asteroid", "p_satellite"]], probabilities)
    assert table["class"].tolist() == [("other", "asteroid", "satellite")[k] for k in model.predict(stamps)]
    assert table["ambiguous"].tolist() == model.ambiguous(stamps).tolist()
    described = model.describe(stamps)
    pd.testing.assert_frame_equal(table[described.columns], described)
    assert (table["linked"] == -1).all()
    assert (table["reason"] == "").all()


def test_flashes_of_one_exposure_are_a_satellite(stamps):
    points = stamps[(classify_alerts(stamps)["class"] == "asteroid").to_numpy()]
    table = classify_alerts(in_a_row(points))
    assert len(table) >= 6
    assert (table["linked"] == 0).all()
    assert (table["class"] == "satellite").all()
    assert not table["ambiguous"].any()
    assert (table["p_asteroid"] > 0.5).all(), "the stamps alone say otherwise"


@pytest.mark.parametrize("kind", [str, object, "Float64"])
def test_positions_may_be_texts_or_missing(stamps, kind):
    points = in_a_row(stamps[(classify_alerts(stamps)["class"] == "asteroid").to_numpy()])
    for name in ("ra", "dec"):
        points.table[name] = points.table[name].astype(kind)
    points.table.loc[0, "ra"] = "unknown" if kind is str else None
    assert (classify_alerts(points)["linked"] == [-1] + [0] * (len(points) - 1)).all()


def test_detections_of_several_exposures_are_not_linked(stamps):
    points = in_a_row(stamps[(classify_alerts(stamps)["class"] == "asteroid").to_numpy()])
    points.table["jd"] += np.arange(len(points))
    assert (classify_alerts(points)["linked"] == -1).all()


def test_wrong_position_costs_the_links_of_its_exposure_alone(stamps):
    points = in_a_row(stamps[(classify_alerts(stamps)["class"] == "asteroid").to_numpy()])
    later = in_a_row(points)
    later.table["jd"] += 1
    later.table.loc[0, "ra"] = 200.0
    points.table.loc[0, "dec"] = np.inf
    both = {kind: np.concatenate([getattr(points, kind), getattr(later, kind)]) for kind in IMAGES}
    both = Triplets(**both, table=pd.concat([points.table, later.table]))
    with pytest.warns(UserWarning, match="not linked: the detections of the exposure with jd, fid"):
        linked = classify_alerts(both)["linked"]
    assert (linked == [-1, *[0] * (len(points) - 1), *[-1] * len(later)]).all()


def test_alerts_whose_numbers_differ_in_the_last_digit_are_kept(stamps, tmp_path, monkeypatch):
    first = 1549473362115015004
    named = Triplets(stamps.science, stamps.template, stamps.difference, table=stamps.table)[:6]
    named.table["candid"] = [first, first + 1, first + 2, first + 1, first + 3, first]
    write_alerts(named, tmp_path / "alerts.parquet")
    (tmp_path / "broken.avro").write_bytes(b"Obj\x01 and nothing more")
    monkeypatch.setattr(classify, "BATCH", 2)
    table = classify_alerts(tmp_path)
    assert table["candid"][:4].tolist() == [str(first + k) for k in range(4)]
    assert (table["class"][:4] != "").all()
    assert table["reason"].str.contains("is a copy of the alert in").sum() == 2


def test_stamps_alone_are_enough(stamps):
    table = classify_alerts(Triplets(stamps.science, stamps.template, stamps.difference)[:5])
    assert table["name"].tolist() == [f"stamp {row}" for row in range(5)]
    assert set(table["class"]) <= {"other", "asteroid", "satellite"}


def test_paths_are_those_of_load_alerts(stamps, tmp_path):
    write_alerts(stamps[:2], tmp_path / "alerts.parquet")
    assert len(classify_alerts(os.fsencode(tmp_path))) == 2
    with pytest.raises(TypeError, match="expected the path of a file or folder"):
        classify_alerts([tmp_path])


def test_files_are_read_in_parts_with_the_same_result(stamps, tmp_path, monkeypatch):
    write_alerts(stamps, tmp_path / "alerts.parquet")
    whole = classify_alerts(tmp_path / "alerts.parquet")
    monkeypatch.setattr(classify, "BATCH", 7)
    pd.testing.assert_frame_equal(classify_alerts(tmp_path / "alerts.parquet"), whole)


def test_alert_that_cannot_be_used_has_a_row_with_the_reason(stamps, tmp_path):
    write_alerts(stamps[:4], tmp_path / "alerts.parquet")
    (tmp_path / "broken.avro").write_bytes(b"Obj\x01 and nothing more")
    table = classify_alerts(tmp_path)
    assert len(table) == 5
    assert table["class"].tolist()[4] == ""
    assert "broken.avro" in table["reason"][4]
    assert "without a class 1: " in summarize(table)


def test_table_has_all_columns_if_no_alert_can_be_used(stamps, tmp_path):
    write_alerts(stamps[:1], tmp_path / "alerts.parquet")
    (tmp_path / "broken.avro").write_bytes(b"Obj\x01 and nothing more")
    some, none = classify_alerts(tmp_path), classify_alerts(tmp_path / "broken.avro")
    assert list(none) == [name for name in some if name not in ("ra", "dec", "jd", "fid", "candid")]
    assert none[["p_asteroid", "length"]].isna().all(axis=None)


def test_command_writes_the_table_and_says_how_many(stamps, tmp_path, capsys):
    write_alerts(stamps, tmp_path / "alerts.parquet")
    assert cli.main(["moving", str(tmp_path / "alerts.parquet"), "--output", str(tmp_path / "m.csv")]) == 0
    table = pd.read_csv(tmp_path / "m.csv", keep_default_na=False)
    counts = [f"{name} {(table['class'] == name).sum()}" for name in ("other", "asteroid", "satellite")]
    assert f"asked 30, classified 30: {', '.join(counts)}" in capsys.readouterr().out


def test_columns_of_a_votable_are_described(stamps, tmp_path):
    write_classes(classify_alerts(stamps), tmp_path / "m.vot")
    columns = Table.read(tmp_path / "m.vot").columns.values()
    assert [column.name for column in columns if not column.description] == ["name"]


def test_progress_is_shown_when_it_takes_long(stamps, monkeypatch, capsys):
    classify_alerts(stamps)
    assert not capsys.readouterr().err
    monkeypatch.setattr(classify, "PATIENCE", 0)
    classify_alerts(stamps)
    assert f"{len(stamps)}alert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere", "--output", "m.csv"], 1, "no such file or folder"),
        ([".", "--output", "m.txt"], 2, "its ending is none of"),
        ([".", "--output", "m.csv", "--max-error", "2"], 2, "expected a number of at least 0"),
    ],
)
def test_errors_are_one_line(arguments, status, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = cli.main(["moving", *arguments])
    except SystemExit as ended:
        found = ended.code
    assert found == status
    assert message in capsys.readouterr().err


def test_stamps_that_are_too_small_have_rows_with_the_reason(stamps):
    small = Triplets(difference=stamps.difference[:3, 20:40, 20:40], table=stamps.table[:3])
    table = classify_alerts(small)
    assert table["name"].tolist() == stamps.table["name"][:3].tolist()
    assert (table["class"] == "").all()
    assert table["reason"].str.contains("20 x 20 px; at least 31 px").all()
