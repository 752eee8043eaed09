"""The conditions that a classifier was trained on, S/N and seeing, and which objects are outside of them."""

import numpy as np
import pandas as pd

MARGIN = 0.1  # by which a condition may exceed those of the training set, as a share of its value
UNITS = {"S/N": "", "seeing": " px"}


def conditions_of(features):
    """Return the conditions of objects, a DataFrame of n rows: S/N and seeing [px].

    Parameters
    ----------
    features : pandas.DataFrame
        Columns log_snr and seeing [px].
    """
    return pd.DataFrame({"S/N": 10 ** features["log_snr"], "seeing": features["seeing"]})


def ranges_of(conditions):
    """Return the smallest and the largest value of each condition, a dict of tuples of two floats."""
    return {name: (float(conditions[name].min()), float(conditions[name].max())) for name in UNITS}


def check_ranges(ranges):
    """Return ranges as tuples of floats by name; raise a ValueError unless their bounds are positive."""
    found = {name: tuple(map(float, ranges[name])) for name in UNITS}
    for name, (low, high) in found.items():
        if not 0 < low <= high < np.inf:
            raise ValueError(f"its range of {name}, {low:g} to {high:g}, is none")
    return found


def outside_by_condition(conditions, ranges):
    """Return which objects are outside of each range by more than `MARGIN`, a DataFrame of bool (n rows)."""
    limits = {name: ((1 - MARGIN) * low, (1 + MARGIN) * high) for name, (low, high) in ranges.items()}
    return pd.DataFrame({name: ~conditions[name].between(*bounds) for name, bounds in limits.items()})


def summarize(conditions, ranges):
    """Return how many objects are outside, and the range of each condition among those that it puts there.

    Returns
    -------
    dict
        objects, outside : int; ranges : dict of tuples of two floats, of the conditions that matter. JSON can
        hold it.
    """
    outside = outside_by_condition(conditions, ranges)
    found = {
        name: (float(conditions[name][mask].min()), float(conditions[name][mask].max()))
        for name, mask in outside.items()
        if mask.any()
    }
    return {"objects": len(conditions), "outside": int(outside.any(axis=1).sum()), "ranges": found}


def merge(summaries):
    """Return the summary of several sets of objects from those of each."""
    counts = {name: sum(summary[name] for summary in summaries) for name in ("objects", "outside")}
    found = {}
    for summary in summaries:
        for name, values in summary["ranges"].items():
            values = [*values, *found.get(name, values)]
            found[name] = min(values), max(values)
    return {**counts, "ranges": found}


def describe(summary, ranges):
    """Return a warning of the objects that are outside, as a text; empty if there are none."""
    if not summary["outside"]:
        return ""
    reasons = " or ".join(
        f"{name} {_interval(summary['ranges'][name])}{UNITS[name]} (trained on {_interval(ranges[name])}"
        f"{UNITS[name]})"
        for name in UNITS
        if name in summary["ranges"]
    )
    return (
        f"{summary['outside']} of {summary['objects']} cutouts are outside of what the classifier was "
        f"trained on: {reasons}; their answers may be wrong, and they are ambiguous"
    )


def _interval(bounds):
    low, high = (f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in bounds)
    return low if low == high else f"{low} to {high}"
