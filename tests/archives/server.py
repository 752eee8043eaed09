"""The HTTP server of all archives, on loopback, with a log and with faults.

Each connection has its thread and stays open for further requests, as at the real archives. Answers are
written to the socket here, since faults concern the bytes on the line.
"""

import contextlib
import json
import socket
import socketserver
import struct
import threading
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus

from werkzeug import Request
from werkzeug.serving import WSGIRequestHandler, make_server

from .answers import Answer, html, text
from .brokers import Brokers
from .faults import CUT_SHORT, KINDS, PAGES, UNANSWERED, Faults, http_fault, spoil_file
from .ibe import COOKIE, Ibe
from .sky import Sky
from .tap import Tap
from .xmatch import XMatch

LOGIN, SEARCH = "/account/signon/login.do", "/ibe/search/ztf/products/sci"
PRODUCTS, TAP, XMATCH = "/ibe/data/ztf/products/sci/", "/tap/", "/xmatch/api/v1/sync"
FINK, SKYBOT = "/fink/api/v1/", "/skybot/conesearch"
OUTAGE = 0.2  # for which a fault "refused" closes the port [s]
DRIP, DRIP_PAUSE = 10, 0.05  # [bytes], [s]


@dataclass
class Record:
    """One request and what became of it; `status` is None without an answer."""

    time: float
    method: str
    path: str
    args: dict
    status: int | None
    fault: str | None
    sent: int
    signed_on: bool


class ArchiveServer:
    """A context manager that serves the archives.

    Parameters
    ----------
    seed, n_images, seeing
        Of the mock sky; `n_images` images at most, with the seeing of these [arcsec].
    accounts : dict
        User to (password, whether it has rights to proprietary images).
    proprietary : float or function
        Share of images, or a function of a row of metadata.
    fault_rate, kinds, fault_seed, where
        How often a request meets a fault, of which kinds, by which chance, and for which requests.
    stall : float
        How long the fault "timeout" is silent [s]; "slow_drip" takes four times as long.
    tap_row_limit, tap_area_limit [deg2], tap_polls
        Limits of the TAP service, and how often a job must be asked for before it ends.
    port : int
        0 is any free one.
    sky : Sky, optional
        What is served instead of the mock sky, such as `ImageParts`.
    """

    def __init__(
        self,
        seed=1,
        n_images=None,
        seeing=None,
        accounts=None,
        proprietary=0.0,
        fault_rate=0.0,
        kinds=tuple(KINDS),
        fault_seed=0,
        where=None,
        stall=5.0,
        tap_row_limit=None,
        tap_area_limit=None,
        tap_polls=1,
        port=0,
        sky=None,
    ):
        self.faults = Faults(fault_rate, kinds, fault_seed, where)
        self.inject, self.fault_counts = self.faults.inject, self.faults.counts
        self.sky = sky or Sky(seed, n_images, seeing)
        self.ibe = Ibe(self.sky, accounts, proprietary)
        self.expire_sessions = self.ibe.expire_sessions
        self.tap = Tap(self.sky, tap_row_limit, tap_area_limit, tap_polls)
        self.xmatch = XMatch(self.sky)
        self.brokers = Brokers(seed)
        self.stall, self.log = stall, []
        self._lock, self._outage_lock = threading.Lock(), threading.Lock()
        self._closing, self._port_closed = threading.Event(), threading.Event()
        self._connections = set()
        self._server = make_server("127.0.0.1", port, self, threaded=True, request_handler=_Handler)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.sky.close()

    def _serve(self):
        """Serve until closed; whenever `outage` ends the serving, begin again at the same port."""
        while True:
            self._server.serve_forever(poll_interval=0.02)  # closes the listening socket at its end
            self._port_closed.set()
            if self._closing.wait(OUTAGE):
                return
            self._reopen()

    def _reopen(self):
        while not self._closing.is_set():
            self._server.socket = socket.socket(self._server.address_family, socket.SOCK_STREAM)
            try:
                socketserver.TCPServer.server_bind(self._server)
                return self._server.server_activate()
            except OSError:  # somebody's outgoing connection has got the port for a while
                self._server.socket.close()
                time.sleep(0.05)

    def outage(self):
        """Refuse all connections for a while."""
        if self._outage_lock.acquire(blocking=False):
            try:
                self._port_closed.clear()
                self._server.shutdown()
                self._port_closed.wait()  # the socket closes a moment after the serving has ended
            finally:
                self._outage_lock.release()

    def respond(self, handler):
        """Answer one request on the connection of a handler."""
        arrived = time.time()
        request = Request(handler.make_environ())
        request.get_data(parse_form_data=True)  # what is left unread would pass for the next request
        if request.path.startswith("/_"):
            handler.send(self._control(request))
            return
        signed_on = self.ibe.user(request) is not None
        category = _category(request)
        kind = self.faults.pick(request, category)
        answer = self._answer(request, category, kind)
        self._record(arrived, request, answer, signed_on, _sent(answer))
        handler.send(answer)

    def _answer(self, request, category, kind):
        if kind in UNANSWERED:
            return Answer(None, b"", fault=kind)
        if kind in PAGES:
            answer = http_fault(kind, self.faults.coin)
        elif kind == "expired_session":
            self.expire_sessions()
            signed_on = COOKIE in request.cookies
            answer = html(401, "Login required") if signed_on else self._route(request, category)
        else:
            answer = self._route(request, category, kind)
            if kind in ("nan_pixels", "corrupt_fits") and answer.header_size:
                answer.body = spoil_file(answer.body, answer.header_size, kind, self.faults.coin)
            elif kind not in CUT_SHORT:
                return answer  # which tells itself whether a cutout's fault was possible
        answer.fault = kind
        return answer

    def _route(self, request, category, kind=None):
        if category == "login":
            return self.ibe.login(request)
        if category == "search":
            return self.ibe.search(request)
        if category in ("image", "cutout"):
            return self.ibe.product(request, request.path.removeprefix(PRODUCTS), kind)
        if category == "tap":
            return self.tap(request, request.path.removeprefix(TAP))
        if category == "xmatch":
            tables = request.path.endswith("/tables")
            return self.xmatch.tables(request) if tables else self.xmatch.match(request)
        if category == "fink":
            return self.brokers.fink(request, request.path.removeprefix(FINK))
        if category == "skybot":
            return self.brokers.skybot(request)
        return html(404, "Not Found")

    def _record(self, arrived, request, answer, signed_on, sent):
        args = {k: "***" if k == "josso_password" else v for k, v in request.args.items()}
        record = Record(
            arrived, request.method, request.path, args, answer.status, answer.fault, sent, signed_on
        )
        with self._lock:
            self.log.append(record)
            if answer.fault:
                self.fault_counts[answer.fault] += 1

    def _control(self, request):
        """Answer what a test in another process asks: log, counts, true cutouts; and take its orders."""
        _, name, *rest = request.path.split("/", 2)
        with self._lock:
            if name == "_log":
                return text(json.dumps([asdict(record) for record in self.log]), "application/json")
            if name == "_fault_counts":
                return text(json.dumps(self.fault_counts), "application/json")
        if name == "_inject":
            self.inject(request.args["kind"].split(","), int(request.args.get("times", 1)))
            return text("ok")
        if name == "_expire_sessions":
            self.expire_sessions()
            return text("ok")
        if name == "_truth" and "center" in request.args:
            quadrant = self.sky.quadrant(rest[0])
            centre = (float(v) for v in request.args["center"].split(","))
            body = quadrant.cutout_bytes(quadrant.trimmed_range(*centre, 20, 20))
            return Answer(200, body, "application/fits")
        return html(404, "Not Found")


