"""Cutouts as tables and Parquet files, for sets too large for a folder of files or for the memory."""

from contextlib import contextmanager
from itertools import accumulate, chain, groupby, islice
from math import isqrt
from operator import itemgetter
from statistics import mode

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztf_sg.cutouts.listing import hive_columns, list_files
from ztf_sg.cutouts.schema import (
    APERTURE_KEYS,
    COLUMNS,
    HEADER_KEYS,
    POSITIVE_KEYS,
    REMEDY,
    REQUIRED_KEYS,
    TEXT_KEYS,
    UNKNOWN,
    CutoutError,
    CutoutParts,
    check_cutout,
    check_labels,
    check_on_error,
    label_of,
    shape_fault,
)
from ztf_sg.files import atomic_write
from ztf_sg.ztf import CUTOUT_SHAPE

ROW_GROUP = 4096  # rows that are written, and read, at a time: 6.5 MB of pixels at 20 x 20 px
LABEL, IMAGE = "label", "image"
TEXT_COLUMNS = ("name", *(key.lower() for key in TEXT_KEYS))
OPTIONAL_COLUMNS = ("origin", *(key.lower() for key in APERTURE_KEYS))
NEEDED_COLUMNS = [key.lower() for key in REQUIRED_KEYS if key != "ORIGIN"]


def to_table(images, labels, table):
    """Return the Arrow table of cutouts; see :meth:`CutoutSet.to_table`."""
    taken = {LABEL, IMAGE} & set(table.columns)
    if taken:
        raise ValueError(f"the table has a column {taken.pop()!r} already; rename it")
    height, width = images.shape[1:]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(images).ravel()), height * width)
    field = pa.field(IMAGE, lists.type, metadata={"height": str(height), "width": str(width)})
    columns = pa.Table.from_pandas(table, preserve_index=False)
    return columns.append_column(LABEL, pa.array(labels)).append_column(field, lists)


def write_parquet(table, path):
    """Write what :func:`to_table` returned as a Parquet file."""
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


def read_parquet(path, row_groups, on_error):
    """Return the CutoutParts of Parquet files; see :meth:`CutoutSet.read_parquet`."""
    parts = list(read_row_groups(path, row_groups, ROW_GROUP, on_error))
    if not parts:
        paths = list_files(path)
        with _opened(paths[0]) as file:
            table = _with_columns(file.schema_arrow.empty_table(), hive_columns(paths)[0])
            return parts_of_table(table, paths[0], on_error)
    skipped = pd.concat([part.skipped for part in parts], ignore_index=True)
    images, labels, tables, _ = zip(*([part for part in parts if len(part.images)] or parts[:1]), strict=True)
    return CutoutParts(
        np.concatenate(images), np.concatenate(labels), pd.concat(tables, ignore_index=True), skipped
    )


def read_row_groups(path, row_groups, rows, on_error):
    """Yield CutoutParts of Parquet files; see :func:`ztf_sg.cutouts.iter_row_groups`."""
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    paths, shape = list_files(path), None
    found, hive = _find_row_groups(paths), dict(zip(paths, hive_columns(paths), strict=True))
    wanted = range(len(found)) if row_groups is None else list(row_groups)
    for number in wanted:
        if not 0 <= number < len(found):
            raise IndexError(f"{path}: row group {number} asked for, there are {len(found)}, from 0")
    for file_path, groups in groupby([found[number] for number in wanted], key=itemgetter(0)):
        _, in_file, row_ranges = zip(*groups, strict=True)
        row_numbers = chain.from_iterable(row_ranges)
        with _opened(file_path) as file:
            for batch in file.iter_batches(rows, in_file):
                numbers = list(islice(row_numbers, len(batch)))
                table = _with_columns(batch, hive[file_path])
                parts = parts_of_table(table, file_path, on_error, shape, numbers)
                shape = parts.images.shape[1:] if len(parts.images) else shape
                yield parts


