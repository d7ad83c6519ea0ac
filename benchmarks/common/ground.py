"""What the benchmarks stand on: Apache Kafka, verdicts that appear all at once, and who has read them."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.kafka.apache import running_broker
from worker.events.times import format_rfc3339
from worker.runtime import topics
from worker.sandbox.stage import Kafka, Stage, topic_names
from worker.settings import KafkaSettings, Topics
from worker.words import Millis

PARTITIONS = 4
PATIENCE_S = 600.0


@contextmanager
def apache_kafka() -> Iterator[tuple[str, Path]]:
    """Serve Apache Kafka, one node, for as long as it lasts; yield its address and a folder for files."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        broker = stack.enter_context(running_broker(_made(folder / "kafka")))
        yield broker.plain, folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def fresh_topics(servers: str, prefix: str, partitions: int = PARTITIONS) -> Kafka:
    """Make the five topics anew under a prefix."""
    topics.create(settings(servers, prefix, partitions))
    return Kafka(servers, prefix=prefix, partitions=partitions, topics_exist=True)


def settings(servers: str, prefix: str, partitions: int = PARTITIONS) -> KafkaSettings:
    """Return the worker's Kafka settings for topics of that prefix."""
    return KafkaSettings(
        bootstrap_servers=(servers,),
        group_id=f"{prefix}-worker",
        instance_id="w1",
        session_timeout=6000,
        partitions=partitions,
        replication=1,
        topics=Topics(**topic_names(prefix)),
    )


@contextmanager
def stage(folder: Path, kafka: Kafka, changes: Mapping[str, Any] | None = None) -> Iterator[Stage]:
    """Serve the vendors' simulators, without quotas at either end, and a stage for workers."""
    quotas = {"block": [[1_000_000, 1000]], "list_blocks": [[1_000_000, 1000]]}
    unlimited = {"quotas": dict.fromkeys(quotas, "1000000/1s"), "timeout_s": 10}
    merged = {"accounts": {"hw": unlimited}, **(changes or {})}
    with Stage(folder, kafka, changes=merged, simulators={"huawei": {"quotas": quotas}}) as found:
        yield found


def now() -> Millis:
    """Return the moment, in milliseconds."""
    return time.time_ns() // 1_000_000


def verdict(verdict_id: str, stream: str, category: str, account: str = "hw") -> dict[str, Any]:
    """Return a verdict seen now; the stage's policy does nothing about the category ``fine``."""
    return {
        "verdict_id": verdict_id,
        "stream": {"key": f"{account}/{stream}"},
        "detected_at": format_rfc3339(now()),
        "category": category,
        "severity": "high",
        "confidence": 0.97,
    }


def send_evenly(kafka: Kafka, events: Iterator[Mapping[str, Any]], rate: float) -> dict[str, Millis]:
    """Send events at an even pace, each made as it goes; return when each one's id was sent."""
    topic, sent, began = kafka.topics["verdicts"], {}, time.monotonic()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=0)
    producer.partitions_for(topic)  # else the first one waits for the topic's description
    try:
        for number, event in enumerate(events, 1):
            sent[event["verdict_id"]] = now()
            producer.send(topic, json.dumps(event).encode(), event["stream"]["key"].encode())
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        producer.flush(timeout=30)
    finally:
        producer.close()
    return sent


class VendorLog:
    """What the simulators have logged, read on from where it was read to: a long log is not read twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.lines: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Return all lines so far, in order."""
        with self._path.open("rb") as log:
            log.seek(self._at)
            whole = log.read().rpartition(b"\n")
            self._at += len(whole[0]) + len(whole[1])
        self.lines += map(json.loads, whole[0].splitlines())
        return self.lines


class Appearing:
    """Records that are all in the topic but invisible until ``appear``: an open transaction hides them.

    So a reader starts from a full topic at a known moment, and its start-up is not measured.
    """

    def __init__(self, kafka: Kafka, events: Sequence[Mapping[str, Any]]) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers,
            transactional_id=f"{kafka.prefix}-{time.monotonic_ns()}",
            transaction_timeout_ms=600_000,
            linger_ms=5,
            batch_size=256 * 1024,
        )
        self._producer.init_transactions()
        self._producer.begin_transaction()
        topic, futures = kafka.topics["verdicts"], []
        for event in events:
            key = event["stream"]["key"].encode()
            futures.append(self._producer.send(topic, json.dumps(event).encode(), key))
        self._producer.flush(timeout=120)
        self.ends: dict[TopicPartition, int] = {}
        """For each partition the offset a reader has committed once it has read them all."""
        for future in futures:
            placed = future.get(timeout=1)
            tp = TopicPartition(topic, placed.partition)
            self.ends[tp] = max(self.ends.get(tp, 0), placed.offset + 1)

    def appear(self) -> None:
        """Make them visible."""
        self._producer.commit_transaction()
        self._producer.close()


class Progress:
    """How far a group has committed."""

    def __init__(self, servers: str, group: str) -> None:
        self._consumer = KafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)

    def wait(self, ends: Mapping[TopicPartition, int], running: Callable[[], bool]) -> None:
        """Return when the group has committed up to there. Raises RuntimeError when it never will."""
        until = time.monotonic() + PATIENCE_S
        left = dict(ends)
        while left:
            left = {tp: end for tp, end in left.items() if (self._consumer.committed(tp) or 0) < end}
            if not running() or time.monotonic() > until:
                raise RuntimeError("the reader ended, or does not get on")
            if left:
                time.sleep(0.02)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
