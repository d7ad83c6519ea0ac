"""What the tests against Apache Kafka share: settings of their own, and a member of a group."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kafka.apache import Broker
from tests.kafka.member import Member, check_order, settings_for
from worker.runtime import topics
from worker.settings import KafkaSettings


@pytest.fixture
def settings(broker: Broker) -> KafkaSettings:
    made = settings_for([broker.plain])
    topics.create(made)
    return made


@pytest.fixture
def join(settings: KafkaSettings) -> Iterator[Callable[..., Member]]:
    """Start members of the test's group; all of them are stopped at its end."""
    members: list[Member] = []

    def start(instance: str = "a", **changes: Any) -> Member:
        member = Member(settings, instance, **changes)
        members.append(member)
        return member

    yield start
    for member in members:
        member.stop()
        check_order(member.heard)
