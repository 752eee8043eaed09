"""Files that are complete or not there, and folders in which one process works at a time."""

import os
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def atomic_write(path, unfinished=None):
    """Open a file for writing that gets its name only when all of it is on the disk.

    Until then ``.part`` is added to its name. If anything goes wrong, or the process is killed, a file that
    had the name before stays as it was. The folder is made if need be.

    Parameters
    ----------
    path : path-like
    unfinished : path-like, optional
        Another name until then, on the same disk: for files that several processes may write at once.

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
    """Keep other processes out that lock the same folder; the lock is a file in it, and holds for all users.

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
