import resource
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztf_sg import CutoutSet, load_cutouts
from ztf_sg.cutouts.dataset import CutoutError, natural_key, read_cutout, read_image_csv, write_image_csv

COLUMNS = ["name", "ra", "dec", "seeing", "magzp", "filter", "obsmjd", "exptime", "gain", "saturate"]
COLUMNS += ["apcor1", "apcor2", "apcor3", "apcor4", "apcor5", "apcor6", "origin"]
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


class TestCutoutSet:
    def test_images_are_float32_counts_of_20_by_20_pixels(self, cutouts):
        assert cutouts.images.dtype == np.float32
        assert cutouts.images.dtype.isnative
        assert cutouts.images.shape == (24, 20, 20)

    def test_labels_are_int8(self, cutouts):
        assert cutouts.labels.dtype == np.int8
        assert cutouts.labels.tolist() == [1] * 12 + [0] * 12

    def test_table_has_the_agreed_columns(self, cutouts):
        assert list(cutouts.table.columns) == COLUMNS
        assert list(cutouts.table.index) == list(range(24))
        numbers = cutouts.table.drop(columns=["name", "filter", "origin"])
        assert all(dtype == np.float64 for dtype in numbers.dtypes)
        assert numbers.notna().all(axis=None)

    def test_pixels_and_metadata_are_those_of_the_files(self, cutouts, simulated_cutouts):
        for image, row in zip(cutouts.images, cutouts.table.itertuples(), strict=True):
            pixels, header = fits.getdata(simulated_cutouts / f"{row.name}.fits", header=True)
            np.testing.assert_array_equal(image, pixels)
            for key in COLUMNS[3:]:
                assert getattr(row, key) == header[key.upper()]

    def test_length_is_the_number_of_cutouts(self, cutouts):
        assert len(cutouts) == 24

    def test_repr_counts_the_classes(self, cutouts):
        assert repr(cutouts) == "CutoutSet(12 stars, 12 galaxies, 0 unknown; 20 x 20 px)"

    @pytest.mark.parametrize(
        ("index", "rows"),
        [
            (slice(3, 9, 2), [3, 5, 7]),
            (slice(None, None, -1), list(range(23, -1, -1))),
            (5, [5]),
            (-1, [23]),
            (np.int64(4), [4]),
            ([2, 2, 0], [2, 2, 0]),
            (np.array([7, -1]), [7, 23]),
            (np.arange(24) % 10 == 0, [0, 10, 20]),
            (pd.Series(np.arange(24) >= 22), [22, 23]),
            (np.zeros(24, dtype=bool), []),
        ],
    )
    def test_indexing_keeps_pixels_labels_and_table_together(self, cutouts, index, rows):
        part = cutouts[index]
        assert isinstance(part, CutoutSet)
        assert len(part) == len(rows)
        np.testing.assert_array_equal(part.images, cutouts.images[rows])
        np.testing.assert_array_equal(part.labels, cutouts.labels[rows])
        pd.testing.assert_frame_equal(part.table, cutouts.table.iloc[rows].reset_index(drop=True))

    @pytest.mark.parametrize("index", [24, -25, [0, 99], np.ones(3, dtype=bool)])
    def test_index_out_of_range_raises(self, cutouts, index):
        with pytest.raises(IndexError):
            cutouts[index]

    def test_rows_that_do_not_match_are_refused(self, cutouts):
        with pytest.raises(ValueError, match="'labels': 23"):
            CutoutSet(cutouts.images, cutouts.labels[1:], cutouts.table)

    def test_single_image_is_refused(self, cutouts):
        with pytest.raises(ValueError, match=r"\(20, 20\)"):
            CutoutSet(cutouts.images[0], cutouts.labels, cutouts.table)


