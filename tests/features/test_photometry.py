import numpy as np
import pytest
from helpers import MIDDLE, SHAPE, exact_fluxes, fine_profiles, near_middle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg.features.photometry import (
    APERTURES,
    CENTROID_RADIUS,
    aperture_fluxes,
    background,
    centroids,
    without_neighbours,
)


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_aperture_fluxes_of_stars_are_photutils(fwhm):
    x, y = near_middle(100)
    images = 1e4 * fine_profiles(x, y, fwhm)
    np.testing.assert_allclose(aperture_fluxes(images, x, y), exact_fluxes(images, x, y), rtol=0.01)


def test_apertures_have_the_area_of_their_circles():
    x, y = near_middle(100)
    areas = np.pi * np.array(APERTURES) ** 2 / 4
    measured = aperture_fluxes(np.ones((100, *SHAPE)), x, y)
    np.testing.assert_allclose(measured, np.tile(areas, (100, 1)), rtol=0.01)


def test_the_window_of_an_aperture_may_reach_over_the_edge():
    light = np.random.default_rng(0).normal(10, 1, (4, 9, 12))
    x, y = np.array([0.2, 11.0, 5.5, -1.0]), np.array([0.4, 8.0, 4.0, 4.0])
    wide = np.pad(light, ((0, 0), (10, 10), (10, 10)))
    np.testing.assert_allclose(
        aperture_fluxes(light, x, y), aperture_fluxes(wide, x + 10, y + 10), rtol=1e-12
    )


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_centroids_recover_the_places_of_bright_stars(fwhm):
    x, y = near_middle(200, radius=2)
    noise = np.random.default_rng(1).normal(0, 7, (200, *SHAPE))
    found = centroids(2e4 * fine_profiles(x, y, fwhm) + noise)
    np.testing.assert_allclose(found, (x, y), atol=0.05)


@given(hnp.arrays(np.float64, (1, *SHAPE), elements=st.floats(-1e6, 1e6)))
def test_centroids_stay_near_the_middle(image):
    for place in centroids(image):
        assert np.abs(place - MIDDLE).max() <= CENTROID_RADIUS


def test_a_brighter_neighbour_in_the_corner_is_not_the_object():
    x, y = near_middle(20)
    light = 1e4 * fine_profiles(x, y, 1.6) + 5e4 * fine_profiles(np.full(20, 1.0), np.full(20, 18.0), 1.6)
    np.testing.assert_allclose(centroids(light), (x, y), atol=0.2)


def test_background_is_the_sky_around_the_object():
    rng = np.random.default_rng(0)
    levels = np.array([179, 259, 653, -3.0])
    noises = np.array([5.5, 6.7, 10.7, 4.0])
    images = rng.normal(levels[:, None, None, None], noises[:, None, None, None], (4, 50, *SHAPE))
    x, y = near_middle(50)
    images += 2e3 * fine_profiles(x, y, 1.4)
    sky, noise = (value.reshape(4, 50) for value in background(images.reshape(-1, *SHAPE)))
    standard_error = 1.25 * noises / np.sqrt(144)
    assert (np.abs(sky - levels[:, None]) < 5 * standard_error[:, None]).all()
    np.testing.assert_allclose(sky.mean(axis=1), levels, atol=0.3)
    np.testing.assert_allclose(noise.mean(axis=1), noises, rtol=0.04)
    np.testing.assert_allclose(noise, np.tile(noises, (50, 1)).T, rtol=0.3)


@pytest.mark.parametrize("flux", [1e3, 1e4, 1e6])
def test_a_neighbour_in_the_border_hardly_moves_the_background(flux):
    images = np.random.default_rng(0).normal(250, 6.7, (50, *SHAPE))
    neighbour = flux * fine_profiles(np.full(50, 1.0), np.full(50, 13.0), 1.4)
    neighbour[neighbour < 1e-3 * flux] = 0
    sky, noise = background(images + neighbour)
    alone, _ = background(images)
    np.testing.assert_allclose(sky, alone, atol=2.5)
    np.testing.assert_allclose(sky.mean(), 250, atol=1)
    np.testing.assert_allclose(noise.mean(), 6.7, rtol=0.08)


def test_neighbours_are_replaced_by_the_opposite_side_and_the_object_is_left():
    x, y = near_middle(20)
    noise, gain = np.full(20, 6.7), np.full(20, 6.2)
    star = 1e4 * fine_profiles(x, y, 1.4)
    neighbour = 1e3 * fine_profiles(x + 5, y - 3, 1.4)
    found = without_neighbours(star + neighbour, x, y, noise, gain)
    np.testing.assert_array_equal(without_neighbours(star, x, y, noise, gain), star)
    assert (np.abs(found - star).sum(axis=(1, 2)) < 0.4 * neighbour.sum(axis=(1, 2))).all()
    corner = star.copy()
    corner[:, 0, 0] += 1e5  # opposite of which there may be no pixel
    kept = without_neighbours(corner, x + 3, y + 3, noise, gain)
    np.testing.assert_array_equal(kept[:, 0, 0], corner[:, 0, 0])
