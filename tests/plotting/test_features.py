import numpy as np

from ztf_sg import CutoutSet, load_cutouts, load_example
from ztf_sg.features import measure_features
from ztf_sg.plotting.features import plot_measurement


def test_a_star_follows_the_psf_of_its_image_and_a_galaxy_does_not(simulated_cutouts):
    cutouts = load_cutouts(simulated_cutouts)
    log_snr = measure_features(cutouts, ["log_snr"])["log_snr"]
    spread = measure_features(cutouts, ["spread_model_2.0"])["spread_model_2.0"]
    star, galaxy = log_snr[cutouts.labels == 0].idxmax(), spread[cutouts.labels == 1].idxmax()
    axes = plot_measurement(cutouts[[star, galaxy]]).axes
    assert [ax.get_ylabel() for ax in axes[::5]] == ["star", "galaxy"]
    (cutout, psf, rest), (growth,) = (ax.images[0].get_array() for ax in axes[:3]), axes[4:5]
    np.testing.assert_allclose(cutout - psf, rest)
    assert psf.max() == 1 and np.abs(rest[9:11, 9:11]).max() < 0.15
    for ax, least, most in ((growth, -0.03, 0.03), (axes[9], -1, -0.1)):
        of_star, of_object = (line.get_ydata() for line in ax.lines)
        assert of_star[-1] == of_object[-1] == 1
        assert least < of_object[0] - of_star[0] < most
    assert [ax.get_xlabel() for ax in axes[3:5]] == ["radius [px]", "aperture diameter [px]"]


def test_a_star_of_an_image_without_apcor_is_not_said_to_be_from_it(simulated_cutouts):
    cutouts = load_cutouts(simulated_cutouts)[:2]
    without = CutoutSet(cutouts.images, cutouts.labels, cutouts.table.filter(regex="^(?!apcor)"))
    for some, source in ((cutouts, "APCOR"), (without, "SEEING where APCOR lacks")):
        assert f"a star here, from {source}" in plot_measurement(some).axes[4].get_legend_handles_labels()[1]


def test_objects_of_unknown_class_are_called_so():
    one = load_example()[:1]
    axes = plot_measurement(CutoutSet(one.images, [-1], one.table)).axes
    assert axes[0].get_ylabel() == "unknown"
