import draw_imports
import pytest
from draw_imports import find_circle, module_imports, room_imports, upward_imports


@pytest.fixture
def package(tmp_path):
    """Return a package `house` with all kinds of imports, none of which is wrong."""
    files = {
        "__init__.py": "from importlib import import_module",
        "files.py": "import os",
        "ztf.py": "import house.files as f",
        "cutouts/__init__.py": "from house.cutouts.folder import load",
        "cutouts/folder.py": "from house import ztf\nfrom ..files import write\nfrom . import arrow",
        "cutouts/arrow.py": "def late():\n    from house.files import lock",
    }
    for name, text in files.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


def test_finds_absolute_relative_and_late_imports_of_modules(package):
    assert module_imports(package) == {
        "house": set(),
        "house.files": set(),
        "house.ztf": {"house.files"},
        "house.cutouts": {"house.cutouts.folder"},
        "house.cutouts.folder": {"house.ztf", "house.files", "house.cutouts.arrow"},
        "house.cutouts.arrow": {"house.files"},
    }


def test_rooms_are_folders_and_modules_right_below_the_package(package):
    rooms = room_imports(module_imports(package))
    assert rooms == {"house": set(), "files": set(), "ztf": {"files"}, "cutouts": {"files", "ztf"}}
    assert upward_imports(rooms) == []


def test_circle_within_a_room_is_found_though_it_is_closed_in_a_function(package):
    assert find_circle(module_imports(package)) == []
    (package / "cutouts" / "arrow.py").write_text("def late():\n    from house.cutouts.folder import load")
    circle = find_circle(module_imports(package))
    assert set(circle) == {"house.cutouts.folder", "house.cutouts.arrow"}


def test_circle_through_the_init_of_a_room_is_found(package):
    (package / "cutouts" / "arrow.py").write_text("from house.cutouts import load")
    assert set(find_circle(module_imports(package))) >= {"house.cutouts", "house.cutouts.arrow"}


@pytest.mark.parametrize(
    "module, text, pair",
    [
        ("files.py", "from house.cutouts import load", ("files", "cutouts")),
        ("files.py", "from house import load", ("files", "house")),
        ("cutouts/arrow.py", "from .. import survey", ("cutouts", "survey")),
    ],
    ids=["lower_level", "package_itself", "relative"],
)
def test_import_upwards_is_found(package, module, text, pair):
    (package / "survey.py").write_text("")
    (package / module).write_text(text)
    assert pair in upward_imports(room_imports(module_imports(package)))


def test_rooms_of_one_level_do_not_import_each_other():
    assert upward_imports({"features": {"muygps"}}) == [("features", "muygps")]


def test_drawing_has_a_line_for_each_room(capsys):
    draw_imports.main()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= set(draw_imports.RANKS)
