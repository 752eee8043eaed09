"""Asking a service again after a fault, with back-off, a circuit breaker, and a way to stop.

For example ``retries_of(service).call(service.search_images, ra, dec, size)``.
"""

import logging
import threading
import time
from collections import Counter

import tenacity

from .errors import (
    AuthenticationError,
    BadAnswer,
    NothingFound,
    RefusedRequest,
    ServiceDown,
    Stopped,
    Unreachable,
    UnusableAnswer,
)

logger = logging.getLogger(__name__)

BREAKER_FAULTS = 8  # faults in a row after which everyone waits
SAME_ANSWERS = 3  # after so many equal answers that are of no use, there is no better one
TRIES_ONE_BY_ONE = 20  # of a service asked one request at a time, no burden: let its patience end first
LONG_WAIT = 10.0  # a wait that users are warned of [s]


def retries_of(service):
    """Return the `retries` of a service; one that has none, such as a simulated one, gets a single try."""
    return getattr(service, "retries", None) or Retries(tries=1, first_wait=0.0, longest_wait=0.0)


class Retries:
    """How often and how patiently a service is asked again; shared by all threads that ask it.

    A request is repeated after :class:`~ztf_sg.services.errors.Unreachable` and
    :class:`~ztf_sg.services.errors.BadAnswer`, and after nothing else. Faults of different requests in a row
    mean that the service is in trouble: then all requests pause, and in the end stop. Long waits are logged
    as warnings, which a notebook shows.

    Parameters
    ----------
    tries : int
        Attempts for one request.
    first_wait, longest_wait : float
        The wait before the second attempt, doubled for each further one, and its limit [s]; a random time of
        up to `first_wait` is added, so that requests that failed together do not come back together.
    patience : float
        How long every answer may be a fault before the service is left alone [s].

    Attributes
    ----------
    faults : collections.Counter
        Faults so far, by the name of their exception.
    """

    def __init__(self, tries=6, first_wait=1.0, longest_wait=60.0, patience=900.0):
        self.tries = tries
        self.first_wait = first_wait
        self.longest_wait = longest_wait
        self.patience = patience
        self.faults = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sleep = self._stop.wait
        self._faults_in_a_row = 0
        self._failing_since = None
        self._pause_until = 0.0
        self._warned_until = 0.0

    def __reduce__(self):
        """Let copies, and other processes, begin anew."""
        return type(self), (self.tries, self.first_wait, self.longest_wait, self.patience)

    def call(self, attempt, *args, **kwargs):
        """Return what the function `attempt` returns, called with these arguments until it succeeds.

        It sends one request, and may check the answer. An answer of no use, an
        :class:`~ztf_sg.services.errors.UnusableAnswer`, is no sign of trouble; the third that is the same is
        final.

        Raises
        ------
        ServiceDown
            Nobody has had an answer for longer than `patience`.
        Stopped
            :meth:`stop` was called, from another thread.
        Exception
            What the last attempt raised.
        """
        useless = Counter()

        def is_settled(state):
            error = state.outcome.exception()
            useless[str(error)] += isinstance(error, UnusableAnswer)
            return max(useless.values()) >= SAME_ANSWERS

        wait = tenacity.wait_exponential(self.first_wait, self.longest_wait)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.tries) | is_settled,
            retry=tenacity.retry_if_exception_type((Unreachable, BadAnswer)),
            wait=wait + tenacity.wait_random(0, self.first_wait),
            sleep=self._sleep,
            before_sleep=self._warn_of_wait,
            reraise=True,
        )
        return retrying(self._attempt, attempt, *args, **kwargs)

    def stop(self):
        """End all waits, and let every further attempt raise `Stopped`; may be called from any thread."""
        self._stop.set()

    @property
    def stopped(self):
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def start(self):
        """Allow requests again, with fresh patience."""
        self._stop.clear()
        self._note_success()

    def _attempt(self, attempt, *args, **kwargs):
        # others may prolong the pause while it lasts
        while (left := self._pause_until - time.monotonic()) > 0 and not self._stop.is_set():
            self._sleep(left)
        if self._stop.is_set():
            raise Stopped("stopped before the answer came; run it again to go on")
        try:
            answer = attempt(*args, **kwargs)
        except (Unreachable, BadAnswer) as error:
            self._note_fault(error)
            raise
        except (NothingFound, AuthenticationError, RefusedRequest):  # a no is an answer, too
            self._note_success()
            raise
        self._note_success()
        return answer

    def _warn_of_wait(self, state):
        """Log why and how long a request waits, if it is long; once for all requests that wait."""
        now = time.monotonic()
        wait = max(state.upcoming_sleep, self._pause_until - now)
        with self._lock:
            if wait < LONG_WAIT or now < self._warned_until or self._stop.is_set():
                return
            self._warned_until = now + wait
        logger.warning("%s; trying again in %.0f s", _without_remedy(state.outcome.exception()), wait)

    def _note_success(self):
        with self._lock:
            self._faults_in_a_row, self._failing_since = 0, None

    def _note_fault(self, error):
        """Count a fault; pause everyone or give up, if the service asks for it or is in trouble."""
        logger.info("%s: %s", type(error).__name__, error)
        now = time.monotonic()
        with self._lock:
            self.faults[type(error).__name__] += 1
            if isinstance(error, UnusableAnswer):
                self._faults_in_a_row, self._failing_since = 0, None
                return
            self._faults_in_a_row += 1
            self._failing_since = self._failing_since or now
            failing_for = now - self._failing_since
            pause = getattr(error, "retry_after", 0.0)
            given_up = pause > self.patience
            if self._faults_in_a_row >= BREAKER_FAULTS:
                pause = max(pause, self.longest_wait)
                given_up = failing_for + pause > self.patience
            if not given_up:
                self._pause_until = max(self._pause_until, now + pause)
                return
        trouble = f"no answer for {failing_for:.0f} s"
        if failing_for < pause:
            trouble = f"the service wants to be left alone for {pause:.0f} s"
        message = f"{trouble}; the last fault: {_without_remedy(error)}; try again in some hours"
        raise ServiceDown(message) from error


def _without_remedy(error):
    """Return the message of an error up to the remedies, which follow a semicolon."""
    return str(error).split("; ")[0]
