import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from helpers import aperture_counts, centroid, windowed_centroid

from ztf_sg.simulation.drawing import add_light, galaxy_profile, light_radius, pixel_position
from ztf_sg.simulation.psf import aperture_corrections
from ztf_sg.ztf import PIXEL_SCALE, image_wcs

TYPES = {
    "REX": {"RADIUS": 0.5, "INDEX": 1.0},
    "EXP": {"RADIUS": 1.2, "INDEX": 1.0, "E1": 0.2, "E2": 0.1, "BULGE": 0.15, "KNOTS": 0.15},
    "DEV": {"RADIUS": 0.9, "INDEX": 4.0, "E1": -0.1, "E2": 0.3},
    "SER": {"RADIUS": 1.2, "INDEX": 2.5, "E1": -0.1, "E2": 0.3},
}
MIDDLE = 60.0


@pytest.fixture(scope="module")
def exposure(mock_sky):
    """Return an exposure whose PSF is the same everywhere."""
    row = mock_sky.exposures.iloc[0].copy()
    row[["psf_slope_x", "psf_slope_y"]] = 0.0
    return row


@pytest.fixture(scope="module")
def star(mock_sky):
    """Return a single star of 17.5 mag in all bands on its catalogue position."""
    table = mock_sky.objects
    table = table[(table["CLASS"] == "star") & (table["COMPANION"] == 0)].head(1)
    fluxes = dict.fromkeys(("FLUX_G", "FLUX_R", "FLUX_I"), 100.0)
    return next(table.assign(**fluxes, OFFSET_RA=0.0, OFFSET_DEC=0.0).itertuples())


@pytest.fixture(scope="module")
def galaxies(star):
    return {kind: star._replace(CLASS="galaxy", TYPE=kind, **values) for kind, values in TYPES.items()}


def draw(row, exposure, x=MIDDLE, y=MIDDLE, side=121):
    stamp = galsim.ImageD(side, side, xmin=0, ymin=0, scale=1.0)
    add_light(stamp, row, exposure, x, y)
    return stamp.array


def position_angle(row, exposure, dx, dy):
    """Return the position angle [rad] on the sky of a displacement on the detector, by the WCS."""
    wcs = image_wcs(exposure)
    x, y = wcs.wcs_world2pix(row.RA, row.DEC, 0)
    ends = SkyCoord(*wcs.wcs_pix2world([x, x + dx], [y, y + dy], 0), unit="deg")
    return ends[0].position_angle(ends[1]).rad


def sky_moments(light, row, exposure):
    """Return the second moments [arcsec^2] of light along north and east: nn, ee, ne."""
    wcs = image_wcs(exposure)
    x0, y0 = wcs.wcs_world2pix(row.RA, row.DEC, 0)
    y, x = np.indices(light.shape)
    ra, dec = wcs.wcs_pix2world((x - MIDDLE + x0).ravel(), (y - MIDDLE + y0).ravel(), 0)
    east = (ra - row.RA).reshape(light.shape) * np.cos(np.radians(row.DEC)) * 3600
    north = (dec - row.DEC).reshape(light.shape) * 3600
    weight = light * np.exp(-(east**2 + north**2) / (2 * 3**2))
    return [(weight * a * b).sum() / weight.sum() for a, b in ((north, north), (east, east), (north, east))]


