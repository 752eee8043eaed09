"""Cutouts in the rows of tables: the columns of Arrow tables and DataFrames, and what is wrong with a row."""

import re
import warnings
from math import isqrt
from statistics import mode

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ztf_sg.checks import filled
from ztf_sg.cutouts.schema import (
    APERTURE_KEYS,
    BOUNDS,
    COLUMNS,
    HEADER_KEYS,
    LABELS,
    REQUIRED_KEYS,
    TEXT_KEYS,
    UNKNOWN,
    CutoutError,
    CutoutParts,
    check_cutout,
    check_on_error,
    label_of,
    plain_float,
    shape_fault,
    without_single_axes,
)
from ztf_sg.ztf import CUTOUT_SHAPE, one_turn

LABEL, IMAGE = "label", "image"
TEXT_COLUMNS = ("name", *(key.lower() for key in TEXT_KEYS))
OPTIONAL_COLUMNS = ("origin", *(key.lower() for key in APERTURE_KEYS))
NUMBER_COLUMNS = [name for name in COLUMNS if name not in TEXT_COLUMNS]
NEEDED_COLUMNS = [key.lower() for key in REQUIRED_KEYS if key != "ORIGIN"]
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")  # as pandas writes it
NO_PIXELS = np.empty(0, np.float32)


def parts_of_table(table, source, on_error, shape=None, row_numbers=None, with_labels=True):
    """Return the CutoutParts of the usable rows of a table; see :meth:`CutoutSet.from_table`.

    Messages name the source, and rows by their numbers in it, from 0 unless given. Cutouts must have the
    shape given, else that which the table states, else that of most. Without labels all are unknown.
    """
    check_on_error(on_error)
    pixels, stated_shape, frame = _unpacked(table, source)
    shape = shape or stated_shape or _common_shape(pixels, source)
    metadata, faults = complete_metadata(frame.drop(columns=LABEL, errors="ignore"), source)
    unknown = np.full(len(frame), UNKNOWN, np.int8)
    labels = _labels(frame, source, faults) if with_labels else unknown
    row_numbers = list(row_numbers or range(len(frame)))
    names = names_of(metadata, row_numbers)
    images = _stack(pixels, shape, faults)
    faults = {row: f"{names[row]}: {fault}" for row, fault in faults.items()}
    faults = faults_by_row(images, metadata, names) | faults
    rows = sorted(faults)
    if faults and on_error == "raise":
        numbers = ", ".join(str(row_numbers[row]) for row in rows[:10]) + ", ..." * (len(rows) > 10)
        raise CutoutError(
            f"{source}: {len(rows)} of {len(images)} rows cannot be used, counted from 0: {numbers}; "
            f"the first: {faults[rows[0]]}; mend or drop them, or pass on_error='skip'"
        )
    skipped = pd.DataFrame(
        {"name": [names[row] for row in rows], "reason": [faults[row] for row in rows]}, dtype=object
    )
    if faults:
        good = np.setdiff1d(np.arange(len(images)), rows)
        images, labels, metadata = images[good], labels[good], metadata.iloc[good].reset_index(drop=True)
    return CutoutParts(images, labels, metadata, skipped)


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
    frame = pd.DataFrame(dict(_columns(table, source)), index=range(len(table)))
    return _pixels(table[IMAGE], source), _stated_shape(table.schema, source), frame


def _columns(table, source):
    """Yield names and columns of an Arrow table for pandas, but for the image and an unnamed index."""
    for name in table.column_names:
        if name == IMAGE or UNNAMED_INDEX.fullmatch(name):
            continue
        try:
            yield name, table[name].to_pandas()
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = f"{source}: column {name}: pandas cannot hold it ({error})"
            if name in (*COLUMNS, LABEL):
                raise CutoutError(f"{reason}; convert it") from error
            warnings.warn(f"{reason}; it is left out", stacklevel=2)


def shape_of_table(table, source):
    """Return height and width of the cutouts of an Arrow table: those stated, else those of most."""
    check_columns(table.schema.names, [IMAGE], source)
    return _stated_shape(table.schema, source) or _common_shape(_pixels(table.column(IMAGE), source), source)


