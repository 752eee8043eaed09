"""The classes of alerts: what is said of each stamp, and of the detections of one exposure together."""

import warnings
from itertools import islice

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ztf_sg.streaks.alert_files import iter_found
from ztf_sg.streaks.alerts import triplets_of
from ztf_sg.streaks.classifier import MovingObjectClassifier
from ztf_sg.streaks.features import SMALLEST_STAMP
from ztf_sg.streaks.linking import NONE, link_flashes
from ztf_sg.streaks.stamps import CLASS_NAMES, Triplets

BATCH = 2000  # alerts in memory at a time, 0.1 GB
PATIENCE = 10  # before a progress bar is shown [s]
OTHER, ASTEROID, SATELLITE = CLASS_NAMES
KEPT = ("name", "ra", "dec", "jd", "fid", "candid")  # of the metadata of alerts
EXPOSURE = ["jd", "fid"]
PROBABILITIES = tuple(f"p_{name}" for name in CLASS_NAMES)
MEASURED = (
    *(f"{name}{part}" for name in ("length", "angle", "rate", "magnitude") for part in ("", "_error")),
    *("free_ends", "flashes", "period", "trail", "p_streak"),
)
UNCLASSIFIED = {"class": "", "ambiguous": False, "free_ends": 0, "flashes": 0, "trail": False, "linked": NONE}


def classify_alerts(source, model=None, max_error=0.01):
    """Classify detections as asteroids, satellites and others.

    Parameters
    ----------
    source : path-like or Triplets
        What :func:`ztf_sg.load_alerts` reads, a few alerts at a time, or returns.
    model : MovingObjectClassifier, optional
        Trained; the pretrained one by default.
    max_error : float
        Largest share of wrong answers among the stamps that are not ambiguous, see
        :meth:`MovingObjectClassifier.confidence_threshold
        <ztf_sg.MovingObjectClassifier.confidence_threshold>`.

    Returns
    -------
    pandas.DataFrame
        One row per alert, first those that can be used:

        - name, and ra, dec [deg], jd [d], fid and candid (a text) as far as the alerts have them;
        - p_other, p_asteroid and p_satellite, the probabilities of the classes, and class: "other",
          "asteroid" or "satellite", or "" if the alert cannot be used;
        - ambiguous: better looked at by eye, see :meth:`MovingObjectClassifier.ambiguous
          <ztf_sg.MovingObjectClassifier.ambiguous>`;
        - the columns of :meth:`MovingObjectClassifier.measure <ztf_sg.MovingObjectClassifier.measure>`, and
          p_streak, by which fast asteroids are found, see :meth:`MovingObjectClassifier.describe
          <ztf_sg.MovingObjectClassifier.describe>`;
        - linked: the number of the satellite whose flashes this and other detections of its exposure are, by
          :func:`ztf_sg.streaks.link_flashes`, -1 without one. As a flash alone looks like an asteroid, those
          that are linked count as satellites, whatever the probabilities;
        - reason: why there is no class, else "".

    Raises
    ------
    FileNotFoundError
        If there is no such path, or nothing in it looks like alerts.
    ValueError
        If max_error makes no sense.

    Warns
    -----
    UserWarning
        If images are missing, see :meth:`MovingObjectClassifier.predict_proba
        <ztf_sg.MovingObjectClassifier.predict_proba>`, or the detections of an exposure are too far apart.
    """
    model = MovingObjectClassifier.pretrained() if model is None else model
    model.confidence_threshold(max_error)  # an error of it comes before the work
    parts = []
    with tqdm(unit="alert", delay=PATIENCE) as bar:
        for stamps in _batches(source):
            parts.append(_classes(stamps, model, max_error))
            bar.update(len(parts[-1]))
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values("reason", key=lambda reason: reason != "", kind="stable")
    known = (name for name in KEPT if name in table)
    columns = [*known, *PROBABILITIES, "class", "ambiguous", *MEASURED, "linked", "reason"]
    return _linked(table.reset_index(drop=True).reindex(columns=columns))


def _batches(source):
    """Yield the Triplets of a source, a few at a time."""
    if isinstance(source, Triplets):
        yield source
        return
    found, seen = iter_found(source), {}
    while batch := list(islice(found, BATCH)):
        yield triplets_of(batch, "skip", seen)


def _classes(stamps, model, max_error):
    """Return the rows of some stamps, without links, and of those that cannot be used."""
    skipped = pd.concat([stamps.skipped, _too_small(stamps)]).assign(**UNCLASSIFIED)
    if not len(stamps) or len(skipped) > len(stamps.skipped):
        return skipped
    table = stamps.table[[name for name in KEPT if name in stamps.table]]
    if "candid" in table:  # a number that is missing somewhere would become a float, without its last digits
        table = table.assign(candid=table["candid"].astype("string"))
    if "name" not in table:
        table = table.assign(name=[f"stamp {row}" for row in range(len(stamps))])
    table = table.join(model.describe(stamps, max_error)).assign(linked=NONE, reason="")
    return pd.concat([table, skipped], ignore_index=True)


def _too_small(stamps):
    """Return name and reason of all stamps of a set if they are too small to be measured; else no rows."""
    height, width = stamps.difference.shape[1:]
    rows = range(len(stamps)) if min(height, width) < SMALLEST_STAMP else ()
    names = stamps.table.get("name", pd.Series([f"stamp {row}" for row in range(len(stamps))], dtype=object))
    reason = f"has stamps of {height} x {width} px; at least {SMALLEST_STAMP} px are needed"
    return pd.DataFrame({"name": [names[row] for row in rows], "reason": reason}, dtype=object)


def _linked(table):
    """Return the table with the numbers of satellites, whose flashes are satellites themselves."""
    if not {"ra", "dec", *EXPOSURE} <= set(table):
        return table
    columns = table[["ra", "dec", *EXPOSURE]].copy()
    for name in ("ra", "dec"):  # tables made by hand may hold texts
        columns[name] = pd.to_numeric(columns[name], errors="coerce").to_numpy(float, na_value=np.nan)
    moving = table["class"].isin([ASTEROID, SATELLITE]) & columns.notna().all(axis=1)
    moving &= np.isfinite(columns[["ra", "dec"]]).all(axis=1)
    number = 0
    for _, exposure in columns[moving].groupby(EXPOSURE, sort=False):
        try:
            found = link_flashes(exposure)["satellite"]
        except ValueError as error:  # a wrong position costs the links of its exposure alone
            warnings.warn(f"flashes are not linked: {error}", stacklevel=3)
            continue
        table.loc[found.index, "linked"] = found.where(found == NONE, found + number)
        number += found.max() + 1
    flashes = table["linked"] != NONE
    return table.assign(
        **{
            "class": table["class"].mask(flashes, SATELLITE),
            "ambiguous": table["ambiguous"].mask(flashes, False),
        }
    )


def summarize(table):
    """Say in a few lines how many alerts are of what class, in a table of :func:`classify_alerts`."""
    classified = table[table["class"] != ""]
    counts = classified["class"].value_counts()
    skipped = table[table["class"] == ""]
    linked = table.loc[table["linked"] != NONE, "linked"]
    lines = [
        f"asked {len(table)}, classified {len(classified)}: "
        + ", ".join(f"{name} {counts.get(name, 0)}" for name in CLASS_NAMES),
        f"ambiguous {classified['ambiguous'].sum()}; "
        f"linked flashes {len(linked)}, of satellites {linked.nunique()}",
        f"without a class {len(skipped)}" + "".join(f": {reason}" for reason in skipped["reason"].head(1)),
    ]
    return "\n".join(lines)
