import builtins
import getpass
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ztfquery.io
from helpers import arcseconds, i_magnitude
from hypothesis import settings
from scipy.spatial import cKDTree

from ztf_sg.fetching import fetch_cutouts
from ztf_sg.positions import cut_types, position_table, select_positions
from ztf_sg.services import account
from ztf_sg.simulation import MockSky
from ztf_sg.simulation.parameters import DEC_RANGE, RA_RANGE

settings.register_profile("tests", deadline=None, max_examples=12)
settings.load_profile("tests")

# A shell that starts the tests in the background has them ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Before several processes test, have two compile what all need, which saves a minute in a fresh copy."""
    if getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput"):
        script = Path(__file__).with_name("compile_first.py")
        compiling = [subprocess.Popen([sys.executable, script, kind]) for kind in ("cutouts", "stamps")]
        assert [process.wait() for process in compiling] == [0, 0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark tests that need an archive of whole images as slow; begin with notebooks, then with slow tests.

    So no process has much left to do when the others are done.
    """
    for item in items:
        if "_archive" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("notebooks", "slow")])


@pytest.fixture(scope="session")
def run_notebook():
    """Return a function that executes a notebook in a folder, with parameters, and returns it with outputs.

    Of its numbered sections it executes those named, by default all.
    Kernels are spoken to through files: of free ports another process may take one before the kernel does.
    """
    import nbformat
    import papermill
    from traitlets.config import Config

    files = Config({"KernelManager": {"transport": "ipc"}})

    def run(number, folder, sections=None, **parameters):
        (path,) = (Path(__file__).parents[1] / "notebooks").glob(f"{number}_*.ipynb")
        notebook, section, cells = nbformat.read(path, as_version=4), None, []
        for cell in notebook.cells:
            heading = re.match(r"## (\d+\.\d+) ", cell.source)
            section = heading[1] if heading else section
            if sections is None or section is None or section in sections:
                cells.append(cell)
        notebook.cells = cells
        paths = {name: str(value) for name, value in parameters.items() if isinstance(value, Path)}
        look = {"progress_bar": False, "kernel_name": "python3", "start_timeout": 300, "config": files}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TQDM_DELAY", "3600")  # as of make notebooks: progress bars would be outputs
            return papermill.execute_notebook(
                notebook, folder / f"{number}.ipynb", parameters | paths, cwd=folder, **look
            )

    return run


@pytest.fixture(scope="session")
def mock_sky():
    """Return a simulated survey that needs no file: any seed but 0 makes its own catalogue."""
    return MockSky(seed=1)


@pytest.fixture(scope="session")
def mock_positions(mock_sky):
    """Return the reference selection of the simulated catalogue: stars, galaxies."""
    return select_positions(mock_sky.catalogue)


@pytest.fixture(scope="session")
def simulated_cutouts(mock_sky, mock_positions, tmp_path_factory):
    """Return a folder with 12 simulated stars and 12 simulated galaxies; not to be changed."""
    folder = tmp_path_factory.mktemp("simulated_cutouts")
    for positions in mock_positions:
        fetch_cutouts(positions, folder, mock_sky, n_cutouts=12, progress=False)
    return folder


@pytest.fixture(scope="session")
def lights(mock_sky):
    """Return the objects that shine, well inside the area, with their truth and i magnitude."""
    table = mock_sky.objects
    inside = table["RA"].between(RA_RANGE[0] + 0.1, RA_RANGE[1] - 0.1)
    inside &= table["DEC"].between(DEC_RANGE[0] + 0.1, DEC_RANGE[1] - 0.1)
    table = table[(table["FLUX_I"] > 0) & inside].reset_index(drop=True)
    return table.assign(i=i_magnitude(table))


@pytest.fixture(scope="session")
def lonely(lights):
    """Return the objects of `lights` without neighbours."""
    distance, _ = cKDTree(arcseconds(lights)).query(arcseconds(lights), k=2)
    return lights[distance[:, 1] > 20]


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """Let no account of this computer be read, and any prompt fail."""

    def prompt(*args, **kwargs):
        raise AssertionError("prompted on standard input")

    monkeypatch.setattr(builtins, "input", prompt)
    monkeypatch.setattr(getpass, "getpass", prompt)
    monkeypatch.setattr(ztfquery.io, "_ENCRYPT_FILE", str(tmp_path / "ztfquery"))
    monkeypatch.setattr(account, "PAUSE", 0.0)
    monkeypatch.delenv(account.USER_VARIABLE, raising=False)
    monkeypatch.delenv(account.PASSWORD_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def owner():
    """Return user and password of an account at `archive` with rights to all images."""
    return "owner@example.org", "pl&nted s#cret%41/+Ü"


@pytest.fixture(scope="session")
def guest():
    """Return user and password of an account at `archive` without rights to proprietary images."""
    return "guest", "gu&st s#cret%42/+Ü"


@pytest.fixture(scope="session")
def _archive(owner, guest):
    from archives import ArchiveServer

    accounts = {owner[0]: (owner[1], True), guest[0]: (guest[1], False)}
    with ArchiveServer(
        n_images=6,
        seeing=(1.81, 1.39, 1.41, 1.61, 1.83, 1.7),
        accounts=accounts,
        proprietary=lambda row: row.name == 5,
        stall=0.4,
    ) as server:
        for quadrant in server.sky.quadrants.values():
            quadrant.file_bytes()
        yield server


@pytest.fixture
def archive(_archive, no_account, monkeypatch):
    """Point ztfquery to a loopback IRSA with six images of one position, the last one proprietary.

    Only one public image is sharper than 1.4 arcsec, and only two sharper than 1.5.
    """
    from archives import KINDS, point_clients_to

    point_clients_to(_archive.url, monkeypatch.setattr)
    _archive.log.clear()
    _archive.fault_counts.clear()
    _archive.faults.rng = np.random.default_rng(0)
    _archive.expire_sessions()
    yield _archive
    left = list(_archive.faults._injected)
    _archive.faults._injected.clear()
    _archive.faults.rate, _archive.faults.kinds, _archive.faults.where = 0.0, tuple(KINDS), None
    assert not left


@pytest.fixture(scope="session")
def archive_positions(_archive):
    """Return stars and galaxies that lie well inside all images of `archive`, and in one patch of sky."""
    catalogue = _archive.sky.catalogue
    catalogue = cut_types(catalogue[catalogue["FLUX_I"] > 10 ** (0.4 * (22.5 - 20))])
    inside = catalogue["RA"].between(5.55, 5.95) & catalogue["DEC"].between(-0.99, -0.7)
    stars = catalogue["TYPE"] == "PSF"
    return [position_table(catalogue[inside & kind]).reset_index(drop=True) for kind in (stars, ~stars)]


@pytest.fixture(scope="session")
def real_cutouts():
    """Return the folder of real ZTF cutouts that the environment variable ZTF_SG_REAL_CUTOUTS names."""
    folder = os.environ.get("ZTF_SG_REAL_CUTOUTS")
    if not folder:
        pytest.skip(
            "needs real cutouts: set ZTF_SG_REAL_CUTOUTS to a folder of star_*.fits and galaxy_*.fits"
        )
    return Path(folder)


@pytest.fixture(scope="session")
def real_images():
    """Return the folder of real ZTF images that the environment variable ZTF_SG_REAL_IMAGES names."""
    folder = os.environ.get("ZTF_SG_REAL_IMAGES")
    if not folder:
        pytest.skip("needs real images: set ZTF_SG_REAL_IMAGES to a folder of images and detections.csv")
    return Path(folder)
