import numpy as np
import pytest
from astropy.wcs import WCS
from matplotlib.colors import to_hex

from ztf_sg.plotting import cutouts as plotting
from ztf_sg.plotting.style import GALAXY_COLOR, STAR_COLOR, UNKNOWN_COLOR


@pytest.fixture
def cutouts(rng):
    return rng.normal(250, 8, (6, 20, 20))


@pytest.fixture
def wcs():
    """Return a WCS of 1 arcsec per pixel: RA 10, DEC 0 deg at x = 9, y = 9 [px, from 0]."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [10, 0], [10, 10]
    wcs.wcs.cdelt = [-1 / 3600, 1 / 3600]
    return wcs


def test_a_reticle_points_at_a_position_and_leaves_the_object_free(cutouts, wcs):
    cutouts[0, 0, 0] = np.nan
    ax = plotting.plot_cutout(cutouts[0], wcs, 10 - 2 / 3600, 3 / 3600)
    (line,) = ax.lines
    drawn = (line.get_transform() - ax.transData).transform(line.get_xydata())
    assert drawn[0] == pytest.approx([11, 12], abs=1e-6)
    assert np.abs(line.get_marker().vertices).max(axis=1).min() > 0.3
    assert ax.images[0].get_array().mask.sum() == 1
    assert "DN" in ax.figure.axes[1].get_ylabel()


def test_profiles_differ_in_colour_and_in_dashes():
    panels = {"sharp": {"star": [1, 0, 0], "galaxy": [1, 0.5, 0]}, "blurred": {"star": [1, 0.8, 0.2]}}
    fig = plotting.plot_profiles([0, 1, 2], panels)
    assert [ax.get_title() for ax in fig.axes] == ["sharp", "blurred"]
    star, galaxy = fig.axes[0].lines[:2]
    assert (star.get_color(), galaxy.get_color()) == (STAR_COLOR, GALAXY_COLOR)
    assert star.get_linestyle() != galaxy.get_linestyle()
    with pytest.raises(ValueError, match="nothing to draw"):
        plotting.plot_profiles([0, 1], {})


def test_cutout_gallery_has_one_axes_per_image(cutouts):
    fig = plotting.plot_cutouts(cutouts[:5], list("abcde"))
    assert [ax.get_title() for ax in fig.axes] == list("abcde")


def test_cutouts_are_drawn_with_the_first_row_at_the_bottom_and_a_stated_stretch(cutouts):
    fig = plotting.plot_cutouts(cutouts)
    assert {ax.images[0].origin for ax in fig.axes} == {"lower"}
    assert fig.get_supxlabel().startswith("asinh stretch")


def test_constant_and_unusable_cutouts_survive(cutouts):
    cutouts[0], cutouts[1], cutouts[2, 3] = 7.0, np.nan, np.inf
    images = [ax.images[0].get_array() for ax in plotting.plot_cutouts(cutouts).axes]
    assert np.all(images[0] == 0)
    assert images[1].mask.all()
    assert images[2].mask.sum() == 20


def test_cutouts_of_different_sizes_are_drawn(cutouts):
    assert len(plotting.plot_cutouts([cutouts[0], cutouts[1][:, 1:]]).axes) == 2


def test_objects_are_drawn_in_their_bands_under_their_names(cutouts):
    images = [{"g": cutouts[0], "i": cutouts[1]}, {"r": cutouts[2]}]
    fig = plotting.plot_objects(images, ["first", "second"], labels=[1, 0])
    assert [len(ax.images) for ax in fig.axes] == [1, 0, 1, 0, 1, 0]
    assert [ax.get_xlabel() for ax in fig.axes] == ["g", "no r", "i", "no g", "r", "no i"]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["first", "", "", "second", "", ""]
    frames = [to_hex(ax.spines["left"].get_edgecolor()).upper() for ax in fig.axes]
    assert frames == [GALAXY_COLOR] * 3 + [STAR_COLOR] * 3


def test_names_of_objects_are_no_formulas(cutouts):
    fig = plotting.plot_objects([{"g": cutouts[0]}], [r"$\foo$"])
    fig.canvas.draw()  # an unknown command of a formula is an error only here
    assert fig.axes[0].get_title(loc="left") == r"$\foo$"


def test_objects_without_a_name_each_are_refused(cutouts):
    with pytest.raises(ValueError, match="expected 1 names"):
        plotting.plot_objects([{"g": cutouts[0]}], [])


def test_frames_take_the_colour_of_the_class(cutouts):
    fig = plotting.plot_cutouts(cutouts[:3], labels=[0, 1, -1])
    frames = [to_hex(ax.spines["left"].get_edgecolor()).upper() for ax in fig.axes]
    assert frames == [STAR_COLOR, GALAXY_COLOR, UNKNOWN_COLOR]
    assert len({ax.spines["left"].get_linestyle() for ax in fig.axes}) == 3  # in grey they look alike


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
    with pytest.raises(ValueError, match=r"expected 2 cutouts.*'raw': 2, 'minmax': 3"):
        plotting.plot_normalization_gallery({"raw": cutouts[:2], "minmax": cutouts[:3]}, ["a", "b"])


def test_long_names_are_broken_after_underscores(cutouts):
    fig = plotting.plot_normalization_gallery({"5 log_min_over_global_max": cutouts[:1]}, ["a"])
    assert fig.axes[0].get_title() == "5 log_min_over_\nglobal_max"


def test_pixel_histograms_have_one_panel_per_name(cutouts):
    cutouts[0, 0] = np.nan
    values = {"star": cutouts[:3], "galaxy": cutouts[3:]}
    fig = plotting.plot_pixel_histograms({"raw": values, "constant": {"star": [1, 1], "galaxy": [1]}})
    assert [ax.get_title() for ax in fig.axes] == ["raw", "constant"]
    shares = [patch.get_data().values.sum() for patch in fig.axes[0].patches]
    assert shares == pytest.approx([1, 1], abs=0.03)


def test_pixel_histograms_show_the_classes_there_are_and_refuse_others():
    fig = plotting.plot_pixel_histograms({"raw": {"star": [1.0, 2.0, 1.5], "unknown": [2.0, 1.0]}})
    assert len(fig.axes[0].patches) == 2
    with pytest.raises(ValueError, match=r"'raw': expected some of star, galaxy, unknown, got \['quasar'\]"):
        plotting.plot_pixel_histograms({"raw": {"quasar": [1.0]}})
