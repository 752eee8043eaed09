from itertools import combinations

import galsim
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, exact_fluxes, moffat_stars
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg import load_cutouts
from ztf_sg.features.psf import (
    APCOR_COLUMNS,
    APCOR_ERRORS,
    INDICES,
    TYPICAL_INDEX,
    WIDTHS,
    aperture_shares,
    curve_of_growth,
    image_psf,
)
from ztf_sg.simulation.psf import aperture_shares as exact_shares
from ztf_sg.ztf import APERTURES

OTHER_PSFS = {
    "kolmogorov": galsim.Kolmogorov(fwhm=1),
    "two_indices": galsim.Moffat(2.5, fwhm=1) * 0.5 + galsim.Moffat(4.5, fwhm=1) * 0.5,
    "core_and_halo": galsim.Moffat(3.5, fwhm=1) * 0.85 + galsim.Moffat(2.5, fwhm=2.5) * 0.15,
    "elliptical": galsim.Moffat(2.5, fwhm=1).shear(g1=0.05),
    "out_of_focus": galsim.Convolve(galsim.Moffat(3.5, fwhm=0.9), galsim.TopHat(0.4)),
}


def header_table(corrections, seeing=2.0):
    """Return a table of APCOR1..6 [mag], shape (n, 6), and SEEING [px]."""
    return pd.DataFrame(np.atleast_2d(corrections), columns=APCOR_COLUMNS).assign(seeing=seeing)


def corrections_of(fwhm, beta):
    return 2.5 * np.log10(aperture_shares(fwhm, beta))


@pytest.fixture(scope="module")
def profiles():
    """Return FWHM [px] and index of 300 Moffat profiles, and their APCOR1..6 but for an offset each [mag]."""
    rng = np.random.default_rng(0)
    fwhm, beta = np.exp(rng.uniform(*np.log([0.7, 6]), 300)), 1 / rng.uniform(1 / 8, 1 / 1.6, 300)
    return fwhm, beta, corrections_of(fwhm, beta) + rng.normal(0, 0.05, (300, 1))


@pytest.fixture(scope="module")
def bundle_table():
    return load_cutouts(ROOT / "cutouts_test").table


@pytest.mark.parametrize("fwhm, tolerance", [(0.7, 0.005), (1.3, 0.002), (2.0, 0.001), (5.0, 0.001)])
@pytest.mark.parametrize("beta", [1.5, 2.8, 8.0])
def test_shares_are_those_of_photutils_over_many_positions_on_the_pixels(fwhm, beta, tolerance):
    x, y = (np.stack(np.meshgrid(*[14.5 + (np.arange(6) + 0.5) / 6] * 2)) + [[[0.0]], [[1.0]]]).reshape(2, -1)
    fluxes = exact_fluxes(moffat_stars(x, y, fwhm, beta, (31, 31)), x, y, APERTURES)
    np.testing.assert_allclose(aperture_shares([fwhm], [beta])[0], fluxes.mean(axis=0), rtol=tolerance)


@given(
    fwhm=hnp.arrays(float, 3, elements=st.floats(WIDTHS[0], WIDTHS[-1])),
    beta=hnp.arrays(float, 3, elements=st.floats(INDICES.min(), INDICES.max())),
)
def test_shares_rise_with_the_aperture_and_are_less_than_one(fwhm, beta):
    shares = aperture_shares(fwhm, beta)
    assert (shares > 0).all() and (shares < 1 + 1e-12).all()
    assert (np.diff(shares, axis=1) > -1e-12).all()
    assert (aperture_shares(1.1 * fwhm, beta) <= shares + 1e-12).all()


def test_width_and_index_of_a_moffat_profile_are_found(profiles):
    fwhm, beta, corrections = profiles
    found_fwhm, found_beta, from_apcor = image_psf(header_table(corrections))
    assert from_apcor.all()
    np.testing.assert_allclose(found_fwhm, fwhm, rtol=1e-3)
    np.testing.assert_allclose(1 / found_beta, 1 / beta, atol=1e-3)


def without_offset(differences):
    """Return differences of magnitudes, shape (n, 6), less the mean by which a fit makes up for them."""
    return differences - np.average(differences, axis=1, weights=APCOR_ERRORS**-2)[:, None]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_some_of_the_corrections_are_enough(profiles, count):
    fwhm, beta, corrections = profiles
    rows = slice(0, None, 5)
    for known in combinations(range(6), count):
        some = np.full_like(corrections[rows], np.nan)
        some[:, known] = corrections[rows][:, known]
        found_fwhm, found_beta, from_apcor = image_psf(header_table(some))
        assert from_apcor.all()
        model = corrections_of(found_fwhm, found_beta)[:, known]
        offset = np.average(some[:, known] - model, axis=1, weights=APCOR_ERRORS[list(known)] ** -2)
        np.testing.assert_allclose(model + offset[:, None], some[:, known], atol=0.03)
        assert np.median(np.abs(found_fwhm / fwhm[rows] - 1)) < 1e-3


@pytest.mark.parametrize("known", [0, 1, 2])
def test_with_fewer_than_three_corrections_the_psf_is_a_guess_from_the_seeing(profiles, known):
    some = profiles[2][:3].copy()
    some[:, known:] = np.nan
    fwhm, beta, from_apcor = image_psf(header_table(some, seeing=[1.2, 1.6, 4.0]))
    assert not from_apcor.any()
    assert (beta == TYPICAL_INDEX).all()
    assert (np.diff(fwhm) > 0).all()
    assert (fwhm < [1.2, 1.6, 4.0]).all() and (fwhm > [0.5, 1, 3.5]).all()


