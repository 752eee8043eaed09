import numpy as np
import pytest
from scipy.special import ndtr

from ztf_sg import MovingObjectClassifier, Triplets
from ztf_sg.streaks.features import raw_measures
from ztf_sg.streaks.trail_fit import SIGMA_PER_FWHM, cramer_rao, information, profile_width
from ztf_sg.streaks.trail_posterior import EVEN, FAINT, OFF_CENTRE, trail_moments, with_faint_trails

SIDE, FWHM, NOISE = 63, 2.2, 5.0
WIDTH = float(profile_width(FWHM))


def drawn(length, angle, snr, rng):
    """Return a streak of an S/N near the middle of a stamp on noise of 1, and its flux."""
    along = ((np.arange(160) + 0.5) / 160 - 0.5) * length
    edges, (x, y) = np.arange(SIDE + 1) - 0.5, (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    columns, rows = (
        np.diff(ndtr((edges - centre[:, None]) / (FWHM * SIGMA_PER_FWHM)), axis=1)
        for centre in (x + along * np.cos(angle), y + along * np.sin(angle))
    )
    light = rows.T @ columns / len(along)
    flux = snr / np.sqrt((light**2).sum())
    return (flux * light + rng.normal(size=light.shape)).astype(np.float32), flux


def streaks(length, snr, count, seed=0):
    """Return Triplets of streaks of random direction, their directions [radian], and their flux [noise]."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, np.pi, count)
    images, fluxes = zip(*(drawn(length, angle, snr, rng) for angle in angles), strict=True)
    stamps = Triplets(difference=NOISE * np.array(images))
    stamps.table["fwhm"] = FWHM
    return stamps, angles, np.mean(fluxes)


def moments(image):
    found = np.empty(4)
    trail_moments(image, np.ones_like(image), WIDTH, found)
    return found


def turned(angle):
    return (angle + np.pi / 2) % np.pi - np.pi / 2


def test_the_means_are_those_of_trails_drawn_at_random():
    rng = np.random.default_rng(4)
    image, _ = drawn(7.0, 0.5, 10.0, rng)
    rows = np.argwhere(np.hypot(*(np.indices(image.shape) - (SIDE - 1) / 2)) < 12)
    count = 10_000
    offsets, lengths = rng.uniform(-1.2, 1.2, (count, 2)), rng.uniform(0, 14, count)
    angles = rng.uniform(0, np.pi, count)
    matrix, slope, gain = np.empty((6, 6)), np.empty(6), np.empty(count)
    for k in range(count):
        trail = np.array([1.0, *((SIDE - 1) / 2 + offsets[k]), WIDTH, lengths[k], angles[k]])
        information(image, rows, trail, 1, 0.0, matrix, slope)
        # a trail of unit flux: the slope is that at its flux, not at none
        gain[k] = 0.5 * max(slope[0] + matrix[0, 0], 0.0) ** 2 / matrix[0, 0]
    prior = lengths / (1 + (lengths / EVEN) ** 2) / (1 + (offsets**2).sum(axis=1) / OFF_CENTRE**2) ** 1.5
    weights = prior * np.exp(gain - gain.max())
    weights /= weights.sum()
    length = weights @ lengths
    deviation = np.sqrt(weights @ (lengths - length) ** 2)
    doubled = weights @ np.exp(2j * angles)
    found = moments(image)
    assert found[0] == pytest.approx(length, abs=0.3 * deviation)
    assert found[1] == pytest.approx(deviation, rel=0.25)
    assert abs(turned(found[2] - np.angle(doubled) / 2)) < 0.3 * found[3]
    assert found[3] == pytest.approx(np.sqrt(-2 * np.log(abs(doubled))) / 2, rel=0.25)


def test_faint_streaks_are_measured_closer_to_the_bound_than_by_the_best_fit():
    length, snr = 15.0, 8.0
    stamps, angles, flux = streaks(length, snr, 120)
    fit = raw_measures(stamps)
    found = with_faint_trails(stamps, fit)
    bound = cramer_rao(flux, length, 40.0, FWHM)
    rms, best = (np.sqrt(np.mean((table["length"] - length) ** 2)) for table in (found, fit))
    assert rms < 0.85 * best
    assert rms < 1.5 * bound["length"]
    rms, best = (np.sqrt(np.mean(turned(table["angle"] - angles) ** 2)) for table in (found, fit))
    assert rms < best
    assert np.degrees(rms) < 1.5 * bound["angle"]


@pytest.mark.parametrize("length", [5.0, 30.0])
def test_stated_errors_of_faint_streaks_are_their_errors(length):
    stamps, angles, _ = streaks(length, 10.0, 100, seed=1)
    found = with_faint_trails(stamps, raw_measures(stamps))
    assert np.sqrt(np.mean(((found["length"] - length) / found["length_error"]) ** 2)) == pytest.approx(
        1, abs=0.25
    )
    assert np.sqrt(np.mean((turned(found["angle"] - angles) / found["angle_error"]) ** 2)) == pytest.approx(
        1, abs=0.25
    )


def test_bright_trails_and_all_else_stay_as_they_were_fitted():
    stamps, *_ = streaks(12.0, 1.5 * FAINT, 5)
    raw = raw_measures(stamps)
    assert with_faint_trails(stamps, raw).equals(raw)
    stamps, *_ = streaks(12.0, 0.5 * FAINT, 5)
    raw = raw_measures(stamps)
    found = with_faint_trails(stamps, raw)
    changed = ["length", "length_error", "angle", "angle_error"]
    assert found.drop(columns=changed).equals(raw.drop(columns=changed))
    assert (found[changed] != raw[changed]).all(axis=None)


def test_the_fit_stays_beside_a_much_brighter_source():
    stamps, *_ = streaks(12.0, 10.0, 2)
    bright, _ = drawn(0.0, 0.0, 100.0, np.random.default_rng(5))
    stamps.difference[1] += NOISE * np.roll(bright, 20, axis=1)
    raw = raw_measures(stamps)
    changed = with_faint_trails(stamps, raw)["length"] != raw["length"]
    assert changed.tolist() == [True, False]


@pytest.mark.parametrize("valid", [0.0, 1.0])
def test_an_empty_stamp_breaks_nothing(valid):
    found = np.empty(4)
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    trail_moments(image, np.full_like(image, valid), WIDTH, found)
    assert not np.isinf(found).any()


def test_the_length_of_a_streak_half_hidden_is_not_that_of_its_visible_part():
    stamps, *_ = streaks(20.0, 12.0, 40, seed=2)
    stamps.difference[:, :, SIDE // 2 + 5 :] = np.nan
    found = with_faint_trails(stamps, raw_measures(stamps))
    assert np.sqrt(np.mean(((found["length"] - 20) / found["length_error"]) ** 2)) < 1.5


def test_the_fit_stays_where_a_trail_leaves_the_stamp():
    stamps, *_ = streaks(200.0, 12.0, 30, seed=3)
    raw = raw_measures(stamps)
    assert np.mean(with_faint_trails(stamps, raw)["length"] == raw["length"]) > 0.85


def test_no_angle_is_exact_where_the_middle_has_no_data():
    corner = np.s_[:20, :20]
    known = np.empty((12, 4))
    for seed, found in enumerate(known):
        image, valid = np.zeros((2, SIDE, SIDE), dtype=np.float32)
        image[corner], valid[corner] = np.random.default_rng(seed).normal(size=(20, 20)), 1
        trail_moments(image, valid, WIDTH, found)
    assert (known[np.isfinite(known[:, 3]), 3] > 0.01).all()


def test_measures_are_those_of_the_description():
    model = MovingObjectClassifier.pretrained()
    stamps, *_ = streaks(10.0, 10.0, 3)
    stamps = Triplets(stamps.difference, np.zeros_like(stamps.difference), stamps.difference)
    found = model.measure(stamps)
    described = model.describe(stamps)
    assert described[found.columns].equals(found)
