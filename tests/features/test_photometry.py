import tracemalloc
from functools import cache

import galsim
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from photutils.aperture import CircularAperture
from sklearn.metrics import roc_auc_score

from ztf_sg import CutoutSet, load_cutouts, parallel
from ztf_sg.features.photometry import (
    APERTURES,
    CENTROID_RADIUS,
    FEATURES,
    PSF_BETA,
    PSF_FWHM_OVER_SEEING,
    adaptive_moments,
    aperture_fluxes,
    background,
    centroids,
    curves_of_growth,
    measure_features,
    moffat,
    moments,
    psf_fit,
    psf_sources,
    spread,
)

SHAPE = (20, 20)
MIDDLE = 9.5
SPREADS = ["spread_1.3", "spread_2.0", "spread_3.5"]
CONCENTRATIONS = ["conc_2", "conc_3", "conc_4"]
APCOR = [f"apcor{number}" for number in range(1, 7)]
SEEINGS = (1.45, 1.6, 1.8)


def places(n, radius=1.0, random_state=0):
    """Return sub-pixel places around the middle of a cutout."""
    return MIDDLE + np.random.default_rng(random_state).uniform(-radius, radius, size=(2, n))


def profiles(x, y, fwhm):
    """Return finely sampled Moffat profiles."""
    return moffat((len(x), *SHAPE), x, y, np.broadcast_to(fwhm, len(x)), oversampling=15)


def exact_fluxes(images, x, y, diameters=APERTURES):
    """Return aperture fluxes by photutils, with the exact overlap of circle and pixels."""
    apertures = [[CircularAperture(place, d / 2) for d in diameters] for place in zip(x, y, strict=True)]
    return np.array(
        [
            [aperture.do_photometry(image, method="exact")[0][0] for aperture in row]
            for image, row in zip(images, apertures, strict=True)
        ]
    )


@cache
def point_source_apcor(seeing):
    """Return APCOR1..4 [mag] of images with the mean profile of this seeing."""
    x, y = places(100, radius=0.5, random_state=1)
    return 2.5 * np.log10(exact_fluxes(profiles(x, y, PSF_FWHM_OVER_SEEING * seeing), x, y).mean(axis=0))


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
    x, y = places(n, random_state=random_state)
    light = profiles(x, y, broader * PSF_FWHM_OVER_SEEING * seeing)
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
    x, y = places(20)
    light = flux * profiles(x, y, 1.4)
    counts = exact_fluxes(light, x, y, (4,))[:, 0]
    noise = np.sqrt(counts / 6.2 + np.pi * 4 * (250 / 6.2 + (10 / 6.2) ** 2))
    snr = np.log10(np.maximum(counts / noise, 1))
    assert snr.min() >= faintest
    np.testing.assert_allclose(measure_features(cutout_set(250 + light))["log_snr"], snr, atol=0.02)


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
    x, y = places(5)
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


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_aperture_fluxes_of_stars_are_photutils(fwhm):
    x, y = places(100)
    images = 1e4 * profiles(x, y, fwhm)
    np.testing.assert_allclose(aperture_fluxes(images, x, y), exact_fluxes(images, x, y), rtol=0.01)


def test_apertures_have_the_area_of_their_circles():
    x, y = places(100)
    areas = np.pi * np.array(APERTURES) ** 2 / 4
    measured = aperture_fluxes(np.ones((100, *SHAPE)), x, y)
    np.testing.assert_allclose(measured, np.tile(areas, (100, 1)), rtol=0.01)


@pytest.mark.parametrize("fwhm", [1.25, 1.6, 3.0])
def test_centroids_recover_the_places_of_bright_stars(fwhm):
    x, y = places(200, radius=2)
    noise = np.random.default_rng(1).normal(0, 7, (200, *SHAPE))
    found = centroids(2e4 * profiles(x, y, fwhm) + noise)
    np.testing.assert_allclose(found, (x, y), atol=0.05)


@given(hnp.arrays(np.float64, (1, *SHAPE), elements=st.floats(-1e6, 1e6)))
def test_centroids_stay_near_the_middle(image):
    for place in centroids(image):
        assert np.abs(place - MIDDLE).max() <= CENTROID_RADIUS


def test_a_brighter_neighbour_in_the_corner_is_not_the_object():
    x, y = places(20)
    light = 1e4 * profiles(x, y, 1.6) + 5e4 * profiles(np.full(20, 1.0), np.full(20, 18.0), 1.6)
    np.testing.assert_allclose(centroids(light), (x, y), atol=0.2)


def test_background_is_the_sky_around_the_object():
    rng = np.random.default_rng(0)
    levels = np.array([179, 259, 653, -3.0])
    noises = np.array([5.5, 6.7, 10.7, 4.0])
    images = rng.normal(levels[:, None, None, None], noises[:, None, None, None], (4, 50, *SHAPE))
    x, y = places(50)
    images += 2e3 * profiles(x, y, 1.4)
    sky, noise = (value.reshape(4, 50) for value in background(images.reshape(-1, *SHAPE)))
    standard_error = 1.25 * noises / np.sqrt(144)
    assert (np.abs(sky - levels[:, None]) < 5 * standard_error[:, None]).all()
    np.testing.assert_allclose(sky.mean(axis=1), levels, atol=0.3)
    np.testing.assert_allclose(noise.mean(axis=1), noises, rtol=0.04)
    np.testing.assert_allclose(noise, np.tile(noises, (50, 1)).T, rtol=0.3)


