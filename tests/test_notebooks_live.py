"""Notebooks 1 and 2 with OFFLINE = False, through real astroquery and ztfquery, on loopback archives."""

import numpy as np
import pandas as pd
import pytest
from archives import ArchiveServer
from astropy.io import fits
from helpers import ROOT

from ztf_sg.fetching import read_manifest

N_PER_CLASS = 10
START_UP = """
import sys
sys.path.insert(0, {tests!r})
from archives import point_clients_to
point_clients_to({url!r})
"""


@pytest.fixture(scope="module")
def archives():
    with ArchiveServer(tap_polls=0) as server:
        yield server


@pytest.fixture
def run_live(archives, run_notebook, tmp_path, monkeypatch):
    """Run a notebook live, in a kernel whose clients ask the archives on loopback."""
    start_up = tmp_path / "ipython" / "profile_default" / "startup"
    start_up.mkdir(parents=True)
    (start_up / "archives.py").write_text(START_UP.format(tests=str(ROOT / "tests"), url=archives.url))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(number, **parameters):
        return run_notebook(number, tmp_path, OFFLINE=False, DATA_DIR=tmp_path / "data", **parameters)

    return run


def text_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.notebooks
def test_live_notebooks_make_positions_and_cutouts_and_ask_for_nothing_twice(archives, run_live, tmp_path):
    first = text_of(run_live(1))
    assert "sent now" in first
    stars, galaxies = (pd.read_csv(tmp_path / "data" / name) for name in ("stars.csv", "gals.csv"))
    assert list(stars.columns) == list(galaxies.columns) == ["RA", "DEC", "type"]
    audit = pd.read_csv(tmp_path / "data" / "label_audit.csv")
    assert set(audit["audit"]) == {"confirmed", "unchallenged", "doubtful"}
    kept = [pd.read_parquet(path).attrs["query"] for path in (tmp_path / "data" / "cache").iterdir()]
    assert {record["service"].rpartition("/")[2] for record in kept} == {"tap", "sync"}

    cutouts = tmp_path / "cutouts"
    run_live(2, CUTOUT_DIR=cutouts, N_PER_CLASS=N_PER_CLASS)
    saved = read_manifest(cutouts).query("status == 'saved'")
    assert len(saved) == 2 * N_PER_CLASS
    for row in saved.itertuples():
        truth = archives.sky.cutout(row.source_image, row.RA, row.DEC)
        np.testing.assert_array_equal(fits.getdata(cutouts / row.file), truth)

    sent = len(archives.log)
    assert "from the cache of" in text_of(run_live(1))
    again = run_live(2, CUTOUT_DIR=cutouts, N_PER_CLASS=N_PER_CLASS)
    assert "0 are new" in text_of(again)
    # the one cutout that section 2.4 shows
    assert [record.args.get("center") is not None for record in archives.log[sent:]] == [True]
