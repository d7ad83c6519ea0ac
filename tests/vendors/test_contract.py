"""Every vendor, every operation, every kind of answer: over real sockets, and on into the machine."""

import logging
import queue
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.core.machine import SECOND, Machine
from tests.runtime.test_caller import Server, free_port, read_request
from tests.vendors.contract import (
    APP,
    NOW,
    SECRET,
    STREAM,
    Row,
    Table,
    adapter,
    call,
    everywhere,
    in_process,
    logins,
    said,
)
from worker.core.context import AccountView
from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
)
from worker.core.stream import Woke
from worker.runtime.caller import Caller
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings
from worker.vendors import load_spec, vendor_names
from worker.vendors.base import Account, Lists, LoggedIn, LogsIn, Page, Response, VendorSpec
from worker.words import READS, Call, Millis, Purpose

SPECS = {name: load_spec(name) for name in vendor_names()}
ON_THE_WIRE = [name for name, spec in SPECS.items() if not in_process(spec)]
WIRED = [(name, operation) for name in ON_THE_WIRE for operation in SPECS[name].operations]
SERVED = [
    (name, operation.name, purpose)
    for name, spec in SPECS.items()
    for operation in spec.operations.values()
    for purpose in operation.serves
]
QUICK: Millis = 150
"""The deadline, in milliseconds, of the account that waits for nobody."""

Behaviour = Callable[[socket.socket], None]


class Still:
    """A clock that stands: what is signed and what is read depends on nothing else."""

    def now(self) -> Millis:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class Rig:
    """One vendor's accounts at a server that does what it is told, at one with TLS, and at none."""

    def __init__(self, name: str, server: Server, secure: Server) -> None:
        self.spec = SPECS[name]
        self.inbox: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        here = f"http://127.0.0.1:{server.port}"
        places = {
            "here": (here, 10_000),
            "quick": (here, QUICK),
            "closed": (f"http://127.0.0.1:{free_port()}", 10_000),
            "nowhere": ("http://vendor.invalid", QUICK),
            "distrusted": (f"https://localhost:{secure.port}", 10_000),
        }
        accounts = {
            place: (
                adapter(name, endpoint),
                AccountSettings(
                    Account("acc", name, {}, endpoint),
                    {},
                    timeout=timeout,
                    concurrency=1,
                    allow_insecure=True,
                ),
            )
            for place, (endpoint, timeout) in places.items()
        }
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, dict.fromkeys(places, self.spec))
        self.caller = Caller(accounts, self.inbox.put, lambda *_: True, Still(), metrics)
        self.caller.start()

    def ask(self, operation: str, place: str = "here") -> Outcome:
        granted = Granted(place, (call(self.spec, operation),), ((0, 1, "key", "t"),))
        self.caller.send(granted)
        answered = self.inbox.get(timeout=20)
        assert SECRET not in repr(answered)
        assert STREAM not in repr(answered)
        (outcome,) = answered.outcomes
        return outcome


class World:
    """Two servers and the vendors' rigs. ``behaviour`` is what the server does after each request."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.behaviour: Behaviour = lambda _: None
        self.requests = 0
        self.seen_in_plain = threading.Event()
        self.server = Server(self._serve)
        self.secure = Server(self._distrusted, tls)
        self.rigs: dict[str, Rig] = {}

    def _serve(self, connection: socket.socket) -> None:
        while read_request(connection):
            self.requests += 1
            self.behaviour(connection)

    def _distrusted(self, connection: socket.socket) -> None:
        if read_request(connection):
            self.seen_in_plain.set()

    def rig(self, name: str) -> Rig:
        if name not in self.rigs:
            self.rigs[name] = Rig(name, self.server, self.secure)
        return self.rigs[name]

    def close(self) -> None:
        for rig in self.rigs.values():
            rig.caller.stop(0)
            assert not rig.caller.alive
            exposed = generate_latest(rig.registry).decode()
            assert SECRET not in exposed
            assert STREAM not in exposed
        self.server.close()
        self.secure.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)  # noqa: S603 - our own words
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    made = World(tls)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No credential and no stream name in any log line, a library's and exceptions included."""
    with caplog.at_level(logging.DEBUG):
        yield
    for record in caplog.get_records("call"):
        written = logging.Formatter().format(record) + repr(vars(record))
        assert SECRET not in written
        assert STREAM not in written


