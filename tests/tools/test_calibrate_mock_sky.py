import calibrate_mock_sky
import pandas as pd
import pytest
from calibrate_mock_sky import (
    bright_stars,
    fit_psf,
    fitted_parameters,
    matched_medians,
    print_aperture_corrections,
    print_cutouts,
    print_exposures,
)
from helpers import ROOT
from two_sample import image_names

from ztf_sg import load_cutouts
from ztf_sg.simulation import parameters
from ztf_sg.simulation.psf import PSF_COLUMNS


@pytest.fixture(scope="module")
def bundled():
    """Return every fifth bundled cutout."""
    return load_cutouts(ROOT / "cutouts_test")[::5]


def test_comparison_prints_every_distribution(bundled, capsys):
    print_aperture_corrections(bundled)
    print_exposures(bundled)
    print_cutouts(bundled, bundled)
    printed = capsys.readouterr().out
    for name in ("APCOR", "SEEING", "sky", "MAGZP", "SATURATE", "noise over theory", "ellipticity"):
        assert name in printed
    assert "nan" not in printed


def test_psf_of_bundled_stars_is_fitted_to_their_noise(bundled):
    stars = bundled[bright_stars(bundled)]
    image = pd.Series(image_names(stars))
    fit = fit_psf(stars[(image == image.value_counts().index[0]).to_numpy()][:3])
    assert set(PSF_COLUMNS) < set(fit)
    assert 0.5 < fit["chi2"] < 2


def test_parameters_that_are_matched_are_parameters():
    assert all(hasattr(parameters, name) for name in calibrate_mock_sky.MATCHED)


def test_matched_parameters_follow_the_medians_and_the_psf_the_fits(bundled):
    found = matched_medians(bundled)
    wanted = found | {"NOISE_EXCESS": found["NOISE_EXCESS"] + 0.1}
    images = pd.DataFrame([dict.fromkeys(PSF_COLUMNS, 0.4) | {"seeing": seeing} for seeing in (1.5, 1.7)])
    fitted = fitted_parameters(images, wanted, found)
    assert fitted["NOISE_EXCESS"] == pytest.approx(parameters.NOISE_EXCESS * 1.105, rel=1e-3)
    assert fitted["STARS"] == parameters.STARS
    assert fitted["PSF_E1"] == (0.4, 0.0)