class TestFlux:
    def test_aperture_magnitude_and_apcor_give_the_catalogue_magnitude(self, mock_sky, star):
        differences = []
        for _, exposure in mock_sky.exposures.iloc[::40].iterrows():
            light = draw(star, exposure)
            counts = aperture_counts(light, windowed_centroid(light, (MIDDLE, MIDDLE)), 14)
            differences.append(exposure["magzp"] - 2.5 * np.log10(counts) + aperture_corrections(exposure)[5])
        np.testing.assert_allclose(differences, 17.5, atol=0.008)

    @pytest.mark.parametrize("kind", TYPES)
    def test_galaxy_has_the_light_of_a_star_of_its_flux(self, star, galaxies, exposure, kind):
        ratio = draw(galaxies[kind], exposure).sum() / draw(star, exposure).sum()
        assert ratio == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize("kind", ["star", *TYPES])
    def test_light_is_proportional_to_the_flux(self, star, galaxies, exposure, kind):
        row = ({"star": star} | galaxies)[kind]
        np.testing.assert_allclose(
            draw(row._replace(FLUX_I=1000.0), exposure, side=41), 10 * draw(row, exposure, side=41), atol=1e-2
        )

    @pytest.mark.parametrize("filtercode", ["zg", "zr", "zi"])
    def test_light_is_that_of_the_band(self, star, exposure, filtercode):
        bright = star._replace(**{f"FLUX_{filtercode[1].upper()}": 200.0})
        before, after = (
            draw(row, pd.Series({**exposure, "filtercode": filtercode})).sum() for row in (star, bright)
        )
        assert after == pytest.approx(2 * before)

    def test_light_is_added(self, star, exposure):
        stamp = galsim.ImageD(np.full((41, 41), 7.0), xmin=0, ymin=0, scale=1.0)
        add_light(stamp, star, exposure, 20.2, 19.7)
        np.testing.assert_allclose(stamp.array, 7 + draw(star, exposure, 20.2, 19.7, side=41))

    def test_star_off_the_stamp_leaves_its_wing(self, star, exposure):
        whole = draw(star, exposure, -3.0, 20.0, side=41)
        assert 0 < whole.sum() < 0.2 * draw(star, exposure).sum()
        assert whole.max() == whole[:, 0].max()


class TestShape:
    @pytest.mark.parametrize("kind", TYPES)
    def test_galaxy_is_less_concentrated_than_a_star(self, star, galaxies, exposure, kind):
        small, large = (
            [aperture_counts(draw(row, exposure), (MIDDLE, MIDDLE), d) for row in (star, galaxies[kind])]
            for d in (3, 10)
        )
        assert small[1] / large[1] < 0.95 * small[0] / large[0]

    @pytest.mark.parametrize("index", [1.0, 4.0])
    def test_half_of_the_light_is_inside_the_radius(self, star, index):
        row = star._replace(CLASS="galaxy", RADIUS=4.0, INDEX=index)
        light = galaxy_profile(row).drawImage(nx=401, ny=401, scale=0.5).array
        inside = aperture_counts(light, (200, 200), 2 * 4.0 / PIXEL_SCALE / 0.5)
        assert inside == pytest.approx(0.5, abs=0.02)

    @pytest.mark.parametrize("kind", TYPES)
    def test_galaxy_without_knots_has_its_centroid_at_its_position(self, galaxies, star, exposure, kind):
        row = galaxies[kind]._replace(KNOTS=0.0)
        shift = centroid(draw(row, exposure, 60.3, 59.8)) - centroid(draw(star, exposure, 60.3, 59.8))
        assert np.hypot(*shift) < 0.03

    @pytest.mark.parametrize("angle", [0, 30, 60, 90, 150])
    def test_galaxy_is_elongated_along_its_position_angle_on_the_sky(self, star, exposure, angle):
        e1, e2 = 0.5 * np.cos(np.radians(2 * angle)), 0.5 * np.sin(np.radians(2 * angle))
        row = star._replace(CLASS="galaxy", RADIUS=3.0, INDEX=1.0, E1=e1, E2=e2)
        nn, ee, ne = sky_moments(draw(row, exposure), row, exposure)
        found = np.degrees(0.5 * np.arctan2(2 * ne, nn - ee))
        assert abs((found - angle + 90) % 180 - 90) < 5

    def test_knots_of_a_galaxy_are_always_the_same_and_of_another_others(self, galaxies, exposure):
        row = galaxies["EXP"]
        np.testing.assert_array_equal(draw(row, exposure), draw(row, exposure))
        other = draw(row._replace(OBJID=row.OBJID + 1), exposure)
        assert not np.allclose(draw(row, exposure), other, atol=1)

    def test_tiny_galaxy_looks_like_a_star(self, star, exposure):
        row = star._replace(CLASS="galaxy", RADIUS=1e-4, INDEX=1.0)
        light = draw(star, exposure)
        np.testing.assert_allclose(draw(row, exposure), light, atol=0.01 * light.max())

    def test_width_changes_across_the_image(self, star, exposure):
        sloped = exposure.copy()
        sloped["psf_slope_x"] = 0.2
        peaks = []
        for x in (100, 1536, 2970):
            stamp = galsim.ImageD(41, 41, xmin=x - 20, ymin=1520, scale=1.0)
            add_light(stamp, star, sloped, x, 1540)
            peaks.append(stamp.array.max())
        assert peaks[0] > 1.1 * peaks[1] > 1.2 * peaks[2]


