"""The PSF of real images, from their headers, against their bright stars."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.stats import mad_std

from ztf_sg import CutoutSet, load_cutouts
from ztf_sg.cutouts import HEADER_KEYS
from ztf_sg.features import measure_features
from ztf_sg.features.measure import CONCENTRATIONS, SPREAD_MODELS

MIN_SNR, FEWEST = 50, 5  # of the stars; of stars per image


def detected_stars(folder):
    """Return a CutoutSet of the stars of detections.csv that are well inside of their images."""
    detections, images, rows = pd.read_csv(folder / "detections.csv"), [], []
    for name, sources in detections[detections["z"].abs() < 3].groupby("file"):
        pixels, header = fits.getdata(folder / name, header=True)
        values = {key.lower(): header.get(key) for key in HEADER_KEYS}
        for x, y in sources[["x", "y"]].round().astype(int).to_numpy():
            image = pixels[max(y - 10, 0) : y + 10, max(x - 10, 0) : x + 10]
            if image.shape == (20, 20) and np.isfinite(image).all():
                images.append(image)
                rows.append(values)
    return CutoutSet(np.array(images), np.zeros(len(images), dtype=int), pd.DataFrame(rows))


def residuals(cutouts):
    """Return median and scatter of the features of bright stars, tables with one row per image."""
    wanted = [*SPREAD_MODELS, *CONCENTRATIONS]
    features = measure_features(cutouts, ["log_snr", "saturated", "blended", *wanted])
    bright = (features["log_snr"] > np.log10(MIN_SNR)) & ~features["saturated"] & ~features["blended"]
    bright &= cutouts.labels == 0
    image = [cutouts.table[name] for name in ("filter", "obsmjd", "seeing")]
    stars = features[wanted][bright]
    stars = stars[stars.groupby(image)[wanted[0]].transform("size") >= FEWEST]
    return stars.groupby(image).median(), stars.groupby(image).agg(mad_std)


def assert_small(medians, scatter, worst):
    """Assert limits for each image, and for the typical image of each band."""
    spread, concentrations = list(SPREAD_MODELS), list(CONCENTRATIONS)
    assert (medians[spread].abs() < worst).all(axis=None)
    assert (medians[concentrations].abs() < worst).all(axis=None)
    assert (medians.abs().groupby("filter").median() < 0.015).all(axis=None)
    assert (scatter.groupby("filter").median() < 0.015).all(axis=None)


def test_bright_stars_in_i_have_no_spread(real_cutouts):
    medians, scatter = residuals(load_cutouts(real_cutouts))
    assert len(medians) >= 20
    assert_small(medians, scatter, worst=0.025)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_bright_stars_in_g_and_r_have_no_spread(real_images):
    medians, scatter = residuals(detected_stars(real_images))
    assert set(medians.index.get_level_values("filter")) == {"ZTF_g", "ZTF_r"}
    assert_small(medians, scatter, worst=0.03)
