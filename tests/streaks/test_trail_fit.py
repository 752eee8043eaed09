import numpy as np
import pytest
from scipy.special import ndtr

from ztf_sg.streaks import trail_fit
from ztf_sg.streaks.trail_fit import POINT, cramer_rao, fit, information, pixels_around, profile_width

SIDE = 63


def drawn(parameters, step=0.05):
    """Return the pixels of a trail as many points, each integrated over the pixels."""
    flux, x, y, sigma, length, angle = parameters
    count = max(round(length / step), 1)
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    edges = np.arange(SIDE + 1) - 0.5
    columns, rows = (
        np.diff(ndtr((edges - centre[:, None]) / sigma), axis=1)
        for centre in (x + along * np.cos(angle), y + along * np.sin(angle))
    )
    return flux * rows.T @ columns / count


def fitted(image, guess, count=6):
    parameters, covariance = np.array(guess, dtype=float), np.empty((6, 6))
    pixels = pixels_around(np.ones_like(image), parameters)
    chi2 = fit(image, pixels, count, 0.0, parameters[3], parameters, covariance)
    return parameters, covariance, chi2, len(pixels)


@pytest.mark.parametrize("length", [0.0, 2.0, 15.0])
def test_the_slope_is_that_of_chi_squared(length):
    truth = np.array([300.0, 31.2, 30.7, 1.3, length, 0.6])
    image = drawn(truth) + np.random.default_rng(0).normal(size=(SIDE, SIDE))
    pixels = np.argwhere(np.ones_like(image, dtype=bool))
    matrix, slope = np.empty((6, 6)), np.empty(6)
    information(image, pixels, truth, 6, 0.0, matrix, slope)
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-4
        high, low = (
            information(image, pixels, truth + sign * step, 6, 0.0, matrix, np.empty(6)) for sign in (1, -1)
        )
        assert slope[k] == pytest.approx((low - high) / 4e-4, rel=1e-3, abs=2e-2)


@pytest.mark.parametrize("length, angle", [(0.0, 0.0), (6.0, 0.3), (25.0, 2.2), (45.0, 1.1)])
def test_the_profile_is_that_of_a_moving_point_seen_by_pixels(length, angle):
    truth = [1000.0, 31.3, 30.8, 1.2, length, angle]
    image = drawn(truth)
    model = [1000.0, 31.3, 30.8, np.hypot(1.2, np.sqrt(1 / 12)), length, angle]
    pixels = np.argwhere(np.ones_like(image, dtype=bool))
    chi2 = information(image, pixels, np.array(model), 6, 0.0, np.empty((6, 6)), np.empty(6))
    assert np.sqrt(chi2 / (image**2).sum()) < 0.01


def test_a_fit_is_as_good_as_can_be():
    rng, width, errors = np.random.default_rng(2), float(profile_width(2.2)), []
    for angle in rng.uniform(0, np.pi, 6):
        clean = drawn([150.0, 31.2, 30.9, 2.2 / 2.3548, 12.0, angle])
        for _ in range(10):
            image = clean + rng.normal(size=(SIDE, SIDE))
            found = fitted(image, [100.0, 31.0, 31.0, width, 9.0, angle + 0.2])[0]
            errors.append([found[4] - 12, np.degrees(found[5] - angle)])
    bound = cramer_rao(150.0, 12.0, 40.0, 2.2)
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    assert rms[0] < 1.3 * bound["length"]
    assert rms[1] < 1.3 * bound["angle"]


def test_errors_are_those_of_the_bound():
    width = float(profile_width(2.0))
    image = drawn([400.0, 31.0, 31.0, 2.0 / 2.3548, 20.0, 0.5])
    covariance = fitted(image, [400.0, 31.0, 31.0, width, 20.0, 0.5])[1]
    bound = cramer_rao(400.0, 20.0, np.degrees(0.5), 2.0, known_width=False)
    assert np.sqrt(covariance[4, 4]) == pytest.approx(bound["length"], rel=0.1)
    assert np.degrees(np.sqrt(covariance[5, 5])) == pytest.approx(bound["angle"], rel=0.1)


def test_a_point_is_fitted_as_one():
    width = float(profile_width(2.5))
    image = drawn([500.0, 31.4, 30.6, 2.5 / 2.3548, 0.0, 0.0]) + np.random.default_rng(3).normal(
        size=(SIDE, SIDE)
    )
    found, _, chi2, pixels = fitted(image, [300.0, 31.0, 31.0, width, 0.0, 0.0], POINT)
    assert found[0] == pytest.approx(500, rel=0.1)
    assert found[1:3] == pytest.approx([31.4, 30.6], abs=0.1)
    assert found[4] == 0
    assert chi2 / pixels == pytest.approx(1, abs=0.35)


def test_the_bound_follows_noise_and_photons():
    quiet, noisy = (cramer_rao(1000.0, 10.0, 30.0, 2.0, noise=noise) for noise in (1.0, 2.0))
    assert noisy["length"] == pytest.approx(2 * quiet["length"])
    assert cramer_rao(1000.0, 10.0, 30.0, 2.0, gain=1.0)["length"] > quiet["length"]
    assert "width" not in quiet
    assert cramer_rao(1000.0, 10.0, 30.0, 2.0, known_width=False)["width"] > 0


def test_a_trail_of_no_length_has_no_direction_and_breaks_no_fit():
    found, covariance, *_ = fitted(np.zeros((SIDE, SIDE)), [1.0, 31.0, 31.0, 1.0, 5.0, 0.0])
    assert np.isfinite(found).all()
    assert np.isfinite(covariance).all()
    assert trail_fit.PARAMETERS[4] == "length"
