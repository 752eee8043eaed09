"""The files about the project agree with the project: citation, changes, workflows, templates."""

import re
import tomllib

import pytest
import yaml
from helpers import ROOT

import ztf_sg

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGES = (ROOT / "CHANGELOG.md").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
TEXT = (".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", ".txt", ".in", ".html", ".css", "")
NOT_OURS = {".git", ".venv", ".hypothesis", ".pytest_cache", ".ruff_cache", "build", "dist", "__pycache__"}


def read_yaml(path):
    return yaml.safe_load(path.read_text())


def project_files():
    """Return the files with text of the project, which tools did not make."""
    paths = [path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)]
    paths = [path for path in paths if ".egg-info" not in str(path.relative_to(ROOT))]
    return [path for path in paths if path.suffix in TEXT and path.is_file()]


def test_citation_is_of_this_version_and_says_whom_to_cite():
    citation = read_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"] == ztf_sg.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == ["The ztf_sg developers"]
    cited = [reference["identifiers"][0]["value"] for reference in citation["references"]]
    assert cited == ["arXiv:2104.14581", "arXiv:2105.01106"]
    assert all({"type", "title", "authors"} <= set(reference) for reference in citation["references"])


def test_changes_begin_with_what_is_unreleased_and_this_version():
    headings = re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)
    assert headings[0] == "Unreleased"
    version, date = headings[1].split(" - ")
    assert version == PROJECT["version"]
    assert date == read_yaml(ROOT / "CITATION.cff")["date-released"].isoformat()


def test_changes_are_sorted_by_kind():
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", CHANGES, re.MULTILINE)) <= kinds


def test_tested_versions_of_python_are_those_that_the_package_promises():
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    tests = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")
    assert tests["jobs"]["fast"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    steps = tests["jobs"]["lowest"]["steps"]
    assert steps[1]["with"]["python-version"] == promised[0]
    assert any("lowest-direct" in step.get("run", "") for step in steps)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_is_complete_and_calls_make_targets_that_exist(path):
    workflow = read_yaml(path)
    assert {"name", True, "jobs", "permissions"} <= set(workflow)  # YAML 1.1 reads the key on as True
    makefile = (ROOT / "Makefile").read_text()
    for job in workflow["jobs"].values():
        assert job["runs-on"] and all("uses" in step or "run" in step for step in job["steps"])
        targets = re.findall(r"make ([\w-]+)", " ".join(step.get("run", "") for step in job["steps"]))
        assert all(f"\n{target}:" in makefile for target in targets)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_issue_template_asks_for_something(path):
    template = read_yaml(path)
    assert template["name"] and template["description"]
    assert all(field["attributes"]["label"] for field in template["body"])


def test_requirements_have_a_lowest_version():
    optional = [need for needs in PROJECT["optional-dependencies"].values() for need in needs]
    needs = [need for need in PROJECT["dependencies"] + optional if not need.startswith("ztf_sg[")]
    assert [need for need in needs if not re.search(r"(>=|==|~=)\d", need)] == []


def test_address_of_the_repository_is_in_one_place():
    (address,) = PROJECT["urls"].values()
    owner = address.removeprefix("https://").rpartition("/")[0]
    texts = {path: path.read_text(errors="replace") for path in project_files()}
    found = {path.name: text.count(owner) for path, text in texts.items() if owner in text}
    assert found == {"pyproject.toml": 1}
