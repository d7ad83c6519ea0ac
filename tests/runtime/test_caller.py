"""The caller on real sockets: what goes out byte for byte, and what each failure means."""

import gzip
import json
import logging
import queue
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from prometheus_client import CollectorRegistry

from worker import __version__
from worker.core.outcome import Done, Facts, Observed, Outcome, Refused, Unknown, Unreachable
from worker.runtime import exchange
from worker.runtime.caller import Caller
from worker.runtime.clock import SystemClock
from worker.runtime.exchange import CONNECTIONS, LARGEST
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings
from worker.vendors.base import Account, Operation, Request, Response, Vendor, VendorSpec
from worker.words import Call, Millis, Purpose, Target

SECRET = "room42-publish-key"

# A server that does exactly what a test says


Script = Callable[[socket.socket], None]


def read_request(connection: socket.socket) -> bytes:
    """One whole request: up to the empty line, and as much body as Content-Length says."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        part = connection.recv(65536)
        if not part:
            return raw
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(answer: bytes) -> Script:
    """Answer every request of a connection like this."""

    def script(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(answer)

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: r1\r\n\r\nok"


class Server:
    """Runs a script for each connection, in a thread of its own."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                connection = cast("socket.socket", self.request)
                connection.settimeout(5)
                try:
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                    script(connection)
                except OSError:
                    return  # the client went away, as many tests want
                finally:
                    connection.close()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(script, tls)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# A vendor that does exactly what a test says

SPEC = VendorSpec(
    name="fake",
    title="Fake",
    summary="",
    links={},
    settings=(),
    operations={"forbid": Operation("forbid", "", ("forbid",), ("forbid",), "")},
    quotas={},
)


