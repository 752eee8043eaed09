import numpy as np
import pytest

from ztf_sg.streaks.radon import best_lines, radon_quadrant


def searched(image, valid=None):
    found = np.empty((2, 3, 5))
    height, width = image.shape
    signal = image.astype(np.float32)
    valid = np.ones_like(signal) if valid is None else valid
    best_lines(signal, valid, (width - 1) / 2, (height - 1) / 2, found)
    return found


def a_line(angle, offset, shape=(63, 63), width=1.2):
    y, x = np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2
    across = y * np.cos(np.radians(angle)) - x * np.sin(np.radians(angle)) - offset
    return np.exp(-0.5 * (across / width) ** 2)


def test_columns_diagonals_and_what_lies_between_are_summed():
    square = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    sums, room = np.empty((8, 16), np.float32), np.empty((8, 16), np.float32)
    radon_quadrant(square, sums, room)
    np.testing.assert_allclose(sums[0, 8:], square.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        sums[7, 1:], [np.trace(square, offset=start - 8) for start in range(1, 16)], rtol=1e-4, atol=1e-5
    )
    assert sums[3].sum() == pytest.approx(square.sum(), rel=1e-4)  # every pixel is on one line per direction


@pytest.mark.parametrize("angle", [0, 20, 45, 77, 90, 110, 135, 160])
@pytest.mark.parametrize("shape", [(63, 63), (40, 63)])
def test_a_line_is_found_where_it_is(angle, shape):
    noise = np.random.default_rng(angle).normal(size=shape)
    _, x, y, dx, dy = searched(noise + 1.5 * a_line(angle, 6, shape))[0, 1]
    assert (np.degrees(np.arctan2(dy, dx)) - angle + 90) % 180 - 90 == pytest.approx(0, abs=2.5)
    # its distance from the centre
    x, y = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
    found = (y * dx - x * dy) / np.hypot(dx, dy)
    assert abs(found) == pytest.approx(6, abs=1.5)


def test_a_line_beside_the_centre_does_not_go_through_it():
    beside, through = searched(a_line(30, 12)), searched(a_line(30, 0))
    assert beside[0, 1, 0] > 2.5 * beside[1, 1, 0]
    assert through[0, 1, 0] == pytest.approx(through[1, 1, 0], rel=0.05)


def test_one_column_is_narrow_and_a_trail_is_not():
    column = np.zeros((63, 63))
    column[:, 20] = 1
    ratios = [found[0, 0, 0] / found[0, :, 0].max() for found in (searched(column), searched(a_line(90, 8)))]
    assert ratios[0] == 1
    assert ratios[1] < 0.85


def test_noise_has_no_line_and_pixels_without_data_do_not_count():
    noise = np.random.default_rng(1).normal(size=(20, 63, 63)).astype(np.float32)
    valid = np.ones_like(noise)
    valid[:, :, 30:] = 0
    assert max(searched(stamp)[..., 0].max() for stamp in noise) < 6
    noise[:, :, 30:] = 50
    assert max(searched(*stamp)[..., 0].max() for stamp in zip(noise * valid, valid, strict=True)) < 6
