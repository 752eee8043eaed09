import gzip
import re
import socket
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from werkzeug import Response

from ztf_sg.services import http
from ztf_sg.services.errors import BadAnswer, NothingFound, RefusedRequest, ServiceError, Unreachable
from ztf_sg.services.http import HttpSession, NotAllowed

SECRET = "secret42"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.2)


@pytest.fixture
def speak():
    """Return a function that has a server send pieces of bytes, with pauses, and returns its URL."""
    sockets = []

    def speak(pieces, pause=0.0):
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def serve():
            try:
                connection, _ = listening.accept()
                sockets.append(connection)
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
                connection.close()
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/?password={SECRET}"

    yield speak
    for each in sockets:
        each.close()


def get(url, service="IRSA"):
    """Return what is downloaded; make sure that no error tells its URL."""
    try:
        return HttpSession(service).download(url, "the thing")
    except ServiceError as error:
        said = "".join(traceback.format_exception(error))
        assert SECRET not in said
        assert "the thing" in str(error)
        assert service in str(error)
        raise


def head(length, *lines):
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {length}", *lines, "", ""]).encode()


class TestAnswers:
    def test_is_returned_whole(self, httpserver):
        content = bytes(range(256)) * 5000
        httpserver.expect_request("/thing", query_string="a=1&b=x%26y").respond_with_data(content)
        url, parameters = httpserver.url_for("/thing"), {"a": "1", "b": "x&y"}
        assert HttpSession("IRSA").download(url, "it", parameters) == content

    @pytest.mark.parametrize("content", [b"", b"a", b"much" * 100_000])
    def test_compressed_on_the_line(self, httpserver, content):
        packed = gzip.compress(content)
        httpserver.expect_request("/").respond_with_data(packed, headers={"Content-Encoding": "gzip"})
        assert get(httpserver.url_for("/")) == content

    def test_in_chunks(self, httpserver):
        httpserver.expect_request("/").respond_with_handler(lambda _: Response(iter([b"one ", b"two"])))
        assert get(httpserver.url_for("/")) == b"one two"

    def test_empty(self, httpserver):
        httpserver.expect_request("/").respond_with_data(b"")
        assert get(httpserver.url_for("/")) == b""

    def test_elsewhere(self, httpserver):
        httpserver.expect_request("/").respond_with_data(status=302, headers={"Location": "/there"})
        httpserver.expect_request("/there").respond_with_data("found")
        assert get(httpserver.url_for("/")) == b"found"

    def test_cookies_are_kept(self, httpserver):
        httpserver.expect_request("/").respond_with_data(headers={"Set-Cookie": "crumbs=1; Path=/"})
        session = HttpSession("IRSA")
        session.download(httpserver.url_for("/"), "it")
        session.download(httpserver.url_for("/"), "it")
        assert httpserver.log[-1][0].cookies["crumbs"] == "1"


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "exception"),
        [
            (401, NotAllowed),
            (403, NotAllowed),
            (404, NothingFound),
            (410, NothingFound),
            (429, Unreachable),
            (500, Unreachable),
            (502, Unreachable),
            (503, Unreachable),
            (504, Unreachable),
            (400, RefusedRequest),
            (414, RefusedRequest),
            (206, RefusedRequest),
            (204, RefusedRequest),
        ],
    )
    def test_tells_the_exception(self, httpserver, status, exception):
        httpserver.expect_request("/").respond_with_data("no", status=status)
        with pytest.raises(exception, match=f"HTTP status {status}") as caught:
            get(httpserver.url_for(f"/?p={SECRET}"))
        assert caught.type is exception

    def test_page_of_a_refusal_is_quoted_unless_it_may_repeat_the_url(self, httpserver):
        httpserver.expect_request("/").respond_with_data(f"<p>no {SECRET}</p>", status=400)
        with pytest.raises(RefusedRequest):
            get(httpserver.url_for(f"/?p={SECRET}"))
        with pytest.raises(RefusedRequest, match=f"HTTP status 400 for the data: no {SECRET}"):
            HttpSession("TAP").post(httpserver.url_for("/"), data={"QUERY": "SELECT 1"})

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("7", 7),
            ("0", 0),
            (" 12 ", 12),
            ("", 0),
            ("-3", 0),
            ("1.5", 0),
            ("soon", 0),
            ("²", 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
            ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
            ("Wed, 21 Oct 2015 07:28:00", 0),
            ("Wed, 21 Oct 0000 07:28:00 GMT", 0),
        ],
    )
    def test_retry_after(self, value, expected):
        assert http._retry_after({"Retry-After": value}) == expected

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_a_date(self, httpserver, status):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
        httpserver.expect_request("/").respond_with_data("no", status=status, headers={"Retry-After": date})
        with pytest.raises(Unreachable) as caught:
            get(httpserver.url_for("/"))
        assert 0 < caught.value.retry_after <= 40


