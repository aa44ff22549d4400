"""A server between the agent and S3 that breaks things to order: raw sockets, so that it can cut at every byte.

    with Proxy("http://127.0.0.1:7480") as proxy:
        proxy.fault(method="PUT", path=r"rollout\\.json$", nth=2, drop_answer=True)

A fault is what it matches (method, path: a regular expression for the path with its query, header: names that must be there; the
nth such request and so many `times`, None: all that follow) and what it does (see Fault). The first that matches a request is the
only one that counts for it. `proxy.seen` lists all requests, with what became of them.
"""

import contextlib
import dataclasses
import email.utils
import re
import socket
import struct
import threading
import time
import urllib.parse

DATES = ("date", "last-modified")
SKEW_ALLOWED = 15 * 60


class Closed(Exception):
    """The other side has gone."""


@dataclasses.dataclass
class Message:
    """A request or an answer: its first line, its headers in their order, its body."""

    first: str
    headers: list
    body: bytes = b""

    def get(self, name, default=None):
        return next((v for n, v in self.headers if n.lower() == name.lower()), default)

    def set(self, name, value):
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, str(value)))

    def bytes(self):
        head = "".join(f"{n}: {v}\r\n" for n, v in self.headers)
        return f"{self.first}\r\n{head}\r\n".encode("latin-1") + self.body

    def head_bytes(self):
        return len(self.bytes()) - len(self.body)

    # ---- of a request

    @property
    def method(self):
        return self.first.split()[0]

    @property
    def path(self):
        return self.first.split()[1]

    # ---- of an answer

    @property
    def status(self):
        return int(self.first.split()[1])

    @property
    def has_body(self):
        return self.status >= 200 and self.status not in (204, 304)


@dataclasses.dataclass
class Seen:
    """One request that arrived. status: of the answer that was sent, 0: none (or not the whole of it)."""

    request: Message
    status: int = 0
    fault: object = None

    def __repr__(self):
        return f"{self.request.first} -> {self.status}{' (fault)' if self.fault else ''}"


@dataclasses.dataclass
class Fault:
    """What is done to a request that matches, in this order."""

    method: str = None
    path: str = None
    header: tuple = ()
    nth: int = 1
    times: int = 1
    when: object = None  # a question with the request; what else must be true
    # before the server sees it
    before: object = None  # called with the request; may change it, or answer: (status, code), or a Message
    delay: float = 0
    hold: object = None  # an Event to wait for
    cut_request: int = None  # closes after so many bytes of it have come; the server sees nothing
    status: int = None  # answers this itself, with an error document of this code; the server sees nothing
    code: str = None
    message: str = "planted by the test"
    strip: tuple = ()  # headers that the server does not see
    flip_request: int = None  # a byte of its body is another one
    # behind the server
    repeat: int = 0  # it is sent to the server so many times more; the last answer counts
    after: object = None  # called with the request and the answer; may change it, or give another one: (status, code), or a Message
    delay_answer: float = 0
    hold_answer: object = None
    set_headers: dict = dataclasses.field(default_factory=dict)  # of the answer; None takes it out
    flip: int = None  # a byte of the body is another one
    truncate: int = None  # the body has so many bytes, and a Content-Length that says so
    wrong_length: int = 0  # Content-Length says so many more (or less)
    cut_answer: int = None  # closes after so many bytes of the whole answer
    cut_body: int = None  # closes after so many bytes of its body
    drop_answer: bool = False
    n_matched: int = 0

    def matches(self, request):
        if self.method and request.method not in self.method.split("|"):
            return False
        if self.path and not re.search(self.path, urllib.parse.unquote(request.path)):
            return False
        if any(request.get(name) is None for name in self.header) or (self.when and not self.when(request)):
            return False
        self.n_matched += 1
        return self.n_matched >= self.nth and (self.times is None or self.n_matched < self.nth + self.times)


