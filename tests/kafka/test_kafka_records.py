"""Batches filled by us are those the library would have filled, and their records' fate is known."""

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import (
    IllegalStateError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from tests.kafka.member import read
from worker.runtime import kafka_client
from worker.runtime.kafka_records import _fill, _Futures, write
from worker.runtime.messages import Record
from worker.settings import KafkaSettings

RECORDS = [
    Record("t", b"k", b"v", (), 0),
    Record("t", None, b"", [("name", b"text"), ("näme", b""), ("nothing", None)], 0),
    Record("t", b"", None, [("", b"x" * 300)], 0),
    *(Record("t", b"k" * length, b"v" * length, (), 0) for length in (63, 64, 8191, 8192, 20_000)),
    *(Record("t", b"%d" % i, b"v", [("i", b"%d" % i)], 0) for i in range(200)),
]


def built(builder: MemoryRecordsBuilder) -> bytes:
    builder.set_producer_state(7, 1, 40, is_transactional=True)
    builder.close()
    return bytes(builder.buffer())


def test_a_batch_is_to_the_byte_what_the_library_makes_of_the_same_records() -> None:
    ours = MemoryRecordsBuilder(2, 0, 1 << 20)
    assert _fill(ours, 1 << 20, RECORDS) == ours.next_offset() == len(RECORDS)
    raw = built(ours)
    (batch,) = MemoryRecords(raw)
    assert abs(batch.first_timestamp / 1000 - time.time()) < 60
    theirs = MemoryRecordsBuilder(2, 0, 1 << 20)
    for record in RECORDS:
        theirs.append(batch.first_timestamp, record.key, record.value, list(record.headers))
    assert raw == built(theirs)


def test_a_batch_takes_what_its_size_allows_and_at_least_one_record() -> None:
    records = [Record("t", b"k", b"v" * 1000, (), 0)] * 10
    for size, taken in ((1, 1), (3000, 2), (1 << 20, 10)):
        assert _fill(MemoryRecordsBuilder(2, 0, size), size, records) == taken


def batch_of(count: int) -> tuple[Any, _Futures]:
    batch = ProducerBatch(TopicPartition("t", 0), None)
    return batch, _Futures(batch, count)


def test_a_batch_that_is_written_or_refused_needs_no_future_for_each_record() -> None:
    batch, futures = batch_of(3)
    batch.complete(base_offset=5, log_append_time=-1)
    assert list(futures.errors(time.monotonic() + 5)) == []
    batch, futures = batch_of(2)
    why = [KeyError("first"), KeyError("second")]
    batch.complete_exceptionally(KeyError("all"), lambda i: why[i])
    assert list(futures.errors(time.monotonic() + 5)) == list(enumerate(why))
    batch, futures = batch_of(2)
    batch.abort(KeyError("closed"))
    assert [str(error) for _, error in futures.errors(time.monotonic() + 5)] == ["'closed'"] * 2
    assert futures._each == []


def test_what_nobody_acknowledges_is_told_by_record() -> None:
    _, futures = batch_of(2)
    found = list(futures.errors(time.monotonic()))
    assert [i for i, _ in found] == [0, 1]
    assert all(isinstance(error, KafkaTimeoutError) for _, error in found)


@pytest.mark.parametrize(
    "producer",
    [
        SimpleNamespace(partitions_for=lambda _topic: {0}),
        SimpleNamespace(
            partitions_for=lambda _topic: {0},
            _transaction_manager=SimpleNamespace(is_transactional=lambda: False),
        ),
    ],
)
def test_a_private_name_that_is_gone_is_named(producer: Any) -> None:
    with pytest.raises(RuntimeError, match=r"kafka-python has changed: .* is gone"):
        write(producer, RECORDS[:1], 1.0)


@pytest.fixture
def producer(settings: KafkaSettings) -> Iterator[Any]:
    made = kafka_client.transactional_producer(settings)
    yield made
    kafka_client.bury(made)


def committed(producer: Any, records: list[Record]) -> dict[int, Exception]:
    producer.begin_transaction()
    failures = write(producer, records, 20.0)
    if not failures:
        producer.commit_transaction()
    return failures


@pytest.mark.kafka
def test_what_is_written_is_read_in_order_and_as_it_was(settings: KafkaSettings, producer: Any) -> None:
    topic = settings.topics.results
    records = [
        Record(topic, b"k%d" % i, os.urandom(1500), [("n", b"%d" % i), ("nothing", None)], i % 3)
        for i in range(900)  # more than one batch for each partition
    ] + [Record(topic, None, b"anywhere %d" % i) for i in range(20)]
    assert committed(producer, records) == {}
    found = read(settings, topic)
    for partition in range(3):
        wanted = [(r.key, r.value, list(r.headers)) for r in records if r.partition == partition]
        assert [(r.key, r.value, r.headers) for r in found if r.partition == partition and r.key] == wanted
    elsewhere = [r for r in found if r.key is None]
    assert sorted(r.value for r in elsewhere) == sorted(r.value or b"" for r in records[900:])
    assert len({r.partition for r in elsewhere}) > 1


@pytest.mark.kafka
def test_records_too_large_together_are_written_and_one_too_large_by_itself_is_named(
    settings: KafkaSettings, producer: Any
) -> None:
    topic = f"{settings.topics.results}.small"
    admin = kafka_client.admin_client(settings)
    admin.create_topics({topic: {"num_partitions": 1, "configs": {"max.message.bytes": "10000"}}})
    admin.close()
    small = [Record(topic, b"k", os.urandom(500), (), 0) for _ in range(100)]
    assert committed(producer, small) == {}
    assert [r.value for r in read(settings, topic)] == [r.value for r in small]
    failures = committed(producer, [*small[:50], Record(topic, b"k", os.urandom(20_000), (), 0), *small[50:]])
    assert isinstance(failures[50], MessageSizeTooLargeError)


@pytest.mark.kafka
def test_a_partition_that_is_not_there_is_refused_at_once(producer: Any, settings: KafkaSettings) -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        committed(producer, [Record(settings.topics.results, b"k", b"v", (), 99)])


@pytest.mark.kafka
def test_a_closed_producer_takes_nothing(producer: Any, settings: KafkaSettings) -> None:
    producer.begin_transaction()
    producer._accumulator.close()
    with pytest.raises(IllegalStateError):
        write(producer, [Record(settings.topics.results, b"k", b"v", (), 0)], 5.0)
