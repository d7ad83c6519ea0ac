"""Every vendor whose accounts may log in first: over real sockets, whatever the login's answer is."""

import logging
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.runtime.test_caller import Server, read_request
from tests.vendors.contract import NOW, SECRET, STREAM, Row, Table, adapter, call, logins, said
from tests.vendors.test_contract import ON_THE_WIRE, SPECS, Still
from worker.core.outcome import Outcome, Unreachable
from worker.runtime.caller import Caller
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings
from worker.vendors.base import Account, LogsIn

LOGGING_IN = [name for name in ON_THE_WIRE if Table(name).login]
ODD = [
    Row("429", 429, "unreachable", b"", {"Retry-After": "7"}),
    *(Row(str(status), status, "unreachable", b"<html>") for status in (301, 302, 500, 502, 504, 520)),
    Row("nothing", 200, "unreachable"),
    Row("a page in place of an answer", 200, "unreachable", f"<html>{STREAM}, {SECRET}".encode()),
    Row("endless nesting", 200, "unreachable", b"[" * 100_000),
    Row("too long", 200, "unreachable", b" " * (1 << 20) + b"{}"),
]


class Desk:
    """A server that answers a login as told, and each call with its success."""

    def __init__(self, name: str, row: Row | None) -> None:
        self.table, self.row = Table(name), row
        self.seen: list[bytes] = []
        self.lock = threading.Lock()
        self.operation = next(iter(SPECS[name].operations))

    def serve(self, connection: socket.socket) -> None:
        while raw := read_request(connection):
            with self.lock:
                self.seen.append(raw)
            if self.table.login["path"].encode() not in raw.split(b"\r\n")[0]:
                connection.sendall(self.table.success(self.operation).on_the_wire())
            elif self.row is None:
                connection.close()
                return
            else:
                connection.sendall(self.row.on_the_wire())

    def requests(self) -> tuple[int, int]:
        """Return how many logins and how many calls came."""
        first = sum(self.table.login["path"].encode() in raw.split(b"\r\n")[0] for raw in self.seen)
        return first, len(self.seen) - first


@contextmanager
def asking(
    name: str, row: Row | None, calls: int = 1
) -> Iterator[tuple[Desk, list[Outcome], CollectorRegistry]]:
    """Let an account that logs in make some calls at once; give what became of them."""
    desk = Desk(name, row)
    server = Server(desk.serve)
    here = f"http://127.0.0.1:{server.port}"
    vendor = adapter(name, here, tuple(desk.table.login["with"]), **{desk.table.login["endpoint"]: here})
    assert isinstance(vendor, LogsIn)
    settings = AccountSettings(
        Account("acc", name, {}), {}, timeout=5_000, concurrency=10, allow_insecure=True
    )
    inbox: queue.SimpleQueue[Answered] = queue.SimpleQueue()
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"acc": SPECS[name]})
    caller = Caller({"acc": (vendor, settings)}, inbox.put, lambda *_: True, Still(), metrics)
    caller.start()
    try:
        for _ in range(calls):
            granted = Granted("acc", (call(SPECS[name], desk.operation),), ((0, 1, "key", "t"),))
            caller.send(granted)
        answers = [inbox.get(timeout=20) for _ in range(calls)]
        assert SECRET not in repr(answers)
        assert STREAM not in repr(answers)
        yield desk, [outcome for answered in answers for outcome in answered.outcomes], registry
    finally:
        caller.stop(0)
        server.close()
    exposed = generate_latest(registry).decode()
    assert SECRET not in exposed


@pytest.fixture(autouse=True)
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No credential, no token and no stream name in any log line, a library's included."""
    with caplog.at_level(logging.DEBUG):
        yield
    for record in caplog.get_records("call"):
        written = logging.Formatter().format(record) + repr(vars(record))
        assert SECRET not in written
        assert STREAM not in written


def test_whoever_can_log_in_has_a_table_of_its_answers() -> None:
    able = {
        name
        for name in ON_THE_WIRE
        for login in logins(SPECS[name])
        if isinstance(made := adapter(name, "https://vendor.invalid", login), LogsIn)
        and made.login(NOW) is not None
    }
    assert set(LOGGING_IN) == able
    assert able


@pytest.mark.parametrize("name", LOGGING_IN)
def test_a_login_comes_first_once_and_every_call_carries_what_it_gave(name: str) -> None:
    table = Table(name)
    (success, *_) = table.login_rows()
    with asking(name, success, calls=12) as (desk, outcomes, registry):
        assert {said(outcome) for outcome in outcomes} == {table.success(desk.operation).outcome}
        assert desk.requests() == (1, 12)
        carried = f"{table.login['carries']}: {SECRET}".encode()
        for raw in desk.seen[1:]:
            assert carried in raw.lower().replace(SECRET.lower().encode(), SECRET.encode())
        labels = {"account": "acc", "operation": "login", "outcome": "done"}
        assert registry.get_sample_value("moderation_vendor_requests_total", labels) == 1


@pytest.mark.parametrize("name", LOGGING_IN)
def test_without_a_login_no_call_is_made(name: str) -> None:
    """Whatever the answer is: the call was not sent, and that is what is said of it."""
    for row in [*Table(name).login_rows()[1:], *ODD]:
        with asking(name, row, calls=3) as (desk, outcomes, _):
            assert [said(outcome) for outcome in outcomes] == [row.outcome] * 3, row.name
            assert all(outcome.detail for outcome in outcomes), row.name
            assert desk.requests() == (1, 0), row.name


@pytest.mark.parametrize("name", LOGGING_IN)
def test_a_login_whose_answer_got_lost_is_no_call_that_may_have_happened(name: str) -> None:
    with asking(name, None) as (desk, outcomes, _):
        assert isinstance(outcomes[0], Unreachable)
        assert desk.requests() == (1, 0)