def error_document(status, code, message="planted by the test", **more):
    """An answer as S3 gives it."""
    inner = "".join(f"<{n}>{v}</{n}>" for n, v in more.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{inner}<RequestId>T</RequestId></Error>'.encode()
    return Message(f"HTTP/1.1 {status} {code or 'Error'}",
                   [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Date", email.utils.formatdate(usegmt=True))], body)


class Wire:
    """Messages over one socket."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(60)

    def more(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise Closed
        self.buffer += data

    def take(self, n):
        if len(self.buffer) < n:
            parts, have = [self.buffer], len(self.buffer)
            while have < n:
                data = self.sock.recv(min(1 << 18, n - have))
                if not data:
                    raise Closed
                parts.append(data)
                have += len(data)
            self.buffer = b"".join(parts)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        return Message(first, [(n.strip(), v.strip()) for n, v in (line.split(":", 1) for line in lines)])

    def chunked(self):
        body = b""
        while n := int(self.line().split(b";")[0], 16):
            body += self.take(n)
            self.take(2)
        while self.line():
            pass
        return body

    def to_the_end(self):
        with contextlib.suppress(Closed):
            while True:
                self.more()
        body, self.buffer = self.buffer, b""
        return body

    def request(self):
        message = self.head()
        if (message.get("Expect") or "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            message.set("Expect", None)
        self.body(message, 0)
        return message

    def body(self, message, otherwise):
        if "chunked" in (message.get("Transfer-Encoding") or ""):
            message.body = self.chunked()
            message.set("Transfer-Encoding", None)
            message.set("Content-Length", len(message.body))
        elif message.get("Content-Length") is not None:
            message.body = self.take(int(message.get("Content-Length")))
        elif otherwise is None:
            message.body = self.to_the_end()

    def answer(self, method):
        message = self.head()
        while message.status < 200:
            message = self.head()
        if method != "HEAD" and message.has_body:
            self.body(message, None)
            message.set("Content-Length", len(message.body))
        return message

    def reset(self):
        """Closes without a word: a reset, not an orderly end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def end(self):
        """Closes in order, so that all that was sent arrives."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()


class Proxy:
    def __init__(self, upstream, serialise=False):
        url = urllib.parse.urlsplit(upstream)
        self.upstream = (url.hostname, url.port)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.endpoint = "http://127.0.0.1:%d" % self.port
        self.faults, self.seen, self.wires = [], [], set()
        self.lock, self.one_writer = threading.Lock(), threading.Lock()
        self.serialise = serialise  # one conditional write at a time: for servers that let two win
        self.clock = 0  # the server's clock is so many seconds ahead, and it insists on it
        self.silent = False  # takes connections and never answers
        self.ended = False
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.down()

    # ---- what tests say

    def fault(self, **what):
        """Adds one. Returned, so that a test can ask n_matched, or take it back by clear(fault)."""
        fault = Fault(**what)
        with self.lock:
            self.faults.append(fault)
        return fault

    def clear(self, fault=None):
        with self.lock:
            self.faults = [f for f in self.faults if fault is not None and f is not fault]

    def down(self):
        """Nobody listens any more; up() again at the same port."""
        self.ended = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def up(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.ended = False
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self):
        """All connections that are open are reset."""
        with self.lock:
            wires = list(self.wires)
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)

    def requests(self, method=None, path=None):
        with self.lock:
            seen = list(self.seen)
        return [s for s in seen if (not method or s.request.method == method)
                and (not path or re.search(path, urllib.parse.unquote(s.request.path)))]

    # ---- the work

    def accept(self):
        listener = self.listener
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        wire = Wire(sock)
        with self.lock:
            self.wires.add(wire)
        try:
            while not self.ended and self.one(wire):
                pass
        except (Closed, OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.wires.discard(wire)
            wire.close()

    def fault_of(self, request, cuts=False):
        with self.lock:
            return next((f for f in self.faults if (f.cut_request is not None) == cuts and f.matches(request)), None)

    def one(self, wire):
        """One request and its answer. False: the connection is over."""
        if self.early_cut(wire):
            return False
        request = wire.request()
        fault = self.fault_of(request)
        seen = Seen(request, fault=fault)
        with self.lock:
            self.seen.append(seen)
        if self.silent:
            self.until_closed(wire)
            return False
        answer = self.answer(request, fault or Fault())
        return self.send(wire, seen, answer, fault or Fault())

    def early_cut(self, wire):
        """What cuts a request is decided by the head alone. True: it was cut."""
        while b"\r\n\r\n" not in wire.buffer:
            wire.more()
        kept = wire.buffer
        request = wire.head()
        wire.buffer = kept
        fault = self.fault_of(request, cuts=True)
        if fault is None:
            return False
        with self.lock:
            self.seen.append(Seen(request, fault=fault))
        with contextlib.suppress(Closed, OSError):
            wire.take(fault.cut_request)
        wire.reset()
        return True

    def until_closed(self, wire):
        with contextlib.suppress(Closed, OSError):
            while not self.ended:
                wire.more()

    def skewed(self, request):
        """What a server says whose clock is another one."""
        stamp = request.get("x-amz-date")
        if not self.clock or not stamp:
            return None
        signed = time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone
        if abs(time.time() + self.clock - signed) <= SKEW_ALLOWED:
            return None
        return error_document(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")

    def answer(self, request, fault):
        time.sleep(fault.delay)
        if fault.hold:
            fault.hold.wait(60)
        own = fault.before(request) if fault.before else None
        if own is None and fault.status:
            own = (fault.status, fault.code)
        answer = self.as_answer(own, fault) or self.skewed(request)
        if answer is None:
            answer = self.ask(request, fault)
            for _ in range(fault.repeat):
                answer = self.ask(request, fault)
            if fault.after:
                answer = self.as_answer(fault.after(request, answer), fault) or answer
        if self.clock:
            shift(answer, self.clock)
        return answer

    @staticmethod
    def as_answer(own, fault):
        return error_document(*own, message=fault.message) if isinstance(own, tuple) else own if isinstance(own, Message) else None

    def ask(self, request, fault):
        request = dataclasses.replace(request, headers=[h for h in request.headers if h[0].lower() not in {s.lower() for s in fault.strip}])
        if fault.flip_request is not None and request.body:
            request.body = flipped(request.body, fault.flip_request)
        conditional = self.serialise and request.method in ("PUT", "DELETE", "POST") and (request.get("If-Match") or request.get("If-None-Match"))
        with self.one_writer if conditional else contextlib.nullcontext():
            try:
                with socket.create_connection(self.upstream, timeout=60) as sock:
                    wire = Wire(sock)
                    request.set("Connection", "close")
                    sock.sendall(request.bytes())
                    return wire.answer(request.method)
            except (Closed, OSError, ValueError):
                return error_document(502, "BadGateway", "the server behind the test's proxy does not answer")

    def send(self, wire, seen, answer, fault):
        time.sleep(fault.delay_answer)
        if fault.hold_answer:
            fault.hold_answer.wait(60)
        for name, value in fault.set_headers.items():
            answer.set(name, value)
        if fault.flip is not None and answer.body:
            answer.body = flipped(answer.body, fault.flip)
        if fault.truncate is not None and answer.body:
            answer.body = answer.body[: fault.truncate]
            answer.set("Content-Length", len(answer.body))
        if fault.wrong_length and answer.get("Content-Length"):
            answer.set("Content-Length", int(answer.get("Content-Length")) + fault.wrong_length)
        answer.set("Connection", None)
        data, end = answer.bytes(), None
        if fault.cut_body is not None:
            end = answer.head_bytes() + fault.cut_body
        if fault.cut_answer is not None:
            end = fault.cut_answer
        if fault.drop_answer:
            end = 0
        if end is not None and end < len(data) or end == 0:
            wire.sock.sendall(data[:end])
            (wire.end if end else wire.reset)()
            return False
        seen.status = answer.status
        try:
            wire.sock.sendall(data)
        except OSError:
            seen.status = 0
            raise
        if seen.request.method == "HEAD" or not answer.has_body or len(answer.body) >= int(answer.get("Content-Length") or 1 << 60):
            return True
        wire.end()  # the other side waits for more, or for the end
        return False


def flipped(body, at):
    at %= len(body)
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]


def shift(answer, seconds):
    """All times that the answer tells are of another clock."""
    headers = []
    for name, value in answer.headers:
        if name.lower() in DATES:
            when = email.utils.parsedate_to_datetime(value).timestamp() + seconds
            value = email.utils.formatdate(when, usegmt=True)
        headers.append((name, value))
    answer.headers = headers
