import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import legend_texts, tick_texts
from matplotlib.colors import to_hex
from scipy.integrate import quad

from ztf_sg.plotting import sky as plotting
from ztf_sg.plotting.style import GALAXY_COLOR, STAR_COLOR, UNKNOWN_COLOR

CUTS = pd.DataFrame({"cut": ["bright", "isolated"], "before": [1000, 400], "left": [400, 90]})
CUTS["removed"] = CUTS["before"] - CUTS["left"]
POSITIONS = pd.DataFrame({"RA": [5.0, 6.0, 7.0], "DEC": [58.0, 60.0, 62.0]})
LABELS = [0, 1, -1]


class TestSkyMap:
    def test_right_ascension_grows_to_the_left(self):
        ax = plotting.plot_sky_map(POSITIONS, LABELS, title="a field")
        left, right = ax.get_xlim()
        assert left > right
        assert ax.get_title() == "a field"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("RA [deg]", "DEC [deg]")

    def test_is_stretched_by_the_declination(self):
        assert plotting.plot_sky_map(POSITIONS, LABELS).get_aspect() == pytest.approx(2.0)

    def test_counts_the_classes_and_draws_each_point_in_the_colour_of_its_class(self):
        ax = plotting.plot_sky_map(POSITIONS, LABELS)
        assert legend_texts(ax) == ["star (1)", "galaxy (1)", "unknown (1)"]
        offsets, faces = ax.collections[0].get_offsets(), ax.collections[0].get_facecolors()
        colors = {x: to_hex(color).upper() for (x, _), color in zip(offsets, faces, strict=True)}
        assert colors == {5.0: STAR_COLOR, 6.0: GALAXY_COLOR, 7.0: UNKNOWN_COLOR}

    def test_takes_booleans_as_labels(self):
        assert legend_texts(plotting.plot_sky_map(POSITIONS, [True, True, False])) == [
            "star (1)",
            "galaxy (2)",
        ]

    @pytest.mark.parametrize("east", [285.0, 359.5, 370.0])
    def test_a_wide_field_is_as_wide_as_it_is(self, east):
        positions = pd.DataFrame({"RA": np.linspace(100, east, 60) % 360, "DEC": np.linspace(-5, 5, 60)})
        ax = plotting.plot_sky_map(positions, np.zeros(60, dtype=int))
        assert abs(np.diff(ax.get_xlim())[0]) < 1.2 * (east - 100)

    def test_across_right_ascension_zero_is_one_piece(self):
        positions = pd.DataFrame({"RA": [359.0, 0.0, 1.0], "DEC": [0.0, 0.0, 1.0]})
        ax = plotting.plot_sky_map(positions, [0, 1, 0])
        assert np.ptp(ax.get_xlim()) < 3
        assert {"359", "0", "1"} <= set(tick_texts(ax.xaxis))

    @pytest.mark.parametrize(
        ("labels", "message"), [([0, 1], "expected 3 labels"), ([0, 1, 2], "labels are 0")]
    )
    def test_wrong_labels_are_refused(self, labels, message):
        with pytest.raises(ValueError, match=message):
            plotting.plot_sky_map(POSITIONS, labels)


def test_missing_columns_are_named_and_tables_without_rows_refused():
    with pytest.raises(ValueError, match=r"positions lacks the columns \['DEC'\]"):
        plotting.plot_sky_map(POSITIONS[["RA"]], LABELS)
    with pytest.raises(ValueError, match=r"report lacks the columns \['left'\]"):
        plotting.plot_cut_report(CUTS.drop(columns="left"))
    with pytest.raises(ValueError, match="no rows"):
        plotting.plot_cut_report(CUTS[:0])


def images(*ra, dec=(-0.4, 0.4)):
    """Return metadata of images that reach from one right ascension to another [deg]."""
    rows = [dict(zip(("ra1", "ra2", "ra3", "ra4"), (r[0], r[1], r[1], r[0]), strict=True)) for r in ra]
    corners = dict(zip(("dec1", "dec2", "dec3", "dec4"), (dec[0], dec[0], dec[1], dec[1]), strict=True))
    return pd.DataFrame(rows).assign(**corners)


class TestFootprints:
    @pytest.mark.parametrize(("first", "star"), [(359.6, 0.1), (359.6, 359.9), (0.2, 359.9), (5.0, 5.1)])
    def test_image_is_as_wide_as_it_is_also_across_right_ascension_zero(self, first, star):
        positions = pd.DataFrame({"RA": [star], "DEC": [0.0], "type": ["PSF"]})
        ax = plotting.plot_footprints(images((first, (first + 0.8) % 360)), positions)
        (outline,) = (patch.get_xy()[:, 0] for patch in ax.patches)
        assert np.ptp(outline) == pytest.approx(0.8)
        assert np.ptp(ax.get_xlim()) < 2

    def test_two_images_beside_right_ascension_zero_are_drawn_beside_each_other(self):
        positions = pd.DataFrame({"RA": [0.1], "DEC": [0.0], "type": ["PSF"]})
        ax = plotting.plot_footprints(images((359.0, 359.8), (0.1, 0.9)), positions)
        left, right = ax.get_xlim()
        assert left > right and left - right < 3
        assert len(ax.patches) == 2


