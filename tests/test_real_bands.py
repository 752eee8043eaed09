"""The same sources in real images of g and of r, fetched from the loopback archive."""

import runpy

import pandas as pd
import pytest
from helpers import ROOT

from ztf_sg import StarGalaxyClassifier

BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "real_bands.py"))
FEWEST = 40  # sources with usable cutouts in two bands


def test_bands_of_an_object_are_compared():
    star, galaxy, unsure = (0, False), (1, False), (1, True)
    objects = {1: [star, star], 2: [star, galaxy], 3: [star, unsure], 4: [galaxy, unsure], 5: [galaxy]}
    rows = [
        (number, band, *answer)
        for number, answers in objects.items()
        for band, answer in zip(("ZTF_g", "ZTF_r"), answers, strict=False)
    ]
    table = pd.DataFrame(rows, columns=["object", "filter", "class", "ambiguous"])
    pairs = BENCHMARK["compare_bands"](table)
    assert pairs.index.tolist() == [1, 2, 3, 4]
    assert pairs["same"].tolist() == [True, False, False, True]
    assert pairs["deferred"].tolist() == [False, False, True, True]
    assert pairs["contradictory"].tolist() == [False, True, False, False]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_no_source_is_decided_to_be_a_star_in_one_band_and_a_galaxy_in_another(
    real_images, no_account, monkeypatch, tmp_path
):
    detections = pd.read_csv(real_images / "detections.csv")
    with BENCHMARK["ArchiveServer"](sky=BENCHMARK["ImageParts"](real_images)) as archive:
        BENCHMARK["point_clients_to"](archive.url, monkeypatch.setattr)
        sources = BENCHMARK["match"](detections, archive.sky)
        both = sources[BENCHMARK["in_both_bands"](sources, archive.sky)].reset_index(drop=True)
        table = BENCHMARK["classify"](both, tmp_path, StarGalaxyClassifier.pretrained())
    pairs = BENCHMARK["compare_bands"](table)
    assert len(pairs) >= FEWEST
    assert not pairs["contradictory"].any()
    assert (pairs["same"] & ~pairs["deferred"]).mean() > 0.6
