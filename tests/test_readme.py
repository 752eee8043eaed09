"""What the README says is there."""

import re

import pytest
from helpers import ROOT

README = (ROOT / "README.md").read_text()


def test_nothing_is_left_to_be_filled_in():
    assert "@@" not in README


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_script_named_is_there():
    scripts = re.findall(r"python ([\w/]+\.py)", README)
    assert scripts
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_every_make_target_named_is_there():
    targets = set(re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{first or second}:" in makefile for first, second in targets)