@pytest.mark.parametrize("flux", [1e3, 1e4, 1e6])
def test_a_neighbour_in_the_border_hardly_moves_the_background(flux):
    images = np.random.default_rng(0).normal(250, 6.7, (50, *SHAPE))
    neighbour = flux * profiles(np.full(50, 1.0), np.full(50, 13.0), 1.4)
    neighbour[neighbour < 1e-3 * flux] = 0
    sky, noise = background(images + neighbour)
    alone, _ = background(images)
    np.testing.assert_allclose(sky, alone, atol=2.5)
    np.testing.assert_allclose(sky.mean(), 250, atol=1)
    np.testing.assert_allclose(noise.mean(), 6.7, rtol=0.08)


def without_apcor(cutouts):
    """Return the same cutouts with headers that lack APCOR."""
    return CutoutSet(cutouts.images, cutouts.labels, cutouts.table.assign(**dict.fromkeys(APCOR, np.nan)))


def faint(table):
    """Return made-up photometry of objects too faint to tell the curve of growth of their image."""
    return np.zeros((len(table), 4)), np.zeros(len(table))


def test_header_is_asked_first(bundle):
    corrections, source = curves_of_growth(bundle.table, *faint(bundle.table))
    np.testing.assert_array_equal(corrections, bundle.table[APCOR[:4]])
    assert set(source) == {"header"}


def test_faint_objects_without_aperture_corrections_get_the_mean_relation(bundle):
    table = without_apcor(bundle).table
    modelled, source = curves_of_growth(table, *faint(table))
    np.testing.assert_allclose(modelled, bundle.table[APCOR[:4]], atol=0.12)
    assert set(source) == {"seeing"}


def test_bright_stars_tell_the_curve_of_growth_of_their_image():
    """Their image is blurred more than its SEEING says, and a third of the objects are galaxies."""
    blurred = stars(20, seeing=1.6, broader=1.04)
    galaxies = stars(10, seeing=1.6, broader=1.5)
    images = np.concatenate([blurred.images, galaxies.images])
    unknown = without_apcor(cutout_set(images))
    assert set(psf_sources(unknown)) == {"stack"}
    assert set(psf_sources(without_apcor(cutout_set(images[:4])))) == {"seeing"}
    stacked, modelled = (
        measure_features(unknown)[CONCENTRATIONS],
        measure_features(without_apcor(blurred[:5]))[CONCENTRATIONS],
    )
    assert stacked[:20].median().abs().max() < 0.006 < 0.012 < -modelled["conc_2"].median()
    assert (stacked["conc_2"][20:] < -0.05).all()


def test_stack_that_is_not_credible_is_not_taken():
    galaxies = without_apcor(stars(20, broader=1.6))
    assert set(psf_sources(galaxies)) == {"seeing"}


def test_stack_is_nearer_to_the_header_than_the_seeing_is(bundle):
    unknown = without_apcor(bundle)
    stacked = psf_sources(unknown) == "stack"
    assert stacked.mean() > 0.5
    table = unknown.table
    true = bundle.table[APCOR[:4]].to_numpy()[stacked]
    measured = measure_features(unknown)[CONCENTRATIONS] - measure_features(bundle)[CONCENTRATIONS]
    modelled, _ = curves_of_growth(table, *faint(table))
    by_seeing = -0.4 * ((modelled[stacked] - modelled[stacked, 3:]) - (true - true[:, 3:]))[:, :3]
    assert (measured[stacked].std().to_numpy() < 0.7 * by_seeing.std(axis=0)).all()


def test_without_aperture_corrections_features_change_little(bundle):
    change = measure_features(without_apcor(bundle)) - measure_features(bundle)
    assert change["magnitude"].abs().max() < 0.06
    assert change["magnitude"].std() < 0.02
    assert change[CONCENTRATIONS].abs().max().max() < 0.05
    assert (change.drop(columns=["magnitude", *CONCENTRATIONS]) == 0).all().all()


def test_one_missing_aperture_correction_leaves_the_others():
    table = stars(2).table
    table.loc[1, "apcor2"] = np.nan
    with_gap, source = curves_of_growth(table, *faint(table))
    assert np.isfinite(with_gap).all()
    np.testing.assert_array_equal(with_gap[1, [0, 2, 3]], with_gap[0, [0, 2, 3]])
    assert source.tolist() == ["header", "seeing"]


def test_wanted_features_alone_are_measured(bundle):
    some = bundle[:20]
    wanted = ["residual", "magnitude", "conc_3"]
    pd.testing.assert_frame_equal(measure_features(some, wanted), measure_features(some)[wanted])
    with pytest.raises(ValueError, match="'size of it'.*adaptive_size"):
        measure_features(some, ["magnitude", "size of it"])


