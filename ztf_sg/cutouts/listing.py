"""What there is to read in a folder and its sub-folders, for all readers of cutouts.

Hidden files, notes and pictures are ignored. What looks like data but is not read is passed over with a
warning that counts it and says what to do with it.
"""

import os
import re
import warnings
from collections import Counter
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from ztf_sg.cutouts.schema import natural_key
from ztf_sg.files import local_path

FITS, PARQUET = "FITS", "Parquet"
SUFFIXES = {
    FITS: re.compile(r"\.(fits|fit|fts)(\.(gz|fz|bz2|xz|zip))?$", re.IGNORECASE),
    PARQUET: re.compile(r"\.(parquet|parq|pq)(\.gzip)?$", re.IGNORECASE),  # pandas' manual adds .gzip
}
LAST_SUFFIX = re.compile(r"(\.\w+(?=\.(?:gz|bz2|xz|zst|z|zip)$))?\.[^.\s/]+$", re.IGNORECASE)
PASSED_OVER = {  # last suffixes of data that are not read, by what to do with them
    "unpack them first": "zip tar tgz tbz tbz2 txz gz bz2 xz zst z 7z rar".split(),
    "hand their arrays to CutoutSet or CutoutSet.from_table": (
        "npy npz h5 hdf hdf5 pkl pickle asdf feather arrow avro orc mat zarr".split()
    ),
}
OTHERS = "give them their suffix, .fits or .parquet, if they hold cutouts"
RESULTS = "_survey"  # folder of notes within the results of classify_survey
SETTINGS = "settings.json"  # one of these notes
NOTES = set(
    "txt md rst log csv tsv ecsv vot xml json yaml yml toml ini cfg html htm css pdf ps eps png jpg jpeg gif "
    "svg bmp webp tif tiff py ipynb sh part tmp bak swp lock sha256 md5 crc properties reg db".split()
)
NOTE_FOLDERS = {RESULTS, "__MACOSX", "__pycache__", "_temporary", "_delta_log", "_spark_metadata"}
NOTE_NAMES = set("readme license licence notice copying makefile properties changes authors".split())

READERS = {
    FITS: "read them with load_cutouts, or as a survey from a folder of their own",
    PARQUET: "read them with CutoutSet.read_parquet or classify_survey",
}
RESULT_FILE = re.compile(r"part-\d+\.parquet$")
PATTERN_REMEDY = "patterns are not expanded: name the folder, which is read with its sub-folders"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"  # how folders of a missing value are named
HATS_KEYS = ("Norder", "Dir", "Npix")  # they sort the files of a catalogue by position, and are no columns
HATS_COPIES = ("data_thumbnail.parquet", "per_partition_statistics.parquet")
HATS_COPY_TYPES = ("margin", "index", "association", "map")


class _Found(NamedTuple):
    """Paths within a folder by format; what is passed over, by what to do with it, and what is ignored."""

    paths: dict
    passed_over: dict
    ignored: Counter


def list_cutouts(folder):
    """Return the FITS files of a folder and its sub-folders as a list of paths.

    They end in ``.fits``, ``.fit`` or ``.fts``, in any case, and may be compressed (``.gz``, ``.fz``,
    ``.bz2``, ``.xz``, ``.zip``). They come in natural order of their paths within the folder. Folders whose
    names start with a dot or an underscore are left out; each other one is read once, links to it or not.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no FITS file.
    PermissionError
        If this user may not read it.

    Warns
    -----
    UserWarning
        If it holds what looks like data but is not FITS.
    """
    folder = local_path(folder)
    remedy = "make cutouts with notebook 2 or name another"
    if not folder.exists():
        raise FileNotFoundError(
            f"{folder}: no such folder; {PATTERN_REMEDY if _is_pattern(folder) else remedy}"
        )
    if not folder.is_dir():
        is_parquet = _format_of(folder.name) == PARQUET
        remedy = "read it with CutoutSet.read_parquet" if is_parquet else "name the folder that holds it"
        raise FileNotFoundError(f"{folder}: is a file; {remedy}")
    return _list_folder(folder, {FITS: "FITS"}, remedy)[1]


def list_files(path):
    """Return a Parquet file, or those of a folder and its sub-folders, as a list of paths in natural order.

    They end in ``.parquet``, ``.parq`` or ``.pq``, in any case. Of a HATS catalogue, those of its
    ``dataset`` are listed; of a HATS collection, those of its primary catalogue. Results of
    ``classify_survey`` are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or the folder holds none.
    PermissionError
        If this user may not read it.

    Warns
    -----
    UserWarning
        If a folder holds what looks like data but is not Parquet.
    """
    path = local_path(path)
    if _is_parquet_file(path):
        return [path]
    return _list_folder(path, {PARQUET: "*.parquet"}, "write some with CutoutSet.to_parquet")[1]


