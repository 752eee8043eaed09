import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from helpers import HEADER as CUTOUT_HEADER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ztf_sg.cutouts import CutoutError
from ztf_sg.fetching.choose import ImageChooser
from ztf_sg.fetching.cut import (
    CENTRING_TOLERANCE,
    WHOLE_FILE_KEYS,
    check_answer,
    check_image,
    cut_image,
    is_cutout,
    is_whole_image,
    read_answer,
    trim_cutout,
)
from ztf_sg.services.errors import UnusableAnswer
from ztf_sg.services.irsa import Irsa
from ztf_sg.ztf import image_name

ORIGIN = Irsa.origin
Position = namedtuple("Position", "RA DEC")


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


def cut(hdu, ra, dec):
    return cut_image(hdu, WCS(hdu.header), ra, dec)


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


def packed(hdu):
    """Return the bytes of a file with the image in an extension, with checksums of both HDUs."""
    file = BytesIO()
    extension = fits.CompImageHDU(hdu.data, hdu.header, name="SCI", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), extension]).writeto(file, checksum=True)
    return file.getvalue()


def with_checksum(hdu):
    file = BytesIO()
    hdu.writeto(file, checksum=True)
    return file.getvalue()


def scaled(hdu):
    """Return the bytes of a file of unsigned integers, which FITS writes with BZERO, and checksums."""
    return with_checksum(fits.PrimaryHDU(hdu.data.astype(np.uint16), hdu.header))


class TestCardsOfTheWholeFile:
    @pytest.mark.parametrize("write", [with_checksum, scaled, packed])
    @pytest.mark.parametrize("side", [20, 21])
    def test_they_are_not_handed_on(self, tmp_path, write, side):
        hdu = make_hdu(side, side)
        hdu.header.update({key: CUTOUT_HEADER[key] for key in CUTOUT_HEADER if key not in hdu.header})
        answer = read_answer(write(hdu), "star_1.fits")
        assert not set(WHOLE_FILE_KEYS) & set(answer.header)
        answer.writeto(tmp_path / "star_1.fits")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(tmp_path / "star_1.fits", checksum=True) as hdus:
                assert len(hdus) == 1
                np.testing.assert_array_equal(hdus[0].data, hdu.data[side - 20 :, side - 20 :])

    def test_a_cutout_has_no_checksum_of_its_image(self, image):
        whole = fits.open(BytesIO(with_checksum(image)))[0]
        cutout = cut(whole, *sky_of(whole, 1000.3, 2000.7))
        assert {"CHECKSUM", "DATASUM"} <= set(whole.header)
        assert not {"CHECKSUM", "DATASUM"} & set(cutout.header)

    def test_an_image_with_an_unreadable_value_in_use_is_refused(self, image):
        content = as_bytes(image)
        start = content.index(b"SEEING  =")
        content = content[:start] + b"SEEING  = nan".ljust(80) + content[start + 80 :]
        with pytest.raises(UnusableAnswer, match="its header has SEEING = 'nan', expected a number"):
            cut(fits.open(BytesIO(content))[0], *sky_of(image, 1000.3, 2000.7))


class TestCuttingImages:
    @pytest.mark.parametrize("pixel", [(1000.3, 2000.7), (9.5, 9.5), (3061.5, 3069.5), (15.0, 3000.2)])
    def test_pixels_and_sky_are_those_of_the_image(self, image, pixel):
        ra, dec = sky_of(image, *pixel)
        cutout = cut(image, ra, dec)
        assert cutout.data.shape == (20, 20)
        assert cutout.data.dtype == np.float32
        x, y = WCS(cutout.header).all_world2pix(ra, dec, 0)
        assert 8.7 < x < 9.8
        assert 8.7 < y < 9.8
        left, bottom = round(pixel[0] - float(x)), round(pixel[1] - float(y))
        np.testing.assert_array_equal(cutout.data, image.data[bottom : bottom + 20, left : left + 20])

    @pytest.mark.parametrize(
        "pixel", [(5, 1500), (1500, 5), (3071, 1500), (1500, 3079), (3063.5, 1500), (-50, 1500), (-300, -300)]
    )
    def test_cutout_over_the_edge_is_refused(self, image, pixel):
        with pytest.raises(UnusableAnswer, match="too near the edge"):
            cut(image, *sky_of(image, *pixel))

    @pytest.mark.parametrize("position", [(187.5, 2.5), (97.5, 0.0), (5.8, 60.0)])
    def test_position_far_away_is_refused(self, image, position):
        with pytest.raises(UnusableAnswer):
            cut(image, *position)

    def test_image_given_is_left_alone(self, image):
        before, pixels = image.header.copy(), image.data.copy()
        cutout = cut(image, *sky_of(image, 500, 500))
        cutout.data[:] = 0
        assert image.header == before
        np.testing.assert_array_equal(image.data, pixels)

    def test_cutout_at_a_position_without_pixels_is_refused(self, image):
        image.data = image.data.copy()
        image.data[505, 505] = np.nan
        with pytest.raises(UnusableAnswer):
            cut(image, *sky_of(image, 500, 500))


@pytest.fixture
def cutout(image):
    return cut(image, *sky_of(image, 1000.2, 2000.4))


@pytest.fixture
def position(cutout):
    return Position(*sky_of(cutout, 9.5, 9.5))


