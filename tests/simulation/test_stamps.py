from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, kruskal

from ztf_sg.simulation.confusers import COSMIC_RAY_FRACTION, add_cosmic_ray_beside
from ztf_sg.simulation.fourier import BOX, coarse, segment
from ztf_sg.simulation.moving_sources import add_streak, add_train
from ztf_sg.simulation.scenes import CENTRE, Scene
from ztf_sg.simulation.stamp_conditions import draw_exposure
from ztf_sg.simulation.stamps import KINDS, PER_EXPOSURE, _centre, simulate_stamps
from ztf_sg.simulation.subtraction import observe, science_noise

MOVING = ("asteroid", "streak", "flash", "variable", "supernova")


@pytest.fixture(scope="module")
def stamps():
    return simulate_stamps(240, seed=5, n_jobs=1)


@pytest.fixture(scope="module")
def exposure():
    """Return an exposure with little noise and an exact image subtraction."""
    exposure = draw_exposure(np.random.default_rng(3), 0)
    return replace(exposure, noise=1.0, reference_noise=0.2, pattern=np.zeros((BOX, BOX)), gain=1e3)


def central_flux(image, size=9):
    rows, columns = np.indices(image.shape) - image.shape[0] // 2
    return np.nansum(image[np.hypot(rows, columns) < size])


def moments(image, x, y):
    """Return the second moments of the light along x and y and across [px^2] within 25 px of x, y."""
    rows, columns = np.indices(image.shape)
    dx, dy = columns - x, rows - y
    light = np.where(np.hypot(dx, dy) < 25, image, 0)
    return [(light * product).sum() / light.sum() for product in (dx * dx, dy * dy, dx * dy)]


