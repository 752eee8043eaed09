import io
import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from urllib.parse import parse_qs

import pandas as pd
import pytest
from archives.tap import job_document
from astropy.table import Table
from werkzeug import Response

from ztf_sg.services import retries, tap
from ztf_sg.services.errors import BadAnswer, RefusedRequest, ServiceDown, Unreachable
from ztf_sg.services.retries import Retries
from ztf_sg.services.tap import TapJob, TooLarge, TooSlow

QUICK = partial(Retries, tries=3, first_wait=0.01, longest_wait=0.02, patience=1)
QUERY = "SELECT ra FROM somewhere"


def votable(rows=3, end=b"</TABLE>"):
    text = io.BytesIO()
    Table({"ra": [float(row) for row in range(rows)]}).write(text, format="votable")
    return text.getvalue().replace(b"</TABLE>", end)


class Service:
    """A TAP service that gives the answers a test lists, then accepts and completes every job.

    Of a job that was started, the answers may be phases.
    """

    def __init__(self, server):
        self.answers = {"async": [], "job": [], "phase": [], "result": []}
        self.asked = []
        self.jobs = []
        self.started = set()
        self.phases = []
        self.reason = ""
        self.url = server.url_for("/tap")
        server.expect_request(re.compile("/tap/async.*")).respond_with_handler(self.respond)

    def respond(self, request):
        what = request.path.rsplit("/")[-1]
        job = request.url.partition("/results")[0].removesuffix("/phase")
        what = "job" if what.startswith("job") else what
        self.asked.append(f"{request.method} {what}")
        answer = "PENDING"
        if what != "job" or job in self.started:
            answer = self.answers[what].pop(0) if self.answers[what] else "COMPLETED"
        if isinstance(answer, Response):
            return answer
        if what == "async":
            self.jobs.append(parse_qs(request.get_data(as_text=True)))
            return Response(status=303, headers={"Location": f"{self.url}/async/job{len(self.jobs)}"})
        if what == "phase":
            self.started.add(job)
            self.phases.append(request.get_data(as_text=True))
            return Response("")
        return Response(votable() if what == "result" else job_document(job, answer, self.reason))


@pytest.fixture
def service(httpserver, monkeypatch):
    monkeypatch.setattr(tap, "POLL_FIRST", 0.001)
    return Service(httpserver)


def test_job_gives_a_table(service):
    service.answers["job"] = ["QUEUED", "EXECUTING\n"]
    table = TapJob(service.url, QUERY, 10).run()
    pd.testing.assert_frame_equal(table, pd.DataFrame({"ra": [0.0, 1.0, 2.0]}))
    start = service.asked.index("POST phase")
    assert service.asked[:start] == ["POST async"] + 3 * ["GET job"]
    assert service.asked[start + 1 :] == 3 * ["GET job"] + ["GET result"]
    assert service.jobs[0]["QUERY"] == [QUERY]
    assert service.jobs[0]["MAXREC"] == ["10"]


@pytest.mark.parametrize(
    ("answers", "max_rows"),
    [
        ({}, 3),
        ({"result": [Response(votable(end=b'</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>'))]}, 10),
    ],
    ids=["rows", "overflow"],
)
def test_answer_that_is_too_large(service, answers, max_rows):
    service.answers |= answers
    with pytest.raises(TooLarge):
        TapJob(service.url, QUERY, max_rows).run()


@pytest.mark.parametrize(
    ("phase", "reason"), [("ABORTED", ""), ("ERROR", "the query exceeded its time limit")]
)
def test_answer_that_is_not_there_in_time(service, phase, reason):
    service.answers["job"], service.reason = [phase], reason
    with pytest.raises(TooSlow):
        TapJob(service.url, QUERY, 10).run()


def test_same_job_goes_on_after_a_fault_and_a_new_one_is_sent_after_an_answer(service):
    service.answers["job"] = ["QUEUED", Response("", status=503)]
    job = TapJob(service.url, QUERY, 10)
    with pytest.raises(Unreachable, match="HTTP status 503"):
        job.run()
    job.run()
    assert len(service.jobs) == 1
    job.run()
    assert len(service.jobs) == 2


