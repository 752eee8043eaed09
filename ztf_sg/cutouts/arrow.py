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
    LABELS,
    POSITIVE_KEYS,
    REMEDY,
    REQUIRED_KEYS,
    SKIPPED_COLUMNS,
    TEXT_KEYS,
    UNKNOWN,
    CutoutError,
    CutoutParts,
    check_cutout,
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
NUMBER_COLUMNS = [name for name in COLUMNS if name not in TEXT_COLUMNS]
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
    with_cutouts = [part for part in parts if len(part.images)] or parts[:1]
    if not with_cutouts:
        paths = list_files(path)
        with _opened(paths[0]) as file:
            table = _with_columns(file.schema_arrow.empty_table(), hive_columns(paths)[0])
            return parts_of_table(table, paths[0], on_error)
    images, labels, tables, _ = zip(*with_cutouts, strict=True)
    return CutoutParts(
        np.concatenate(images),
        np.concatenate(labels),
        pd.concat(tables, ignore_index=True),
        pd.concat([part.skipped for part in parts], ignore_index=True),
    )


def read_row_groups(path, row_groups, rows, on_error):
    """Yield CutoutParts of Parquet files; see :func:`ztf_sg.cutouts.iter_row_groups`."""
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    check_on_error(on_error)
    paths = list_files(path)
    found, damaged = _find_row_groups(paths, on_error)
    columns = dict(zip(paths, hive_columns(paths), strict=True))
    wanted = range(len(found)) if row_groups is None else list(row_groups)
    for number in wanted:
        if not 0 <= number < len(found):
            raise IndexError(f"{path}: row group {number} asked for, there are {len(found)}, from 0")
    if damaged:
        yield _nothing_but(damaged)
    shape = None
    for file_path, groups in groupby([found[number] for number in wanted], key=itemgetter(0)):
        for batch, numbers, faults in _batches(file_path, list(groups), rows, on_error):
            if faults:
                yield _nothing_but(faults)
                continue
            table = _with_columns(batch, columns[file_path])
            parts = parts_of_table(table, file_path, on_error, shape, numbers)
            shape = parts.images.shape[1:] if len(parts.images) else shape
            yield parts


def _batches(path, groups, rows, on_error):
    """Yield tables of some row groups of a file, with the numbers of their rows, and names of damaged groups.

    Only if a group is damaged are they read one by one.
    """
    done = 0
    try:
        row_numbers = chain.from_iterable(row_range for *_, row_range in groups)
        with _opened(path) as file:
            for batch in file.iter_batches(rows, [group for _, group, _ in groups]):
                numbers = list(islice(row_numbers, len(batch)))
                yield batch, numbers, {}
                done += len(batch)
    except CutoutError as error:
        if on_error == "raise":
            raise
        for _, group, row_range in groups:
            size, start = len(row_range), min(done, len(row_range))
            done -= start
            if start == size:
                continue
            try:
                with _opened(path) as file:
                    # read_row_group does not check the pages
                    table = pa.Table.from_batches(file.iter_batches(size, [group])).slice(start)
            except CutoutError:
                name = f"{path.name}, row group {group}"
                yield None, None, {name: f"{size - start} rows are lost: {error}"}
            else:
                for part in range(0, len(table), rows):
                    numbers = list(row_range[start + part : start + part + rows])
                    yield table.slice(part, rows), numbers, {}


def _with_columns(table, values):
    """Return a table or record batch with columns of one value each, unless it has them already."""
    missing = {name: value for name, value in values.items() if name not in table.schema.names}
    if missing and isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    for name, value in missing.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _nothing_but(faults):
    """Return CutoutParts without cutouts, which list faults by name."""
    skipped = pd.DataFrame(list(faults.items()), columns=SKIPPED_COLUMNS, dtype=object)
    table = pd.DataFrame(columns=COLUMNS)
    return CutoutParts(np.empty((0, *CUTOUT_SHAPE), np.float32), np.empty(0, np.int8), table, skipped)


def row_group_sizes(path):
    """Return the number of cutouts in each row group, as a list; path and errors as of `iter_row_groups`."""
    return [len(rows) for *_, rows in _find_row_groups(list_files(path))[0]]


