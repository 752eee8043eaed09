"""The audit of labels with the motions that Gaia measured, which galaxies do not have."""

import numpy as np
import pandas as pd

from ztf_sg.cutouts import CLASS_NAMES
from ztf_sg.positions.catalogue import data_frame, labels_of_types, standard_columns
from ztf_sg.positions.cuts import keep

MOTION_THRESHOLD = 5  # times its error: the least motion or parallax that counts
MOTION_COLUMNS = ("parallax", "parallax_error", "pmra", "pmdec", "pmra_error", "pmdec_error")
GAIA_COLUMNS = ("gaia_source_id", *MOTION_COLUMNS, "separation")


def motion_significance(matched):
    """Return the proper motion or the parallax of Gaia sources over its error, whichever ratio is larger.

    Parameters
    ----------
    matched : pandas.DataFrame or astropy.table.Table
        n rows with ``parallax``, ``parallax_error`` [mas], ``pmra``, ``pmdec``, ``pmra_error`` and
        ``pmdec_error`` [mas/yr], in lower or upper case.

    Returns
    -------
    numpy.ndarray (n,)
        NaN without a source, or for a source with a position only.

    Notes
    -----
    The total proper motion is mu = sqrt(pmra^2 + pmdec^2), and its error, for uncorrelated components,
    sqrt((pmra * pmra_error)^2 + (pmdec * pmdec_error)^2) / mu.
    """
    table = gaia_columns(matched)
    motion = np.hypot(table["pmra"], table["pmdec"])
    error_times_motion = np.hypot(table["pmra"] * table["pmra_error"], table["pmdec"] * table["pmdec_error"])
    moves = motion**2 / error_times_motion.where(error_times_motion > 0)
    return np.fmax(moves, table["parallax"] / table["parallax_error"]).to_numpy(float)


def significant_motion(matched):
    """Return where :func:`motion_significance` is above `MOTION_THRESHOLD`, as of nearby stars, bool (n,)."""
    return motion_significance(matched) > MOTION_THRESHOLD


def audit_labels(matched):
    """Add a column ``audit`` to a table: whether the motion that Gaia measured agrees with the Tractor type.

    It is "confirmed" for a star that moves, "unchallenged" for a galaxy that does not, and "doubtful" for a
    galaxy that moves and for a point source that does not, which may be a quasar or a compact galaxy.

    Parameters
    ----------
    matched : pandas.DataFrame or astropy.table.Table
        n rows with a column TYPE (or type) and those of :func:`motion_significance`.

    Returns
    -------
    pandas.DataFrame
    """
    matched = data_frame(matched)
    is_star = labels_of_types(standard_columns(matched, ["TYPE"])["TYPE"]) == 0
    moves = significant_motion(matched)
    verdict = np.select([is_star & moves, ~is_star & ~moves], ["confirmed", "unchallenged"], "doubtful")
    earlier = [name for name in matched if str(name).lower() == "audit"]
    return matched.drop(columns=earlier).assign(audit=verdict)


def audit_report(audited):
    """Count the objects of :func:`audit_labels`; the columns are class, audit, reason and objects."""
    audited = data_frame(audited)
    table = gaia_columns(audited, ["audit", "gaia_source_id", "pmra"])
    is_star = labels_of_types(standard_columns(audited, ["TYPE"])["TYPE"]) == 0
    verdict = table["audit"].to_numpy()
    moves = verdict == np.where(is_star, "confirmed", "doubtful")
    reason = np.select(
        [table["gaia_source_id"].isna(), moves, table["pmra"].isna()],
        ["no Gaia source", "significant motion", "Gaia source without a measured motion"],
        "no significant motion",
    )
    report = pd.DataFrame({"class": np.where(is_star, *CLASS_NAMES), "audit": verdict, "reason": reason})
    counts = report.value_counts(sort=False).rename("objects").reset_index()
    return counts.sort_values(["class", "audit", "objects"], ascending=False, ignore_index=True)


def cut_doubtful(audited):
    """Drop objects whose label Gaia makes doubtful; see :func:`audit_labels`."""
    table = standard_columns(audited, ["AUDIT"])
    return keep(table, table["AUDIT"] != "doubtful", "label not doubtful to Gaia")


def gaia_columns(table, needed=MOTION_COLUMNS):
    """Return the columns needed of Gaia and of the audit, in lower case as the cross-match has them.

    Where two names differ in case only, the lower-case one counts: the other is of an earlier match.
    """
    table = data_frame(table)
    newest = {name for name in needed if name in table}
    earlier = [name for name in table if name not in newest and str(name).lower() in newest]
    table = table.drop(columns=earlier)
    found = {str(name).lower() for name in table}
    missing = [name for name in needed if name not in found]
    if missing:
        raise KeyError(f"the table lacks {', '.join(missing)}; match it with Gaia, then audit its labels")
    names = [name.upper() for name in needed]
    return standard_columns(table, names)[names].set_axis(list(needed), axis=1)
