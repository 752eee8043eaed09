"""Rows of Parquet tables of alerts, as brokers give them, as packets.

Columns of stamps are ``science``, ``cutoutScience`` (bytes, lists or a struct with ``stampData``),
``cutoutScience_stampData`` or ``b:cutoutScience_stampData`` (Fink), and those of template and difference.
"""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztf_sg.streaks.packets import CANDIDATE, image_of_column

ROWS = 256  # read at a time


def iter_rows(where, source):
    """Yield the rows of a Parquet file as (where, packet, fault), see `iter_found`.

    Parameters
    ----------
    where : str
        Name of the file in messages.
    source : path or binary file object
        Read at any place.
    """
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        columns = [name for name in file.schema_arrow.names if _is_wanted(file.schema_arrow.field(name))]
    except Exception as error:  # damaged files raise errors of many kinds
        yield where, None, f"is no whole Parquet file ({_short(error)})"
        return
    if not any(map(image_of_column, columns)):
        yield where, None, f"has no column of stamps, such as cutoutScience; found {', '.join(columns[:8])}"
        return
    start = 0
    for number, size in enumerate(groups):
        yield from _iter_group(where, file, number, columns, start, size)
        start += size


def _iter_group(where, file, number, columns, start, size):
    """Yield the rows of a row group; if it breaks off, what is left of it is one fault."""
    row = 0
    try:
        for batch in file.iter_batches(ROWS, row_groups=[number], columns=columns):
            for values in zip(*map(_values, batch.columns), strict=True):
                yield f"{where}, row {start + row}", dict(zip(batch.schema.names, values, strict=True)), None
                row += 1
    except GeneratorExit:
        raise
    except Exception as error:
        yield f"{where}, rows {start + row} to {start + size - 1}", None, f"are damaged ({_short(error)})"


def _is_wanted(field):
    """Tell whether a column holds stamps, the candidate record, or single values."""
    return bool(image_of_column(field.name)) or field.name == CANDIDATE or not pa.types.is_nested(field.type)


def _values(column):
    """Return the values of a column as a list; lists of numbers, and of rows of numbers, as arrays."""
    if not _is_list(column.type):
        return column.to_pylist()
    return [_pixels(each.values) if each.is_valid else None for each in column]


def _is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _pixels(values):
    """Return flat pixels, or rows of pixels of one length, as an array; anything else as a list."""
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if _is_list(values.type) and pa.types.is_floating(values.type.value_type) and len(values):
        pixels = values.flatten()
        if set(pc.list_value_length(values).to_pylist()) == {len(pixels) // len(values)}:
            return pixels.to_numpy(zero_copy_only=False).reshape(len(values), -1)
    return values.to_pylist()


def _short(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