def parts_of_table(table, source, on_error, shape=None, row_numbers=None):
    """Return the CutoutParts of the usable rows of a table; see :meth:`CutoutSet.from_table`.

    Messages name the source, and rows by their numbers in it, from 0 unless given. Cutouts must have the
    shape given, else that which the table states, else that of most.
    """
    check_on_error(on_error)
    pixels, stated_shape, frame = _unpacked(table, source)
    shape = shape or stated_shape or _common_shape(pixels, source)
    metadata, faults = complete_metadata(frame, source)
    labels = _labels(frame, source, faults)
    row_numbers = list(row_numbers or range(len(frame)))
    names = names_of(metadata, row_numbers)
    images = _stack(pixels, shape, faults)
    faults = {row: f"{names[row]}: {fault}; {REMEDY}" for row, fault in faults.items()}
    faults = faults_by_row(images, metadata, names) | faults
    rows = sorted(faults)
    if faults and on_error == "raise":
        numbers = ", ".join(str(row_numbers[row]) for row in rows[:10]) + ", ..." * (len(rows) > 10)
        raise CutoutError(
            f"{source}: {len(rows)} of {len(images)} rows cannot be used, counted from 0: {numbers}; "
            f"the first: {faults[rows[0]]}"
        )
    skipped = pd.DataFrame(
        {"name": [names[row] for row in rows], "reason": [faults[row] for row in rows]}, dtype=object
    )
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:  # trouble of the disk, not of the file
            raise
        reason = " ".join(str(error).split())
        raise CutoutError(
            f"{path}: is no whole Parquet file ({reason}); write it again with CutoutSet.to_parquet"
        ) from error


def _find_row_groups(paths, on_error="raise"):
    """Return file, number and range of row numbers of each row group, and faults of damaged files by name."""
    found, damaged = [], {}
    for file_path in paths:
        try:
            with _opened(file_path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        except CutoutError as error:
            if on_error == "raise":
                raise
            damaged[file_path.name] = str(error)
            continue
        ends = accumulate(sizes)
        found += [(file_path, number, range(end - sizes[number], end)) for number, end in enumerate(ends)]
    return found, damaged


def _unpacked(table, source):
    """Return the pixels of each row, the shape that the table states or None, and a DataFrame of the rest."""
    if not isinstance(table, pd.DataFrame | pa.Table | pa.RecordBatch):
        raise TypeError(
            f"{source}: expected a pandas.DataFrame or a pyarrow.Table, got {type(table).__name__}"
        )
    names = list(table.columns if isinstance(table, pd.DataFrame) else table.schema.names)
    check_columns(names, (*COLUMNS, IMAGE), source)
    if isinstance(table, pd.DataFrame):
        frame = table.drop(columns=IMAGE).reset_index(drop=True)
        return _pixels(table[IMAGE].reset_index(drop=True), source), None, frame
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    frame = table.drop_columns(IMAGE).to_pandas()
    field = table.schema.field(IMAGE)
    stated = (table.schema.metadata or {}) | (field.metadata or {})
    shape = None
    if isinstance(field.type, pa.FixedShapeTensorType):
        shape = tuple(field.type.shape)
    elif {b"height", b"width"} <= stated.keys():
        shape = tuple(int(stated[key]) for key in (b"height", b"width"))
    return _pixels(table[IMAGE], source), shape, frame.reset_index(drop=frame.index.names == [None])


def check_columns(names, needed, source):
    """Raise a CutoutError unless a table has the columns needed, each once; the optional ones may lack."""
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise CutoutError(f"{source}: has several columns {', '.join(twice)}; rename or drop the others")
    missing = [name for name in needed if name not in (*names, *OPTIONAL_COLUMNS)]
    if missing:
        others = [str(name) for name in names if str(name).lower() in missing]
        hint = f"rename {', '.join(others)} to lower case" if others else "rename or add columns"
        raise CutoutError(
            f"{source}: lacks the columns {', '.join(missing)}; it has {', '.join(map(str, names[:30]))}; "
            f"{hint}{' (image: a list of pixels)' * (IMAGE in missing)}"
        )


def _pixels(column, source):
    """Return the pixels of each row as a float32 array, with one axis or two; empty where there are none."""
    try:
        lists = pa.array(column, from_pandas=True) if isinstance(column, pd.Series) else column
    except (pa.ArrowException, TypeError, ValueError):  # arrays with two axes, or values of several types
        return [_pixels_of_row(row) for row in column]
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    if isinstance(lists, pa.ExtensionArray):
        lists = lists.storage
    if pa.types.is_dictionary(lists.type):
        lists = lists.dictionary_decode()
    lists = _only_field(lists)  # as nested-pandas writes them
    _check_pixel_type(lists, source)
    if pa.types.is_null(lists.type):
        return [_pixels_of_row(None)] * len(lists)
    values = _only_field(lists.flatten())  # as nested-pandas hands them over
    if _is_list(values.type):
        return [_pixels_of_row(row) for row in lists.to_pylist()]
    _check_number_type(values.type, source)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    with np.errstate(over="ignore"):
        values = values.cast(pa.float64()) if pa.types.is_decimal(values.type) else values
        values = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if len(set(lengths.tolist())) == 1:
        return values.reshape(len(lists), -1)
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lists) else []


