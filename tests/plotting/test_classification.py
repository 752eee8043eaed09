import numpy as np
import pandas as pd
import pytest
from helpers import legend_texts, tick_texts
from sklearn.gaussian_process import kernels
from sklearn.metrics import RocCurveDisplay

from ztf_sg.plotting import classification as plotting
from ztf_sg.plotting import new_axes


def test_accuracies_are_sorted_with_the_best_at_the_top_and_written_out():
    table = pd.DataFrame({"mean": [0.98, 0.867], "std": [0.002, 0.01]}, ["features", "raw"])
    ax = plotting.plot_accuracies({"random halves": table})
    assert tick_texts(ax.yaxis) == ["raw", "features"]
    assert [text.get_text() for text in ax.texts] == ["0.980 ± 0.002", "0.867 ± 0.010"]


def test_accuracies_of_a_second_trial_are_in_the_rows_of_the_first():
    first = pd.DataFrame({"mean": [0.9, 0.8], "std": [0.01, 0.01]}, ["minmax", "raw"])
    ax = plotting.plot_accuracies({"halves": first, "nights": first.loc[["raw"]]})
    assert legend_texts(ax) == ["halves", "nights"]
    means = {bars.get_label(): np.round(bars[0].get_ydata()).tolist() for bars in ax.containers}
    assert means == {"halves": [1, 0], "nights": [0]}


def test_lines_that_scikit_learn_draws_differ_in_colour_and_in_style(rng):
    ax = new_axes((5, 4))
    for name in "abcde":
        RocCurveDisplay.from_predictions([0, 1] * 10, rng.random(20), name=name, ax=ax)
    for look in ({line.get_color() for line in ax.lines}, {str(line._dash_pattern) for line in ax.lines}):
        assert len(look) == 5


def test_calibration_counts_objects_and_bounds_its_error_bars():
    ax = plotting.plot_calibration([0, 0, 1, 1], [0.05, 0.05, 0.95, 1.0])
    assert [text.get_text() for text in ax.texts] == ["2", "2"]
    bars = np.concatenate(ax.collections[0].get_segments())[:, 1]
    assert bars.min() >= 0 and bars.max() <= 1
    assert np.ptp(ax.collections[0].get_segments()[0][:, 1]) > 0.1


@pytest.mark.parametrize("probability", [1.2, np.nan])
def test_calibration_refuses_what_is_no_probability(probability):
    with pytest.raises(ValueError, match="between 0 and 1"):
        plotting.plot_calibration([0, 1], [0.5, probability])


def test_kernels_are_drawn_against_distance_beside_functions_that_vary_so():
    names = {"long": kernels.Matern(3, nu=1.5), "short": kernels.Matern(0.3, nu=1.5)}
    left, right = plotting.plot_kernels(names, title="a kernel").axes
    assert [line.get_label() for line in left.lines] == ["long", "short"]
    assert all(line.get_ydata()[0] == 1 for line in left.lines)
    roughness = [np.std(np.diff(line.get_ydata())) for line in right.lines]
    assert roughness[0] < 0.5 * roughness[1]


def test_muygps_sketch_joins_the_point_to_its_neighbours_only_and_zooms_in_on_them(rng):
    X, point = rng.normal(size=(40, 2)), np.array([0.1, 0.2])
    near = np.argsort(np.linalg.norm(X - point, axis=1))[:3]
    labels, names = [0, 1] * 20, ("a [px]", "b [mag]")
    everything, zoom = plotting.plot_muygps_sketch(X, labels, point, near, feature_names=names).axes
    for ax in (everything, zoom):
        ends = [line.get_xydata()[1].tolist() for line in ax.lines]
        assert sorted(ends) == sorted(X[near].tolist())
        assert sum(len(points.get_offsets()) for points in ax.collections) == 41
        assert ax.get_aspect() == 1
    (low_x, high_x), (low_y, high_y) = zoom.get_xlim(), zoom.get_ylim()
    assert np.all((X[near] > (low_x, low_y)) & (X[near] < (high_x, high_y)))
    assert everything.patches[0].get_width() == pytest.approx(high_x - low_x)


def test_posterior_band_is_two_standard_deviations_and_survives_rounding():
    x = np.linspace(0, 1, 5)
    posteriors = {"exact": (0 * x, [0.25] * 4 + [-1e-17]), "neighbours": (0 * x, np.full(5, 0.16))}
    ax = plotting.plot_posterior_1d(x, posteriors, [0.2, 0.8], [-1, 1])
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (-1, 1)
    dashed = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [-0.8, 0.8, 0]
    assert legend_texts(ax)[3:] == ["training star", "training galaxy"]


def test_uncertainty_tells_right_from_wrong_predictions():
    ax = plotting.plot_uncertainty([-1, 0.1, 0.9], [0.1, 0.5, 0.2], [True, False, True])
    assert legend_texts(ax) == ["right (2)", "wrong (1)"]


MAGNITUDES = pd.DataFrame(
    {"magnitude": [16.2, 17.8], "accuracy": [1.0, 0.9], "low": [0.98, 0.85], "high": [1.0, 0.94]}
)


def test_accuracy_by_magnitude_has_a_line_a_classifier_and_the_limit_above():
    ax = plotting.plot_accuracy_by_magnitude({"pixels": MAGNITUDES, "features": MAGNITUDES}, MAGNITUDES)
    assert sorted(legend_texts(ax)) == ["features", "limit of the data", "pixels"]
    assert "mag" in ax.get_xlabel()
    (limit,) = [line for line in ax.lines if line.get_label() == "limit of the data"]
    assert limit.get_ydata().tolist() == [1.0, 0.9]
    assert legend_texts(plotting.plot_accuracy_by_magnitude({"pixels": MAGNITUDES})) == ["pixels"]


def test_accuracy_by_seeing_has_a_panel_a_filter_from_blue_to_red():
    rows = [(name, label, 1.5, 0.9, 0.8, 0.95) for name in ("ZTF_g", "ZTF_i", "ZTF_r") for label in (0, 1)]
    table = pd.DataFrame(rows, columns=["filter", "label", "seeing", "accuracy", "low", "high"])
    fig = plotting.plot_accuracy_by_seeing(table, title="any seeing")
    assert [ax.get_title() for ax in fig.axes] == ["ZTF_g", "ZTF_r", "ZTF_i"]
    assert "px" in fig.axes[1].get_xlabel()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["star", "galaxy"]
    with pytest.raises(ValueError, match="no rows"):
        plotting.plot_accuracy_by_seeing(table[:0])
