"""Trails in whole images: simulated fields, the faults of detectors, and real images where there are some."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from ztf_sg import find_trails
from ztf_sg.simulation.trails import TRAIL_COLUMNS, draw_trail, simulate_field, simulate_trails
from ztf_sg.streaks.flash_rows import find_rows
from ztf_sg.streaks.lines import line_segments
from ztf_sg.streaks.sky_pixels import background_and_noise, find_bad_columns, measure_fwhm, prepare_sky
from ztf_sg.streaks.trail_profile import Line, along_profile, pixels_near

NOISE, FWHM = 8.0, 2.4  # [DN], [px]
REAL_IMAGES = os.environ.get("ZTF_SG_REAL_IMAGES")


def make_trail(x1, y1, x2, y2, snr=40.0, width=1.2, spacing=np.nan):
    return pd.DataFrame([(x1, y1, x2, y2, snr, width, spacing)], columns=TRAIL_COLUMNS)


def make_image(trails=None, shape=(256, 320), random_state=0):
    """Return an image of empty sky with trails."""
    image = 300 + np.random.default_rng(random_state).normal(0, NOISE, shape)
    for trail in () if trails is None else trails.itertuples():
        image += draw_trail(trail, shape, FWHM, NOISE)
    return image


def add_sources(image, places, peak=2.4 * NOISE):
    """Add point sources, by default too faint for most of them to be told from noise."""
    y, x = np.indices((25, 25)) - 12
    source = peak * np.exp(-4 * np.log(2) * (x**2 + y**2) / FWHM**2)
    for row, column in places:
        image[row - 12 : row + 13, column - 12 : column + 13] += source


@pytest.fixture(scope="module")
def field():
    """Return a simulated field of stars and galaxies without trails, and its header."""
    return simulate_field(1, (448, 448))


def distance_to(row, x, y):
    """Return how far a point is from the line of a trail [px]."""
    length = np.hypot(row.x2 - row.x1, row.y2 - row.y1)
    return abs((x - row.x1) * (row.y2 - row.y1) - (y - row.y1) * (row.x2 - row.x1)) / length


def only(trails):
    assert len(trails) == 1
    return next(trails.table.itertuples())


class TestEmptySky:
    def test_nothing_is_found_in_noise(self):
        assert all(len(find_trails(make_image(random_state=seed), fwhm=FWHM)) == 0 for seed in range(2))

    def test_an_empty_table_has_all_columns_and_the_mask_the_shape_of_the_image(self):
        trails = find_trails(make_image(), fwhm=FWHM)
        full = find_trails(make_image(make_trail(-9, 50, 400, 150)), fwhm=FWHM)
        assert trails.table.columns.tolist() == full.table.columns.tolist()
        assert trails.mask.shape == (256, 320) and not trails.mask.any()

    def test_stars_and_galaxies_of_a_field_are_no_trails(self, field):
        assert len(find_trails(*field)) == 0

    def test_crowded_sources_too_faint_to_be_masked_are_no_trails(self):
        image = make_image(shape=(512, 512), random_state=4)
        add_sources(image, np.random.default_rng(4).integers(12, 499, (500, 2)))
        assert len(find_trails(image, fwhm=FWHM)) == 0


class TestFoundTrails:
    @pytest.mark.parametrize("angle", [0.0, 7.0, 45.0, 71.0, 92.0, 135.0, 178.0])
    def test_trails_of_all_directions_are_found(self, angle):
        c, s = 400 * np.cos(np.radians(angle)), 400 * np.sin(np.radians(angle))
        true = make_trail(160 - c, 120 - s, 160 + c, 120 + s, snr=20)
        row = only(find_trails(make_image(true), fwhm=FWHM))
        assert abs((row.angle - angle + 90) % 180 - 90) < 0.5
        assert distance_to(row, 160, 120) < 1
        assert row.length > 220

    def test_both_ends_of_a_short_trail_are_found(self):
        row = only(find_trails(make_image(make_trail(60, 80, 160, 150, snr=40)), fwhm=FWHM))
        ends = sorted([(row.x1, row.y1), (row.x2, row.y2)])
        assert np.abs(np.subtract(ends, [(60, 80), (160, 150)])).max() < 5

    def test_width_and_brightness_are_those_of_the_trail(self):
        true = make_trail(-200, 100, 600, 160, snr=80, width=1.6)
        row = only(find_trails(make_image(true), fwhm=FWHM))
        assert row.width == pytest.approx(1.6 * FWHM, rel=0.15)
        light = draw_trail(next(true.itertuples()), (256, 320), FWHM, NOISE)
        assert row.surface_brightness == pytest.approx(light.max(), rel=0.15)
        assert row.snr == pytest.approx(80, rel=0.2)

    def test_two_trails_that_cross_are_told_apart(self):
        true = pd.concat([make_trail(-100, 40, 420, 200), make_trail(-100, 230, 420, 60, snr=25)])
        table = find_trails(make_image(true), fwhm=FWHM).table
        assert len(table) == 2
        assert table["snr"].is_monotonic_decreasing

    def test_a_trail_through_pixels_without_data_is_one(self):
        image = make_image(make_trail(-100, 40, 420, 200))
        image[:, 140:180] = np.nan
        assert only(find_trails(image, fwhm=FWHM)).length > 300

    def test_the_mask_covers_the_light_of_the_trail(self):
        true = make_trail(-100, 40, 420, 200, snr=300)
        light = draw_trail(next(true.itertuples()), (256, 320), FWHM, NOISE)
        mask = find_trails(make_image(true), fwhm=FWHM).mask
        assert mask[light > 0.5 * NOISE].all()
        assert mask.mean() < 0.3

    def test_trails_in_a_field_of_stars_are_found_on_the_sky(self):
        true = make_trail(-300, 100, 700, 400, snr=30)
        image, header = simulate_field(3, (384, 384), true)
        row = only(find_trails(image, header))
        assert distance_to(next(true.itertuples()), row.x1, row.y1) < 2
        sky = WCS(header).all_pix2world([row.x1, row.x2], [row.y1, row.y2], 0)
        np.testing.assert_allclose([[row.ra1, row.ra2], [row.dec1, row.dec2]], sky)
        assert 20 < row.surface_magnitude < 28

    def test_without_a_header_there_are_no_positions_and_no_magnitudes(self):
        row = only(find_trails(make_image(make_trail(-100, 40, 420, 200)), fwhm=FWHM))
        assert np.isnan([row.ra1, row.dec2, row.surface_magnitude]).all()


class TestFlashes:
    def test_bright_flashes_are_one_dotted_trail(self):
        true = make_trail(-100, 40, 620, 400, snr=150, width=1.0, spacing=10.0)
        row = only(find_trails(make_image(true, (512, 512)), fwhm=FWHM))
        assert row.dotted and row.length > 400
        assert row.spacing == pytest.approx(10 * FWHM * 1.012, rel=0.02)

    def test_faint_flashes_are_one_dotted_trail(self):
        true = make_trail(-100, 40, 620, 400, snr=35, width=1.0, spacing=7.0)
        row = only(find_trails(make_image(true, (512, 512)), fwhm=FWHM))
        assert row.dotted
        assert row.spacing == pytest.approx(7 * FWHM * 1.012, rel=0.03)

    def test_continuous_trails_have_no_spacing(self):
        row = only(find_trails(make_image(make_trail(-100, 40, 420, 200)), fwhm=FWHM))
        assert not row.dotted and np.isnan(row.spacing)

    def test_rows_of_points_are_found_though_some_are_missing(self):
        rng = np.random.default_rng(1)
        row = np.array([50.0, 60.0]) + np.arange(12)[:, None] * [15.0, 8.0] + rng.normal(0, 0.3, (12, 2))
        points = np.concatenate([rng.uniform(0, 512, (150, 2)), np.delete(row, [3, 7], axis=0)])
        ends, steps = find_rows(points, 5, 60, 2.0)
        np.testing.assert_allclose(np.sort(ends[0].reshape(2, 2), axis=0), row[[0, -1]], atol=1.0)
        assert steps[0] == pytest.approx(17.0, abs=0.2)

    def test_stars_by_chance_are_no_row(self):
        points = np.random.default_rng(2).uniform(0, 1024, (500, 2))
        assert len(find_rows(points, 5, 60, 2.0)[0]) == 0


class TestFaultsOfTheDetector:
    @pytest.mark.parametrize("width", [1, 2, 7])
    @pytest.mark.parametrize("first", [0, 90])
    def test_a_bad_column_is_no_trail(self, width, first):
        image = make_image()
        image[first:, 140 : 140 + width] += 15
        trails = find_trails(image, fwhm=FWHM)
        assert len(trails) == 0
        if not first:
            assert set(trails.bad_columns) == set(range(140, 140 + width))

    @pytest.mark.parametrize("level", [0.0, 65535.0])
    def test_dead_columns_are_bad_and_no_padding(self, level):
        image = make_image()
        image[:, 140:142] = level
        trails = find_trails(image, fwhm=FWHM)
        assert trails.bad_columns.tolist() == [140, 141] and len(trails) == 0

    def test_a_line_from_side_to_side_of_broad_bad_columns_is_no_trail(self):
        image = make_image(shape=(600, 96), random_state=2)  # of which the line drifts by 6 px
        image[200:, 40:47] += 3
        assert len(find_trails(image, fwhm=1.6)) == 0

    @pytest.mark.parametrize("level", [-6, 6])
    def test_columns_that_are_bad_from_a_row_on_are_found_and_make_no_trail(self, level):
        image = make_image(shape=(1024, 256), random_state=6)
        image[500:, 90:97] += level
        trails = find_trails(image, fwhm=FWHM)
        assert len(trails) == 0
        assert set(range(90, 97)) <= set(trails.bad_columns) <= set(range(88, 99))
        values = image / NOISE - 300 / NOISE
        bad = find_bad_columns(values, np.isfinite(values))
        assert bad[520:, 92:95].all() and not bad[:64].any()

    def test_a_steep_trail_makes_no_column_bad(self):
        image = make_image(make_trail(80, -50, 130, 1100, snr=100), shape=(1024, 256))
        trails = find_trails(image, fwhm=FWHM)
        assert not len(trails.bad_columns)
        assert only(trails).length > 1000

    def test_a_trail_beside_a_bad_column_is_found(self):
        image = make_image(make_trail(-100, 40, 420, 200))
        image[:, 140:147] += np.random.default_rng(3).normal(15, 10, (256, 7))
        only(find_trails(image, fwhm=FWHM))

    def test_a_row_narrower_than_stars_is_no_trail(self):
        image = make_image()
        image[120] += 12
        assert len(find_trails(image, fwhm=3.0)) == 0

    def test_the_spikes_of_a_star_are_no_trails(self):
        y, x = np.indices((400, 400)) - 200.0
        distance = np.hypot(x, y)
        star = 40000 * (1 + (distance / 3) ** 2) ** -2.5
        for across in (x - y, x + y):
            star += 40 * np.exp(-distance / 60) * np.exp(-0.5 * (across / np.sqrt(2) / 1.2) ** 2)
        assert len(find_trails(make_image(shape=(400, 400)) + star, fwhm=FWHM)) == 0

    def test_a_gradient_and_an_edge_of_the_sky_are_no_trails(self):
        image = make_image()
        image *= np.linspace(1, 4, 320)
        image[:, 290:] = np.nan
        image[:12] *= 0.6
        assert len(find_trails(image, fwhm=FWHM)) == 0


class TestArguments:
    @pytest.mark.parametrize("image", [np.zeros((20, 200)), np.zeros(100), np.full((64, 64), "a")])
    def test_what_is_no_image_is_refused(self, image):
        with pytest.raises(ValueError, match="image: expected real numbers"):
            find_trails(image)

    def test_an_image_without_data_is_refused(self):
        with pytest.raises(ValueError, match="pixels of sky"):
            find_trails(np.full((64, 64), np.nan))

    @pytest.mark.parametrize("fwhm", [0, -1.0, np.nan, "2", 5000.0])
    def test_a_width_that_is_none_is_refused(self, fwhm):
        with pytest.raises(ValueError, match="fwhm="):
            find_trails(make_image(), fwhm=fwhm)

    @pytest.mark.parametrize("header", ["SEEING  = 2.4", WCS(naxis=2), [("SEEING", 2.4)]])
    def test_what_is_no_header_is_refused(self, header):
        with pytest.raises(TypeError, match=r"header: expected an astropy.io.fits.Header"):
            find_trails(make_image(), header)

    @pytest.mark.parametrize(
        ("key", "value"), [("SEEING", 1e9), ("SEEING", "x"), ("SATURATE", 0.0), ("SATURATE", 1e99)]
    )
    def test_numbers_of_a_header_that_make_no_sense_are_done_without(self, key, value):
        only(find_trails(make_image(make_trail(-100, 40, 420, 200)), fits.Header({key: value})))

    @pytest.mark.parametrize(
        "cards", [{"CTYPE1": "RA---BAR", "CTYPE2": "DEC--BAR"}, {"CTYPE1": "RA---TAN", "CTYPE2": "LINEAR"}]
    )
    @pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
    def test_without_a_usable_wcs_trails_have_no_positions(self, cards):
        with pytest.warns(UserWarning, match="no positions: the WCS cannot be used"):
            row = only(find_trails(make_image(make_trail(-100, 40, 420, 200)), fits.Header(cards)))
        assert np.isnan([row.ra1, row.dec1, row.ra2, row.dec2]).all()

    def test_positions_are_icrs_whatever_the_wcs_has(self):
        cards = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 120.0, "CRVAL2": 30.0, "CDELT1": -3e-4}
        header = fits.Header(cards | {"CDELT2": 3e-4})
        row = only(find_trails(make_image(make_trail(-100, 40, 420, 200)), header))
        end = WCS(header).pixel_to_world(row.x2, row.y2)
        assert end.separation(SkyCoord(row.ra2, row.dec2, unit="deg")).arcsec < 1e-3

    @pytest.mark.parametrize("padding", [0.0, -999.0, np.finfo(np.float32).min])
    def test_the_edge_of_padding_is_no_trail(self, padding):
        image = make_image(make_trail(-100, 40, 420, 200))
        image[:40] = image[:, 280:] = padding
        only(find_trails(image, fwhm=FWHM))

    def test_the_image_is_left_as_it_was(self):
        image = make_image(make_trail(-100, 40, 420, 200))
        before = image.copy()
        find_trails(image, fwhm=FWHM)
        np.testing.assert_array_equal(image, before)


class TestPreparation:
    def test_background_and_noise_are_those_of_the_sky(self, field):
        image, header = field
        background, noise = background_and_noise(image)
        sky = prepare_sky(image, header["SEEING"])
        assert np.std((image - background)[sky.is_sky]) == pytest.approx(noise.mean(), rel=0.06)
        assert abs(np.mean(sky.values[sky.is_sky])) < 0.05

    def test_faint_sources_are_sky_that_is_not_empty(self):
        image, places = (
            make_image(shape=(512, 512)),
            np.stack(np.mgrid[20:500:40, 20:500:40], -1).reshape(-1, 2),
        )
        add_sources(image, places)
        sky = prepare_sky(image, FWHM)
        assert sky.is_sky[*places.T].mean() > 0.5
        assert sky.is_empty[*places.T].mean() < 0.4
        assert sky.is_empty.mean() > 0.97

    def test_the_width_of_stars_is_measured(self, field):
        image, header = field
        assert measure_fwhm(prepare_sky(image).values) == pytest.approx(header["SEEING"], rel=0.35)

    def test_segments_of_a_line_have_its_signal_to_noise_ratio(self):
        light = draw_trail(next(make_trail(-100, 40, 420, 200, snr=30).itertuples()), (256, 320), FWHM, 1.0)
        values = np.random.default_rng(5).normal(size=(256, 320)) + light
        best = line_segments(values, np.ones((256, 320), dtype=bool), 1.2, 6.0)[0]
        assert 20 < best[0] < 33

    @pytest.mark.parametrize("width", [1.0, 2.5])
    def test_the_light_along_lines_of_empty_sky_scatters_as_its_variance_tells(self, width):
        rng, sigma, length = np.random.default_rng(7), width * FWHM / 2.355, 160.0
        values, everywhere = rng.normal(size=(700, 700)), np.ones((700, 700), dtype=bool)
        snr = []
        for x, y, direction in zip(*rng.uniform(200, 500, (2, 400)), rng.uniform(0, np.pi, 400), strict=True):
            band = pixels_near(Line(x, y, direction, length), everywhere, values)
            light, variance = along_profile(band, sigma, 8.0, 0, 20)
            snr.append(np.sum(light / variance) / np.sqrt(np.sum(1 / variance)))
        assert np.std(snr) == pytest.approx(1, abs=0.08)


class TestSimulatedTrails:
    def test_a_trail_has_the_signal_to_noise_ratio_asked_for(self):
        for trail in simulate_trails(5, 0, (256, 320)).itertuples():
            light = draw_trail(trail, (256, 320), FWHM, NOISE)
            assert np.sqrt(np.sum(light**2)) / NOISE == pytest.approx(trail.snr)

    def test_fields_are_the_same_for_the_same_seed(self):
        one, other, another = (simulate_field(seed, (64, 64))[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, another)


@pytest.fixture(scope="module")
def found():
    paths = sorted(Path(REAL_IMAGES).glob("*.fits"))
    return {path.name: find_trails(*fits.getdata(path, header=True)) for path in paths}


@pytest.mark.skipif(not REAL_IMAGES, reason="ZTF_SG_REAL_IMAGES names no folder of real images")
class TestRealImages:
    # The image with the wide bad column, across whose corner a faint trail goes
    WITH_TRAIL = "20250519304664_000757_zg_c10_o_q4"

    def test_nothing_is_found_where_there_is_no_trail(self, found):
        others = {name: len(trails) for name, trails in found.items() if self.WITH_TRAIL not in name}
        assert not any(others.values()), others

    def test_the_bad_column_is_told_from_the_trail(self, found):
        trails = next(trails for name, trails in found.items() if self.WITH_TRAIL in name)
        assert set(range(208, 214)) <= set(trails.bad_columns)
        row = only(trails)
        assert row.angle == pytest.approx(128.8, abs=1)
