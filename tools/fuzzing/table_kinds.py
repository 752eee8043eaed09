"""Kinds of damage to the rows of tables, and to Parquet files."""

import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .fits_kinds import EITHER, KEPT, REFUSED, blank, cut, flip, shuffle


def row_of(record):
    """Return the row of a table for a record."""
    return {
        "name": record.name,
        "ra": record.ra,
        "dec": record.dec,
        **{key.lower(): value for key, value in record.values.items()},
        "image": record.pixels.ravel(),
    }


def table_of(records):
    """Return records as an Arrow table, pixels in lists."""
    rows = [row_of(record) for record in records]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["image"] = pa.array(columns["image"], pa.list_(pa.float32()))
    return pa.table(columns)


def with_cell(column, *values):
    """Return a damage of tables: one of some values in a column of the bad rows."""

    def damage(records, bad, rng):
        rows = [row_of(record) for record in records]
        for number in bad:
            rows[number][column] = values[rng.integers(len(values))]
        frame = pd.DataFrame(rows)
        if any(isinstance(value, bool | np.bool_) for value in values) or rng.random() < 0.5:
            return frame  # Arrow takes truth values for numbers
        try:
            return pa.Table.from_pandas(frame)
        except (pa.ArrowException, TypeError):  # values of several types
            return frame

    return damage


def with_pixels(change):
    """Return a damage of tables: a function of a row's pixels, and of the generator."""

    def damage(records, bad, rng):
        rows = [row_of(record) for record in records]
        for number in bad:
            rows[number]["image"] = change(records[number].pixels.copy(), rng)
        return pd.DataFrame(rows)

    return damage


def as_frame(change):
    """Return a damage that changes the types of whole columns of a DataFrame, and harms no record."""

    def damage(records, bad, rng):
        return change(pd.DataFrame([row_of(record) for record in records]))

    return damage


def as_arrow(change):
    """Return a damage that changes an Arrow table, and harms no record."""
    return lambda records, bad, rng: change(table_of(records))


def with_column(table, name, values):
    """Return an Arrow table with another column in the place of one."""
    return table.set_column(table.schema.get_field_index(name), name, values)


def set_type(*names, kind):
    """Return a change of the type of some columns."""

    def change(table):
        for name in names:
            table = with_column(table, name, table[name].cast(kind))
        return table

    return change


def dictionary_encoded(table):
    """Return an Arrow table with the filter as a dictionary."""
    return with_column(table, "filter", table["filter"].dictionary_encode())


def swap_bytes(frame):
    """Return a DataFrame with numbers in the byte order of FITS."""
    return frame.assign(**{name: frame[name].astype(">f8") for name in ("ra", "dec", "seeing", "gain")})


def masked(pixels, rng):
    """Return pixels of which the brightest is masked."""
    return np.ma.masked_array(pixels, pixels == pixels.max())


def shuffled_columns(frame):
    """Return a DataFrame with columns in reverse order, further ones and an index."""
    return (
        frame[frame.columns[::-1]]
        .assign(extra="kept", EXTRA=[{"a": 1}] * len(frame))
        .set_index("name", drop=False)
    )


