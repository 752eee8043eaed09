"""What there is to read in a folder of cutouts."""

import os
from pathlib import Path

from ztf_sg.cutouts.schema import natural_key


def list_cutouts(folder):
    """Return the FITS files of a folder in natural order of their names, as a list of paths.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no FITS file.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileNotFoundError(f"{folder}: is a file; name the folder that holds it")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; make cutouts with notebook 2 or name another")
    names = [name for name in os.listdir(folder) if name.lower().endswith((".fits", ".fit"))]
    if not names:
        raise FileNotFoundError(
            f"{folder}: holds no FITS files; make cutouts with notebook 2 or name another"
        )
    return [folder / name for name in sorted(names, key=natural_key)]


def list_files(path):
    """Return a Parquet file, or the ``*.parquet`` files of a folder in natural order, as a list of paths.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or the folder holds none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; write one with CutoutSet.to_parquet")
    paths = sorted(path.glob("*.parquet"), key=lambda path: natural_key(path.name))
    if not paths:
        raise FileNotFoundError(f"{path}: holds no *.parquet files; write some with CutoutSet.to_parquet")
    return paths
