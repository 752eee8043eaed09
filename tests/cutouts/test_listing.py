import bz2
import gzip
import lzma
import os
import tempfile
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from helpers import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st

from ztf_sg import CutoutSet, classify_survey, load_cutouts
from ztf_sg.cutouts import (
    CutoutError,
    cutout_names,
    iter_parquet,
    list_cutouts,
    list_files,
    list_source,
    load_files,
    row_group_sizes,
)
from ztf_sg.cutouts.listing import hive_columns

BUNDLED = ROOT / "cutouts_test"
PLAIN = (BUNDLED / "star_0.fits").read_bytes()


def numbered(number):
    """Return the content of a FITS cutout whose first pixel is a number."""
    pixels = fits.getdata(BytesIO(PLAIN)).astype(">f4")
    start = PLAIN.index(pixels.tobytes())
    return PLAIN[:start] + np.array(number, ">f4").tobytes() + PLAIN[start + 4 :]


def zipped(content):
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("cutout.fits", content)
    return packed.getvalue()


def tile_compressed(content):
    packed = BytesIO()
    pixels, header = fits.getdata(BytesIO(content), header=True)
    image = fits.CompImageHDU(pixels, header, quantize_level=0, compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(packed)
    return packed.getvalue()


COMPRESSIONS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
    ".fz": tile_compressed,
}


