import numpy as np
import pandas as pd
import pytest

from ztf_sg import CutoutSet, Triplets
from ztf_sg.simulation.stamps import simulate_stamps
from ztf_sg.streaks import FEATURES, measure_stamps
from ztf_sg.streaks.features import SHAPE_FEATURES, TEMPLATE_FEATURES, raw_measures
from ztf_sg.streaks.motion import motion_table
from ztf_sg.streaks.no_data import known_pixels
from ztf_sg.streaks.trail_fit import SIGMA_PER_FWHM


@pytest.fixture(scope="module")
def stamps():
    found = simulate_stamps(48, 5, ["asteroid", "streak", "trail", "train", "variable"], n_jobs=1)
    whole = np.isfinite(found.science).any(axis=(1, 2)) & np.isfinite(found.template).any(axis=(1, 2))
    return found[whole]


def changed(stamps, change, names=("science", "template", "difference")):
    images = {name: np.ascontiguousarray(change(getattr(stamps, name))) for name in names}
    return Triplets(**images, labels=stamps.labels, table=stamps.table)


def matrix(features):
    return features[list(FEATURES)].to_numpy()


@pytest.mark.parametrize(
    "turn", [lambda x: np.rot90(x, axes=(1, 2)), lambda x: x[:, ::-1], lambda x: x.transpose(0, 2, 1)]
)
def test_features_do_not_change_as_stamps_turn(stamps, turn):
    before, after = measure_stamps(stamps), measure_stamps(changed(stamps, turn))
    # the lines of the transform are not exactly those of the turned stamp
    differences = np.abs(matrix(before) - matrix(after))
    assert np.median(differences) < 1e-3
    assert np.mean(differences > 0.3) < 0.06


def test_features_do_not_change_with_the_level_of_the_sky(stamps):
    after = measure_stamps(changed(stamps, lambda images: images + 1000))
    differences = np.abs(matrix(measure_stamps(stamps)) - matrix(after))
    # float32 rounds, so that another one of lines of noise alone may be the best, or its pixels be lit
    assert np.mean(differences.max(axis=1) > 0.1) < 0.1
    assert np.mean(differences > 0.02) < 0.02


def test_nothing_of_the_table_but_widths_is_a_feature(stamps):
    table = stamps.table.assign(night=1, fid=1, magpsf=10.0, magzpsci=20.0, ra=0.0, dec=0.0)
    other = Triplets(stamps.science, stamps.template, stamps.difference, table=table)
    np.testing.assert_array_equal(matrix(measure_stamps(stamps)), matrix(measure_stamps(other)))


def test_two_images_give_the_third(stamps):
    whole = measure_stamps(stamps)
    for pair in (("science", "difference"), ("template", "difference")):
        found = measure_stamps(changed(stamps, lambda images: images, pair))
        assert (found["images"] == "all").all()
        assert np.abs(found["line"] - whole["line"]).median() < 0.2
    template = found["template"]
    assert np.corrcoef(template, whole["template"])[0, 1] > 0.95


def test_features_of_missing_images_are_missing(stamps):
    alone = measure_stamps(changed(stamps, lambda images: images, ("difference",)))
    assert (alone["images"] == "difference").all()
    assert alone[list(TEMPLATE_FEATURES)].isna().all(axis=None)
    assert alone[list(SHAPE_FEATURES)].notna().all(axis=None)
    assert (raw_measures(changed(stamps, lambda images: images, ("science",)))["images"] == "science").all()
    nothing = measure_stamps(changed(stamps, lambda images: images, ("template",)))
    assert (nothing["images"] == "none").all()
    assert nothing[list(FEATURES)].isna().all(axis=None)


@pytest.mark.parametrize("isdiffpos", ["f", 0, 0.0, -1, -1.0, False])
def test_sign_of_a_negative_alert_is_known_where_two_images_give_the_third(stamps, isdiffpos):
    """Its difference is reference minus science."""
    science, template = stamps.science[:8], stamps.template[:8]
    table = stamps.table[:8].assign(isdiffpos=isdiffpos)
    sets = [
        Triplets(science, template, template - science, table=table),
        Triplets(science, None, template - science, table=table),
        Triplets(science, template, table=table),
        Triplets(None, template, template - science, table=table),
    ]
    expected, *others = (matrix(measure_stamps(triplets)) for triplets in sets)
    for found in others:
        assert np.abs(found - expected).mean() < 0.15  # the levels of the sky differ a little


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_images_without_pixels_to_measure_are_none(value):
    images = np.full((2, 63, 63), value)
    images[1] = np.nan
    images[1, 31, 31] = 5.0
    raw = raw_measures(Triplets(images, images, images))
    assert (raw["images"] == "none").all()
    motion = motion_table(raw, pd.DataFrame({"magzpsci": [26.0, 26.0]}), 30.0)
    assert motion.filter(regex="length|rate|angle|magnitude").isna().all(axis=None)
    assert (motion["flashes"] == 0).all() and not motion["trail"].any()


