"""Angles and other numbers in columns of text or numbers, read row by row."""

import re

import astropy.units as u
import numpy as np
import pandas as pd

from ztf_sg.positions.catalogue import stripped_text

MISSING = ("", "nan", "null", "none", "na", "n/a", "<na>", "nat", "--", "-", "...", "masked")
# signs and spaces that typesetting puts in the place of plain ones
PLAIN_SIGNS = str.maketrans({"−": "-", "–": "-", "‒": "-", "﹣": "-", "\u00a0": " ", "\u2009": " "})
SEXAGESIMAL = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<first>\d+(?:\.\d*)?)\s*(?P<unit>h|d|deg|°|:|\s)\s*"
    r"(?:(?P<minutes>\d+(?:\.\d*)?)\s*(?:m|'|′|:|\s|$)\s*"
    r"(?:(?P<seconds>\d+(?:\.\d*)?)\s*(?:s|\"|″|'')?)?)?"
)


def is_numeric(column):
    """Tell whether a column of a DataFrame holds real numbers; True and False are none."""
    kind = column.dtype
    return (
        pd.api.types.is_numeric_dtype(kind)
        and not pd.api.types.is_bool_dtype(kind)
        and not pd.api.types.is_complex_dtype(kind)
    )


def column_text(column):
    """Return a column as stripped text, empty where it is missing."""
    if isinstance(column.dtype, pd.StringDtype):
        return column.fillna("").str.strip()
    return stripped_text(column)


def read_numbers(column):
    """Return a column as numbers, float64 (n,), NaN where there is none, and which rows are empty, bool (n,).

    Text may have a decimal comma, a plus and the minus of typesetting.
    """
    if is_numeric(column):
        values = column.to_numpy(float, na_value=np.nan)
        return values, np.isnan(values)
    text = column_text(column)
    values = pd.to_numeric(text, errors="coerce").to_numpy(float).copy()
    odd = np.flatnonzero(np.isnan(values))
    plain = _plain(text.iloc[odd])
    values[odd] = pd.to_numeric(plain, errors="coerce").to_numpy(float)
    empty = np.zeros(len(text), bool)
    empty[odd] = plain.str.lower().isin(MISSING)
    return values, empty


def read_angles(column, unit, sexagesimal_unit):
    """Return a column of angles as degrees, float64 (n,), and which rows are empty, bool (n,).

    Rows that are no angles are NaN, among them those with 60 minutes or more.

    Parameters
    ----------
    column : pandas.Series of n rows
        Numbers, text of numbers, or sexagesimal text such as 01:23:45.6, 01 23 45.6 or 1h23m45.6s.
    unit : astropy.units.Unit
        Of numbers.
    sexagesimal_unit : astropy.units.Unit
        Of sexagesimal text that names none, hourangle for right ascension.
    """
    numbers, empty = read_numbers(column)
    values = numbers * unit.to(u.deg)
    odd = np.flatnonzero(np.isnan(values) & ~empty)
    if len(odd) and not is_numeric(column):
        values[odd] = _sexagesimal(_plain(column_text(column).iloc[odd]), sexagesimal_unit)
    return values, empty


def _plain(text):
    """Return text with plain signs and spaces, and a point in the place of a decimal comma."""
    text = text.astype(object).map(lambda value: value.translate(PLAIN_SIGNS).strip())
    return text.str.replace(",", ".").str.replace(r"^([+-])\s+", r"\1", regex=True)


def _sexagesimal(text, unit):
    """Return sexagesimal text as degrees, NaN where it is none."""
    parts = pd.DataFrame(
        [match.groupdict() if (match := SEXAGESIMAL.fullmatch(value.lower())) else {} for value in text],
        columns=list(SEXAGESIMAL.groupindex),
    )
    first, minutes, seconds = (
        pd.to_numeric(parts[name]).to_numpy(float) for name in ("first", "minutes", "seconds")
    )
    named = parts["unit"].isin(["h", "d", "deg", "°"])
    hours = ((parts["unit"] == "h") | (~named & (unit == u.hourangle))).to_numpy()
    whole = (~np.isnan(minutes) & (first % 1 == 0)) | (named & np.isnan(minutes)).to_numpy()
    whole &= np.isnan(seconds) | (minutes % 1 == 0)
    minutes, seconds = np.nan_to_num(minutes), np.nan_to_num(seconds)
    size = first + minutes / 60 + seconds / 3600
    # catalogues that round 59.996 write 60.00; only right ascension has hours, 24 of them
    whole &= (minutes < 60) & (seconds <= 60) & (~hours | ((unit == u.hourangle) & (size <= 24)))
    size *= np.where(parts["sign"] == "-", -1, 1) * np.where(hours, 15, 1)
    return np.where(whole, size, np.nan)
