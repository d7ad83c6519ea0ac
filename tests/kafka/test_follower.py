"""What the publish gate knows, from a real broker: committed bans, at once; and when it does not know."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.core.test_bans import state
from tests.kafka.apache import Broker
from tests.kafka.member import settings_for, wait_for
from worker.runtime import kafka_client, topics
from worker.runtime.follower import Follower
from worker.settings import KafkaSettings
from worker.words import Millis

pytestmark = pytest.mark.kafka

AWAY: Millis = 3_000


@contextmanager
def following(settings: KafkaSettings) -> Iterator[Follower]:
    follower = Follower(settings, ["edge"], AWAY)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop(timeout_s=15)
        assert not follower.alive()


@pytest.fixture
def producer(settings: KafkaSettings) -> Iterator[Any]:
    made = kafka_client.transactional_producer(settings)
    yield made
    kafka_client.bury(made)


def ban(producer: Any, settings: KafkaSettings, *streams: str, until: Millis | None = None) -> None:
    """Write states that forbid streams, each into a partition of its own, in the open transaction."""
    for number, stream in enumerate(streams):
        value = state(until, stream=stream)
        place = number % settings.partitions
        producer.send(settings.topics.state, key=stream.encode(), value=value, partition=place)
    producer.flush(10)


@contextmanager
def frozen(broker: Broker) -> Iterator[None]:
    """Let the broker answer nobody for a while, and keep every connection."""
    broker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        broker.signal(signal.SIGCONT)


def forbidden(follower: Follower, *streams: str) -> bool:
    bans = follower.bans()
    assert bans is not None, follower.reasons_not_known()
    return all(bans.forbidden(("edge", "live", stream), time.time_ns() // 1_000_000) for stream in streams)


def test_what_is_committed_is_known_and_nothing_else(settings: KafkaSettings, producer: Any) -> None:
    producer.begin_transaction()
    ban(producer, settings, "a", "b", "c", "d", "e")
    producer.commit_transaction()
    producer.begin_transaction()
    ban(producer, settings, "aborted")
    producer.abort_transaction()
    with following(settings) as follower:
        wait_for(follower.bans, what="it knows of bans")
        assert forbidden(follower, "a", "b", "c", "d", "e")
        assert not forbidden(follower, "aborted")

        producer.begin_transaction()
        ban(producer, settings, "late")
        producer.send(settings.topics.state, key=b"b", value=None, partition=1)
        producer.flush(10)
        assert not forbidden(follower, "late"), "it is not committed"
        producer.commit_transaction()
        wait_for(lambda: forbidden(follower, "late") and not forbidden(follower, "b"))
        assert forbidden(follower, "a")


def test_a_topic_that_is_missing_is_named_and_followed_once_it_is_there(broker: Broker) -> None:
    settings = settings_for([broker.plain])
    with following(settings) as follower:
        wait_for(lambda: "missing" in follower.reasons_not_known()[0])
        assert follower.bans() is None
        topics.create(settings)
        wait_for(lambda: follower.bans() is not None)
        assert follower.reasons_not_known() == []


def test_a_topic_made_anew_is_read_anew(
    settings: KafkaSettings, producer: Any, recreate: Callable[[KafkaSettings], None]
) -> None:
    producer.begin_transaction()
    ban(producer, settings, "a", "b", "c", "d")
    producer.commit_transaction()
    with following(settings) as follower:
        wait_for(lambda: follower.bans() and forbidden(follower, "a"))
        recreate(settings)
        wait_for(lambda: follower.bans() is not None and not forbidden(follower, "a"))


@pytest.fixture
def recreate() -> Callable[[KafkaSettings], None]:
    """Delete the state topic and make it again, empty."""

    def again(settings: KafkaSettings) -> None:
        admin = kafka_client.admin_client(settings)
        admin.delete_topics([settings.topics.state])
        wait_for(lambda: settings.topics.state not in admin.list_topics())
        admin.close()
        wait_for(lambda: topics.create(settings)[settings.topics.state])

    return again


def test_away_from_the_brokers_for_too_long_it_knows_that_it_knows_nothing(
    settings: KafkaSettings, producer: Any, broker: Broker
) -> None:
    producer.begin_transaction()
    ban(producer, settings, "a")
    producer.commit_transaction()
    with following(settings) as follower:
        wait_for(lambda: follower.bans() and forbidden(follower, "a"))
        with frozen(broker):
            wait_for(lambda: follower.bans() is None)
            assert follower.reasons_not_known() != []
        wait_for(lambda: follower.bans() and forbidden(follower, "a"))
        age_s = follower.age_s()
        assert age_s is not None
        assert age_s * 1000 <= AWAY


def test_a_state_of_another_version_stops_it_from_knowing(settings: KafkaSettings, producer: Any) -> None:
    with following(settings) as follower:
        wait_for(lambda: follower.bans() is not None)
        producer.begin_transaction()
        producer.send(settings.topics.state, key=b"a", value=b'{"account":"edge"}', partition=2)
        producer.commit_transaction()
        wait_for(lambda: follower.bans() is None)
        wait_for(lambda: "partition 2, offset 0 " in follower.reasons_not_known()[0])
        producer.begin_transaction()
        producer.send(settings.topics.state, key=b"a", value=None, partition=2)
        producer.commit_transaction()
        wait_for(lambda: follower.bans() is not None, what="the next state of that stream mends it")