@pytest.mark.parametrize("seeing", SEEINGS)
def test_adaptive_size_is_that_of_a_point_source_for_stars_and_larger_for_others(seeing):
    x, y = places(30)
    seeings = np.full(30, seeing)
    star, broad = (profiles(x, y, PSF_FWHM_OVER_SEEING * seeing * wide) * 1e4 for wide in (1, 1.5))
    of_star, of_broad = (adaptive_moments(image, x, y, seeings) for image in (star, broad))
    assert np.abs(of_star[:, 0]).max() < 0.01
    assert of_star[:, 1].max() < 0.03
    assert np.abs(of_star[:, 2]).max() < 0.03
    assert (of_broad[:, 0] > 0.05).all()


def test_adaptive_moments_find_the_ellipticity_of_a_gaussian():
    profile = galsim.Gaussian(sigma=2.0, flux=1e4).shear(e1=0.3, e2=0.0)
    image = profile.drawImage(nx=20, ny=20, scale=1.0).array[None].astype(float)
    middle = np.array([MIDDLE])
    _, ellipticity, _ = adaptive_moments(image, middle, middle, np.array([1.6]))[0]
    smoothed = 0.3 / (1 + 1 / (2.0**2 * (1 - 0.3**2) ** -0.5))  # a Gaussian of 1 px rounds it
    assert ellipticity == pytest.approx(smoothed, rel=0.05)


def test_what_cannot_be_measured_is_a_round_point_source():
    middle = np.array([MIDDLE])
    assert (adaptive_moments(np.zeros((1, *SHAPE)), middle, middle, np.array([1.6])) == 0).all()


def test_point_sources_are_as_sharp_as_the_psf_and_fit_it():
    x, y = places(30)
    signal = profiles(x, y, PSF_FWHM_OVER_SEEING * 1.6) * 1e5
    seeing, noise, gain = (np.full(30, value) for value in (1.6, 6.7, 6.2))
    sharpness, residual = psf_fit(signal, x, y, seeing, noise, gain).T
    assert np.abs(sharpness).max() < 0.02
    broad = profiles(x, y, PSF_FWHM_OVER_SEEING * 1.6 * 1.5) * 1e5
    of_broad = psf_fit(broad, x, y, seeing, noise, gain)
    assert (of_broad[:, 0] < -0.1).all()
    assert (of_broad[:, 1] > residual + 1).all()
    rays = signal.copy()
    rays[np.arange(30), np.round(y).astype(int), np.round(x).astype(int)] *= 3
    assert (psf_fit(rays, x, y, seeing, noise, gain)[:, 0] > 0.1).all()


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


def test_the_window_of_an_aperture_may_reach_over_the_edge():
    light = np.random.default_rng(0).normal(10, 1, (4, 9, 12))
    x, y = np.array([0.2, 11.0, 5.5, -1.0]), np.array([0.4, 8.0, 4.0, 4.0])
    wide = np.pad(light, ((0, 0), (10, 10), (10, 10)))
    np.testing.assert_allclose(
        aperture_fluxes(light, x, y), aperture_fluxes(wide, x + 10, y + 10), rtol=1e-12
    )


def test_spread_is_measured_in_units_of_the_objects_own_light():
    x, y = places(20)
    light = profiles(x, y, 2.0)
    noise, gain, seeing = (np.full(20, value) for value in (30.0, 1e9, 1.6))
    faint, bright = (spread(flux * light, x, y, seeing, noise, gain) for flux in (100, 200))
    np.testing.assert_allclose(faint, bright, rtol=0.05)


def test_moments_of_a_gaussian_are_known():
    rows, columns = np.indices(SHAPE)
    sigma, weight_sigma = 2.0, 6.0 / 2.3548
    image = np.exp(-((rows - MIDDLE) ** 2 + (columns - MIDDLE) ** 2) / (2 * sigma**2))[None]
    radius, ellipticity = moments(image, np.array([MIDDLE]), np.array([MIDDLE]))
    expected = np.sqrt(2 / (sigma**-2 + weight_sigma**-2))
    np.testing.assert_allclose(radius, expected, rtol=1e-3)
    np.testing.assert_allclose(ellipticity, 0, atol=1e-9)


def test_measuring_leaves_its_input_alone():
    cutouts = stars(5)
    images, table = cutouts.images.copy(), cutouts.table.copy()
    measure_features(cutouts)
    np.testing.assert_array_equal(cutouts.images, images)
    pd.testing.assert_frame_equal(cutouts.table, table)


def test_spread_separates_the_bundled_stars_and_galaxies(bundle):
    features = measure_features(bundle)
    assert_rows_of_finite_features(features, len(bundle))
    assert roc_auc_score(bundle.labels, features["spread_2.0"]) > 0.97
    assert roc_auc_score(bundle.labels, -features["conc_3"]) > 0.95


def test_spread_separates_real_stars_and_galaxies(real_cutouts):
    cutouts = load_cutouts(real_cutouts)
    features = measure_features(cutouts)
    assert_rows_of_finite_features(features, len(cutouts))
    assert roc_auc_score(cutouts.labels, features["spread_2.0"]) > 0.97
