"""The HTTP session of all services: time limits on everything, an exception with a remedy for every fault."""

import io
import re
import threading
import time

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader

from .errors import AuthenticationError, BadAnswer, NothingFound, RefusedRequest, Stopped, Unreachable

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0  # to connect, and between two parts of an answer [s]
SLOWEST = 10_000  # mean speed of an answer once it has taken longer than the read timeout [bytes/s]
PART = 2**16  # read at a time [bytes]
REMEDY = "try again later, or use the simulated sky (OFFLINE = True)"


class NotAllowed(AuthenticationError):
    """HTTP status 401 (log in first) or 403 (this account has no access), given by the attribute `status`."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


REFUSALS = (NotAllowed, NothingFound, RefusedRequest)  # what becomes of an HTTP status 4xx, except 429


class HttpSession(requests.Session):
    """A session for several threads at a time, whose requests raise the exceptions of `errors` alone.

    It can be handed to pyvo and astroquery. No message holds a URL, as URLs may hold secrets.

    Parameters
    ----------
    service : str
        Name of the service, for messages.
    connections : int
        Number of connections that are kept open.
    is_stopped : callable, optional
        Says, without arguments, whether to give up in the middle of an answer.
    read_timeout : float, optional
        Longest wait for the next part of an answer [s]; `READ_TIMEOUT` by default.

    Attributes
    ----------
    requests, received : int
        Number of requests sent and of bytes received so far.
    """

    def __init__(self, service, connections=4, is_stopped=None, read_timeout=None):
        super().__init__()
        self.service = service
        self.requests = 0
        self.received = 0
        self._is_stopped = is_stopped or (lambda: False)
        self._read_timeout = read_timeout or READ_TIMEOUT
        self._lock = threading.Lock()
        self.headers["Accept-Encoding"] = "identity"  # a compressed answer cut short may pass as whole
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def download(self, url, name, params=None):
        """Send a GET request and return its whole answer.

        Parameters
        ----------
        url : str
        name : str
            Name of what is asked for, for messages.
        params : dict, optional
            Further parameters of the URL.

        Returns
        -------
        bytes

        Raises
        ------
        Unreachable
            No connection, no answer in time, an answer that is too slow, or HTTP status 429 or 5xx.
        BadAnswer
            The answer is shorter than announced.
        Stopped
            `is_stopped` says so.
        NotAllowed, NothingFound, RefusedRequest
            HTTP status 401 or 403; 404 or 410; any other but 200.
        """
        return self.request("GET", url, name, params=params).content

    def request(self, method, url, name="the data", **options):
        """Send a request and return its whole answer, as `requests.Session.request` does.

        The `options` about streaming and time limits are replaced. `name` and errors are those of `download`.
        """

        def exchange():
            with self.open(method, url, name, **options) as answer:
                content = self._read(answer.raw, name)
            # what is read from it next, by `content` or by pyvo's parsers, was received and decoded already
            answer.raw = urllib3.HTTPResponse(io.BytesIO(content), preload_content=False)
            return answer

        return self.guard(name, exchange)

    def open(self, method, url, name, **options):
        """Send a request as `request` does, and return its answer with a body that is still to be read."""
        with self._lock:
            self.requests += 1
        send = super().request
        options |= {"stream": True, "timeout": (CONNECT_TIMEOUT, self._read_timeout)}
        answer = self.guard(name, lambda: send(method, url, **options))
        try:
            self.guard(name, lambda: self._check_status(answer, name))
        except Exception:
            answer.close()
            raise
        return answer

    def guard(self, name, action):
        """Return what the function `action` returns; its exceptions of requests and urllib3 become ours."""
        try:
            return action()
        except (requests.RequestException, HTTPError) as error:
            fault = _fault_of(error, f"{self.service} did not deliver {name}")
        # raised out here, so that it has no context: the text of the library's exception holds the URL
        raise fault

    def _read(self, stream, name):
        """Read an answer as its parts come, unless they come too slowly."""
        start, parts, length = time.monotonic(), [], 0
        while part := stream.read1(PART, decode_content=True):
            if self._is_stopped():
                raise Stopped(f"stopped in the middle of {name}")
            parts.append(part)
            length += len(part)
            with self._lock:
                self.received += len(part)
            seconds = time.monotonic() - start
            if seconds > self._read_timeout and length < seconds * SLOWEST:
                raise Unreachable(
                    f"{self.service} sent {length} bytes of {name} in {seconds:.0f} s; {REMEDY}"
                )
        return b"".join(parts)

    def _check_status(self, answer, name):
        status = answer.status_code
        if status == 200 or (status == 206 and "Range" in answer.request.headers):
            return
        message = f"{self.service} answered HTTP status {status} for {name}"
        if status == 429 or status >= 500:
            raise Unreachable(
                f"{message}: it is busy or out of order; {REMEDY}", _retry_after(answer.headers)
            )
        if answer.request.method == "POST":  # the page that refuses a GET may repeat its URL
            page = answer.raw.read1(PART, decode_content=True).decode(errors="replace")
            message = ": ".join(filter(None, [message, _plain_text(page)]))
        if 300 <= status < 400:
            raise BadAnswer(f"{message}: a redirection without an address")
        if status in (401, 403):
            raise NotAllowed(f"{message}: access is denied", status)
        if status in (404, 410):
            raise NothingFound(f"{message}: there is no such thing")
        raise RefusedRequest(f"{message}: the request is at fault; check its position, size or query")


def _retry_after(headers):
    """Return how long a service asks to be left alone [s]; 0 if it does not."""
    try:
        return float(urllib3.Retry().parse_retry_after(headers["Retry-After"].strip()))
    except (KeyError, ValueError, InvalidHeader):
        return 0.0


def _plain_text(page, length=300):
    """Return the beginning of the text of a web page or VOTable, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())[:length]


def _fault_of(error, message):
    """Return our exception for one of requests or urllib3."""
    causes = [part for part in error.args if isinstance(part, Exception)]
    kinds = [type(part).__name__ for part in (error, *causes)]
    if any("Incomplete" in kind or "Decode" in kind for kind in kinds):
        return BadAnswer(f"{message} whole: it was cut short ({', '.join(kinds)})")
    trouble = "timed out" if any("Timeout" in kind for kind in kinds) else "no connection, or a broken one"
    return Unreachable(f"{message}: {trouble} ({', '.join(kinds)}); {REMEDY}")
