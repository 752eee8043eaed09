"""Paths of the local disk, files that are complete or not there, and folders locked by one process."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")  # pathlib makes s3:/ of s3://; one letter is a Windows drive


def local_path(path):
    """Return a path on this machine as a pathlib.Path, with ``~`` expanded.

    Raises
    ------
    TypeError
        If it is neither text, bytes nor path-like.
    ValueError
        If it is empty or the address of a remote store.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"expected the path of a file or folder, got {path!r}; give text or a pathlib.Path")
    text = os.path.expanduser(os.fsdecode(path))
    if not text:
        raise ValueError("the path is empty; name a file or folder ('.' is the current folder)")
    if text.startswith("file:/"):
        raise ValueError(f"{text}: is an address; give the path of the file without 'file://'")
    if URL.match(text):
        raise ValueError(
            f"{text}: is an address, but only local files are read and written; copy it to a local disk and "
            "name that path, or hand tables to CutoutSet.from_table or classify_partition"
        )
    return Path(text)


@contextmanager
def atomic_write(path, unfinished=None):
    """Open a binary file for writing that gets its name only when all of it is on the disk.

    If anything goes wrong, or the process is killed, a file that had the name before stays as it was. The
    folder is made if need be.

    Parameters
    ----------
    path : path-like
    unfinished : path-like, optional
        Name until then, on the same disk, for files that several processes may write at once; by default
        ``.part`` is added to the name.

    Raises
    ------
    IsADirectoryError
        If the path is that of a folder.
    NotADirectoryError
        If its folder, or one above it, is a file.
    """
    path = local_path(path)
    partial = Path(unfinished or path.with_name(path.name + ".part"))
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file, such as one in it")
    for folder in (path.parent, partial.parent):
        if in_the_way := [parent for parent in (folder, *folder.parents) if parent.is_file()]:
            raise NotADirectoryError(f"{in_the_way[0]}: is a file; name a folder to write {path.name} to")
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder, error):
    """Lock a folder, which is made if need be, by a file in it that keeps out processes of all users.

    A folder that this user may only read needs no lock.

    Raises
    ------
    error
        If another process is at work in the folder, or it cannot be made or locked.
    """
    folder = local_path(folder)
    lock = FileLock(folder / ".lock", mode=0o666)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            lock.acquire(timeout=0)
    except Timeout:
        raise error(f"{folder}: another run is at work there; stop it, or wait for its end") from None
    except OSError as fault:
        remedy = "name another folder"
        if isinstance(fault, PermissionError):
            remedy = "have the owner of its file .lock allow it, or name another folder"
        raise error(f"{folder}: cannot be made or locked ({fault}); {remedy}") from fault
    try:
        yield
    finally:
        lock.release()
