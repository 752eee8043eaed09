import os
from pathlib import Path

import pytest
from hypothesis import settings

from ztf_sg.cutouts import fetch_cutouts
from ztf_sg.positions import select_positions
from ztf_sg.services.mock_sky import MockSky

settings.register_profile("tests", deadline=None, max_examples=50)
settings.load_profile("tests")


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
def real_cutouts():
    """Return the folder of real ZTF cutouts that the environment variable ZTF_SG_REAL_CUTOUTS names."""
    folder = os.environ.get("ZTF_SG_REAL_CUTOUTS")
    if not folder:
        pytest.skip(
            "needs real cutouts: set ZTF_SG_REAL_CUTOUTS to a folder of star_*.fits and galaxy_*.fits"
        )
    return Path(folder)
