"""Running a query at a TAP service, as an asynchronous job of astroquery's client.

Protocol: https://www.ivoa.net/documents/TAP/ and https://www.ivoa.net/documents/UWS/.
"""

import http.client
import io
import re
import time
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import requests
from astropy.io import votable
from astroquery.utils.tap.conn.tapconn import TapConn
from astroquery.utils.tap.core import TapPlus

from .download import REMEDY, check_in_order, plain_text
from .errors import BadAnswer, RefusedRequest, ServiceError, Unreachable

LONGEST_JOB = 1800.0  # from the beginning of a job to its end, queue included [s]
POLL_FIRST, POLL_LONGEST = 0.5, 10.0  # the wait between two looks at a job doubles from one to the other [s]
TIMEOUT = 120  # seconds without a byte from the service; a waiting job is polled, so it may take longer
WAITING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")


class TooLarge(Exception):
    """The service cut the answer short: ask for less."""


class TooSlow(TooLarge):
    """The service did not finish the answer in time: ask for less, or at another time."""


class TapJob:
    """A query as an asynchronous job, which no time limit of the web server cuts short.

    Parameters
    ----------
    url : str
        Of the TAP service.
    query : str
        In ADQL.
    max_rows : int
        An answer of so many rows is taken to be cut short.
    """

    def __init__(self, url, query, max_rows):
        self.url = url
        self.query = query
        self.max_rows = max_rows
        self._connection = _Connection(url)
        self._job = None

    def run(self):
        """Return the answer; called again after `Unreachable`, go on with the same job, else with a new one.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        TooLarge, TooSlow
            The answer is cut short; it was not there in time.
        RefusedRequest
            The service found fault with the query.
        BadAnswer, Unreachable
            The service answered something else, or could not be reached or is out of order.
        """
        try:
            with self._faults():
                if self._job is None:
                    self._create()
                self._wait()
                answer = self._fetch()
        except KeyboardInterrupt:
            if self._job is not None:
                self._abort()
            raise
        self._job = None
        return answer

    def _create(self):
        service = TapPlus(url=self.url, connhandler=self._connection)
        try:
            self._job = service.launch_job_async(self.query, maxrec=self.max_rows, background=True)
        except RefusedRequest as error:
            raise RefusedRequest(f"the query {self.query!r} was refused: {error}") from error
        self._deadline = time.monotonic() + LONGEST_JOB

    def _wait(self):
        """Return when the job is completed; raise an exception if it ends in another way."""
        pause = POLL_FIRST
        while (phase := self._phase()) in WAITING:
            if time.monotonic() > self._deadline:
                self._abort()
                if phase == "EXECUTING":
                    raise TooSlow
                raise Unreachable(f"{self.url} left a query waiting for {LONGEST_JOB:.0f} s; {REMEDY}")
            time.sleep(pause)
            pause = min(2 * pause, POLL_LONGEST)
        if phase == "ERROR":
            self._raise_error()
        if phase == "ABORTED":
            raise TooSlow
        if phase != "COMPLETED":
            raise BadAnswer(f"{self.url} told no phase of a job, but {phase[:80]!r}; {REMEDY}")

    def _phase(self):
        with self._job_is_there():
            return self._job.get_phase(update=True).strip().upper()

    def _raise_error(self):
        reason = "it gave no reason"
        with suppress(RefusedRequest):
            reason = self._job.get_error().removeprefix("Error 200:").strip()
        if re.search(r"time.?out|time limit", reason, re.IGNORECASE):
            raise TooSlow
        raise RefusedRequest(f"{self.url} failed the query {self.query!r}: {reason}")

    def _fetch(self):
        with self._job_is_there():
            response = self._connection.execute_tapget(f"async/{self._job.jobid}/results/result")
        answer = votable.parse(io.BytesIO(response.read()))
        table = answer.get_first_table().to_table(use_names_over_ids=True)
        infos = [info for resource in answer.resources for info in resource.infos]
        status = [info.value for info in infos if info.name == "QUERY_STATUS"]
        if "OVERFLOW" in status or len(table) >= self.max_rows:
            raise TooLarge
        return table.to_pandas()

    @contextmanager
    def _job_is_there(self):
        """Turn a refusal into `BadAnswer`: a job that was accepted and is not there is to be sent again."""
        try:
            yield
        except RefusedRequest as error:
            self._job = None
            raise BadAnswer(f"the service has lost a job: {error}") from error

    def _abort(self):
        """Spare the service the rest of the work, if it can be told so."""
        with suppress(ServiceError, OSError, http.client.HTTPException):
            self._connection.execute_tappost(f"async/{self._job.jobid}/phase", "PHASE=ABORT")
        self._job = None

    @contextmanager
    def _faults(self):
        """Turn the exceptions of astroquery and its HTTP client into ours."""
        try:
            yield
        except requests.exceptions.HTTPError as error:
            raise BadAnswer(
                f"{self.url} took the query {self.query!r} for something else: {error}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: {error!r}; {REMEDY}") from error
        except (ValueError, IndexError, AttributeError) as error:
            raise BadAnswer(f"{self.url} answered no VOTable ({error}); {REMEDY}") from error


class _Connection(TapConn):
    """astroquery's connection, with a time limit, and an exception for every answer that says no."""

    def __init__(self, url):
        self._url = url
        parts = urlsplit(url)
        super().__init__(parts.scheme == "https", parts.hostname, server_context=parts.path, connhandler=self)

    def get_connection(self, **_):
        """Open a connection, as `TapConn` wants its handler of connections to."""
        scheme, host, *_ = urlsplit(self._url)
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, timeout=TIMEOUT)

    def execute_tappost(self, *args, **options):
        return self._checked(super().execute_tappost(*args, **options))

    def execute_tapget(self, subcontext, **options):
        response = self._checked(super().execute_tapget(subcontext, **options))
        if response.status in (301, 302, 303, 307):
            return self._checked(super().execute_tapget(response.headers["Location"], **options))
        return response

    def _checked(self, response):
        told = f"{self._url} answered HTTP status {response.status} {response.reason}"
        check_in_order(response.status, response.headers, told)
        if response.status >= 400:
            raise RefusedRequest(f"{told}; {plain_text(response.read().decode(errors='replace'))}")
        return response
