import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from ztf_sg import load_cutouts
from ztf_sg.cutouts import CutoutError, read_cutout

NEEDED = ("SEEING", "MAGZP", "FILTER", "OBSMJD", "EXPTIME", "GAIN", "SATURATE", "ORIGIN")


def make_header(**changes):
    """Return the header of a cutout at RA 7, DEC -2; None takes a keyword away."""
    header = {
        "ORIGIN": "Zwicky Transient Facility", "FILTER": "ZTF_i", "OBSMJD": 58738.4, "EXPTIME": 30.0,
        "GAIN": 6.2, "SATURATE": 49100.0, "SEEING": 1.7, "MAGZP": 25.6,
        **{f"APCOR{i}": -0.1 * (7 - i) for i in range(1, 7)},
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 7.0, "CRVAL2": -2.0,
        "CRPIX1": 10.5, "CRPIX2": 10.5, "CD1_1": -2.8e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -2.8e-4,
    }  # fmt: skip
    header |= changes
    return fits.Header({key: value for key, value in header.items() if value is not None})


def make_pixels(shape=(20, 20)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 200


def write_cutout(path, pixels=None, **changes):
    pixels = make_pixels() if pixels is None else pixels
    fits.PrimaryHDU(pixels, make_header(**changes)).writeto(path)
    return path


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
        table = load_cutouts(folder).table
        assert table["ra"].isna().tolist() == [False, True]
        assert table["dec"].isna().tolist() == [False, True]


class TestBadFiles:
    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
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
