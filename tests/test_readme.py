"""The README and the pages of docs/ are right: their links lead somewhere, their Python runs."""

import re
import runpy

import pytest
from archives import ArchiveServer, point_clients_to
from helpers import ROOT, run_python

from ztf_sg import load_alerts
from ztf_sg.streaks import write_alerts

README = (ROOT / "README.md").read_text()
LANDING_PAGE = ROOT / "docs" / "index.md"
PAGES = [ROOT / "README.md", LANDING_PAGE, *sorted(set((ROOT / "docs").rglob("*.md")) - {LANDING_PAGE})]
MOST_WORDS = 350  # of the README before its links
# A block of Python that holds the text is not run, for the reason.
NOT_RUN = {
    "tcp://": "needs a Dask scheduler at that address",
    "catalog.map_partitions": "needs a catalogue of LSDB",
    'cache="answers"': "asks a service; a test of its own has stand-ins for them",
}


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def with_output(language, text):
    """Return the block of the README in a language that has a text, and the block of output below it."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    number = next(i for i, (name, block) in enumerate(blocks) if name == language and text in block)
    assert blocks[number + 1][0] == "text"
    return blocks[number][1], blocks[number + 1][1]


def benchmark_names(script):
    """Return what a script of benchmarks/ defines, by name."""
    return runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"))


def name_of(page):
    return str(page.relative_to(ROOT))


def test_nothing_is_left_to_be_filled_in():
    assert [page for page in PAGES if "@@" in page.read_text()] == []


def test_the_readme_is_short():
    text = README.partition("## Links")[0]
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    assert len(re.findall(r"\S*\w\S*", text)) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_script_named_is_there(page):
    scripts = re.findall(r"python ([\w/]+\.py)", page.read_text())
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_every_make_target_named_is_there():
    text = "\n".join(page.read_text() for page in PAGES)
    targets = {one or other for one, other in re.findall(r"^make (\w+)|`make (\w+)`", text, re.MULTILINE)}
    assert {"notebooks", "test", "docs"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_the_landing_page_shows_the_python_of_the_readme():
    assert python_blocks(LANDING_PAGE) == python_blocks(ROOT / "README.md")
    assert with_output("python", "load_example")[1] in LANDING_PAGE.read_text()


def test_every_section_that_make_bench_writes_has_a_conclusion(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    assert set(benchmark_names("report")["SECTIONS"]) == set(benchmark_names("conclusions")["CONCLUSIONS"])


def test_every_section_of_the_benchmarks_begins_with_a_conclusion_from_the_figures_below_it():
    conclusion = benchmark_names("conclusions")["conclusion"]
    sections = (ROOT / "docs" / "benchmarks.md").read_text().split("\n## ")[1:]
    assert sections
    for section in sections:
        title, sentence = section.splitlines()[:3:2]
        assert sentence == conclusion(title, section.split("```")[1]) != "", title


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES[1:] if python_blocks(p) and p != LANDING_PAGE], ids=name_of
)
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


def test_every_excuse_is_needed():
    pages = ["".join(python_blocks(page)) for page in PAGES]
    assert all(any(text in page for page in pages) for text in NOT_RUN)
