import tracemalloc

import galsim
import numpy as np
import pandas as pd
import pytest
from features.made_up import BETA, cutout_set, stars
from helpers import ROOT, SHAPE, modules_after, moffat_stars, near_middle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from ztf_sg import CutoutSet, load_cutouts, parallel
from ztf_sg.features import FEATURES, FLAGS, compiled, measure_features
from ztf_sg.features.measure import CONCENTRATIONS, SPREAD_MODELS
from ztf_sg.features.psf import APCOR_COLUMNS

SPREAD, CONCENTRATION = list(SPREAD_MODELS), list(CONCENTRATIONS)
ALL = FEATURES + FLAGS
FWHMS = (1.1, 1.6, 2.5, 4.5)


@pytest.fixture(scope="module")
def bundle():
    return load_cutouts(ROOT / "cutouts_test")


def assert_rows_of_finite_features(features, n):
    assert list(features.columns) == list(FEATURES)
    assert features.shape == (n, len(FEATURES))
    assert np.isfinite(features.to_numpy()).all()
    assert features["ellipticity"].between(0, 1).all()
    assert (features["size"] > 0).all()


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


@pytest.mark.parametrize("fwhm", FWHMS)
def test_a_star_has_no_spread_and_the_concentration_of_its_image(fwhm):
    features = measure_features(stars(fwhm=fwhm))
    np.testing.assert_allclose(features[SPREAD], 0, atol=0.005)
    np.testing.assert_allclose(features[CONCENTRATION], 0, atol=0.025)
    np.testing.assert_allclose(features[CONCENTRATION].mean(), 0, atol=0.005)


def test_sharp_stars_have_no_spread_wherever_they_are_on_their_pixel():
    sharp = cutout_set(250 + 1e5 * moffat_stars(*near_middle(40), 0.75, BETA), 0.75, saturate=1e9)
    np.testing.assert_allclose(measure_features(sharp)[SPREAD], 0, atol=0.01)


@pytest.mark.parametrize("fwhm", FWHMS)
def test_a_star_has_its_psf_magnitude(fwhm):
    features = measure_features(stars(fwhm=fwhm, flux=1e4))
    np.testing.assert_allclose(features["magnitude"], 25.6 - 2.5 * 4, atol=0.02)


@pytest.mark.parametrize("fwhm", FWHMS)
def test_broader_objects_have_positive_spread_and_negative_concentration(fwhm):
    star, *broader = (measure_features(stars(fwhm=fwhm, broader=width)) for width in (1, 1.2, 1.5, 2))
    for narrow, broad in zip([star, *broader], broader, strict=False):
        assert (broad[SPREAD] > narrow[SPREAD]).all().all()
        assert (broad[CONCENTRATION] < narrow[CONCENTRATION]).all().all()
        assert (broad["size"] > narrow["size"]).all()
    assert (broader[1][SPREAD] > 0.01).all().all()
    assert (broader[1][SPREAD[:2]] > 0.02).all().all()
    assert (broader[1][CONCENTRATION] < -0.03).all().all()


@pytest.mark.parametrize("ratio, angle", [(0.5, 0), (0.5, 45), (0.4, 110)])
def test_ellipticity_tells_elongated_objects_from_round_ones(ratio, angle):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(10):
        galaxy = galsim.Exponential(half_light_radius=2.5, flux=1e4)
        galaxy = galaxy.shear(q=ratio, beta=angle * galsim.degrees)
        seen = galsim.Convolve(galaxy, galsim.Moffat(beta=BETA, fwhm=1.4))
        images.append(seen.drawImage(nx=20, ny=20, scale=1, offset=rng.uniform(-0.5, 0.5, 2)).array + 250)
    assert (measure_features(cutout_set(images))["ellipticity"] > 0.2).all()
    assert (measure_features(stars())["ellipticity"] < 0.03).all()