# What a table has to say


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_every_vendor_has_a_table_of_every_operation(name: str) -> None:
    for operation in SPECS[name].operations:
        assert Table(name).success(operation).outcome in {"done", "observed"}


def test_a_vendor_without_a_table_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r'vendor "newcomer" has no table .*newcomer/contract\.toml'):
        Table("newcomer", tmp_path)


# What an answer means


def wrong(world: World, name: str, operation: str, rows: Iterator[Row]) -> list[str]:
    """Return where an answer did not mean what its row says, or was asked for more than once."""
    found = []
    for row in rows:
        world.behaviour = saying(row.on_the_wire())
        before = world.requests
        outcome = world.rig(name).ask(operation)
        if said(outcome) != row.outcome:
            found.append(f"{row.name}: {said(outcome)}, expected {row.outcome}")
        if row.says not in outcome.detail:
            found.append(f"{row.name}: {outcome.detail!r} does not name the {row.says}")
        if isinstance(outcome, Observed) and outcome.facts != row.facts:
            found.append(f"{row.name}: {outcome.facts}, expected {row.facts}")
        if row.never and row.never in outcome.detail:
            found.append(f"{row.name}: {outcome.detail!r} says more than is known")
        if isinstance(outcome, Refused | Throttled | Unreachable | Unknown) and not outcome.detail:
            found.append(f"{row.name}: no sentence")
        if world.requests != before + 1:
            found.append(f"{row.name}: {world.requests - before} requests")
    return found


@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_an_answer_means_what_the_vendors_table_says(world: World, name: str, operation: str) -> None:
    assert not wrong(world, name, operation, Table(name).rows(operation))


@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_no_vendor_differs_in_these(world: World, name: str, operation: str) -> None:
    """Odd bodies never count as success, and a redirect is not followed."""
    assert not wrong(world, name, operation, everywhere(Table(name).success(operation)))


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_what_is_written_down_shows_no_secret(name: str) -> None:
    spec = SPECS[name]
    for login in logins(spec):
        vendor = adapter(name, "https://vendor.invalid", login)
        if isinstance(vendor, LogsIn) and (first := vendor.login(NOW)) is not None:
            assert SECRET not in repr(first)
            (success, *_) = Table(name).login_rows()
            headers = {key.lower(): value for key, value in success.headers.items()}
            given = vendor.logged_in(Response(success.status, headers, success.body), NOW)
            assert SECRET not in repr(given)
            assert isinstance(given, LoggedIn)
            vendor = given.vendor
        for operation in spec.operations:
            asked = call(spec, operation)
            request = vendor.request(asked, NOW, "nonce")
            for thing in (vendor, asked, request, spec):
                assert SECRET not in repr(thing)
                assert STREAM not in repr(thing)
            assert SECRET.encode() not in request.content
            assert SECRET not in request.url


LISTED = [
    (name, operation)
    for name in ON_THE_WIRE
    if isinstance(made := adapter(name, "https://vendor.invalid"), Lists)
    for operation in made.whole_lists
]