def put(path, content=PLAIN):
    """Write a file, and its folders if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_all(folder, *names):
    for number, name in enumerate(names):
        put(folder / name, numbered(number))


def load_silently(read, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(*arguments, **options)


@pytest.fixture(scope="module")
def cutouts():
    return load_files([BUNDLED / f"{kind}_{n}.fits" for n in range(3) for kind in ("star", "galaxy")])


@pytest.fixture(scope="module")
def parquet(cutouts, tmp_path_factory):
    """Return the content of a Parquet file of six cutouts."""
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    cutouts.to_parquet(path)
    return path.read_bytes()


class TestFitsFolders:
    @pytest.mark.parametrize("suffix", [".fits", ".fit", ".fts", ".FITS", ".Fts"])
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_suffixes_in_any_case_and_compressed_files_are_read(self, tmp_path, suffix, compression):
        content = COMPRESSIONS[compression](numbered(7))
        put(tmp_path / f"galaxy_1{suffix}{compression.upper()}", content)
        put(tmp_path / f"star_1{suffix}{compression}", content)
        found = load_silently(load_cutouts, tmp_path)
        assert found.table["name"].tolist() == ["galaxy_1", "star_1"]
        assert found.labels.tolist() == [1, 0]
        np.testing.assert_array_equal(found.images[0], fits.getdata(BytesIO(numbered(7))))
        np.testing.assert_array_equal(found.images[0], found.images[1])

    def test_subfolders_are_read_in_natural_order_and_are_part_of_the_name(self, tmp_path):
        names = ["night2/star_10.fits", "night2/star_2.fits.gz", "night10/deep/galaxy_1.fits", "star_1.fits"]
        for name in names:
            put(tmp_path / name, gzip.compress(PLAIN) if name.endswith("gz") else PLAIN)
        found = load_silently(load_cutouts, tmp_path)
        expected = ["night2/star_2", "night2/star_10", "night10/deep/galaxy_1", "star_1"]
        assert found.table["name"].tolist() == expected
        assert found.labels.tolist() == [0, 0, 1, 0]

    def test_files_that_would_share_a_name_are_both_read_and_keep_their_suffixes(self, tmp_path):
        put_all(tmp_path, "star_1.fits", "star_1.FIT", "star_2.fits", "night/star_1.fits")
        put(tmp_path / "star_1.fits.gz", gzip.compress(numbered(9)))
        found = load_silently(load_cutouts, tmp_path)
        first_pixels = dict(zip(found.table["name"], found.images[:, 0, 0].tolist(), strict=True))
        kept = {"star_1.fits": 0, "star_1.FIT": 1, "star_1.fits.gz": 9}
        assert first_pixels == kept | {"star_2": 2, "night/star_1": 3}
        assert found.labels.tolist() == [0] * 5

    def test_names_that_keep_their_suffix_may_not_meet_others(self, tmp_path):
        put_all(tmp_path, "star_1.fits", "star_1.fit", "star_1.fits.fits")
        assert len(set(cutout_names(list_cutouts(tmp_path), tmp_path))) == 3

    def test_skipped_files_are_named_within_the_folder_and_with_suffix(self, tmp_path):
        put_all(tmp_path, "star_1.fits", "star_2.fits")
        put(tmp_path / "night" / "star_1.fits", b"")
        put(tmp_path / "night" / "star_1.fits.gz", gzip.compress(PLAIN)[:-900])
        pixels, header = fits.getdata(BytesIO(PLAIN), header=True)
        fits.PrimaryHDU(pixels[1:], header).writeto(tmp_path / "night" / "star_3.fits")
        found = load_cutouts(tmp_path, on_error="skip")
        assert len(found) == 2
        names = [f"night/{name}" for name in ("star_1.fits", "star_1.fits.gz", "star_3.fits")]
        assert found.skipped["name"].tolist() == names
        with pytest.raises(CutoutError, match=r"night/star_1\.fits"):
            load_cutouts(tmp_path)

    def test_paths_alone_are_named_by_the_file(self, tmp_path):
        paths = [put(tmp_path / name) for name in ("a/star_1.fits", "b/star_2.FITS")]
        assert load_files([str(path) for path in paths]).table["name"].tolist() == ["star_1", "star_2"]

    def test_names_that_are_no_text_are_written_out(self, tmp_path):
        try:
            put(tmp_path / os.fsdecode(b"star_\xe9.fits"))
        except OSError:
            pytest.skip("this file system takes no such names")
        put(tmp_path / os.fsdecode(b"star_\xe8.fits"), b"")
        put(tmp_path / "star_ü.fits")
        found = load_cutouts(tmp_path, on_error="skip")
        assert set(found.table["name"]) == {r"star_\udce9", "star_ü"}
        assert found.skipped["name"].tolist() == [r"star_\udce8.fits"]
        found.to_parquet(tmp_path / "a.parquet")
        found.skipped.to_csv(tmp_path / "skipped.csv")

    def test_bundled_folder_gives_no_warning(self):
        assert len(load_silently(list_cutouts, BUNDLED)) == 1500


class TestLinksAndOddEntries:
    def test_links_in_a_circle_end_and_every_folder_is_read_once(self, tmp_path):
        folder = tmp_path / "nights"
        put_all(folder, "night1/star_1.fits", "night2/star_1.fits")
        put(tmp_path / "outside" / "star_3.fits")
        (folder / "night1" / "up").symlink_to(folder)
        (folder / "above").symlink_to(tmp_path)
        (folder / "again").symlink_to(folder / "night2")
        (folder / "linked").symlink_to(tmp_path / "outside")
        (tmp_path / "outside" / "back").symlink_to(folder / "linked")
        names = load_silently(load_cutouts, folder).table["name"].tolist()
        assert names == ["linked/star_3", "night1/star_1", "night2/star_1"]

    def test_source_that_is_a_link_in_a_circle_is_named(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        for read in (load_cutouts, CutoutSet.read_parquet, list_source):
            with pytest.raises(FileNotFoundError, match="loop: no such"):
                read(tmp_path / "loop")

    def test_links_to_missing_files_and_to_themselves_are_named(self, tmp_path):
        put(tmp_path / "star_0.fits")
        (tmp_path / "star_1.fits").symlink_to(tmp_path / "gone.fits")
        (tmp_path / "star_2.fits").symlink_to("star_2.fits")
        found = load_cutouts(tmp_path, on_error="skip")
        assert found.table["name"].tolist() == ["star_0"]
        assert found.skipped["name"].tolist() == ["star_1.fits", "star_2.fits"]

    def test_pipes_and_devices_are_not_waited_for(self, tmp_path):
        put(tmp_path / "star_0.fits")
        os.mkfifo(tmp_path / "star_1.fits")
        os.mkfifo(tmp_path / "a.parquet")
        (tmp_path / "star_2.fits").symlink_to("/dev/zero")
        with pytest.warns(UserWarning, match="passed over 3 pipes or devices"):
            assert len(load_cutouts(tmp_path)) == 1
        for read in (load_cutouts, CutoutSet.read_parquet, list_source):
            with pytest.raises(FileNotFoundError, match="a.parquet: (is a file|is neither a file nor)"):
                read(tmp_path / "a.parquet")

    def test_folders_named_like_files_are_folders(self, tmp_path, parquet):
        put_all(tmp_path, "x.fits/star_1.fits", "star_2.fits")
        assert load_cutouts(tmp_path).table["name"].tolist() == ["star_2", "x.fits/star_1"]
        put(tmp_path / "y.parquet" / "part.0.parquet", parquet)
        assert len(CutoutSet.read_parquet(tmp_path / "y.parquet")) == 6

    @pytest.mark.parametrize("read", [load_cutouts, CutoutSet.read_parquet, row_group_sizes, list_source])
    def test_folder_without_permission_is_named(self, tmp_path, monkeypatch, read):
        forbid(monkeypatch, tmp_path)
        with pytest.raises(PermissionError, match=f"cannot be read .*have its owner.*{tmp_path.name}"):
            read(tmp_path)

    def test_subfolder_without_permission_costs_no_other(self, tmp_path, monkeypatch):
        put_all(tmp_path, "night1/star_1.fits", "night2/star_1.fits")
        forbid(monkeypatch, tmp_path / "night2")
        with pytest.warns(UserWarning, match=r"folder night2 \(Permission denied\) \(have its owner"):
            assert load_cutouts(tmp_path).table["name"].tolist() == ["night1/star_1"]


def forbid(monkeypatch, folder):
    """Let a folder be one that this user may not read, which root may."""
    scan = os.scandir

    def scandir(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


class TestWhatIsPassedOver:
    IGNORED = (
        *("._star_1.fits", ".DS_Store", ".star_2.fits.swp", ".images/ztf_1.fits", "__MACOSX/._star_1.fits"),
        *("_temporary/0/a.parquet", "_metadata", "_common_metadata", "_SUCCESS", ".part-0.parquet.crc"),
        *(
            "manifest.csv",
            "truth.csv",
            "README",
            "LICENSE",
            "README.md",
            "notes.TXT",
            "plot.png",
            "fetch.log",
        ),
        *("star_1.fits.part", "star_1.fits~", "a.lock", "settings.json", "night/.DS_Store"),
    )

    @pytest.mark.parametrize("name", IGNORED)
    def test_what_is_no_data_is_ignored_without_a_word(self, tmp_path, name, parquet):
        for folder, data, content, read in (
            (tmp_path / "fits", "star_0.fits", PLAIN, load_cutouts),
            (tmp_path / "parquet", "a.parquet", parquet, CutoutSet.read_parquet),
        ):
            put(folder / data, content)
            put(folder / name, b"no data")
            assert len(load_silently(read, folder)) in (1, 6)

    @pytest.mark.parametrize(
        "names, message",
        [
            (["a.parquet", "n/b.parquet"], r"2 \.parquet \(read them with CutoutSet.read_parquet"),
            (["a.parq", "b.PARQ", "c.pq"], r"2 \.parq, 1 \.pq \(read them with CutoutSet.read_parquet"),
            (["a.zip", "b.tar.gz", "c.tgz"], r"1 \.tar\.gz, 1 \.tgz, 1 \.zip \(unpack them first\)"),
            (["star_1.fits.zst", "a.fits.Z"], r"1 \.fits\.z, 1 \.fits\.zst \(unpack them first\)"),
            (["a.npy", "b.npz", "c.h5"], r"1 \.h5, 1 \.npy, 1 \.npz \(hand their arrays to CutoutSet"),
            (["a.new", "star_2"], r"1 \.new, 1 named without suffix \(give them their suffix"),
            ([f"image.{number}" for number in range(20)], r"1 \.0, .* 1 \.4, 15 others \(give them"),
            (["a.parquet", "b.zip"], r"1 \.zip \(unpack them first\); 1 \.parquet \(read them"),
        ],
    )
    def test_what_looks_like_data_is_counted_with_a_remedy(self, tmp_path, names, message):
        for name in names:
            put(tmp_path / name, b"something")
        with pytest.raises(FileNotFoundError, match=rf"holds no FITS files; it holds {message}"):
            load_cutouts(tmp_path)
        put(tmp_path / "star_0.fits")
        with pytest.warns(UserWarning, match=message) as told:
            assert len(load_cutouts(tmp_path)) == 1
        assert len(told) == 1

    def test_fits_beside_parquet_are_counted(self, tmp_path, parquet):
        put_all(tmp_path, "star_1.fits", "night/star_2.FITS")
        with pytest.raises(FileNotFoundError, match=r"no \*.parquet files; it holds 2 \.fits \(read them"):
            CutoutSet.read_parquet(tmp_path)
        put(tmp_path / "a.parquet", parquet)
        for read in (CutoutSet.read_parquet, row_group_sizes, lambda path: list(iter_parquet(path))):
            with pytest.warns(UserWarning, match=r"passed over 2 \.fits \(read them with load") as told:
                read(tmp_path)
            assert len(told) == 1

    def test_folder_of_what_is_no_data_says_so(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no FITS files; it holds nothing else; make cutouts"):
            load_cutouts(tmp_path)
        for name in ("._star_1.fits", "._star_2.fits", "a.txt"):
            put(tmp_path / name)
        with pytest.raises(FileNotFoundError, match=r"2 hidden, 1 \.txt; make cutouts with notebook 2"):
            load_cutouts(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no Parquet files and no FITS files; it holds 2 hidden"):
            list_source(tmp_path)

    def test_files_in_place_of_folders_are_named_with_what_reads_them(self, tmp_path, parquet):
        with pytest.raises(FileNotFoundError, match="a.parquet: is a file; read it with CutoutSet"):
            load_cutouts(put(tmp_path / "a.parquet", parquet))
        for read in (CutoutSet.read_parquet, list_source):
            with pytest.raises(FileNotFoundError, match="star_1.fits: is a FITS file; name the folder"):
                read(put(tmp_path / "star_1.fits"))


def columns_by_pyarrow(folder):
    """Return the partition columns of a hive folder as pyarrow's datasets read them."""
    found = pyarrow.dataset.dataset(folder, partitioning="hive", exclude_invalid_files=True)
    keys = [name for name in found.schema.names if name not in pq.read_schema(found.files[0]).names]
    rows = {}
    for fragment in found.get_fragments():
        keys_of_file = pyarrow.dataset.get_partition_keys(fragment.partition_expression)
        rows[fragment.path] = {
            key: pa.scalar(keys_of_file.get(key), found.schema.field(key).type) for key in keys
        }
    return rows


