import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from ztf_sg.cutting import trim_cutout
from ztf_sg.dataset import CutoutError


def make_hdu(height=20, width=20):
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 7.0, "CRVAL2": -2.0,
            "CRPIX1": -300.5, "CRPIX2": 812.25,
            "CD1_1": -2.8e-4, "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": -2.8e-4,
        }
    )  # fmt: skip
    return fits.PrimaryHDU(np.arange(height * width, dtype=np.float32).reshape(height, width), header)


class TestTrimming:
    @pytest.mark.parametrize("height", [20, 21])
    @pytest.mark.parametrize("width", [20, 21])
    def test_first_row_and_column_go_and_the_sky_stays(self, height, width):
        hdu = make_hdu(height, width)
        trimmed = trim_cutout(hdu)
        np.testing.assert_array_equal(trimmed.data, hdu.data[height - 20 :, width - 20 :])
        assert trimmed.header["NAXIS1"] == trimmed.header["NAXIS2"] == 20
        pixels = np.array([[0, 0], [19, 19], [4.5, 12.25]])
        before = WCS(hdu.header).all_pix2world(pixels + [width - 20, height - 20], 0)
        after = WCS(trimmed.header).all_pix2world(pixels, 0)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-10)

    def test_cutout_given_is_left_alone(self):
        hdu = make_hdu(21, 21)
        before = hdu.header.copy()
        trim_cutout(hdu)
        assert hdu.header == before
        assert hdu.data.shape == (21, 21)

    @pytest.mark.parametrize(
        ("height", "width"), [(19, 19), (19, 20), (20, 19), (21, 19), (22, 22), (20, 22), (5, 5)]
    )
    def test_any_other_size_is_refused(self, height, width):
        with pytest.raises(CutoutError, match=f"{height} x {width} px"):
            trim_cutout(make_hdu(height, width))

    def test_other_sizes_can_be_wanted(self):
        assert trim_cutout(make_hdu(33, 32), shape=(32, 32)).data.shape == (32, 32)
