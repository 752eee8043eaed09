import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg import ztf
from ztf_sg.fetching import read_manifest
from ztf_sg.ztf import CUTOUT_SHAPE, FIRST_PIXEL, first_pixel, image_name, image_wcs, one_turn


@pytest.fixture
def image(mock_sky):
    """Return the metadata of an image as a search finds it."""
    return mock_sky.search_images(5.8, -0.9, 0.1).iloc[0]


class TestImageName:
    def test_is_that_of_the_archive(self):
        row = pd.Series(
            {
                "filefracday": 20181016264757, "field": 8002, "ccdid": 7, "qid": 3,
                "filtercode": "zi", "imgtypecode": "o",
            }
        )  # fmt: skip
        assert image_name(row) == "ztf_20181016264757_008002_zi_c07_o_q3_sciimg.fits"

    def test_numbers_may_be_floats_as_in_a_table_with_gaps(self, image):
        floats = image.copy()
        floats[["field", "ccdid", "qid"]] = image[["field", "ccdid", "qid"]].astype(float)
        assert image_name(floats) == image_name(image)

    @pytest.mark.parametrize(
        "change", [lambda row: row.drop("qid"), lambda row: row.where(row.index != "qid")]
    )
    def test_row_without_a_value_is_refused_by_its_name(self, image, change):
        with pytest.raises(ValueError, match="lacks qid"):
            image_name(change(image))


class TestImageWcs:
    def test_reference_pixel_is_at_the_reference_position(self, image):
        position = image_wcs(image).wcs_pix2world(image["crpix1"], image["crpix2"], 1)
        np.testing.assert_allclose(position, image[["crval1", "crval2"]].astype(float), atol=1e-9)

    def test_neighbouring_pixels_are_a_pixel_scale_apart(self, image):
        x = np.array([1000.0, 1001.0])
        here, there = SkyCoord(*image_wcs(image).wcs_pix2world(x, [1500.0, 1500.0], 0), unit="deg")
        assert here.separation(there).arcsec == pytest.approx(ztf.PIXEL_SCALE, rel=1e-3)


class TestFirstPixel:
    @given(st.floats(100, 3000))
    def test_object_is_where_the_archive_puts_it(self, position):
        first, width = first_pixel(position)
        assert width == CUTOUT_SHAPE[0]
        assert FIRST_PIXEL - 1 - 1e-9 < position - first <= FIRST_PIXEL + 1e-9

    @given(st.floats(100, 3000), st.floats(5, 90))
    def test_object_stays_in_the_middle_of_a_larger_cutout(self, position, size):
        first, width = first_pixel(position, size)
        assert abs(position - (first + (width - 1) / 2)) < 1.3

    def test_bundled_cutouts_begin_there(self):
        folder = ROOT / "cutouts_test"
        for row in read_manifest(folder).head(40).itertuples():
            wcs = WCS(fits.getheader(folder / row.file))
            for axis in wcs.wcs_world2pix(row.RA, row.DEC, 0):
                assert FIRST_PIXEL - 1 - 1e-3 < axis < FIRST_PIXEL + 1e-3


def test_sizes_of_files_are_whole_blocks_that_hold_the_pixels():
    width, height = ztf.QUADRANT
    assert ztf.IMAGE_BYTES % ztf.FITS_BLOCK == ztf.CUTOUT_BYTES % ztf.FITS_BLOCK == 0
    assert 4 * width * height <= ztf.IMAGE_BYTES - ztf.HEADER_BYTES
    assert 4 * np.prod(CUTOUT_SHAPE) <= ztf.CUTOUT_BYTES - ztf.HEADER_BYTES
    assert (round(ztf.CUTOUT_SIZE / ztf.PIXEL_SCALE),) * 2 == CUTOUT_SHAPE


@pytest.mark.parametrize(
    "ra, expected",
    [
        (0.0, 0.0),
        (359.9, 359.9),
        (360.0, 0.0),
        (-1.0, 359.0),
        (725.0, 5.0),
        (-1e-15, 0.0),
        (0.1 + 0.2, 0.1 + 0.2),
    ],
)
def test_right_ascensions_are_of_one_turn(ra, expected):
    assert one_turn(ra) == expected
    assert one_turn([ra, np.nan])[0] == expected


def test_what_is_no_right_ascension_stays():
    np.testing.assert_array_equal(one_turn([np.nan, np.inf, -np.inf]), [np.nan, np.inf, -np.inf])
