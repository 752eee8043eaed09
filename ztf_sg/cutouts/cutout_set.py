"""Sets of cutouts, read from folders of FITS files, Parquet files and tables."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ztf_sg.checks import image_stack
from ztf_sg.cutouts.arrow import ROW_GROUP, read_parquet, read_row_groups, to_table, write_parquet
from ztf_sg.cutouts.columns import (
    OPTIONAL_COLUMNS,
    TEXT_COLUMNS,
    check_columns,
    complete_metadata,
    faults_by_row,
    names_of,
    parts_of_table,
)
from ztf_sg.cutouts.folder import read_files
from ztf_sg.cutouts.listing import cutout_names, list_cutouts
from ztf_sg.cutouts.schema import (
    COLUMNS,
    SKIPPED_COLUMNS,
    UNKNOWN,
    CutoutError,
    CutoutParts,
    check_labels,
)

BUNDLED_CUTOUTS = Path(__file__).parents[2] / "cutouts_test"  # simulated, beside the package in the project


@dataclass(frozen=True, eq=False)
class CutoutSet:
    """Cutouts of one size with their labels and metadata, row by row.

    Sets are equal only to themselves. scikit-learn takes them as it takes arrays of n samples.

    Parameters
    ----------
    images : array-like
        Pixels in detector counts [DN], kept as float32, shape (n, height, width).
    labels : array-like
        0 star, 1 galaxy, -1 unknown; kept as int8, shape (n,).
    table : pandas.DataFrame
        n rows with columns name, ra, dec [deg, ICRS; the centre of the cutout], seeing [px, FWHM], magzp
        [mag], filter, obsmjd [d], exptime [s], gain [e-/DN], saturate [DN], apcor1..apcor6 [mag; NaN if not
        known] and origin.
    skipped : pandas.DataFrame, optional
        Cutouts left out by ``load_cutouts(..., on_error="skip")``: columns name and reason.

    Raises
    ------
    CutoutError
        If a cutout has a pixel or a value that :func:`check_cutout` refuses.
    TypeError
        If table is no DataFrame.
    ValueError
        If numbers of rows differ, images is not a stack, or a label is not 0, 1 or -1.
    """

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    skipped: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SKIPPED_COLUMNS))

    def __post_init__(self):
        if not isinstance(self.table, pd.DataFrame):
            raise TypeError(f"table: expected a pandas.DataFrame, got {type(self.table).__name__}")
        with np.errstate(over="ignore"):
            images = image_stack(self.images).astype(np.float32, copy=False)
        labels = check_labels(self.labels)
        if images.ndim != 3:
            raise ValueError(f"images: expected shape (n, height, width), got {images.shape}")
        if labels.ndim != 1:
            raise ValueError(f"labels: expected shape (n,), got {labels.shape}")
        lengths = {"images": len(images), "labels": len(labels), "table": len(self.table)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"images, labels and table must have as many rows as each other, got {lengths}")
        table = _judged(images, self.table)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)

    @classmethod
    def _of_judged(cls, *parts):
        """Return the set of CutoutParts that were judged before."""
        cutouts = object.__new__(cls)
        for name, part in zip(CutoutParts._fields, parts, strict=True):
            object.__setattr__(cutouts, name, part)
        return cutouts

    @property
    def shape(self):
        """Shape as scikit-learn looks for it: (n,)."""
        return (len(self),)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """Return the CutoutSet of the rows that a mask, slice, integer or index array picks."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        if rows.ndim != 1:
            raise IndexError(f"expected an index with one axis, as of {len(self)} rows, got {rows.ndim} axes")
        table = self.table.iloc[rows].reset_index(drop=True)
        skipped = pd.DataFrame(columns=SKIPPED_COLUMNS)
        return self._of_judged(self.images[rows], self.labels[rows], table, skipped)

    def __array__(self, dtype=None, copy=None):
        """Refuse to become an array: it would not be clear of what."""
        raise TypeError("a CutoutSet is no array; pass its .images, .labels or .table")

    def __repr__(self):
        stars, galaxies = (int(np.sum(self.labels == label)) for label in (0, 1))
        unknown = len(self) - stars - galaxies
        height, width = self.images.shape[1:]
        return f"CutoutSet({stars} stars, {galaxies} galaxies, {unknown} unknown; {height} x {width} px)"

    def to_table(self):
        """Return a pyarrow.Table of the columns of ``table``, ``label`` (int8) and ``image``.

        Pixels [DN] are lists of float32 of fixed length, row by row; the metadata of their field state height
        and width [px]. A ValueError is raised if ``table`` has a column ``label`` or ``image``.
        """
        return to_table(self.images, self.labels, self.table)

    @classmethod
    def from_table(cls, table, on_error="raise"):
        """Return the CutoutSet of a table with one row per cutout, such as one partition of a survey.

        Parameters
        ----------
        table : pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
            Needs the columns of ``CutoutSet.table`` and ``image``: lists or arrays of pixels [DN], row by row
            or with two axes. Lists are of square cutouts unless the metadata of the field, or of the table,
            state height and width. Without ``apcor1`` ... ``apcor6`` and ``origin`` they are NaN and None,
            without ``label`` it is that of the name. Other columns are kept; the index of a DataFrame is not.
        on_error : {"raise", "skip"}
            "skip" leaves out rows that cannot be used, as :func:`load_cutouts` does with files.

        Raises
        ------
        CutoutError
            If columns are missing or of another type, or rows cannot be used (with ``on_error="raise"``).
        """
        return cls._of_judged(*parts_of_table(table, "table", on_error))

    def to_parquet(self, path):
        """Write what :meth:`to_table` returns as a Parquet file, which is complete or not there.

        Raises
        ------
        ValueError
            As :meth:`to_table`, if the table has a column of a name that is taken.
        """
        write_parquet(self.to_table(), path)

    @classmethod
    def read_parquet(cls, path, row_groups=None, on_error="raise"):
        """Return the CutoutSet of Parquet files; arguments and errors as of :func:`iter_row_groups`."""
        return cls._of_judged(*read_parquet(path, row_groups, on_error))


