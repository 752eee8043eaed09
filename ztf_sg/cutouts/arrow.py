"""Cutouts in Parquet files, for sets too large for a folder of files or for the memory."""

from collections import Counter
from contextlib import contextmanager, suppress
from itertools import accumulate, chain, groupby, islice
from operator import itemgetter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ztf_sg.cutouts.columns import IMAGE, LABEL, TEXT_COLUMNS, parts_of_table, shape_of_table
from ztf_sg.cutouts.listing import hive_columns, list_files, relative_name
from ztf_sg.cutouts.schema import COLUMNS, SKIPPED_COLUMNS, CutoutError, CutoutParts, check_on_error
from ztf_sg.files import atomic_write, local_path
from ztf_sg.ztf import CUTOUT_SHAPE

ROW_GROUP = 4096  # rows that are written, and read, at a time: 6.5 MB of pixels at 20 x 20 px
FIRST_ROWS = 64  # of a file, which tell the shape of its cutouts


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


def read_row_groups(path, row_groups, rows, on_error, labels=True):
    """Yield CutoutParts of Parquet files; see :func:`ztf_sg.cutouts.iter_row_groups`."""
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    check_on_error(on_error)
    paths = list_files(path)
    names = {file: file.name if len(paths) == 1 else relative_name(file, local_path(path)) for file in paths}
    found, damaged = _find_row_groups(paths, on_error)
    columns = dict(zip(paths, hive_columns(paths), strict=True))
    wanted = range(len(found)) if row_groups is None else list(row_groups)
    for number in wanted:
        if not 0 <= number < len(found):
            raise IndexError(f"{path}: row group {number} asked for, there are {len(found)}, from 0")
    if damaged:
        yield _nothing_but({names[file_path]: fault for file_path, fault in damaged.items()})
    shape = _shape_of_most(found) if len(paths) > 1 else None
    for file_path, groups in groupby([found[number] for number in wanted], key=itemgetter(0)):
        for batch, numbers, faults in _batches(file_path, names[file_path], list(groups), rows, on_error):
            if faults:
                yield _nothing_but(faults)
                continue
            table = _with_columns(batch, columns[file_path])
            try:
                parts = parts_of_table(table, file_path, on_error, shape, numbers, labels)
            except CutoutError as error:  # of a column
                if on_error == "raise" or len(paths) == 1:
                    raise
                yield _nothing_but({names[file_path]: str(error)})
                break
            shape = parts.images.shape[1:] if len(parts.images) else shape
            yield parts


def _shape_of_most(found):
    """Return height and width of most cutouts, as the first rows of each file tell; None if none can."""
    votes = Counter()
    for path, groups in groupby(found, key=itemgetter(0)):
        sizes = {group: len(rows) for _, group, rows in groups}
        with suppress(CutoutError), _opened(path) as file:
            first = next(file.iter_batches(FIRST_ROWS, list(sizes), columns=[IMAGE]), None)
            if first:
                votes[shape_of_table(first, path)] += sum(sizes.values())
    return max(votes, key=votes.get, default=None)


def _batches(path, name, groups, rows, on_error):
    """Yield tables of some row groups of a file, with the numbers of their rows, and names of damaged groups.

    Only if a group is damaged are they read one by one.
    """
    done = 0
    try:
        row_numbers = chain.from_iterable(row_range for *_, row_range in groups)
        with _opened(path) as file:
            for batch in file.iter_batches(rows, [group for _, group, _ in groups]):
                numbers = list(islice(row_numbers, len(batch)))
                if len(numbers) < len(batch):
                    raise _damaged(path, "it holds more rows than it states")
                yield batch, numbers, {}
                done += len(batch)
        if next(row_numbers, None) is not None:
            raise _damaged(path, "it holds fewer rows than it states")
    except CutoutError:
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
                    batches = list(file.iter_batches(size, [group]))
                if sum(map(len, batches)) != size:
                    raise _damaged(path, f"row group {group} does not hold the {size} rows that it states")
                table = pa.Table.from_batches(batches).slice(start)
            except CutoutError as error:
                fault = f"{size - start} rows are lost: {error}"
                yield None, None, {f"{name}, row group {group}": fault}
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


@contextmanager
def _opened(path):
    """Open a Parquet file without reading ahead; errors name the file and the remedy."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except CutoutError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if getattr(error, "errno", None) is not None:  # trouble of the disk, not of the file
            raise
        reason = " ".join(str(error).split())
        raise _damaged(path, reason) from error


def _damaged(path, reason):
    return CutoutError(
        f"{path}: is no whole Parquet file ({reason}); write it again with CutoutSet.to_parquet"
    )


def _find_row_groups(paths, on_error="raise"):
    """Return file, number and range of row numbers of each row group, and faults of damaged files by path."""
    found, damaged = [], {}
    for file_path in paths:
        try:
            with _opened(file_path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        except CutoutError as error:
            if on_error == "raise":
                raise
            damaged[file_path] = str(error)
            continue
        ends = accumulate(sizes)
        found += [(file_path, number, range(end - sizes[number], end)) for number, end in enumerate(ends)]
    return found, damaged
