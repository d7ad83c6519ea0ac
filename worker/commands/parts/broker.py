"""What the commands ask of Kafka: topics, and events to the home partition of their stream, acknowledged."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from kafka.errors import KafkaError

from worker.commands import Failure, Refusal
from worker.commands.parts.files import Found
from worker.commands.parts.tables import table
from worker.events.codec import Invalid, decode
from worker.events.incoming import Command, Event, StreamEvent, Verdict
from worker.events.partition import home_partition
from worker.events.times import format_rfc3339
from worker.runtime import kafka_client, preflight, topics
from worker.settings import KafkaSettings
from worker.words import CommandName, Millis


@contextmanager
def brokers(settings: KafkaSettings) -> Iterator[None]:
    """Turn what the Kafka client raises into a Failure that says where a connection fails."""
    try:
        yield
    except KafkaError as error:
        raise Failure(preflight.examine(settings) or [f"Kafka: {type(error).__name__}: {error}"]) from None


def make_topics(settings: KafkaSettings) -> str:
    """Make the topics that are missing, and return a line about each of the five."""
    with brokers(settings):
        made = topics.create(settings)
    return table([(name, "made" if new else "was there") for name, new in made.items()])


def describe_topics(settings: KafkaSettings) -> tuple[str, list[str]]:
    """Return a table of what the brokers say about the topics, and what is wrong with them."""
    with brokers(settings):
        present = topics.describe(settings)
    names = settings.topics
    wanted = (names.verdicts, names.results, names.state, names.dead_letters, names.control)
    rows = [(name, *_topic(present.get(name))) for name in wanted]
    return table(rows), topics.problems(settings, present)


def _topic(topic: topics.Topic | None) -> tuple[str, str, str]:
    if topic is None:
        return "missing", "", ""
    policy = (topic.config or {}).get("cleanup.policy", "")
    return f"{topic.partitions} partitions", f"{topic.replication} replicas", policy


def check(settings: KafkaSettings) -> list[str]:
    """Return what keeps the worker from the brokers, or from running on its topics."""
    found = preflight.examine(settings)
    if found:
        return found
    with brokers(settings):
        return topics.check(settings)


def command(
    name: CommandName,
    stream_key: str,
    holds: Sequence[str],
    by: str,
    reason: str | None,
    now: Millis,
    until: Millis | None = None,
) -> Found:
    """Return a command as an event to be published. Raises Refusal where the contract does not allow it."""
    data = {
        "command_id": f"c-{uuid4()}",
        "command": name,
        "stream": {"key": stream_key},
        "holds": list(holds) or None,
        "by": by,
        "reason": reason,
        "issued_at": format_rfc3339(now),
    }
    if until is not None:
        data["until"] = format_rfc3339(until)
    value = json.dumps(data, ensure_ascii=False).encode()
    decoded = decode(None, value, (), now)
    if isinstance(decoded, Invalid):
        raise Refusal([f"{name}: {decoded.detail}"])
    return Found(name, decoded.event, value, ())


def publish(settings: KafkaSettings, events: Sequence[Found]) -> list[str]:
    """Send events, wait until the brokers have them, and return a line about each.

    Raises Failure where the brokers or the topic are away, and where not every event was acknowledged.
    """
    topic = settings.topics.verdicts
    with brokers(settings):
        found = topics.describe(settings).get(topic)
        if found is None:
            raise Failure([f"topic {topic} is missing: make it with `moderation-worker topics create`"])
        producer = kafka_client.plain_producer(settings)
        try:
            futures = [
                producer.send(
                    topic,
                    key=(key := one.event.stream.key.encode()),
                    value=one.value,
                    headers=list(one.headers),
                    partition=home_partition(key, found.partitions, settings.partitioner),
                )
                for one in events
            ]
            with suppress(KafkaError):  # each future tells for itself
                producer.flush(timeout=kafka_client.FLUSH_S)
            lines = [_became(one.event, future) for one, future in zip(events, futures, strict=True)]
            if not all(future.succeeded() for future in futures):
                raise Failure(lines)
        finally:
            kafka_client.bury(producer)
    return lines


def _became(event: Event, future: Any) -> str:
    if not future.succeeded():
        return f"{_name(event)}: not acknowledged ({type(future.exception).__name__}); it may have arrived"
    record = future.value
    return f"{_name(event)}: sent to {record.topic}, partition {record.partition}, offset {record.offset}"


def _name(event: Event) -> str:
    match event:
        case Verdict():
            return f"verdict {event.verdict_id}"
        case Command():
            return f"{event.command} {event.command_id}"
        case StreamEvent():
            return f"stream event {event.stream_event}"
