"""Positions classified from IRSA, with faults and kills. IRSA is on loopback."""

import pandas as pd
import pytest
from archives.own_objects import audit, run_with_kills

pytestmark = pytest.mark.slow


def test_killed_five_times_at_a_faulty_archive_nothing_is_lost_or_fetched_twice(
    archive, archive_positions, tmp_path
):
    positions = pd.concat(table.head(12) for table in archive_positions)[["RA", "DEC"]].reset_index(drop=True)
    archive.faults.rate = 0.25
    options = {"filters": ["zi"], "n_images": 2, "max_seeing": 1.5}
    table, snapshots = run_with_kills(
        archive, positions, tmp_path, kills=(2, 9, 17, 30, 40), part=8, read_timeout=0.3, **options
    )
    archive.faults.rate = 0.0
    assert [2 <= len(there) < 48 for _, there in snapshots] == [True] * 5
    assert len({len(there) for _, there in snapshots}) == 5
    assert audit(archive, positions, table, snapshots) == "asked 24 classified 24 lost 0 twice 0"
    assert (table["n_images"] == 2).all()
    assert not list(tmp_path.glob("fetched*")), "the FITS files of finished parts are gone"