ROW_KINDS = {
    "untouched": (as_frame(lambda frame: frame), KEPT),
    "untouched Arrow table": (as_arrow(lambda table: table), KEPT),
    "columns in another order, and more": (as_frame(shuffled_columns), KEPT),
    "big-endian": (as_frame(swap_bytes), KEPT),
    "objects": (as_frame(lambda frame: frame.astype(object)), KEPT),
    "types of pandas": (as_frame(lambda frame: frame.convert_dtypes()), KEPT),
    "categories": (as_frame(lambda frame: frame.astype({"filter": "category", "origin": "category"})), KEPT),
    "numbers as text": (as_frame(lambda frame: frame.astype({"seeing": str, "magzp": str})), KEPT),
    "two axes": (
        as_frame(lambda frame: frame.assign(image=[v.reshape(20, 20) for v in frame["image"]])),
        KEPT,
    ),
    "nested lists": (
        as_frame(lambda frame: frame.assign(image=[v.reshape(20, 20).tolist() for v in frame["image"]])),
        KEPT,
    ),
    "large lists": (as_arrow(set_type("image", kind=pa.large_list(pa.float64()))), KEPT),
    "lists of fixed length": (as_arrow(set_type("image", kind=pa.list_(pa.float32(), 400))), KEPT),
    "pixels of 16 bits": (as_arrow(set_type("image", kind=pa.list_(pa.int16()))), KEPT),
    "dictionaries": (as_arrow(dictionary_encoded), KEPT),
    "large text": (as_arrow(set_type("name", "filter", "origin", kind=pa.large_string())), KEPT),
    "chunks": (as_arrow(lambda table: pa.concat_tables([table[:1], table[1:]])), KEPT),
    "APCOR missing": (with_cell("apcor3", None, np.nan), KEPT),
    "infinite number": (with_cell("magzp", np.inf, -np.inf), REFUSED),
    "number missing": (with_cell("gain", None, np.nan), REFUSED),
    "pd.NA": (with_cell("seeing", pd.NA), REFUSED),
    "not above 0": (with_cell("exptime", 0.0, -30.0), REFUSED),
    "text in place of a number": (with_cell("saturate", "high", "5e4 DN", b"five", ""), REFUSED),
    "decimal comma": (with_cell("seeing", "1,8"), REFUSED),
    "truth value": (with_cell("obsmjd", True, False, np.True_), REFUSED),
    "decimals": (with_cell("seeing", Decimal("NaN"), Decimal("-1"), Decimal("Infinity")), REFUSED),
    "huge integer": (with_cell("magzp", 10**400), REFUSED),
    "list in place of a number": (with_cell("gain", [6.2], {"value": 6.2}), REFUSED),
    "filter missing": (with_cell("filter", None, np.nan), REFUSED),
    "number in place of a text": (with_cell("filter", 2, 2.5, True), REFUSED),
    "no position on the sky": (with_cell("dec", 91.0, -1e9, np.inf), REFUSED),
    "unknown label": (with_cell("label", 2, 7.5, "star"), REFUSED),
    "NaN pixel": (
        with_pixels(lambda pixels, rng: np.where(pixels == pixels.max(), np.nan, pixels).ravel()),
        REFUSED,
    ),
    "masked pixel": (with_pixels(masked), REFUSED),
    "pixel missing": (with_pixels(lambda pixels, rng: [None, *pixels.ravel()[1:].tolist()]), REFUSED),
    "pixels as text": (with_pixels(lambda pixels, rng: str(pixels)), REFUSED),
    "pixels as bytes": (with_pixels(lambda pixels, rng: pixels.tobytes()), REFUSED),
    "pixels as a set": (with_pixels(lambda pixels, rng: set(pixels.ravel().tolist())), REFUSED),
    "pixels as truth values": (with_pixels(lambda pixels, rng: (pixels > 250).ravel()), REFUSED),
    "no list of pixels": (
        with_pixels(lambda pixels, rng: [None, 5.0, [], {}, object()][rng.integers(5)]),
        REFUSED,
    ),
    "too few pixels": (with_pixels(lambda pixels, rng: pixels.ravel()[: rng.integers(1, 400)]), REFUSED),
    "three axes": (with_pixels(lambda pixels, rng: np.stack([pixels, pixels])), REFUSED),
    "ragged": (with_pixels(lambda pixels, rng: [[1.0, 2.0], [3.0]]), REFUSED),
}


def rewritten(change):
    """Return a damage of a Parquet file that is written anew from a changed table."""

    def damage(content, records, rng):
        file = io.BytesIO()
        pq.write_table(change(table_of(records), rng), file, row_group_size=2)
        return file.getvalue()

    return damage


def of_bytes(change):
    """Return a damage of the bytes of a Parquet file."""
    return lambda content, records, rng: change(content, rng)


def footer_length(content):
    """Return the length of the metadata of a Parquet file [bytes]."""
    return int.from_bytes(content[-8:-4], "little")


PARQUET_KINDS = {
    "untouched": (of_bytes(lambda content, rng: content), KEPT),
    "empty": (of_bytes(lambda content, rng: b""), REFUSED),
    "cut short": (of_bytes(cut), REFUSED),
    "no file of Parquet": (of_bytes(lambda c, rng: b"<html>" + c), REFUSED),
    "another format": (
        of_bytes(lambda c, rng: [b"ORC" * 99, b"ARROW1" * 9, b"PAR1PAR1"][rng.integers(3)]),
        REFUSED,
    ),
    "bits of the data flipped": (
        of_bytes(lambda c, rng: flip(c, rng, 4, len(c) - footer_length(c) - 8, 3)),
        EITHER,
    ),
    "bits of the footer flipped": (
        of_bytes(lambda c, rng: flip(c, rng, len(c) - footer_length(c) - 8)),
        EITHER,
    ),
    "many bits flipped": (of_bytes(lambda c, rng: flip(c, rng, count=100)), EITHER),
    "blocks out of order": (of_bytes(shuffle), EITHER),
    "blank block": (of_bytes(blank), EITHER),
    "column missing": (
        rewritten(lambda t, rng: t.drop_columns([str(rng.choice(["gain", "image"]))])),
        REFUSED,
    ),
    "column in capitals": (
        rewritten(lambda t, rng: t.rename_columns([n.upper() for n in t.column_names])),
        REFUSED,
    ),
    "column of truth values": (
        rewritten(lambda t, rng: with_column(t, "seeing", pa.array([True] * len(t)))),
        REFUSED,
    ),
    "column of dates": (
        rewritten(lambda t, rng: with_column(t, "obsmjd", pa.array([0] * len(t), pa.timestamp("s")))),
        REFUSED,
    ),
    "pixels as bytes": (
        rewritten(lambda t, rng: with_column(t, "image", pa.array([b"\1" * 400] * len(t)))),
        REFUSED,
    ),
}
