"""Pixels and labels in CSV files: one row per cutout, the label first, then the pixels."""

import numpy as np
import pyarrow as pa
from pyarrow import csv

from ztf_sg.cutouts.schema import LABELS, plain_float
from ztf_sg.files import atomic_write, local_path


def csv_name(number):
    """Return the name of the CSV file of a normalization by its technique number; 0 is raw."""
    return f"norm_{number}_image_data.csv" if number else "raw_image_data.csv"


def write_image_csv(path, images, labels):
    """Write flattened cutouts as CSV: the label, then the pixels row by row; no header.

    Parameters
    ----------
    path : path-like
        The file; whatever goes wrong, it is complete or not there.
    images : numpy.ndarray
        Raw or normalized pixels, shape (n, height, width) or (n, pixels); written with float32 precision.
    labels : array-like of int
        0 star, 1 galaxy, -1 unknown, shape (n,).
    """
    pixels = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
    columns = [pa.array(np.asarray(labels, dtype=np.int8)), *map(pa.array, np.ascontiguousarray(pixels.T))]
    table = pa.table(columns, names=[str(number) for number in range(len(columns))])
    with atomic_write(path) as file:
        csv.write_csv(table, file, csv.WriteOptions(include_header=False))


def read_image_csv(path):
    """Return pixels, float64, shape (n, pixels), and labels, int8, shape (n,), of such a CSV file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If rows differ in length, a pixel is not a finite number, or a label is not 0, 1 or -1; the message
        names the file and the row.
    """
    path = local_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run notebook 3 (data normalization) first")
    try:
        options = csv.ReadOptions(autogenerate_column_names=True, use_threads=False)
        table = csv.read_csv(
            path, options, convert_options=csv.ConvertOptions(true_values=[], false_values=[])
        )
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: not a table of numbers with rows of equal length ({reason}); run notebook 3 again"
        ) from error
    values = np.column_stack([_numbers(column) for column in table.columns])
    bad = ~np.isfinite(values).all(axis=1) | ~np.isin(values[:, 0], LABELS)
    if bad.any():
        raise ValueError(
            f"{path}: row {np.argmax(bad) + 1} holds what is no finite number, or a label other than "
            "0, 1, -1; run notebook 3 again"
        )
    return values[:, 1:], values[:, 0].astype(np.int8)


def _numbers(column):
    """Return a column as float64, NaN where pyarrow found something else than numbers."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy()
    return np.array([_number(value) for value in column.to_pylist()])


def _number(value):
    try:
        return plain_float(value)
    except (TypeError, ValueError):
        return np.nan
