"""Angles and other numbers in columns of text or numbers, read row by row."""

import re

import astropy.units as u
import numpy as np
import pandas as pd

from ztf_sg.positions.catalogue import stripped_text

MISSING = ("", "nan", "null", "none", "na", "n/a", "<na>", "nat", "--", "-", "...", "masked")
# of the signs and spaces that typesetting has, and of decimal commas
PLAIN_SIGNS = str.maketrans({"−": "-", "–": "-", "‒": "-", "﹣": "-", "\u00a0": " ", "\u2009": " ", ",": "."})
SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d+(?:\.\d*)?)\s*(h|d|deg|°|:|\s)\s*"
    r"(?:(\d+(?:\.\d*)?)\s*(?:m|'|′|:|\s|$)\s*"
    r"(?:(\d+(?:\.\d*)?)\s*(?:s|\"|″|'')?)?)?"
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
    values, empty, _, _ = _numbers(column)
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
    values, empty, rows, text = _numbers(column)
    values = values * unit.to(u.deg)
    odd = np.isnan(values[rows]) & ~empty[rows]
    values[rows[odd]] = _sexagesimal(text[odd], sexagesimal_unit)
    return values, empty


def _numbers(column):
    """Return what read_numbers does, and the rows that are no plain numbers, with their text."""
    if is_numeric(column):
        values = column.to_numpy(float, na_value=np.nan)
        return values, np.isnan(values), np.array([], int), pd.Series([], dtype=str)
    text = column_text(column)
    values = pd.to_numeric(text, errors="coerce").to_numpy(float).copy()
    rows = np.flatnonzero(np.isnan(values))
    text = pd.Series([_plain(value) for value in text.iloc[rows]], dtype=str)
    values[rows] = pd.to_numeric(text, errors="coerce").to_numpy(float)
    empty = np.zeros(len(values), bool)
    empty[rows] = text.isin(MISSING)
    return values, empty, rows, text


def _plain(text):
    """Return text in small letters, with plain signs and spaces, and a point for a decimal comma."""
    text = text.lower().translate(PLAIN_SIGNS).strip()
    return text[0] + text[1:].lstrip() if text[:1] in ("+", "-") else text


def _sexagesimal(text, unit):
    """Return sexagesimal text as degrees, NaN where it is none."""
    no_match = (None,) * SEXAGESIMAL.groups
    matches = map(SEXAGESIMAL.fullmatch, text)
    parts = pd.DataFrame(
        [match.groups() if match else no_match for match in matches],
        columns=["sign", "first", "mark", "minutes", "seconds"],
        dtype=object,
    )
    first, minutes, seconds = parts[["first", "minutes", "seconds"]].to_numpy(float).T
    named = parts["mark"].isin(["h", "d", "deg", "°"]).to_numpy()
    hours = np.where(named, parts["mark"] == "h", unit == u.hourangle)
    whole = np.where(np.isnan(minutes), named, first % 1 == 0)
    whole &= np.isnan(seconds) | (minutes % 1 == 0)
    minutes, seconds = np.nan_to_num(minutes), np.nan_to_num(seconds)
    size = first + minutes / 60 + seconds / 3600
    # catalogues that round 59.996 write 60.00; only right ascension has hours, 24 of them
    whole &= (minutes < 60) & (seconds <= 60) & (~hours | ((unit == u.hourangle) & (size <= 24)))
    size *= np.where(parts["sign"] == "-", -1, 1) * np.where(hours, 15, 1)
    return np.where(whole, size, np.nan)
