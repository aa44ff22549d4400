"""The proxy itself: it changes nothing where no fault is planted, and each fault does what it says."""

import contextlib
import http.client
import http.server
import socket
import threading

import pytest

from proxy import Proxy

BODY = bytes(range(256)) * 4


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers GET with BODY, PUT with what it got; counts."""

    protocol_version = "HTTP/1.1"
    got = []

    def do_GET(self):
        self.say(BODY)

    def do_HEAD(self):
        self.say(BODY, False)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), body))
        self.say(body)

    def say(self, body, send=True):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Wed, 01 Apr 2026 10:00:00 GMT")
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def proxy():
    Echo.got.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with Proxy("http://127.0.0.1:%d" % server.server_port) as p:
        yield p
    server.shutdown()
    server.server_close()


def ask(proxy, method="GET", path="/a", body=None, connection=None, **headers):
    c = connection or http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        c.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()
    finally:
        if connection is None:
            c.close()


def test_passes_all_through_and_keeps_the_connection(proxy):
    c = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    assert ask(proxy, connection=c)[2] == BODY
    sock = c.sock
    assert ask(proxy, "HEAD", connection=c)[::2] == (200, b"")
    assert ask(proxy, "PUT", "/b?x=%2B", BODY, c, x_amz_meta="1 2")[2] == BODY
    assert c.sock is sock
    c.close()
    path, headers, body = Echo.got[0]
    assert (path, headers["x-amz-meta"], body) == ("/b?x=%2B", "1 2", BODY)
    assert [s.status for s in proxy.requests()] == [200, 200, 200]


def test_only_the_nth_and_so_many_times(proxy):
    proxy.fault(method="GET", path="/a$", nth=2, times=2, status=503, code="SlowDown")
    assert [ask(proxy)[0] for _ in range(5)] == [200, 503, 503, 200, 200]
    assert ask(proxy, path="/b")[0] == 200
    assert len(proxy.requests("GET", "/a")) == 5


def test_error_document(proxy):
    proxy.fault(status=400, code="ExpiredToken")
    status, headers, body = ask(proxy)
    assert status == 400 and b"<Code>ExpiredToken</Code>" in body and "Date" in headers


@pytest.mark.parametrize("n", [0, 1, 30, 200])
def test_cut_answer(proxy, n):
    proxy.fault(cut_answer=n)
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as s, contextlib.suppress(ConnectionResetError):
        s.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        while data := s.recv(65536):
            got += data
    assert len(got) == n
    assert ask(proxy)[0] == 200


def test_cut_body(proxy):
    proxy.fault(cut_body=100)
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(proxy)
    assert cut.value.partial == BODY[:100]


@pytest.mark.parametrize("n", [0, 10, 300])
def test_cut_request_never_reaches_the_server(proxy, n):
    proxy.fault(method="PUT", cut_request=n)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy, "PUT", body=BODY * 100)
    assert Echo.got == []
    assert ask(proxy, "PUT", body=b"x")[0] == 200


def test_dropped_answer_and_repetition_took_effect(proxy):
    proxy.fault(method="PUT", path="/a", drop_answer=True)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy, "PUT", body=b"x")
    proxy.fault(method="PUT", path="/b", repeat=2)
    ask(proxy, "PUT", "/b", b"y")
    assert [path for path, _, _ in Echo.got] == ["/a", "/b", "/b", "/b"]


def test_lengths_bytes_and_headers(proxy):
    proxy.fault(path="/t", truncate=10)
    assert ask(proxy, path="/t")[2] == BODY[:10]
    proxy.fault(path="/f", flip=5)
    body = ask(proxy, path="/f")[2]
    assert body != BODY and body[:5] == BODY[:5] and body[6:] == BODY[6:]
    proxy.fault(path="/long", wrong_length=7)
    with pytest.raises(http.client.IncompleteRead):
        ask(proxy, path="/long")
    proxy.fault(path="/short", wrong_length=-7)
    assert ask(proxy, path="/short")[2] == BODY[:-7]
    proxy.fault(path="/strip", strip=("If-Match",), flip_request=0)
    ask(proxy, "PUT", "/strip", b"abc", if_match="x")
    assert "if-match" not in {n.lower() for n in Echo.got[-1][1]} and Echo.got[-1][2] == b"`bc"
    proxy.fault(path="/set", set_headers={"ETag": '"1"', "Last-Modified": None})
    headers = ask(proxy, path="/set")[1]
    proxy.fault(path="/endless", set_headers={"Content-Length": None})
    assert ask(proxy, path="/endless")[2] == BODY
    assert headers["ETag"] == '"1"' and "Last-Modified" not in headers


def test_callbacks(proxy):
    proxy.fault(path="/before", before=lambda request: (403, "AccessDenied"))
    assert ask(proxy, path="/before")[0] == 403
    proxy.fault(path="/after", after=lambda request, answer: (412, "PreconditionFailed"))
    assert ask(proxy, path="/after")[0] == 412


def test_a_clock_that_is_ahead(proxy):
    proxy.clock = 1200
    assert ask(proxy)[1]["Last-Modified"] == "Wed, 01 Apr 2026 10:20:00 GMT"
    assert ask(proxy, x_amz_date="20260401T100000Z")[0] == 403


def test_down_and_up(proxy):
    proxy.down()
    with pytest.raises(OSError):
        ask(proxy)
    proxy.up()
    assert ask(proxy)[0] == 200
