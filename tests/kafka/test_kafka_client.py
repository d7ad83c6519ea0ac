"""Each repair of kafka-python, and a test that fails when the library moves under it."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.errors import FencedInstanceIdError, KafkaConnectionError, KafkaError, RebalanceInProgressError
from kafka.net.inet import KafkaNetSocket

from tests.kafka.member import Member, produce, results, wait_for
from worker.runtime import kafka_client
from worker.settings import KafkaSettings


def silent_server() -> socket.socket:
    """Return a listener that accepts connections (by its backlog) and never answers."""
    return socket.create_server(("127.0.0.1", 0))


def settings_at(server: socket.socket, **client: Any) -> KafkaSettings:
    return KafkaSettings((f"127.0.0.1:{server.getsockname()[1]}",), "group", "a", client=client)


def test_a_refusing_coordinator_is_waited_for() -> None:
    def refuse(_node: int, _timeout_ms: int) -> bool:
        raise KafkaConnectionError("refused")

    client = SimpleNamespace(await_ready=refuse)
    kafka_client._survive_refusals(SimpleNamespace(_sender=SimpleNamespace(_client=client)))
    assert client.await_ready(1) is False
    client = SimpleNamespace(await_ready=lambda _node, timeout_ms: timeout_ms)
    kafka_client._survive_refusals(SimpleNamespace(_sender=SimpleNamespace(_client=client)))
    assert client.await_ready(1, timeout_ms=15_000) is True


@pytest.mark.parametrize(
    ("answer", "heard", "fenced"),
    [
        (None, True, False),
        (RebalanceInProgressError(), True, False),
        (FencedInstanceIdError(), False, True),
        (KafkaConnectionError(), False, False),
    ],
)
def test_only_an_answered_heartbeat_counts_and_from_when_it_was_sent(
    answer: KafkaError | None, heard: bool, fenced: bool
) -> None:
    times: list[float] = []
    told: list[int] = []
    clock = iter([100.0, 160.0])

    async def send() -> None:
        next(clock)  # frozen for a minute between request and answer
        if answer is not None:
            raise answer

    coordinator = SimpleNamespace(_send_heartbeat_request=send)
    kafka_client._watch_heartbeats(
        SimpleNamespace(_coordinator=coordinator), times.append, lambda: told.append(1), lambda: next(clock)
    )
    try:
        asyncio.run(coordinator._send_heartbeat_request())
    except KafkaError as error:
        assert error is answer  # noqa: PT017 - the library wants it too
    assert times == ([100.0] if heard else [])
    assert bool(told) is fenced


@pytest.mark.parametrize(
    "broken",
    [
        lambda: kafka_client._survive_refusals(SimpleNamespace(_sender=SimpleNamespace())),
        lambda: kafka_client.bury(SimpleNamespace()),
        lambda: kafka_client.heartbeat_soon(SimpleNamespace(_coordinator=SimpleNamespace())),
        lambda: kafka_client._watch_heartbeats(SimpleNamespace(), print, print, time.monotonic),
    ],
)
def test_a_private_name_that_is_gone_is_named(broken: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match=r"kafka-python has changed: .* is gone"):
        broken()


def test_a_refused_connection_leaves_no_socket_behind() -> None:
    with silent_server() as server:
        where = server.getsockname()
    opened: list[socket.socket] = []

    class Counting(KafkaNetSocket):  # type: ignore[misc]  # kafka-python has no types
        SCHEMES = ()

        def socket(self, *kind: Any) -> socket.socket:
            opened.append(socket.socket(*kind))
            return opened[-1]

    class Net:
        async def wait_write(self, *_args: Any, **_named: Any) -> None:
            await asyncio.sleep(0)

    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", where)
    with pytest.raises(KafkaConnectionError):
        asyncio.run(Counting().connect(Net(), address))
    assert [sock.fileno() for sock in opened] == [-1]


@pytest.mark.parametrize(
    "build",
    [
        lambda s: kafka_client.restore_consumer(s, committed_only=True),
        kafka_client.transactional_producer,
        kafka_client.admin_client,
    ],
)
def test_a_client_that_cannot_bootstrap_leaves_no_thread_behind(
    build: Callable[[KafkaSettings], Any],
) -> None:
    before = set(threading.enumerate())
    with silent_server() as server, pytest.raises(KafkaError):
        build(settings_at(server, bootstrap_timeout_ms=200))
    wait_for(lambda: set(threading.enumerate()) <= before, 5)


def test_options_that_no_client_knows_or_that_are_ours_are_named() -> None:
    good = {"security_protocol": "SSL", "check_crcs": False, "api_version": [2, 3], "batch_size": 1}
    assert kafka_client.unknown_client_options(good) == []
    assert kafka_client.unknown_client_options({**good, "isolation_level": "x", "sasl_user": "x"}) == [
        "isolation_level",
        "sasl_user",
    ]


def test_user_options_reach_the_clients_that_know_them_but_never_replace_ours() -> None:
    settings = KafkaSettings(
        ("h:1",),
        "group",
        "a",
        client={"api_version": [2, 3], "check_crcs": False, "group_id": "x", "batch_size": 1},
    )
    options = kafka_client._options(KafkaConsumer, settings, {}, group_id="group")
    assert options["api_version"] == (2, 3)
    assert options["check_crcs"] is False
    assert options["group_id"] == "group"
    assert "batch_size" not in options
    assert options["bootstrap_servers"] == ["h:1"]


def record(name: str, level: int, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, level, "f", 1, message, args, None)


def test_the_client_says_the_same_thing_a_few_times_only() -> None:
    now = [0.0]
    limit = kafka_client.ClientLogFilter(burst=2, per_s=10, clock=lambda: now[0])
    passed = [limit.filter(record("kafka.coordinator", logging.WARNING, "dead %s", n)) for n in range(5)]
    assert passed == [True, True, False, False, False]
    assert limit.filter(record("kafka.coordinator", logging.WARNING, "another"))
    now[0] = 11
    last = record("kafka.coordinator", logging.WARNING, "dead %s", 9)
    assert limit.filter(last)
    assert last.getMessage() == "dead 9 (3 more like this were left out)"


def test_the_client_shows_no_keys_and_values_and_others_are_not_limited() -> None:
    limit = kafka_client.ClientLogFilter(burst=1)
    assert not limit.filter(record("kafka.producer", logging.DEBUG, "Sending %s", "key"))
    assert all(limit.filter(record("worker.runtime", logging.DEBUG, "x")) for _ in range(9))
    assert all(limit.filter(record("kafkaesque", logging.DEBUG, "x")) for _ in range(9))


@pytest.mark.kafka
def test_a_buried_producer_ends_even_with_records_it_could_not_send(settings: KafkaSettings) -> None:
    producer = kafka_client.transactional_producer(settings)
    sender = producer._sender
    producer.begin_transaction()
    producer.send(settings.topics.results, b"never committed", b"k")
    kafka_client.bury(producer)
    assert not sender.is_alive()
    assert producer._closed
    assert results(settings) == []


@pytest.mark.kafka
def test_a_new_member_has_its_lease_at_once(settings: KafkaSettings, join: Callable[..., Member]) -> None:
    produce(settings, [("s", "v")])
    member = join(session_timeout=60_000)  # a heartbeat every 10 s
    wait_for(member.log.owned)
    wait_for(member.log._ownership.lease_fresh, 3)
