import re

import fuzz_inputs
import numpy as np
import pandas as pd
import pytest
from fuzz_inputs import CASES, fuzz, make_records, report, run_case
from fuzzing import survey
from fuzzing.fits_kinds import EITHER, KEPT, REFUSED
from fuzzing.table_kinds import table_of

from ztf_sg import CutoutSet, load_cutouts

KINDS = [(group, kind) for group, (_, kinds) in CASES.items() for kind in kinds]


def found(group, kind, seed=3):
    return {outcome for outcome, _ in run_case(group, kind, seed)}


def test_nothing_is_lost_whatever_is_damaged_and_there_are_many_kinds_and_good_records(capsys):
    assert len(KINDS) == len(set(KINDS)) > 100
    assert report(fuzz(len(KINDS), seed=1)) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("uncaught 0 lost 0 unnamed 0\n")
    assert int(re.search(r"(\d+)% of undamaged records", printed)[1]) >= 25
    assert all(f"{group}: {kind} " in printed for group, kind in KINDS)


@pytest.mark.parametrize("group", ["FITS", "row", "Parquet"])
def test_each_demand_is_made(group):
    demands = {demand for _, demand in CASES[group][1].values()}
    assert demands == ({KEPT, REFUSED} if group == "row" else {KEPT, REFUSED, EITHER})


def test_what_is_written_is_what_is_read(tmp_path):
    """The truth of the records is that of the generator; see that it is told apart from anything else."""
    records = make_records(3, np.random.default_rng(0))
    cutouts = CutoutSet.from_table(table_of(records))
    assert all(fuzz_inputs.is_served(record, cutouts, row) for row, record in enumerate(records))
    assert not fuzz_inputs.is_served(records[0], cutouts, 1)
    moved = records[0]._replace(ra=records[0].ra + 1e-7)
    assert not fuzz_inputs.is_served(moved, cutouts, 0)
    brighter = records[0]._replace(pixels=np.nextafter(records[0].pixels, 1e9))
    assert not fuzz_inputs.is_served(brighter, cutouts, 0)
    other = records[0]._replace(values={**records[0].values, "GAIN": 1.0})
    assert not fuzz_inputs.is_served(other, cutouts, 0)


def shifted(folder, on_error):
    cutouts = load_cutouts(folder, on_error)
    cutouts.images[:] += 1
    return cutouts


def without_first(folder, on_error):
    return load_cutouts(folder, on_error)[1:]


def in_silence(folder, on_error):
    cutouts = load_cutouts(folder, "skip")
    cutouts.skipped.drop(cutouts.skipped.index, inplace=True)
    return cutouts


def without_name(folder, on_error):
    cutouts = load_cutouts(folder, "skip")
    cutouts.skipped["reason"] = "is bad"
    return cutouts


def breaking(folder, on_error):
    raise KeyError("SEEING")


@pytest.mark.parametrize(
    "reader, kind, fault",
    [
        (shifted, "gzip", "lost"),
        (without_first, "NaN pixel", "lost"),
        (in_silence, "empty", "unnamed"),
        (without_name, "NaN pixel", "unnamed"),
        (breaking, "untouched", "uncaught"),
    ],
)
def test_faults_of_a_reader_are_counted(monkeypatch, reader, kind, fault, capsys):
    monkeypatch.setattr(fuzz_inputs, "load_cutouts", reader)
    assert fault in found("FITS", kind)
    assert report(fuzz(1, only=kind)) > 0
    assert f"FITS, {kind}: {fault}" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_damage():
    assert fuzz(20, seed=7) == fuzz(20, seed=7)


def test_a_survey_with_bad_records_of_every_kind(monkeypatch, capsys):
    monkeypatch.setattr(survey, "BAD", 10)
    monkeypatch.setattr(survey, "SCHEDULERS", ("threads",))  # tests of surveys have clusters
    assert survey.fuzz_survey(300) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["FITS, threads", "Parquet, threads"]
    assert all("classified 270 named 30 lost 0 changed 0 unnamed 0" in line for line in lines[:2])


def test_faults_of_a_survey_are_counted(tmp_path, capsys):
    cutouts = load_cutouts(survey.BUNDLED_CUTOUTS)[:12]
    expected = pd.Series(2.0, cutouts.table["name"])  # no probability
    source = tmp_path / "FITS"
    source.mkdir()
    origin, bad = survey.write_fits(source, 12, np.random.default_rng(0), cutouts)
    assert len(bad) == 1
    bad["star_98"], origin["star_99"] = "a bad one that is not there", "star_1"
    assert survey.classify(source, tmp_path / "results", "threads", origin, bad, expected) >= 13
    printed = capsys.readouterr().out
    assert "classified 11 named 1 lost 1 changed 11 unnamed 1" in printed
    assert "not named: a bad one that is not there" in printed