class TestBinaries:
    @pytest.mark.parametrize("companion", [1.0, 0.3, 0.02])
    @pytest.mark.parametrize("separation", [0.1, 0.8])
    def test_centre_of_light_and_flux_are_those_of_a_single_star(self, star, exposure, companion, separation):
        pair = star._replace(COMPANION=companion, SEPARATION=separation, ANGLE=2.0)
        one, two = (draw(row, exposure, 60.3, 59.8) for row in (star, pair))
        assert np.hypot(*(centroid(two) - centroid(one))) < 0.01
        assert two.sum() == pytest.approx(one.sum(), rel=1e-3)

    def test_wider_pairs_are_less_concentrated(self, star, exposure):
        counts = [
            aperture_counts(
                draw(star._replace(COMPANION=0.7, SEPARATION=separation, ANGLE=1.0), exposure),
                (MIDDLE, MIDDLE),
                3,
            )
            for separation in (0.05, 0.3, 0.6, 0.9)
        ]
        assert (np.diff(counts) < 0).all()

    @pytest.mark.parametrize("angle", [0.0, 0.8, 2.0, 4.5])
    def test_companion_is_at_its_separation_and_position_angle(self, star, exposure, angle):
        pair = star._replace(COMPANION=0.5, SEPARATION=12.0, ANGLE=angle)
        light = draw(pair, exposure)
        first = np.array(np.unravel_index(light.argmax(), light.shape))[::-1]
        y, x = np.indices(light.shape)
        rest = np.where(np.hypot(x - first[0], y - first[1]) < 5, 0, light)
        second = np.array(np.unravel_index(rest.argmax(), light.shape))[::-1]
        step = windowed_centroid(light, second) - windowed_centroid(light, first)
        assert np.hypot(*step) * PIXEL_SCALE == pytest.approx(12, abs=0.1)
        difference = position_angle(star, exposure, *step) - angle
        assert abs((difference + np.pi) % (2 * np.pi) - np.pi) < 0.02


class TestPixelPosition:
    def test_is_that_of_the_wcs_where_nothing_is_off(self, star, exposure):
        still = exposure.copy()
        still[["shift_x", "shift_y"]] = 0.0
        expected = image_wcs(exposure).all_world2pix(star.RA, star.DEC, 0)
        np.testing.assert_allclose(
            pixel_position(star, still, image_wcs(exposure)), np.ravel(expected), atol=1e-6
        )

    def test_offsets_are_on_the_sky_and_shifts_on_the_detector(self, star, exposure):
        shifted = exposure.copy()
        shifted[["shift_x", "shift_y"]] = 0.25, -0.5
        wcs = image_wcs(exposure)
        row = star._replace(OFFSET_RA=3.0, OFFSET_DEC=4.0)
        x, y = pixel_position(row, shifted, wcs)
        found = SkyCoord(*wcs.wcs_pix2world(x - 0.25, y + 0.5, 0), unit="deg")
        east, north = SkyCoord(star.RA, star.DEC, unit="deg").spherical_offsets_to(found)
        assert (east.arcsec, north.arcsec) == pytest.approx((3, 4), abs=1e-3)


@pytest.mark.parametrize("kind", ["star", "galaxy"])
def test_an_object_that_is_not_detected_in_a_band_has_no_light_there(exposure, star, galaxies, kind):
    row = (star if kind == "star" else galaxies["EXP"])._replace(FLUX_I=-0.05)
    stamp = galsim.ImageD(41, 41, xmin=0, ymin=0, scale=1.0)
    add_light(stamp, row, exposure, 20.0, 20.0)
    assert light_radius(row, exposure) >= 0
    assert not stamp.array.any()
