import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

import ztf_sg
from ztf_sg import (
    CutoutSet,
    StarGalaxyClassifier,
    fetch_cutouts,
    iter_parquet,
    load_cutouts,
)
from ztf_sg.cutouts import (
    list_cutouts,
    list_files,
    list_source,
    load_files,
    read_cutout,
    read_image_csv,
    row_group_sizes,
    write_image_csv,
)
from ztf_sg.fetching.manifest import read_manifest
from ztf_sg.files import atomic_write, local_path, lock_folder
from ztf_sg.positions import read_positions, write_positions
from ztf_sg.services.sweeps import read_sweep


def test_file_has_its_name_only_when_whole(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with atomic_write(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_exception_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_bytes(before)
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert [name.read_bytes() for name in tmp_path.iterdir()] == ([before] if before else [])


def test_kill_leaves_what_was_there_and_the_next_writer_cleans_up(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom ztf_sg.files import atomic_write, lock_folder\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, path],
        env={**os.environ, "PYTHONPATH": str(Path(ztf_sg.__file__).parents[1])},
    )
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"newer")
    assert [name.read_bytes() for name in tmp_path.iterdir()] == [b"newer"]


def test_name_that_is_a_folder_leaves_no_partial_file(tmp_path):
    (tmp_path / "taken").mkdir()
    said = pytest.raises(IsADirectoryError, match="taken: is a folder; name a file")
    with said, atomic_write(tmp_path / "taken") as file:
        file.write(b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("name", ["a.txt", "b/a.txt"])
def test_file_that_is_no_folder_is_named(tmp_path, name):
    (tmp_path / "taken").touch()
    said = pytest.raises(NotADirectoryError, match="taken: is a file; name a folder to write a.txt to")
    with said, atomic_write(tmp_path / "taken" / name) as file:
        file.write(b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


class TestLockFolder:
    def test_another_run_is_kept_out(self, tmp_path):
        with (
            lock_folder(tmp_path, RuntimeError),
            pytest.raises(RuntimeError, match="another run is at work"),
            lock_folder(tmp_path, RuntimeError),
        ):
            pass

    @pytest.mark.parametrize("obstacle", ["file", "folder as lock"])
    def test_what_cannot_be_locked_is_named_with_a_remedy(self, tmp_path, obstacle):
        folder = tmp_path / "cutouts"
        if obstacle == "file":
            folder.write_text("")
        else:
            (folder / ".lock").mkdir(parents=True)
        message = "cutouts: cannot be made or locked.*name another folder"
        with pytest.raises(RuntimeError, match=message), lock_folder(folder, RuntimeError):
            pass

    def test_folder_that_may_only_be_read_needs_no_lock(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with lock_folder(tmp_path, RuntimeError):
            assert list(tmp_path.iterdir()) == []

    def test_errors_of_the_work_inside_stay_what_they_are(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="of the work"), lock_folder(tmp_path, RuntimeError):
            raise FileNotFoundError("of the work")


class TestLocalPath:
    @pytest.mark.parametrize("path", ["a/b.fits", b"a/b.fits", Path("a/b.fits")])
    def test_text_bytes_and_paths_are_taken(self, path):
        assert local_path(path) == Path("a/b.fits")

    def test_home_is_expanded(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert local_path("~/a") == local_path(Path("~/a")) == tmp_path / "a"
        assert local_path("~") == tmp_path
        assert local_path("a/~") == Path("a/~")
        assert local_path("~no_such_user/a") == Path("~no_such_user/a")

    @pytest.mark.parametrize("scheme", ["s3", "gs", "abfs", "hdfs", "https", "HTTP", "hf", "simplecache::s3"])
    def test_addresses_are_refused_with_a_remedy(self, scheme):
        for address in (
            f"{scheme}://bucket/a",
            Path(f"{scheme}://bucket/a"),
            f"{scheme}://bucket/a".encode(),
        ):
            with pytest.raises(ValueError, match=f"^{scheme}:/.*: is an address.*copy it to a local disk"):
                local_path(address)

    def test_address_of_a_local_file_is_refused_with_its_own_remedy(self):
        with pytest.raises(ValueError, match="give the path of the file without 'file://'"):
            local_path("file:///a/b.fits")

    @pytest.mark.parametrize("path", ["C:/a", "a:b", "12:00/a", "/a/s3:/b", "./s3:/b", "key=a:b/c"])
    def test_local_paths_with_a_colon_are_none(self, path):
        assert str(local_path(path)) == str(Path(path))

    @pytest.mark.parametrize("path", [None, 3, 2.5, ["a"], {}])
    def test_what_is_no_path_is_said(self, path):
        with pytest.raises(TypeError, match="expected the path of a file or folder, got"):
            local_path(path)

    def test_empty_path_is_not_the_current_folder(self):
        with pytest.raises(ValueError, match="the path is empty"):
            local_path("")


READERS = {
    "load_cutouts": load_cutouts,
    "read_parquet": CutoutSet.read_parquet,
    "iter_parquet": lambda path: list(iter_parquet(path)),
    "row_group_sizes": row_group_sizes,
    "list_cutouts": list_cutouts,
    "list_files": list_files,
    "list_source": list_source,
    "load_files": lambda path: load_files([path]),
    "read_cutout": read_cutout,
    "read_image_csv": read_image_csv,
    "read_positions": read_positions,
    "read_manifest": read_manifest,
    "load": StarGalaxyClassifier.load,
}
WRITERS = {
    "to_parquet": lambda path: load_files(list_cutouts(ROOT / "cutouts_test")[:2]).to_parquet(path),
    "write_image_csv": lambda path: write_image_csv(path, [[[1.0]]], [0]),
    "save": lambda path: StarGalaxyClassifier.pretrained().save(path),
}


@pytest.mark.parametrize("name", READERS | WRITERS)
@pytest.mark.parametrize("address", ["s3://bucket/a", Path("gs://bucket/a")])
def test_addresses_are_refused_by_readers_and_writers(name, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is an address, but only local files are read and written"):
        (READERS | WRITERS)[name](address)
    assert not list(tmp_path.iterdir())


def test_addresses_are_refused_by_what_takes_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stars = pd.DataFrame({"RA": [1.0], "DEC": [2.0], "type": ["PSF"]})
    for write in (
        lambda: write_positions(stars.rename(columns={"type": "TYPE"}), stars, "s3://bucket/a"),
        lambda: fetch_cutouts(stars, "s3://bucket/a", None),
        lambda: read_sweep("s3://bucket/sweep.fits"),
    ):
        with pytest.raises(ValueError, match="is an address"):
            write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_writers_expand_home(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    WRITERS[name]("~/new/file")
    assert (tmp_path / "new" / "file").is_file()
