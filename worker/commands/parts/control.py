"""The control topic for the commands: what operators have decided, and another decision of theirs."""

import json
from collections.abc import Mapping
from contextlib import suppress

from kafka.errors import KafkaError

from worker.commands import Failure
from worker.commands.parts.topic_reader import TopicReader
from worker.events.control import ACCOUNT, EVERYTHING, GUARD, TENANT, Scope, read
from worker.events.times import format_rfc3339
from worker.runtime import kafka_client
from worker.settings import KafkaSettings
from worker.words import Millis


def scopes(reader: TopicReader, settings: KafkaSettings) -> dict[str, Scope]:
    """Return the last record of each scope. Raises Failure and KafkaError as ``TopicReader`` does."""
    found: dict[str, Scope] = {}
    for record in reader.read(settings.topics.control):
        name = (record.key or b"").decode("utf-8", "replace")
        found.pop(name, None)
        with suppress(ValueError):  # no replica takes any notice of it either
            scope = read(record.key or b"", record.value) if record.value is not None else None
            if scope is not None:
                found[name] = scope
    return found


def scope_options(scope: str) -> tuple[str, ...]:
    """Return the options by which ``pause`` and ``resume`` name a scope."""
    for prefix, option in ((ACCOUNT, "--account"), (TENANT, "--tenant")):
        if scope.startswith(prefix):
            return option, scope.removeprefix(prefix)
    return ()


def in_words(scope: str) -> str:
    """Return a scope in words."""
    if scope == EVERYTHING:
        return "everything"
    for prefix, word in ((ACCOUNT, "account"), (TENANT, "tenant"), (GUARD, "guard")):
        if scope.startswith(prefix):
            return f"{word} {scope.removeprefix(prefix)}"
    return scope


def record(by: str, reason: str | None, at: Millis, **more: str) -> bytes:
    """Return the value of a record."""
    return json.dumps(
        {**more, "by": by, "reason": reason, "at": format_rfc3339(at)}, ensure_ascii=False
    ).encode()


def decide(settings: KafkaSettings, records: Mapping[str, bytes | None]) -> None:
    """Write records, by scope, and wait until the brokers have them. None ends a scope.

    Raises Failure where one was not acknowledged, and KafkaError.
    """
    producer = kafka_client.plain_producer(settings)
    try:
        topic = settings.topics.control
        futures = {scope: producer.send(topic, value, scope.encode()) for scope, value in records.items()}
        with suppress(KafkaError):  # each future tells for itself
            producer.flush(timeout=kafka_client.FLUSH_S)
        failed = [
            f"{in_words(scope)}: not acknowledged ({type(future.exception).__name__}); it may have arrived"
            for scope, future in futures.items()
            if not future.succeeded()
        ]
    finally:
        kafka_client.bury(producer)
    if failed:
        raise Failure(failed)
