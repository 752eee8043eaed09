import galsim
import numpy as np
import pytest
from helpers import aperture_counts, centroid, windowed_centroid

from ztf_sg.simulation.drawing import add_star
from ztf_sg.simulation.psf import (
    PSF_COLUMNS,
    aperture_corrections,
    aperture_shares,
    core_and_halo,
    make_psf,
    psf_of,
)
from ztf_sg.ztf import APERTURES

# Relation of real APCOR1..4 of the i band with SEEING, [mag] at 1.6 px and [mag / px].
MEAN_APCOR, APCOR_SLOPE = (-0.833, -0.385, -0.201, -0.074), (-0.531, -0.303, -0.170, -0.073)

PSFS = {
    "round": (1.3, 0.35),
    "flat_and_wide": (1.6, 0.0),
    "steep_and_sharp": (1.1, 1.0),
    "elliptical": (1.3, 0.4, 0.25, -0.2),
    "with_coma": (1.3, 0.35, 0.01, -0.03, 0.25, 0.95),
    "with_much_coma": (1.5, 0.5, -0.15, 0.1, -0.6, 1.2),
}


def draw_star(psf, x, y, side=41):
    """Return the light of a star of unit flux at x, y [px] of a stamp, counted from its first pixel."""
    stamp = galsim.ImageD(side, side, xmin=0, ymin=0, scale=1.0)
    add_star(stamp, psf, x, y)
    return stamp.array


@pytest.fixture(scope="module")
def sharp(mock_sky):
    """Return the images that a search finds, with their APCOR1..6 as an array."""
    images = mock_sky.exposures[mock_sky.exposures["seeing"] < 1.85].head(120)
    return images, np.array([aperture_corrections(row) for _, row in images.iterrows()])


@pytest.mark.parametrize("values", PSFS.values(), ids=PSFS)
class TestProfile:
    def test_has_unit_flux_and_its_centroid_at_the_origin(self, values):
        psf = make_psf(*values)
        assert psf.flux == pytest.approx(1)
        assert np.hypot(psf.centroid.x, psf.centroid.y) < 1e-9

    def test_star_has_all_its_light_where_it_is_placed(self, values):
        light = draw_star(make_psf(*values), 100.3, 99.6, side=201)
        assert light.sum() == pytest.approx(1, abs=0.005)
        np.testing.assert_allclose(centroid(light), (100.3, 99.6), atol=0.05)

    def test_star_in_real_space_is_that_of_galsim(self, values):
        psf = make_psf(*values)
        expected = galsim.ImageD(31, 31, xmin=0, ymin=0, scale=1.0)
        psf.drawImage(expected, center=(15.3, 14.6))
        light = draw_star(psf, 15.3, 14.6, side=31)
        np.testing.assert_allclose(light, expected.array, atol=0.005 * expected.array.max())

    def test_shares_are_those_of_photutils_over_many_positions_on_the_pixel_grid(self, values):
        psf = make_psf(*values)
        counts = []
        for x, y in np.random.default_rng(0).uniform(19.5, 20.5, (64, 2)):
            light = draw_star(psf, x, y)
            centre = windowed_centroid(light, (x, y))
            counts.append([aperture_counts(light, centre, diameter) for diameter in APERTURES])
        np.testing.assert_allclose(aperture_shares(psf), np.mean(counts, axis=0), rtol=0.01)

    def test_shares_rise_to_all_of_the_light(self, values):
        shares = aperture_shares(make_psf(*values))
        assert (np.diff(shares) > 0).all()
        assert 0.2 < shares[0] < 0.65
        assert 0.97 < shares[-1] < 1


def test_core_has_the_width_and_the_shape_asked_for():
    core = make_psf(1.4, 0.3, 0.2, 0.0)
    light = core.drawImage(nx=41, ny=41, scale=0.1, method="no_pixel").array
    height, width = (np.sum(line > light.max() / 2) * 0.1 for line in (light[:, 20], light[20]))
    # (a^2 - b^2) / (a^2 + b^2) = 0.2 along the rows; the wide component adds a little
    assert np.sqrt(width * height) == pytest.approx(1.4, abs=0.12)
    assert width / height == pytest.approx(np.sqrt(1.2 / 0.8), abs=0.12)


def test_coma_points_where_it_should():
    light = draw_star(make_psf(1.3, 0.35, 0, 0, 0.0, 1.0), 20, 20)
    assert windowed_centroid(light, (20, 20))[1] < 19.95  # the core, off the centroid of all light
    assert light[26, 20] > 1.2 * light[14, 20]


def test_psf_of_an_exposure_is_that_of_its_columns(mock_sky):
    row = mock_sky.exposures.iloc[0]
    assert psf_of(row) == make_psf(*row[list(PSF_COLUMNS)])


def test_aperture_corrections_rise(sharp):
    assert (np.diff(sharp[1], axis=1) > 0).all()
    assert (sharp[1][:, 0] < -0.5).all()
    assert (np.abs(sharp[1][:, 5]) < 0.04).all()


def test_aperture_corrections_are_the_shares_but_for_one_offset_per_image(sharp):
    images, corrections = sharp
    for (_, row), values in zip(images.head(5).iterrows(), corrections, strict=False):
        difference = values - 2.5 * np.log10(aperture_shares(psf_of(row)))
        np.testing.assert_allclose(difference, difference[0], atol=1e-9)
        assert abs(difference[0]) == pytest.approx(abs(row["psf_mag_offset"]))


def test_aperture_corrections_depend_on_seeing_as_those_of_real_images(sharp):
    images, corrections = sharp
    slope, value = np.polyfit(images["seeing_px"] - 1.6, corrections[:, :4], 1)
    np.testing.assert_allclose(value, MEAN_APCOR, atol=0.05)
    np.testing.assert_allclose(slope, APCOR_SLOPE, atol=0.2)


def test_coma_of_core_and_halo_is_the_same_at_any_seeing():
    for fwhm, halo in ((1.6, 0.2), (3.2, 0.3)):
        psf = core_and_halo(fwhm, halo, 0.05, -0.02, 0.1, 0.15)
        assert psf.flux == pytest.approx(1)
        assert (psf.centroid.x, psf.centroid.y) == pytest.approx((0.1, 0.15))
