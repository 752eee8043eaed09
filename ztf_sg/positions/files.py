"""Files of positions, and of the audit of their labels."""

import numpy as np
import pandas as pd

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.files import atomic_write, local_path
from ztf_sg.positions.audit import GAIA_COLUMNS, gaia_columns
from ztf_sg.positions.catalogue import (
    data_frame,
    has_position,
    labels_of_types,
    position_table,
    standard_columns,
)

POSITION_FILES = ("stars.csv", "gals.csv")


def write_positions(stars, galaxies, directory):
    """Write the `POSITION_FILES` into a directory; return their paths.

    Parameters
    ----------
    stars, galaxies : pandas.DataFrame or astropy.table.Table
        As of `position_table`.
    directory : path-like
    """
    paths = [local_path(directory) / name for name in POSITION_FILES]
    for path, table in zip(paths, (stars, galaxies), strict=True):
        _write_csv(position_table(table), path)
    return paths


def write_audit(stars, galaxies, directory):
    """Write the rows of :func:`audit_labels` to ``label_audit.csv`` in a directory; return its path."""
    path = local_path(directory) / "label_audit.csv"
    _write_csv(pd.concat(map(_audit_table, (stars, galaxies))), path)
    return path


def _audit_table(table):
    """Return the positions of a table beside its columns of Gaia and of the audit, row by row."""
    table = data_frame(table)
    matches = gaia_columns(table, [*GAIA_COLUMNS, "audit"]).reset_index(drop=True)
    return pd.concat([position_table(table), matches], axis=1)


def read_positions(directory):
    """Return the stars and galaxies that :func:`write_positions` wrote, as of `position_table`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is no table with commas, lacks a column, or holds a position that is not on the sphere, or
        an object of the other class.
    """
    directory = local_path(directory)
    return tuple(_read_class(directory / name, label) for label, name in enumerate(POSITION_FILES))


def _read_class(path, label):
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run notebook 1 (getting object positions) first")
    try:
        table = pd.read_csv(path, dtype={"type": str, "TYPE": str}, skipinitialspace=True)
        table = standard_columns(table.rename(columns=str.strip), ["RA", "DEC", "TYPE"])
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
        raise ValueError(
            f"{path}: {reason}; the file begins {_first_line(path)!r}, expected the columns RA, DEC, type, "
            "with commas between them and no comments, as notebook 1 writes them"
        ) from error
    faults = {
        "has no position on the sky": ~has_position(table),
        f"is no {CLASS_NAMES[label]}": labels_of_types(table["TYPE"]) != label,
    }
    for fault, bad in faults.items():
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{path}: row {row}, from 0, {fault}: {table.iloc[row].to_dict()}; mend or remove it, or run "
                "notebook 1 again"
            )
    return position_table(table)


def _first_line(path):
    with path.open("rb") as file:
        return file.readline(80).decode(errors="replace").strip()


def _write_csv(table, path):
    with atomic_write(path) as file:
        table.to_csv(file, index=False, float_format="%.7f")
