"""The thread that reads the control topic: to its end before this replica acts, and then as it grows.

Every replica reads all of it, in no group. The engine gets what the records come to as a whole, each time
that changes. While the topic cannot be read, what was heard last holds, and readiness says so: a pause
would not be heard.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from worker.core.control import Control, gather
from worker.events.control import Scope, read
from worker.runtime import kafka_client
from worker.runtime.messages import Controlled, Message
from worker.settings import KafkaSettings

log = logging.getLogger(__name__)

POLL_MS = 500
ASK_MS = 2_000
LOOK_EVERY_S = 5.0
"""How often the brokers are asked where the topic ends: nothing else tells that they are away."""
RETRY_S = 0.5


class ControlReader:
    """Reads the control topic. ``put`` hands the engine what it comes to, first at its end.

    ``let_go`` is called when an operator has let stopped partitions go on.
    """

    def __init__(
        self, settings: KafkaSettings, put: Callable[[Message], None], let_go: Callable[[], None]
    ) -> None:
        self._settings, self._put, self._let_go = settings, put, let_go
        self._topic = settings.topics.control
        self._scopes: dict[str, Scope] = {}
        self._told: Control | None = None
        self._trouble: tuple[str, ...] = (f"topic {self._topic} has not been read yet",)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Return whether the thread lives, or is not started yet."""
        return self._thread.ident is None or self._thread.is_alive()

    def troubles(self) -> list[str]:
        """Return why what operators decide may not be heard; empty if it is."""
        return list(self._trouble)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it was, operators must be heard again
                # The type only: the text of an unforeseen error could show what was read.
                text = str(error) if isinstance(error, KafkaError) else type(error).__name__
                log.warning("reading the control topic failed (%s); starting over", text)
                self._trouble = (f"topic {self._topic} cannot be read: a pause would not be heard",)
                self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        """Read the topic from its start and follow it, until that calls for a new start."""
        # Not only what is committed: a transaction that hangs must not keep a pause from being heard.
        consumer = kafka_client.reading_consumer(self._settings, committed_only=False, wait=POLL_MS)
        try:
            partitions = self._partitions(consumer)
            if not partitions:
                self._stopping.wait(RETRY_S)
                return
            ends = consumer.end_offsets(partitions, timeout_ms=ASK_MS)
            starts = consumer.beginning_offsets(partitions, timeout_ms=ASK_MS)
            consumer.assign(partitions)
            for tp in partitions:
                consumer.seek(tp, starts[tp])
            self._scopes, complete, looked_at = {}, False, time.monotonic()
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        self._take(record.key or b"", record.value)
                complete = complete or not _before(consumer, ends)
                if complete:
                    self._tell()
                if time.monotonic() - looked_at >= LOOK_EVERY_S:
                    ends, looked_at = consumer.end_offsets(partitions, timeout_ms=ASK_MS), time.monotonic()
                    if _beyond(consumer, ends) or self._partitions(consumer) != partitions:
                        return  # the topic was made anew, or enlarged
        finally:
            consumer.close(timeout_ms=200)

    def _partitions(self, consumer: Any) -> list[TopicPartition]:
        numbers = consumer.partitions_for_topic(self._topic) or ()
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    def _take(self, key: bytes, value: bytes | None) -> None:
        name = key.decode("utf-8", "replace")
        if value is None:
            self._scopes.pop(name, None)
            return
        try:
            scope = read(key, value)
        except ValueError:
            log.warning("a record of the control topic cannot be read, and is ignored", extra={"scope": name})
            return
        if scope is not None:
            self._scopes[name] = scope

    def _tell(self) -> None:
        self._trouble = ()
        control = gather(self._scopes.items())
        if control != self._told:
            log.info("operators have decided: %s", _summary(control))
            before, self._told = self._told, control
            self._put(Controlled(control))
            if before is not None and before.let_go != control.let_go:
                self._let_go()


def _before(consumer: Any, ends: Mapping[TopicPartition, int]) -> bool:
    return any(consumer.position(tp, timeout_ms=ASK_MS) < end for tp, end in ends.items())


def _beyond(consumer: Any, ends: Mapping[TopicPartition, int]) -> bool:
    return any(consumer.position(tp, timeout_ms=ASK_MS) > end for tp, end in ends.items())


def _summary(control: Control) -> str:
    paused = ["everything"] if control.everything else []
    paused += [f"account {name}" for name in sorted(control.accounts)]
    if control.tenants:
        paused.append(f"{len(control.tenants)} tenants")
    rulings = ", ".join(f"{name} {ruling.decision}" for name, ruling in sorted(control.rulings.items()))
    return f"paused: {', '.join(paused) or 'nothing'}; about guards: {rulings or 'nothing'}"
