import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from ztf_sg.simulation.exposures import METADATA_COLUMNS
from ztf_sg.simulation.parameters import DEC_RANGE, FIELDS, NIGHTS, RA_RANGE
from ztf_sg.simulation.psf import PSF_COLUMNS, aperture_corrections
from ztf_sg.ztf import PIXEL_SCALE, QUADRANT, image_wcs

# SEEING and APCOR1..4 of real images in r, r and g.
REAL_APCOR = {
    1.491: (-0.778, -0.349, -0.181, -0.059),
    2.530: (-1.377, -0.751, -0.421, -0.149),
    3.776: (-2.084, -1.338, -0.886, -0.409),
}
PHYSICS = (
    "mjd background sky_slope_x sky_slope_y noise_excess magzp saturate full_well seeing_px psf_slope_x "
    "psf_slope_y psf_mag_offset shift_x shift_y"
).split()


@pytest.fixture(scope="module")
def exposures(mock_sky):
    """Return the images in i."""
    return mock_sky.exposures[mock_sky.exposures["filtercode"] == "zi"]


@pytest.fixture(scope="module")
def wide(mock_sky):
    """Return the images in g and r."""
    return mock_sky.exposures[mock_sky.exposures["filtercode"] != "zi"]


@pytest.fixture(scope="module")
def found(exposures):
    """Return the images that are sharp enough for the search."""
    return exposures[exposures["seeing"] < 1.85]


