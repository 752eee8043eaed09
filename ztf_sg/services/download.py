"""HTTP as a bad line needs it: a time limit on everything, and every fault an exception with a remedy."""

import re
import threading
import time
from datetime import UTC
from email.utils import parsedate_to_datetime

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .errors import AuthenticationError, BadAnswer, NothingFound, RefusedRequest, Stopped, Unreachable

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0  # to connect, and between two parts of an answer [s]
GRACE, SLOWEST = 30.0, 10_000  # after so long [s] an answer must have come at so many bytes a second
PART = 2**16  # bytes
REMEDY = "try again later, or use the simulated sky (OFFLINE = True)"


class NotAllowed(AuthenticationError):
    """HTTP status 401 or 403: the request needs an account, or another one.

    Parameters
    ----------
    message : str
    status : int
        401: sign on first; 403: this account will not do.
    """

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


class Downloader:
    """One HTTP session, for several threads at a time, that keeps its cookies.

    Parameters
    ----------
    service : str
        Who is asked, for messages.
    connections : int
        How many connections are kept open.
    is_stopped : callable, optional
        Tells, without arguments, whether to leave off in the middle of an answer.

    Attributes
    ----------
    cookies : requests.cookies.RequestsCookieJar
    requests, received : int
        Requests sent and bytes received so far.
    """

    def __init__(self, service, connections=4, is_stopped=None):
        self.service = service
        self._is_stopped = is_stopped or (lambda: False)
        self.requests = 0
        self.received = 0
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.headers["Accept-Encoding"] = "identity"  # a packed answer cut short may pass as whole
        self.cookies = self._session.cookies
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def get(self, url, name, params=None):
        """Send one request and return its whole answer.

        Parameters
        ----------
        url : str
        name : str
            What is asked, for messages; a URL may hold secrets and appears in none.
        params : dict, optional
            Further parameters of the URL.

        Returns
        -------
        bytes

        Raises
        ------
        Unreachable
            No connection, no answer in time, an answer too slow, or HTTP status 429 or 5xx.
        BadAnswer
            The answer is shorter than announced.
        Stopped
            The user had enough.
        NotAllowed, NothingFound, RefusedRequest
            HTTP status 401 or 403; 404 or 410; any other but 200.
        """
        try:
            return self._get(url, name, params)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            fault = _fault_of(error, f"{self.service} did not deliver {name}")
        # raised out here, so that it has no context: the text of the library's error holds the URL
        raise fault

    def _get(self, url, name, params):
        with self._lock:
            self.requests += 1
        limits = (CONNECT_TIMEOUT, READ_TIMEOUT)
        with self._session.get(url, params=params, stream=True, timeout=limits) as answer:
            self._check_status(answer, name)
            return self._read(answer.raw, name)

    def _read(self, stream, name):
        """Read an answer part by part, as the parts come, unless they come too slowly."""
        start, parts, length = time.monotonic(), [], 0
        while part := stream.read1(PART, decode_content=True):
            if self._is_stopped():
                raise Stopped(f"stopped in the middle of {name}")
            parts.append(part)
            length += len(part)
            with self._lock:
                self.received += len(part)
            seconds = time.monotonic() - start
            if seconds > GRACE and length < seconds * SLOWEST:
                raise Unreachable(
                    f"{self.service} sent {length} bytes of {name} in {seconds:.0f} s; {REMEDY}"
                )
        return b"".join(parts)

    def _check_status(self, answer, name):
        status = answer.status_code
        told = f"{self.service} answered HTTP status {status} for {name}"
        if status in (401, 403):
            raise NotAllowed(f"{told}: it needs an account with access", status)
        if status in (404, 410):
            raise NothingFound(f"{told}: there is no such thing")
        check_in_order(status, answer.headers, f"{told}: it is busy or out of order")
        if status != 200:
            raise RefusedRequest(f"{told}; check position and size")


def check_in_order(status, headers, told):
    """Raise `Unreachable` if a service is busy or out of order, which is HTTP status 429 or 5xx.

    Parameters
    ----------
    status : int
        HTTP status.
    headers : mapping
        Of the answer; they may tell when to come back.
    told : str
        What happened, for the message.
    """
    if status == 429 or status >= 500:
        raise Unreachable(f"{told}; {REMEDY}", retry_after(headers))


def retry_after(headers):
    """Return how long a service asks not to be bothered [s]; 0 if it does not.

    Parameters
    ----------
    headers : mapping
        Of an HTTP answer; Retry-After is a number of seconds or a date.

    Returns
    -------
    float
    """
    value = (headers.get("Retry-After") or "").strip()
    try:
        seconds = float(value) if value.isdigit() else _seconds_until(parsedate_to_datetime(value))
    except ValueError:
        seconds = 0.0
    return max(seconds, 0.0)


def plain_text(page, length=300):
    """Return the beginning of the text of a web page or VOTable, without its tags.

    Parameters
    ----------
    page : str
    length : int
        Characters.

    Returns
    -------
    str
    """
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())[:length]


def _seconds_until(date):
    # a date without time zone is in UTC: RFC 9110, section 5.6.7
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()


def _fault_of(error, message):
    causes = [part for part in error.args if isinstance(part, Exception)]
    kinds = [type(part).__name__ for part in (error, *causes)]
    if any("Incomplete" in kind or "Decode" in kind for kind in kinds):
        return BadAnswer(f"{message} whole: it was cut short ({', '.join(kinds)})")
    trouble = "timed out" if any("Timeout" in kind for kind in kinds) else "no connection, or a broken one"
    return Unreachable(f"{message}: {trouble} ({', '.join(kinds)}); {REMEDY}")
