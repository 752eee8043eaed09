import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ztf_sg import Triplets
from ztf_sg.plotting import moving as plotting
from ztf_sg.plotting.moving import CLASS_COLORS


@pytest.fixture
def triplets(rng):
    stamps = Triplets(*rng.normal(200, 8, (3, 4, 31, 31)), labels=[0, 1, 2, -1])
    stamps.template[1, :, :5] = np.nan
    return stamps


def test_stamps_are_drawn_in_a_row_per_image_with_the_first_row_of_pixels_at_the_bottom(triplets):
    fig = plotting.plot_triplets(triplets, list("abcd"), title="four")
    assert [ax.get_ylabel() for ax in fig.axes[::4]] == ["science", "template", "difference"]
    assert [ax.get_title() for ax in fig.axes[:4]] == list("abcd")
    assert {ax.images[0].origin for ax in fig.axes} == {"lower"}
    assert [ax.images[0].get_array().mask.sum() for ax in fig.axes[4:8]] == [0, 31 * 5, 0, 0]
    assert fig.get_supxlabel().startswith("asinh stretch")


def test_frames_of_stamps_take_the_colour_of_the_class(triplets):
    fig = plotting.plot_triplets(triplets)
    frames = [to_hex(ax.spines["left"].get_edgecolor()).upper() for ax in fig.axes]
    assert frames == 3 * [CLASS_COLORS[label].upper() for label in (0, 1, 2, -1)]
    entries = [text.get_text() for text in fig.legends[0].get_texts()]
    assert entries == ["other", "asteroid", "satellite", "unknown"]


def test_stamps_without_an_image_are_drawn(triplets):
    fig = plotting.plot_triplets(Triplets(difference=triplets.difference))
    assert all(ax.images[0].get_array().mask.all() for ax in fig.axes[:8])


def test_too_many_stamps_or_titles_are_refused(triplets):
    with pytest.raises(ValueError, match="1 to 9 stamps, got 12"):
        plotting.plot_triplets(triplets[[0, 1, 2] * 4])
    with pytest.raises(ValueError, match="expected 4 titles"):
        plotting.plot_triplets(triplets, ["one"])


def test_rates_above_go_with_lengths_below():
    lengths = pd.DataFrame({"slowest": [0.1, 400.0], "fastest": [0.5, 450.0]}, index=["slow", "fast"])
    ax = plotting.plot_rates(lengths, {"stamp": 63}, exptime=30, pixel_scale=1.012)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["slow", "fast"]
    ax.figure.canvas.draw()
    (above,) = ax.child_axes
    assert np.divide(ax.get_xlim(), above.get_xlim()) == pytest.approx(1.235, abs=1e-3)


def test_areas_under_the_curves_are_in_the_legend(rng):
    is_wanted = np.arange(200) % 2 == 0
    scores = {"perfect": is_wanted.astype(float), "inverse": -is_wanted.astype(float)}
    fig = plotting.plot_roc_and_recall(is_wanted, scores, wanted="asteroids")
    entries = [text.get_text() for text in fig.legends[0].get_texts()]
    assert entries == [
        "perfect: AUC 1.000, average precision 1.000",
        "inverse: AUC 0.000, average precision 0.500",
    ]


def test_best_line_is_drawn_where_its_light_is():
    image, angles, offsets = np.zeros((31, 31)), np.arange(0, 180, 45), np.arange(-20, 21)
    image[25] = 10
    snr = np.zeros((4, 41))
    snr[0, 30] = 9  # horizontal, 10 px above the middle
    left = plotting.plot_line_search(image, snr, angles, offsets).axes[0]
    line = left.lines[0]
    assert line.get_xy1()[1] == line.get_xy2()[1] == pytest.approx(25)


def test_satellites_are_told_apart_in_the_map_and_east_is_left():
    linked = pd.DataFrame({"ra": [10, 10.01, 10.02], "dec": 5.0, "satellite": [-1, 0, 0], "spacing": 36.0})
    ax = plotting.plot_flashes(linked)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["not linked (1)", 'satellite 0: 2 flashes, 36.0" apart']
    assert ax.xaxis_inverted()


@pytest.mark.parametrize("shape", [(64, 64), (700, 900)])
def test_trails_lie_between_their_lines_whatever_the_size_of_the_image(shape):
    image = np.zeros(shape)
    image[40] = 5
    trails = pd.DataFrame({"x1": [0.0], "y1": [40.0], "x2": [50.0], "y2": [40.0]})
    ax = plotting.plot_trails(image, trails)
    low, high = sorted(line.get_ydata()[0] for line in ax.lines)
    assert low < 40 < high and low + high == pytest.approx(80)
    assert ax.texts[0].get_text() == "0"
    rows, extent = np.asarray(ax.images[0].get_array()), ax.images[0].get_extent()
    bright = extent[2] + (rows[:, 0].argmax() + 0.5) * (extent[3] - extent[2]) / len(rows)
    assert bright == pytest.approx(40, abs=2)


def test_tables_without_their_columns_are_refused():
    for draw in (
        plotting.plot_flashes,
        lambda table: plotting.plot_rates(table, {}, exptime=1, pixel_scale=1),
    ):
        with pytest.raises(ValueError, match="lacks the columns"):
            draw(pd.DataFrame({"other": [1]}))
    assert not plt.get_fignums()
