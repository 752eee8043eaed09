"""Cutout sets as Parquet files and as tables, for sets too large for a folder of files or for the memory.

One row is one cutout: the columns of :attr:`CutoutSet.table`, its ``label``, and in ``image`` the pixels [DN]
row by row, as a list of fixed length of float32; height and width stand in the metadata of that column.
"""

from collections import Counter
from contextlib import contextmanager
from math import isqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztf_sg.cutouts.dataset import (
    APERTURE_KEYS,
    CLASS_NAMES,
    HEADER_KEYS,
    POSITIVE_KEYS,
    REMEDY,
    REQUIRED_KEYS,
    TEXT_KEYS,
    UNKNOWN,
    CutoutError,
    CutoutSet,
    check_cutout,
    label_of,
    natural_key,
)
from ztf_sg.files import atomic_write
from ztf_sg.ztf import CUTOUT_SHAPE

ROW_GROUP = 4096  # rows that are written, and read, at a time: 6.5 MB of pixels at 20 x 20 px
LABEL, IMAGE = "label", "image"
TEXT_COLUMNS = ("name", *(key.lower() for key in TEXT_KEYS))
COLUMNS = ("name", "ra", "dec", *(key.lower() for key in HEADER_KEYS))
OPTIONAL_COLUMNS = ("origin", *(key.lower() for key in APERTURE_KEYS))
NEEDED_VALUES = [key.lower() for key in REQUIRED_KEYS if key != "ORIGIN"]
REWRITE = "write it again with CutoutSet.to_parquet"


def to_table(cutouts):
    """Return a CutoutSet as an Arrow table; see :meth:`CutoutSet.to_table`."""
    taken = {LABEL, IMAGE} & set(cutouts.table.columns)
    if taken:
        raise ValueError(f"the table has a column {taken.pop()!r} already; rename it")
    height, width = cutouts.images.shape[1:]
    pixels = pa.array(np.ascontiguousarray(cutouts.images, dtype=np.float32).ravel())
    images = pa.FixedSizeListArray.from_arrays(pixels, height * width)
    field = pa.field(IMAGE, images.type, metadata={"height": str(height), "width": str(width)})
    table = pa.Table.from_pandas(cutouts.table, preserve_index=False)
    table = table.append_column(LABEL, pa.array(np.asarray(cutouts.labels, dtype=np.int8)))
    return table.append_column(field, images)


def from_table(table, on_error="raise"):
    """Return the CutoutSet of an Arrow table or DataFrame; see :meth:`CutoutSet.from_table`."""
    return _cutouts_of(table, "table", on_error)


def write_parquet(cutouts, path):
    """Write a CutoutSet as a Parquet file; see :meth:`CutoutSet.to_parquet`."""
    table = to_table(cutouts)
    with atomic_write(path) as file:
        pq.write_table(
            table,
            file,
            row_group_size=ROW_GROUP,
            compression="zstd",
            column_encoding={"image.list.element": "BYTE_STREAM_SPLIT"},  # a sixth smaller, and faster
            use_dictionary=[name for name in TEXT_COLUMNS[1:] if name in table.column_names],
            write_page_checksum=True,
        )


def read_parquet(path, row_groups=None, on_error="raise"):
    """Return the CutoutSet of Parquet files; see :meth:`CutoutSet.read_parquet`."""
    paths = list_files(path)
    parts = list(_read_groups(paths, row_groups, on_error))
    if not parts:
        with _opened(paths[0]) as file:
            return _cutouts_of(file.schema_arrow.empty_table(), paths[0], on_error)
    filled = [part for part in parts if len(part)] or parts[:1]
    return CutoutSet(
        np.concatenate([part.images for part in filled]),
        np.concatenate([part.labels for part in filled]),
        pd.concat([part.table for part in filled], ignore_index=True),
        pd.concat([part.skipped for part in parts], ignore_index=True),
    )


def iter_parquet(path, rows=ROW_GROUP, on_error="raise"):
    """Read Parquet files a few rows at a time, so that the memory holds no more.

    Parameters
    ----------
    path : path-like
        A Parquet file, or a folder of ``*.parquet`` files, which are read in natural order.
    rows : int
        Cutouts at a time, at most.
    on_error : {"raise", "skip"}
        What to do about rows that cannot be used; see :meth:`CutoutSet.from_table`.

    Yields
    ------
    CutoutSet

    Raises
    ------
    FileNotFoundError, CutoutError
        As :meth:`CutoutSet.read_parquet` does.
    """
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    shape = None
    for file_path in list_files(path):
        for cutouts in iter_row_groups(file_path, None, rows, on_error, shape):
            shape = cutouts.images.shape[1:] if len(cutouts) else shape
            yield cutouts