@dataclass
class Fake:
    """Sends what it is given, and reads every answer as Done with the status in its detail."""

    url: str = "http://127.0.0.1:1/"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    nonces: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    request_raises: Exception | None = None
    read_raises: Exception | None = None
    code: ClassVar[str] = "fake"

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        self.nonces.append(nonce)
        self.asked.append(call.id)
        assert abs(now - time.time_ns() // 1_000_000) < 60_000
        if self.request_raises:
            raise self.request_raises
        return Request(self.method, self.url, self.headers, self.content)

    def read(self, call: Call, response: Response, _now: Millis) -> Outcome:
        self.answers.append(response)
        if self.read_raises:
            raise self.read_raises
        return Done(detail=f"{call.id}: {response.status}")

    def shared(self, _call: Call) -> str | None:
        return None


class Inside(Fake):
    """A vendor that needs no wire."""

    def perform(self, call: Call, _now: Millis) -> Outcome:
        if self.read_raises:
            raise self.read_raises
        return Observed(Facts(live=call.id == "c0"))


def call(
    number: int = 0,
    purpose: Purpose = "forbid",
    until: Millis | None = None,
    not_after: Millis | None = None,
) -> Call:
    target = Target("acc", "live", SECRET)
    return Call(f"c{number}", purpose, "forbid", target, until=until, not_after=not_after)


def granted(*calls: Call) -> Granted:
    calls = calls or (call(),)
    return Granted("acc", calls, tuple((number, 1, SECRET, "t") for number, _ in enumerate(calls)))


class Rig:
    """A caller with one account, and its inbox."""

    def __init__(
        self, vendor: Fake, timeout: Millis = 3_000, concurrency: int = 10, *, insecure: bool = True
    ) -> None:
        self.inbox: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        self.may_send: Callable[[int, int], bool] = lambda partition, epoch: True
        self.registry = CollectorRegistry()
        settings = AccountSettings(
            Account("acc", "fake", {}),
            {},
            timeout=timeout,
            concurrency=concurrency,
            allow_insecure=insecure,
        )
        self.caller = Caller(
            {"acc": (cast("Vendor", vendor), settings)},
            self.inbox.put,
            self._may_send,
            SystemClock(),
            Metrics(self.registry, {"acc": SPEC}),
        )
        self.caller.start()

    def _may_send(self, partition: int, epoch: int) -> bool:
        return self.may_send(partition, epoch)

    def ask(self, request: Granted | None = None) -> Answered:
        self.caller.send(request or granted())
        return self.inbox.get(timeout=10)

    def outcome(self) -> Outcome:
        (outcome,) = self.ask().outcomes
        return outcome

    def count(self, outcome: str) -> float | None:
        labels = {"account": "acc", "operation": "forbid", "outcome": outcome}
        return self.registry.get_sample_value("moderation_vendor_requests_total", labels)

    def timed(self) -> float | None:
        return self.registry.get_sample_value(
            "moderation_vendor_request_duration_seconds_count", {"vendor": "fake", "operation": "forbid"}
        )


@contextmanager
def rig(
    vendor: Fake, timeout: Millis = 3_000, concurrency: int = 10, *, insecure: bool = True
) -> Iterator[Rig]:
    made = Rig(vendor, timeout, concurrency, insecure=insecure)
    try:
        yield made
    finally:
        made.caller.stop(0)
        assert not made.caller.alive


# What goes out


def test_the_request_goes_out_byte_for_byte() -> None:
    """Nothing is re-encoded, re-ordered or added but what keeps the answer bounded and names us."""
    seen: list[bytes] = []

    def script(connection: socket.socket) -> None:
        while raw := read_request(connection):
            seen.append(raw)
            connection.sendall(OK[:-2].replace(b"X-R", b"Set-Cookie: a=b\r\nX-R") + b"ok")

    target = "/v1/a*b~c%2F%2fd+e%20f/%E6%88%BF/./../x//y;z=1,2!$&'()|?b=%7E&a=*~+%2B%20&c=%e6&d=a|b\"<>^`{}:@"
    with serving(script) as server:
        vendor = Fake(
            f"http://127.0.0.1:{server.port}{target}",
            "POST",
            {
                "X-Sdk-Date": "20261122T000000Z",
                "host": "live.vendor.example",
                "Content-Type": "application/json",
            },
            b'{"a": "\xc3\xa4"}',
        )
        with rig(vendor) as made:
            assert made.outcome() == Done(detail="c0: 200")
            assert made.outcome() == Done(detail="c0: 200")
    expected = (
        f"POST {target} HTTP/1.1\r\n"
        "host: live.vendor.example\r\n"  # goes first
        "X-Sdk-Date: 20261122T000000Z\r\n"
        "Content-Type: application/json\r\n"
        "Accept-Encoding: identity\r\n"
        f"User-Agent: moderation-worker/{__version__}\r\n"
        "Content-Length: 11\r\n"
        "\r\n"
    ).encode() + b'{"a": "\xc3\xa4"}'
    assert seen == [expected, expected]


@pytest.mark.parametrize(("tail", "line"), [("", b"GET / "), ("/", b"GET / "), ("?a=b", b"GET /?a=b ")])
def test_a_url_without_a_path_asks_for_the_root(tail: str, line: bytes) -> None:
    seen: list[bytes] = []

    def script(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    with serving(script) as server:
        url = f"http://127.0.0.1:{server.port}{tail}"
        with rig(Fake(url, headers={"accept-encoding": "*", "USER-AGENT": "x"})) as made:
            made.ask()
    head = seen[0].decode().split("\r\n")
    assert seen[0].startswith(line)
    assert head[1:4] == [f"Host: 127.0.0.1:{server.port}", "accept-encoding: *", "USER-AGENT: x"]


def test_the_answer_reaches_the_vendor_as_it_came() -> None:
    body = gzip.compress(b"never asked for")
    answer = (
        b"HTTP/1.1 418 No\r\nContent-Encoding: gzip\r\nX-Two: a\r\nx-two: b\r\nContent-Length: %d\r\n\r\n"
    )
    vendor = Fake()
    with serving(answering(answer % len(body) + body)) as server:
        vendor.url = f"http://127.0.0.1:{server.port}/"
        with rig(vendor) as made:
            got = made.ask()
    (response,) = vendor.answers
    assert (response.status, response.content) == (418, body)
    assert response.headers["x-two"] == "a, b"
    assert response.headers["content-encoding"] == "gzip"
    assert got.started_at is not None
    assert got.started_at <= got.finished_at


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_answer_like_any_other(status: int) -> None:
    elsewhere = free_port()
    answer = f"HTTP/1.1 {status} No\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(answer.encode())) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        assert made.outcome() == Done(detail=f"c0: {status}")
    assert server.connections == 1


def test_each_request_has_a_nonce_of_its_own() -> None:
    with serving(answering(OK)) as server:
        vendor = Fake(f"http://127.0.0.1:{server.port}/")
        with rig(vendor) as made:
            for _ in range(3):
                made.ask()
    assert len(set(vendor.nonces)) == 3
    assert all(len(nonce) == 32 for nonce in vendor.nonces)


def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        assert made.outcome() == Done(detail="c0: 200")


def test_one_answer_is_read_for_every_call_that_shares_it() -> None:
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        got = made.ask(granted(call(0), call(1), call(2)))
        assert got.outcomes == tuple(Done(detail=f"c{number}: 200") for number in range(3))
        assert made.count("done") == 1  # one request on the wire
        assert made.timed() == 1
    assert server.connections == 1


# Connections


def test_connections_are_kept() -> None:
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        for _ in range(5):
            assert made.outcome() == Done(detail="c0: 200")
    assert server.connections == 1


def test_a_connection_the_server_closed_is_not_used_again() -> None:
    closed = threading.Semaphore(0)

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        connection.close()
        closed.release()

    with serving(script) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        for _ in range(3):
            assert made.outcome() == Done(detail="c0: 200")
            assert closed.acquire(timeout=5)
    assert server.connections == 3


def test_a_request_that_is_cut_off_before_it_begins_blocks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore never frees the place it had just given to a request cancelled while it closed another."""
    monkeypatch.setattr(exchange._LIMITS, "keepalive_expiry", 0.01)
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        settings = made.caller._accounts["acc"].settings
        for timeout in (3_000, 0) * (CONNECTIONS + 1) + (3_000,):
            object.__setattr__(settings, "timeout", timeout)
            outcome = made.outcome()
            assert isinstance(outcome, Done if timeout else Unreachable)
            time.sleep(0.03)


def test_calls_under_way_are_bounded_and_spread_over_small_transports() -> None:
    arrived = threading.Semaphore(0)
    let_go = threading.Event()

    def script(connection: socket.socket) -> None:
        while read_request(connection):
            arrived.release()
            let_go.wait(5)
            connection.sendall(OK)

    with (
        serving(script) as server,
        rig(Fake(f"http://127.0.0.1:{server.port}/"), concurrency=10) as made,
    ):
        for _ in range(13):
            made.caller.send(granted())
        for _ in range(10):
            assert arrived.acquire(timeout=5)
        assert not arrived.acquire(timeout=0.1)
        lent = made.caller._accounts["acc"].connections._transports
        assert sorted(lent.values()) == [2, CONNECTIONS, CONNECTIONS]
        let_go.set()
        assert [made.inbox.get(timeout=5).outcomes for _ in range(13)] == [(Done(detail="c0: 200"),)] * 13
        assert set(lent.values()) == {0}
        assert 10 <= server.connections <= 3 * CONNECTIONS


# Failures before anything left


def test_refused() -> None:
    with rig(Fake(f"http://127.0.0.1:{free_port()}/")) as made:
        assert made.outcome() == Unreachable(detail="the connection was refused")
        assert made.count("unreachable") == 1


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, SECRET)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with rig(Fake("http://vendor.example/")) as made:
        assert made.outcome() == Unreachable(detail="the endpoint's name was not found")


def test_a_name_look_up_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> None:
        let_go.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        with rig(Fake("http://vendor.example/"), timeout=100) as made:
            assert made.outcome() == Unreachable(detail="no connection within 100 ms")
    finally:
        let_go.set()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost (not for 127.0.0.1) that signs itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {path.name} -out cert.pem"
    subprocess.run(  # noqa: S603 - our own words
        command.split(), cwd=path.parent, check=True, capture_output=True
    )
    with path.open("a") as both:
        both.write((path.parent / "cert.pem").read_text())
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_nobody_vouches_for(certificate: Path) -> None:
    reached = threading.Event()

    def script(connection: socket.socket) -> None:
        if read_request(connection):
            reached.set()

    with (
        serving(script, server_tls(certificate)) as server,
        rig(Fake(f"https://localhost:{server.port}/?key={SECRET}")) as made,
    ):
        outcome = made.outcome()
    assert outcome == Unreachable(detail="the vendor's certificate was not accepted: self-signed certificate")
    assert not reached.is_set()


def test_a_certificate_for_another_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        serving(answering(OK), server_tls(certificate)) as server,
        rig(Fake(f"https://127.0.0.1:{server.port}/"), insecure=False) as made,
    ):
        outcome = made.outcome()
    assert isinstance(outcome, Unreachable)
    assert "IP address mismatch" in outcome.detail


def test_a_certificate_that_the_environment_vouches_for(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        serving(answering(OK), server_tls(certificate)) as server,
        rig(Fake(f"https://localhost:{server.port}/"), insecure=False) as made,
    ):
        assert made.outcome() == Done(detail="c0: 200")


def test_a_server_without_tls() -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(script) as server, rig(Fake(f"https://localhost:{server.port}/")) as made:
        assert made.outcome() == Unreachable(detail="the TLS handshake failed")


# Failures after something left


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang_up(connection: socket.socket) -> None:
    """End without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def say(text: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(text)

    return script


def say_nothing(connection: socket.socket) -> None:
    connection.recv(1)


def drip(head: bytes) -> Script:
    """Always a little more, so that no single read waits for long."""

    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return script


EARLY = "the connection ended early, or the answer is not HTTP"
LATE = "no complete answer within 600 ms"


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (reset, "the connection broke after sending"),
        (hang_up, EARLY),
        (say(b"220 smtp.example ESMTP\r\n"), EARLY),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short"), EARLY),
        (say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), EARLY),
        (say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), EARLY),
        (say_nothing, LATE),
        (drip(b"HTTP/1.1 200 OK\r\nX: "), LATE),
        (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), LATE),
        (say(b"HTTP/1.1 100 Continue\r\n\r\n" * 3), EARLY),
    ],
    ids=[
        "reset",
        "hung up",
        "not http",
        "short",
        "short chunk",
        "headers",
        "silent",
        "drip head",
        "drip",
        "100",
    ],
)
def test_it_may_have_happened(script: Script, detail: str) -> None:
    def after_the_request(connection: socket.socket) -> None:
        read_request(connection)
        script(connection)

    with (
        serving(after_the_request) as server,
        rig(
            Fake(f"http://127.0.0.1:{server.port}/", "POST", {}, b"x"),
            timeout=600 if detail == LATE else 10_000,
        ) as made,
    ):
        assert made.outcome() == Unknown(detail=detail)
        assert made.count("unknown") == 1
    assert server.connections == 1  # nothing was sent twice