def _stated_shape(schema, source):
    """Return height and width [px] as a schema states them, or None."""
    field = schema.field(IMAGE)
    stated = (schema.metadata or {}) | (field.metadata or {})
    if isinstance(field.type, pa.FixedShapeTensorType):
        shape = without_single_axes(field.type.shape)
        return shape if len(shape) == 2 else None
    if not {b"height", b"width"} <= stated.keys():
        return None
    height, width = stated[b"height"], stated[b"width"]
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise CutoutError(
            f"{source}: the metadata state height {height!r} and width {width!r}, expected numbers "
            "of pixels; correct or remove them"
        )
    return int(height), int(width)


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
        if isinstance(column, pd.Series) and column.map(_hides_pixels).any():
            return [_pixels_of_row(row) for row in column]
        lists = pa.array(column, from_pandas=True) if isinstance(column, pd.Series) else column
    except (pa.ArrowException, TypeError, ValueError):  # arrays with two axes, or values of several types
        return [_pixels_of_row(row) for row in column]
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    if isinstance(lists, pa.ExtensionArray):
        lists = lists.storage
    if pa.types.is_dictionary(lists.type):
        lists = lists.dictionary_decode()
    lists = _only_field(lists)  # as nested-pandas writes them
    if pa.types.is_list_view(lists.type) or pa.types.is_large_list_view(lists.type):
        lists = pa.array(lists.to_pylist(), pa.list_(lists.type.value_type))
    _check_pixel_type(lists, source)
    if pa.types.is_null(lists.type):
        return [NO_PIXELS] * len(lists)
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


def _hides_pixels(row):
    """Tell whether pyarrow would drop the mask of pixels, or take a set or truth values for pixels."""
    is_bools = isinstance(row, list | tuple) and len(row) and isinstance(row[0], bool)
    return is_bools or isinstance(row, np.ma.MaskedArray | set | frozenset)


def _is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind):
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind):
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _check_pixel_type(lists, source):
    """Raise a CutoutError unless a column holds lists: each byte of others might pass for a pixel."""
    kind = lists.type
    if _is_list(kind) or pa.types.is_null(kind):
        return
    remedy = "give each row a list or an array of pixels [DN]"
    if _is_text(kind):
        remedy += "; if Dask made text of arrays, set its option dataframe.convert-string to False before"
    elif _is_bytes(kind):
        first = next((value.as_py() for value in lists if value.is_valid), b"")
        if first.startswith((b"\x1f\x8b", b"SIMPLE")):
            remedy = "these are FITS files, as in alerts: write each to a file, and use load_cutouts"
        else:
            remedy += ", such as numpy.frombuffer(value, dtype)"
    raise CutoutError(f"{source}: column image: expected lists of pixels, got {kind}; {remedy}")


def _is_number_type(kind):
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _check_number_type(kind, source):
    if not (_is_number_type(kind) or pa.types.is_null(kind)):
        raise CutoutError(
            f"{source}: column image: expected lists of numbers, got lists of {kind}; give pixels [DN]"
        )


def _only_field(array):
    """Return what a structure of one field holds; any other array as it is."""
    return array.flatten()[0] if pa.types.is_struct(array.type) and array.type.num_fields == 1 else array


def _pixels_of_row(row):
    """Return pixels as float32, NaN where they are masked; what is no list of numbers is an empty array."""
    try:
        if not np.iterable(row) or isinstance(row, str | bytes | bytearray | memoryview | dict):
            return NO_PIXELS
        pixels = np.ma.asarray(np.ma.stack(row)) if np.ma.isMaskedArray(row) else np.asarray(np.stack(row))
        if pixels.dtype.kind not in "fiu":
            return NO_PIXELS
        with np.errstate(over="ignore"):
            return filled(pixels).astype(np.float32).reshape(without_single_axes(pixels.shape))
    except (ValueError, TypeError):
        return NO_PIXELS


def _common_shape(pixels, source):
    """Return height and width of most cutouts; lists of pixels are taken for square ones."""
    shapes = [row.shape for row in pixels if row.size]
    usable = [s for s in shapes if len(s) == 2 or (len(s) == 1 and isqrt(s[0]) ** 2 == s[0])]
    if shapes and not usable:
        raise CutoutError(
            f"{source}: image has shape {mode(shapes)}, which is no square cutout; "
            "give images with two axes, or the column the metadata height and width [px]"
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

    Columns that may lack are filled in; those that a CutoutSet does not know stay as they are.
    """
    columns = dict(frame.items())
    faults = {}
    for name in COLUMNS:
        if name not in columns:
            columns[name] = None if name in TEXT_COLUMNS else np.nan
        elif name in TEXT_COLUMNS or frame[name].dtype != np.float64:
            columns[name] = _converted(frame[name], name in TEXT_COLUMNS, source, faults)
    table = pd.DataFrame(columns, index=frame.index)
    table["ra"] = one_turn(table["ra"])
    return table, faults


def names_of(metadata, row_numbers=None):
    """Return what to call the rows of a table: names, or "row" and a number, from 0 unless given."""
    numbers = row_numbers or range(len(metadata))
    return [f"row {n}" if pd.isna(name) else name for n, name in zip(numbers, metadata["name"], strict=True)]


def _labels(frame, source, faults):
    """Return labels, int8 (n,), and add to the faults by row."""
    if LABEL not in frame:
        return np.array([label_of(str(name)) for name in frame["name"]], dtype=np.int8)
    labels = _converted(frame[LABEL], False, source, faults)
    labels = np.where(np.isnan(labels), UNKNOWN, labels)
    for row in np.flatnonzero(~np.isin(labels, LABELS)).tolist():
        faults[row] = f"its label is {labels[row]:g}, expected 0 (star), 1 (galaxy) or -1 (unknown)"
    return np.where(np.isin(labels, LABELS), labels, UNKNOWN).astype(np.int8)


def _converted(column, to_text, source, faults):
    """Return a column as text or float64, and add the rows that cannot be converted to the faults by row.

    Raises a CutoutError if the type of the column tells that no value is of use.
    """
    expected = "text" if to_text else "a number"
    try:
        array = pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # values of several types
        array = None
    if (
        array is not None
        and len(array)
        and not _is_object(column)
        and not _may_hold(array.type, to_text, column.name)
    ):
        raise CutoutError(f"{source}: column {column.name}: expected {expected} a row, got {array.type}")
    if array is not None and not (_is_object(column) and column.map(pd.api.types.is_bool).any()):
        with np.errstate(all="ignore"):
            try:
                if to_text and pa.types.is_null(array.type):
                    return array.to_pandas().array
                kind = pa.string() if to_text else pa.float64()
                if _may_hold(array.type, to_text, column.name):
                    converted = array.cast(kind)
                    return converted.to_pandas().array if to_text else converted.to_numpy(False)
            except (pa.ArrowException, TypeError, ValueError):
                pass  # the rows are tried one by one
    values = np.full(len(column), None if to_text else np.nan, object if to_text else float)
    for row, value in enumerate(column):
        try:
            values[row] = _text(value, column.name) if to_text else _number(value)
        except (TypeError, ValueError, OverflowError):
            faults[row] = f"its {column.name} is {value!r:.40}, expected {expected}"
    return values


def _is_object(column):
    return pd.api.types.is_object_dtype(column.dtype)


def _may_hold(kind, to_text, name):
    """Tell whether values of an Arrow type may be texts, or else numbers; numbers may be names too."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_text(kind) or pa.types.is_null(kind):
        return True
    if not to_text:
        return _is_number_type(kind)
    is_bytes = (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )
    return is_bytes or (name == "name" and _is_number_type(kind))


def _is_missing(value):
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _number(value):
    if isinstance(value, bool | np.bool_):
        raise TypeError("a truth value")
    return np.nan if _is_missing(value) else plain_float(value)


def _text(value, column):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool | np.bool_) or not (
        _is_missing(value) or isinstance(value, str) or column == "name"
    ):
        raise TypeError("not a text")
    return None if _is_missing(value) else str(value)


def faults_by_row(images, metadata, names):
    """Return the errors of check_cutout by row; whole columns tell which rows are worth checking."""
    numbers = metadata[NUMBER_COLUMNS].to_numpy(float)
    suspect = ~np.isfinite(images).all(axis=(1, 2)) | metadata[NEEDED_COLUMNS].isna().any(axis=1).to_numpy()
    suspect |= np.isinf(numbers).any(axis=1) | (np.abs(metadata["dec"]) > 90).to_numpy()
    for key, (least, most, _) in BOUNDS.items():
        values = metadata[key.lower()].to_numpy(float)
        suspect |= (values < least) | (values > most)
    faults = {}
    for row in np.flatnonzero(suspect).tolist():
        values = metadata.iloc[row]
        header = {key: values[key.lower()] for key in HEADER_KEYS if not pd.isna(values[key.lower()])}
        try:
            if np.isinf(values["ra"]) or np.abs(values["dec"]) > 90:
                position = f"ra {values['ra']}, dec {values['dec']}"
                raise CutoutError(f"{names[row]}: {position} is no position on the sky [deg]")
            check_cutout(names[row], images[row], {"ORIGIN": "", **header})
        except CutoutError as error:
            faults[row] = str(error)
    return faults