@pytest.mark.parametrize(("name", "operation"), LISTED)
def test_a_whole_list_is_read_or_refused_as_one_entry_is(name: str, operation: str) -> None:
    """What an answer means hangs on its code and its form, not on what was asked for in the list."""
    vendor, table = adapter(name, "https://vendor.invalid"), Table(name)
    assert isinstance(vendor, Lists)
    asked = call(SPECS[name], operation)
    assert vendor.list_all(asked, NOW, "n").method == vendor.request(asked, NOW, "n").method
    for row in [*table.rows(operation), *everywhere(table.success(operation))]:
        if row.name == "too long":
            continue  # the caller's own limit
        headers = {key.lower(): value for key, value in row.headers.items()}
        found = vendor.read_all(asked, Response(row.status, headers, row.body), NOW)
        assert SECRET not in repr(found)
        assert STREAM not in repr(found)
        if row.facts is None and row.outcome != "next page":
            assert not isinstance(found, Page), row.name
            assert said(found) == row.outcome, row.name
        else:
            assert isinstance(found, Page), row.name
    success = table.success(operation)
    found = vendor.read_all(asked, Response(success.status, {}, success.body), NOW)
    assert isinstance(found, Page)
    assert [entry.name for entry in found.entries] == [f"{APP}/{STREAM}"]
    assert found.cursor is None


def test_no_whole_list_is_asked_for_without_its_domain() -> None:
    for name, operation in LISTED:
        vendor, asked = adapter(name, "https://vendor.invalid"), call(SPECS[name], operation)
        assert isinstance(vendor, Lists)
        nowhere = replace(asked, target=replace(asked.target, push_domain=None, play_domain=None))
        with pytest.raises(ValueError, match="domain"):
            vendor.list_all(nowhere, NOW, "n")


ODD_CALLS: Mapping[str, Callable[[Call], Call]] = {
    "no domain": lambda asked: replace(
        asked, target=replace(asked.target, push_domain=None, play_domain=None)
    ),
    "every stream": lambda asked: replace(asked, target=replace(asked.target, stream="*")),
    "every application": lambda asked: replace(asked, target=replace(asked.target, app="*")),
    "too long": lambda asked: replace(asked, target=replace(asked.target, stream=STREAM * 99)),
    "cut short": lambda asked: replace(asked, target=replace(asked.target, stream=f"{STREAM}?{SECRET}#")),
    "no text": lambda asked: replace(asked, target=replace(asked.target, stream=f"{STREAM}\ud800")),
    "past": lambda asked: replace(asked, until=NOW - 1),
    "of nowhere": lambda asked: replace(asked, regions=()),
}


@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_an_odd_call_is_refused_without_a_name(name: str, operation: str) -> None:
    """It becomes a request, or a ValueError in our own words; nothing else may be raised."""
    vendor, asked = adapter(name, "https://vendor.invalid"), call(SPECS[name], operation)
    refused = set()
    for odd, made in ODD_CALLS.items():
        try:
            written = repr(vendor.request(made(asked), NOW, "nonce"))
        except ValueError as refusal:
            written = str(refusal)
            refused.add(odd)
        assert SECRET not in written
        assert STREAM not in written
    assert ("no domain" in refused) == bool(SPECS[name].operations[operation].needs)


# What happens on the way


