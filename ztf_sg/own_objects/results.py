"""The table of results: one row per object of a list, with its class, or why there is none."""

from copy import copy

import numpy as np
import pandas as pd

from ztf_sg.features import FLAGS
from ztf_sg.own_objects.combine import combine
from ztf_sg.own_objects.part import JUDGED, has_failed
from ztf_sg.priors import check_fraction

CLASSES = {0: "star", 1: "galaxy"}
UNCLASSIFIED = {  # what the columns hold for an object without a class
    "p_galaxy": np.nan,
    "class": "",
    "ambiguous": False,
    "n_images": 0,
    "filters": "",
    "chi2": np.nan,
    "p_chi2": np.nan,
    "contradictory": False,
    **dict.fromkeys(JUDGED, False),
}
TYPES = {name: object if value == "" else type(value) for name, value in UNCLASSIFIED.items()}
# what reasons begin with, before a colon
BAD_ROW, NOT_ASKED, NO_IMAGE, NO_USE, FAILED = (
    "bad row",
    "not asked",
    "no image",
    "no usable image",
    "failed",
)


def split_prior(model, galaxy_fraction, n):
    """Return a model that presumes nothing, and the share of galaxies among n objects instead of its own.

    Parameters
    ----------
    model : StarGalaxyClassifier
    galaxy_fraction : float or array_like (n,) or None
        None for that of the model.

    Returns
    -------
    StarGalaxyClassifier, float or pandas.Series

    Raises
    ------
    ValueError
        If the share is neither a number between 0 and 1 nor n of them, or the model has the name of a column.
    """
    fraction = model.galaxy_fraction if galaxy_fraction is None else galaxy_fraction
    fraction = model.training_fraction_ if fraction is None else fraction
    if isinstance(fraction, str):
        raise ValueError(f"galaxy_fraction: {fraction!r} names a column; give a number, or one per object")
    copied = copy(model)
    copied.galaxy_fraction = None
    if not np.iterable(fraction):
        check_fraction(fraction)
        return copied, float(fraction)
    fraction = pd.Series(np.asarray(fraction, dtype=float))
    if len(fraction) != n or not fraction.between(0, 1, inclusive="neither").all():
        raise ValueError(f"galaxy_fraction: expected {n} numbers between 0 and 1, one per row of the list")
    return copied, fraction


def classes_of(images, objects, galaxy_fraction, threshold):
    """Return the classes of n objects, and why some have none.

    Parameters
    ----------
    images : pandas.DataFrame
        One row per wanted image: object, filter (g, r or i), log_ratio (NaN if there is no image),
        source_image, status, and `JUDGED`.
    objects : numpy.ndarray
        Numbers of the objects, (n,).
    galaxy_fraction, threshold
        As of :func:`ztf_sg.own_objects.combine`.

    Returns
    -------
    pandas.DataFrame
        n rows, indexed by the numbers: the columns of `UNCLASSIFIED`, of which `outside` says whether all
        images of the object are so, and the `FLAGS` whether any is; n_failed and reason.
    """
    used = images[images["log_ratio"].notna()]
    without = unclassified(np.setdiff1d(objects, used["object"]))
    table = without
    if len(used):
        table = combine(used, galaxy_fraction, threshold)
        judged = used.groupby("object")
        table = table.join(judged[list(FLAGS)].any()).join(judged["outside"].all())
        table["class"] = table["class"].map(CLASSES)
        # a star whose light has bled along its column seems to be a galaxy
        table["ambiguous"] |= table["saturated"] & (table["class"] == CLASSES[1])
        table = pd.concat([table, without])
    failed = images.loc[has_failed(images["status"]), "object"].value_counts()
    n_failed = failed.reindex(table.index, fill_value=0)
    return table.assign(n_failed=n_failed, reason=_reasons(images, table["n_images"] == 0))[list(without)]


def unclassified(objects, reason=""):
    """Return what :func:`classes_of` does of objects without images, for a reason, or for one each."""
    columns = {name: pd.Series(value, objects, TYPES[name]) for name, value in UNCLASSIFIED.items()}
    return pd.DataFrame(columns, index=objects).assign(n_failed=0, reason=reason)


def _reasons(images, is_without):
    """Return why objects have no class, or which images failed, else ""; by a bool Series of the objects."""
    reasons = pd.Series("", is_without.index, dtype=object)
    failed = has_failed(images["status"])
    skipped = images[images["object"].map(is_without) & ~failed]
    for kind, rows in ((NO_IMAGE, skipped), (NO_USE, skipped[skipped["source_image"] != ""])):
        reasons.update(f"{kind}: " + _first_status(rows))
    counts = images[failed].groupby("object").size().astype(str)
    of_all = images.groupby("object").size().astype(str)[counts.index]
    reasons.update(f"{FAILED}: " + counts + " of " + of_all + " images; " + _first_status(images[failed]))
    return reasons


def _first_status(images):
    """Return what the status of the first image of each object says, without its outcome."""
    return images.groupby("object")["status"].first().str.replace(r"^\w+: ", "", regex=True)


def is_incomplete(table):
    """Tell of each object of a table of results whether the same call may get more of it later, bool (n,)."""
    return (table["n_failed"] > 0) | table["reason"].str.startswith(NOT_ASKED)


def summarize(table):
    """Say in a few lines how many objects there are of what kind, in a table of results."""
    classified = table[table["class"] != ""]
    stars, galaxies = ((classified["class"] == name).sum() for name in CLASSES.values())
    kinds = table.loc[table["class"] == "", "reason"].str.split(":").str[0].value_counts()
    counted = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    contradictory, outside = classified["contradictory"].sum(), classified["outside"].sum()
    lines = [
        f"asked {len(table)}, classified {len(classified)}: stars {stars}, galaxies {galaxies}",
        f"ambiguous {classified['ambiguous'].sum()}: contradictory {contradictory}, outside {outside}",
        f"without a class {kinds.sum()}" + f": {counted}" * bool(counted),
    ]
    if partly := ((table["n_failed"] > 0) & (table["class"] != "")).sum():
        lines.append(f"classified without images that the archive did not deliver so far: {partly}")
    return "\n".join(lines)
