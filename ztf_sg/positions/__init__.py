"""Positions and labels of stars and galaxies, selected from a Legacy Survey catalogue by cuts.

A catalogue is a table of any kind that :func:`data_frame` takes, such as a pandas.DataFrame or an astropy
Table, with the columns of a sweep file, in upper or lower case.
A cut returns a DataFrame of the rows that pass, which remembers what each cut left: :func:`cut_report`.
"""

from ztf_sg.positions.audit import (
    GAIA_COLUMNS,
    MOTION_THRESHOLD,
    audit_labels,
    audit_report,
    cut_doubtful,
    motion_significance,
    significant_motion,
)
from ztf_sg.positions.catalogue import (
    angle,
    check_dec_range,
    checked_positions,
    data_frame,
    degrees,
    in_region,
    labels_of_types,
    magnitude,
    position_table,
    ra_ranges,
    standard_columns,
)
from ztf_sg.positions.cuts import (
    DEC_RANGE,
    ISOLATION_RADIUS,
    MAGNITUDE_LIMITS,
    RA_RANGE,
    cut_blends,
    cut_fluxes,
    cut_magnitudes,
    cut_neighbours,
    cut_region,
    cut_report,
    cut_types,
    sample_classes,
    select_positions,
)
from ztf_sg.positions.files import read_positions, write_audit, write_positions
from ztf_sg.positions.fractions import MAGNITUDE_EDGES, galaxy_fraction
from ztf_sg.positions.lists import object_list

__all__ = [
    "DEC_RANGE",
    "GAIA_COLUMNS",
    "ISOLATION_RADIUS",
    "MAGNITUDE_EDGES",
    "MAGNITUDE_LIMITS",
    "MOTION_THRESHOLD",
    "RA_RANGE",
    "angle",
    "audit_labels",
    "audit_report",
    "check_dec_range",
    "checked_positions",
    "cut_blends",
    "cut_doubtful",
    "cut_fluxes",
    "cut_magnitudes",
    "cut_neighbours",
    "cut_region",
    "cut_report",
    "cut_types",
    "data_frame",
    "degrees",
    "galaxy_fraction",
    "in_region",
    "labels_of_types",
    "magnitude",
    "motion_significance",
    "object_list",
    "position_table",
    "ra_ranges",
    "read_positions",
    "sample_classes",
    "select_positions",
    "significant_motion",
    "standard_columns",
    "write_audit",
    "write_positions",
]