@pytest.mark.usefixtures("impatient")
class TestSlowness:
    def test_silence(self, speak):
        start = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            get(speak([b""], pause=60))
        assert time.monotonic() - start < 30

    def test_time_limits_of_libraries_do_not_replace_ours(self, speak):
        with pytest.raises(Unreachable, match="timed out"):
            HttpSession("TAP").get(speak([b""], pause=60), stream=True, timeout=600)

    def test_silence_midway(self, speak):
        with pytest.raises(Unreachable, match="timed out"):
            get(speak([head(100) + b"x", b"y"], pause=60))

    def test_slow_drip(self, speak):
        start = time.monotonic()
        with pytest.raises(Unreachable, match=r"sent \d+ bytes of the thing in \d+ s"):
            get(speak([head(10_000)] + [b"x"] * 3000, pause=0.02))
        assert time.monotonic() - start < 30

    def test_messages_tell_what_to_do(self, speak):
        with pytest.raises(Unreachable, match=re.escape("OFFLINE = True")):
            get(speak([b""], pause=60))


class TestFaults:
    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(Unreachable, match="no connection"):
            get(f"http://127.0.0.1:{port}/?password={SECRET}")

    def test_no_such_host(self):
        with pytest.raises(Unreachable, match="no connection"):
            get(f"http://no-such-host.invalid/?password={SECRET}")

    @pytest.mark.parametrize("length", [0, 1, 500, 999])
    def test_shorter_than_announced(self, speak, length):
        with pytest.raises(BadAnswer, match="cut short"):
            get(speak([head(1000) + b"x" * length]))

    def test_chunks_cut_short(self, speak):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        with pytest.raises(BadAnswer, match="cut short"):
            get(speak([head + b"5\r\nhello\r\n"]))

    def test_garbage_for_gzip(self, speak):
        with pytest.raises(BadAnswer):
            get(speak([head(14, "Content-Encoding: gzip") + b"no gzip at all"]))

    def test_compressed_answers_are_not_asked_for(self, httpserver):
        httpserver.expect_request("/").respond_with_data("plain")
        assert get(httpserver.url_for("/")) == b"plain"
        assert httpserver.log[0][0].headers["Accept-Encoding"] == "identity"

    @pytest.mark.parametrize("answer", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 999999 OK\r\n\r\n"])
    def test_no_http(self, speak, answer):
        with pytest.raises((Unreachable, BadAnswer)):
            get(speak([answer]))

    def test_redirects_without_end(self, httpserver):
        loop = httpserver.url_for(f"/?password={SECRET}")
        httpserver.expect_request("/").respond_with_data(status=302, headers={"Location": loop})
        with pytest.raises(Unreachable):
            get(loop)

    @pytest.mark.parametrize("target", ["http://", "ftp://x/y", "http://[", "http://a b/"])
    def test_redirect_to_nonsense(self, httpserver, target):
        location = f"{target}?{SECRET}"
        httpserver.expect_request("/").respond_with_data(status=302, headers={"Location": location})
        with pytest.raises(ServiceError):
            get(httpserver.url_for("/"))