class TestParquetFolders:
    @pytest.mark.parametrize(
        "suffix", [".parquet", ".parq", ".pq", ".PARQUET", ".snappy.parquet", ".parquet.gzip"]
    )
    def test_suffixes_in_any_case_are_read(self, tmp_path, parquet, cutouts, suffix):
        put(tmp_path / f"a{suffix}", parquet)
        put(tmp_path / "night" / f"b{suffix}", parquet)
        assert len(load_silently(CutoutSet.read_parquet, tmp_path)) == 12
        assert row_group_sizes(tmp_path) == [6, 6]

    def test_subfolders_are_read_in_natural_order(self, tmp_path, parquet):
        for name in ("b/part_10.parquet", "b/part_9.parquet", "a10/x.parquet", "a9/x.parquet"):
            put(tmp_path / name, parquet)
        names = [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path)]
        assert names == ["a9/x.parquet", "a10/x.parquet", "b/part_9.parquet", "b/part_10.parquet"]

    def test_hive_keys_become_the_columns_that_files_lack(self, tmp_path, cutouts):
        table = cutouts.to_table().drop_columns(["filter"])
        for folder in ("filter=ZTF_g/night=1", "filter=ZTF%20r/night=2"):
            (tmp_path / folder).mkdir(parents=True)
            pq.write_table(table, tmp_path / folder / "part-0.parquet")
        found = CutoutSet.read_parquet(tmp_path)
        assert found.table["filter"].tolist() == ["ZTF r"] * 6 + ["ZTF_g"] * 6
        assert found.table["night"].tolist() == [2] * 6 + [1] * 6
        for path in (tmp_path / "filter=ZTF_g", tmp_path / "filter=ZTF_g/night=1/part-0.parquet"):
            assert set(CutoutSet.read_parquet(path).table["filter"]) == {"ZTF_g"}
        found.to_parquet(tmp_path / "again.parquet")

    def test_columns_of_the_files_win_over_hive_keys(self, tmp_path, parquet, cutouts):
        put(tmp_path / "filter=ZTF_u" / "a.parquet", parquet)
        assert CutoutSet.read_parquet(tmp_path).table["filter"].tolist() == cutouts.table["filter"].tolist()

    def test_hive_folder_of_empty_files_has_the_columns(self, tmp_path, cutouts):
        table = cutouts.to_table().drop_columns(["filter"])
        (tmp_path / "filter=ZTF_g").mkdir()
        pq.write_table(table.slice(0, 0), tmp_path / "filter=ZTF_g" / "a.parquet")
        assert len(CutoutSet.read_parquet(tmp_path)) == 0

    @given(st.lists(st.sampled_from(["1", "22", "-3", "x", "1.5", "a b", "a%2Fb", "", "ü", "%"]), min_size=1))
    def test_hive_types_are_those_of_pyarrow(self, parquet_folder, values):
        folder = Path(tempfile.mkdtemp(dir=parquet_folder))
        paths = [put(folder / f"key={value}" / "a.parquet", EMPTY_PARQUET) for value in set(values)]
        expected = columns_by_pyarrow(folder)
        assert {str(path): found for path, found in zip(paths, hive_columns(paths), strict=True)} == expected

    def test_hive_keys_of_folders_above_do_not_count(self, tmp_path, cutouts):
        folder = tmp_path / "label=test" / "seeing=1.5" / "data"
        folder.mkdir(parents=True)
        cutouts.to_parquet(folder / "a.parquet")
        assert hive_columns([folder / "a.parquet"]) == [{}]
        assert CutoutSet.read_parquet(folder).labels.tolist() == cutouts.labels.tolist()

    def test_patterns_are_told_from_folders(self, tmp_path):
        for read in (
            load_cutouts,
            CutoutSet.read_parquet,
            lambda path: classify_survey(path, tmp_path / "out"),
        ):
            with pytest.raises(FileNotFoundError, match="patterns are not expanded: name the folder"):
                read(tmp_path / "night*" / "*.fits")

    def test_hive_keys_may_have_no_value(self, tmp_path):
        paths = [tmp_path / "n=__HIVE_DEFAULT_PARTITION__" / "a.parquet", tmp_path / "n=4" / "a.parquet"]
        assert [columns["n"].as_py() for columns in hive_columns(paths)] == [None, 4]
        assert hive_columns(paths[:1])[0]["n"].as_py() is None
        assert hive_columns([Path("q=100%ff/a.parquet"), Path("=x/a.parquet")])[1] == {}

    def test_files_of_other_column_order_and_types_are_read(self, tmp_path, cutouts):
        table = cutouts.to_table()
        pq.write_table(table.select(table.column_names[::-1]), tmp_path / "a.parquet")
        exptime = table.schema.names.index("exptime")
        pq.write_table(table.set_column(exptime, "exptime", pa.array([30] * 6)), tmp_path / "b.parquet")
        pq.write_table(table.append_column("field", pa.array([1] * 6)), tmp_path / "c.parquet")
        found = CutoutSet.read_parquet(tmp_path)
        assert len(found) == 18 and set(found.table["exptime"]) == {30.0}
        assert found.table["field"].isna().sum() == 12

    def test_underscored_parquet_is_passed_over_with_a_word(self, tmp_path, parquet):
        put(tmp_path / "a.parquet", parquet)
        put(tmp_path / "_b.parquet", parquet)
        with pytest.warns(UserWarning, match=r"1 _\*\.parquet \(rename them if they hold cutouts"):
            assert len(CutoutSet.read_parquet(tmp_path)) == 6

    def test_underscored_folders_are_passed_over_with_a_word(self, tmp_path, parquet):
        for folder in ("_old", "night/_old"):
            put(tmp_path / folder / "star_1.fits")
            put(tmp_path / folder / "a.parquet", parquet)
        message = "1 folder _old, 1 folder night/_old .rename it if it holds cutouts"
        for read in (load_cutouts, CutoutSet.read_parquet):
            with pytest.raises(FileNotFoundError, match=message):
                read(tmp_path)
        put_all(tmp_path, "star_0.fits", "_star_1.fits")
        with pytest.warns(UserWarning, match=message):
            assert list_cutouts(tmp_path) == [tmp_path / "_star_1.fits", tmp_path / "star_0.fits"]

    def test_results_of_a_survey_are_no_cutouts(self, tmp_path, parquet):
        results = tmp_path / "classified"
        put(results / "part-00000.parquet", parquet)
        put(results / "_survey" / "settings.json", b"{}")
        with pytest.raises(
            FileNotFoundError,
            match=r"1 part-\*.parquet \(results of classify_survey, which hold no images.; or name another",
        ):
            CutoutSet.read_parquet(results)
        put(tmp_path / "a.parquet", parquet)
        put(results / "b.parquet", parquet)
        with pytest.warns(UserWarning, match=r"passed over 1 part-\*.parquet \(results of classify_survey"):
            assert len(CutoutSet.read_parquet(tmp_path)) == 12


