"""Writing a file whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path):
    """Open a file for writing that gets its name only when everything is on the disk.

    Until then it has the name with ``.part`` behind it; if anything goes wrong, or the process is killed, the
    file that had the name before is left as it was. The folder is made if need be.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    binary file object
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
