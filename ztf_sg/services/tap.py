"""Queries at a TAP service (https://www.ivoa.net/documents/TAP/), as asynchronous jobs of pyvo.

Of pyvo, only the waiting is replaced: `AsyncTAPJob.wait` does not limit the time of a job as a whole, takes a
pending job for a failed one, and lets the pauses grow to two minutes.
"""

import re
import time
import warnings
from contextlib import contextmanager, suppress

from pyvo.dal import AsyncTAPJob, DALAccessError, DALQueryError

from .errors import BadAnswer, RefusedRequest, ServiceError, Unreachable
from .http import REFUSALS, REMEDY, HttpSession

LONGEST_JOB = 1800.0  # from the beginning of a job to its end, queue included [s]
POLL_FIRST, POLL_LONGEST = 0.25, 10.0  # the wait between two looks at a job doubles from one to the other [s]
TIMEOUT = 120.0  # between two parts of an answer [s]; a job that takes longer is polled
WAITING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")


class TooLarge(Exception):
    """The service cut the answer short: ask for less."""


class TooSlow(Exception):
    """The service did not finish the answer in time: ask for less, or at another time."""


class TapJob:
    """A query in ADQL as an asynchronous job, which no time limit of the web server cuts short.

    An answer of `max_rows` is taken to be cut short.
    """

    def __init__(self, url, query, max_rows):
        self.url = url
        self.query = query
        self.max_rows = max_rows
        self._session = HttpSession(url, read_timeout=TIMEOUT)
        self._job = None

    def run(self):
        """Return the answer, a DataFrame; TooLarge and TooSlow say that there is none.

        Called again after a fault, go on with the same job if the service still has it. An interrupt (Ctrl-C)
        aborts the job.
        """
        try:
            if self._job is None:
                self._create()
            self._wait()
            answer = self._fetch()
        except KeyboardInterrupt:
            self._abort()
            raise
        self._job = None
        return answer

    def _create(self):
        """Create a job, which is pending: it costs the service nothing if its answer does not arrive here."""
        with self._faults("job"):
            job = AsyncTAPJob.create(self.url, self.query, maxrec=self.max_rows, session=self._session)
        if not job.job_id:
            raise BadAnswer(f"{self.url} took the query {self.query!r} for something else; {REMEDY}")
        self._job = job
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
            raise BadAnswer(f"{self.url} gave no phase of a job, but {phase!r}; {REMEDY}")

    def _phase(self):
        """Return the phase of the job; start it if it is pending."""
        with self._faults("job"):
            phase = self._job.phase
            return self._job.run().phase if phase == "PENDING" else phase

    def _raise_error(self):
        try:
            self._job.raise_if_error()
        except DALQueryError as error:
            reason = error.reason.removeprefix("Query Error: ")
            if re.search(r"time.?out|time limit", reason, re.IGNORECASE):
                raise TooSlow from error
            raise RefusedRequest(f"{self.url} failed the query {self.query!r}: {reason}") from error

    def _fetch(self):
        with self._faults("VOTable"):
            answer = self._job.fetch_result()
            table = answer.to_table().to_pandas()
        if answer.status[0] == "OVERFLOW" or len(table) >= self.max_rows:
            raise TooLarge
        return table

    def _abort(self):
        """Spare the service the rest of the work, if there is any and it can be reached."""
        if self._job is not None:
            with suppress(ServiceError, DALAccessError):
                self._job.abort()
            self._job = None

    @contextmanager
    def _faults(self, expected):
        """Turn the exceptions of pyvo into ours, and silence its warnings."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (DALAccessError, ValueError, IndexError, AttributeError) as error:
            raise BadAnswer(f"{self.url} answered no {expected} ({error}); {REMEDY}") from error
        except REFUSALS as error:
            if self._job is None:
                raise RefusedRequest(f"the query {self.query!r} was refused: {error}") from error
            self._job = None  # accepted and lost: it is sent again
            raise BadAnswer(f"the service has lost a job: {error}") from error
