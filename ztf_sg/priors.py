"""The share of galaxies among the objects to be classified: a number, or a column of their table."""

import numpy as np
import pandas as pd

from ztf_sg.checks import is_number
from ztf_sg.cutouts import CutoutError


def check_fraction(galaxy_fraction):
    """Raise a ValueError unless it is None, a number between 0 and 1, or the name of a column."""
    if galaxy_fraction is None or isinstance(galaxy_fraction, str):
        return
    if not (is_number(galaxy_fraction) and 0 < galaxy_fraction < 1):
        raise ValueError(
            "galaxy_fraction: expected a number between 0 and 1 or the name of a column of cutouts.table, "
            f"got {galaxy_fraction!r}"
        )


def check_column(table, name):
    """Raise a CutoutError unless a table has the column that `galaxy_fraction` names."""
    if name not in table:
        raise CutoutError(
            f"galaxy_fraction={name!r}: the table of the cutouts lacks the column; add it, "
            f'such as cutouts.table["{name}"] = ztf_sg.positions.galaxy_fraction(...), or give a number'
        )


def fraction_faults(table, name):
    """Return what is wrong with the values of a column of fractions, a dict of str by row."""
    check_column(table, name)
    bad = np.flatnonzero(np.isnan(_fractions(table[name]))).tolist()
    values = table[name].iloc[bad]
    text = "expected a share of galaxies between 0 and 1"
    return {row: f"its {name} is {value!s:.40}, {text}" for row, value in zip(bad, values, strict=True)}


def fraction_column(table, name):
    """Return a column of fractions, float (n,).

    Raises
    ------
    CutoutError
        If there is no such column, or a value is missing or not strictly between 0 and 1; the message names
        the rows.
    """
    faults = fraction_faults(table, name)
    if faults:
        rows = ", ".join(map(str, list(faults)[:5])) + ", ..." * (len(faults) > 5)
        raise CutoutError(
            f"galaxy_fraction={name!r}: {len(faults)} of {len(table)} values are not between 0 and 1 "
            f"(rows {rows}); mend them, or leave these cutouts out"
        )
    return _fractions(table[name])


def with_fraction(probability, trained, wanted):
    """Return the probabilities of being a galaxy for another share of galaxies.

    Parameters
    ----------
    probability : numpy.ndarray
        Probability of being a galaxy if the share is `trained`, shape (n,).
    trained : float
    wanted : float or numpy.ndarray (n,)
    """
    star, galaxy = (1 - probability) * (1 - wanted) / (1 - trained), probability * wanted / trained
    return galaxy / (star + galaxy)


def _fractions(column):
    """Return values as floats, NaN for those that are not strictly between 0 and 1."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where((values > 0) & (values < 1), values, np.nan)