EMPTY_PARQUET = b""


@pytest.fixture(scope="module")
def parquet_folder(tmp_path_factory):
    """Return a folder for trees of files without rows."""
    global EMPTY_PARQUET
    folder = tmp_path_factory.mktemp("trees")
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), folder / "empty")
    EMPTY_PARQUET = (folder / "empty").read_bytes()
    return folder


def put_catalogue(folder, parquet, kind="object", names=("Norder=0/Dir=0/Npix=4.parquet",)):
    put(folder / "hats.properties", f"#HATS catalog\nobs_collection=c\ndataproduct_type={kind}\n".encode())
    for name in names:
        put(folder / "dataset" / name, parquet)
    for name in ("dataset/_metadata", "dataset/_common_metadata", "partition_info.csv"):
        put(folder / name, b"no data")
    for name in ("dataset/data_thumbnail.parquet", "per_partition_statistics.parquet"):
        put(folder / name, parquet)
    for name in ("skymap.fits", "point_map.fits"):
        put(folder / name)


class TestHats:
    NAMES = (
        "Norder=1/Dir=0/Npix=44.parquet",
        "Norder=1/Dir=0/Npix=45.parq",
        "Norder=2/Dir=0/Npix=9/part0.parquet",
    )

    def test_catalogue_is_read_once_and_without_a_word(self, tmp_path, parquet):
        put_catalogue(tmp_path / "stars", parquet, names=self.NAMES)
        for path in (tmp_path, tmp_path / "stars", tmp_path / "stars" / "dataset"):
            found = load_silently(CutoutSet.read_parquet, path)
            assert len(found) == 18
            assert not {"Norder", "Dir", "Npix"} & set(found.table)
        assert load_silently(list_source, tmp_path)[1]

    def test_catalogue_without_properties_is_read_once(self, tmp_path, parquet):
        for name in (*self.NAMES, "data_thumbnail.parquet"):
            put(tmp_path / "dataset" / name, parquet)
        assert len(load_silently(CutoutSet.read_parquet, tmp_path)) == 18

    @pytest.mark.parametrize("primary", ["stars", "./stars/", " stars"])
    def test_of_a_collection_only_the_primary_catalogue_is_read(self, tmp_path, parquet, primary):
        lines = ["#HATS collection", f"hats_primary_table_url={primary}", "all_margins=stars_10arcs"]
        put(tmp_path / "collection.properties", "\n".join(lines).encode())
        put_catalogue(tmp_path / "stars", parquet, names=self.NAMES)
        put_catalogue(tmp_path / "stars_10arcs", parquet, kind="margin")
        put(tmp_path / "stars_id" / "dataset" / "index" / "part.0.parquet", parquet)
        with pytest.warns(
            UserWarning, match="catalogue stars_10arcs, 1 catalogue stars_id .it repeats"
        ) as told:
            assert len(CutoutSet.read_parquet(tmp_path)) == 18
        assert len(told) == 1
        assert len(load_silently(CutoutSet.read_parquet, tmp_path / "stars_10arcs")) == 6

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"hats_primary_table_url=gone"])
    def test_collection_of_unknown_primary_leaves_out_what_says_that_it_repeats_rows(
        self, tmp_path, parquet, content
    ):
        put(tmp_path / "collection.properties", content)
        put_catalogue(tmp_path / "stars", parquet)
        put_catalogue(tmp_path / "margin", parquet, kind="margin")
        with pytest.warns(UserWarning, match="1 margin catalogue"):
            assert len(CutoutSet.read_parquet(tmp_path)) == 6


