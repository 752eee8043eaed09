import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ztf_sg.cutouts import CutoutError
from ztf_sg.fetching.choose import ImageChooser
from ztf_sg.fetching.cut import (
    CENTRING_TOLERANCE,
    check_place,
    check_source,
    cut_image,
    has_origin,
    is_cutout_of,
    read_answer,
    save_cutout,
    save_image,
    trim_cutout,
)
from ztf_sg.services.errors import UnusableAnswer
from ztf_sg.services.irsa import ORIGIN
from ztf_sg.ztf import image_name

Place = namedtuple("Place", "RA DEC type")


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


@pytest.fixture
def quadrant(archive):
    return next(iter(archive.sky.quadrants.values()))


@pytest.fixture
def image(quadrant):
    """Return a whole image with TPV distortion."""
    return fits.open(BytesIO(bytes(quadrant.file_bytes())))[0]


def sky_of(hdu, x, y):
    return [float(value) for value in WCS(hdu.header).all_pix2world(x, y, 0)]


def as_bytes(hdu):
    file = BytesIO()
    hdu.writeto(file)
    return file.getvalue()


class TestCuttingImages:
    @pytest.mark.parametrize("place", [(1000.3, 2000.7), (9.5, 9.5), (3061.5, 3069.5), (15.0, 3000.2)])
    def test_pixels_and_sky_are_those_of_the_image(self, image, place):
        ra, dec = sky_of(image, *place)
        cutout = cut_image(image, ra, dec)
        assert cutout.data.shape == (20, 20)
        assert cutout.data.dtype == np.float32
        x, y = WCS(cutout.header).all_world2pix(ra, dec, 0)
        assert 8.7 < x < 9.8
        assert 8.7 < y < 9.8
        left, bottom = round(place[0] - float(x)), round(place[1] - float(y))
        np.testing.assert_array_equal(cutout.data, image.data[bottom : bottom + 20, left : left + 20])

    @pytest.mark.parametrize(
        "place", [(5, 1500), (1500, 5), (3071, 1500), (1500, 3079), (3063.5, 1500), (-50, 1500), (-300, -300)]
    )
    def test_cutout_over_the_edge_is_refused(self, image, place):
        with pytest.raises(UnusableAnswer, match="too near the edge"):
            cut_image(image, *sky_of(image, *place))

    @pytest.mark.parametrize("place", [(187.5, 2.5), (97.5, 0.0), (5.8, 60.0)])
    def test_position_far_away_is_refused(self, image, place):
        with pytest.raises(UnusableAnswer):
            cut_image(image, *place)

    def test_image_given_is_left_alone(self, image):
        before, pixels = image.header.copy(), image.data.copy()
        cutout = cut_image(image, *sky_of(image, 500, 500))
        cutout.data[:] = 0
        assert image.header == before
        np.testing.assert_array_equal(image.data, pixels)

    def test_cutout_at_a_place_without_pixels_is_refused(self, image):
        image.data = image.data.copy()
        image.data[505, 505] = np.nan
        with pytest.raises(UnusableAnswer):
            cut_image(image, *sky_of(image, 500, 500))