def row_group_sizes(path):
    """Return the number of cutouts in each row group, as a list; path and errors as of `iter_row_groups`."""
    return [len(rows) for *_, rows in _find_row_groups(list_files(path))]


def parts_of_table(table, source, on_error, shape=None, row_numbers=None):
    """Return the CutoutParts of the usable rows of a table; see :meth:`CutoutSet.from_table`.

    Messages name the source, and rows by their numbers in it, from 0 unless given. Cutouts must have the
    shape given, else that which the table states, else that of most.
    """
    check_on_error(on_error)
    pixels, stated_shape, frame = _unpacked(table, source)
    shape = shape or stated_shape or _common_shape(pixels, source)
    metadata, labels = _metadata(frame, source), _labels(frame, source)
    images, odd_shapes = _stack(pixels, shape, metadata["name"])
    faults = _faults_by_row(images, metadata) | odd_shapes
    rows = sorted(faults)
    if faults and on_error == "raise":
        row_numbers = row_numbers or range(len(images))
        numbers = ", ".join(str(row_numbers[row]) for row in rows[:10]) + ", ..." * (len(rows) > 10)
        raise CutoutError(
            f"{source}: {len(rows)} of {len(images)} rows cannot be used, counted from 0: {numbers}; "
            f"the first: {faults[rows[0]].removesuffix(f'; {REMEDY}')}; {REMEDY}"
        )
    names = metadata["name"].iloc[rows].to_list()
    skipped = pd.DataFrame({"name": names, "reason": [faults[row] for row in rows]}, dtype=object)
    if faults:
        good = np.setdiff1d(np.arange(len(images)), rows)
        images, labels, metadata = images[good], labels[good], metadata.iloc[good].reset_index(drop=True)
    return CutoutParts(images, labels, metadata, skipped)