def test_a_body_without_end_is_cut_off() -> None:
    stopped = threading.Event()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        finally:
            stopped.set()

    with serving(script) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        assert made.outcome() == Unknown(detail=f"the answer is longer than {LARGEST} bytes")
        assert stopped.wait(5)


def test_a_body_of_just_the_largest_size_is_read() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGEST + b"x" * LARGEST
    vendor = Fake()
    with serving(answering(answer)) as server:
        vendor.url = f"http://127.0.0.1:{server.port}/"
        with rig(vendor) as made:
            assert made.outcome() == Done(detail="c0: 200")
    assert len(vendor.answers[0].content) == LARGEST


def test_a_request_cut_off_while_it_was_written_may_have_happened() -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(1000)
        reset(connection)

    with (
        serving(script) as server,
        rig(Fake(f"http://127.0.0.1:{server.port}/", "POST", {}, b"x" * 20_000_000)) as made,
    ):
        assert isinstance(made.outcome(), Unknown)


# The lease, and the end that has passed


def test_nothing_goes_out_without_a_lease() -> None:
    with serving(answering(OK)) as server:
        vendor = Fake(f"http://127.0.0.1:{server.port}/")
        with rig(vendor) as made:
            made.may_send = lambda partition, epoch: False
            got = made.ask(granted(call(0), call(1)))
            assert got.started_at is None
            assert got.outcomes == (Unreachable(detail="not sent: no fresh lease on its partition"),) * 2
            assert made.count("unreachable") == 0
            assert made.timed() == 0
    assert (vendor.nonces, server.connections) == ([], 0)