GOOD = {
    f"{suffix}{packed}": pack for suffix in (".fits", ".FIT", ".fts") for packed, pack in COMPRESSIONS.items()
}
BAD = {".fits": b"", ".fit": b"<html>", ".fits.gz": gzip.compress(PLAIN)[:-700], ".FTS.bz2": b"BZh9junk"}
OTHER = (".txt", ".parquet", ".zip", ".npy", ".odd", "", ".fits.part", ".tar.gz")
KINDS = st.one_of(
    st.tuples(st.just("good"), st.sampled_from(sorted(GOOD))),
    st.tuples(st.just("bad"), st.sampled_from(sorted(BAD))),
    st.tuples(st.just("other"), st.sampled_from(OTHER)),
    st.tuples(st.sampled_from(["pipe", "broken link", "folder", "circle"]), st.just(".fits")),
)
STEMS = st.sampled_from(
    ["star_1", "galaxy_2", "star_10", "x", "star 3", "star_ü", "._star_1", "_star_1", "a=b"]
)
FOLDERS = st.sampled_from(["", "night1", "night1/deep", "a.fits", "filter=zi"])


class TestArbitraryFolders:
    @given(st.dictionaries(st.tuples(FOLDERS, STEMS), KINDS, min_size=1, max_size=12))
    def test_every_good_record_is_loaded_once_and_every_bad_one_is_named(self, entries):
        with tempfile.TemporaryDirectory() as name:
            good, bad = self.write(Path(name), entries)
            assume(good)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", UserWarning)
                found = load_cutouts(name, on_error="skip")
        assert sorted(found.images[:, 0, 0].tolist()) == sorted(good)
        assert found.table["name"].is_unique
        assert set(found.skipped["name"]) == bad
        for row in found.skipped.itertuples():
            assert row.name.rpartition("/")[2] in row.reason

    @given(st.dictionaries(st.tuples(FOLDERS, STEMS), KINDS, max_size=8), st.sampled_from(["raise", "skip"]))
    def test_nothing_but_the_documented_errors_is_raised(self, entries, on_error):
        with tempfile.TemporaryDirectory() as name:
            self.write(Path(name), entries)
            for read in (load_cutouts, CutoutSet.read_parquet):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    try:
                        read(name, on_error=on_error)
                    except (CutoutError, FileNotFoundError) as error:
                        assert Path(name).name in str(error)

    @given(
        st.dictionaries(
            st.tuples(FOLDERS, STEMS), st.sampled_from([".parquet", ".PARQ", ".pq", *OTHER]), max_size=8
        )
    )
    def test_every_good_parquet_file_is_listed_once(self, entries):
        with tempfile.TemporaryDirectory() as name:
            paths = [Path(name, inner, stem + suffix) for (inner, stem), suffix in entries.items()]
            for path in paths:
                put(path, b"something")
            good = {p for p in paths if p.suffix.lower() in (".parquet", ".parq", ".pq")}
            good = {path for path in good if not path.name.startswith((".", "_"))}
            assume(good)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = list_files(name)
        assert len(found) == len(good) and set(found) == good

    def write(self, folder, entries):
        """Write entries; return the first pixels of the good cutouts and the names of the bad files."""
        good, bad = [], set()
        for number, ((inner, stem), (kind, suffix)) in enumerate(entries.items()):
            path = folder / inner / f"{stem}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() or path.is_symlink():
                continue
            hidden = stem.startswith(".")
            if kind == "good":
                put(path, GOOD[suffix](numbered(1000 + number)))
                good += [] if hidden else [1000.0 + number]
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "folder":
                path.mkdir()
            elif kind == "circle":
                path.symlink_to(folder)
            elif kind == "other":
                put(path, b"something")
            else:
                if kind == "bad":
                    put(path, BAD[suffix])
                else:
                    path.symlink_to("gone")
                bad |= set() if hidden else {path.relative_to(folder).as_posix()}
        return good, bad
