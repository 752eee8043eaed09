import tracemalloc
from functools import cache

import galsim
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, SHAPE, exact_fluxes, fine_profiles, modules_after, near_middle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from ztf_sg import CutoutSet, load_cutouts, parallel
from ztf_sg.features import FEATURES, measure_features
from ztf_sg.features.psf import PSF_BETA, PSF_FWHM_OVER_SEEING

SPREADS = ["spread_model_1.3", "spread_model_2.0", "spread_model_3.5"]
CONCENTRATIONS = ["conc_2", "conc_3", "conc_4"]
APCOR = [f"apcor{number}" for number in range(1, 7)]
SEEINGS = (1.45, 1.6, 1.8)


@cache
def point_source_apcor(seeing):
    """Return APCOR1..4 [mag] of images with the mean profile of this seeing."""
    x, y = near_middle(100, radius=0.5, random_state=1)
    return 2.5 * np.log10(exact_fluxes(fine_profiles(x, y, PSF_FWHM_OVER_SEEING * seeing), x, y).mean(axis=0))


def cutout_set(images, seeing=1.6, **changes):
    """Return a CutoutSet of images with the header of a typical ZTF image."""
    values = {
        "seeing": seeing, "magzp": 25.6, "gain": 6.2, "saturate": 49000.0, "obsmjd": 58738.4,
        **dict(zip(APCOR, [*point_source_apcor(seeing), -0.013, 0.001], strict=True)),
    }  # fmt: skip
    images = np.asarray(images, dtype=np.float32)
    table = pd.DataFrame(values | changes, index=range(len(images)))
    return CutoutSet(images, np.zeros(len(images), dtype=np.int8), table)


def stars(n=40, seeing=1.6, flux=1e4, sky=250.0, broader=1.0, random_state=0):
    """Return noiseless stars, or objects that are broader than stars."""
    x, y = near_middle(n, random_state=random_state)
    light = fine_profiles(x, y, broader * PSF_FWHM_OVER_SEEING * seeing)
    return cutout_set(sky + flux * light, seeing)


@pytest.fixture(scope="module")
def bundle():
    return load_cutouts(ROOT / "cutouts_test")


def assert_rows_of_finite_features(features, n):
    assert list(features.columns) == list(FEATURES)
    assert features.shape == (n, len(FEATURES))
    assert np.isfinite(features.to_numpy()).all()
    assert features["ellipticity"].between(0, 1).all()
    assert (features["size"] > 0).all()


def test_every_cutout_gets_one_row_of_the_named_features(simulated_cutouts):
    cutouts = load_cutouts(simulated_cutouts)
    assert_rows_of_finite_features(measure_features(cutouts), len(cutouts))