@pytest.mark.parametrize("shape", [(31, 31), (32, 32), (45, 50), (131, 131)])
def test_stamps_of_any_size_are_measured(shape):
    rng = np.random.default_rng(0)
    y, x = np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2
    light = 200 * np.exp(-0.5 * (x**2 + y**2) / 1.1**2)
    images = (light + rng.normal(0, 5, (3, *shape))).astype(np.float32)
    images[1, :, -4:] = np.nan
    found = measure_stamps(Triplets(images, rng.normal(0, 1, images.shape), images))
    assert np.isfinite(matrix(found)).all()
    assert (found["presence"] == 1).all()
    assert (found["template"] < 2).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, 300.0])
def test_empty_and_constant_stamps_are_measured(value):
    images = np.full((2, 63, 63), value, dtype=np.float32)
    found = measure_stamps(Triplets(images, images, images))
    assert np.isfinite(matrix(found)).all() or (found["images"] == "none").all()


ROW, COLUMN = np.indices((63, 63))


@pytest.mark.parametrize("padding", [0.0, -999.0, np.finfo(np.float32).min])
@pytest.mark.parametrize("is_padding", [(COLUMN < 24) | (ROW > 39), COLUMN > 60, COLUMN + ROW < 40])
def test_padding_at_the_edges_is_no_data(stamps, padding, is_padding):
    def padded(value):
        return raw_measures(changed(stamps, lambda images: np.where(is_padding, np.float32(value), images)))

    pd.testing.assert_frame_equal(padded(padding), padded(np.nan))


def test_edges_with_few_or_different_pixels_are_data():
    images = np.random.default_rng(0).normal(0, 1, (5, 40, 40)).astype(np.float32)
    images[0, 0, 5:] = np.nan
    images[1, 20, 10:30] = images[1, 15:25, 15:25] = 7.0
    images[2, 0, :6] = 7.0
    images[3, 18:22], images[3, :, 30] = 255.0, 0.0  # a saturated trail, and a dead column
    images[4] = np.round(0.3 * images[4])  # the sky of 8 bits, whose pixels are mostly alike
    images[4, [0, -1]], images[4, :, [0, -1]] = 2.0 * (COLUMN[0, :40] % 2), 2.0 * (COLUMN[0, :40] % 2)
    np.testing.assert_array_equal(known_pixels(images), images)


def test_the_width_of_stars_comes_from_the_pipeline_or_from_the_stamp(stamps):
    given, seen = (
        raw_measures(stamps),
        raw_measures(Triplets(stamps.science, stamps.template, stamps.difference)),
    )
    for raw in (given, seen):
        error = np.log(raw["presumed_width"] * 2.3548 / stamps.table["psf_fwhm"])
        assert abs(error.median()) < 0.15
    odd = Triplets(difference=stamps.difference, table=pd.DataFrame({"fwhm": ["?"] * len(stamps)}))
    assert np.isfinite(raw_measures(odd)["presumed_width"]).all()


@pytest.mark.parametrize(
    "stamps, error, message",
    [
        (np.zeros((1, 63, 63)), TypeError, "expected Triplets, as load_alerts gives, got ndarray"),
        (Triplets(difference=np.zeros((0, 63, 63))), ValueError, "no stamps: the set is empty"),
        (Triplets(difference=np.zeros((1, 21, 21))), ValueError, "stamps of 21 x 21 px are too small"),
    ],
)
def test_what_cannot_be_measured_is_named(stamps, error, message):
    with pytest.raises(error, match=message):
        measure_stamps(stamps)


def test_cutouts_are_no_stamps():
    table = pd.DataFrame({"name": ["a"]})
    with pytest.raises((TypeError, ValueError)):
        measure_stamps(CutoutSet(np.zeros((1, 20, 20)), [0], table))