def list_source(path):
    """Return the paths of a Parquet file or of a folder, as :func:`list_files`, and whether they are Parquet.

    They are the FITS files of a folder without Parquet files. Errors and warnings as of :func:`list_files`.
    """
    path = local_path(path)
    if _is_parquet_file(path):
        return [path], True
    names = {PARQUET: "Parquet", FITS: "FITS"}
    found, paths = _list_folder(path, names, "write some with CutoutSet.to_parquet or notebook 2")
    return paths, found == PARQUET


def cutout_names(paths, folder):
    """Return the names of cutouts in a folder: their paths within it, without suffix, such as night1/star_1.

    Files that would have the same name, such as star_1.fits and star_1.fits.gz, keep their suffixes.
    """
    folder = local_path(folder)
    whole = [relative_name(path, folder) for path in paths]
    names = [SUFFIXES[FITS].sub("", name) for name in whole]
    while len(set(names)) < len(names):
        counts = Counter(names)
        kept = [file if counts[name] > 1 else name for name, file in zip(names, whole, strict=True)]
        if kept == names:  # the same file twice
            break
        names = kept
    return names


def relative_name(path, folder):
    """Return the path of a file within a folder, with slashes."""
    return printable("/".join(path.parts[len(folder.parts) :]))


def file_of(path, name):
    """Return the path of a file within its folder, which is as deep as the name of its cutout."""
    return printable("/".join(path.parts[-1 - name.count("/") :]))


