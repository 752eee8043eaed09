"""A TAP service with the Legacy Surveys' Tractor tables, as at Astro Data Lab; ADQL by way of SQLite."""

import re
import sqlite3
import threading
import uuid
from dataclasses import replace
from functools import cached_property
from xml.sax.saxutils import escape

import numpy as np

from ztf_sg.services.legacy_survey import COLUMNS

from .answers import column_kind, html, redirect, text, votable, votable_error

SCHEMAS = ("ls_dr10", "ls_dr9")
KINDS = {name.lower(): "f4" for name in COLUMNS} | {"ra": "f8", "dec": "f8", "type": "char"}
KINDS["brick_primary"] = "i4"
DUPLICATE_SHARE = 0.01  # of objects listed a second time, by a neighbouring brick
WHOLE_SKY = 41253  # [deg2]


class Tap:
    """`row_limit` cuts answers, `area_limit` [deg2] aborts jobs, and `polls` come before the end of a job."""

    def __init__(self, sky, row_limit=None, area_limit=None, polls=1):
        self.sky, self.row_limit, self.area_limit, self.polls = sky, row_limit, area_limit, polls
        self._jobs = {}
        self._lock = threading.RLock()

    @cached_property
    def _database(self):
        database = sqlite3.connect(":memory:", check_same_thread=False)
        primary = self.sky.catalogue[list(COLUMNS)].rename(columns=str.lower).assign(brick_primary=1)
        rng = np.random.default_rng(self.sky.seed)
        again = primary[rng.random(len(primary)) < DUPLICATE_SHARE].assign(brick_primary=0)
        again["ra"] += rng.normal(0, 0.02 / 3600, len(again))
        for schema in SCHEMAS:
            database.execute(f"ATTACH ':memory:' AS {schema}")
            database.execute(f"CREATE TABLE {schema}.tractor ({', '.join(KINDS)})")
            for table in (primary, again):
                database.executemany(
                    f"INSERT INTO {schema}.tractor VALUES ({', '.join('?' * len(KINDS))})",
                    zip(*(table[name].tolist() for name in KINDS), strict=True),
                )
        database.execute("PRAGMA query_only = ON")
        return database

    def __call__(self, request, path):
        """Answer a request of ``/tap/`` + `path`."""
        parts = path.split("/")
        parameters = {name.upper(): value for name, value in request.values.items()}
        if parts == ["sync"]:
            return self._run(parameters)[1]
        if parts == ["async"] and request.method == "POST":
            return self._create(request, parameters)
        job = self._jobs.get(parts[1]) if parts[0] == "async" and len(parts) > 1 else None
        if job is None:
            return html(404, "Not Found")
        with self._lock:
            return self._job(request, job, parameters, "/".join(parts[2:]))

    def _create(self, request, parameters):
        identity = uuid.uuid4().hex[:12]
        job = {"id": identity, "phase": "PENDING", "polls": self.polls, "parameters": parameters}
        job["url"] = f"{request.host_url}tap/async/{identity}"
        self._jobs[identity] = job
        if parameters.get("PHASE") == "RUN":
            job["phase"] = "QUEUED"
        return redirect(job["url"])

    def _job(self, request, job, parameters, what):
        if what == "phase" and request.method == "POST":
            job["phase"] = {"RUN": "QUEUED", "ABORT": "ABORTED"}.get(parameters.get("PHASE"), job["phase"])
            return redirect(job["url"])
        if what == "" and request.method == "DELETE":
            del self._jobs[job["id"]]
            return redirect(f"{request.host_url}tap/async")
        if what == "phase":
            return text(self._next_phase(job))
        if what == "" and request.method == "GET":
            return text(job_document(job["url"], self._next_phase(job), job.get("reason", "")), "text/xml")
        if what == "results/result" and job["phase"] == "COMPLETED":
            return replace(job["answer"])  # a fault of this answer is none of the next one
        if what in ("results/result", "error"):
            return self._failure(job, 200 if what == "error" else 400)
        if what in ("", "parameters") and request.method == "POST":
            job["parameters"].update(parameters)
            return redirect(job["url"])
        return html(404, "Not Found")

    def _next_phase(self, job):
        """Return the phase of a job; each look at it brings it nearer to its end."""
        if job["phase"] in ("QUEUED", "EXECUTING"):
            if job["polls"] > 0:
                job["polls"] -= 1
                job["phase"], phase = "EXECUTING", job["phase"]
                return phase
            job["phase"], job["answer"], job["reason"] = self._run(job["parameters"])
        return job["phase"]

    def _failure(self, job, status):
        failed = job["phase"] in ("ERROR", "ABORTED") and job.get("answer")
        if not failed:
            return votable_error(404, f"the job is {job['phase']}")
        answer = job["answer"]
        return replace(answer, status=status)

    def _run(self, parameters):
        """Return the final phase of a query, its answer, and the reason of a failure."""
        query = parameters.get("QUERY", "")
        if self.area_limit is not None and _area(query) > self.area_limit:
            reason = "the query exceeded the time limit"
            return "ABORTED", votable_error(400, reason), reason
        limits = [int(v) for v in (parameters.get("MAXREC"), self.row_limit) if v is not None]
        most = min(limits, default=None)
        try:
            with self._lock:
                cursor = self._database.execute(_sqlite(query))
                names = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchall() if most is None else cursor.fetchmany(most + 1)
        except (sqlite3.Error, sqlite3.Warning) as error:
            reason = f"ADQL error: {error}"
            return "ERROR", votable_error(400, reason), reason
        overflow = most is not None and len(rows) > most
        rows = rows[:most]
        columns = {
            name: KINDS.get(name.lower()) or column_kind([row[i] for row in rows])
            for i, name in enumerate(names)
        }
        return "COMPLETED", votable(rows, columns, overflow), ""


