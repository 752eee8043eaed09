"""The compiled measurement against the plain one, and within the bounds of its arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
from features import reference
from features.made_up import cutout_set
from helpers import ROOT, SHAPE, moffat_stars
from hypothesis import given, settings
from hypothesis import strategies as st

from ztf_sg import load_cutouts
from ztf_sg.features import FEATURES, FLAGS, compiled, measure_features, psf_fit, sky
from ztf_sg.features.measure import SPREAD_MODELS
from ztf_sg.simulation.conditions import simulate_cutouts

SHAPES = [SHAPE, (21, 21), (15, 31), (63, 63), (9, 9)]


def assert_agreement(cutouts, tolerance, order=3):
    """Assert that both measurements agree, but for a tolerance, as the compiled profiles come from tables."""
    found, expected = measure_features(cutouts, FEATURES + FLAGS), reference.measure_features(cutouts, order)
    for name in FEATURES:
        pair = found[name], expected[name]
        if name in SPREAD_MODELS:  # beyond 1, objects have less light than noise
            pair = np.clip(pair, -1, 1)
        np.testing.assert_allclose(*pair, rtol=tolerance, atol=tolerance, err_msg=name)
    for name in FLAGS:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.fixture(scope="module")
def bundle():
    return load_cutouts(ROOT / "cutouts_test")[::30]


@pytest.fixture(scope="module")
def all_conditions():
    """Return cutouts of images in all conditions, of a SEEING of 1.3 px or more."""
    cutouts = simulate_cutouts(24, 2, seed=5, n_jobs=1)
    return cutouts[(cutouts.table["seeing"] > 1.3).to_numpy()]


def test_measurement_of_the_bundle_is_the_plain_one(bundle):
    assert_agreement(bundle, tolerance=1e-4)


def test_pixels_of_the_profiles_are_averaged_well(bundle):
    assert_agreement(bundle[::2], tolerance=5e-4, order=8)


def test_measurement_in_all_conditions_is_the_plain_one(all_conditions):
    assert_agreement(all_conditions, tolerance=2e-3)


def test_measurement_of_real_cutouts_is_the_plain_one(real_cutouts):
    assert_agreement(load_cutouts(real_cutouts)[::20], tolerance=1e-4)


@settings(max_examples=8)
@given(
    shape=st.sampled_from(SHAPES),
    fwhm=st.floats(1.1, 6),
    broader=st.floats(0.8, 3),
    snr=st.floats(0, 4),
    offset=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    neighbour=st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 4)),
    odd_pixel=st.sampled_from([0, 0, 0, -1e5, 1e4, 6e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_measurement_of_anything_is_the_plain_one(
    shape, fwhm, broader, snr, offset, neighbour, odd_pixel, seed
):
    rng = np.random.default_rng(seed)
    middle_y, middle_x = (np.array(shape) - 1) / 2
    x, y = [middle_x + offset[0]], [middle_y + offset[1]]
    image = rng.normal(250, 6.7, (1, *shape))
    image += 30 * 10**snr * moffat_stars(x, y, broader * fwhm, shape=shape)
    dx, dy, brightness = neighbour
    image += 30 * 10**brightness * moffat_stars(np.add(x, dx), np.add(y, dy), fwhm, shape=shape)
    image[0].flat[rng.integers(image.size)] += odd_pixel
    assert_agreement(cutout_set(image, fwhm), tolerance=1e-2)


class Bounded(np.ndarray):
    """Array that refuses indices below 0 as well as those beyond the end; compiled code checks neither."""

    def __getitem__(self, index):
        self._check(index)
        return super().__getitem__(index)

    def __setitem__(self, index, value):
        self._check(index)
        super().__setitem__(index, value)

    def _check(self, index):
        for number in index if isinstance(index, tuple) else (index,):
            if not isinstance(number, slice) and number < 0:
                raise IndexError(f"index {index} of shape {self.shape}")


@pytest.fixture
def plain_python(monkeypatch):
    """Let the functions of the measurement run as plain Python, with arrays that refuse odd indices."""
    for module in (compiled, psf_fit, sky):
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    empty, zeros = (lambda *a, make=make, **k: make(*a, **k).view(Bounded) for make in (np.empty, np.zeros))
    bounded = SimpleNamespace(**vars(np) | {"empty": empty, "zeros": zeros})
    for module in (compiled, psf_fit, sky):
        monkeypatch.setattr(module, "np", bounded)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (3, 2), (5, 5), (3, 40), (7, 6), SHAPE])
def test_no_index_is_out_of_bounds_in_images_of_any_size(shape, plain_python):
    rng = np.random.default_rng(0)
    images = rng.normal(250, 7, (4, *shape))
    images[1] += rng.normal(0, 1e5, shape)
    images[2:] = 250
    images[3].flat[-1] = 1e30
    features = measure_features(cutout_set(images), FEATURES + FLAGS)
    assert np.isfinite(features.to_numpy(dtype=float)).all()
