import re

import fuzz_alerts
import pytest
from fuzz_alerts import CASES, fuzz, report
from fuzzing.alert_kinds import FILE_KINDS, PACKET_KINDS

from ztf_sg import load_alerts


def test_nothing_is_lost_whatever_is_damaged_and_there_are_many_kinds(capsys):
    assert len(PACKET_KINDS) + len(FILE_KINDS) > 45 and len(CASES) > 300
    assert report(fuzz(250, seed=1)) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("uncaught 0 lost 0 unnamed 0\n")
    assert int(re.search(r"(\d+)% of undamaged records", printed)[1]) >= 25


def shifted(path, on_error):
    stamps = load_alerts(path, on_error)
    stamps.science[:] += 1
    return stamps


def without_first(path, on_error):
    return load_alerts(path, on_error)[1:]


def in_silence(path, on_error):
    stamps = load_alerts(path, "skip")
    stamps.skipped.drop(stamps.skipped.index, inplace=True)
    return stamps


def breaking(path, on_error):
    raise KeyError("cutoutScience")


@pytest.mark.parametrize(
    "reader, kind, fault",
    [
        (shifted, "untouched", "lost"),
        (without_first, "odd filter", "lost"),
        (in_silence, "empty stamp", "unnamed"),
        (in_silence, "noise", "unnamed"),
        (breaking, "whole", "uncaught"),
    ],
)
def test_faults_of_a_reader_are_counted(monkeypatch, reader, kind, fault, capsys):
    monkeypatch.setattr(fuzz_alerts, "load_alerts", reader)
    counts = fuzz(5, only=kind)
    assert sum(each[fault] for each in counts.values()) > 0
    assert report(counts) > 0
    assert re.search(f"{kind}, .*: {fault}: ", capsys.readouterr().err)


def test_the_same_seed_gives_the_same_damage():
    assert fuzz(10, seed=7) == fuzz(10, seed=7)