def test_job_that_could_not_be_started_is_started_later(service):
    service.answers["phase"] = [Response("", status=503)]
    job = TapJob(service.url, QUERY, 10)
    with pytest.raises(Unreachable):
        job.run()
    assert len(job.run()) == 3
    assert len(service.jobs) == 1


def test_interrupt_aborts_the_job(service, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    service.answers["job"] = ["EXECUTING"]
    monkeypatch.setattr(tap.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        TapJob(service.url, QUERY, 10).run()
    assert service.phases == ["PHASE=RUN", "PHASE=ABORT"]


def test_answer_of_the_same_job_is_asked_for_again_after_a_bad_one(service):
    service.answers["result"] = [Response("<html>Sign in")]
    job = TapJob(service.url, QUERY, 10)
    with pytest.raises(BadAnswer, match="answered no VOTable"):
        job.run()
    assert len(job.run()) == 3
    assert len(service.jobs) == 1


def test_refused_query_gives_the_reason(service):
    service.answers["async"] = [Response("<html><b>no such</b> table</html>", status=400)]
    with pytest.raises(
        RefusedRequest, match=rf"query '{QUERY}' was refused: .*HTTP status 400.*no such table"
    ):
        TapJob(service.url, QUERY, 10).run()


def test_silent_service_is_given_up(monkeypatch):
    monkeypatch.setattr(tap, "TIMEOUT", 0.05)
    with socket.create_server(("localhost", 0)) as silent:
        url = f"http://localhost:{silent.getsockname()[1]}/tap"
        with pytest.raises(Unreachable, match="timed out"):
            TapJob(url, QUERY, 10).run()
    assert socket.getdefaulttimeout() is None


def in_seconds(seconds):
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7200", 7200),
        (in_seconds(7200), 7200),
        (in_seconds(7200).replace("GMT", "-0000"), 7200),
        (in_seconds(-7200), 0),
        ("soon", 0),
        ("", 0),
    ],
    ids=["seconds", "date", "date without zone", "past", "word", "empty"],
)
def test_wait_that_the_service_asks_for(service, value, expected):
    service.answers["async"] = [Response("busy", status=503, headers={"Retry-After": value})]
    with pytest.raises(Unreachable) as caught:
        TapJob(service.url, QUERY, 10).run()
    assert caught.value.retry_after == pytest.approx(expected, abs=1800)


def test_date_far_ahead_ends_the_patience(service):
    service.answers["async"] = [Response("", status=429, headers={"Retry-After": in_seconds(7200)})]
    with pytest.raises(ServiceDown, match="HTTP status 429"):
        QUICK().call(TapJob(service.url, QUERY, 10).run)
    assert service.asked == ["POST async"]


class TestWaits:
    @pytest.fixture
    def messages(self, caplog):
        """Return what a user of a notebook reads."""
        return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    def test_long_wait_is_logged_with_its_reason(self, service, monkeypatch, messages):
        monkeypatch.setattr(retries, "LONG_WAIT", 0.5)
        service.answers["async"] = [Response("", status=503, headers={"Retry-After": "1"})]
        QUICK(patience=3).call(TapJob(service.url, QUERY, 10).run)
        reason = f"{service.url} answered HTTP status 503 for the data: it is busy or out of order"
        assert messages() == [f"{reason}; trying again in 1 s"]

    def test_wait_of_several_requests_is_logged_once(self, monkeypatch, messages):
        monkeypatch.setattr(retries, "LONG_WAIT", 0.1)
        shared = QUICK(tries=2, first_wait=60, longest_wait=60, patience=900)
        shared._sleep = lambda seconds: None
        together = threading.Barrier(4)

        def attempt():
            together.wait()
            raise Unreachable("no answer; try again later")

        def call(_):
            with pytest.raises(Unreachable):
                shared.call(attempt)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))
        (message,) = messages()
        assert re.fullmatch(r"no answer; trying again in \d+ s", message)

    def test_short_waits_are_not_logged(self, service, messages):
        service.answers["async"] = [Response("", status=503)] * 2
        QUICK().call(TapJob(service.url, QUERY, 10).run)
        assert messages() == []
