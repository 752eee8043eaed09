"""The project can be built, and what is built works where nothing else of the project is."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from helpers import ROOT

README = (ROOT / "README.md").read_text()
NOT_BUILT_FROM = shutil.ignore_patterns(
    ".*", "__pycache__", "build", "dist", "*.egg-info", "cutouts_test", "data", "docs", "notebooks"
)


def run(command, folder, **variables):
    """Run a command in a folder, without the variables that the tests set for Python; return the process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process


def readme_block(language, word):
    """Return the block of the README in a language that has a word, and the block of text that follows it."""
    pattern = r"^```(\w+)\n((?:(?!^```).*\n)*?)```\n\n```text\n((?:(?!^```).*\n)*?)```"
    blocks = re.findall(pattern, README, re.MULTILINE)
    ((code, printed),) = [(code, text) for name, code, text in blocks if name == language and word in code]
    return code, printed


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder with the sdist and the wheel that is built from it, and what the build said."""
    source, folder = tmp_path_factory.mktemp("source") / "ztf_sg", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=NOT_BUILT_FROM)
    process = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder], source)
    return folder, process.stdout + process.stderr


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built[0].glob("*.whl")
    return path


@pytest.fixture(scope="module", params=["borrowed", pytest.param("empty", marks=pytest.mark.exhaustive)])
def installed(request, wheel, tmp_path_factory):
    """Return the folder of an environment without the project, in which the wheel was installed.

    Either its dependencies are those of the tests' environment, or it was empty and pip fetched them.
    """
    folder = tmp_path_factory.mktemp(request.param)
    empty = request.param == "empty"
    venv.create(folder, with_pip=empty, symlinks=True)
    python = folder / "bin" / "python"
    if empty:
        run([python, "-m", "pip", "install", "--quiet", wheel], folder)
    else:
        paths = {name: str(folder) for name in ("base", "platbase")}
        libraries = sysconfig.get_path("purelib", vars=paths)
        with open(f"{libraries}/borrowed.pth", "w") as file:  # .pth files found there are not followed
            file.write("\n".join({path for path in sys.path if path.endswith("site-packages")}))
        options = ["--quiet", "--no-deps", "--no-index", "--no-compile"]
        run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel], folder)
        _lend_machine_code(Path(libraries) / "ztf_sg")
    return folder


def _lend_machine_code(package):
    """Give an installed package what numba compiled of the same sources here, which takes half a minute."""
    for source in (ROOT / "ztf_sg").rglob("*.py"):
        status = source.stat()  # numba knows a source by its time of change
        os.utime(package / source.relative_to(ROOT / "ztf_sg"), ns=(status.st_atime_ns, status.st_mtime_ns))
    for compiled in (ROOT / "ztf_sg").rglob("__pycache__/*.nb[ci]"):
        target = package / compiled.relative_to(ROOT / "ztf_sg")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(compiled, target)


@pytest.mark.slow
def test_project_is_built_without_a_warning(built):
    folder, said = built
    assert sorted(path.suffix for path in folder.iterdir()) == [".gz", ".whl"]
    assert not re.findall(r"^.*warning.*$", said, re.MULTILINE | re.IGNORECASE)


@pytest.mark.slow
def test_wheel_holds_the_package_with_its_data_and_nothing_else(wheel):
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "ztf_sg").rglob("*") if path.is_file()}
    with ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == {name for name in package if "__pycache__" not in name}
    assert {"ztf_sg/pretrained.npz", "ztf_sg/cutouts/example.parquet"} <= names


@pytest.mark.slow
def test_sdist_holds_what_is_needed_and_no_tests(built):
    (path,) = built[0].glob("*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests", "tools", "benchmarks"))]


@pytest.mark.slow
def test_wheel_says_what_it_is(wheel):
    with ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("/METADATA")]
        metadata = message_from_string(file.read(name).decode())
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The ztf_sg developers"
    assert "astronomy" in metadata["Keywords"]
    assert metadata["Project-URL"].startswith("Repository, https://")
    assert metadata.get_payload().strip() == README.strip()


@pytest.mark.slow
def test_installed_package_is_that_of_the_wheel(installed, tmp_path):
    code = "import ztf_sg; print(ztf_sg.__file__, ztf_sg.__version__)"
    path, version = run([installed / "bin" / "python", "-c", code], tmp_path).stdout.split()
    assert path.startswith(str(installed))
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.slow
def test_python_of_the_readme_prints_what_it_says_after_installation(installed, tmp_path):
    code, printed = readme_block("python", "load_example")
    process = run([installed / "bin" / "python", "-c", code], tmp_path)
    assert (process.stdout, process.stderr) == (printed, "")


@pytest.mark.slow
def test_command_of_the_readme_prints_what_it_says_after_installation(installed, tmp_path):
    commands, printed = readme_block("sh", "ztf-sg classify")
    path = f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = run(["bash", "-c", commands], tmp_path, PATH=path)
    assert (process.stdout, process.stderr) == (printed, "")
    assert list(tmp_path.glob("*.csv"))
