"""What folders of cutouts hold: the files to read, and a word on those that are passed over."""

import os
import re
import warnings
from collections import Counter
from pathlib import Path

from ztf_sg.cutouts.schema import natural_key
from ztf_sg.files import local_path

FITS = re.compile(r"\.(fits|fit|fts)(\.(gz|fz|bz2))?$", re.IGNORECASE)
PARQUET = re.compile(r"\.(parquet|parq|pq)$", re.IGNORECASE)
ARCHIVE = re.compile(r"\.(zip|tar|tgz|tar\.\w+)$", re.IGNORECASE)
SUFFIX = re.compile(r"(\.tar)?\.\w+$|\.\w+\.(gz|fz|bz2|xz)$")
# notes, pictures and what this package writes beside cutouts; hidden files are no data either
NO_DATA = re.compile(
    r"^\.|^(manifest|truth)\.csv$|^thumbs\.db$|^(readme|license|md5sums)"
    r"|\.(txt|md|rst|html?|json|ya?ml|toml|log|png|jpe?g|gif|svg|pdf|py|ipynb|part|lock|tmp|reg|md5|properties)$",
    re.IGNORECASE,
)
REMEDIES = (
    (FITS, "read FITS files with load_cutouts"),
    (PARQUET, "read Parquet files with CutoutSet.read_parquet, or classify_survey"),
    (ARCHIVE, "unpack the archives first"),
)
CATALOGUE = "collection.properties"  # of HATS: names the one folder that holds each row once
CATALOGUE_NOTES = ("hats.properties", "properties")
RESULTS_NOTES = "_survey"  # folder in the results of ztf_sg.classify_survey, which are no cutouts
ROWS_ONCE = ("object", "source")  # types of HATS catalogues; others, such as margins, repeat rows


def list_cutouts(folder):
    """Return the FITS files of a folder and its sub-folders in natural order, as a list of paths.

    They are named ``.fits``, ``.fit`` or ``.fts``, in capitals or not, and may be compressed: ``.gz``,
    ``.fz`` or ``.bz2``. Hidden files are left out.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no FITS file.
    ValueError
        If it is the address of a remote folder.

    Warns
    -----
    UserWarning
        If there are files that may hold data but are not read here.
    """
    folder = local_path(folder)
    if folder.is_file():
        raise FileNotFoundError(f"{folder}: is a file; name the folder that holds it")
    return _list(folder, FITS, "FITS files", "make cutouts with notebook 2 or name another folder")


def list_files(path):
    """Return a Parquet file, or those of a folder and its sub-folders in natural order, as a list of paths.

    They are named ``.parquet``, ``.parq`` or ``.pq``, in capitals or not. Names that begin with an underscore
    or a dot are left out, as are the thumbnail, margins and indices of a HATS catalogue, which repeat rows.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or the folder holds none.
    ValueError
        If it is the address of a remote file.

    Warns
    -----
    UserWarning
        If there are files that may hold data but are not read here.
    """
    path = local_path(path)
    if path.is_file():
        return [path]
    return _list(path, PARQUET, "Parquet files", "write some with CutoutSet.to_parquet")


def holds_parquet(folder):
    """Return whether a folder, or one of its sub-folders, holds a Parquet file."""
    return any(PARQUET.search(path.name) for path in _walk(Path(folder), Counter(), set(), "_"))


def file_name(path, folder=None):
    """Return the name of a file, or its path relative to a folder that holds it, a pathlib.Path."""
    return path.relative_to(folder).as_posix() if folder else path.name


def cutout_name(name):
    """Return the name of a cutout: that of its file without the FITS suffix."""
    return FITS.sub("", name)


def hive_columns(path):
    """Return the columns that the folders above a file stand for, as in ``filter=zi/part-0.parquet``."""
    columns = {}
    for part in reversed(Path(path).parent.parts):
        key, equals, value = part.partition("=")
        if not (key and equals):
            break
        columns.setdefault(key, int(value) if re.fullmatch(r"-?\d{1,18}", value) else value)
    return columns


def _list(folder, wanted, kind, remedy):
    """Return the files of a folder whose names match, in natural order; warn of the others."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such file or folder; {remedy}")
    passed_over = Counter()
    found, others = [], []
    for path in _walk(folder, passed_over, set(), "_" if wanted is PARQUET else "."):
        (found if wanted.search(path.name) else others).append(path)
    is_hats = any((folder / name).exists() for name in (*CATALOGUE_NOTES, CATALOGUE))
    others = [path for path in others if not (is_hats or NO_DATA.search(path.name))]
    passed_over.update(_suffix(path) for path in others)
    what = ", ".join(f"{count} {suffix}" for suffix, count in sorted(passed_over.items()))
    hints = [hint for pattern, hint in REMEDIES if any(pattern.search(path.name) for path in others)]
    if not found:
        holds = f"holds no {kind}" + (f", but {what}" if what else "")
        raise FileNotFoundError(f"{folder}: {holds}; {'; '.join(hints) or remedy}")
    if what:
        hints = f"; {'; '.join(hints)}" if hints else ""
        warnings.warn(f"{folder}: passed over {what}, which are not {kind}{hints}", stacklevel=4)
    return sorted(found, key=natural_key)


def _walk(folder, passed_over, seen, hidden):
    """Yield the files in a folder and its sub-folders, each folder once; count what cannot be data."""
    real = os.path.realpath(folder)
    if real in seen:  # a link to a folder above
        return
    seen.add(real)
    try:
        paths = [Path(entry.path) for entry in os.scandir(_primary_catalogue(folder, passed_over))]
    except OSError as error:
        passed_over[f"folder that cannot be opened ({folder.name}: {error.strerror})"] += 1
        return
    for path in paths:
        if path.name.startswith((".", hidden)):
            continue
        if path.is_dir():
            if (path / RESULTS_NOTES).is_dir():
                continue
            if _repeats_rows(path):
                passed_over[f"folder of repeated rows ({path.name})"] += 1
            else:
                yield from _walk(path, passed_over, seen, hidden)
        elif path.is_file() or path.is_symlink():  # a link to nowhere is told of when it is read
            if path.name != "data_thumbnail.parquet":
                yield path
        else:
            passed_over["pipe or device"] += 1


def _primary_catalogue(folder, passed_over):
    """Return the folder in which a HATS collection keeps its rows; any other folder as it is."""
    name = _properties(folder / CATALOGUE).get("hats_primary_table_url")
    if not name:
        return folder
    others = [path for path in folder.iterdir() if path.is_dir() and path.name != name]
    passed_over.update(f"folder of repeated rows ({path.name})" for path in others)
    return folder / name


def _repeats_rows(folder):
    """Return whether a folder is a HATS catalogue that repeats the rows of another, such as a margin."""
    kinds = [_properties(folder / name).get("dataproduct_type") for name in CATALOGUE_NOTES]
    return any(kind and kind not in ROWS_ONCE for kind in kinds)


def _properties(path):
    """Return what a file of lines ``key=value`` says; nothing if there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(errors="replace").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, _, value in pairs}


def _suffix(path):
    match = SUFFIX.search(path.name)
    return match[0].lower() if match else "without suffix"
