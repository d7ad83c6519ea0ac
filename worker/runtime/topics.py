"""The five topics: made, described and checked.

What a broker cannot be asked (the embedded one has no configurations, and makes its topics itself) is not
held against it; what it does answer must be right.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from worker.runtime import kafka_client
from worker.settings import KafkaSettings

DEAD_LETTER_ROOM = 64 * 1024
"""How much larger than a verdict its dead letter may be: the headers that say why and from where."""

DEFAULT_MAX_MESSAGE = 1_048_588
"""Kafka's default ``max.message.bytes``."""

KNOWN_WITHIN_S = 10.0
"""How long a broker may take to know of a topic that it has made."""

_COMPACTED: Mapping[str, str] = {
    "cleanup.policy": "compact",
    # Restores read the whole partition: compact often, in segments small enough to be compacted soon.
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(64 * 1024 * 1024),
    # Longer than any restore, or a reader could miss that a stream was deleted.
    "delete.retention.ms": str(24 * 3600 * 1000),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """What a broker says about one topic. ``config`` None: it cannot be asked."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] | None


def create(settings: KafkaSettings) -> dict[str, bool]:
    """Make the topics that are missing. Returns, by name, whether it was made now. Raises KafkaError."""
    admin = kafka_client.admin_client(settings)
    try:
        present = _describe(admin, settings)
        made = {}
        for name, wanted in _wanted(settings, present.get(settings.topics.verdicts)).items():
            made[name] = name not in present and _create(admin, name, wanted)
        _wait_until_known(admin, settings, made)
        return made
    finally:
        admin.close()


def _wait_until_known(admin: Any, settings: KafkaSettings, names: Iterable[str]) -> None:
    """Wait until the broker tells of topics it has just made: it says so before its metadata does."""
    until = time.monotonic() + KNOWN_WITHIN_S
    while not set(names) <= set(_describe(admin, settings)) and time.monotonic() < until:
        time.sleep(0.1)


def enlarge(settings: KafkaSettings, name: str, partitions: int) -> None:
    """Give a topic more partitions, and wait until the brokers tell of them. Raises KafkaError."""
    admin = kafka_client.admin_client(settings)
    try:
        admin.create_partitions({name: partitions})
        until = time.monotonic() + KNOWN_WITHIN_S
        while _describe(admin, settings)[name].partitions < partitions and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        admin.close()


def describe(settings: KafkaSettings) -> dict[str, Topic]:
    """Return those of the five topics that exist, by name. Raises KafkaError."""
    admin = kafka_client.admin_client(settings)
    try:
        return _describe(admin, settings)
    finally:
        admin.close()


def check(settings: KafkaSettings) -> list[str]:
    """Return what keeps the worker from running on these topics, one sentence each. Raises KafkaError."""
    return problems(settings, describe(settings))


def problems(settings: KafkaSettings, present: Mapping[str, Topic]) -> list[str]:
    """Return what is wrong with topics as described."""
    names = settings.topics
    found = [
        f"topic {name} is missing: make it with `moderation-worker topics create`"
        for name in (names.verdicts, names.results, names.state, names.dead_letters, names.control)
        if name not in present
    ]
    verdicts, state = present.get(names.verdicts), present.get(names.state)
    found += [
        partitions_differ(verdicts.name, verdicts.partitions, other.name, other.partitions)
        for other in (state, present.get(names.results))
        if verdicts is not None and other is not None and other.partitions != verdicts.partitions
    ]
    for name in (names.state, names.control):
        topic = present.get(name)
        policy = None if topic is None or topic.config is None else topic.config.get("cleanup.policy")
        if policy is not None and policy != "compact":
            found.append(
                f"topic {name} has cleanup.policy={policy}: it must be compact, or states are lost with time"
            )
    return found


def partitions_differ(verdicts: str, partitions: int, other: str, others: int) -> str:
    """Say that two topics do not have the same number of partitions, and what to do."""
    if partitions > others:
        advice = "the verdict topic has grown; run `moderation-worker topics grow`, which moves the states"
    else:
        advice = "every stream has one home partition, so their numbers must be equal"
    return f"topic {verdicts} has {partitions} partitions but {other} has {others}: {advice}"


def partitions_moved(settings: KafkaSettings) -> str:
    """Return what to say when streams' states lie in other partitions than their records come to."""
    names = settings.topics
    return (
        f"topics {names.verdicts} and {names.state} have been enlarged, or kafka.partitioner was changed: "
        "streams' states lie in other partitions now; `moderation-worker topics grow` moves them"
    )


def _wanted(settings: KafkaSettings, verdicts: Topic | None) -> dict[str, dict[str, Any]]:
    """Return how each topic is to be made: the number of verdict partitions rules those beside it."""
    names = settings.topics
    partitions = settings.partitions if verdicts is None else verdicts.partitions
    config = {} if verdicts is None or verdicts.config is None else verdicts.config
    letter = int(config.get("max.message.bytes", DEFAULT_MAX_MESSAGE)) + DEAD_LETTER_ROOM

    def topic(number: int, configs: Mapping[str, str]) -> dict[str, Any]:
        return {
            "num_partitions": number,
            "replication_factor": settings.replication,
            "configs": dict(configs),
        }

    return {
        names.verdicts: topic(partitions, {}),
        names.results: topic(partitions, {}),
        names.state: topic(partitions, _COMPACTED),
        names.dead_letters: topic(partitions, {"max.message.bytes": str(letter)}),
        names.control: topic(1, _COMPACTED),
    }


def _create(admin: Any, name: str, wanted: Mapping[str, Any]) -> bool:
    try:
        admin.create_topics({name: dict(wanted)})
    except TopicAlreadyExistsError:
        return False  # another replica was faster
    return True


def _describe(admin: Any, settings: KafkaSettings) -> dict[str, Topic]:
    names = settings.topics
    wanted = [names.verdicts, names.results, names.state, names.dead_letters, names.control]
    found = [topic for topic in admin.describe_topics(wanted) if not _is_missing(topic)]
    configs = _configs(admin, [topic["name"] for topic in found])
    return {
        topic["name"]: Topic(
            topic["name"],
            len(topic["partitions"]),
            min((len(p["replica_nodes"]) for p in topic["partitions"]), default=0),
            configs.get(topic["name"]) or None,
        )
        for topic in found
    }


def _is_missing(topic: Mapping[str, Any]) -> bool:
    """Tell a topic that does not exist from one the brokers cannot speak of yet (raises KafkaError)."""
    error = for_code(topic["error_code"])
    if error is UnknownTopicOrPartitionError:
        return True
    if error is not NoError:
        raise error(topic["name"])
    return False


def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    try:
        answer = admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names], config_filter="all"
        )
    except KafkaError:
        return {}  # not offered, or not allowed
    return {
        name: {key: str(entry["value"]) for key, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }
