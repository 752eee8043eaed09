import pytest
from helpers import make_catalogue


@pytest.fixture
def sky():
    """Return a catalogue with a known fate for each row."""
    table = make_catalogue(10)
    table.loc[1, "RA"] = 11.0  # out of the region
    table.loc[2, "TYPE"] = "DUP"
    table.loc[3, "FLUX_R"] = -1.0
    table.loc[4, "FLUX_Z"] = 10 ** (0.4 * (22.5 - 19.5))  # too faint
    table.loc[5, "FRACFLUX_G"] = 0.5
    table.loc[7, "RA"] = table.loc[6, "RA"] + 10 / 3600  # 6 and 7 crowd each other
    table.loc[8, "TYPE"] = "REX"
    table.loc[9, "TYPE"] = "SER"
    return table