@pytest.mark.parametrize("flux", [1e2, 1e3, 1e5])
def test_signal_to_noise_is_that_of_the_fitted_psf_among_noisy_copies(flux):
    cutouts = stars(150, flux=flux)
    rng = np.random.default_rng(0)
    electrons = rng.poisson(cutouts.images * 6.2) + rng.normal(0, 10, cutouts.images.shape)
    snr = 10 ** measure_features(cutout_set(electrons / 6.2), ["log_snr"])["log_snr"]
    positions = near_middle(150)
    profile = moffat_stars(*positions, 1.4, BETA)
    fitted = ((electrons / 6.2 - 250) * profile).sum(axis=(1, 2)) / (profile**2).sum(axis=(1, 2))
    np.testing.assert_allclose(snr.median(), flux / fitted.std(), rtol=0.2)


def without_apcor(cutouts):
    """Return the same cutouts with headers that lack APCOR."""
    table = cutouts.table.assign(**dict.fromkeys(APCOR_COLUMNS, np.nan))
    return CutoutSet(cutouts.images, cutouts.labels, table)


def test_without_aperture_corrections_the_psf_is_a_guess_and_flagged(bundle):
    some = bundle[::3]
    flagged = measure_features(without_apcor(some), ALL)
    assert flagged["psf_from_seeing"].all()
    assert not measure_features(some, ["psf_from_seeing"]).any(axis=None)
    change = flagged[list(FEATURES)] - measure_features(some)
    assert change["magnitude"].abs().max() < 0.1
    assert change["spread_model_2.0"].abs().median() < 0.1
    assert change["ellipticity"].abs().quantile(0.9) < 0.01


def test_of_two_aperture_corrections_nothing_follows():
    cutouts = stars(4)
    table = cutouts.table
    table.loc[[0, 1], APCOR_COLUMNS[1:5]] = np.nan  # two are left
    table.loc[2, APCOR_COLUMNS[1:4]] = np.nan
    found = measure_features(CutoutSet(cutouts.images, cutouts.labels, table), FLAGS)
    assert found["psf_from_seeing"].tolist() == [True, True, False, False]


def test_absurd_aperture_corrections_have_finite_features():
    for value in (99.0, -99.0, -5.0):
        assert_rows_of_finite_features(measure_features(cutout_set(stars(6).images, apcor3=value)), 6)