class TestChecking:
    @pytest.fixture
    def cutout(self, image):
        return cut_image(image, *sky_of(image, 1000.2, 2000.4))

    @pytest.mark.parametrize(
        ("offset", "good"),
        [
            ((0, 0), True),
            ((CENTRING_TOLERANCE - 0.01, 0), True),
            ((CENTRING_TOLERANCE + 0.01, 0), False),
            ((0, -CENTRING_TOLERANCE - 0.01), False),
            ((100, 0), False),
        ],
    )
    def test_object_must_be_in_the_middle(self, cutout, offset, good):
        place = Place(*sky_of(cutout, 9.5 + offset[0], 9.5 + offset[1]), "PSF")
        if good:
            assert check_place(cutout, place, ORIGIN) is cutout
        else:
            with pytest.raises(UnusableAnswer, match=r"is \d+ px off the middle"):
                check_place(cutout, place, ORIGIN)

    def test_position_on_the_other_side_of_the_sky(self, cutout):
        with pytest.raises(UnusableAnswer):
            check_place(cutout, Place(187.5, 2.5, "PSF"), ORIGIN)

    def test_other_origin(self, cutout):
        with pytest.raises(UnusableAnswer, match="ORIGIN is 'Zwicky Transient Facility', expected 'here'"):
            check_place(cutout, Place(*sky_of(cutout, 9.5, 9.5), "PSF"), "here")

    @pytest.mark.parametrize(
        "cards",
        [
            {"CTYPE1": "RA---XXX"},
            {"CTYPE1": "DEC--TPV"},
            {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
            {"CRPIX1": 1e12},
        ],
    )
    def test_useless_wcs(self, cutout, cards):
        place = Place(*sky_of(cutout, 9.5, 9.5), "PSF")
        cutout.header.update(cards)
        with pytest.raises(UnusableAnswer):
            check_place(cutout, place, ORIGIN)

    def test_source_must_be_the_image_asked_for(self, archive, cutout):
        rows = [row for _, row in archive.sky.images.iterrows()]
        check_source(cutout.header, rows[0])
        for row in rows[1:]:
            with pytest.raises(UnusableAnswer, match=f"not of {image_name(row)}"):
                check_source(cutout.header, row)

    @pytest.mark.parametrize(
        "cards", [{"QID": 1}, {"FILENAME": ""}, {"FILENAME": "ztf_1.fits"}, {"QID": "x"}]
    )
    def test_source_of_another_quadrant_or_without_a_name(self, archive, cutout, cards):
        cutout.header.update(cards)
        with pytest.raises(UnusableAnswer):
            check_source(cutout.header, archive.sky.images.iloc[0])

    def test_file_is_a_cutout_of_its_place_or_not(self, cutout, tmp_path):
        path, place = tmp_path / "star_0.fits", Place(*sky_of(cutout, 9.5, 9.5), "PSF")
        save_cutout(cutout, path)
        assert is_cutout_of(path, place, ORIGIN)
        assert has_origin(path, ORIGIN)
        assert not is_cutout_of(path, place._replace(RA=place.RA + 0.01), ORIGIN)
        assert not is_cutout_of(path, place, "here")
        path.write_bytes(path.read_bytes()[:-3000])
        assert not is_cutout_of(path, place, ORIGIN)
        assert not has_origin(path, ORIGIN)


class TestReading:
    def test_threads_do_not_meet_the_warnings_of_others(self, image):
        cutout = cut_image(image, *sky_of(image, 1000.2, 2000.4))
        place = Place(*sky_of(cutout, 9.5, 9.5), "PSF")
        cutout.header["RADECSYS"] = cutout.header.pop("RADESYS")  # an old card, which astropy warns of
        content = as_bytes(cutout)

        def read(_):
            return check_place(read_answer(content, "it"), place, ORIGIN).shape

        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            warnings.simplefilter("ignore")
            assert set(pool.map(read, range(100))) == {(20, 20)}

    @pytest.mark.parametrize("start", [80, 160, 240, 320])
    def test_broken_header_is_unusable(self, image, start):
        content = bytearray(as_bytes(cut_image(image, *sky_of(image, 1000.2, 2000.4))))
        for broken in (b"\xff" * 80, b" " * 80, b"NAXIS   = what".ljust(80), b"\0" * 80):
            content[start : start + 80] = broken
            with pytest.raises(UnusableAnswer):
                read_answer(bytes(content), "it")

    def test_whole_image_is_kept_if_it_is_the_one_asked_for(self, archive, quadrant, tmp_path):
        content, rows = bytes(quadrant.file_bytes()), archive.sky.images
        path = tmp_path / "folder" / "image.fits"
        save_image(content, path, rows.iloc[0])
        assert path.read_bytes() == content
        path.unlink()
        broken = content[:80] + b"\xff" * 320 + content[400:]
        nothing = bytes(80) + content[80:]
        for wrong, row in [(content, rows.iloc[1]), (content[:-2880_000], rows.iloc[0])] + [
            (other, rows.iloc[0]) for other in (broken, nothing, content[:2880], b"", b"SIMPLE  =")
        ]:
            with pytest.raises(UnusableAnswer):
                save_image(wrong, path, row)
            assert list(path.parent.iterdir()) == []


class TestDamage:
    """Whatever happens to a header on its way, the answer is good or of no use; nothing else is raised."""

    @given(place=st.integers(0, 2879), byte=st.binary(min_size=1, max_size=1))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_one_byte_of_a_cutout(self, mock_sky, mock_positions, place, byte):
        star = mock_positions[0].iloc[0]
        image = ImageChooser(mock_sky).choose(star["RA"], star["DEC"])
        content = mock_sky.get_cutout(image, star["RA"], star["DEC"])
        position = Place(star["RA"], star["DEC"], "PSF")
        with warnings.catch_warnings(), suppress(UnusableAnswer):
            warnings.simplefilter("ignore")
            hdu = read_answer(content[:place] + byte + content[place + 1 :], "star_0.fits")
            check_source(hdu.header, image)
            check_place(hdu, position, mock_sky.origin)
            hdu.writeto(BytesIO())

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("card", ["CTYPE2", "CD1_1", "NAXIS1"])
    def test_whole_image_with_a_useless_header_is_not_kept(self, archive, tmp_path, card):
        row = archive.sky.images.iloc[0]
        content = bytes(archive.sky.quadrant(row).file_bytes())
        start = content.index(card.ljust(8).encode() + b"=")
        with pytest.raises(UnusableAnswer):
            save_image(
                content[: start + 10] + b"x" * 20 + content[start + 30 :], tmp_path / "image.fits", row
            )
        assert not list(tmp_path.iterdir())
