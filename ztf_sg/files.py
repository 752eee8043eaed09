"""Writing a file whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path, unfinished=None):
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
