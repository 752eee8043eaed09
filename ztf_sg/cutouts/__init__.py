"""Sets of cutouts and their files: FITS folders, Parquet and CSV tables."""

from ztf_sg.cutouts.arrow import row_group_sizes
from ztf_sg.cutouts.columns import IMAGE, LABEL
from ztf_sg.cutouts.cutout_set import (
    BUNDLED_CUTOUTS,
    CutoutSet,
    iter_parquet,
    iter_row_groups,
    load_cutouts,
    load_files,
)
from ztf_sg.cutouts.example import load_example
from ztf_sg.cutouts.folder import header_values, read_cutout
from ztf_sg.cutouts.listing import cutout_names, list_cutouts, list_files, list_source
from ztf_sg.cutouts.schema import (
    CLASS_NAMES,
    HEADER_KEYS,
    OBJECT,
    UNKNOWN,
    CutoutError,
    check_cutout,
    masks_by_class,
)
from ztf_sg.cutouts.tables import csv_name, read_image_csv, write_image_csv

__all__ = [
    "BUNDLED_CUTOUTS",
    "CLASS_NAMES",
    "CutoutError",
    "CutoutSet",
    "HEADER_KEYS",
    "IMAGE",
    "LABEL",
    "OBJECT",
    "UNKNOWN",
    "check_cutout",
    "csv_name",
    "cutout_names",
    "header_values",
    "iter_parquet",
    "iter_row_groups",
    "list_cutouts",
    "list_files",
    "list_source",
    "load_cutouts",
    "load_example",
    "load_files",
    "masks_by_class",
    "read_cutout",
    "read_image_csv",
    "row_group_sizes",
    "write_image_csv",
]