def fields(ra, dec=0.0):
    catalogue = pd.DataFrame({"RA": ra, "DEC": dec, "TYPE": "PSF", "FLUX_R": 100.0})
    catalogue.loc[1:, "TYPE"] = "REX"
    return catalogue


class TestFindingCharts:
    @pytest.mark.parametrize("centre", [0.0005, 359.9995, 120.0])
    def test_neighbours_are_drawn_east_to_the_left_also_across_right_ascension_zero(self, centre):
        east = np.array([0, -3.6, 3.6, 100])
        (ax,) = plotting.plot_finding_charts(fields((centre + east / 3600) % 360), [0], titles=["a"]).axes
        np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], east[:3], atol=1e-6)
        assert ax.get_xlim() == (20, -20)
        assert ax.get_title() == "a"
        assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["star", "galaxy"]

    def test_distances_shrink_with_the_declination(self):
        (ax,) = plotting.plot_finding_charts(fields([10.0, 10.0 + 10 / 3600], 60.0), [0]).axes
        np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], [0, 5], atol=1e-6)


def test_map_of_density_counts_each_class_and_draws_the_region_around_the_same_places():
    positions = pd.DataFrame({"RA": [359.9, 359.9, 0.1, 0.3], "DEC": [0.0, 0.0, 0.2, 0.4]})
    fig = plotting.plot_sky_density(positions, [0, 0, 1, 1], region=((-0.5, 0.2), (-1, 1)), title="a field")
    stars, galaxies = (ax for ax in fig.axes if ax.get_title())
    assert (stars.get_title(), galaxies.get_title()) == ("star (2)", "galaxy (2)")
    area = 0.4 * 0.4  # [deg^2], in bins of 0.1 deg
    means = [ax.collections[0].get_array().mean() for ax in (stars, galaxies)]
    assert means == pytest.approx([2 / area, 2 / area], rel=1e-4)
    assert stars.collections[0].get_array().max() == pytest.approx(2 / 0.1**2, rel=1e-4)
    assert stars.get_xlim() == pytest.approx((0.3, -0.1))
    assert stars.patches[0].get_bbox().bounds == pytest.approx((-0.5, -1, 0.7, 2))


def test_colour_diagram_holds_every_object_and_shows_where_the_other_class_lies():
    fig = plotting.plot_colour_colour([0.5, 0.5, 1.4, 3.0], [0.3, 0.3, 2.0, -1.0], [0, 0, 0, 1])
    stars, galaxies = (ax for ax in fig.axes if ax.get_title())
    assert stars.get_xlabel() == "g - r [mag, AB]"
    for ax, count, others in ((stars, [2, 1], 1), (galaxies, [1], 2)):
        other, shown = (np.ma.masked_invalid(mesh.get_array()).compressed() for mesh in ax.collections)
        assert sorted(shown, reverse=True) == count
        assert len(other) == others


def test_neighbours_are_drawn_with_the_cutout_and_the_circles_that_touch_it():
    ax = plotting.plot_neighbours([3.0, -12.0], [4.0, 0.0])
    assert legend_texts(ax) == [
        "cutout, 20 arcsec wide",
        "half the side, 10.0 arcsec",
        "half the diagonal, 14.1 arcsec",
    ]
    assert ax.collections[0].get_offsets().tolist() == [[3, 4], [-12, 0]]
    left, right = ax.get_xlim()
    assert left > right


def test_motions_are_drawn_on_a_logarithmic_axis_with_the_threshold():
    ax = plotting.plot_motions([15, 16, 17], [200.0, 3.0, -2.0], [0, 1, 1])
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("r [mag, AB]", "motion or parallax over its error")
    assert ax.lines[0].get_ydata() == [5, 5]
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])
    # a negative parallax has no logarithm
    np.testing.assert_allclose(sorted(drawn[:, 1]), [0.1, 3, 200])


def test_objects_without_a_measured_motion_are_left_out():
    ax = plotting.plot_motions([15, 16, 17, 18], [9.0, np.nan, 2.0, np.nan], [0, 0, 1, 1])
    assert [len(points.get_offsets()) for points in ax.collections] == [1, 1]
    assert legend_texts(ax) == ["star (1)", "galaxy (1)"]


def test_magnitude_counts_use_finite_magnitudes_and_label_the_limit():
    ax = plotting.plot_magnitude_counts([18.1, 18.2, np.nan, 19.9], [0, 0, 1, 1], limit=20)
    assert legend_texts(ax) == ["star (2)", "galaxy (1)"]
    assert "limit 20 mag" in ax.texts[0].get_text()
    assert ax.get_ylabel() == "objects per 0.5 mag"
    with pytest.raises(ValueError, match="no finite magnitude"):
        plotting.plot_magnitude_counts([np.nan], [0], limit=20)
    assert len(plt.get_fignums()) == 1


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
    ax = plotting.plot_type_shapes()
    assert len(legend_texts(ax)) == 4
    bottom, top = ax.get_ylim()
    assert bottom > top