def _is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _check_pixel_type(lists, source):
    """Raise a CutoutError unless a column holds lists: each byte of others might pass for a pixel."""
    kind = lists.type
    if _is_list(kind) or pa.types.is_null(kind):
        return
    remedy = "give each row a list or an array of pixels [DN]"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        remedy += "; if Dask made text of arrays, set its option dataframe.convert-string to False before"
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        first = next((value.as_py() for value in lists if value.is_valid), b"")
        if first.startswith((b"\x1f\x8b", b"SIMPLE")):
            remedy = "these are FITS files, as in alerts: write each to a file, and use load_cutouts"
        else:
            remedy += ", such as numpy.frombuffer(value, dtype)"
    raise CutoutError(f"{source}: column image: expected lists of pixels, got {kind}; {remedy}")


def _check_number_type(kind, source):
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_number or pa.types.is_null(kind)):
        raise CutoutError(
            f"{source}: column image: expected lists of numbers, got lists of {kind}; give pixels [DN]"
        )


def _only_field(array):
    """Return what a structure of one field holds; any other array as it is."""
    return array.flatten()[0] if pa.types.is_struct(array.type) and array.type.num_fields == 1 else array


def _pixels_of_row(row):
    """Return pixels as float32; what is no list of numbers is an empty array."""
    try:
        if isinstance(row, str | bytes | bytearray | memoryview):
            raise TypeError("no list")
        pixels = np.asarray(np.stack(row))
        with np.errstate(over="ignore"):
            return pixels.astype(np.float32) if pixels.dtype.kind in "fiu" else np.empty(0, dtype=np.float32)
    except (ValueError, TypeError):
        return np.empty(0, dtype=np.float32)


def _common_shape(pixels, source):
    """Return height and width of most cutouts; lists of pixels are taken for square ones."""
    shapes = [row.shape for row in pixels if row.size]
    usable = [shape for shape in shapes if len(shape) == 2 or isqrt(shape[0]) ** 2 == shape[0]]
    if shapes and not usable:
        raise CutoutError(
            f"{source}: image has shape {mode(shapes)}, which is no square cutout; "
            "give the column the metadata height and width [px]"
        )
    shape = mode(usable) if usable else CUTOUT_SHAPE
    return shape if len(shape) == 2 else (isqrt(shape[0]),) * 2


def _stack(pixels, shape, faults):
    """Return the pixels as one array (n, height, width), and add to the faults by row."""
    size = shape[0] * shape[1]
    if isinstance(pixels, np.ndarray) and pixels.shape[1] == size:
        return np.array(pixels).reshape(-1, *shape)
    images = np.zeros((len(pixels), *shape), dtype=np.float32)
    for row, found in enumerate(pixels):
        if found.shape in (shape, (size,)):
            images[row] = found.reshape(shape)
        else:
            faults[row] = shape_fault(shape, found.shape) if found.size else "its image is no list of pixels"
    return images


