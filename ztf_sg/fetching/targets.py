"""Tables of positions -> the cutouts that are wanted, by class and object."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ztf_sg.checks import is_whole_number
from ztf_sg.cutouts import CLASS_NAMES, OBJECT
from ztf_sg.fetching.motion import epochs_of, position_at
from ztf_sg.positions import checked_positions, labels_of_types, standard_columns
from ztf_sg.ztf import FILTERCODES

MOTION = ("PMRA", "PMDEC", "REF_EPOCH")


class Target(NamedTuple):
    """A wanted cutout: of which object, in which filter, and which of its images there.

    `kind` is star, galaxy or object, if the class is not known; `number` the row in its table; `motion` as of
    :func:`~ztf_sg.fetching.motion.towards_at`, or None. `rank` counts the images of the object in the filter
    from 1; it is 0 for an object of which one image is wanted in all, whose file bears its name alone.
    """

    kind: str
    number: int
    RA: float
    DEC: float
    type: str = ""
    name: str = ""
    motion: tuple | None = None
    filter: str = "zi"
    rank: int = 0

    @property
    def object(self):
        """What the object is called in names of files, such as star_3."""
        return f"{self.kind}_{self.number}"

    @property
    def slot(self):
        """What the wanted cutout is called in the manifest, whichever image it comes from."""
        return f"{self.object}_{self.filter}_{self.rank}" if self.rank else self.file("")

    def file(self, source):
        """Return the name of its file if it comes from the image of a name; none without an image."""
        if not self.rank:
            return f"{self.object}.fits"
        return f"{self.object}_{self.filter}_{source.split('_')[1]}.fits" if source else ""

    def at(self, filefracday):
        """Return the target with the position that it has on an image."""
        if not self.motion:
            return self
        ra, dec = position_at(self.RA, self.DEC, self.motion, epochs_of(filefracday))
        return self._replace(RA=ra, DEC=dec)


def check_filters(filters):
    """Return filter codes as a tuple; raise a ValueError unless they are some of `FILTERCODES`, each once."""
    codes = (filters,) if isinstance(filters, str) else tuple(filters if np.iterable(filters) else ())
    if not codes or not set(codes) <= set(FILTERCODES) or len(set(codes)) < len(codes):
        raise ValueError(f"filters={filters!r}: expected some of {', '.join(FILTERCODES)}, each once")
    return codes


def targets_by_class(positions, filters=("zi",), n_images=1):
    """Return the wanted cutouts of the objects of one or several tables, by class.

    Parameters
    ----------
    positions : pandas.DataFrame or list of pandas.DataFrame
        As of :func:`ztf_sg.fetch_cutouts`.
    filters : sequence of str
    n_images : int
        Images of each object in each filter.

    Returns
    -------
    dict of list of list of Target
        For each class, for each object in the order of its table, its wanted cutouts.
    """
    if not (is_whole_number(n_images) and n_images >= 1):
        raise ValueError(f"n_images={n_images!r}: expected a whole number, 1 or more")
    tables = positions if isinstance(positions, list | tuple) else [positions]
    if not tables:
        raise ValueError("positions: expected a table of stars, one of galaxies, or both, got an empty list")
    classes = {}
    for table in map(_object_table, tables):
        kind = _kind_of(table)
        if kind in classes:
            raise ValueError(f"two tables of {kind} positions: put them into one")
        classes[kind] = table
    if OBJECT in classes and len(classes) > 1:
        raise ValueError("tables with and without types: fetch each into a folder of its own")
    named_by_image = OBJECT in classes or len(filters) * n_images > 1
    ranks = range(1, n_images + 1) if named_by_image else [0]
    return {kind: _targets(kind, table, filters, ranks) for kind, table in classes.items()}


def _targets(kind, table, filters, ranks):
    """Return the wanted cutouts of each row of a table without a fault."""
    table = table[table["fault"] == ""]
    if kind == OBJECT:
        table = table.assign(type="")
    motions = [motion if np.isfinite(motion).all() else None for motion in _rows(table, MOTION)]
    objects = zip(_rows(table, ("number", "RA", "DEC", "type", "name")), motions, strict=True)
    return [
        [Target(kind, *values, motion, filtercode, rank) for filtercode in filters for rank in ranks]
        for values, motion in objects
    ]


def _rows(table, columns):
    """Return the rows of some columns as tuples of plain values."""
    return zip(*(table[name].tolist() for name in columns), strict=True)


def _object_table(positions):
    """Return number, RA, DEC [deg], type, name and fault of the rows of a table, and the columns `MOTION`."""
    table = standard_columns(positions, ["RA", "DEC"]).reset_index(drop=True)
    faults = _texts(table, "FAULT")
    is_usable = faults == ""
    # rows with a fault may lack a position, and are not asked for
    places = checked_positions(table[["RA", "DEC"]].where(is_usable, 0.0))
    motion = {name: pd.to_numeric(table.get(name), errors="coerce") for name in MOTION}
    motion = {name: np.nan if values is None else values.astype(float) for name, values in motion.items()}
    texts = {"type": _texts(table, "TYPE"), "name": _texts(table, "NAME").map(one_line), "fault": faults}
    return places.assign(number=_row_numbers(table), **texts, **motion)


def _texts(table, column):
    """Return a column as texts, empty where they are missing, as all are without the column."""
    if column not in table:
        return pd.Series("", table.index, dtype=object)
    return table[column].astype(object).where(table[column].notna(), "").map(str)


def one_line(text):
    """Return a text with spaces for the characters that a line of a table cannot hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _row_numbers(table):
    """Return the numbers of the rows: a column `object` of integers, if there is one, else from 0."""
    if "OBJECT" not in table or not pd.api.types.is_integer_dtype(table["OBJECT"]):
        return np.arange(len(table))
    numbers = table["OBJECT"]
    bad = numbers[numbers.isna() | (numbers < 0) | numbers.duplicated()]
    if len(bad):
        raise ValueError(
            f"column object: row {bad.index[0]}, from 0, has {bad.iloc[0]}; expected numbers from 0 on, each "
            "once; correct the column, or leave it out"
        )
    return numbers.to_numpy(np.int64)


def _kind_of(table):
    """Return the class of a table by the types of its rows: object, if some have none that tells it."""
    if not len(table):
        raise ValueError("a table of positions is empty; give at least one row")
    types = table["type"][table["fault"] == ""]
    labels = np.unique(labels_of_types(types))
    if not len(labels) or labels[0] < 0:
        return OBJECT
    if len(labels) > 1:
        raise ValueError(
            "a table of positions must be all stars or all galaxies; its types are: "
            f"{', '.join(sorted(set(types)))}; split it, or leave out the types to fetch objects of any class"
        )
    return CLASS_NAMES[labels[0]]