@contextmanager
def _opened(path):
    """Open a Parquet file without reading ahead; errors name the file and the remedy."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise CutoutError(
            f"{path}: is no whole Parquet file ({reason}); write it again with CutoutSet.to_parquet"
        ) from error


def _find_row_groups(paths):
    """Return file, number within the file, and range of row numbers in the file of each row group."""
    found = []
    for file_path in paths:
        with _opened(file_path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = accumulate(sizes)
        found += [(file_path, number, range(end - sizes[number], end)) for number, end in enumerate(ends)]
    return found


def _with_columns(table, values):
    """Return a table or record batch with columns of one value each, unless it has them already."""
    missing = {name: value for name, value in values.items() if name not in table.schema.names}
    if missing and isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    for name, value in missing.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _unpacked(table, source):
    """Return the pixels of each row, the shape that the table states or None, and a DataFrame of the rest."""
    names = list(table.columns if isinstance(table, pd.DataFrame) else table.schema.names)
    missing = [name for name in (*COLUMNS, IMAGE) if name not in (*names, *OPTIONAL_COLUMNS)]
    if missing:
        raise CutoutError(
            f"{source}: lacks the columns {', '.join(missing)}; it has {', '.join(map(str, names[:30]))}; "
            "rename or add columns (image: a list of pixels)"
        )
    if isinstance(table, pd.DataFrame):
        return _pixels(table[IMAGE]), None, table.drop(columns=IMAGE).reset_index(drop=True)
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    frame = table.drop_columns(IMAGE).to_pandas()
    stated = (table.schema.metadata or {}) | (table.schema.field(IMAGE).metadata or {})
    shape = (
        tuple(int(stated[key]) for key in (b"height", b"width"))
        if {b"height", b"width"} <= stated.keys()
        else None
    )
    return _pixels(table[IMAGE]), shape, frame.reset_index(drop=frame.index.names == [None])


def _pixels(column):
    """Return the pixels of each row as a float32 array, with one axis or two; empty where there are none."""
    try:
        lists = pa.array(column, from_pandas=True) if isinstance(column, pd.Series) else column
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        lists = _only_field(lists)  # as nested-pandas writes them
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
        values = _only_field(lists.flatten())  # as nested-pandas hands them over
        values = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError):  # lists of lists, or arrays with two axes
        return [
            _pixels_of_row(row) for row in (column if isinstance(column, pd.Series) else column.to_pylist())
        ]
    if len(set(lengths.tolist())) == 1:
        return values.reshape(len(lists), -1)
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lists) else []


def _only_field(array):
    """Return what a structure of one field holds; any other array as it is."""
    return array.flatten()[0] if pa.types.is_struct(array.type) and array.type.num_fields == 1 else array


def _pixels_of_row(row):
    try:
        return np.asarray([] if row is None else np.stack(row), dtype=np.float32)
    except (ValueError, TypeError):
        return np.empty(0, dtype=np.float32)


def _common_shape(pixels, source):
    """Return height and width of most cutouts; lists of pixels are taken for square ones."""
    shapes = [row.shape for row in pixels if row.size]
    shape = mode(shapes) if shapes else CUTOUT_SHAPE
    if len(shape) == 2:
        return shape
    side = isqrt(shape[0])
    if len(shape) != 1 or side * side != shape[0]:
        raise CutoutError(
            f"{source}: image has shape {shape}, which is no square cutout; "
            "give the column the metadata height and width [px]"
        )
    return side, side


def _stack(pixels, shape, names):
    """Return the pixels as one array (n, height, width), and faults by row."""
    size = shape[0] * shape[1]
    if isinstance(pixels, np.ndarray) and pixels.shape[1] == size:
        return np.array(pixels).reshape(-1, *shape), {}
    images, faults = np.zeros((len(pixels), *shape), dtype=np.float32), {}
    for row, found in enumerate(pixels):
        if found.shape in (shape, (size,)):
            images[row] = found.reshape(shape)
        else:
            faults[row] = shape_fault(names.iloc[row], shape, found.shape)
    return images, faults


def _metadata(frame, source):
    """Return the columns other than the label, in their order, with the types of CutoutSet.table."""
    columns = {name: column for name, column in frame.items() if name != LABEL}
    for name in COLUMNS:
        if name not in columns:
            columns[name] = None if name in TEXT_COLUMNS else np.nan
        elif name in TEXT_COLUMNS:
            columns[name] = _converted(frame[name], pa.string(), source).to_pandas()
        elif frame[name].dtype != np.float64:
            columns[name] = _converted(frame[name], pa.float64(), source).to_numpy(zero_copy_only=False)
    return pd.DataFrame(columns, index=frame.index)


def _labels(frame, source):
    if LABEL not in frame:
        return np.array([label_of(str(name)) for name in frame["name"]], dtype=np.int8)
    labels = _converted(frame[LABEL], pa.float64(), source).fill_null(UNKNOWN)
    return check_labels(labels.to_numpy(zero_copy_only=False), f"{source}: label")


def _converted(column, kind, source):
    """Return a column as an Arrow array of a type; gaps are nulls."""
    try:
        array = pa.array(column, from_pandas=True)
        return array if pa.types.is_null(array.type) and kind == pa.string() else array.cast(kind)
    except pa.ArrowException as error:
        raise CutoutError(f"{source}: column {column.name}: expected {kind} values ({error})") from error


def _faults_by_row(images, metadata):
    """Return the errors of check_cutout by row; whole columns tell which rows are worth checking."""
    suspect = ~np.isfinite(images).all(axis=(1, 2)) | metadata[NEEDED_COLUMNS].isna().any(axis=1).to_numpy()
    suspect |= (metadata[[key.lower() for key in POSITIVE_KEYS]] <= 0).any(axis=1).to_numpy()
    faults = {}
    for row in np.flatnonzero(suspect).tolist():
        values = metadata.iloc[row]
        header = {key: values[key.lower()] for key in HEADER_KEYS if not pd.isna(values[key.lower()])}
        try:
            check_cutout(values["name"], images[row], {"ORIGIN": "", **header})
        except CutoutError as error:
            faults[row] = str(error)
    return faults