def _judged(images, table):
    """Return a table with the optional columns filled in; raise a CutoutError if a cutout cannot be used.

    A column that lacks is missed only by what uses it.
    """
    check_columns(list(table.columns), (), "table")
    lacking = {name: "" if name in TEXT_COLUMNS else 1.0 for name in COLUMNS if name not in table}
    lacking |= {"name": None} if "name" in lacking else {}
    lacking = {name: value for name, value in lacking.items() if name not in OPTIONAL_COLUMNS}
    completed, faults = complete_metadata(table.assign(**lacking), "table")
    names = names_of(completed)
    faults = {row: f"{names[row]}: {fault}" for row, fault in faults.items()}
    faults = faults_by_row(images, completed, names) | faults
    if faults:
        first = faults[min(faults)]
        raise CutoutError(
            f"{len(faults)} of {len(images)} cutouts cannot be used, leave them out; the first: {first}"
        )
    return completed.drop(columns=list(lacking))


def load_cutouts(folder, on_error="raise"):
    """Return the CutoutSet of a folder of FITS files, in natural order (star_2 before star_10).

    Sub-folders and compressed files (``.fits.gz``, ``.fits.fz`` ...) are read, too. Names are paths within
    the folder without suffix, such as ``night1/star_2``; files that would share a name keep their suffixes.

    Parameters
    ----------
    folder : path-like
        Files named ``star_*.fits`` and ``galaxy_*.fits`` get labels 0 and 1, all others -1. If there are
        files named ``object_N_*.fits``, the table has an integer column object, which is N; -1 in other rows.
    on_error : {"raise", "skip"}
        "skip" leaves out files that cannot be used, and lists them in the ``skipped`` table.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no FITS file.
    CutoutError
        If none is usable, or (with ``on_error="raise"``) one is damaged, of another shape than most, or
        refused by :func:`check_cutout`.

    Warns
    -----
    UserWarning
        If labels are missing from some names, the folder mixes cutouts of several origins, or it holds what
        looks like data but is not FITS.
    """
    paths = list_cutouts(folder)
    cutouts = load_files(paths, on_error, cutout_names(paths, folder))
    if not len(cutouts):
        names, reasons = cutouts.skipped["name"], cutouts.skipped["reason"]
        raise CutoutError(f"{folder}: none of its {len(names)} FITS files can be used; {reasons[0]}")
    unknown = int(np.sum((cutouts.labels == UNKNOWN) & (cutouts.table.get("object", UNKNOWN) == UNKNOWN)))
    if unknown:
        warnings.warn(
            f"{folder}: {unknown} of {len(cutouts)} names start with neither star_ nor galaxy_; labelled -1",
            stacklevel=2,
        )
    origins = sorted(cutouts.table["origin"].astype(str).unique())
    if len(origins) > 1:
        warnings.warn(f"{folder}: mixes cutouts of several origins: {', '.join(origins)}", stacklevel=2)
    return cutouts


def load_files(paths, on_error="raise", names=None):
    """Return the CutoutSet of some FITS files, in their order, as :func:`load_cutouts` does for a folder.

    There are no warnings, and the set is empty if no file is usable (with ``on_error="skip"``). The names of
    the cutouts are those of the files, without suffix, unless given; see :func:`cutout_names`.
    """
    return CutoutSet._of_judged(*read_files(paths, on_error, names))


def iter_parquet(path, rows=ROW_GROUP, on_error="raise"):
    """Yield the cutouts of Parquet files a few at a time: :func:`iter_row_groups` with all row groups."""
    return iter_row_groups(path, None, rows, on_error)


def iter_row_groups(path, row_groups=None, rows=ROW_GROUP, on_error="raise", labels=True):
    """Yield the cutouts of some row groups of Parquet files as CutoutSets of one height and width.

    Parameters
    ----------
    path : path-like
        A Parquet file with columns as for :meth:`CutoutSet.from_table`, or a folder of ``*.parquet`` files,
        which are read in natural order with its sub-folders. Folders named ``key=value`` (hive) give a column
        ``key`` to files that lack it. HATS catalogues and collections are read without their margins.
    row_groups : sequence of int, optional
        Numbers of the row groups, from 0 through all files, see :func:`row_group_sizes`; by default all.
    rows : int
        Largest number of cutouts of a set, which alone is in memory.
    on_error : {"raise", "skip"}
        As of :meth:`CutoutSet.from_table`; "skip" leaves out damaged row groups too, and of a folder damaged
        files and those whose columns cannot be used.
    labels : bool
        Whether labels are read; else all are -1, and what the column holds does not matter.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no ``*.parquet`` file in the folder.
    CutoutError
        If a file is damaged or not Parquet, or as of :meth:`CutoutSet.from_table`.
    IndexError
        If there is no row group of that number.
    """
    for parts in read_row_groups(path, row_groups, rows, on_error, labels):
        yield CutoutSet._of_judged(*parts)
