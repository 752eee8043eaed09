import numpy as np
from helpers import MIDDLE, SHAPE, fine_profiles, near_middle

from ztf_sg.features.shapes import moments, spread_model


def test_spread_model_is_measured_in_units_of_the_objects_own_light():
    x, y = near_middle(20)
    light = fine_profiles(x, y, 2.0)
    noise, gain, seeing = (np.full(20, value) for value in (30.0, 1e9, 1.6))
    faint, bright = (spread_model(flux * light, x, y, seeing, noise, gain) for flux in (100, 200))
    np.testing.assert_allclose(faint, bright, rtol=0.05)


def test_moments_of_a_gaussian_are_known():
    rows, columns = np.indices(SHAPE)
    sigma, weight_sigma = 2.0, 6.0 / 2.3548
    image = np.exp(-((rows - MIDDLE) ** 2 + (columns - MIDDLE) ** 2) / (2 * sigma**2))[None]
    radius, ellipticity = moments(image, np.array([MIDDLE]), np.array([MIDDLE]))
    expected = np.sqrt(2 / (sigma**-2 + weight_sigma**-2))
    np.testing.assert_allclose(radius, expected, rtol=1e-3)
    np.testing.assert_allclose(ellipticity, 0, atol=1e-9)
