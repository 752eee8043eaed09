"""Alerts of ZTF from the broker Fink, by the names of objects or of known bodies of the solar system.

Service: https://doc.ztf.fink-broker.org; each alert's stamps are one request, which is never sent twice.
"""

import json
import re

import numpy as np
import pandas as pd

from ztf_sg.checks import is_whole_number
from ztf_sg.streaks import triplets_of
from ztf_sg.streaks.packets import image_of_column
from ztf_sg.streaks.stamp_pixels import StampError, stamp_pixels
from ztf_sg.streaks.stamps import IMAGES

from .errors import BadAnswer, NothingFound, RefusedRequest, UnusableAnswer
from .http import HttpSession
from .query_cache import QueryCache
from .retries import TRIES_ONE_BY_ONE, Retries

URL = "https://api.ztf.fink-portal.org"
TIMEOUT = 120.0  # between two parts of an answer [s]: the service gathers all before it answers
OBJECT_NAME = re.compile(r"ZTF\d\d[a-z]{7}")
COMET_NAME = re.compile(r"\d*[CPDXI](/.*)?", re.IGNORECASE)  # 10P, C/2020V2, 2I
CLOSEST = 2.0  # largest distance of an alert from the predicted position of its body [arcsec]


def fetch_alerts(names, cache=None, retries=None):
    """Fetch all alerts of some ZTF objects, or of asteroids and comets, with their stamps.

    Parameters
    ----------
    names : str or list of str
        Of ZTF objects, such as ZTF21abfmbix, or numbers, names and designations of known bodies, such as
        8467, Vesta, 2010JO69, 10P or C/2020V2.
    cache : path-like, optional
        Folder in which answers are kept, so that work that was interrupted goes on where it was.
    retries : Retries, optional
        How often and how patiently the service is asked again.

    Returns
    -------
    Triplets
        As of :func:`ztf_sg.load_alerts`; :func:`ztf_sg.streaks.write_alerts` keeps them. The column `asked`
        has the name that was asked for. Alerts within 2 arcsec of the predicted position of a body asked for
        are labelled: 1 for an asteroid, 0 for a comet; all others are -1. `skipped` lists names without
        alerts, and alerts without stamps of use.

    Raises
    ------
    ValueError
        There is no name, or it is empty.
    NothingFound
        There is no alert with stamps under any of the names.
    BadAnswer, Unreachable, ServiceDown, Stopped
        The service answered something else, could not be reached or was out of order for long; or it was
        stopped. Call it again with the same cache to go on.
    """
    names = list(names) if np.iterable(names) and not isinstance(names, str) else [names]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"names={names!r}: expected names of ZTF objects or of bodies of the solar system")
    service = _Fink(QueryCache(cache), retries or Retries(tries=TRIES_ONE_BY_ONE))
    alerts, faults = [], []
    for name in dict.fromkeys(name.strip() for name in names):
        try:
            alerts += service.list_alerts(name)
        except (NothingFound, RefusedRequest) as error:
            faults.append((name, None, str(error)))
    questions = [(URL, _stamps_query(alert)) for alert in alerts]
    found = [service.add_stamps(alert) for alert in service.cache.progress_bar(alerts, questions, "alert")]
    stamps = triplets_of([*faults, *found], "skip")
    if not len(stamps):
        reasons = "; ".join(stamps.skipped["reason"][:3])
        raise NothingFound(f"Fink holds no alert with stamps of {', '.join(names[:5])} ({reasons})")
    return stamps


class _Fink:
    """The requests to Fink, with a cache and retries."""

    def __init__(self, cache, retries):
        self.cache, self.retries = cache, retries
        self._session = HttpSession("Fink", read_timeout=TIMEOUT)

    def list_alerts(self, name):
        """Return the alerts of an object or a body as a list of dicts, without stamps."""
        if OBJECT_NAME.fullmatch(name):
            path, question = "objects", {"objectId": name}
        else:
            path, question = "sso", {"n_or_d": name}
        table = self._ask(path, question | {"output-format": "json"}, lambda rows: _alert_table(rows, name))
        return [{**row, "asked": name, "label": _label(row, name)} for row in map(json.loads, table["alert"])]

    def add_stamps(self, alert):
        """Return where an alert is, the alert with its stamps, and None; or instead None and a fault."""
        where = f"Fink, alert {alert['i:candid']}"
        try:
            stamps = self._ask("cutouts", json.loads(_stamps_query(alert).partition(" ")[2]), _stamps_table)
        except (NothingFound, RefusedRequest, UnusableAnswer) as error:
            return where, None, f"{alert['i:objectId']}: {error}"
        images = {kind: json.loads(pixels) for kind, pixels in stamps.iloc[0].items()}
        return where, alert | images, None

    def _ask(self, path, question, table_of):
        """Return the answer to a question as a table: the one kept, or what `table_of` makes of a new one."""
        query = _query(path, question)
        return self.cache.get(URL, query, lambda: self.retries.call(self._request, path, question, table_of))

    def _request(self, path, question, table_of):
        name = question.get("candid") or question.get("objectId") or question.get("n_or_d")
        answer = self._session.request("POST", f"{URL}/api/v1/{path}", f"{path} of {name}", json=question)
        try:
            return table_of(json.loads(answer.content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:150]
            raise BadAnswer(f"Fink answered no {path} of {name} ({reason}); try again later") from error


def _query(path, question):
    """Return on one line what is asked."""
    return f"{path} {json.dumps(question, sort_keys=True)}"


def _stamps_query(alert):
    """Return on one line the question for the stamps of an alert."""
    question = {"objectId": alert["i:objectId"], "candid": str(alert["i:candid"])}
    return _query("cutouts", question | {"kind": "All", "output-format": "array"})


def _alert_table(rows, name):
    """Return a table of one column with each alert as JSON, which keeps all digits of its numbers."""
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of alerts, got {str(rows)[:80]!r}")
    if not rows:
        raise NothingFound(f"Fink holds no alert of {name}; check how the name is written")
    for row in rows:
        if not (isinstance(row["i:objectId"], str) and _is_candid(row["i:candid"])):
            raise ValueError(f"an alert without objectId and candid: {str(row)[:80]!r}")
    return pd.DataFrame({"alert": [json.dumps(row) for row in rows]}, dtype=object)


def _is_candid(value):
    """Tell whether a value is the number of an alert, or its digits; a float lacks the last of them."""
    return (is_whole_number(value) or isinstance(value, str)) and str(value).isdecimal()


def _stamps_table(answer):
    """Return a table of one row with the stamps as JSON; an UnusableAnswer if one is not of use.

    A stamp that is null is missing from its alert.
    """
    stamps = {image_of_column(key): pixels for key, pixels in answer.items() if image_of_column(key)}
    if set(stamps) != set(IMAGES):
        raise ValueError(f"expected {', '.join(IMAGES)}, got {', '.join(answer) or 'nothing'}")
    for kind, pixels in stamps.items():
        try:
            if pixels is not None:
                stamp_pixels(pixels)
        except StampError as error:
            raise UnusableAnswer(f"Fink sent a {kind} stamp that {error}") from error
    return pd.DataFrame({kind: [json.dumps(pixels)] for kind, pixels in stamps.items()}, dtype=object)


def _label(alert, name):
    """Return the label of an alert that was found by a name."""
    distance = alert.get("i:ssdistnr")
    if OBJECT_NAME.fullmatch(name) or not isinstance(distance, int | float) or not 0 <= distance <= CLOSEST:
        return "unknown"
    return "comet" if COMET_NAME.fullmatch(name) else "asteroid"
