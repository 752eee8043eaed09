import gzip
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import make_pixels, write_cutout
from hypothesis import given, settings
from hypothesis import strategies as st

from ztf_sg import CutoutSet, classify_survey, load_cutouts
from ztf_sg.cutouts import CutoutError, list_cutouts, list_files


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one cutout."""
    write_cutout(tmp_path / "star_0.fits")
    return tmp_path


def names_in(folder):
    return load_cutouts(folder).table["name"].tolist()


def write_parquet(path, folder):
    """Write the cutouts of a folder of FITS files to a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    load_cutouts(folder).to_parquet(path)
    return path


class TestFits:
    @pytest.mark.parametrize(
        "suffix", ["fits", "fit", "fts", "FITS", "Fit", "fits.gz", "FITS.GZ", "fits.bz2", "fts.gz", "fits.fz"]
    )
    def test_suffixes_are_read_and_taken_off_the_name(self, folder, suffix):
        write_cutout(folder / "galaxy_1.fits").rename(folder / "plain")
        if suffix.lower().endswith((".gz", ".bz2")):
            write_cutout(folder / f"galaxy_1.{suffix.lower()}").rename(folder / f"galaxy_1.{suffix}")
            (folder / "plain").unlink()
        else:
            (folder / "plain").rename(folder / f"galaxy_1.{suffix}")
        found = load_cutouts(folder)
        assert found.table["name"].tolist() == ["galaxy_1", "star_0"]
        assert found.labels.tolist() == [1, 0]
        np.testing.assert_array_equal(found.images[0], make_pixels())

    def test_subfolders_are_part_of_the_name(self, folder):
        for name in ("night10/galaxy_1", "night2/star_3", "night2/ccd 1/star_0"):
            write_cutout(folder / f"{name}.fits")
        found = load_cutouts(folder)
        names = ["night2/ccd 1/star_0", "night2/star_3", "night10/galaxy_1", "star_0"]
        assert found.table["name"].tolist() == names
        assert found.labels.tolist() == [0, 0, 1, 0]

    def test_bad_files_are_named_by_their_path_in_the_folder(self, folder):
        (folder / "night").mkdir()
        (folder / "night" / "star_1.fits").write_bytes(b"")
        assert load_cutouts(folder, on_error="skip").skipped["name"].tolist() == ["night/star_1.fits"]

    def test_a_folder_may_be_named_from_within(self, folder, monkeypatch):
        write_cutout(folder / "night" / "star_1.fits")
        monkeypatch.chdir(folder)
        assert names_in(".") == ["night/star_1", "star_0"]

    @pytest.mark.parametrize(
        "name",
        [
            "._star_1.fits",
            ".DS_Store",
            ".images/star_2.fits",
            "notes.txt",
            "star_1.png",
            "README",
            "x.fits.part",
        ],
    )
    def test_what_is_no_data_is_ignored_without_a_word(self, folder, name):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert names_in(folder) == ["star_0"]

    @pytest.mark.parametrize(
        "name, said",
        [
            ("a.parquet", r"1 \.parquet, .*CutoutSet\.read_parquet"),
            ("a.PARQ", r"1 \.parq, .*read_parquet"),
            ("a.zip", r"1 \.zip, .*unpack"),
            ("a.tar.gz", r"1 \.tar\.gz, .*unpack"),
            ("a.npy", r"1 \.npy, which are not FITS"),
            ("a.h5", r"1 \.h5"),
            ("star_5", "1 without suffix"),
        ],
    )
    def test_other_data_are_passed_over_with_a_word(self, folder, name, said):
        (folder / name).write_bytes(b"data")
        with pytest.warns(UserWarning, match=said):
            assert names_in(folder) == ["star_0"]
        (folder / "star_0.fits").unlink()
        with pytest.raises(FileNotFoundError, match="holds no FITS files, but 1 "):
            load_cutouts(folder)

    def test_an_empty_folder_is_sent_to_notebook_2(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no FITS files; make cutouts with notebook 2"):
            load_cutouts(tmp_path)

    def test_folders_named_like_files_pipes_and_loops_do_no_harm(self, folder):
        (folder / "star_1.fits").mkdir()
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        os.mkfifo(folder / "star_2.fits")
        with pytest.warns(UserWarning, match="1 pipe or device"):
            assert names_in(folder) == ["star_0"]

    def test_a_link_to_nowhere_is_named(self, folder):
        (folder / "star_1.fits").symlink_to(folder / "nowhere")
        with pytest.raises(CutoutError, match=r"star_1\.fits: cannot be read \(No such file"):
            load_cutouts(folder)

    def test_both_of_two_files_with_one_name_are_read(self, folder):
        write_cutout(folder / "star_0.fits.gz")
        assert len(load_cutouts(folder)) == 2

    @settings(deadline=None, max_examples=40)
    @given(
        st.dictionaries(
            st.from_regex(
                r"([a-z]{1,3}/){0,2}[A-Za-z._]{0,4}(star_[0-9]{1,2})?(\.(fits|FIT|parquet|txt|gz|fits\.gz))?",
                fullmatch=True,
            ).filter(lambda name: not name.endswith(("/", ".", "..")) and name),
            st.sampled_from(["good", "bad", "empty"]),
            max_size=6,
        )
    )
    def test_every_good_file_is_read_once_and_every_bad_one_named(self, tmp_path_factory, files):
        folder = tmp_path_factory.mktemp("any")
        good = write_cutout(folder / "star_0.fits").read_bytes()
        wanted = {"star_0.fits": "good"}
        for name, kind in files.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                content = {"good": good, "bad": good[:3000], "empty": b""}[kind]
                path.write_bytes(gzip.compress(content) if name.endswith("fits.gz") and content else content)
            except OSError:  # a name that is a folder
                continue
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if path.name.lower().endswith((".fits", ".fit", ".fits.gz")) and not hidden:
                wanted[name] = kind
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_cutouts(folder, on_error="skip")
        assert len(found) == sum(kind == "good" for kind in wanted.values())
        assert sorted(found.skipped["name"]) == sorted(n for n, kind in wanted.items() if kind != "good")
        assert (found.images == make_pixels()).all()


class TestParquet:
    @pytest.mark.parametrize(
        "name", ["a.parquet", "a.parq", "a.pq", "a.PARQUET", "night/a.parquet", "x=1/y=b/a.parquet"]
    )
    def test_files_and_subfolders_are_read(self, folder, tmp_path, name):
        source = tmp_path / "survey"
        write_parquet(source / name, folder)
        assert len(CutoutSet.read_parquet(source)) == 1

    def test_folders_stand_for_columns(self, folder, tmp_path):
        table = load_cutouts(folder).to_table().drop_columns(["filter", "exptime"])
        for band in ("ZTF_g", "ZTF_r"):
            path = tmp_path / "survey" / f"filter={band}" / "exptime=30" / "part-0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(table, path)
        found = CutoutSet.read_parquet(tmp_path / "survey")
        assert found.table["filter"].tolist() == ["ZTF_g", "ZTF_r"]
        assert found.table["exptime"].tolist() == [30.0, 30.0]

    def test_a_hats_catalogue_gives_each_row_once(self, folder, tmp_path):
        root = tmp_path / "collection"
        leaf = Path("dataset", "Norder=1", "Dir=0", "Npix=44.parquet")
        for catalogue, kind in (("objects", "object"), ("objects_10arcs", "margin")):
            file = write_parquet(root / catalogue / leaf, folder)
            for other in ("_metadata", "_common_metadata", "data_thumbnail.parquet"):
                shutil.copy(file, root / catalogue / "dataset" / other)
            (root / catalogue / "hats.properties").write_text(f"dataproduct_type={kind}\n")
            (root / catalogue / "partition_info.csv").write_text("Norder,Npix\n1,44\n")
        assert len(CutoutSet.read_parquet(root / "objects")) == 1
        with pytest.warns(UserWarning, match=r"1 folder of repeated rows \(objects_10arcs\)"):
            assert len(CutoutSet.read_parquet(root)) == 1
        (root / "collection.properties").write_text("hats_primary_table_url=objects\n")
        with pytest.warns(UserWarning, match="repeated rows"):
            assert len(CutoutSet.read_parquet(root)) == 1

    def test_fits_beside_parquet_are_passed_over_with_a_word(self, folder):
        write_parquet(folder / "a.parquet", folder)
        with pytest.warns(
            UserWarning, match=r"1 \.fits, which are not Parquet files; read FITS files with load"
        ):
            assert len(list_files(folder)) == 1

    def test_a_folder_of_fits_files_is_sent_to_load_cutouts(self, folder):
        with pytest.raises(FileNotFoundError, match=r"but 1 \.fits; read FITS files with load_cutouts"):
            CutoutSet.read_parquet(folder)


class TestPaths:
    @pytest.mark.parametrize(
        "url", ["s3://bucket/cutouts", "gs://b/c", "https://host/a.parquet", "file:///data"]
    )
    @pytest.mark.parametrize("kind", [str, Path])
    def test_remote_addresses_are_refused_as_such(self, url, kind, tmp_path):
        for read in (
            load_cutouts,
            CutoutSet.read_parquet,
            lambda source: classify_survey(source, tmp_path / "r"),
        ):
            with pytest.raises(ValueError, match="only local files are read and written; copy it"):
                read(kind(url))

    def test_home_is_expanded(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder))
        assert names_in("~") == ["star_0"]
        load_cutouts("~").to_parquet("~/out/a.parquet")
        assert len(CutoutSet.read_parquet("~/out")) == 1

    @pytest.mark.parametrize("path", [None, 3, ["a"]])
    def test_what_is_no_path_is_refused(self, path):
        for read in (list_cutouts, list_files):
            with pytest.raises(TypeError, match="expected the path of a file or folder"):
                read(path)