def iter_row_groups(path, row_groups, rows=ROW_GROUP, on_error="raise", shape=None):
    """Read some row groups of one Parquet file, a few rows at a time.

    Parameters
    ----------
    path : path-like
    row_groups : sequence of int or None
        Their numbers; None is all.
    rows, on_error
        See :func:`iter_parquet`.
    shape : tuple of int, optional
        Height and width [px] that cutouts must have, that of most of the first ones if left out.

    Yields
    ------
    CutoutSet
    """
    with _opened(path) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        first_row = sum(sizes[: row_groups[0]]) if row_groups else 0
        for batch in file.iter_batches(rows, row_groups):
            cutouts = _cutouts_of(batch, path, on_error, shape, first_row)
            shape = cutouts.images.shape[1:] if len(cutouts) else shape
            first_row += len(batch)
            yield cutouts


def row_group_sizes(path):
    """Return how many cutouts each row group holds.

    Parameters
    ----------
    path : path-like
        A Parquet file, or a folder of ``*.parquet`` files, whose row groups are counted on in natural order.

    Returns
    -------
    list of int
        The places in it are the numbers that :meth:`CutoutSet.read_parquet` takes as `row_groups`.
    """
    sizes = []
    for file_path in list_files(path):
        with _opened(file_path) as file:
            sizes += [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    return sizes


def list_files(path):
    """Return a Parquet file, or the ``*.parquet`` files of a folder in natural order, as a list of paths."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; write one with CutoutSet.to_parquet")
    paths = sorted(path.glob("*.parquet"), key=lambda path: natural_key(path.name))
    if not paths:
        raise FileNotFoundError(f"{path}: holds no *.parquet files; write some with CutoutSet.to_parquet")
    return paths


@contextmanager
def _opened(path):
    """Open a Parquet file, of which no more is held than is asked for; have errors name it and the remedy."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise CutoutError(f"{path}: is no whole Parquet file ({reason}); {REWRITE}") from error


def _read_groups(paths, row_groups, on_error):
    """Yield the CutoutSet of each row group asked for, all of the shape of the first."""
    shape = None
    for path, number, first_row in _places(paths, row_groups):
        with _opened(path) as file:
            table = file.read_row_group(number)
        cutouts = _cutouts_of(table, path, on_error, shape, first_row)
        shape = cutouts.images.shape[1:] if len(cutouts) else shape
        yield cutouts


def _places(paths, row_groups):
    """Return file, number within the file and number of the first row of the row groups asked for."""
    places = []
    for path in paths:
        first_row = 0
        for number, size in enumerate(row_group_sizes(path)):
            places.append((path, number, first_row))
            first_row += size
    if row_groups is None:
        return places
    beyond = [number for number in row_groups if not 0 <= number < len(places)]
    if beyond:
        raise IndexError(f"{paths[0]}: row group {beyond[0]} asked for, there are {len(places)}, from 0")
    return [places[number] for number in row_groups]


def _cutouts_of(table, source, on_error, shape=None, first_row=0):
    """Return the usable rows of a table as a CutoutSet of a shape, by default that of most of them."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    _check_columns(table, source)
    stamps = _stamps(table)
    shape = shape or _stated_shape(table) or _common_shape(stamps, source)
    metadata = _metadata(table, source)
    images, faults = _stack(stamps, shape, metadata["name"])
    labels = _labels(table, metadata["name"], source)
    faults |= _other_faults(images, metadata, faults)
    if faults and on_error == "raise":
        raise CutoutError(_message(faults, len(images), source, first_row))
    rows = sorted(faults)
    skipped = pd.DataFrame(
        {"name": metadata["name"].iloc[rows].to_list(), "reason": [faults[row] for row in rows]}, dtype=object
    )
    if faults:
        good = np.setdiff1d(np.arange(len(images)), rows)
        images, labels, metadata = images[good], labels[good], metadata.iloc[good].reset_index(drop=True)
    return CutoutSet(images, labels, metadata, skipped)


def _message(faults, total, source, first_row):
    """Return an error message that tells the rows that cannot be used, and why the first of them."""
    rows = sorted(faults)
    numbers = ", ".join(str(first_row + row) for row in rows[:10]) + ", ..." * (len(rows) > 10)
    reason = faults[rows[0]].removesuffix(f"; {REMEDY}")
    return (
        f"{source}: {len(rows)} of {total} rows cannot be used, counted from 0: {numbers}; "
        f"the first: {reason}; {REMEDY}"
    )


def _check_columns(table, source):
    names = _names(table)
    missing = [name for name in (*COLUMNS, IMAGE) if name not in (*names, *OPTIONAL_COLUMNS)]
    if missing:
        raise CutoutError(
            f"{source}: lacks the columns {', '.join(missing)}; it has {', '.join(map(str, names[:30]))}; "
            "rename or add columns (image: a list of pixels)"
        )


def _stamps(table):
    """Return the pixels of each row as a float32 array, with one axis or two; empty where there are none."""
    try:
        lists = _column(table, IMAGE)
        lists = _only_field(lists)  # as nested-pandas writes them
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
        pixels = _only_field(lists.flatten())  # as nested-pandas hands them over
        values = pixels.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError):  # lists of lists, or arrays with two axes
        rows = table[IMAGE].to_pylist() if hasattr(table[IMAGE], "to_pylist") else table[IMAGE]
        return [_stamp(row) for row in rows]
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lists) else []


def _only_field(array):
    """Return what a structure of one field holds; any other array as it is."""
    return array.flatten()[0] if pa.types.is_struct(array.type) and array.type.num_fields == 1 else array


def _stamp(row):
    try:
        return np.asarray([] if row is None else np.stack(row), dtype=np.float32)
    except (ValueError, TypeError):
        return np.empty(0, dtype=np.float32)


def _stated_shape(table):
    """Return height and width from the metadata of the column or of the table; None if there are none."""
    if isinstance(table, pd.DataFrame):
        return None
    for metadata in (table.schema.field(IMAGE).metadata, table.schema.metadata):
        if metadata and b"height" in metadata and b"width" in metadata:
            return int(metadata[b"height"]), int(metadata[b"width"])
    return None


def _common_shape(stamps, source):
    shapes = Counter(stamp.shape for stamp in stamps if stamp.size)
    shape = shapes.most_common(1)[0][0] if shapes else CUTOUT_SHAPE
    if len(shape) == 2:
        return shape
    side = isqrt(shape[0])
    if len(shape) != 1 or side * side != shape[0]:
        raise CutoutError(
            f"{source}: image has shape {shape}, which is no square cutout; "
            "give the column the metadata height and width [px]"
        )
    return side, side


def _stack(stamps, shape, names):
    """Return the pixels as a stack, and why rows are unfit for it, by row."""
    images, faults = np.zeros((len(stamps), *shape), dtype=np.float32), {}
    height, width = shape
    for row, stamp in enumerate(stamps):
        if stamp.shape in (shape, (height * width,)):
            images[row] = stamp.reshape(shape)
        else:
            found = " x ".join(map(str, stamp.shape))
            faults[row] = f"{names.iloc[row]}: expected {height} x {width} px, got {found}"
    return images, faults


def _metadata(table, source):
    """Return the columns other than label and image, in their order, with the types of CutoutSet.table."""
    names, columns = _names(table), {}
    for name in (*names, *(name for name in OPTIONAL_COLUMNS if name not in names)):
        if name in (LABEL, IMAGE):
            continue
        if name not in names:
            columns[name] = None if name in TEXT_COLUMNS else np.nan
        elif name in TEXT_COLUMNS:
            columns[name] = _converted(table, name, pa.string(), source).to_pandas()
        elif name in COLUMNS:
            columns[name] = _converted(table, name, pa.float64(), source).to_numpy(zero_copy_only=False)
        elif isinstance(table, pd.DataFrame):
            columns[name] = table[name].reset_index(drop=True)
        else:
            frame = table.select([name]).to_pandas()
            columns[name] = pd.Series(frame.get(name, frame.index)).reset_index(drop=True)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _labels(table, names, source):
    if LABEL not in _names(table):
        return np.array([label_of(str(name)) for name in names], dtype=np.int8)
    labels = _converted(table, LABEL, pa.float64(), source).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    if not np.isin(labels, (*range(len(CLASS_NAMES)), UNKNOWN)).all():
        raise CutoutError(f"{source}: label holds values other than 0 (star), 1 (galaxy) and -1 (unknown)")
    return labels.astype(np.int8)


def _names(table):
    return list(table.columns if isinstance(table, pd.DataFrame) else table.schema.names)


def _column(table, name):
    """Return a column of an Arrow table or of a DataFrame as one Arrow array."""
    column = table[name]
    if isinstance(table, pd.DataFrame):
        column = pa.array(column, from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _converted(table, name, kind, source):
    try:
        column = _column(table, name)
        return column if pa.types.is_null(column.type) and kind == pa.string() else column.cast(kind)
    except pa.ArrowException as error:
        raise CutoutError(f"{source}: column {name}: expected {kind} values ({error})") from error


def _other_faults(images, metadata, known):
    """Return why rows fail :func:`ztf_sg.cutouts.dataset.check_cutout`, by row."""
    suspect = ~np.isfinite(images).all(axis=(1, 2)) | metadata[NEEDED_VALUES].isna().any(axis=1).to_numpy()
    suspect |= (metadata[[key.lower() for key in POSITIVE_KEYS]] <= 0).any(axis=1).to_numpy()
    faults = {}
    for row in set(np.flatnonzero(suspect).tolist()) - set(known):
        values = metadata.iloc[row]
        header = {key: values[key.lower()] for key in HEADER_KEYS if not pd.isna(values[key.lower()])}
        try:
            check_cutout(values["name"], images[row], {"ORIGIN": "", **header})
        except CutoutError as error:
            faults[row] = str(error)
    return faults
