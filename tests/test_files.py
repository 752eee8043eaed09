import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ztf_sg
from ztf_sg.files import atomic_write, lock_folder


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
    with pytest.raises(OSError), atomic_write(tmp_path / "taken") as file:
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