_UWS = (
    '<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'version="1.1"><uws:jobId>{id}</uws:jobId><uws:phase>{phase}</uws:phase>'
    "<uws:executionDuration>600</uws:executionDuration>{outcome}</uws:job>"
)
_RESULTS = '<uws:results><uws:result id="result" xlink:href="{url}/results/result"/></uws:results>'
_ERROR = '<uws:errorSummary type="fatal" hasDetail="true"><uws:message>{}</uws:message></uws:errorSummary>'


def job_document(url, phase, reason=""):
    """Return the UWS document of a job at a URL."""
    outcome = _RESULTS.format(url=url) if phase == "COMPLETED" else ""
    if phase in ("ERROR", "ABORTED") and reason:
        outcome = _ERROR.format(escape(reason))
    return _UWS.format(id=url.rpartition("/")[2], phase=phase, outcome=outcome)


def _sqlite(query):
    """Return the query with ADQL's TOP n as LIMIT n."""
    match = re.match(r"\s*SELECT\s+((?:ALL|DISTINCT)\s+)?TOP\s+(\d+)\s", query, re.IGNORECASE)
    if match is None:
        return query
    return f"SELECT {match[1] or ''}{query[match.end() :].rstrip('; ')} LIMIT {match[2]}"


def _area(query):
    """Return the area [deg2] of the rectangle that a query names; the whole sky if it names none."""
    number = r"([+-]?[\d.]+(?:e[+-]?\d+)?)"
    area = 1.0
    for axis in ("ra", "dec"):
        between = re.search(rf"\b{axis}\s+between\s+{number}\s+and\s+{number}", query, re.IGNORECASE)
        low = re.search(rf"\b{axis}\s*>=?\s*{number}", query, re.IGNORECASE)
        high = re.search(rf"\b{axis}\s*<=?\s*{number}", query, re.IGNORECASE)
        if not between and not (low and high):
            return WHOLE_SKY
        low, high = (float(v) for v in (between.groups() if between else (low[1], high[1])))
        area *= (high - low) % 360
    return area
