"""A member of the group with the smallest engine there is: it writes down what it reads.

Its state of a stream is the list of the verdicts it has seen; for each verdict it publishes one result.
"""

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from worker.runtime import kafka_client
from worker.runtime.kafka_log import KafkaLog
from worker.runtime.messages import (
    Batch,
    Committed,
    Dropped,
    Message,
    PartitionBatch,
    Polled,
    Record,
    Reset,
    Restored,
)
from worker.settings import KafkaSettings, Topics


def topics_named(name: str) -> Topics:
    """Return topics that begin with a name."""
    words = ("verdicts", "results", "state", "dead-letters", "control")
    return Topics(*(f"{name}.{word}" for word in words))


def settings_for(servers: Sequence[str], partitions: int = 4, **changes: Any) -> KafkaSettings:
    """Return settings with topics and a group of their own."""
    name = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=tuple(servers),
        group_id=f"group-{name}",
        instance_id="a",
        session_timeout=6000,
        partitions=partitions,
        replication=1,
        topics=topics_named(name),
        **changes,
    )


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.02)


class Member:
    """Runs its engine in a thread. ``before_submit`` may change the batch before it goes."""

    def __init__(
        self,
        settings: KafkaSettings,
        instance: str = "a",
        *,
        before_submit: Callable[[Batch], None] = lambda _batch: None,
        **changes: Any,
    ) -> None:
        self.settings = replace(settings, instance_id=instance, **changes)
        self.inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.heard: list[Message] = []
        self.fatal: list[str] = []
        self.commits: list[float] = []
        self.resets: list[str] = []
        self.states: dict[int, dict[str, list[str]]] = {}
        self.epochs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._open = Batch()
        self._busy = False
        self._before_submit = before_submit
        self.log = KafkaLog(self.settings, put=self.inbox.put, on_fatal=self.fatal.append, observer=self)
        self._engine = threading.Thread(target=self._run, name=f"engine-{instance}", daemon=True)
        self._stopped = False
        self.log.start()
        self._engine.start()

    def on_commit(self, seconds: float) -> None:
        self.commits.append(seconds)

    def on_reset(self, reason: str) -> None:
        self.resets.append(reason)

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.log.stop(10)
            self.inbox.put(None)
            self._engine.join(10)

    def ready(self) -> bool:
        return not self.log.reasons_not_ready() and self.log.alive()

    def idle(self) -> bool:
        return self.log.caught_up() and not self._busy and not self._open.partitions and self.inbox.empty()

    def seen(self) -> set[str]:
        """Return every verdict that is in a state."""
        return {v for states in self.states.copy().values() for seen in states.copy().values() for v in seen}

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def _run(self) -> None:
        while (message := self.inbox.get()) is not None:
            self.heard.append(message)
            self._hear(message)
            if not self._busy and self._open.partitions:
                self._busy, batch, self._open = True, self._open, Batch()
                self._before_submit(batch)
                self.log.submit(batch)

    def _hear(self, message: Message) -> None:
        if isinstance(message, Restored):
            self.states[message.partition] = {k.decode(): json.loads(v) for k, v, _ in message.states}
            self.epochs[message.partition] = message.epoch
            self._next[message.partition] = message.next_offset
        elif isinstance(message, Dropped):
            self._forget(message.partition)
        elif isinstance(message, Reset):
            for partition in list(self.states):
                self._forget(partition)
            self._busy = False
        elif isinstance(message, Committed):
            self._busy = False
        elif isinstance(message, Polled):
            for record in message.records:
                self._step(message.partition, record)

    def _forget(self, partition: int) -> None:
        self.states.pop(partition, None)
        self.epochs.pop(partition, None)
        self._open.partitions.pop(partition, None)

    def _step(self, partition: int, record: Any) -> None:
        stream, verdict = record.key.decode(), record.value.decode()
        if record.offset < self._next[partition]:
            return
        self._next[partition] = record.offset + 1
        part = self._open.partitions.setdefault(
            partition, PartitionBatch(partition, self.epochs[partition], record.offset)
        )
        part.next_offset = record.offset + 1
        state = self.states[partition].setdefault(stream, [])
        if verdict in state:
            return  # at least once: seen before the crash
        state.append(verdict)
        key, topics = record.key, self.settings.topics
        part.states[stream] = Record(topics.state, key, json.dumps(state).encode(), (), partition)
        part.records.append(Record(topics.results, key, verdict.encode(), (), partition))


def check_order(heard: Sequence[Message]) -> None:
    """The promise of the log: Dropped or Reset, then Restored of a newer epoch, then its Polled records."""
    current: dict[int, int] = {}  # partition -> the epoch the engine may believe in
    newest: dict[int, int] = {}
    position: dict[int, int] = {}
    for message in heard:
        match message:
            case Dropped(partition=partition):
                current.pop(partition, None)
            case Reset():
                current.clear()
            case Restored(partition=partition, epoch=epoch):
                assert partition not in current, "Restored without Dropped"
                assert epoch > newest.get(partition, 0), "an epoch came again"
                current[partition] = newest[partition] = epoch
                position[partition] = message.next_offset
            case Polled(partition=partition, epoch=epoch):
                assert current.get(partition) == epoch, "records without their states"
                offsets = [record.offset for record in message.records]
                assert offsets == sorted(offsets), "records out of order"
                assert offsets[0] >= position[partition], "records before the committed offset"
                position[partition] = offsets[-1] + 1
            case _:
                pass


def produce(settings: KafkaSettings, verdicts: Iterable[tuple[str, str]]) -> None:
    """Write (stream, verdict) pairs into the verdict topic."""
    producer = kafka_client.plain_producer(settings)
    futures = [producer.send(settings.topics.verdicts, v.encode(), s.encode()) for s, v in verdicts]
    producer.flush(30)
    for future in futures:
        future.get(1)
    producer.close()


def read(settings: KafkaSettings, topic: str, *, committed_only: bool = True) -> list[Any]:
    """Read a topic to its end."""
    options = {"check_crcs": True, **settings.client}
    consumer = KafkaConsumer(
        bootstrap_servers=list(settings.bootstrap_servers),
        isolation_level="read_committed" if committed_only else "read_uncommitted",
        auto_offset_reset="earliest",
        metrics_enabled=False,
        **options,
    )
    tps = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(tps)
    consumer.seek_to_beginning(*tps)
    ends = consumer.end_offsets(tps)
    found: list[Any] = []
    until = time.monotonic() + 30
    while any(consumer.position(tp) < ends[tp] for tp in tps):
        assert time.monotonic() < until, f"{topic} cannot be read to its end"
        for records in consumer.poll(timeout_ms=100).values():
            found += records
    consumer.close()
    return found


def results(settings: KafkaSettings) -> list[str]:
    """Return every verdict a result was published for, as a read_committed reader sees it."""
    return [record.value.decode() for record in read(settings, settings.topics.results)]