def test_a_lease_lost_while_connecting_keeps_the_request_back() -> None:
    answers = iter([True, False])
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        made.may_send = lambda partition, epoch: next(answers)
        got = made.ask(granted(call(0)))
        assert got.started_at is None
        assert got.outcomes == (Unreachable(detail="not sent: no fresh lease on its partition"),)
        assert made.timed() == 0
        made.may_send = lambda partition, epoch: True
        assert made.ask(granted(call(0))).started_at is not None
    assert server.connections == 2, "the first was made, and not used"


@pytest.mark.parametrize("lost", [{"charged": ((1, 1), (2, 1))}, {"not_after": 1_000}])
def test_nothing_goes_out_that_others_no_longer_count_on(lost: dict[str, Any]) -> None:
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        made.may_send = lambda partition, epoch: partition != 2
        assert made.ask(granted(call(0))).started_at is not None
        assert made.ask(replace(granted(call(0)), **lost)).started_at is None


def test_the_request_is_made_for_a_call_that_still_has_its_lease() -> None:
    with serving(answering(OK)) as server:
        vendor = Fake(f"http://127.0.0.1:{server.port}/")
        with rig(vendor) as made:
            made.may_send = lambda partition, epoch: (partition, epoch) == (1, 1)
            got = made.ask(granted(call(0), call(1)))
    assert vendor.asked == ["c1"]
    assert len(got.outcomes) == 2


