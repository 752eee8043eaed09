import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ztf_sg.cutouts import load_cutouts
from ztf_sg.cutouts.plain_fits import projection_cards, read_plain_image, sky_positions
from ztf_sg.cutouts.schema import NUMBER_KEYS, TEXT_KEYS

BUNDLE = ROOT / "cutouts_test"
PIXELS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write_cards(path, *cards, pixels=PIXELS):
    """Write an image whose header has these cards, letter by letter."""
    header = fits.PrimaryHDU(pixels).header.tostring(endcard=False, padding=False)
    header += "".join(card.ljust(80) for card in cards) + "END".ljust(80)
    data = pixels.astype(">f4").tobytes()
    path.write_bytes(header.ljust(-(-len(header) // 2880) * 2880).encode() + data.ljust(2880, b"\0"))
    return path


def assert_as_astropy(paths):
    for path in paths:
        image, values, projection = read_plain_image(path)
        pixels, header = fits.getdata(path, header=True)
        np.testing.assert_array_equal(image, pixels)
        assert image.dtype == np.float32 and image.dtype.isnative
        assert values == {key: header[key] for key in (*NUMBER_KEYS, *TEXT_KEYS) if key in header}
        assert projection == projection_cards(header)


def test_bundled_cutouts_are_plain_and_read_as_astropy_reads_them():
    assert_as_astropy(sorted(BUNDLE.glob("*.fits"))[::10])


def test_real_cutouts_are_plain_and_read_as_astropy_reads_them(real_cutouts):
    assert_as_astropy(sorted(real_cutouts.glob("*.fits"))[::5])


@pytest.mark.parametrize(
    "card",
    [
        "GAIN    = 6.2", "GAIN    =                  6.2 / [e-/DN]", "GAIN    =   -6.2E+01 /",
        "GAIN    = +6.", "GAIN    =                  007", "FILTER  = 'ZTF_i   '", "FILTER  = ''",
        "FILTER  = '   x ' / it's", "FILTER  =   'ZTF i'", "GAIN    = 8.365000000000000E+02 / wide",
    ],
)  # fmt: skip
def test_plain_cards_have_the_values_that_astropy_gives(tmp_path, card):
    path = write_cards(tmp_path / "a.fits", card)
    key = card.split()[0]
    _, values, _ = read_plain_image(path)
    assert values == {key: fits.getheader(path)[key]}
    assert type(values[key]) is type(fits.getheader(path)[key])


@given(
    st.one_of(
        st.integers(-(10**15), 10**15),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    )
)
def test_any_card_that_astropy_writes_is_read_as_by_astropy_or_left_to_it(tmp_path_factory, value):
    key = "ORIGIN" if isinstance(value, str) else "MAGZP"
    path = write_cards(tmp_path_factory.getbasetemp() / "card.fits", str(fits.Card(key, value))[:80])
    found = read_plain_image(path)
    assert found is None or found[1] == {key: fits.getheader(path)[key]}


@pytest.mark.parametrize(
    "cards",
    [
        ["GAIN    = 1.D0"], ["GAIN    = .5"], ["GAIN    ="], ["GAIN    = 'six'"], ["GAIN    = T"],
        ["GAIN      6.2"], ["GAIN    = 6.2 e-/DN"], ["GAIN    = nan"], ["GAIN    = 1_0"], ["GAIN    = 0x1"],
        ["gain    = 6.2"],
        ["HIERARCH GAIN = 6.2"], ["ORIGIN  = 'ZTF&'", "CONTINUE  'IPAC'"], ["ORIGIN  = 'Palomar''s'"],
        ["ORIGIN  = 'axis.1: 2'"], ["ORIGIN  = 'ZTF"], ["ORIGIN  = ZTF"], ["BZERO   = 0"], ["BSCALE  = 2.0"],
    ],
)  # fmt: skip
def test_unusual_cards_are_left_to_astropy(tmp_path, cards):
    assert read_plain_image(write_cards(tmp_path / "a.fits", *cards)) is None


@pytest.mark.parametrize("pixels", [PIXELS.astype(np.int16), PIXELS[None], PIXELS.astype(float)], ids=str)
def test_other_images_are_left_to_astropy(tmp_path, pixels):
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    assert read_plain_image(tmp_path / "a.fits") is None


@given(st.data())
def test_files_cut_short_are_left_to_astropy(tmp_path_factory, data):
    path = write_cards(tmp_path_factory.getbasetemp() / "short.fits", "GAIN    = 6.2")
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert read_plain_image(path) is None


def test_the_first_card_of_a_keyword_counts(tmp_path):
    path = write_cards(tmp_path / "a.fits", "GAIN    = 1.5", "GAIN    = 2.5")
    assert read_plain_image(path)[1] == {"GAIN": 1.5} == {"GAIN": fits.getheader(path)["GAIN"]}


PROJECTIONS = {
    "plain": {},
    "polynomials": {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.001, "PV2_2": 2e-3},
    "old SCAMP": {"PV1_1": 1.001, "PV1_5": 2e-3, "PV2_1": 1.0, "PV2_5": 1e-3},
    "SIP": {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4},
    "swapped axes": {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -2.0, "CRVAL2": 7.0},
    "galactic": {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 120.0, "CRVAL2": -60.0},
    "latitude first": {
        "CTYPE1": "GLAT-TAN",
        "CTYPE2": "GLON-TAN",
        "CRVAL1": -60.0,
        "CRVAL2": 120.0,
    },
    "B1950": {"RADESYS": "FK4", "EQUINOX": 1950.0},
    "B1950 by its equinox": {"EQUINOX": 1950.0},
    "B1950 by the old keyword": {"RADECSYS": "FK4", "EQUINOX": 1950.0},
    "FK5": {"RADESYS": "FK5", "EQUINOX": 2000.0},
    "west of RA 0": {"CRVAL1": 0.001},
    "RA below 0": {"CRVAL1": -0.5},
    "rotation": {"CDELT1": -3e-4, "CDELT2": 3e-4, "CROTA2": 30.0},
}


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("kind", PROJECTIONS)
def test_sky_positions_are_those_of_astropy(kind):
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 7.0, "CRVAL2": -2.0}
    if kind != "rotation":
        header |= {"CD1_1": -2.8e-4, "CD1_2": 1e-6, "CD2_1": 2e-6, "CD2_2": -2.8e-4}
    header = fits.Header(header | {"CRPIX1": 836.5, "CRPIX2": -420.5} | PROJECTIONS[kind])
    pixels = np.array([[0.0, 0.0], [9.5, 9.5], [100.0, 50.0]])
    sky = WCS(header).pixel_to_world(*pixels.T).icrs
    expected = np.stack([sky.ra.deg, sky.dec.deg], axis=1)
    found = sky_positions(projection_cards(header), pixels + 1 - [836.5, -420.5])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_cutouts_of_one_image_share_their_projection_cards(tmp_path):
    folder = tmp_path
    for number, place in enumerate((10.5, -300.0)):
        header = fits.Header({"CTYPE1": "RA---TAN", "CRVAL1": 7.0, "CRPIX1": place})
        fits.PrimaryHDU(PIXELS, header).writeto(folder / f"star_{number}.fits")
    first, second = (read_plain_image(path)[2] for path in sorted(folder.iterdir()))
    assert first == second
    assert b"CRPIX" not in first


def test_the_bundled_cutouts_need_no_astropy(monkeypatch):
    monkeypatch.setattr("ztf_sg.cutouts.folder.read_cutout", None)
    assert len(load_cutouts(BUNDLE)) == 1500