class TestChecking:
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
        position = Position(*sky_of(cutout, 9.5 + offset[0], 9.5 + offset[1]))
        if good:
            assert check_answer(cutout, ORIGIN, position) is cutout
        else:
            with pytest.raises(UnusableAnswer, match=r"is \d+ px off the middle"):
                check_answer(cutout, ORIGIN, position)

    def test_position_on_the_other_side_of_the_sky(self, cutout):
        with pytest.raises(UnusableAnswer):
            check_answer(cutout, ORIGIN, Position(187.5, 2.5))

    def test_other_origin(self, cutout, position):
        with pytest.raises(UnusableAnswer, match="ORIGIN is 'Zwicky Transient Facility', expected 'here'"):
            check_answer(cutout, "here", position)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        "cards",
        [
            {"CTYPE1": "RA---XXX"},
            {"CTYPE1": "DEC--TPV"},
            {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
            {"CRPIX1": 1e12},
        ],
    )
    def test_useless_wcs(self, cutout, position, cards):
        cutout.header.update(cards)
        with pytest.raises(UnusableAnswer):
            check_answer(cutout, ORIGIN, position)

    def test_source_must_be_the_image_asked_for(self, archive, cutout):
        rows = [row for _, row in archive.sky.images.iterrows()]
        check_answer(cutout, ORIGIN, image=rows[0])
        for row in rows[1:]:
            with pytest.raises(UnusableAnswer, match=f"not of {image_name(row)}"):
                check_answer(cutout, ORIGIN, image=row)

    @pytest.mark.parametrize(
        "cards", [{"QID": 1}, {"FILENAME": ""}, {"FILENAME": "ztf_1.fits"}, {"QID": "x"}]
    )
    def test_source_of_another_quadrant_or_without_a_name(self, archive, cutout, cards):
        cutout.header.update(cards)
        with pytest.raises(UnusableAnswer):
            check_answer(cutout, ORIGIN, image=archive.sky.images.iloc[0])

    def test_file_is_a_cutout_of_its_position_and_image_or_not(self, archive, cutout, position, tmp_path):
        path = tmp_path / "star_0.fits"
        assert not is_cutout(path, ORIGIN)
        path.write_bytes(as_bytes(cutout))
        assert is_cutout(path, ORIGIN)
        assert is_cutout(path, ORIGIN, position, archive.sky.images.iloc[0])
        assert not is_cutout(path, ORIGIN, position._replace(RA=position.RA + 0.01))
        assert not is_cutout(path, ORIGIN, position, archive.sky.images.iloc[1])
        assert not is_cutout(path, "here")
        path.write_bytes(path.read_bytes()[:-3000])
        assert not is_cutout(path, ORIGIN)


class TestReading:
    def test_threads_do_not_meet_the_warnings_of_others(self, cutout, position):
        cutout.header["RADECSYS"] = cutout.header.pop("RADESYS")  # an old card, which astropy warns of
        content = as_bytes(cutout)

        def read(_):
            return check_answer(read_answer(content, "it"), ORIGIN, position).shape

        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            warnings.simplefilter("ignore")
            assert set(pool.map(read, range(40))) == {(20, 20)}

    @pytest.mark.parametrize("start", [80, 160, 240, 320])
    def test_broken_header_is_unusable(self, cutout, start):
        content = bytearray(as_bytes(cutout))
        for broken in (b"\xff" * 80, b" " * 80, b"NAXIS   = what".ljust(80), b"\0" * 80):
            content[start : start + 80] = broken
            with pytest.raises(UnusableAnswer):
                read_answer(bytes(content), "it")


class TestWholeImages:
    @pytest.fixture
    def content(self, quadrant):
        return bytes(quadrant.file_bytes())

    @pytest.fixture
    def row(self, archive):
        return archive.sky.images.iloc[0]

    def test_image_asked_for_passes(self, content, row, tmp_path):
        check_image(content, row)
        path = tmp_path / "image.fits"
        assert not is_whole_image(path, row)
        path.write_bytes(content)
        assert is_whole_image(path, row)
        path.write_bytes(content[:-2880])
        assert not is_whole_image(path, row)

    def test_other_image_is_refused(self, archive, content):
        with pytest.raises(UnusableAnswer):
            check_image(content, archive.sky.images.iloc[1])

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda content: content[:-2880_000],
            lambda content: content[:80] + b"\xff" * 320 + content[400:],
            lambda content: bytes(80) + content[80:],
            lambda content: content[:2880],
            lambda content: b"",
            lambda content: b"SIMPLE  =",
        ],
    )
    def test_broken_file_is_refused(self, content, row, spoil):
        with pytest.raises(UnusableAnswer):
            check_image(spoil(content), row)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("card", ["CTYPE2", "CD1_1", "NAXIS1"])
    def test_useless_card_is_refused(self, content, row, card):
        start = content.index(card.ljust(8).encode() + b"=")
        with pytest.raises(UnusableAnswer):
            check_image(content[: start + 10] + b"x" * 20 + content[start + 30 :], row)


@given(start=st.integers(0, 2879), byte=st.binary(min_size=1, max_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cutout_with_any_byte_of_its_header_changed_is_good_or_of_no_use(
    mock_sky, mock_positions, start, byte
):
    star = mock_positions[0].iloc[0]
    position = Position(star["RA"], star["DEC"])
    image = ImageChooser(mock_sky).choose(*position)
    content = mock_sky.get_cutout(image, *position)
    with warnings.catch_warnings(), suppress(UnusableAnswer):
        warnings.simplefilter("ignore")
        hdu = read_answer(content[:start] + byte + content[start + 1 :], "star_0.fits")
        check_answer(hdu, mock_sky.origin, position, image).writeto(BytesIO())
