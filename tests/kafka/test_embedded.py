"""The same log on the embedded broker, which has no transactions: at least once."""

from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from typing import Any

import pytest

from tests.kafka.member import Member, check_order, produce, results, settings_for, wait_for
from worker.runtime import topics
from worker.sandbox.broker import EmbeddedBroker
from worker.settings import KafkaSettings

pytestmark = pytest.mark.sandbox

CLIENT = {"api_version": (2, 3), "fetch_max_wait_ms": 50, "heartbeat_interval_ms": 500}


@pytest.fixture
def embedded() -> Iterator[KafkaSettings]:
    settings = settings_for([], delivery="at_least_once", client=CLIENT)
    with EmbeddedBroker(dict.fromkeys(astuple(settings.topics), 4)) as broker:
        yield replace(settings, bootstrap_servers=(broker.bootstrap_servers,), session_timeout=3000)


@pytest.fixture
def join(embedded: KafkaSettings) -> Iterator[Callable[..., Member]]:
    members: list[Member] = []

    def start(instance: str = "a", **changes: Any) -> Member:
        members.append(Member(embedded, instance, **changes))
        return members[-1]

    yield start
    for member in members:
        member.stop()
        check_order(member.heard)


def test_its_topics_are_good_enough(embedded: KafkaSettings) -> None:
    assert topics.check(embedded) == []


def test_verdicts_get_their_results_and_a_restart_goes_on_where_it_was(
    embedded: KafkaSettings, join: Callable[..., Member]
) -> None:
    sent = [(f"s{n % 20}", f"v{n}") for n in range(200)]
    produce(embedded, sent[:100])
    first = join()
    wait_for(lambda: len(first.seen()) == 100 and first.idle())
    assert first.ready()
    first.stop()
    produce(embedded, sent[100:])
    second = join()
    wait_for(lambda: len(second.seen()) == 200 and second.idle())
    assert sorted(results(embedded)) == sorted(verdict for _, verdict in sent)
    assert first.resets == second.resets == []


def test_partitions_are_shared_out(embedded: KafkaSettings, join: Callable[..., Member]) -> None:
    produce(embedded, [(f"s{n % 20}", f"v{n}") for n in range(100)])
    a = join("a")
    wait_for(lambda: len(a.seen()) == 100 and a.idle())
    b = join("b")
    wait_for(lambda: a.log.held() == b.log.held() == 2)
    produce(embedded, [(f"s{n % 20}", f"v{n}") for n in range(100, 200)])
    wait_for(lambda: len(a.seen() | b.seen()) == 200 and a.idle() and b.idle())
    assert set(results(embedded)) == {f"v{n}" for n in range(200)}