@pytest.mark.parametrize(
    ("late", "sent"),
    [
        (call(until=1_000), False),
        (call(purpose="move_end", until=1_000), False),
        (call(purpose="lift", until=1_000), True),
        (call(purpose="read_forbid", until=1_000), True),
        (call(until=1 << 50, not_after=1 << 50), True),
        (call(purpose="cut", not_after=1_000), False),
    ],
)
def test_an_end_that_has_passed_is_not_asked_for(late: Call, sent: bool) -> None:
    """A vendor reads it as its default, a day."""
    with serving(answering(OK)) as server, rig(Fake(f"http://127.0.0.1:{server.port}/")) as made:
        got = made.ask(granted(late))
    assert (got.started_at is not None) == sent
    assert server.connections == sent


# An adapter's mistakes


@pytest.mark.parametrize(
    ("vendor", "outcome"),
    [
        (Fake(request_raises=KeyError(SECRET)), Refused("internal", detail="the request could not be made")),
        (Fake("ftp://127.0.0.1/"), Refused("internal", detail="the request could not be made")),
        (Fake("http://127.0.0.1/#x"), Refused("internal", detail="the request could not be made")),
        (Fake(f"http://127.0.0.1/ä{SECRET}"), Refused("internal", detail="the request could not be made")),
        (Fake(headers={"x": f"ä{SECRET}"}), Refused("internal", detail="the request could not be made")),
    ],
    ids=["raises", "scheme", "fragment", "not encoded", "header"],
)
def test_a_request_that_cannot_be_made(
    vendor: Fake, outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    with rig(vendor) as made:
        got = made.ask()
        assert got.outcomes == (outcome,)
        assert made.timed() == 0
    (record,) = caplog.records
    assert SECRET not in json.dumps(record.__dict__, default=str) + caplog.text
    assert record.levelno == logging.ERROR


def test_what_an_adapter_will_not_ask_is_invalid_and_says_why() -> None:
    with rig(Fake(request_raises=ValueError("the stream name is a wildcard"))) as made:
        got = made.ask()
    assert got.outcomes == (Refused("invalid", detail="the stream name is a wildcard"),)


@pytest.mark.parametrize("bad", ["/a b", "/a\r\nX: y"])
def test_a_request_that_is_not_http_is_not_sent(bad: str) -> None:
    seen: list[bytes] = []
    with (
        serving(lambda connection: seen.append(read_request(connection))) as server,
        rig(Fake(f"http://127.0.0.1:{server.port}{bad}")) as made,
    ):
        assert made.outcome() == Refused("internal", detail="the request is not valid HTTP")
    assert seen in ([], [b""])


def test_a_request_that_turns_out_wrong_after_its_head_may_have_happened() -> None:
    with serving(say_nothing) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with rig(Fake(url, "POST", {"Content-Length": "0"}, b"not so")) as made:
            assert isinstance(made.outcome(), Unknown)


def test_plain_http_has_to_be_allowed() -> None:
    with (
        serving(answering(OK)) as server,
        rig(Fake(f"http://127.0.0.1:{server.port}/"), insecure=False) as made,
    ):
        assert made.outcome() == Refused("config", detail="the endpoint is not https (allow_insecure)")
    assert server.connections == 0


def test_an_answer_the_adapter_cannot_read_may_have_happened(caplog: pytest.LogCaptureFixture) -> None:
    with serving(answering(OK)) as server:
        vendor = Fake(f"http://127.0.0.1:{server.port}/", read_raises=ValueError(SECRET))
        with rig(vendor) as made:
            outcome = made.outcome()
    assert isinstance(outcome, Unknown)
    assert outcome.wire.http_status == 200
    assert SECRET not in json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert caplog.records[0].__dict__["error"] == "ValueError"


def test_a_mistake_of_our_own_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_partition: int, _epoch: int) -> bool:
        raise LookupError(SECRET)

    with rig(Fake()) as made:
        made.may_send = broken
        assert made.outcome() == Unknown(detail="the worker failed: LookupError")
        made.may_send = lambda partition, epoch: False
        assert made.ask().started_at is None  # and the account goes on
    assert SECRET not in caplog.text


