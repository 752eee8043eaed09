import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy.integrate import quad

from ztf_sg.plotting import figures as plotting

CUTS = pd.DataFrame({"cut": ["bright", "isolated"], "before": [1000, 400], "left": [400, 90]})
CUTS["removed"] = CUTS["before"] - CUTS["left"]
ACCURACIES = pd.DataFrame(
    {
        "data": ["raw", "minmax", "features"],
        "accuracy": [0.867, 0.959, 0.98],
        "accuracy_std": [0.01, 0.004, np.nan],
    }
)
LEARNING = pd.DataFrame(
    {"n_train": [50, 500, 5000], "accuracy": [0.9, 0.95, 0.97], "accuracy_std": [0.02, 0.01, np.nan]}
)


@pytest.fixture(autouse=True)
def clean_figures_without_warnings():
    """Draw every open figure at the end of a test: layouts and ticks warn only when they are drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def cutouts(rng):
    return rng.normal(250, 8, (6, 20, 20))


@pytest.fixture
def positions():
    return pd.DataFrame({"RA": [5.0, 6.0, 7.0], "DEC": [58.0, 60.0, 62.0], "type": ["PSF", "SER", "DUP"]})


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def tick_texts(axis):
    axis.get_figure().canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels()]


def test_sky_map_has_right_ascension_growing_to_the_left(positions):
    ax = plotting.plot_sky_map(positions, title="a field")
    left, right = ax.get_xlim()
    assert left > right
    assert ax.get_title() == "a field"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("RA [deg]", "DEC [deg]")


def test_sky_map_is_stretched_by_the_declination(positions):
    assert plotting.plot_sky_map(positions).get_aspect() == pytest.approx(2.0)


def test_sky_map_names_classes_by_tractor_type(positions):
    assert legend_texts(plotting.plot_sky_map(positions)) == ["star (1)", "galaxy (1)", "unknown (1)"]


def test_sky_map_takes_booleans_instead_of_types(positions):
    ax = plotting.plot_sky_map(positions.drop(columns="type"), [True, True, False])
    assert legend_texts(ax) == ["star (1)", "galaxy (2)"]


def test_sky_map_draws_each_point_in_the_colour_of_its_class(positions):
    points = plotting.plot_sky_map(positions).collections[0]
    colors = {
        x: to_hex(c).upper() for (x, _), c in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    assert colors == {5.0: plotting.STAR_COLOR, 6.0: plotting.GALAXY_COLOR, 7.0: plotting.UNKNOWN_COLOR}


def test_sky_map_across_zero_hours_is_one_piece():
    ax = plotting.plot_sky_map(pd.DataFrame({"RA": [359.0, 0.0, 1.0], "DEC": [0.0, 0.0, 1.0]}), [0, 1, 0])
    assert np.ptp(ax.get_xlim()) < 3
    assert {"359", "0", "1"} <= set(tick_texts(ax.xaxis))


@pytest.mark.parametrize(
    ("draw", "table", "column"),
    [
        (plotting.plot_sky_map, pd.DataFrame({"RA": [1.0], "type": ["PSF"]}), "DEC"),
        (plotting.plot_sky_map, pd.DataFrame({"RA": [1.0], "DEC": [1.0]}), "type"),
        (plotting.plot_cut_report, CUTS.drop(columns="left"), "left"),
        (plotting.plot_accuracies, ACCURACIES.rename(columns={"data": "name"}), "data"),
        (plotting.plot_learning_curve, LEARNING.drop(columns="n_train"), "n_train"),
    ],
)
def test_missing_columns_are_named(draw, table, column):
    with pytest.raises(ValueError, match=rf"lacks the columns \['{column}'\]"):
        draw(table)


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (plotting.plot_cut_report, CUTS),
        (plotting.plot_accuracies, ACCURACIES),
        (plotting.plot_learning_curve, LEARNING),
    ],
)
def test_a_table_without_rows_is_refused(draw, table):
    with pytest.raises(ValueError, match="no rows"):
        draw(table[:0])


@pytest.mark.parametrize(("labels", "message"), [([0, 1], "expected 3 labels"), ([0, 1, 2], "labels are 0")])
def test_wrong_labels_are_refused(positions, labels, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_sky_map(positions, labels)


def test_given_axes_are_used(positions):
    _, ax = plt.subplots()
    assert plotting.plot_sky_map(positions, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


def test_colour_magnitude_diagram_has_bright_objects_at_the_top():
    ax = plotting.plot_colour_magnitude([18.0, 19.0], [17.0, 18.5], [False, True], bands=("g", "r"))
    bottom, top = ax.get_ylim()
    assert bottom > top
    assert ax.get_xlabel() == "g - r [mag, AB]"
    assert sorted(ax.collections[0].get_offsets().tolist()) == [[0.5, 19.0], [1.0, 18.0]]


def test_motions_are_drawn_on_a_logarithmic_axis_with_the_threshold():
    ax = plotting.plot_motions([15, 16, 17], [200.0, 3.0, -2.0], [0, 1, 1], threshold=7, band="i")
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("i [mag, AB]", "motion or parallax over its error")
    assert ax.lines[0].get_ydata() == [7, 7]
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])
    # a negative parallax has no logarithm
    np.testing.assert_allclose(sorted(drawn[:, 1]), [0.1, 3, 200])


def test_objects_without_a_measured_motion_are_left_out():
    ax = plotting.plot_motions([15, 16, 17, 18], [9.0, np.nan, 2.0, np.nan], [0, 0, 1, 1])
    assert [len(points.get_offsets()) for points in ax.collections] == [1, 1]
    assert legend_texts(ax) == ["star (1)", "galaxy (1)"]


def test_motions_of_one_class_alone_are_drawn():
    assert legend_texts(plotting.plot_motions([15, 16], [9.0, 7.0], [1, 1])) == ["galaxy (2)"]


def test_magnitude_counts_use_finite_magnitudes_and_label_the_limit():
    ax = plotting.plot_magnitude_counts([18.1, 18.2, np.nan, 19.9], [0, 0, 1, 1], limit=20, bin_width=0.25)
    assert legend_texts(ax) == ["star (2)", "galaxy (1)"]
    assert "limit 20 mag" in ax.texts[0].get_text()
    assert ax.get_ylabel() == "objects per 0.25 mag"


def test_magnitude_counts_without_a_finite_magnitude_are_refused():
    with pytest.raises(ValueError, match="no finite magnitude"):
        plotting.plot_magnitude_counts([np.nan], [0])


def test_cut_report_begins_with_all_objects_and_reads_downwards():
    ax = plotting.plot_cut_report(CUTS)
    assert [bar.get_width() for bar in ax.patches] == [1000, 400, 90]
    assert tick_texts(ax.yaxis) == ["all objects", "bright", "isolated"]
    assert [text.get_text() for text in ax.texts] == ["1,000", "400 (-600)", "90 (-310)"]
    assert ax.yaxis.get_inverted()


@pytest.mark.parametrize("index", [0.5, 1, 2.5, 4])
def test_sersic_profile_has_unit_flux_and_half_of_it_within_the_half_light_radius(index):
    def ring(radius):
        return 2 * np.pi * radius * plotting.sersic_profile(radius, 1.3, index)

    assert quad(ring, 0, 1.3)[0] == pytest.approx(0.5, abs=1e-4)
    assert quad(ring, 0, 1.3)[0] + quad(ring, 1.3, np.inf, limit=200)[0] == pytest.approx(1, abs=1e-4)


def test_type_shapes_draw_one_curve_per_shape_with_bright_at_the_top():
    ax = plotting.plot_type_shapes(half_light_radius=2.0)
    assert len(legend_texts(ax)) == 4
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_cutout_gallery_has_one_axes_per_image(cutouts):
    fig = plotting.plot_cutouts(cutouts[:5], list("abcde"), ncols=3)
    assert [ax.get_title() for ax in fig.axes] == list("abcde")


@pytest.mark.parametrize("stretch", sorted(plotting.STRETCHES))
def test_cutouts_are_drawn_with_the_first_row_at_the_bottom_and_a_stated_stretch(cutouts, stretch):
    fig = plotting.plot_cutouts(cutouts, stretch=stretch)
    assert {ax.images[0].origin for ax in fig.axes} == {"lower"}
    assert fig.get_supxlabel().startswith(f"{stretch} stretch")


def test_unknown_stretch_names_the_known_ones(cutouts):
    with pytest.raises(ValueError, match=r"'sqrt'.*'asinh', 'linear', 'log'"):
        plotting.plot_cutouts(cutouts, stretch="sqrt")
    assert not plt.get_fignums()


def test_constant_and_unusable_cutouts_survive(cutouts):
    cutouts[0], cutouts[1], cutouts[2, 3] = 7.0, np.nan, np.inf
    images = [ax.images[0].get_array() for ax in plotting.plot_cutouts(cutouts).axes]
    assert np.all(images[0] == 0)
    assert images[1].mask.all()
    assert images[2].mask.sum() == 20


def test_cutouts_of_different_sizes_are_drawn(cutouts):
    assert len(plotting.plot_cutouts([cutouts[0], cutouts[1][:, 1:]]).axes) == 2


def test_frames_take_the_colour_of_the_class(cutouts):
    fig = plotting.plot_cutouts(cutouts[:3], labels=[0, 1, -1])
    frames = [to_hex(ax.spines["left"].get_edgecolor()).upper() for ax in fig.axes]
    assert frames == [plotting.STAR_COLOR, plotting.GALAXY_COLOR, plotting.UNKNOWN_COLOR]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "nothing to draw"),
        ((np.ones((2, 5, 5)), ["one"]), "expected 2 titles"),
        ((np.ones((5, 5)),), "expected cutouts of shape"),
    ],
)
def test_wrong_galleries_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_cutouts(*arguments)


def test_normalizations_share_a_scale_down_each_column_and_state_it(cutouts):
    cutouts[0, 0, 0], cutouts[1, 0, 0] = 5000, -np.inf
    fig = plotting.plot_normalization_gallery({"raw": cutouts[:2], "zero": np.zeros((2, 20, 20))}, ["a", "b"])
    assert len(fig.axes) == 4
    limits = [ax.images[0].get_clim() for ax in fig.axes]
    assert limits[0] == limits[2] and limits[0][1] == 5000
    assert fig.axes[2].get_xlabel().endswith("to 5,000")
    assert [ax.get_ylabel() for ax in fig.axes] == ["a", "", "b", ""]


def test_normalizations_of_different_cutouts_are_refused(cutouts):
    with pytest.raises(ValueError, match=r"'raw': 2, 'minmax': 3"):
        plotting.plot_normalization_gallery({"raw": cutouts[:2], "minmax": cutouts[:3]})


def test_long_names_are_broken_at_underscores():
    assert plotting._wrapped("log_min_over_global_max") == "log_min_over_\nglobal_max"


def test_pixel_histograms_have_one_panel_per_name(cutouts):
    cutouts[0, 0] = np.nan
    values = {"star": cutouts[:3], "galaxy": cutouts[3:]}
    fig = plotting.plot_pixel_histograms({"raw": values, "constant": {"star": [1, 1], "galaxy": [1]}})
    assert [ax.get_title() for ax in fig.axes] == ["raw", "constant"]
    shares = [patch.get_data().values.sum() for patch in fig.axes[0].patches]
    assert shares == pytest.approx([1, 1], abs=0.03)


def test_pixel_histograms_need_both_classes():
    with pytest.raises(ValueError, match=r"'raw' lack the classes \['galaxy'\]"):
        plotting.plot_pixel_histograms({"raw": {"star": [1.0]}})


def test_accuracies_are_sorted_with_the_best_at_the_top_and_written_out():
    ax = plotting.plot_accuracies(ACCURACIES.sample(frac=1, random_state=1))
    assert tick_texts(ax.yaxis) == ["raw", "minmax", "features"]
    assert [text.get_text() for text in ax.texts] == ["0.867 ± 0.010", "0.959 ± 0.004", "0.980"]


def test_confusion_matrix_writes_counts_and_row_percentages():
    ax = plotting.plot_confusion([[1990, 10], [0, 0]])
    assert [text.get_text() for text in ax.texts] == ["1,990\n99.5%", "10\n0.5%", "0\n0.0%", "0\n0.0%"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")


def test_confusion_matrix_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\); got \(3, 3\)"):
        plotting.plot_confusion(np.eye(3))


@pytest.mark.parametrize("log_x", [False, True])
def test_roc_legend_gives_the_area_and_unknown_objects_are_left_out(log_x):
    scores = {"perfect": [0.1, 0.2, 0.8, 0.9, 0.5], "useless": [0.5] * 5}
    ax = plotting.plot_roc([0, 0, 1, 1, -1], scores, log_x=log_x)
    assert legend_texts(ax) == ["perfect (AUC 1.0000)", "useless (AUC 0.5000)"]
    assert not any("$" in text for text in tick_texts(ax.xaxis))


def test_roc_needs_both_classes():
    with pytest.raises(ValueError, match="needs both"):
        plotting.plot_roc([1, 1], {"any": [0.2, 0.4]})


def test_many_roc_curves_are_all_drawn(rng):
    scores = {str(i): rng.random(20) for i in range(17)}
    assert len(plotting.plot_roc([0, 1] * 10, scores).lines) == 17


def test_learning_curve_has_a_logarithmic_axis_with_plain_ticks():
    ax = plotting.plot_learning_curve(LEARNING)
    assert ax.get_xscale() == "log"
    assert tick_texts(ax.xaxis) == ["50", "500", "5,000"]


def test_learning_curve_draws_one_line_per_data():
    table = pd.concat([LEARNING.assign(data="raw"), LEARNING.assign(data="minmax")])
    assert legend_texts(plotting.plot_learning_curve(table)) == ["raw", "minmax"]


def test_learning_curve_of_one_size_is_drawn():
    assert tick_texts(plotting.plot_learning_curve(LEARNING[:1]).xaxis) == ["50"]


def test_crowded_training_sizes_are_thinned_and_the_last_kept():
    assert plotting._spaced_ticks(np.array([10, 100, 950, 1000])) == [10, 100, 1000]


def test_calibration_counts_objects_and_bounds_its_error_bars():
    ax = plotting.plot_calibration([0, 0, 1, 1, -1], [0.05, 0.05, 0.95, 1.0, 0.5])
    assert [text.get_text() for text in ax.texts] == ["2", "2"]
    bars = np.concatenate(ax.collections[0].get_segments())[:, 1]
    assert bars.min() >= 0 and bars.max() <= 1
    assert np.ptp(ax.collections[0].get_segments()[0][:, 1]) > 0.1


@pytest.mark.parametrize("probability", [1.2, np.nan])
def test_calibration_refuses_what_is_no_probability(probability):
    with pytest.raises(ValueError, match="between 0 and 1"):
        plotting.plot_calibration([0, 1], [0.5, probability])


def test_muygps_sketch_joins_the_point_to_its_neighbours_only(rng):
    X, point = rng.normal(size=(40, 2)), np.array([0.1, 0.2])
    ax = plotting.plot_muygps_sketch(X, [0, 1] * 20, point, [3, 8, 13], feature_names=("a [px]", "b [mag]"))
    ends = [line.get_xydata()[1].tolist() for line in ax.lines]
    assert ends == X[[3, 8, 13]].tolist()
    assert sum(len(points.get_offsets()) for points in ax.collections) == 41
    assert ax.get_aspect() == 1


def test_posterior_band_is_two_standard_deviations_and_survives_rounding():
    x = np.linspace(0, 1, 5)
    ax = plotting.plot_posterior_1d(x, 0 * x, [0.25] * 4 + [-1e-17], [0.2, 0.8], [-1, 1], neighbours=[1])
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (-1, 1)
    assert "neighbour" in legend_texts(ax)


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


def test_accuracy_by_magnitude_needs_no_limit_but_its_columns():
    ax = plotting.plot_accuracy_by_magnitude({"pixels": MAGNITUDES})
    assert legend_texts(ax) == ["pixels"]
    with pytest.raises(ValueError, match="features lacks the columns"):
        plotting.plot_accuracy_by_magnitude({"features": MAGNITUDES.drop(columns="low")})
