"""The ops port over real sockets."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from worker.runtime.metrics import Metrics
from worker.runtime.ops import Ops, OpsError
from worker.settings_ports import OpsSettings


class Rig:
    """An ops port, and what it is told."""

    def __init__(self, patience_s: float = 5.0) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.not_ready: list[str] = []
        self.not_healthy: list[str] = []
        self.ops = Ops(
            OpsSettings("127.0.0.1", 0),
            self.registry,
            not_ready=lambda: self.not_ready,
            not_healthy=lambda: self.not_healthy,
            patience_s=patience_s,
        )

    def ask(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ops.port, timeout=5)
        try:
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def rig(patience_s: float = 5.0) -> Iterator[Rig]:
    made = Rig(patience_s)
    with made.ops:
        yield made


def test_metrics_can_be_scraped_as_text() -> None:
    with rig() as made:
        made.metrics.streams.set(7)
        status, headers, body = made.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse_text(body)}
    assert families["moderation_streams"].samples[0].value == 7


def test_metrics_can_be_scraped_as_openmetrics() -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    with rig() as made:
        status, headers, body = made.ask("/metrics?x=y", accept=accept)
    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    families = parse_openmetrics(body)  # type: ignore[no-untyped-call]  # the library left it out
    assert "moderation_dead_letters" in {family.name for family in families}


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_probes_say_ok_or_why_not(path: str) -> None:
    with rig() as made:
        assert made.ask(path)[::2] == (200, "ok\n")
        reasons = made.not_ready if path == "/readyz" else made.not_healthy
        reasons += ["partition 3 is being restored", "account hw refuses our login"]
        expected = "partition 3 is being restored\naccount hw refuses our login\n"
        assert made.ask(path)[::2] == (503, expected)
        reasons.clear()
        assert made.ask(path)[0] == 200


def test_head_is_get_without_a_body() -> None:
    with rig() as made:
        _, get, body = made.ask("/readyz")
        status, head, nothing = made.ask("/readyz", "HEAD")
    assert (status, nothing) == (200, "")
    assert head["content-length"] == get["content-length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_it_is_read_only(method: str) -> None:
    with rig() as made:
        status, headers, _ = made.ask("/readyz", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/metricsx", "/readyz/", "/%2e%2e/x"])
def test_there_is_nothing_else(path: str) -> None:
    with rig() as made:
        status, _, body = made.ask(path)
    assert (status, body) == (404, "not found\n")


def test_a_page_that_fails_is_no_success(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise ValueError("room42")

    with rig() as made:
        made.metrics.streams.set_function(broken)
        assert made.ask("/metrics")[0] == 500
        assert made.ask("/healthz")[0] == 200
    assert caplog.records[0].__dict__["error"] == "ValueError"
    assert "room42" not in caplog.text


@pytest.mark.parametrize("said", [b"", b"GET /readyz HTTP/1.1\r\nX: "])
def test_a_client_that_dawdles_is_cut_off(said: bytes) -> None:
    with rig(patience_s=0.3) as made, socket.create_connection(("127.0.0.1", made.ops.port)) as client:
        client.settimeout(5)
        begun = time.monotonic()
        client.sendall(said)
        assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - begun < 4
        assert made.ask("/readyz")[0] == 200


def test_a_client_that_drips_is_cut_off() -> None:
    with rig(patience_s=0.3) as made, socket.create_connection(("127.0.0.1", made.ops.port)) as client:
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 4:
                client.sendall(b"x")
                time.sleep(0.02)
        except ConnectionError:
            return
        pytest.fail("it could go on")


def test_nonsense_is_answered() -> None:
    with rig() as made, socket.create_connection(("127.0.0.1", made.ops.port)) as client:
        client.settimeout(5)
        client.sendall(b"\x16\x03\x01 nonsense here HTTP/9\r\n\r\n")
        assert b"bad request" in client.recv(100)


def test_a_port_in_use_is_said_clearly() -> None:
    with rig() as made:
        again = Ops(OpsSettings("127.0.0.1", made.ops.port), made.registry, not_ready=list, not_healthy=list)
        with pytest.raises(
            OpsError, match=r"ops: cannot listen on 127\.0\.0\.1 port \d+: the port is in use"
        ):
            again.start()
        again.stop()


def test_an_address_of_another_machine_is_said_clearly() -> None:
    ops = Ops(OpsSettings("192.0.2.1", 0), CollectorRegistry(), not_ready=list, not_healthy=list)
    with pytest.raises(OpsError, match="not an address of this machine"):
        ops.start()


def test_it_listens_on_ipv6_too() -> None:
    ops = Ops(OpsSettings("::1", 0), CollectorRegistry(), not_ready=list, not_healthy=list)
    with ops, socket.create_connection(("::1", ops.port)) as client:
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert b"200 OK" in client.recv(100)


def test_after_stop_the_port_is_closed() -> None:
    with rig() as made:
        port = made.ops.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
