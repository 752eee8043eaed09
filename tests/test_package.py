import ast
import re
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from draw_imports import RANKS, find_circle, module_imports, room_imports, upward_imports
from helpers import ROOT, modules_after

import ztf_sg

PACKAGE = Path(ztf_sg.__file__).parent
DATA_SOURCES = {"services", "simulation", "fetching"}  # the rooms that analysis does without
FROM_LIST_TO_CLASSES = {"own_objects", "cli", "__main__"}  # they fetch and analyse
HIDDEN_IMPORT = re.compile(r"\b(import_module|__import__)\b")
URL = re.compile(r"https?://([^/\s'\"`>)]+)")


@pytest.fixture(scope="module")
def imports():
    """Return which modules each module of the package imports."""
    return module_imports()


def sources(services):
    paths = sorted(PACKAGE.rglob("*.py"))
    return [path for path in paths if ("services" in path.relative_to(PACKAGE).parts) == services]


def strings_of(path):
    """Return the strings of a module that are no docstrings, f-strings included."""
    tree = ast.parse(path.read_text())
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
    ]


def test_the_names_that_others_rely_on_are_public():
    names = "CutoutSet load_cutouts normalize NORMALIZATIONS MuyGPSClassifier StarGalaxyClassifier".split()
    assert set(names) <= set(ztf_sg.__all__)


@pytest.mark.parametrize("name", ztf_sg.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(ztf_sg, name) is not None
    assert name in dir(ztf_sg)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ztf_sg.*no attribute 'spectra'"):
        ztf_sg.spectra  # noqa: B018


def test_importing_the_package_is_light(tmp_path):
    heavy = {"matplotlib", "galsim", "MuyGPyS", "sklearn", "astropy", "pandas", "ztfquery", "astroquery"}
    assert not modules_after(["ztf_sg"], tmp_path)["ztf_sg"] & heavy


def test_fetching_loads_no_client_of_catalogues(tmp_path):
    loaded = modules_after(["ztf_sg.fetching", "ztf_sg.services"], tmp_path)
    assert not set.union(*loaded.values()) & {"pyvo", "astroquery", "ztfquery", "requests"}


def test_every_room_has_a_rank_and_every_rank_a_room(imports):
    assert set(room_imports(imports)) - {"ztf_sg"} == set(RANKS)


def test_no_modules_import_each_other_in_a_circle(imports):
    assert find_circle(imports) == []


def test_no_room_imports_upwards(imports):
    assert upward_imports(room_imports(imports)) == []


def test_no_import_is_hidden_from_the_drawing():
    """Only the names of the package itself are loaded late, by the names of their modules."""
    hidden = [path for path in PACKAGE.rglob("*.py") if HIDDEN_IMPORT.search(path.read_text())]
    assert hidden == [PACKAGE / "__init__.py"]


def test_analysis_does_without_the_services(imports, tmp_path):
    rooms = room_imports(imports)
    analysis = sorted(set(RANKS) - DATA_SOURCES - FROM_LIST_TO_CLASSES)
    assert not [(room, rooms[room] & DATA_SOURCES) for room in analysis if rooms[room] & DATA_SOURCES]
    unwanted = tuple(f"ztf_sg.{room}" for room in DATA_SOURCES)
    for name, loaded in modules_after([f"ztf_sg.{room}" for room in analysis], tmp_path).items():
        assert name in loaded
        assert not {module for module in loaded if module.startswith(unwanted)}, name


def test_only_services_know_a_url():
    """Elsewhere docstrings and comments may cite pages, but no string of the code holds a URL."""
    found = {path.name: [text for text in strings_of(path) if URL.search(text)] for path in sources(False)}
    assert not {name: texts for name, texts in found.items() if texts}


def test_only_services_know_the_hosts_of_the_services():
    hosts = {host for path in sources(True) for text in strings_of(path) for host in URL.findall(text)}
    assert hosts, "no service has a URL: this test looks in the wrong place"
    for path in sources(False):
        text = path.read_text()
        assert not [host for host in hosts if host in text], path.name


def test_the_version_is_that_of_the_installed_package():
    assert re.fullmatch(r"\d+(\.\d+)+\S*", ztf_sg.__version__)
    assert ztf_sg.__version__ == version("ztf_sg")
    assert "__version__" in dir(ztf_sg)
    assert metadata("ztf_sg")["Summary"]
    assert metadata("ztf_sg")["Requires-Python"]


def test_linter_of_the_hook_is_that_of_the_tests():
    pinned = re.findall(r"ruff==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    hooked = re.findall(r"ruff==([\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert pinned == [version("ruff")]
    assert hooked and set(hooked) == set(pinned)
