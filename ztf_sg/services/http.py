"""The HTTP session of all services: time limits on everything, an exception with a remedy for every fault."""

import io
import re
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
    """Sends the requests of every live service, of pyvo and astroquery too, from several threads if need be.

    It is there so that no request hangs, and that each fault is an exception of `errors`, whose message says
    what to do and holds no URL, as URLs may hold secrets.

    `service` is the name in messages; `connections` are kept open; `is_stopped()` says whether to give up in
    the middle of an answer; `read_timeout` [s] limits the wait for each part of one.
    """

    def __init__(self, service, connections=4, is_stopped=None, read_timeout=None):
        super().__init__()
        self.service = service
        self._is_stopped = is_stopped or (lambda: False)
        self._read_timeout = read_timeout or READ_TIMEOUT
        self.headers["Accept-Encoding"] = "identity"  # a compressed answer cut short may pass as whole
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def download(self, url, name, params=None):
        """Return the whole answer (bytes) to a GET request; `name` is what messages call it.

        It raises Unreachable for no connection, an answer that is slow or never comes, and HTTP status 429 or
        5xx; BadAnswer if the answer is cut short; NotAllowed for status 401 or 403; NothingFound for 404 or
        410; RefusedRequest for any other but 200; Stopped if `is_stopped` says so.
        """
        return self.request("GET", url, name, params=params).content

    def request(self, method, url, name="the data", **options):
        """Return the whole answer to a request; `options` are those of requests, but time limits are ours."""

        def exchange():
            with self.open(method, url, name, **options) as answer:
                body = self._read(answer.raw, name)
            # what is read from it next, by `content` or by pyvo's parsers, was received and decoded already
            answer.raw = urllib3.HTTPResponse(body, preload_content=False)
            return answer

        return self.guard(name, exchange)

    def open(self, method, url, name, **options):
        """Return the answer to a request, as `request` does, with a body that is still to be read."""
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
        """Return the body of an answer as a file in memory, unless its parts come too slowly."""
        start, body = time.monotonic(), io.BytesIO()
        while part := stream.read1(PART, decode_content=True):
            if self._is_stopped():
                raise Stopped(f"stopped in the middle of {name}")
            body.write(part)
            seconds = time.monotonic() - start
            if seconds > self._read_timeout and body.tell() < seconds * SLOWEST:
                raise Unreachable(
                    f"{self.service} sent {body.tell()} bytes of {name} in {seconds:.0f} s; {REMEDY}"
                )
        body.seek(0)
        return body

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
            text = " ".join(re.sub(r"<[^>]*>", " ", page).split())[:300]
            message = f"{message}: {text}" if text else message
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


def _fault_of(error, message):
    """Return our exception for one of requests or urllib3."""
    causes = [part for part in error.args if isinstance(part, Exception)]
    kinds = [type(part).__name__ for part in (error, *causes)]
    if any("Incomplete" in kind or "Decode" in kind for kind in kinds):
        return BadAnswer(f"{message} whole: it was cut short ({', '.join(kinds)})")
    trouble = "timed out" if any("Timeout" in kind for kind in kinds) else "no connection, or a broken one"
    return Unreachable(f"{message}: {trouble} ({', '.join(kinds)}); {REMEDY}")