class TestNamesAndLabels:
    def test_files_come_in_natural_order(self, tmp_path):
        for name in ("star_10", "star_2", "galaxy_1", "star_0", "galaxy_11", "galaxy_3"):
            write_cutout(tmp_path / f"{name}.fits")
        names = load_cutouts(tmp_path).table["name"].tolist()
        assert names == ["galaxy_1", "galaxy_3", "galaxy_11", "star_0", "star_2", "star_10"]

    @given(st.lists(st.integers(0, 10**6), unique=True))
    def test_natural_order_is_that_of_the_numbers(self, numbers):
        names = [f"star_{number}.fits" for number in numbers]
        assert sorted(names, key=natural_key) == [f"star_{number}.fits" for number in sorted(numbers)]

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

    def test_set_of_cutouts_is_no_array(self, cutouts):
        with pytest.raises(TypeError, match="pass its .images"):
            np.asarray(cutouts)

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

    def test_unknown_way_with_errors_is_refused(self, folder):
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


def float32_stacks():
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=finite))


class TestImageCsv:
    @given(images=float32_stacks(), data=st.data())
    def test_round_trip_keeps_float32_values_and_labels(self, tmp_path_factory, images, data):
        labels = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(images), max_size=len(images)))
        path = tmp_path_factory.getbasetemp() / "round_trip.csv"
        write_image_csv(path, images, labels)
        pixels, read_labels = read_image_csv(path)
        assert pixels.dtype == np.float64
        assert read_labels.dtype == np.int8
        np.testing.assert_array_equal(pixels.astype(np.float32), images.reshape(len(images), -1))
        np.testing.assert_array_equal(read_labels, labels)

    def test_rows_are_label_then_pixels_row_by_row(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, [[[1.5, 2], [3, 4]], [[5, 6], [7, 8]]], [1, -1])
        table = np.loadtxt(path, delimiter=",")
        np.testing.assert_array_equal(table, [[1, 1.5, 2, 3, 4], [-1, 5, 6, 7, 8]])

    def test_cutouts_round_trip(self, tmp_path, cutouts):
        path = tmp_path / "raw_image_data.csv"
        write_image_csv(path, cutouts.images, cutouts.labels)
        pixels, labels = read_image_csv(path)
        np.testing.assert_array_equal(pixels.astype(np.float32).reshape(cutouts.images.shape), cutouts.images)
        np.testing.assert_array_equal(labels, cutouts.labels)

    @pytest.mark.parametrize(
        ("content", "row"),
        [
            ("0,1,2\n1,nan,4\n", "row 2"),
            ("0,1,2\n1,3,\n", "row 2"),
            ("0,1,2\n1,inf,4\n1,inf,5\n", "row 2"),
            ("7,1,2\n1,3,4\n", "row 1"),
            ("0,1,2\n0,1,2\n0.5,3,4\n", "row 3"),
            (",1,2\n", "row 1"),
        ],
        ids=["nan", "gap", "infinite", "label_7", "half_label", "no_label"],
    )
    def test_bad_value_is_named_by_file_and_row(self, tmp_path, content, row):
        path = tmp_path / "images.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"images\.csv: {row} "):
            read_image_csv(path)

    @pytest.mark.parametrize(
        "content",
        ["0,1,2\n1,3\n", "0,1,2\n1,3,4,5\n", "0,1,2\n1,abc,4\n", "0,2019-09-17,2\n", "0,12:30:00,2\n", ""],
        ids=["short_row", "long_row", "text", "date", "time", "empty_file"],
    )
    def test_file_that_is_no_table_of_numbers_is_named(self, tmp_path, content):
        path = tmp_path / "images.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match=r"images\.csv"):
            read_image_csv(path)

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"images\.csv: no such file"):
            read_image_csv(tmp_path / "images.csv")

    def test_write_with_too_few_labels_keeps_the_old_file(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, make_pixels((1, 2, 2)), [0])
        before = path.read_bytes()
        with pytest.raises(ValueError):
            write_image_csv(path, make_pixels((3, 2, 2)), [0, 1])
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_write_that_fails_half_way_leaves_no_half_file(self, tmp_path):
        path = tmp_path / "images.csv"
        write_image_csv(path, make_pixels((1, 2, 2)), [0])
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(OSError):
                write_image_csv(path, np.random.default_rng(0).normal(size=(2000, 20, 20)), np.zeros(2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
