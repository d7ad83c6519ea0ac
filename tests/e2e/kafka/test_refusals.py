"""Brokers that take no dead letter, or none so large: its partition waits, the others go on, and it is said.

Kafka has no topic that is full by itself: a full disk ends the broker, a quota only slows it down. What
brokers do refuse is a record that is too large, and a user who may not write.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourceType,
)

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import answered
from tests.e2e.kafka.test_troubles import LOGIN
from tests.e2e.playing import verdict, wait_for
from tests.kafka.apache import USER, Broker
from worker.events.partition import home_partition
from worker.sandbox.stage import Incoming, Stage
from worker.sandbox.worker_process import WorkerProcess

pytestmark = pytest.mark.kafka

HASTY = (
    "from worker.runtime import journal; journal.REFUSED_S = 2.0; from worker.cli import main; exit(main())"
)
"""The worker, which tries a partition again after two seconds instead of thirty."""
ROOMS = {home_partition(f"hw/room-{n}".encode(), 4, "murmur2"): f"hw/room-{n}" for n in range(40)}
"""A stream in each partition."""


@contextmanager
def operator(broker: Broker) -> Iterator[Any]:
    with closing(KafkaAdminClient(bootstrap_servers=broker.plain)) as admin:
        yield admin


def limit(broker: Broker, topic: str, size: int) -> None:
    named = {"max.message.bytes": str(size)}
    with operator(broker) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])


def allow(broker: Broker, topic: str, operation: ACLOperation) -> None:
    where = ResourcePattern(ResourceType.TOPIC, topic)
    with operator(broker) as admin:
        admin.create_acls([ACL(f"User:{USER}", "*", operation, ACLPermissionType.ALLOW, where)])


def stands_still(worker: WorkerProcess, partition: int, *words: str) -> bool:
    """Whether readiness and the log say of one partition, and of no other, that it stands still, and why."""
    status, reasons = worker.get("/readyz")
    lines = [line for line in reasons.splitlines() if "stands still" in line]
    return (
        status == 503
        and len(lines) == 1
        and all(
            word in lines[0] and word in worker.log_text() for word in (f"partition {partition} ", *words)
        )
    )


def judge(theatre: Stage, name: str) -> None:
    theatre.produce(verdict(f"{name}-{p}", key, "violence") for p, key in ROOMS.items())


def test_a_dead_letter_that_the_brokers_refuse(stage: Callable[..., Stage], broker: Broker) -> None:
    client = {**LOGIN, "ssl_cafile": broker.cafile}
    theatre = stage(
        changes={
            "kafka": {"bootstrap_servers": [broker.secure], "client": client},
            "policy": {"verify": "off"},
        }
    )
    letters = theatre.kafka.topics["dead_letters"]
    allow(broker, letters, ACLOperation.DESCRIBE)  # and nothing else, then
    bad = [Incoming(b"bad", b"{" + b"x" * 5_000, (), 1), Incoming(b"bad", b"[]", (), 2)]
    config, log = theatre.configuration(), theatre.folder / "w1.log"
    with WorkerProcess(config, log, program=("-c", HASTY)) as worker:
        play.ready(worker)
        theatre.produce(bad[:1])
        wait_for(
            lambda: stands_still(worker, 1, letters, "TopicAuthorizationFailed", "allow this user"),
            30,
            "it is said",
        )
        judge(theatre, "first")
        wait_for(lambda: all(answered(theatre, f"first-{p}") for p in (0, 2, 3)), 30, "the others go on")
        assert not answered(theatre, "first-1")
        assert theatre.dead_letters() == []

        limit(broker, letters, 1_000)
        allow(broker, letters, ACLOperation.WRITE)
        wait_for(
            lambda: stands_still(worker, 1, letters, "raise its max.message.bytes"),
            30,
            "it is still too large",
        )
        theatre.produce(bad[1:])
        judge(theatre, "second")
        wait_for(lambda: all(answered(theatre, f"second-{p}") for p in (0, 2, 3)), 30, "the others go on")
        assert [letter.value for letter in theatre.dead_letters()] == [b"[]"]

        limit(broker, letters, 100_000)
        wait_for(lambda: worker.get("/readyz")[0] == 200, 30, "it goes on")
        wait_for(lambda: answered(theatre, "second-1"), 30, "what waited behind the letter is done")
        worker.terminate()
        assert worker.wait(30) == 0
        assert len(worker.log_text().splitlines()) < 400, "it does not flood the log"
        assert not play.complaints(worker)
    assert {letter.value for letter in theatre.dead_letters()} == {one.value for one in bad}
    for name in ("first", "second"):
        assert [len(answered(theatre, f"{name}-{p}")) for p in ROOMS] == [1] * 4