def printable(text):
    """Return a text that can be written; file names of old disks may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def hive_columns(paths):
    """Return what folders named ``key=value`` state of each file: a dict of pyarrow scalars by key.

    The folders count that lie between the file and the first one above it of another name. Types are those
    of pyarrow's datasets: a key is int32 if all its values are such numbers, else text. Datasets themselves
    refuse a key without any value, and folders that merely look like keys.
    """
    parts = [printable(str(path.parent)).split(os.sep) for path in paths]
    keys = [list(takewhile(lambda part: "=" in part, reversed(folders))) for folders in parts]
    stated = [dict(part.split("=", 1) for part in reversed(folders)) for folders in keys]
    columns = [{} for _ in paths]
    for key in sorted({key for values in stated for key in values} - {"", *HATS_KEYS}):
        rows = [row for row, values in enumerate(stated) if key in values]
        texts = [None if stated[row][key] == HIVE_NULL else unquote(stated[row][key]) for row in rows]
        for row, value in zip(rows, _numbers_or_texts(texts), strict=True):
            columns[row][key] = value
    return columns


def _numbers_or_texts(texts):
    texts = pa.array(texts, pa.string())
    try:
        return texts.cast(pa.int32()) if texts.null_count < len(texts) else texts
    except pa.ArrowInvalid:
        return texts


def _is_pattern(path):
    """Tell whether a path is a pattern of several, such as night*/*.fits."""
    return bool(re.search(r"[*?\[]", str(path)))


def _is_parquet_file(path):
    """Return whether a path is a file, which it may be, and no folder."""
    if path.is_dir():
        return False
    if not path.exists():
        remedy = PATTERN_REMEDY if _is_pattern(path) else "write one with CutoutSet.to_parquet"
        raise FileNotFoundError(f"{path}: no such file or folder; {remedy}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: is neither a file nor a folder; name one")
    if _format_of(path.name) == FITS:
        raise FileNotFoundError(f"{path}: is a FITS file; name the folder that holds it")
    return True


def _list_folder(folder, wanted, remedy):
    """Return the first format of those wanted that a folder holds, and its paths; warn of other data."""
    found = _scan(folder)
    chosen = next((kind for kind in wanted if found.paths[kind]), None)
    for kind, names in found.paths.items():
        if kind != chosen and names:
            found.passed_over[READERS[kind]] = Counter(map(_suffix_of, names))
    passed_over = "; ".join(f"{_counted(what)} ({todo})" for todo, what in found.passed_over.items())
    if chosen is None:
        formats = " and no ".join(f"{name} files" for name in wanted.values())
        ignored = _counted(found.ignored) or "nothing else"
        held = f"{passed_over}; or name another" if passed_over else f"{ignored}; {remedy}"
        raise FileNotFoundError(f"{folder}: holds no {formats}; it holds {held}")
    if passed_over:
        warnings.warn(f"{folder}: passed over {passed_over}", stacklevel=4)
    return chosen, [folder / name for name in sorted(found.paths[chosen], key=_order)]


def _order(name):
    """Return the sorting key of a path: natural order of its parts; and its letters, where that is equal."""
    return [natural_key(part) for part in name.split("/")], name


def _counted(counts):
    common = sorted(counts.items(), key=lambda item: (-item[1], natural_key(item[0])))[:5]
    others = counts.total() - sum(count for _, count in common)
    return ", ".join(f"{count} {what}" for what, count in [*common, ("others", others)] if count)


def _scan(folder):
    """Return what a folder and its sub-folders hold; each is read once, whatever links lead to it."""
    found = _Found({FITS: [], PARQUET: []}, {}, Counter())
    seen = {_identity(parent) for parent in folder.resolve().parents}
    folders, links = [""], []
    while folders or links:
        inner = folders.pop() if folders else links.pop(0)
        try:
            identity = _identity(folder / inner)
            with os.scandir(folder / inner) as entries:
                entries = [] if identity in seen else list(entries)
        except OSError as error:
            if not inner:
                fault = f"cannot be read ({error.strerror}); have its owner allow it or name another folder"
                raise type(error)(error.errno, fault, str(folder)) from error
            _pass_over(found, f"folder {printable(inner)} ({error.strerror})", "have its owner allow it")
            continue
        seen.add(identity)
        for entry in _members(folder / inner, entries, found, is_root=not inner):
            name = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.startswith("."):
                found.ignored["hidden"] += 1
            elif not _is_folder(entry):
                _sort_in(name, entry, found)
            elif entry.name in NOTE_FOLDERS:
                found.ignored["folders of notes"] += 1
            elif entry.name.startswith("_"):
                _pass_over(found, f"folder {printable(name)}", "rename it if it holds cutouts")
            else:
                (links if entry.is_symlink() else folders).append(name)
        links.sort()
    return found


def _identity(folder):
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_special(entry):
    """Return whether an entry is a pipe, a socket or a device, which could be waited for without end.

    A link to a missing file is none: it is named as such when it is read.
    """
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False


def _sort_in(name, entry, found):
    """Sort a file into what is read, passed over and ignored."""
    kind, suffix = _format_of(entry.name), _suffix_of(entry.name)
    if kind and _is_special(entry):
        _pass_over(found, "pipes or devices", "put files in their place")
    elif kind == PARQUET and entry.name.startswith("_"):
        _pass_over(found, f"_*{suffix}", "rename them if they hold cutouts")
    elif kind:
        found.paths[kind].append(name)
    elif _is_note(entry.name):
        found.ignored[suffix] += 1
    else:
        last = suffix.rpartition(".")[2]
        todo = (todo for todo, suffixes in PASSED_OVER.items() if last in suffixes)
        _pass_over(found, suffix, next(todo, OTHERS))


def _pass_over(found, what, todo, count=1):
    found.passed_over.setdefault(todo, Counter())[what] += count


def _format_of(name):
    return next((kind for kind, pattern in SUFFIXES.items() if pattern.search(name)), None)


def _suffix_of(name):
    """Return the suffix of a name in small letters, that of a packed file with what it holds: .tar.gz."""
    kind = _format_of(name)
    match = (SUFFIXES[kind] if kind else LAST_SUFFIX).search(name)
    return match.group().lower() if match else "named without suffix"


def _is_note(name):
    """Return whether a file holds no data, by its name: notes, pictures, tables beside the data, backups."""
    stem, _, last = name.lower().rpartition(".")
    return name.startswith("_") or name.endswith("~") or last in (NOTES if stem else NOTE_NAMES)


def _members(path, entries, found, is_root):
    """Return the entries of a folder, less results of surveys and copies of rows in HATS catalogues."""
    by_name = {entry.name: entry for entry in entries if entry.name not in HATS_COPIES}
    if RESULTS in by_name and (path / RESULTS / SETTINGS).exists():
        results = [by_name.pop(name) for name in list(by_name) if RESULT_FILE.match(name)]
        if results:
            todo = "results of classify_survey, which hold no images"
            _pass_over(found, "part-*.parquet", todo, len(results))
    if "collection.properties" in by_name:
        primary = os.path.normpath(_properties(path, "collection.properties", "hats_primary_table_url"))
        folders = [name for name, entry in by_name.items() if name[0] not in "._" and _is_folder(entry)]
        if primary in folders:
            for name in set(folders) - {primary}:
                del by_name[name]
                _pass_over(found, f"catalogue {printable(name)}", "it repeats rows of the primary one")
    elif "dataset" in by_name and (notes := by_name.keys() & {"hats.properties", "properties"}):
        kind = _properties(path, min(notes), "dataproduct_type")
        if kind in HATS_COPY_TYPES and not is_root:
            _pass_over(found, f"{kind} catalogue", "it repeats rows of another one")
            return []
        return [by_name["dataset"]]  # beside it are maps of the sky, in FITS files
    return list(by_name.values())


def _properties(path, file, key):
    """Return a value in a file of lines ``key = value``; an empty text if it is not there."""
    try:
        lines = (path / file).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    values = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    return values.get(key, "")
