import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from helpers import aperture_counts, windowed_centroid
from joblib import parallel_config
from scipy import stats

from ztf_sg.cutouts.schema import COLUMNS
from ztf_sg.simulation import conditions, parameters
from ztf_sg.simulation.conditions import (
    APCOR_ERRORS,
    BACKGROUND_RANGE,
    MAGZP_RANGE,
    RADIUS_MAGNITUDES,
    SEEING_RANGE,
    SNR_RANGE,
    TRUTH,
    draw_psf,
    scaled_psf,
    simulate_cutouts,
)
from ztf_sg.ztf import APERTURES, CUTOUT_SHAPE, READ_NOISE


@pytest.fixture(scope="module")
def cutouts():
    return simulate_cutouts(40, 4, seed=0, n_jobs=1)


@pytest.fixture(scope="module")
def bright_stars():
    """Return bright single stars on images without gradients, neighbours and marks."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PSF_SLOPE", "SKY_SLOPE", "HOT_PIXEL_RATE", "COSMIC_RAY_RATE", "TRAIL_FRACTION"):
            patch.setattr(parameters, name, 0.0)
        patch.setattr(conditions, "BINARY_FRACTION", 0.0)
        patch.setattr(conditions, "NEIGHBOURS_RANGE", (0.0, 0.0))
        patch.setattr(conditions, "SNR_RANGE", (600.0, 601.0))
        return simulate_cutouts(40, 1, seed=1, n_jobs=1)


class TestTable:
    def test_has_the_columns_of_a_cutout_set_and_the_truth(self, cutouts):
        assert set(cutouts.table.columns) == {*COLUMNS, *TRUTH}
        assert not cutouts.table.isna().any(axis=None)
        assert cutouts.images.shape == (160, *CUTOUT_SHAPE)
        assert cutouts.table["name"].is_unique
        assert cutouts.labels.mean() == 0.5

    def test_origin_says_that_it_is_simulated(self, cutouts):
        assert cutouts.table["origin"].str.contains("simulated").all()

    def test_an_image_has_one_set_of_conditions(self, cutouts):
        images = cutouts.table.groupby("obsmjd")
        shared = ["filter", "seeing", "magzp", "gain", "saturate", "galactic_latitude"]
        assert (images[[*shared, *(f"apcor{n}" for n in range(1, 7))]].nunique() == 1).all(axis=None)
        assert cutouts.table["seeing"].nunique() == len(images) == 40

    def test_positions_have_the_latitude_of_their_image(self, cutouts):
        places = SkyCoord(cutouts.table["ra"], cutouts.table["dec"], unit="deg").galactic.b.deg
        np.testing.assert_allclose(places, cutouts.table["galactic_latitude"], atol=1)


class TestSeed:
    def test_result_does_not_depend_on_the_processes(self):
        with parallel_config(backend="threading"):  # starts faster
            one, other = (simulate_cutouts(3, 2, seed=3, n_jobs=n) for n in (1, 2))
        np.testing.assert_array_equal(one.images, other.images)
        pd.testing.assert_frame_equal(one.table, other.table)

    def test_image_does_not_depend_on_how_many_there_are(self):
        few, many = (simulate_cutouts(n, 2, seed=3, n_jobs=1) for n in (1, 2))
        np.testing.assert_array_equal(few.images, many.images[:2])

    def test_other_seed_makes_other_images(self):
        one, other = (simulate_cutouts(1, 2, seed=seed, n_jobs=1) for seed in (3, 4))
        assert (one.images != other.images).all()


class TestConditions:
    def test_zero_points_fill_their_range(self, cutouts):
        values = cutouts.table["magzp"]
        assert values.between(*MAGZP_RANGE).all()
        assert np.ptp(values) > 0.8 * np.ptp(MAGZP_RANGE)

    def test_most_images_are_sharp_and_some_are_not(self, cutouts):
        seeing = cutouts.table["seeing"]
        assert seeing.between(*SEEING_RANGE).all()
        assert seeing.median() == pytest.approx(1.9, abs=0.3)
        assert np.ptp(seeing) > 0.5 * np.ptp(SEEING_RANGE)

    def test_sky_fills_its_range(self, cutouts):
        sky = np.median(cutouts.images, axis=(1, 2))
        assert sky.min() < 1.5 * BACKGROUND_RANGE[0]
        assert np.quantile(sky, 0.9) > 0.7 * BACKGROUND_RANGE[1]

    def test_bands_occur_alike_and_those_asked_for(self, cutouts):
        assert cutouts.table["filter"].value_counts(normalize=True).between(0.15, 0.55).all()
        assert set(simulate_cutouts(3, 1, 0, filters=["ZTF_g"], n_jobs=1).table["filter"]) == {"ZTF_g"}

    def test_there_are_more_neighbours_near_the_galactic_plane(self, cutouts):
        near = cutouts.table["galactic_latitude"].abs() < 45
        numbers = cutouts.table["neighbours"]
        assert numbers[near].mean() > 1.3 * numbers[~near].mean() > 0


class TestObjects:
    def test_classes_have_one_distribution_of_signal_to_noise(self, cutouts):
        star, galaxy = (cutouts.table["snr"][cutouts.labels == label] for label in (0, 1))
        assert stats.ks_2samp(star, galaxy).pvalue > 0.01
        even = stats.uniform(np.log(SNR_RANGE[0]), np.ptp(np.log(SNR_RANGE)))
        assert stats.kstest(np.log(cutouts.table["snr"]), even.cdf).pvalue > 0.01

    def test_classes_have_the_signal_to_noise_in_their_pixels(self, cutouts):
        chosen = cutouts[
            (cutouts.table["snr"].between(30, 300) & (cutouts.table["neighbours"] == 0)).to_numpy()
        ]
        for label in (0, 1):
            ratio = [
                _measured_snr(pixels, row) / row.snr
                for pixels, row in zip(chosen.images, chosen.table.itertuples(), strict=True)
                if row.name.startswith(("star", "galaxy")[label])
            ]
            assert np.median(ratio) == pytest.approx(1, abs=0.1)

    def test_galaxies_are_as_large_as_their_magnitude_in_the_band_tells(self, cutouts):
        galaxies = cutouts.table[cutouts.labels == 1]
        expected = 1.24 * 10 ** (-0.12 * (galaxies["magnitude"].clip(*RADIUS_MAGNITUDES) - 18.5))
        deviation = np.log10(galaxies["radius"] / expected)
        assert deviation.mean() == pytest.approx(-0.1, abs=0.07)  # of one S/N, larger ones are rarer
        assert deviation.std() == pytest.approx(0.22, abs=0.06)
        assert galaxies["sersic"].eq(1).mean() == pytest.approx(0.6, abs=0.15)
        assert galaxies["sersic"].isin([1, 4]).all()

    def test_stars_are_points_and_few_of_them_pairs(self, cutouts):
        stars = cutouts.table[cutouts.labels == 0]
        assert (stars["radius"] == 0).all()
        assert 0 < (stars["separation"] > 0).mean() < 0.12
        assert cutouts.table["separation"].max() <= 0.9


class TestCurveOfGrowth:
    def test_bright_stars_obey_the_apcor_of_their_header(self, bright_stars):
        differences = _curve(bright_stars) - bright_stars.table[[f"apcor{n}" for n in range(1, 7)]]
        differences = differences.sub(differences["apcor5"], axis=0).to_numpy()
        error = np.hypot(APCOR_ERRORS, 0.02)
        assert (np.abs(np.median(differences, axis=0)) < 0.008).all()
        assert (np.abs(differences) < 6 * error).mean() > 0.98

    def test_seeing_is_wider_than_the_psf(self, bright_stars):
        assert np.corrcoef(bright_stars.table["seeing"], bright_stars.table["apcor2"])[0, 1] < -0.95

    @pytest.mark.parametrize("shape", [galsim.Kolmogorov(fwhm=1), galsim.Moffat(3.5, fwhm=0.7)])
    def test_profile_is_scaled_to_a_width(self, shape):
        psf = scaled_psf(shape.shift(0.1, 0.2), 2.5)
        assert psf.flux == pytest.approx(1)
        assert np.hypot(psf.centroid.x, psf.centroid.y) < 1e-9
        assert psf.calculateFWHM() == pytest.approx(2.5, rel=0.02)

    def test_given_profile_is_drawn(self):
        steep, flat = (
            simulate_cutouts(2, 1, 5, psf=lambda rng, fwhm, beta=beta: galsim.Moffat(beta, fwhm=1), n_jobs=1)
            for beta in (2.5, 4.5)
        )
        assert (steep.table["apcor4"] < flat.table["apcor4"]).all()

    def test_coma_shows_in_sharp_images(self):
        sharp, wide = (draw_psf(np.random.default_rng(2), fwhm) for fwhm in (1.0, 5.0))
        assert np.hypot(*(sharp.centroid.x, sharp.centroid.y)) > np.hypot(wide.centroid.x, wide.centroid.y)


def _measured_snr(pixels, row):
    sky = np.median(pixels[[0, 1, -2, -1]])
    start = np.unravel_index(np.argmax(pixels[6:-6, 6:-6]), (8, 8))
    counts = aperture_counts(pixels - sky, (start[1] + 6, start[0] + 6), 4)
    variance = np.pi * 4 * (1.05**2 * (sky / row.gain + (READ_NOISE / row.gain) ** 2)) + counts / row.gain
    return counts / np.sqrt(variance)


def _curve(cutouts):
    """Return PSF magnitude minus aperture magnitude by diameter, but for a constant per star."""
    curves = []
    for pixels in cutouts.images:
        light = pixels - np.median(pixels[[0, 1, -2, -1]])
        centre = windowed_centroid(light, (9.2, 9.2))
        curves.append([2.5 * np.log10(aperture_counts(light, centre, diameter)) for diameter in APERTURES])
    return pd.DataFrame(curves, columns=[f"apcor{n}" for n in range(1, 7)])