class TestTable:
    def test_has_the_metadata_and_the_physics(self, exposures):
        assert set(exposures.columns) == {*METADATA_COLUMNS, *PHYSICS, *PSF_COLUMNS}
        assert not exposures.isna().any(axis=None)

    def test_images_have_keys_of_their_own(self, mock_sky):
        exposures = mock_sky.exposures
        assert not exposures.duplicated(["filefracday", "rcid"]).any()
        assert exposures["meta_id"].is_unique
        assert exposures["pid"].is_unique

    def test_bands_have_their_numbers(self, mock_sky):
        bands = mock_sky.exposures[["filtercode", "fid"]].drop_duplicates()
        assert dict(bands.to_numpy()) == {"zg": 1, "zr": 2, "zi": 3}

    def test_every_field_is_exposed_every_night(self, exposures):
        assert set(exposures["field"]) == set(FIELDS)
        assert exposures["expid"].nunique() == NIGHTS * len(FIELDS)
        assert exposures.groupby("field")["nid"].nunique().eq(NIGHTS).all()

    def test_times_agree_with_each_other(self, exposures):
        np.testing.assert_allclose(exposures["obsjd"] - 2400000.5, exposures["mjd"], atol=1e-6)
        dates = Time(exposures["mjd"].head(5).to_numpy(), format="mjd").strftime("%Y%m%d")
        assert (exposures["filefracday"].head(5) // 10**6).astype(str).tolist() == dates.tolist()
        fraction = exposures["filefracday"] % 10**6 / 1e6
        np.testing.assert_allclose(fraction, exposures["mjd"] % 1, atol=1e-6)
        assert (exposures.groupby("expid")["mjd"].nunique() == 1).all()

    def test_seeing_is_in_arcsec_and_in_pixels(self, exposures):
        np.testing.assert_allclose(exposures["seeing"], exposures["seeing_px"] * PIXEL_SCALE, atol=1e-4)

    def test_pixels_have_their_scale_and_orientation(self, exposures):
        for _, image in exposures.iloc[::100].iterrows():
            wcs = image_wcs(image)
            x, y = (QUADRANT[0] - 1) / 2, (QUADRANT[1] - 1) / 2
            points = SkyCoord(*wcs.wcs_pix2world([x, x + 100, x], [y, y, y + 100], 0), unit="deg")
            steps = points[0].separation(points[1:]).arcsec
            np.testing.assert_allclose(steps, 100 * PIXEL_SCALE, rtol=1e-3)
            # x grows to the west, y to the south
            angles = points[0].position_angle(points[1:]).deg
            np.testing.assert_allclose(angles, [270, 180], atol=1)

    def test_area_is_covered_by_several_nights(self, found):
        rng = np.random.default_rng(0)
        positions = zip(rng.uniform(*RA_RANGE, 200), rng.uniform(*DEC_RANGE, 200), strict=True)
        inside = [
            (found["ra1"].gt(ra) & found["ra2"].lt(ra) & found["dec1"].gt(dec) & found["dec3"].lt(dec))
            for ra, dec in positions
        ]
        images = np.array([hit.sum() for hit in inside])
        assert (images > 0).mean() > 0.7
        assert np.median(images) > 4


class TestConditions:
    """Quantiles of the real population, with generous bounds."""

    def test_sky(self, found):
        low, middle, high = found["background"].quantile([0.05, 0.5, 0.95])
        assert low == pytest.approx(179, rel=0.25)
        assert middle == pytest.approx(259, rel=0.25)
        assert high == pytest.approx(653, rel=0.4)
        assert found["background"].min() > 80

    def test_seeing(self, found):
        low, high = found["seeing_px"].quantile([0.03, 0.97])
        assert low == pytest.approx(1.41, abs=0.08)
        assert high == pytest.approx(1.83, abs=0.06)

    def test_zero_points(self, found):
        low, high = found["magzp"].quantile([0.02, 0.98])
        assert low == pytest.approx(25.25, abs=0.15)
        assert high == pytest.approx(25.76, abs=0.12)

    def test_limiting_magnitudes(self, found):
        assert found["maglimit"].between(18.5, 21.5).all()
        sky = np.corrcoef(found["background"], found["maglimit"])[0, 1]
        assert sky < -0.5

    def test_noise_and_wells(self, found):
        assert found["noise_excess"].between(1, 1.25).all()
        assert found["saturate"].between(45000, 53000).all()
        assert (found["full_well"] / found["saturate"]).between(1.05, 1.35).all()

    def test_moonlit_skies_are_brighter(self, found):
        moonlit = found["moonillf"] > 0.35
        assert 0.1 < moonlit.mean() < 0.7
        assert found.loc[moonlit, "background"].median() > found.loc[~moonlit, "background"].median()

    def test_psf_follows_the_seeing(self, found):
        assert np.corrcoef(found["seeing_px"], found["psf_fwhm"])[0, 1] > 0.6
        assert found["psf_fwhm"].between(0.8, 2).all()
        assert found["psf_steep"].between(0, 1).all()
        assert np.hypot(found["psf_e1"], found["psf_e2"]).max() < 0.6
        assert np.corrcoef(found["psf_e1"], found["psf_e2"])[0, 1] < -0.6

    def test_astrometry_is_better_than_a_fifth_of_a_pixel(self, found):
        assert found[["shift_x", "shift_y"]].abs().max().max() < 0.2

    def test_quadrants_of_an_exposure_share_its_weather(self, exposures):
        within = exposures.groupby("expid")[["background", "magzp", "seeing_px"]].std().median()
        overall = exposures[["background", "magzp", "seeing_px"]].std()
        assert within["background"] < 0.3 * overall["background"]
        assert within["magzp"] < overall["magzp"]


class TestWideBands:
    """Ranges of real images in g and r."""

    @pytest.mark.parametrize(
        ("column", "limits", "sharp", "wide_"),
        [
            ("seeing_px", (1.1, 5.6), 2.0, 2.5),
            ("background", (60, 1500), 220, 400),
            ("magzp", (25, 26.8), 26.1, 26.2),
        ],
    )
    def test_conditions_are_wide(self, wide, column, limits, sharp, wide_):
        for _, images in wide.groupby("filtercode"):
            assert images[column].between(*limits).all()
            assert images[column].quantile(0.1) < sharp
            assert images[column].quantile(0.9) > wide_

    def test_some_are_sharp_enough_for_the_search(self, wide):
        assert (wide[wide["seeing"] < 1.85].groupby("filtercode").size() > 15).all()

    def test_curve_of_growth_is_that_of_real_images(self, wide):
        sample = wide.sample(60, random_state=0)
        corrections = np.array([aperture_corrections(row) for _, row in sample.iterrows()])
        for seeing, expected in REAL_APCOR.items():
            near = np.argsort(np.abs(sample["seeing_px"].to_numpy() - seeing))[:5]
            np.testing.assert_allclose(corrections[near].mean(axis=0)[:4], expected, atol=0.2)
