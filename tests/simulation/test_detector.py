import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from ztf_sg.simulation import parameters
from ztf_sg.simulation.detector import (
    bleed,
    cosmic_rays,
    expose,
    hot_pixels,
    satellite_trail,
    sky_level,
    slope_factor,
)
from ztf_sg.simulation.parameters import (
    COSMIC_RAY_COUNTS,
    FLAT_ERROR,
    GAIN,
    HOT_PIXEL_COUNTS,
    HOT_PIXEL_RATE,
    TRAIL_COUNTS,
)
from ztf_sg.ztf import QUADRANT, READ_NOISE

FULL_WELL = 60000.0
ANYWHERE = np.ones((3, 3))  # connects pixels that touch at a corner


@pytest.fixture
def exposure():
    return pd.Series(
        {
            "background": 300.0, "noise_excess": 1.05, "full_well": FULL_WELL,
            "sky_slope_x": 0.01, "sky_slope_y": -0.02,
        }
    )  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def clean(monkeypatch):
    """Leave out hot pixels, cosmic rays and trails."""
    for name in ("HOT_PIXEL_RATE", "COSMIC_RAY_RATE", "TRAIL_FRACTION"):
        monkeypatch.setattr(parameters, name, 0.0)


def star(counts, sigma=1.5, shape=(81, 41)):
    y, x = np.indices(shape)
    squared = (y - shape[0] // 2) ** 2 + (x - shape[1] // 2) ** 2
    light = np.exp(-squared / (2 * sigma**2))
    return counts * light / light.sum()


class TestSky:
    def test_is_a_plane_over_the_image_with_its_level_in_the_middle(self, exposure):
        middle = sky_level(exposure, (QUADRANT[0] // 2, QUADRANT[1] // 2), (1, 1))
        assert middle[0, 0] == pytest.approx(300, rel=1e-4)
        stamp = sky_level(exposure, (100, 200), (20, 30))
        assert stamp.shape == (20, 30)
        np.testing.assert_allclose(np.diff(stamp, axis=1), 300 * 0.01 / QUADRANT[0], rtol=1e-6)
        np.testing.assert_allclose(np.diff(stamp, axis=0), -300 * 0.02 / QUADRANT[1], rtol=1e-6)

    def test_of_two_stamps_agrees_where_they_overlap(self, exposure):
        one, other = (sky_level(exposure, origin, (20, 20)) for origin in ((50, 70), (55, 73)))
        np.testing.assert_allclose(one[3:, 5:], other[:17, :15])

    def test_changes_by_its_slope_across_the_image(self, exposure):
        edges = [slope_factor(exposure, "sky", x, QUADRANT[1] / 2) for x in (0, QUADRANT[0])]
        assert edges == pytest.approx([0.995, 1.005])


@pytest.mark.usefixtures("clean")
class TestNoise:
    @pytest.mark.parametrize("sky", [0.0, 180.0, 650.0, 20000.0])
    @pytest.mark.parametrize("excess", [1.0, 1.12])
    def test_follows_from_gain_read_noise_and_excess(self, exposure, rng, sky, excess):
        exposure["noise_excess"] = excess
        pixels = expose(np.zeros((200, 200)), sky, exposure, rng)
        variance = excess**2 * (sky / GAIN + (READ_NOISE / GAIN) ** 2) + (FLAT_ERROR * sky) ** 2
        assert pixels.mean() == pytest.approx(sky, abs=5 * np.sqrt(variance) / 200)
        assert pixels.std() == pytest.approx(np.sqrt(variance), rel=0.02)

    def test_light_has_its_photon_noise(self, exposure, rng):
        light = star(1e5, sigma=3)
        frames = np.array([expose(light, 300.0, exposure, rng) for _ in range(400)])
        expected = 300 + light
        variance = 1.05**2 * (expected / GAIN + (READ_NOISE / GAIN) ** 2) + (FLAT_ERROR * expected) ** 2
        np.testing.assert_allclose(frames.mean(axis=0), expected, atol=5 * np.sqrt(variance.max() / 400))
        ratio = frames.var(axis=0) / variance
        assert np.median(ratio) == pytest.approx(1, abs=0.03)
        assert ratio[light > 1000].mean() == pytest.approx(1, abs=0.05)

    def test_neighbouring_pixels_are_uncorrelated(self, exposure, rng):
        pixels = expose(np.zeros((200, 200)), 300.0, exposure, rng)
        for one, other in ((pixels[1:], pixels[:-1]), (pixels[:, 1:], pixels[:, :-1])):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02

    def test_same_generator_makes_the_same_pixels_and_another_others(self, exposure):
        frames = [
            expose(star(1e4), 300.0, exposure, np.random.default_rng(seed))
            for seed in ([1, 2], [1, 2], [1, 3])
        ]
        np.testing.assert_array_equal(frames[0], frames[1])
        assert (frames[0] != frames[2]).mean() > 0.99

    def test_pixels_are_finite_floats_even_without_light(self, exposure, rng):
        pixels = expose(np.full((30, 30), -1e-3), 0.0, exposure, rng)
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()


class TestSaturation:
    def test_saturated_star_reaches_the_full_well_and_not_above(self, exposure, rng, clean):
        light = star(5e6)
        pixels = expose(light, 300.0, exposure, rng)
        assert light.max() > 2 * FULL_WELL
        assert pixels.max() == pytest.approx(FULL_WELL)
        high = pixels > 0.95 * FULL_WELL
        assert high[:, 20].sum() > high[40].sum()
        assert pixels.sum() == pytest.approx(light.sum() + 300 * light.size, rel=0.01)

    def test_charge_spills_up_and_down_from_the_peak(self):
        spilt = bleed(star(5e6), FULL_WELL)
        rows = np.flatnonzero(spilt[:, 20] == FULL_WELL)
        assert (np.diff(rows) == 1).all()
        assert rows.mean() == pytest.approx(40, abs=0.5)
        assert len(rows) > (star(5e6)[:, 20] >= FULL_WELL).sum()

    def test_other_columns_and_faint_images_stay_as_they_are(self):
        light = star(5e6)
        spilt = bleed(light, FULL_WELL)
        calm = (light <= FULL_WELL).all(axis=0)
        np.testing.assert_array_equal(spilt[:, calm], light[:, calm])
        np.testing.assert_array_equal(bleed(star(1e4), FULL_WELL), star(1e4))

    def test_input_is_left_alone(self):
        light = star(5e6)
        bleed(light, FULL_WELL)
        np.testing.assert_array_equal(light, star(5e6))

    @given(hnp.arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(0, 500)))
    def test_charge_of_a_column_is_conserved_as_long_as_there_is_room(self, counts):
        spilt = bleed(counts, 100.0)
        room = 100.0 * len(counts)
        assert spilt.max() <= 100
        np.testing.assert_allclose(spilt.sum(axis=0), np.minimum(counts.sum(axis=0), room), atol=1e-6)


class TestHotPixels:
    def test_appear_at_their_rate_with_their_counts(self, rng):
        counts = hot_pixels((2500, 2500), rng)
        hot = counts[counts > 0]
        assert stats.poisson.cdf(len(hot), HOT_PIXEL_RATE * counts.size) == pytest.approx(0.5, abs=0.499)
        assert hot.mean() == pytest.approx(HOT_PIXEL_COUNTS, rel=5 / len(hot) ** 0.5)
        assert ndimage.label(counts, ANYWHERE)[1] > 0.98 * len(hot)


class TestCosmicRays:
    def test_appear_at_their_rate(self, rng, monkeypatch):
        monkeypatch.setattr(parameters, "COSMIC_RAY_RATE", 1e-4)
        counts = cosmic_rays((2000, 2000), rng)
        tracks = ndimage.label(counts, ANYWHERE)[1]
        assert tracks == pytest.approx(400, abs=80)
        assert (counts > 0).sum() / tracks == pytest.approx(1 + parameters.COSMIC_RAY_LENGTH, rel=0.25)

    def test_are_straight_thin_tracks_of_even_brightness(self, rng, monkeypatch):
        monkeypatch.setattr(parameters, "COSMIC_RAY_RATE", 1e-4)
        monkeypatch.setattr(parameters, "COSMIC_RAY_LENGTH", 8.0)
        counts = cosmic_rays((1000, 1000), rng)
        values, number = np.unique(counts[counts > 0], return_counts=True)
        assert values.mean() == pytest.approx(COSMIC_RAY_COUNTS, rel=5 / len(values) ** 0.5)
        for value in values[number >= 5]:
            track = np.argwhere(counts == value)
            width = np.linalg.svd(track - track.mean(axis=0))[1][1]
            assert width / len(track) ** 0.5 < 0.6

    def test_there_are_few_in_a_cutout(self, rng):
        hit = [cosmic_rays((20, 20), rng).any() for _ in range(3000)]
        assert np.mean(hit) < 0.005


class TestTrails:
    @pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
    def test_cross_their_share_of_the_cutouts(self, rng, monkeypatch, fraction):
        monkeypatch.setattr(parameters, "TRAIL_FRACTION", fraction)
        crossed = [satellite_trail((20, 20), rng).max() > 10 for _ in range(1000)]
        assert np.mean(crossed) == pytest.approx(fraction, abs=0.06)

    def test_are_straight_lines_from_edge_to_edge(self, rng, monkeypatch):
        monkeypatch.setattr(parameters, "TRAIL_FRACTION", 1.0)
        for _ in range(50):
            light = satellite_trail((20, 21), rng)
            assert 0.7 * TRAIL_COUNTS[0] < light.max() <= TRAIL_COUNTS[1]
            ridge = light > 0.4 * light.max()
            edge = np.ones(light.shape, dtype=bool)
            edge[1:-1, 1:-1] = False
            assert ndimage.label(ridge, ANYWHERE)[1] == 1
            assert (ridge & edge).sum() >= 2
            assert 0 < ridge.sum() < 120

    def test_are_in_the_pixels(self, exposure, rng, monkeypatch):
        monkeypatch.setattr(parameters, "TRAIL_FRACTION", 1.0)
        monkeypatch.setattr(parameters, "TRAIL_COUNTS", (900.0, 901.0))
        pixels = expose(np.zeros((20, 20)), 300.0, exposure, rng)
        assert (pixels > 700).sum() >= 5


def test_marks_that_no_object_made_are_in_the_pixels(exposure, rng):
    pixels = expose(np.zeros((1500, 1500)), 300.0, exposure, rng)
    marks = (pixels > 300 + 12 * 8).sum()
    expected = pixels.size * HOT_PIXEL_RATE * np.exp(-96 / HOT_PIXEL_COUNTS)
    assert 0.6 * expected < marks < 3 * expected