@settings(max_examples=20)
@given(hnp.arrays(np.float32, (2, *SHAPE), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_any_finite_image_has_finite_features(images):
    assert_rows_of_finite_features(measure_features(cutout_set(images)), 2)


@settings(max_examples=20)
@given(
    sky=st.floats(-1e6, 1e6),
    value=st.floats(-1e30, 1e30),
    row=st.integers(0, 19),
    column=st.integers(0, 19),
)
def test_one_odd_pixel_anywhere_has_finite_features(sky, value, row, column):
    image = np.full((1, *SHAPE), sky)
    image[0, row, column] = value
    assert_rows_of_finite_features(measure_features(cutout_set(image)), 1)


@pytest.mark.parametrize("level", [0, 1, -1, 250, -1e4, 49000, 1e30, -1e30])
def test_featureless_images_have_finite_features(level):
    assert_rows_of_finite_features(measure_features(cutout_set(np.full((3, *SHAPE), level))), 3)


def test_saturated_and_bleeding_stars_have_finite_features():
    cutouts = stars(flux=1e7)
    images = np.minimum(cutouts.images, 60000)
    images[:, :, 9:11] = 60000
    assert_rows_of_finite_features(measure_features(cutout_set(images)), len(cutouts))


def test_noise_alone_has_finite_features():
    images = np.random.default_rng(0).normal(0, 5, (50, *SHAPE))
    assert_rows_of_finite_features(measure_features(cutout_set(images)), 50)


def test_an_empty_set_is_named():
    with pytest.raises(ValueError, match="no cutouts"):
        measure_features(stars(2)[np.zeros(2, dtype=bool)])


@pytest.mark.parametrize("seeing", SEEINGS)
def test_a_star_has_no_spread_and_the_concentration_of_its_image(seeing):
    features = measure_features(stars(seeing=seeing))
    np.testing.assert_allclose(features[SPREADS], 0, atol=0.01)
    np.testing.assert_allclose(features[CONCENTRATIONS], 0, atol=0.03)
    np.testing.assert_allclose(features[CONCENTRATIONS].mean(), 0, atol=0.01)


@pytest.mark.parametrize("seeing", SEEINGS)
def test_a_star_has_its_psf_magnitude(seeing):
    features = measure_features(stars(seeing=seeing, flux=1e4))
    np.testing.assert_allclose(features["magnitude"], 25.6 - 2.5 * 4, atol=0.02)


@pytest.mark.parametrize("seeing", SEEINGS)
def test_broader_objects_have_positive_spread_and_negative_concentration(seeing):
    star, *broader = (measure_features(stars(seeing=seeing, broader=width)) for width in (1, 1.2, 1.5, 2))
    for narrow, broad in zip([star, *broader], broader, strict=False):
        assert (broad[SPREADS] > narrow[SPREADS]).all().all()
        assert (broad[CONCENTRATIONS] < narrow[CONCENTRATIONS]).all().all()
        assert (broad["size"] > narrow["size"]).all()
    assert (broader[1][SPREADS] > 0.05).all().all()
    assert (broader[1][CONCENTRATIONS] < -0.03).all().all()


@pytest.mark.parametrize("ratio, angle", [(0.5, 0), (0.5, 45), (0.4, 110)])
def test_ellipticity_tells_elongated_objects_from_round_ones(ratio, angle):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(10):
        galaxy = galsim.Exponential(half_light_radius=2.5, flux=1e4)
        galaxy = galaxy.shear(q=ratio, beta=angle * galsim.degrees)
        seen = galsim.Convolve(galaxy, galsim.Moffat(beta=PSF_BETA, fwhm=1.4))
        images.append(seen.drawImage(nx=20, ny=20, scale=1, offset=rng.uniform(-0.5, 0.5, 2)).array + 250)
    assert (measure_features(cutout_set(images))["ellipticity"] > 0.2).all()
    assert (measure_features(stars())["ellipticity"] < 0.03).all()


@pytest.mark.parametrize("flux, faintest", [(1e5, 2.4), (1e3, 1), (1e2, 0)])
def test_signal_to_noise_follows_from_the_ccd_equation(flux, faintest):
    x, y = near_middle(20)
    light = flux * fine_profiles(x, y, 1.4)
    counts = exact_fluxes(light, x, y, (4,))[:, 0]
    noise = np.sqrt(counts / 6.2 + np.pi * 4 * (250 / 6.2 + (10 / 6.2) ** 2))
    snr = np.log10(np.maximum(counts / noise, 1))
    assert snr.min() >= faintest
    np.testing.assert_allclose(measure_features(cutout_set(250 + light))["log_snr"], snr, atol=0.02)


def without_apcor(cutouts):
    """Return the same cutouts with headers that lack APCOR."""
    return CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(**dict.fromkeys(APCOR, np.nan)))


def test_without_aperture_corrections_features_change_little(bundle):
    change = measure_features(without_apcor(bundle)) - measure_features(bundle)
    assert change["magnitude"].abs().max() < 0.06
    assert change["magnitude"].std() < 0.02
    assert change[CONCENTRATIONS].abs().max().max() < 0.05
    assert (change.drop(columns=["magnitude", *CONCENTRATIONS]) == 0).all().all()


def test_wanted_features_alone_are_measured(bundle):
    some = bundle[:20]
    wanted = ["ellipticity", "magnitude", "conc_3"]
    pd.testing.assert_frame_equal(measure_features(some, wanted), measure_features(some)[wanted])
    with pytest.raises(ValueError, match="'size of it'.*, size, ellipticity"):
        measure_features(some, ["magnitude", "size of it"])


@pytest.mark.parametrize("broader", [1, 1.5])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_orientation_does_not_matter(turns, flipped, broader):
    cutouts = stars(20, broader=broader)
    images = cutouts.images[:, :, ::-1] if flipped else cutouts.images
    turned = cutout_set(np.rot90(images, turns, (1, 2)))
    np.testing.assert_allclose(measure_features(turned), measure_features(cutouts), atol=1e-4)


@pytest.mark.parametrize("broader, tolerance", [(1, 0.005), (1.5, 0.04)])
@pytest.mark.parametrize("extra", [-70, 50, 150])
def test_a_sky_of_other_level_changes_neither_spread_nor_concentration(extra, broader, tolerance):
    cutouts = stars(flux=2e4, broader=broader)
    change = measure_features(cutout_set(cutouts.images + extra)) - measure_features(cutouts)
    np.testing.assert_allclose(change[CONCENTRATIONS], 0, atol=1e-4)
    np.testing.assert_allclose(change[SPREADS], 0, atol=tolerance)


def test_features_of_a_cutout_do_not_depend_on_its_company(bundle):
    some = bundle[::100]
    together = measure_features(some)
    alone = pd.concat([measure_features(some[row]) for row in range(len(some))], ignore_index=True)
    pd.testing.assert_frame_equal(alone, together, rtol=1e-6, atol=1e-6)


def test_features_do_not_depend_on_the_chunks_that_they_are_made_in(bundle, monkeypatch):
    some = bundle[::4]
    features = measure_features(some)
    for size in (1, 101, 10_000):
        monkeypatch.setattr(parallel, "CHUNK", size)
        pd.testing.assert_frame_equal(measure_features(some), features, rtol=1e-12, atol=1e-12)


def test_large_sets_are_measured_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(parallel, "effective_n_jobs", lambda n_jobs: 2)
    cutouts = stars(40)
    many = cutouts[np.arange(10_000) % 40]
    measure_features(cutouts)
    tracemalloc.start()
    try:
        measure_features(many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < many.images.nbytes * 4


def test_measuring_leaves_its_input_alone():
    cutouts = stars(5)
    images, table = cutouts.images.copy(), cutouts.table.copy()
    measure_features(cutouts)
    np.testing.assert_array_equal(cutouts.images, images)
    pd.testing.assert_frame_equal(cutouts.table, table)


def test_spread_separates_the_bundled_stars_and_galaxies(bundle):
    features = measure_features(bundle)
    assert_rows_of_finite_features(features, len(bundle))
    assert roc_auc_score(bundle.labels, features["spread_model_2.0"]) > 0.97
    assert roc_auc_score(bundle.labels, -features["conc_3"]) > 0.95


def test_spread_separates_real_stars_and_galaxies(real_cutouts):
    cutouts = load_cutouts(real_cutouts)
    features = measure_features(cutouts)
    assert_rows_of_finite_features(features, len(cutouts))
    assert roc_auc_score(cutouts.labels, features["spread_model_2.0"]) > 0.97


def test_measuring_loads_neither_galsim_nor_muygpys(tmp_path):
    loaded = modules_after(["ztf_sg.features"], tmp_path)["ztf_sg.features"]
    assert "ztf_sg.features.measure" in loaded
    assert not {"galsim", "MuyGPyS"} & loaded
