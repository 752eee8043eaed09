"""The README and the pages of docs/ are right: their links lead somewhere, their Python runs."""

import os
import re
import subprocess
import sys

import pytest
from archives import ArchiveServer, point_clients_to
from helpers import ROOT, run_python

from ztf_sg import load_alerts
from ztf_sg.streaks import write_alerts

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block of Python that holds the text is not run, for the reason.
NOT_RUN = {
    "tcp://": "needs a Dask scheduler at that address",
    "catalog.map_partitions": "needs a catalogue of LSDB",
    'cache="answers"': "asks a service; a test of its own has stand-ins for them",
}


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_nothing_is_left_to_be_filled_in():
    assert "@@" not in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_named_is_there(page):
    scripts = re.findall(r"python ([\w/]+\.py)", page.read_text())
    assert scripts
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_every_make_target_named_is_there():
    targets = set(re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{first or second}:" in makefile for first, second in targets)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda page: page.name)
def test_python_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    (tmp_path / "cutouts_test").symlink_to(ROOT / "cutouts_test")
    blocks = [block for block in python_blocks(page) if not any(text in block for text in NOT_RUN)]
    assert blocks
    run_python("\n".join(blocks), tmp_path)


def test_python_that_asks_services_runs_with_stand_ins(tmp_path, monkeypatch):
    page = ROOT / "docs" / "moving_objects.md"
    blocks = [block for block in python_blocks(page) if 'cache="answers"' in block]
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    with ArchiveServer(n_images=1) as server:
        point_clients_to(server.url, monkeypatch.setattr)
        found = {"write_alerts": write_alerts}
        for block in blocks:
            exec(block, found)
    assert len(load_alerts("fetched.parquet")) == 5
    assert len(found["bodies"]) == 2


@pytest.mark.slow
def test_first_command_of_the_readme_prints_what_it_says(tmp_path):
    commands, printed = re.findall(r"^```(?:sh|text)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[:2]
    assert "ztf-sg classify" in commands
    script = f'ztf-sg() {{ "{sys.executable}" -m ztf_sg "$@"; }}\n{commands}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, printed, "")
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 5


def test_all_python_of_the_readme_runs_and_every_excuse_is_needed():
    readme, *docs = ["".join(python_blocks(page)) for page in PAGES]
    assert readme
    assert not any(text in readme for text in NOT_RUN)
    assert all(any(text in page for page in docs) for text in NOT_RUN)
