import galsim
import numpy as np
import pytest

from ztf_sg.simulation.fourier import (
    BOX,
    PIXEL,
    blur,
    disc,
    effective_area,
    points,
    sampled,
    segment,
    spergel,
)

X, Y = 47.3, 49.8


def galsim_image(profile, x=X, y=Y):
    image = galsim.ImageD(BOX, BOX, xmin=0, ymin=0, scale=1.0)
    return profile.drawImage(image, center=galsim.PositionD(x, y)).array


@pytest.mark.parametrize("fwhm", [1.6, 2.5, 5.0])
def test_kolmogorov_star_agrees_with_galsim(fwhm):
    light = sampled(points([X], [Y], [1.0]) * PIXEL * blur(fwhm, 5 / 3))
    expected = galsim_image(galsim.Kolmogorov(fwhm=fwhm))
    assert np.abs(light - expected).max() < 0.005 * expected.max()


def test_gaussian_trail_agrees_with_galsim():
    light = sampled(points([X], [Y], [1.0]) * PIXEL * blur(2.4, 2.0) * segment(14.0, 30.0))
    line = galsim.Box(14.0, 1e-3).rotate(30 * galsim.degrees)
    expected = galsim_image(galsim.Convolve(galsim.Gaussian(fwhm=2.4), line))
    assert np.abs(light - expected).max() < 0.005 * expected.max()


@pytest.mark.parametrize(("index", "ratio"), [(0.5, 0.5), (-0.5, 1.0)])
def test_galaxy_agrees_with_galsim(index, ratio):
    light = sampled(points([X], [Y], [1.0]) * PIXEL * blur(2.4, 2.0) * spergel(2.0, index, ratio, 40.0))
    round_galaxy = galsim.Spergel(nu=index, scale_radius=2.0)
    galaxy = round_galaxy.transform(1, 0, 0, ratio).withFlux(1).rotate(40 * galsim.degrees)
    expected = galsim_image(galsim.Convolve(galsim.Gaussian(fwhm=2.4), galaxy))
    assert np.abs(light - expected).max() < 0.01 * expected.max()


def test_defocused_light_is_an_even_disc():
    light = sampled(points([X], [Y], [1.0]) * PIXEL * disc(12.0) * blur(1.5, 2.0))
    rows, columns = np.indices(light.shape)
    distance = np.hypot(columns - X, rows - Y)
    assert light[distance < 4].mean() == pytest.approx(1 / (np.pi * 36), rel=0.01)
    assert light[distance > 8].max() < 1e-4


def test_points_have_their_fluxes_and_positions():
    light = sampled(points([10.0, 60.0], [20.0, 70.0], [5.0, -2.0]) * PIXEL * blur(2.0, 2.0))
    assert light[10:31, :21].sum() == pytest.approx(5, rel=1e-3)
    assert light[60:81, 50:71].sum() == pytest.approx(-2, rel=1e-3)
    assert np.unravel_index(np.argmax(light), light.shape) == (20, 10)


def test_effective_area_is_that_of_the_pixels():
    transform = PIXEL * blur(2.5, 1.6)
    areas = [1 / (sampled(transform * points([50 + d], [50.3], [1.0])) ** 2).sum() for d in (0, 0.25, 0.5)]
    assert effective_area(transform) == pytest.approx(np.mean(areas), rel=0.02)
