import galsim
import numpy as np
import pandas as pd
import pytest
from helpers import MIDDLE, ROOT, SHAPE, near_middle
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg import load_cutouts
from ztf_sg.features.psf import APCOR_COLUMNS, PSF_BETA, curve_of_growth, moffat


def test_corrections_are_those_of_the_header():
    table = load_cutouts(ROOT / "cutouts_test").table
    np.testing.assert_array_equal(curve_of_growth(table), table[APCOR_COLUMNS])


def test_without_those_of_the_header_they_follow_from_the_seeing():
    table = load_cutouts(ROOT / "cutouts_test").table
    mean = curve_of_growth(table.assign(**dict.fromkeys(APCOR_COLUMNS, np.nan)))
    np.testing.assert_allclose(mean, table[APCOR_COLUMNS], atol=0.12)
    assert len(np.unique(mean[:, 0])) == table["seeing"].nunique()


def test_one_missing_correction_leaves_the_others():
    table = pd.DataFrame(
        {"seeing": 1.7, "apcor1": -0.9, "apcor2": [-0.4, np.nan], "apcor3": -0.2, "apcor4": -0.1}
    )
    whole, with_gap = curve_of_growth(table)
    assert whole.tolist() == [-0.9, -0.4, -0.2, -0.1]
    assert with_gap[[0, 2, 3]].tolist() == [-0.9, -0.2, -0.1]
    assert with_gap[1] == pytest.approx(-0.385 - 0.1 * 0.303)


@given(
    x=st.floats(6, 13),
    y=st.floats(6, 13),
    fwhm=st.floats(1, 8),
    oversampling=st.integers(1, 5),
)
def test_moffat_profiles_sum_to_one(x, y, fwhm, oversampling):
    profile = moffat((1, *SHAPE), *np.array([[x], [y], [fwhm]]), oversampling=oversampling)
    assert profile.shape == (1, *SHAPE)
    assert (profile > 0).all()
    np.testing.assert_allclose(profile.sum(), 1)


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_moffat_is_galsims_moffat_convolved_with_the_pixel(fwhm):
    x, y = near_middle(5)
    ours = moffat((5, *SHAPE), x, y, np.full(5, fwhm))
    for profile, dx, dy in zip(ours, x - MIDDLE, y - MIDDLE, strict=True):
        star = galsim.Moffat(beta=PSF_BETA, fwhm=fwhm)
        expected = star.drawImage(nx=20, ny=20, scale=1, offset=(dx, dy), dtype=float).array
        expected /= expected.sum()
        np.testing.assert_allclose(profile, expected, atol=0.03 * expected.max())
        assert np.abs(profile - expected).sum() < 0.02


def test_moffat_profiles_may_fill_any_rectangle():
    profile = moffat((1, 15, 31), np.array([20.0]), np.array([6.0]), np.array([2.0]))[0]
    assert np.unravel_index(profile.argmax(), profile.shape) == (6, 20)