def saying(answer: bytes) -> Behaviour:
    return lambda connection: connection.sendall(answer)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_halfway(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    reset(connection)


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def say_nothing(connection: socket.socket) -> None:
    connection.recv(1)


def half_an_answer(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.recv(1)


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"220 smtp.example ESMTP\r\n")
    connection.close()


@pytest.mark.parametrize(
    ("behaviour", "place"),
    [
        (reset, "here"),
        (reset_halfway, "here"),
        (hang_up, "here"),
        (no_http, "here"),
        (say_nothing, "quick"),
        (half_an_answer, "quick"),
    ],
)
@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_what_left_may_have_happened(
    world: World, name: str, operation: str, behaviour: Behaviour, place: str
) -> None:
    world.behaviour = behaviour
    before = world.requests
    outcome = world.rig(name).ask(operation, place)
    assert isinstance(outcome, Unknown)
    assert outcome.detail
    assert world.requests == before + 1


@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_what_never_left_has_not_happened(
    world: World, name: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, before, let_go = world.rig(name), world.requests, threading.Event()

    def unknown_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    def slow_name(*_: object, **__: object) -> None:
        let_go.wait(5)
        unknown_name()

    outcomes = [rig.ask(operation, "closed"), rig.ask(operation, "distrusted")]
    for look_up in (unknown_name, slow_name):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", look_up)
            outcomes.append(rig.ask(operation, "nowhere"))
    let_go.set()
    refused, distrusted, nameless, late = outcomes
    assert all(isinstance(outcome, Unreachable) for outcome in outcomes)
    assert "refused" in refused.detail
    assert "certificate" in distrusted.detail
    assert "name" in nameless.detail
    assert f"{QUICK} ms" in late.detail
    assert world.requests == before
    assert not world.seen_in_plain.is_set()


@pytest.mark.parametrize("name", [name for name in SPECS if name not in ON_THE_WIRE])
def test_a_vendor_in_the_process_answers_in_kind(name: str, world: World) -> None:
    rig = world.rig(name)
    for operation in SPECS[name].operations.values():
        outcome = rig.ask(operation.name)
        read = operation.serves[0] in READS
        assert isinstance(outcome, Observed if read else Done | AlreadySo | NotThere)


# What the machine does next

OUTCOMES: Mapping[str, Outcome] = {
    "done": Done(),
    "already": AlreadySo(),
    "absent": NotThere(),
    "absent perhaps": NotThere(sure=False),
    "refused auth": Refused("auth"),
    "refused config": Refused("config"),
    "refused invalid": Refused("invalid"),
    "refused internal": Refused("internal"),
    "refused not_found": Refused("not_found"),
    "refused quota": Refused("quota"),
    "refused unsupported": Refused("unsupported"),
    "refused vendor": Refused("vendor"),
    "throttled": Throttled(),
    "throttled 7000": Throttled(7_000),
    "unreachable": Unreachable(),
    "unknown": Unknown(),
    "observed": Observed(Facts(forbidden=False, live=False, regions=())),
    "next page": NextPage("2"),
}

WHERE_NOTHING_IS: Mapping[Purpose, list[str]] = {
    "cut": ["no_action"],
    "forbid": ["failed"],
    "block_regions": ["failed"],
    "move_end": [],
    "lift": ["released"],
    "unblock_regions": ["released"],
    "read_forbid": [],
    "read_regions": [],
    "read_live": ["observed"],
}
"""What is told where a vendor says that it has nothing to act on."""

OPENING: Mapping[Purpose, tuple[str, dict[str, object]]] = {
    "cut": ("spam", {}),
    "forbid": ("nudity", {}),
    "move_end": ("nudity", {}),
    "lift": ("nudity", {}),
    "block_regions": ("gambling", {"regions": ["CN"]}),
    "unblock_regions": ("gambling", {"regions": ["CN"]}),
    "read_forbid": ("odd", {}),
    "read_regions": ("odd", {}),
    "read_live": ("odd", {}),
}
"""The category of a verdict that leads to a call of that purpose, and what else it says."""


def brought_to(spec: VendorSpec, purpose: Purpose) -> tuple[Machine, Call]:
    """Return a machine with one call of a purpose under way at this vendor."""
    machine = Machine({"hw": AccountView.of(spec)})
    category, fields = OPENING[purpose]
    machine.verdict(category, **fields)
    if purpose in ("move_end", "lift", "unblock_regions"):
        machine.run()
        if purpose == "move_end":
            machine.command("extend", until="2030-01-01T00:00:00Z")
        else:
            machine.command("release", holds=None, reason="appeal")
    for _ in range(5):
        (made,) = machine.grant()
        if made.purpose == purpose:
            return machine, made
        machine.answered(made, Observed(Facts()))
    raise AssertionError(f"no call of {purpose} came about")


def expected(name: str, operation: str, purpose: Purpose) -> list[str]:
    """Return the outcomes that can come of an operation: by the vendor's table, and from the way."""
    read = purpose in READS
    possible = {"observed", "next page"} if read else {"done", "already", "absent"}
    if name in ON_THE_WIRE:
        table = Table(name)
        rows = [*table.rows(operation), *everywhere(table.success(operation))]
        possible = {row.outcome for row in rows}
    waits = {word for word in possible if word.startswith("throttled ")}
    return sorted(possible - waits | {"throttled 7000", "unreachable", "unknown"})


@pytest.mark.parametrize(("name", "operation", "purpose"), SERVED)
def test_the_machine_does_the_right_thing_next(name: str, operation: str, purpose: Purpose) -> None:
    for word in expected(name, operation, purpose):
        machine, made = brought_to(SPECS[name], purpose)
        assert made.operation == operation
        given = OUTCOMES[word]
        before = len(machine.results)
        machine.answered(made, given, jitter=0.0)
        after_it(machine, made, given, before)


def after_it(machine: Machine, made: Call, given: Outcome, before: int) -> None:
    """Check what a machine wants and tells after an answer."""
    told = [result.outcome for result in machine.results[before:]]
    wants = machine.needs().get("hw")
    serves = machine.accounts["hw"].serves
    match given:
        case Unknown() | NotThere(sure=False) if made.purpose == "cut" and "read_live" in serves:
            machine.now += SECOND
            assert (told, machine.needs()["hw"]) == ([], "read_live"), "asked before it is repeated"
        case Unknown() if made.purpose == "move_end":
            machine.now += SECOND
            assert (told, machine.needs()["hw"]) == ([], "forbid"), "which ban there is, is in doubt"
        case Unknown() if made.purpose == "cut":
            assert (told, errors(machine), wants) == (["failed"], ["ambiguous"], None)
        case Throttled(retry_after=wait):
            again(machine, made, told, wait or 0)
        case Unreachable() | Unknown():
            again(machine, made, told, 0)
        case Refused(error="auth"):
            assert told == [], "nothing is given up for a login that may be mended"
            stopped(machine, made)
        case Refused(error=error):
            assert (told, errors(machine)) == (["failed"], [error])
            assert wants != made.purpose
        case AlreadySo() if made.purpose == "forbid" and "read_forbid" in serves:
            assert (told, wants) == ([], "read_forbid"), "whose ban, and until when, is asked"
        case AlreadySo() if made.purpose == "move_end":
            assert (told, wants) == ([], "lift"), "an end that does not move is set anew"
        case AlreadySo() | Done():
            assert told[-1:] in (["applied"], ["already"], ["released"])
            assert wants != made.purpose
        case NotThere():
            assert told == WHERE_NOTHING_IS[made.purpose]
        case NextPage(cursor=cursor):
            (following,) = machine.grant()
            assert (following.purpose, following.cursor) == (made.purpose, cursor)
        case Observed():
            assert "failed" not in told
            assert wants != made.purpose


def errors(machine: Machine) -> list[str]:
    """Return the classes of all that failed."""
    return [result.error.kind for result in machine.results if result.error is not None]


def again(machine: Machine, made: Call, told: Sequence[str], wait: Millis) -> None:
    """Check that the same is wanted again, and not before the vendor's own wait is over."""
    assert told == []
    machine.now += wait
    assert machine.needs() == {}
    machine.now += SECOND
    assert machine.needs()["hw"] == made.purpose


def stopped(machine: Machine, made: Call) -> None:
    """Check that a stopped account keeps its demands, and takes them up where it goes on."""
    machine.ctx = replace(machine.ctx, stopped=frozenset({"hw"}))
    told = machine.do(Woke()).results
    if made.purpose in ("cut", "forbid", "block_regions"):
        assert [(result.outcome, result.reason) for result in told] == [("held", "account")]
    machine.ctx = replace(machine.ctx, stopped=frozenset())
    machine.do(Woke())
    machine.now += SECOND
    assert machine.needs()["hw"] == made.purpose
