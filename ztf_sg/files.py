"""Files that are written whole or not at all, and folders in which one process works at a time."""

import os
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def atomic_write(path, unfinished=None):
    """Open a file for writing that gets its name only when everything is on the disk.

    Until then it has the name with ``.part`` behind it; if anything goes wrong, or the process is killed, the
    file that had the name before is left as it was. The folder is made if need be.

    Parameters
    ----------
    path : path-like
    unfinished : path-like, optional
        Another name for it until then, on the same disk: for files that several processes may write.

    Yields
    ------
    binary file object
    """
    path = Path(path)
    partial = Path(unfinished or path.with_name(path.name + ".part"))
    for folder in (path.parent, partial.parent):
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
    """Keep other processes that want the same lock out of a folder.

    The lock is a file in the folder, so that it holds for all users who may write there.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    error : type of Exception
        Raised with a message if another process is at work in the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise error(f"{folder}: another run is at work there; stop it, or wait for its end") from None
    try:
        yield
    finally:
        lock.release()
