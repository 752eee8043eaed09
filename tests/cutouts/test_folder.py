import bz2
import gzip
import lzma
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from helpers import make_header, make_pixels, write_cutout
from hypothesis import given, settings
from hypothesis import strategies as st

from ztf_sg import load_cutouts
from ztf_sg.cutouts import CutoutError, load_files, read_cutout

NEEDED = ("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE", "ORIGIN")


def with_pixel(value):
    pixels = make_pixels()
    pixels[3, 4] = value
    return pixels


def cut_short(path, keep):
    """Write a good cutout and keep the bytes up to ``keep(length of the header)``."""
    write_cutout(path)
    header_length = len(fits.getheader(path).tostring())
    path.write_bytes(path.read_bytes()[: keep(header_length)])


FAULTS = {
    "cut_in_header": lambda path: cut_short(path, lambda header: header // 2),
    "cut_in_first_block": lambda path: cut_short(path, lambda header: 1000),
    "cut_at_end_of_header": lambda path: cut_short(path, lambda header: header),
    "cut_in_data": lambda path: cut_short(path, lambda header: header + 500),
    "empty": lambda path: path.write_bytes(b""),
    "html": lambda path: path.write_text("<html><body>Service unavailable</body></html>" * 100),
    "without_data": lambda path: fits.PrimaryHDU(header=make_header()).writeto(path),
    "three_axes": lambda path: write_cutout(path, make_pixels((2, 20, 20))),
    "other_shape": lambda path: write_cutout(path, make_pixels((19, 20))),
    "nan": lambda path: write_cutout(path, with_pixel(np.nan)),
    "infinite": lambda path: write_cutout(path, with_pixel(-np.inf)),
    **{f"no_{key}": lambda path, key=key: write_cutout(path, **{key: None}) for key in NEEDED},
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one good star; what is added to it comes later in natural order."""
    write_cutout(tmp_path / "star_0.fits")
    return tmp_path


@pytest.fixture(scope="session")
def cutouts(simulated_cutouts):
    return load_cutouts(simulated_cutouts)


class TestNamesAndLabels:
    def test_files_come_in_natural_order(self, tmp_path):
        for name in ("star_10", "star_2", "galaxy_1", "star_0", "galaxy_11", "galaxy_3"):
            write_cutout(tmp_path / f"{name}.fits")
        names = load_cutouts(tmp_path).table["name"].tolist()
        assert names == ["galaxy_1", "galaxy_3", "galaxy_11", "star_0", "star_2", "star_10"]

    def test_labels_come_from_the_prefixes_without_a_warning(self, folder):
        write_cutout(folder / "galaxy_7.fits")
        write_cutout(folder / "star_galaxy_2.fits")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cutouts = load_cutouts(folder)
        assert dict(zip(cutouts.table["name"], cutouts.labels.tolist(), strict=True)) == {
            "galaxy_7": 1,
            "star_0": 0,
            "star_galaxy_2": 0,
        }

    def test_unknown_prefixes_are_labelled_minus_one_with_a_warning(self, folder):
        write_cutout(folder / "cutout_7.fits")
        write_cutout(folder / "starfish_1.fits")
        with pytest.warns(UserWarning, match="2 of 3 names"):
            cutouts = load_cutouts(folder)
        assert sorted(cutouts.labels) == [-1, -1, 0]
        assert cutouts.labels.dtype == np.int8

    def test_other_files_are_left_alone(self, folder):
        (folder / "manifest.csv").write_text("file\n")
        (folder / "README.md").write_text("about these files")
        (folder / "star_1.part").write_bytes(b"")
        assert load_cutouts(folder).table["name"].tolist() == ["star_0"]

    def test_mixed_origins_are_warned_of(self, folder):
        write_cutout(folder / "star_1.fits", ORIGIN="ztf_sg mock sky (simulated)")
        with pytest.warns(UserWarning, match="Zwicky Transient Facility, ztf_sg mock sky"):
            load_cutouts(folder)


def centres_by_astropy(folder, names):
    """Return RA and DEC of the centres of cutouts, each from the whole WCS of its own header."""
    centres = []
    for name in names:
        header = fits.getheader(folder / f"{name}.fits")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header)
        centres.append(wcs.all_pix2world((header["NAXIS1"] - 1) / 2, (header["NAXIS2"] - 1) / 2, 0))
    return np.array(centres, dtype=float)


class TestSkyPositions:
    def test_centres_of_simulated_cutouts_agree_with_astropy(self, cutouts, simulated_cutouts):
        expected = centres_by_astropy(simulated_cutouts, cutouts.table["name"])
        np.testing.assert_allclose(cutouts.table[["ra", "dec"]], expected, rtol=0, atol=1e-7)

    def test_centres_of_real_cutouts_agree_with_astropy(self, real_cutouts):
        table = load_cutouts(real_cutouts, on_error="skip").table[::5]
        expected = centres_by_astropy(real_cutouts, table["name"])
        np.testing.assert_allclose(table[["ra", "dec"]], expected, rtol=0, atol=1e-7)

    def test_centres_of_oblong_cutouts_of_several_images_agree_with_astropy(self, tmp_path):
        for i, angle in enumerate([0.0, 0.0, 0.3, 3.0]):
            cosine, sine = 2.8e-4 * np.cos(angle), 2.8e-4 * np.sin(angle)
            matrix = {"CD1_1": -cosine, "CD1_2": sine, "CD2_1": sine, "CD2_2": cosine}
            place = {"CRPIX1": -700.0 + 300 * i, "CRPIX2": 900.0 - 17 * i, "CRVAL2": 60.0}
            write_cutout(tmp_path / f"star_{i}.fits", make_pixels((20, 31)), **matrix, **place)
        cutouts = load_cutouts(tmp_path)
        expected = centres_by_astropy(tmp_path, cutouts.table["name"])
        np.testing.assert_allclose(cutouts.table[["ra", "dec"]], expected, rtol=0, atol=1e-7)

    def test_files_left_to_astropy_have_the_same_positions_and_metadata(self, tmp_path):
        for kind in (np.float32, np.int16):
            folder = tmp_path / kind.__name__
            folder.mkdir()
            for number in range(3):
                pixels = make_pixels().astype(kind)
                write_cutout(folder / f"star_{number}.fits", pixels, CRPIX1=-50.0 * number)
        plain, other = (load_cutouts(tmp_path / name) for name in ("float32", "int16"))
        pd.testing.assert_frame_equal(plain.table, other.table, check_exact=True)
        np.testing.assert_array_equal(plain.images, other.images)

    def test_position_is_nan_without_wcs(self, folder):
        gone = dict.fromkeys(
            ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
        )
        write_cutout(folder / "star_1.fits", **gone)
        with pytest.warns(UserWarning, match="star_1.fits: the WCS cannot be used"):
            table = load_cutouts(folder).table
        assert table["ra"].isna().tolist() == [False, True]
        assert table["dec"].isna().tolist() == [False, True]


class TestBadFiles:
    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
            load_cutouts(tmp_path / "nowhere")

    def test_folder_without_cutouts_is_named(self, tmp_path):
        (tmp_path / "manifest.csv").write_text("file\n")
        with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}: holds no FITS files"):
            load_cutouts(tmp_path)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_bad_file_is_named(self, folder, fault):
        FAULTS[fault](folder / "star_1.fits")
        with pytest.raises(CutoutError, match=r"star_1\.fits"):
            load_cutouts(folder)

    @pytest.mark.parametrize("key", NEEDED)
    def test_missing_keyword_is_named(self, folder, key):
        write_cutout(folder / "star_1.fits", **{key: None})
        with pytest.raises(CutoutError, match=rf"star_1\.fits: its header lacks {key}"):
            load_cutouts(folder)

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("empty", "is empty"),
            ("html", "not a FITS file"),
            ("cut_in_data", "cut short"),
            ("without_data", "holds no image"),
            ("three_axes", r"two axes, got shape \(2, 20, 20\)"),
            ("other_shape", "expected 20 x 20 px, got 19 x 20"),
            ("nan", "1 of 400 pixels are NaN or infinite"),
            ("infinite", "1 of 400 pixels are NaN or infinite"),
        ],
    )
    def test_message_states_the_fault(self, folder, fault, reason):
        FAULTS[fault](folder / "star_1.fits")
        with pytest.raises(CutoutError, match=reason):
            load_cutouts(folder)

    def test_skipping_lists_the_bad_files_and_loads_the_rest(self, folder):
        for number, fault in enumerate(FAULTS, start=1):
            FAULTS[fault](folder / f"star_{number}.fits")
        write_cutout(folder / "star_99.fits")
        cutouts = load_cutouts(folder, on_error="skip")
        assert cutouts.table["name"].tolist() == ["star_0", "star_99"]
        assert list(cutouts.skipped.columns) == ["name", "reason"]
        assert cutouts.skipped["name"].tolist() == [f"star_{n}.fits" for n in range(1, len(FAULTS) + 1)]
        for row in cutouts.skipped.itertuples():
            assert row.name in row.reason

    def test_of_many_bad_files_the_first_is_named(self, tmp_path):
        for number in range(200):
            write_cutout(tmp_path / f"star_{number}.fits")
        for number in (199, 150, 77):
            (tmp_path / f"star_{number}.fits").write_bytes(b"")
        with pytest.raises(CutoutError, match="star_77.fits: is empty"):
            load_cutouts(tmp_path)
        cutouts = load_cutouts(tmp_path, on_error="skip")
        assert cutouts.skipped["name"].tolist() == [f"star_{number}.fits" for number in (77, 150, 199)]
        assert len(cutouts) == 197

    def test_odd_first_file_does_not_cost_the_others(self, tmp_path):
        write_cutout(tmp_path / "galaxy_0.fits", pixels=np.full((19, 20), 200, np.float32))
        for number in range(3):
            write_cutout(tmp_path / f"star_{number}.fits")
        with pytest.raises(CutoutError, match="galaxy_0.fits: expected 20 x 20 px, got 19 x 20"):
            load_cutouts(tmp_path)
        cutouts = load_cutouts(tmp_path, on_error="skip")
        assert len(cutouts) == 3
        assert cutouts.skipped["name"].tolist() == ["galaxy_0.fits"]

    @pytest.mark.parametrize("changes", [{"GAIN": 0.0}, {"SEEING": -1.0}, {"CRVAL1": "abc"}], ids=str)
    def test_impossible_header_value_is_named(self, folder, changes):
        write_cutout(folder / "star_1.fits", **changes)
        with pytest.raises(CutoutError, match=f"star_1.fits: its header has {next(iter(changes))}"):
            load_cutouts(folder)

    def test_unusable_wcs_gives_no_position_and_says_so(self, folder):
        write_cutout(folder / "star_1.fits", CTYPE1="RA---XYZ")
        with pytest.warns(UserWarning, match="star_1.fits: the WCS cannot be used"):
            table = load_cutouts(folder).table
        assert table["ra"].isna().tolist() == [False, True]

    def test_file_in_place_of_a_folder_is_named(self, folder):
        with pytest.raises(FileNotFoundError, match="star_0.fits: is a file"):
            load_cutouts(folder / "star_0.fits")

    def test_nothing_is_listed_as_skipped_when_all_is_well(self, cutouts):
        assert cutouts.skipped.empty
        assert list(cutouts.skipped.columns) == ["name", "reason"]

    def test_folder_of_bad_files_alone_raises_even_when_skipping(self, tmp_path):
        for number, fault in enumerate(("empty", "nan", "html")):
            FAULTS[fault](tmp_path / f"star_{number}.fits")
        with pytest.raises(CutoutError, match="none of its 3 FITS files"):
            load_cutouts(tmp_path, on_error="skip")

    def test_cutout_without_aperture_corrections_loads_with_nan(self, folder):
        write_cutout(folder / "star_1.fits", **{f"APCOR{i}": None for i in range(1, 7)})
        table = load_cutouts(folder).table
        apertures = table[[f"apcor{i}" for i in range(1, 7)]]
        assert apertures.iloc[1].isna().all()
        assert apertures.iloc[0].notna().all()

    def test_another_on_error_is_refused(self, folder):
        with pytest.raises(ValueError, match="'ignore'"):
            load_cutouts(folder, on_error="ignore")

    @pytest.mark.parametrize("key", ["SEEING", "MAGZP", "APCOR3"])
    def test_keyword_with_text_for_a_number_is_named(self, folder, key):
        write_cutout(folder / "star_1.fits", **{key: "unknown"})
        with pytest.raises(CutoutError, match=rf"star_1\.fits: .*{key}"):
            load_cutouts(folder)

    @pytest.mark.parametrize("key", ["SEEING", "MAGZP"])
    def test_needed_keyword_without_a_value_is_named(self, folder, key):
        write_cutout(folder / "star_1.fits", **{key: fits.card.Undefined()})
        with pytest.raises(CutoutError, match=rf"star_1\.fits: .*{key}"):
            load_cutouts(folder)

    def test_integer_pixels_load_as_float32(self, tmp_path):
        path = write_cutout(tmp_path / "star_0.fits", make_pixels().astype(np.int16))
        image, header = read_cutout(path)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, make_pixels())
        assert header["GAIN"] == 6.2


def with_cards(path, **cards):
    """Write a cutout of which some cards are these texts, letter by letter, whatever they mean."""
    header = make_header().tostring(endcard=False, padding=False)
    kept = [header[start : start + 80] for start in range(0, len(header), 80)]
    kept = [card for card in kept if card[:8].strip() not in cards]
    shape = [
        "SIMPLE  =                    T",
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
    ]
    shape += ["NAXIS1  =                   20", "NAXIS2  =                   20"]
    lines = [line for line in shape if line[:8].strip() not in cards] + kept
    lines += [text for text in cards.values() if text]
    text = "".join(line.ljust(80)[:80] for line in [*lines, "END"]).encode("latin-1")
    data = make_pixels().astype(">f4").tobytes()
    path.write_bytes(text.ljust(-(-len(text) // 2880) * 2880) + data.ljust(2880, b"\0"))


def as_bytes(*hdus):
    file = BytesIO()
    fits.HDUList([hdu.copy() for hdu in hdus]).writeto(file)
    return file.getvalue()


FORMS = {
    "float32": as_bytes(fits.PrimaryHDU(make_pixels(), make_header())),
    "int16": as_bytes(fits.PrimaryHDU(make_pixels().astype(np.int16), make_header())),
    "extension": as_bytes(fits.PrimaryHDU(header=make_header()), fits.ImageHDU(make_pixels(), name="SCI")),
    "fpack": as_bytes(fits.PrimaryHDU(), fits.CompImageHDU(make_pixels(), make_header(), quantize_level=0)),
    "gzip": gzip.compress(as_bytes(fits.PrimaryHDU(make_pixels(), make_header()))),
}
PIECES = [
    *(b"nan", b"-inf", b"1,5", b"T", b"'", b"&", b"/", b"= ", b"=", b"\xff", b"\0", b"(1.0, 2.0)", b"1E999"),
    *(b"9" * 40, b"END", b"CONTINUE", b"HIERARCH ", b"XTENSION", b"COMMENT ", b"BSCALE  = 0", b"BLANK   = x"),
    *(b"seeing", b"SEEING  = ", b"GAIN    = -1", b"NAXIS1  = -20", b"BITPIX  = 7", b"CRVAL1  = 1E300"),
]


class TestHeaders:
    BAD = {
        "SEEING": [
            "= nan",
            "= -inf",
            "= 1,5",
            "= NaN / seeing",
            "= T",
            "= (1.0, 2.0)",
            "= 1.5.2",
            "=",
            "= 'x'",
        ],
        "MAGZP": ["= inf", "= 25.6 mag", "= '25.6'"],
        "GAIN": ["= 1E999", "= 0", "= -6.2"],
        "APCOR2": ["= -Infinity", "= 'none'", "= 0x1"],
        "CRVAL1": ["= nan", "= 7,0"],
        "FILTER": ["= 5", "= T"],
        "NAXIS1": ["= -20", "= 2000000000", "= 20.5", "= '20'", "= nan"],
        "NAXIS": ["= 3", "= 999", "= 0", "= -1"],
        "BITPIX": ["= 7", "= nan", "= -33"],
    }
    CASES = [(key, value) for key, values in BAD.items() for value in values]

    @pytest.mark.parametrize("key, value", CASES, ids=str)
    def test_a_value_that_is_no_number_costs_only_its_file(self, folder, key, value):
        with_cards(folder / "star_1.fits", **{key: f"{key:8}{value}"})
        with pytest.raises(CutoutError, match=r"star_1\.fits: .*"):
            load_cutouts(folder)
        found = load_cutouts(folder, on_error="skip")
        assert found.table["name"].tolist() == ["star_0"]
        assert found.skipped["name"].tolist() == ["star_1.fits"]

    @pytest.mark.parametrize("value, said", [("= nan", "nan"), ("= 1,5", "1,5"), ("= T", "True")])
    def test_the_value_is_quoted(self, folder, value, said):
        with_cards(folder / "star_1.fits", SEEING=f"SEEING  {value}")
        with pytest.raises(CutoutError, match=f"star_1.fits: its header has SEEING = '?{said}'?, expected a"):
            load_cutouts(folder)

    @pytest.mark.parametrize(
        "card",
        [
            "COMMENT caf\xe9", "UNUSED  = nan", "UNUSED  = 1,5", "unused  = 3", "GAIN2   = '", "BLANK?  = 1",
            "HIERARCH a b = 1", "HISTORY = 3", "SEEING2 = -inf",
        ],
    )  # fmt: skip
    def test_a_damaged_card_that_is_not_in_use_costs_nothing(self, folder, card):
        with_cards(folder / "star_1.fits", UNUSED=card)
        found = load_cutouts(folder)
        np.testing.assert_array_equal(found.images[1], make_pixels())
        pd.testing.assert_series_equal(found.table.iloc[0, 1:], found.table.iloc[1, 1:], check_names=False)

    @settings(deadline=None, max_examples=30)
    @given(
        st.binary(max_size=72), st.sampled_from(["SEEING", "GAIN", "FILTER", "CRVAL1", "NAXIS2", "COMMENT"])
    )
    def test_any_bytes_of_a_card_cost_no_more_than_their_file(self, tmp_path_factory, value, key):
        folder = tmp_path_factory.mktemp("cards")
        write_cutout(folder / "star_0.fits")
        with_cards(folder / "star_1.fits", **{key: f"{key:8}" + value.decode("latin-1")})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_cutouts(folder, on_error="skip")
        assert found.table["name"].iloc[0] == "star_0"
        np.testing.assert_array_equal(found.images[0], make_pixels())
        assert len(found) + len(found.skipped) == 2

    @pytest.mark.parametrize("key, value", [("BSCALE", "0"), ("BZERO", "T"), ("BZERO", "(1.0, 2.0)")])
    def test_pixels_are_not_scaled_by_what_is_no_number(self, folder, key, value):
        with_cards(folder / "star_1.fits", **{key: f"{key:8}= {value}"})
        with pytest.raises(CutoutError, match=f"star_1.fits: its header has {key} = .*, expected a number"):
            load_cutouts(folder)

    @pytest.mark.parametrize("value", ["nan", "1,5"])
    def test_an_unreadable_scale_is_named(self, folder, value):
        with_cards(folder / "star_1.fits", BSCALE=f"BSCALE  = {value}")
        with pytest.raises(CutoutError, match=r"star_1.fits: its header is damaged \(Unparsable card"):
            load_cutouts(folder)

    @settings(deadline=None, max_examples=30)
    @given(st.data())
    def test_any_damage_to_any_form_of_a_file_costs_no_more_than_this_file(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("damaged")
        write_cutout(folder / "star_0.fits")
        content = bytearray(FORMS[data.draw(st.sampled_from(sorted(FORMS)))])
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, min(len(content), 5760) - 1))
            start -= data.draw(st.sampled_from([0, start % 80]))  # keywords are hit more often
            piece = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=80)))
            content[start : start + len(piece)] = piece
        (folder / "star_1.fits").write_bytes(content[: data.draw(st.integers(1, len(content)))])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*(WCS cannot be used|mixes cutouts)")
            found = load_cutouts(folder, on_error="skip")
        np.testing.assert_array_equal(found.images[0], make_pixels())
        assert found.table.loc[0, ["name", "ra", "dec"]].tolist() == ["star_0", 7.0, -2.0]
        assert len(found) + len(found.skipped) == 2
        assert found.skipped["reason"].str.contains("star_1.fits: ").all()

    def test_warnings_stay_as_they_were_when_threads_read(self, tmp_path):
        paths = [
            write_cutout(tmp_path / f"star_{number}.fits", make_pixels().astype(np.int16), EQUINOX=1950.0)
            for number in range(40)
        ]
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as readers:
            list(readers.map(lambda path: load_files([path]), paths))
        assert warnings.filters == before

    def test_pixels_beyond_float32_are_named(self, folder):
        write_cutout(folder / "star_1.fits", np.full((20, 20), 1e300))
        with pytest.raises(CutoutError, match="star_1.fits: 400 of 400 pixels are NaN or infinite"):
            load_cutouts(folder)


def image_hdu(pixels=None, name=None, **cards):
    header = fits.Header({key: value for key, value in cards.items()})
    return fits.ImageHDU(make_pixels() if pixels is None else pixels, header, name=name)


def zipped(content, names=("star.fits",)):
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


MASK = np.eye(20, dtype=np.int16)
ONES = np.ones((20, 20), dtype=np.float32)
WEIGHTS = np.random.default_rng(0).random((20, 20), dtype=np.float32)


class TestImages:
    """A file may hold more than the cutout; the pixels that are read are those of the cutout."""

    FILES = {
        "mask first": [fits.PrimaryHDU(MASK.astype(np.uint8)), image_hdu(**dict(make_header()))],
        "named mask first": [
            fits.PrimaryHDU(header=make_header()), image_hdu(ONES, "MASK"), image_hdu(name="SCI"),
        ],
        "integer mask first": [fits.PrimaryHDU(header=make_header()), image_hdu(MASK), image_hdu()],
        "keywords in the primary": [fits.PrimaryHDU(header=make_header()), image_hdu()],
        "weights and errors": [
            fits.PrimaryHDU(make_pixels(), make_header()), image_hdu(ONES, "WEIGHT"), image_hdu(ONES, "ERR"),
        ],
        "table first": [
            fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])]),
            image_hdu(**dict(make_header())),
        ],
        "without names, by keywords": [fits.PrimaryHDU(ONES), image_hdu(**dict(make_header()))],
        "mask with the keywords": [fits.PrimaryHDU(MASK, make_header()), image_hdu()],
        "weights without a name": [
            fits.PrimaryHDU(make_pixels().astype(np.int16), make_header()), image_hdu(WEIGHTS),
        ],
        "variance": [fits.PrimaryHDU(header=make_header()), image_hdu(WEIGHTS, "VARIANCE"), image_hdu()],
        "reference and difference": [
            fits.PrimaryHDU(header=make_header()), image_hdu(WEIGHTS, "REF"), image_hdu(name="Science"),
            image_hdu(WEIGHTS, "DIFF"),
        ],
        "difference alone": [fits.PrimaryHDU(make_pixels(), make_header(EXTNAME="DIFF"))],
        "less its background": [fits.PrimaryHDU(make_pixels(), make_header(EXTNAME="BKGSUB"))],
        "compressed": [fits.PrimaryHDU(), fits.CompImageHDU(make_pixels(), make_header(), quantize_level=0)],
        "compressed as fpack does": [fits.PrimaryHDU(), fits.CompImageHDU(
            make_pixels(), fits.PrimaryHDU(make_pixels(), make_header()).header, quantize_level=0
        )],
        "compressed, keywords in the primary": [
            fits.PrimaryHDU(header=make_header()), fits.CompImageHDU(make_pixels(), quantize_level=0),
        ],
    }  # fmt: skip

    @pytest.mark.parametrize(
        "name",
        "VARSTAR STDSTAR PSFMATCHED NOISE_REDUCED BACKGROUND_REMOVED SCIENCE_NO_BACKGROUND BKG_CORRECTED "
        "SEGMENT1 FLAGSTAFF SIERRA SCI IMAGE BKGSUB SKYSUB MODELLESS MASKED".split(),
    )
    def test_names_that_only_resemble_those_of_masks_are_of_cutouts(self, tmp_path, name):
        fits.writeto(tmp_path / "star_1.fits", make_pixels(), make_header(EXTNAME=name))
        np.testing.assert_array_equal(load_cutouts(tmp_path).images[0], make_pixels())

    @pytest.mark.parametrize(
        "name",
        "MASK IMASK SCIMASK SCI_MASK MASK1 maskmap BADPIX BAD_PIXEL_MASK ERR SCIERR ERRMAP VAR VARIANCE IVAR "
        "INVVAR SIGMA UNCERT UNCERTAINTY RMS BKG BKGRMS BACKGROUND SKY PSF PSFMODEL SEGMENTATION SEGMAP "
        "WEIGHT WEIGHT_MAP WHT DQ QUALITY FLAGS COVERAGE NOISE NOISEMAP MODEL DEPTH SNR THUMBNAIL".split(),
    )
    def test_images_beside_cutouts_are_none_by_their_names(self, tmp_path, name):
        fits.writeto(tmp_path / "star_1.fits", make_pixels(), make_header(EXTNAME=name))
        with pytest.raises(CutoutError, match=f"holds no image but {name}"):
            load_cutouts(tmp_path)

    @pytest.mark.parametrize(
        "others",
        [
            [fits.ImageHDU(ONES[:5, :5], make_header())],
            [fits.ImageHDU(ONES, name="REF"), fits.ImageHDU(ONES, name="SUB")],
            [
                fits.ImageHDU(ONES, name="SNR"),
                fits.ImageHDU(ONES, name="CHI2"),
                fits.ImageHDU(ONES, name="DEPTH"),
            ],
        ],
        ids=["thumbnail", "reference and difference", "products"],
    )
    def test_other_images_do_not_hide_the_cutout(self, tmp_path, others):
        cutout = fits.ImageHDU(make_pixels(), make_header(), name="NEW")
        fits.HDUList([fits.PrimaryHDU(), *others, cutout]).writeto(tmp_path / "star_1.fits")
        np.testing.assert_array_equal(load_cutouts(tmp_path).images[0], make_pixels())

    @pytest.mark.parametrize("axes", [(1,), (1, 1)])
    def test_axes_of_length_1_do_not_count(self, tmp_path, axes):
        pixels = make_pixels()
        fits.writeto(tmp_path / "star_1.fits", pixels.reshape(*axes, *pixels.shape), make_header())
        np.testing.assert_array_equal(load_cutouts(tmp_path).images[0], pixels)

    @pytest.mark.parametrize("kind", FILES)
    def test_the_cutout_is_found(self, tmp_path, kind):
        fits.HDUList([hdu.copy() for hdu in self.FILES[kind]]).writeto(tmp_path / "star_1.fits")
        found = load_cutouts(tmp_path)
        np.testing.assert_array_equal(found.images[0], make_pixels())
        write_cutout(tmp_path / "expected" / "star_1.fits")
        expected = load_cutouts(tmp_path / "expected").table
        pd.testing.assert_frame_equal(found.table, expected)

    @pytest.mark.parametrize(
        "hdus, said",
        [
            ([fits.PrimaryHDU(header=make_header()), image_hdu(ONES, "MASK")], "holds no image but MASK"),
            ([fits.PrimaryHDU(ONES, make_header(EXTNAME="DQ"))], "holds no image but DQ"),
            ([fits.PrimaryHDU(ONES, make_header(EXTNAME="QUALITY"))], "holds no image but QUALITY"),
            ([fits.PrimaryHDU(MASK.astype(np.uint8), make_header())], "looks like a mask"),
            (
                [fits.PrimaryHDU(header=make_header()), image_hdu(), image_hdu()],
                r"several images \(HDUs 1, 2\)",
            ),
        ],
        ids=["mask only", "mask only, primary", "quality only", "8 bits", "two images"],
    )
    def test_what_cannot_be_told_is_refused(self, tmp_path, hdus, said):
        fits.HDUList([hdu.copy() for hdu in hdus]).writeto(tmp_path / "star_1.fits")
        with pytest.raises(CutoutError, match=f"star_1.fits: .*{said}"):
            load_cutouts(tmp_path)

    @pytest.mark.parametrize("kind", [np.float32, np.int16, np.float64])
    @pytest.mark.parametrize("junk", [b"\0" * 100, b"junk" * 1000, b"\0" * 2880, b" " * 2880])
    def test_bytes_after_the_last_hdu_are_ignored(self, tmp_path, kind, junk):
        path = write_cutout(tmp_path / "star_1.fits", make_pixels().astype(kind))
        path.write_bytes(path.read_bytes() + junk)
        np.testing.assert_array_equal(load_cutouts(tmp_path).images[0], make_pixels())

    @pytest.mark.parametrize("kind", [np.float32, np.int16])
    @pytest.mark.parametrize("rest", [slice(0), slice(500), slice(None)], ids=["no", "part", "whole"])
    def test_another_copy_after_the_file_is_ignored(self, tmp_path, kind, rest):
        path = write_cutout(tmp_path / "star_1.fits", make_pixels().astype(kind))
        path.write_bytes(path.read_bytes() + path.read_bytes()[rest])
        np.testing.assert_array_equal(load_cutouts(tmp_path).images[0], make_pixels())

    @pytest.mark.parametrize("kind", [np.float32, np.int16])
    def test_padding_may_be_missing_but_no_pixel(self, folder, kind):
        path = write_cutout(folder / "star_1.fits", make_pixels().astype(kind))
        end = len(fits.getheader(path).tostring()) + make_pixels().astype(kind).nbytes
        path.write_bytes(path.read_bytes()[:end])
        np.testing.assert_array_equal(load_cutouts(folder).images[1], make_pixels())
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CutoutError, match="star_1.fits: is cut short"):
            load_cutouts(folder)

    @pytest.mark.parametrize("kind", [np.float32, np.int16])
    @pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zipped])
    def test_compressed_files_are_known_by_their_bytes(self, folder, kind, compress):
        path = write_cutout(folder / "star_1.fits", make_pixels().astype(kind))
        compressed = compress(path.read_bytes())
        path.write_bytes(compressed)
        np.testing.assert_array_equal(load_cutouts(folder).images[1], make_pixels())
        path.write_bytes(compressed + b"junk")
        np.testing.assert_array_equal(load_cutouts(folder).images[1], make_pixels())
        path.write_bytes(compressed[:-5])
        with pytest.raises(CutoutError, match="star_1.fits: is cut short"):
            load_cutouts(folder)

    def test_an_archive_of_several_files_is_named(self, folder):
        content = (folder / "star_0.fits").read_bytes()
        (folder / "star_1.fits").write_bytes(zipped(content, ("a.fits", "b.fits")))
        with pytest.raises(CutoutError, match="star_1.fits: .*is a zip archive of 2 files; unpack it"):
            load_cutouts(folder)

    def test_compressed_files_are_compared_with_their_checksum(self, folder):
        path = write_cutout(folder / "star_1.fits")
        content = bytearray(gzip.compress(path.read_bytes()))
        content[-6] ^= 1
        path.write_bytes(content)
        with pytest.raises(CutoutError, match="star_1.fits: is cut short or damaged .*incorrect data check"):
            load_cutouts(folder)

    @pytest.mark.parametrize("kind", [np.float32, np.int16])
    @pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
    def test_files_that_are_cut_short_are_named(self, tmp_path, kind, suffix):
        write_cutout(tmp_path / "star_0.fits")
        path = write_cutout(
            tmp_path / f"star_1.{suffix}", np.random.default_rng(0).normal(200, 9, (60, 60)).astype(kind)
        )
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(CutoutError, match=f"star_1.{suffix}: is cut short"):
            load_cutouts(tmp_path)


class TestFrames:
    FRAMES = {
        "galactic": {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        "latitude first": {"CTYPE1": "GLAT-TAN", "CTYPE2": "GLON-TAN", "CRVAL1": -2.0, "CRVAL2": 7.0},
        "DEC first": {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -2.0, "CRVAL2": 7.0},
        "B1950": {"RADESYS": "FK4", "EQUINOX": 1950.0},
        "B1950 by its equinox": {"EQUINOX": 1950.0},
        "B1950 by its epoch": {"EPOCH": 1950.0},
        "FK5": {"RADESYS": "FK5", "EQUINOX": 2000.0},
        "FK5 by its equinox": {"EQUINOX": 2000.0},
        "FK5 of 1975": {"RADESYS": "FK5", "EQUINOX": 1975.0},
        "ICRS whatever the equinox": {"RADESYS": "ICRS", "EQUINOX": 1950.0},
        "negative RA": {"CRVAL1": -3.0},
        "RA a little below 0": {"CRVAL1": -1e-15},
        "RA above 360": {"CRVAL1": 725.0},
    }

    NO_PLACES = {
        "ecliptic": ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, "axes are not RA and DEC"),
        "of the Sun": ({"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"}, "axes are not RA and DEC"),
        "wavelength": ({"CTYPE2": "WAVE"}, "axes are not RA and DEC"),
        "no equinox": ({"EQUINOX": 0.0}, "its equinox is 0.0"),
        "no epoch": ({"EPOCH": 0.0}, "its equinox is 0.0"),
        "equinox in years since": ({"RADESYS": "FK5", "EQUINOX": 25.0}, "its equinox is 25.0"),
        "CD of zeros": ({"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0}, "its pixels are of"),
        "CD2 of zeros": ({"CD2_1": 0.0, "CD2_2": 0.0}, "its pixels are of"),
        "CD in arcsec": ({"CD1_1": -1.012, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1.012}, "its pixels are of"),
    }

    @pytest.mark.parametrize("kind", NO_PLACES)
    def test_headers_that_tell_no_place_give_none_with_a_word(self, tmp_path, kind):
        header, said = self.NO_PLACES[kind]
        write_cutout(tmp_path / "star_1.fits", **header)
        with pytest.warns(UserWarning, match=f"star_1.fits: the WCS cannot be used.*{said}"):
            table = load_cutouts(tmp_path).table
        assert table[["ra", "dec"]].isna().all(axis=None)

    def test_rotations_of_old_software_count(self, tmp_path):
        cards = {"PC001001": 0.8776, "PC001002": -0.4794, "PC002001": 0.4794, "PC002002": 0.8776}
        header = make_header(CDELT1=-3e-4, CDELT2=3e-4, CRPIX1=100.0, CRPIX2=-50.0, **cards)
        for key in [key for key in header if key.startswith("CD") and "_" in key]:
            del header[key]
        fits.writeto(tmp_path / "star_1.fits", make_pixels(), header)
        sky = WCS(header).pixel_to_world(*(np.array(make_pixels().shape[::-1]) - 1) / 2)
        table = load_cutouts(tmp_path).table
        np.testing.assert_allclose(table[["ra", "dec"]].iloc[0], [sky.ra.deg, sky.dec.deg], atol=1e-9)

    @pytest.mark.parametrize("kind", FRAMES)
    def test_positions_are_icrs(self, tmp_path, kind):
        path = write_cutout(tmp_path / "star_1.fits", **self.FRAMES[kind])
        sky = WCS(fits.getheader(path)).pixel_to_world(9.5, 9.5).icrs
        found = load_cutouts(tmp_path).table.iloc[0]
        np.testing.assert_allclose([found["ra"], found["dec"]], [sky.ra.deg, sky.dec.deg], atol=1e-9)
        assert 0 <= found["ra"] < 360

    @pytest.mark.parametrize(
        "changes",
        [
            {"CTYPE1": "LINEAR"},
            {"CTYPE2": "GLAT-TAN"},
            {"CTYPE1": "RA---XYZ"},
            {"RADESYS": "GAPPT"},
            {"CRVAL2": 95.0},
            {"CRVAL2": None},
            {"CRPIX1": None},
            {"CTYPE1": None, "CTYPE2": None},
            {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None},
            {"CUNIT1": "foo"},
        ],
        ids=str,
    )
    def test_a_wcs_that_cannot_be_used_costs_no_other_position(self, folder, changes):
        write_cutout(folder / "star_1.fits", **changes)
        write_cutout(folder / "star_2.fits", CRPIX1=30.0)
        with pytest.warns(UserWarning, match="star_1.fits: the WCS cannot be used"):
            table = load_cutouts(folder).table
        assert table["ra"].isna().tolist() == [False, True, False]


class TestObjects:
    """Names such as object_3_zr_20180917123456 state the number of an object of unknown class."""

    def test_numbers_are_a_column_of_integers_in_natural_order(self, tmp_path):
        for number in (10, 2):
            write_cutout(tmp_path / f"object_{number}_zr_20180917123456.fits")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cutouts = load_cutouts(tmp_path)
        assert cutouts.table["object"].dtype == np.int64
        assert cutouts.table["object"].tolist() == [2, 10]
        assert cutouts.labels.tolist() == [-1, -1]

    def test_files_of_other_names_are_of_no_object_and_warned_of(self, tmp_path):
        for name in ("object_2_zr_20180917123456", "objects_3", "star_4_zr_20180917123456"):
            write_cutout(tmp_path / f"{name}.fits")
        with pytest.warns(UserWarning, match="1 of 3 names start with neither"):
            cutouts = load_cutouts(tmp_path)
        assert cutouts.table["object"].tolist() == [2, -1, -1]
        assert cutouts.labels.tolist() == [-1, -1, 0]

    def test_folder_without_them_has_no_such_column(self, tmp_path):
        write_cutout(tmp_path / "star_4_zr_20180917123456.fits")
        assert "object" not in load_cutouts(tmp_path).table