def test_same_seed_gives_the_same_stamps_in_any_number_of_processes():
    one, two = (simulate_stamps(PER_EXPOSURE + 1, seed=9, n_jobs=n_jobs) for n_jobs in (1, 2))
    for name in ("science", "template", "difference", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    pd.testing.assert_frame_equal(one.table, two.table)
    other = simulate_stamps(PER_EXPOSURE, seed=10, n_jobs=1)
    assert not np.array_equal(one.difference[:PER_EXPOSURE], other.difference, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws(kind):
    stamps = simulate_stamps(PER_EXPOSURE, seed=1, kinds=[kind], n_jobs=1)
    assert stamps.difference.shape == (PER_EXPOSURE, 63, 63)
    assert set(stamps.table["kind"]) == {kind} and set(stamps.labels) == {KINDS[kind].label}
    assert np.isfinite(stamps.difference[:, 29:34, 29:34]).all()
    assert stamps.table[["flux", "snr", "magpsf", "fwhm", "seeratio"]].notna().all(axis=None)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="meteor"):
        simulate_stamps(3, seed=1, kinds=["asteroid", "meteor"])


def test_flux_of_the_difference_is_that_of_the_truth():
    stamps = simulate_stamps(120, seed=2, kinds=MOVING, n_jobs=1)
    table = stamps.table
    good = (table["snr"] > 60) & ~table["beside"] & ~(table["length"] > 4)
    good &= np.isfinite(stamps.difference[:, 20:43, 20:43]).all(axis=(1, 2))
    measured = np.array([central_flux(image) for image in stamps.difference])[good]
    ratio = measured / table["flux"].abs()[good]
    assert good.sum() > 10
    assert np.median(ratio) == pytest.approx(0.97, abs=0.03)  # the wings are wider than the aperture


def test_signal_to_noise_ratio_is_that_under_the_psf(exposure):
    flux = exposure.flux(20.0)
    noise = np.sqrt(exposure.area * exposure.noise**2 + flux / exposure.gain)
    assert flux / noise == pytest.approx(20)
    assert flux == pytest.approx(20 * np.sqrt(exposure.area) * exposure.noise, rel=0.01)


def test_detection_is_bright_in_the_difference_whatever_its_sign(stamps):
    stars = stamps.table["kind"].eq("variable").to_numpy() & (stamps.table["snr"] > 10)
    signs = stamps.table["isdiffpos"][stars]
    assert set(signs) == {"t", "f"}
    peaks = stamps.difference[stars][:, 30:33, 30:33].max(axis=(1, 2))
    assert (peaks > 0).all()


def test_moments_of_a_streak_agree_with_length_and_angle(exposure):
    rng = np.random.default_rng(4)
    point = Scene(exposure, CENTRE, CENTRE)
    KINDS["asteroid"].add(rng, point, 1e4)
    for _ in range(6):
        scene = Scene(exposure, CENTRE + 0.3, CENTRE - 0.4)
        truth = add_streak(rng, scene, 1e4)
        if not 4 < truth["length"] < 25:
            continue
        drawn, blurred = (moments(observe(rng, s)[2], s.x, s.y) for s in (scene, point))
        xx, yy, xy = np.subtract(drawn, blurred)
        assert np.sqrt(12 * np.hypot(xx - yy, 2 * xy)) == pytest.approx(truth["length"], rel=0.05)
        angle = np.degrees(np.arctan2(2 * xy, xx - yy) / 2)
        assert abs((angle - truth["angle"] + 90) % 180 - 90) < 2


def test_flashes_of_a_train_are_a_period_apart(exposure):
    rng, scene = np.random.default_rng(1), Scene(exposure, CENTRE, CENTRE)
    truth = add_train(rng, scene, 500.0)
    difference = observe(rng, scene)[2]
    direction = np.radians(truth["angle"])
    for number in (-1, 0, 1):
        step = number * truth["period"]
        x, y = scene.x + step * np.cos(direction), scene.y + step * np.sin(direction)
        near = difference[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
        assert near.max() > 50 * exposure.noise


def test_a_trail_of_noise_is_the_best_of_its_angle_and_length(exposure):
    scene = Scene(exposure, CENTRE, CENTRE, search=BOX // 2, trail=coarse(segment(20.0, 90.0)))
    images = [np.zeros((BOX, BOX), dtype=np.float32) for _ in range(3)]
    images[2][30:50, 60] = 1.0  # a weak line, and a stronger point
    images[2][70, 20] = 8.0
    assert _centre(scene, images) == 1
    line = np.flatnonzero(images[2][:, CENTRE])
    assert line.min() in (CENTRE - 10, CENTRE - 9) and len(line) == 20


def test_some_scenes_have_a_cosmic_ray_beside(exposure):
    rng, n = np.random.default_rng(4), 2000
    scenes = [Scene(exposure, CENTRE, CENTRE) for _ in range(n)]
    for scene in scenes:
        add_cosmic_ray_beside(rng, scene)
    count = sum(scene.science_marks.any() for scene in scenes)
    assert 0.4 * COSMIC_RAY_FRACTION < count / n < 2 * COSMIC_RAY_FRACTION


def test_template_holds_nothing_of_what_moves(exposure):
    rng = np.random.default_rng(2)
    for kind in ("asteroid", "streak", "flash", "trail_end", "train"):
        scene = Scene(exposure, CENTRE, CENTRE)
        KINDS[kind].add(rng, scene, 50.0)
        assert not scene.template.any() and scene.science.any()


def test_noise_has_the_correlation_and_size_of_the_conditions(exposure):
    exposure = replace(exposure, row_correlation=-0.08)
    rng, light = np.random.default_rng(0), np.zeros((BOX, BOX))
    noise = np.stack([science_noise(rng, exposure, light) for _ in range(40)])
    assert noise.std() == pytest.approx(exposure.noise, rel=0.01)
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()
    below = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert neighbours == pytest.approx(-0.08, abs=0.01) and abs(below) < 0.01


def test_difference_of_an_empty_sky_is_zero_with_the_noise_of_both_images(exposure):
    rng = np.random.default_rng(0)
    noise = np.stack([observe(rng, Scene(exposure, CENTRE, CENTRE))[2] for _ in range(20)])
    assert abs(noise.mean()) < 0.02 * exposure.noise
    assert noise.std() == pytest.approx(np.hypot(exposure.noise, exposure.reference_noise), rel=0.06)


def test_no_condition_tells_the_class(stamps):
    table = stamps.table.assign(label=stamps.labels)
    _, p_band, _, _ = chi2_contingency(pd.crosstab(table["label"], table["fid"]))
    classes = [part for _, part in table.groupby("label")]
    names = ("psf_fwhm", "magzpsci", "night")
    p_values = [p_band, *(kruskal(*(part[name] for part in classes)).pvalue for name in names)]
    assert min(p_values) > 0.001


def test_stamps_without_data_are_rare_and_of_all_classes(stamps):
    without = np.isnan(stamps.difference).any(axis=(1, 2))
    assert 0.03 < without.mean() < 0.25
    assert len(set(stamps.labels[without])) == 3