# Without a wire


def test_a_vendor_in_the_process_is_asked_directly() -> None:
    with rig(Inside()) as made:
        got = made.ask(granted(call(0), call(1)))
        assert got.outcomes == (Observed(Facts(live=True)), Observed(Facts(live=False)))
        assert got.started_at is not None
        assert made.count("observed") == 1


def test_a_vendor_in_the_process_that_fails_may_have_acted() -> None:
    with rig(Inside(read_raises=ValueError(SECRET))) as made:
        assert made.outcome() == Unknown(detail="the vendor failed")


# The end


def test_what_is_under_way_may_end_and_what_waits_is_not_sent() -> None:
    arrived, let_go = threading.Event(), threading.Event()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        arrived.set()
        let_go.wait(5)
        connection.sendall(OK)

    with serving(script) as server:
        made = Rig(Fake(f"http://127.0.0.1:{server.port}/"), concurrency=1)
        made.caller.send(granted(call(0)))
        made.caller.send(granted(call(1)))
        assert arrived.wait(5)
        stopper = threading.Thread(target=made.caller.stop, args=(5,))
        stopper.start()
        unsent = made.inbox.get(timeout=5)
        assert (unsent.granted.calls[0].id, unsent.started_at) == ("c1", None)
        assert unsent.outcomes == (Unreachable(detail="not sent: the worker is shutting down"),)
        made.caller.send(granted(call(2)))
        assert made.inbox.get(timeout=5).started_at is None
        let_go.set()
        assert made.inbox.get(timeout=5).outcomes == (Done(detail="c0: 200"),)
        stopper.join(5)
        assert not made.caller.alive
        made.caller.stop(5)  # again: nothing
    assert server.connections == 1


def test_what_does_not_end_in_time_is_given_up() -> None:
    arrived = threading.Semaphore(0)

    def script(connection: socket.socket) -> None:
        read_request(connection)
        arrived.release()
        say_nothing(connection)

    with serving(script) as server:
        made = Rig(Fake(f"http://127.0.0.1:{server.port}/"), timeout=60_000)
        for _ in range(6):
            made.caller.send(granted())
        for _ in range(6):
            assert arrived.acquire(timeout=5)
        made.caller.stop(0.1)
        assert not made.caller.alive
        answers = [made.inbox.get(timeout=1).outcomes[0] for _ in range(6)]
    assert answers == [Unknown(detail="no answer before the worker shut down")] * 6


def test_an_account_that_is_not_configured() -> None:
    with rig(Fake()) as made, pytest.raises(KeyError):
        made.caller.send(Granted("other", (call(),), ((0, 1, "s", "t"),)))