@pytest.mark.parametrize("seeing", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_headers_at_their_bounds_have_finite_features(seeing, gain):
    cutouts = without_apcor(cutout_set(stars(6).images, seeing=seeing, gain=gain))
    assert_rows_of_finite_features(measure_features(cutouts), 6)


class TestFlags:
    def test_of_plain_stars_are_false(self):
        assert not measure_features(stars(), FLAGS).any(axis=None)

    def test_a_pixel_of_the_core_at_the_level_is_saturated(self):
        cutouts = stars(6)
        images = cutouts.images.copy()
        images[0, 9, 9] = images[1, 10, 11] = 49000
        images[2, 10, 10] = 48999
        images[3, 2, 2] = images[4, 10, 18] = 60000  # another object
        assert measure_features(cutout_set(images), ["saturated"])["saturated"].tolist() == [
            True, True, False, False, False, False,
        ]  # fmt: skip

    def test_without_saturate_nothing_is_saturated(self):
        cutouts = stars(3, flux=1e6)
        table = cutouts.table.drop(columns="saturate")
        assert not measure_features(CutoutSet(cutouts.images, cutouts.labels, table), ["saturated"]).any(
            axis=None
        )

    @pytest.mark.parametrize(
        "shape, fwhm, expected",
        [((20, 20), 3.0, False), ((9, 9), 1.4, False), ((7, 7), 1.4, True), ((11, 40), 1.4, False),
         ((11, 40), 3.0, True), ((13, 13), 3.0, True), ((15, 15), 6.0, False)],
    )  # fmt: skip
    def test_an_edge_within_the_fitted_radius_truncates(self, shape, fwhm, expected):
        middle_y, middle_x = (np.array(shape) - 1) / 2
        image = 250 + 1e5 * moffat_stars([middle_x], [middle_y], fwhm, BETA, shape)
        assert measure_features(cutout_set(image, fwhm), ["truncated"])["truncated"].tolist() == [expected]

    def test_an_object_off_the_middle_is_truncated_sooner(self):
        image = 250 + 1e5 * moffat_stars([8.5, 8.5], [8.5, 6.2], 4.0, BETA, (18, 18))
        assert measure_features(cutout_set(image, 4.0), ["truncated"])["truncated"].tolist() == [False, True]

    @pytest.mark.parametrize(
        "share, distance, expected",
        [(1, 5, True), (0.3, 5, True), (0.02, 5, False), (1, 11, False), (0.3, 4, True)],
    )
    def test_a_neighbour_with_a_tenth_of_the_light_blends(self, share, distance, expected):
        image = moffat_stars([9.5], [9.5], 1.4, BETA) + share * moffat_stars(
            [9.5 + distance], [9.5], 1.4, BETA
        )
        assert measure_features(cutout_set(250 + 3e4 * image), ["blended"])["blended"].tolist() == [expected]


def test_a_neighbour_changes_little(bundle):
    x, y = near_middle(20)
    star = 1e4 * moffat_stars(x, y, 1.4, BETA)
    neighbour = 1e3 * moffat_stars(x + 5, y - 3, 1.4, BETA)
    change = measure_features(cutout_set(250 + star + neighbour)) - measure_features(cutout_set(250 + star))
    np.testing.assert_allclose(change[SPREAD], 0, atol=0.03)
    np.testing.assert_allclose(change[CONCENTRATION], 0, atol=0.01)


def test_neighbours_where_there_is_no_opposite_pixel_stay():
    image = 250 + 1e4 * moffat_stars([7.4], [7.4], 1.4, BETA)
    bright = image.copy()
    bright[0, 16, 16] += 1e5  # opposite of which there is no pixel
    same = measure_features(cutout_set(bright))["size"] == measure_features(cutout_set(image))["size"]
    assert not same.any()


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


@pytest.mark.parametrize("broader, tolerance", [(1, 0.01), (1.5, 0.04)])
@pytest.mark.parametrize("extra", [-70, 50, 150])
def test_a_sky_of_other_level_changes_neither_spread_nor_concentration(extra, broader, tolerance):
    cutouts = stars(flux=2e4, broader=broader)
    change = measure_features(cutout_set(cutouts.images + extra)) - measure_features(cutouts)
    np.testing.assert_allclose(change[CONCENTRATION], 0, atol=2e-3)
    np.testing.assert_allclose(change[SPREAD], 0, atol=tolerance)


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


def test_no_kind_of_array_is_compiled_for_once_more():
    measure_features(stars(2))
    before = len(compiled.measure.signatures)
    cutouts = stars(4)
    frozen = cutouts.images.copy()
    frozen.flags.writeable = False
    for images in (frozen, np.asfortranarray(frozen), frozen[:, ::-1], frozen.astype(float)):
        for table in (
            cutouts.table,
            cutouts.table.astype({"gain": np.float32}),
            cutouts.table.drop(columns="saturate"),
        ):
            measure_features(CutoutSet(images, cutouts.labels, table))
    assert len(compiled.measure.signatures) == before


def test_measuring_leaves_its_input_alone():
    cutouts = stars(5)
    images, table = cutouts.images.copy(), cutouts.table.copy()
    measure_features(cutouts)
    np.testing.assert_array_equal(cutouts.images, images)
    pd.testing.assert_frame_equal(cutouts.table, table)


def test_spread_separates_the_bundled_stars_and_galaxies(bundle):
    features = measure_features(bundle)
    assert_rows_of_finite_features(features, len(bundle))
    assert roc_auc_score(bundle.labels, features[SPREAD[1]]) > 0.97
    assert roc_auc_score(bundle.labels, -features["conc_3"]) > 0.95


def test_spread_separates_real_stars_and_galaxies(real_cutouts):
    cutouts = load_cutouts(real_cutouts)
    features = measure_features(cutouts)
    assert_rows_of_finite_features(features, len(cutouts))
    assert roc_auc_score(cutouts.labels, features[SPREAD[1]]) > 0.97


def test_measuring_loads_neither_galsim_nor_muygpys(tmp_path):
    loaded = modules_after(["ztf_sg.features"], tmp_path)["ztf_sg.features"]
    assert "ztf_sg.features.measure" in loaded
    assert not {"galsim", "MuyGPyS"} & loaded