def _sent(answer):
    """Return how many bytes of the body a client is sent, at most."""
    halved = answer.fault in ("truncated", "reset_midway")
    return len(answer.body) // 2 if halved else len(answer.body)


def _category(request):
    if request.path == LOGIN:
        return "login"
    if request.path == SEARCH:
        return "search"
    if request.path.startswith(PRODUCTS):
        return "cutout" if "center" in request.args else "image"
    if request.path.startswith(TAP):
        return "tap"
    if request.path.startswith(XMATCH):
        return "xmatch"
    if request.path.startswith(FINK):
        return "fink"
    if request.path == SKYBOT:
        return "skybot"
    return "other"


class _Handler(WSGIRequestHandler):
    """One connection; in place of a WSGI application it has the archive server."""

    disable_nagle_algorithm = True
    timeout = 60

    def setup(self):
        super().setup()
        self.archive = self.server.app
        self.archive._connections.add(self.connection)

    def finish(self):
        self.archive._connections.discard(self.connection)
        super().finish()

    def log(self, *args):
        pass

    def run_wsgi(self):
        try:
            self.archive.respond(self)
        except ConnectionError:
            self.close_connection = True

    def send(self, answer):
        """Write an answer to the line, or what its fault leaves of it."""
        fault = answer.fault
        if fault == "timeout":
            self.archive._closing.wait(self.archive.stall)
            self.close_connection = True
            return
        if fault in ("refused", "reset"):
            if fault == "refused":
                self.archive.outage()
            self._reset()
            return
        self.wfile.write(_head(answer))
        body = b"" if self.command == "HEAD" else memoryview(answer.body)
        if fault in ("truncated", "reset_midway"):
            self.close_connection = True
            self.wfile.write(body[: len(body) // 2])
            if fault == "reset_midway":
                time.sleep(0.05)  # a reset overtakes what the client has not read
                self._reset()
        elif fault == "slow_drip":
            self._drip(body)
        else:
            self.wfile.write(body)

    def _drip(self, body):
        self.close_connection = True
        end = time.monotonic() + 4 * self.archive.stall
        for start in range(0, len(body), DRIP):
            if time.monotonic() > end or self.archive._closing.wait(DRIP_PAUSE):
                return
            self.wfile.write(body[start : start + DRIP])

    def _reset(self):
        """Close the connection with RST; through the bare descriptor, as `close` waits for open files."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.archive._connections.discard(self.connection)
        socket.close(self.connection.detach())


def _head(answer):
    headers = {"Content-Type": answer.content_type, "Content-Length": len(answer.body)} | answer.headers
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
