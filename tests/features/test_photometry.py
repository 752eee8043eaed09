import numpy as np
import pytest
from features import reference
from helpers import MIDDLE, SHAPE, exact_fluxes, moffat_stars, near_middle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg.features.compiled import CENTROID_RADIUS
from ztf_sg.features.photometry import APERTURES, aperture_fluxes, background, centroids
from ztf_sg.ztf import APERTURES as ALL_APERTURES


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_aperture_fluxes_of_stars_are_photutils(fwhm):
    x, y = near_middle(100)
    images = 1e4 * moffat_stars(x, y, fwhm)
    np.testing.assert_allclose(aperture_fluxes(images, x, y), exact_fluxes(images, x, y), rtol=0.01)


@pytest.mark.parametrize("diameters", [APERTURES, ALL_APERTURES, (0.5, 40)])
def test_apertures_have_the_area_of_their_circles(diameters):
    x, y = near_middle(100) + 20
    areas = np.pi * np.array(diameters) ** 2 / 4
    measured = aperture_fluxes(np.ones((100, 60, 60)), x, y, diameters)
    np.testing.assert_allclose(measured[:, 1:], np.tile(areas[1:], (100, 1)), rtol=0.01)
    np.testing.assert_allclose(measured[:, 0], areas[0], rtol=0.1)


def test_an_aperture_may_reach_over_the_edge():
    light = np.random.default_rng(0).normal(10, 1, (4, 9, 12))
    x, y = np.array([0.2, 11.0, 5.5, -1.0]), np.array([0.4, 8.0, 4.0, 4.0])
    wide = np.pad(light, ((0, 0), (10, 10), (10, 10)))
    np.testing.assert_allclose(
        aperture_fluxes(light, x, y), aperture_fluxes(wide, x + 10, y + 10), rtol=1e-12
    )


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_centroids_recover_the_positions_of_bright_stars(fwhm):
    x, y = near_middle(200, radius=2)
    noise = np.random.default_rng(1).normal(0, 7, (200, *SHAPE))
    found = centroids(2e4 * moffat_stars(x, y, fwhm) + noise)
    np.testing.assert_allclose(found, (x, y), atol=0.05)


@given(hnp.arrays(np.float64, (1, *SHAPE), elements=st.floats(-1e6, 1e6)))
def test_centroids_stay_near_the_middle(image):
    for position in centroids(image):
        assert np.abs(position - MIDDLE).max() <= CENTROID_RADIUS


def test_a_brighter_neighbour_in_the_corner_is_not_the_object():
    x, y = near_middle(20)
    light = 1e4 * moffat_stars(x, y, 1.6) + 5e4 * moffat_stars([1.0], [18.0], 1.6)
    np.testing.assert_allclose(centroids(light), (x, y), atol=0.2)


def test_background_is_the_sky_around_the_object():
    rng = np.random.default_rng(0)
    levels = np.array([179, 259, 653, -3.0])
    noises = np.array([5.5, 6.7, 10.7, 4.0])
    images = rng.normal(levels[:, None, None, None], noises[:, None, None, None], (4, 50, *SHAPE))
    images += 2e3 * moffat_stars(*near_middle(50), 1.4)
    sky, noise = (value.reshape(4, 50) for value in background(images.reshape(-1, *SHAPE)))
    standard_error = 1.25 * noises / np.sqrt(144)
    assert (np.abs(sky - levels[:, None]) < 5 * standard_error[:, None]).all()
    np.testing.assert_allclose(sky.mean(axis=1), levels, atol=0.3)
    np.testing.assert_allclose(noise.mean(axis=1), noises, rtol=0.04)
    np.testing.assert_allclose(noise, np.tile(noises, (50, 1)).T, rtol=0.3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (3, 40), (5, 5), (15, 31), SHAPE])
@pytest.mark.parametrize("digits", [0, 3])
def test_background_is_that_of_astropys_sigma_clip(shape, digits):
    images = np.random.default_rng(digits).standard_t(2, (20, *shape)).round(digits) * 5 + 200
    expected = np.transpose([reference.background(image) for image in images])
    np.testing.assert_allclose(background(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("flux", [1e3, 1e4, 1e6])
def test_a_neighbour_in_the_border_hardly_moves_the_background(flux):
    images = np.random.default_rng(0).normal(250, 6.7, (50, *SHAPE))
    neighbour = flux * moffat_stars(np.full(50, 1.0), np.full(50, 13.0), 1.4)
    neighbour[neighbour < 1e-3 * flux] = 0
    sky, noise = background(images + neighbour)
    alone, _ = background(images)
    np.testing.assert_allclose(sky, alone, atol=2.5)
    np.testing.assert_allclose(sky.mean(), 250, atol=1)
    np.testing.assert_allclose(noise.mean(), 6.7, rtol=0.08)