def drawn(length, peak, side=63, angle=0.5, width=1.2):
    """Return the light of a source of a length through the middle, (side, side) [noise]."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    return peak * np.exp(-0.5 * (beyond**2 + across**2) / width**2)


def with_noise(light, template):
    """Return a stamp of light in front of a template, with noise of one."""
    noise = np.random.default_rng(2).normal(0, 1, (2, 1, *light.shape))
    template = template + noise[0]
    difference = light + noise[1]
    return Triplets(template + difference, template, difference, table=pd.DataFrame({"fwhm": [2.6]}))


def test_a_bright_streak_is_no_line_but_a_trail_without_ends_is():
    empty = np.zeros((63, 63))
    streak, trail = (measure_stamps(with_noise(drawn(length, 50), empty)) for length in (20, 200))
    for name in ("line", "central", "companion"):
        assert streak[name].item() < np.arcsinh(5 / 3) < 2 < trail[name].item()


def test_bright_short_streaks_between_pixels_are_fitted_whatever_their_direction():
    rng = np.random.default_rng(0)
    angles, widths = rng.uniform(0, np.pi, (600, 1, 1)), rng.uniform(0.8, 1.4, (600, 1, 1))
    y, x = np.indices((31, 31)) - 15.46
    light = 0.0
    for along in np.linspace(-2.5, 2.5, 21):
        squares = (x - along * np.cos(angles)) ** 2 + (y - along * np.sin(angles)) ** 2
        light = light + 1.5 / widths * np.exp(-squares / (2 * widths**2))
    table = pd.DataFrame({"fwhm": np.ravel(widths) / SIGMA_PER_FWHM})
    raw = raw_measures(Triplets(difference=light + rng.normal(size=light.shape), table=table))
    assert (raw["length"] - 5).abs().max() < 1.5
    assert np.abs(np.sin(raw["angle"] - np.ravel(angles))).max() < 0.3


def test_a_cosmic_ray_is_sharp_and_no_companion_but_a_flash_is_one():
    source, flash, ray = drawn(0, 30), np.roll(drawn(0, 20), (12, 15), axis=(0, 1)), np.zeros((63, 63))
    ray[43, 44:49] = 40
    alone, beside, crossed, itself = (
        raw_measures(with_noise(light, 0 * source))
        for light in (source, source + flash, source + ray, np.roll(ray, (-12, -15), axis=(0, 1)))
    )
    assert beside["companion"].item() > 15
    assert crossed["companion"].item() == pytest.approx(alone["companion"].item(), abs=1)
    assert itself["sharpness"].item() < 0.3 < 0.8 < alone["sharpness"].item()


def test_pixels_without_data_make_no_source_sharp_and_no_cosmic_ray_a_flash():
    source, ray = drawn(0, 60), np.zeros((63, 63))
    ray[40:46, 0] = 80
    whole, missing, border = (with_noise(light, 0 * source) for light in (source, source, source + ray))
    missing.difference[0, 31, 32] = np.nan
    raw, with_gap, with_ray = map(raw_measures, (whole, missing, border))
    assert min(raw["sharpness"].item(), with_gap["sharpness"].item()) > 0.9
    assert with_ray["companion"].item() < 6


def test_details_of_lines_that_are_none_do_not_count():
    noise = with_noise(drawn(0, 10), np.zeros((63, 63)))
    features, raw = measure_stamps(noise), raw_measures(noise)
    for name in ("line_lit", "line_narrow", "central_lit", "central_narrow"):
        assert abs(features[name].item()) < 0.1
    assert max(raw["line_lit"].item(), raw["central_lit"].item()) > 0.1


def test_light_of_the_template_along_a_streak_is_seen():
    streak, star = drawn(20, 10), drawn(0, 30)
    shares = [
        measure_stamps(with_noise(streak, template))["template_along"].item()
        for template in (0 * streak, star, 2 * streak)
    ]
    assert shares[0] < 0.1 < 0.2 < shares[1] < 0.6 < 0.95 < shares[2]


def test_what_a_bright_star_leaves_does_not_change_the_length_of_a_streak():
    streak, star = drawn(20, 10), np.roll(drawn(0, 500), (2, 14), axis=(0, 1))
    left = 0.2 * (star - np.roll(star, 1, axis=1))
    alone, beside = (raw_measures(with_noise(streak + light, star)) for light in (0, left))
    assert beside["length"].item() == pytest.approx(alone["length"].item(), abs=0.5)
    assert beside["trail_chi2"].item() < 1.5 * beside["pixels"].item()