def complete_metadata(frame, source):
    """Return a table of cutouts with all columns, of the types of CutoutSet.table, and faults by row.

    Columns that may lack are filled in; those that a CutoutSet does not know stay as they are, but for the
    label, which is left out.
    """
    columns = {name: column for name, column in frame.items() if name != LABEL}
    faults = {}
    for name in COLUMNS:
        if name not in columns:
            columns[name] = None if name in TEXT_COLUMNS else np.nan
        elif name in TEXT_COLUMNS:
            columns[name] = _converted(frame[name], pa.string(), source, faults)
        elif frame[name].dtype != np.float64:
            columns[name] = _converted(frame[name], pa.float64(), source, faults)
    table = pd.DataFrame(columns, index=frame.index)
    outside = ~table["ra"].between(0, 360, inclusive="left") & np.isfinite(table["ra"])
    if outside.any():
        table.loc[outside, "ra"] %= 360
    return table, faults


def names_of(metadata, row_numbers=None):
    """Return what to call the rows of a table: names, or "row" and a number, from 0 unless given."""
    numbers = row_numbers or range(len(metadata))
    return [f"row {n}" if pd.isna(name) else name for n, name in zip(numbers, metadata["name"], strict=True)]


def _labels(frame, source, faults):
    """Return labels, int8 (n,), and add to the faults by row."""
    if LABEL not in frame:
        return np.array([label_of(str(name)) for name in frame["name"]], dtype=np.int8)
    labels = _converted(frame[LABEL], pa.float64(), source, faults)
    labels = np.where(np.isnan(labels), UNKNOWN, labels)
    for row in np.flatnonzero(~np.isin(labels, LABELS)).tolist():
        faults[row] = f"its label is {labels[row]:g}, expected 0 (star), 1 (galaxy) or -1 (unknown)"
    return np.where(np.isin(labels, LABELS), labels, UNKNOWN).astype(np.int8)


def _converted(column, kind, source, faults):
    """Return a column as text or float64, and add the rows that cannot be converted to the faults by row.

    Raises a CutoutError if none can.
    """
    is_text = kind == pa.string()
    try:
        array = pa.array(column, from_pandas=True)
        is_object = pd.api.types.is_object_dtype(column.dtype)
        if pa.types.is_boolean(array.type) or (is_object and column.map(pd.api.types.is_bool).any()):
            raise pa.ArrowTypeError("truth values")
        if is_text:
            return (array if pa.types.is_null(array.type) else array.cast(kind)).to_pandas().array
        return array.cast(kind).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        values, bad = np.full(len(column), None if is_text else np.nan, object if is_text else float), {}
        for row, value in enumerate(column):
            try:
                values[row] = _text(value, column.name) if is_text else _number(value)
            except (TypeError, ValueError, OverflowError):
                bad[row] = f"its {column.name} is {value!r:.40}, expected {'text' if is_text else 'a number'}"
        if len(bad) == len(column):
            raise CutoutError(f"{source}: column {column.name}: expected {kind} values ({error})") from error
        faults.update(bad)
        return values


def _is_missing(value):
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _number(value):
    if isinstance(value, bool | np.bool_):
        raise TypeError("a truth value")
    return np.nan if _is_missing(value) else float(value)


def _text(value, column):
    if isinstance(value, bytes):
        return value.decode()
    if not (_is_missing(value) or isinstance(value, str) or column == "name"):
        raise TypeError("not a text")
    return None if _is_missing(value) else str(value)


def faults_by_row(images, metadata, names):
    """Return the errors of check_cutout by row; whole columns tell which rows are worth checking."""
    numbers = metadata[NUMBER_COLUMNS].to_numpy(float)
    suspect = ~np.isfinite(images).all(axis=(1, 2)) | metadata[NEEDED_COLUMNS].isna().any(axis=1).to_numpy()
    suspect |= np.isinf(numbers).any(axis=1) | (np.abs(metadata["dec"]) > 90).to_numpy()
    suspect |= (metadata[[key.lower() for key in POSITIVE_KEYS]] <= 0).any(axis=1).to_numpy()
    faults = {}
    for row in np.flatnonzero(suspect).tolist():
        values = metadata.iloc[row]
        header = {key: values[key.lower()] for key in HEADER_KEYS if not pd.isna(values[key.lower()])}
        try:
            if np.isinf(values["ra"]) or np.abs(values["dec"]) > 90:
                position = f"ra {values['ra']}, dec {values['dec']}"
                raise CutoutError(f"{names[row]}: {position} is no position on the sky [deg]; {REMEDY}")
            check_cutout(names[row], images[row], {"ORIGIN": "", **header})
        except CutoutError as error:
            faults[row] = str(error)
    return faults