def test_the_guess_is_near_what_the_corrections_of_the_bundle_tell(bundle_table):
    guess, _, _ = image_psf(bundle_table.assign(**dict.fromkeys(APCOR_COLUMNS, np.nan)))
    fwhm, _, from_apcor = image_psf(bundle_table)
    assert from_apcor.all()
    np.testing.assert_allclose(np.median(guess / fwhm), 1, atol=0.03)
    assert np.std(guess / fwhm) < 0.06


def test_each_image_has_the_psf_that_it_has_alone(profiles):
    table = header_table(profiles[2][:20]).iloc[np.arange(60) % 20].reset_index(drop=True)
    table.loc[::7, "apcor2"] = np.nan
    together = np.array(image_psf(table))
    alone = np.hstack([image_psf(table[row : row + 1]) for row in range(60)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("shape", OTHER_PSFS.values(), ids=OTHER_PSFS)
def test_psfs_that_are_no_moffat_keep_their_curve_of_growth(shape):
    psfs = [shape.dilate(width) for width in (0.8, 1.3, 2.0, 4.0)]
    corrections = 2.5 * np.log10([exact_shares(psf) for psf in psfs])
    fwhm, beta, _ = image_psf(header_table(corrections))
    left = np.abs(without_offset(corrections - corrections_of(fwhm, beta)))
    assert (left[:, :4] < 0.006).all()
    assert (left[:, 4:] < 0.02).all()


def test_growth_is_that_of_the_header(bundle_table):
    growth = curve_of_growth(bundle_table, *image_psf(bundle_table))
    np.testing.assert_array_equal(growth, bundle_table[APCOR_COLUMNS])


@pytest.mark.parametrize("missing", range(6))
def test_a_gap_in_the_growth_is_filled_from_the_profile(bundle_table, missing):
    table = bundle_table[::15].reset_index(drop=True)
    gap = table.assign(**{APCOR_COLUMNS[missing]: np.nan})
    growth = curve_of_growth(gap, *image_psf(gap))
    np.testing.assert_allclose(growth, table[APCOR_COLUMNS], atol=0.05)
    others = np.arange(6) != missing
    np.testing.assert_array_equal(growth[:, others], table[APCOR_COLUMNS].to_numpy()[:, others])


def test_without_corrections_the_growth_is_that_of_the_seeing(bundle_table):
    table = bundle_table[::15].reset_index(drop=True)
    empty = table.assign(**dict.fromkeys(APCOR_COLUMNS, np.nan))
    growth = curve_of_growth(empty, *image_psf(empty))
    np.testing.assert_allclose(growth[:, :4], table[APCOR_COLUMNS[:4]], atol=0.17)


@given(
    hnp.arrays(float, (3, 6), elements=st.sampled_from([np.nan]) | st.floats(-100, 100) | st.floats(-1, 0.1))
)
def test_absurd_corrections_give_some_tabulated_profile(corrections):
    assert_tabulated(header_table(corrections))


ABSURD = [99.0, -99.0, -5.0, 2.0]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("value", ABSURD)
def test_one_absurd_correction_makes_the_psf_a_guess_from_the_seeing(bundle_table, number, value):
    table = bundle_table[:3]
    assert_guessed(table.assign(**{APCOR_COLUMNS[number]: value}))
    mixed = pd.concat([table, table.assign(**{APCOR_COLUMNS[number]: value})])
    np.testing.assert_array_equal(image_psf(mixed)[2], [True] * 3 + [False] * 3)


@pytest.mark.parametrize("value", [*ABSURD, 0.0])
def test_equal_corrections_make_the_psf_a_guess_from_the_seeing(bundle_table, value):
    assert_guessed(bundle_table[:3].assign(**dict.fromkeys(APCOR_COLUMNS, value)))


def test_rising_corrections_make_the_psf_a_guess_from_the_seeing(bundle_table):
    assert_guessed(bundle_table[:3].assign(**{name: -bundle_table[name] for name in APCOR_COLUMNS}))


def assert_guessed(table):
    """Assert that the corrections of a table count for nothing."""
    psf = image_psf(table)
    assert not psf[2].any()
    without = table.assign(**dict.fromkeys(APCOR_COLUMNS, np.nan))
    np.testing.assert_array_equal(psf, image_psf(without))
    np.testing.assert_array_equal(curve_of_growth(table, *psf), curve_of_growth(without, *psf))


def assert_tabulated(table):
    fwhm, beta, from_apcor = image_psf(table)
    assert (fwhm >= WIDTHS[0] - 1e-9).all() and (fwhm <= WIDTHS[-1] + 1e-9).all()
    assert (beta >= INDICES.min() - 1e-9).all() and (beta <= INDICES.max() + 1e-9).all()
    assert np.isfinite(curve_of_growth(table, fwhm, beta, from_apcor)).all()


def test_corrections_that_tell_nothing_give_some_tabulated_profile():
    corrections = corrections_of([WIDTHS[0]], [INDICES[-1]])
    for known in combinations(range(6), 3):
        some = np.full_like(corrections, np.nan)
        some[:, known] = corrections[:, known]
        assert_tabulated(header_table(some))
