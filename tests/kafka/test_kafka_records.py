"""Batches filled by us are those the library would have filled, and their records' fate is known."""

import importlib.util
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer import fetcher
from kafka.consumer.fetcher import IsolationLevel
from kafka.errors import (
    CorruptRecordError,
    IllegalStateError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c

from tests.kafka.member import read
from worker.runtime import kafka_client
from worker.runtime.kafka_records import _fill, _Futures, unpack, write
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


# What is read, compared with what the library reads.


def library() -> Any:
    """Return a second copy of the library's fetcher, as it came."""
    spec = importlib.util.find_spec("kafka.consumer.fetcher")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Fetcher.PartitionRecords._unpack_records is not unpack
    return module


def batch(
    offset: int,
    *records: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]],
    producer: int = -1,
    control: bool = False,
    compression: int = 0,
    by_broker: bool = False,
) -> bytes:
    """Return a batch as a broker has it."""
    builder = MemoryRecordsBuilder(2, compression, 1 << 20)
    for i, (key, value, headers) in enumerate(records):
        builder.append(1_700_000_000_000 + 70 * i - (i == 3), key, value, headers)
    if producer >= 0:
        builder.set_producer_state(producer, 0, 0, is_transactional=True)
    builder.close()
    raw = bytearray(builder.buffer())
    raw[:8] = offset.to_bytes(8, "big")
    raw[22] |= 0x20 * control | 0x08 * by_broker
    raw[17:21] = calc_crc32c(memoryview(raw)[21:]).to_bytes(4, "big")
    return bytes(raw)


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    return batch(offset, (b"\0\0\0" + bytes([commit]), b"\0" * 6, []), producer=producer, control=True)


def old(version: int) -> bytes:
    builder = MemoryRecordsBuilder(version, 0, 1 << 20)
    builder.append(1_700_000_000_000, b"k", b"v")
    builder.append(1_700_000_000_001, None, None)
    builder.close()
    return bytes(builder.buffer())


MANY = [(b"k%d" % i, b"v" * (i * 40), [("n", b"%d" % i), ("ü", None)]) for i in range(100)]
ODD: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (None, None, []), (b"", b"", [("", b"")]), (b"k", None, []), (None, b"v", [("n", b"x" * 200)])
]  # fmt: skip


def fetched(module: Any, raw: bytes, level: Any, aborted: list[Any], start: int) -> tuple[list[Any], Any]:
    reader = module.Fetcher.PartitionRecords(
        start, TopicPartition("t", 3), MemoryRecords(raw), isolation_level=level, aborted_transactions=aborted
    )
    found: list[Any] = []
    while reader:
        found += reader.take(7)
        assert not found or reader.next_fetch_offset > found[-1].offset
    return [tuple(record)[:9] for record in found], (reader.next_fetch_offset, reader.leader_epoch)


@pytest.mark.parametrize("level", IsolationLevel)
@pytest.mark.parametrize(
    "raw",
    [
        batch(0, *ODD) + batch(4, *MANY),
        batch(0, *MANY, compression=1) + batch(100, *ODD, by_broker=True),
        batch(0, *ODD, producer=7) + batch(4, *MANY, producer=8) + marker(104, 8, commit=False)
        + marker(105, 7, commit=True) + batch(106, *ODD, producer=8) + marker(110, 8, commit=True),
        old(0),
        old(1),
    ],
    ids=["odd", "compressed", "transactions", "version 0", "version 1"],
)  # fmt: skip
def test_a_reader_gives_what_the_library_gives(raw: bytes, level: Any) -> None:
    theirs = library()
    for start in (0, 2):
        aborted = [SimpleNamespace(producer_id=8, first_offset=4)]
        assert fetched(fetcher, raw, level, aborted, start) == fetched(theirs, raw, level, aborted, start)


def test_a_control_batch_that_compaction_has_emptied_is_passed() -> None:
    raw = batch(0, *ODD, producer=7) + batch(4, producer=7, control=True) + batch(5, *ODD)
    for level in IsolationLevel:
        found, _ = fetched(fetcher, raw, level, [], 0)
        assert [record[3] for record in found] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_broken_batch_is_no_records() -> None:
    raw = batch(0, *ODD)
    for spoilt in (raw[:-1] + b"\1", raw[:60] + b"\7" + raw[61:]):
        with pytest.raises(CorruptRecordError):
            fetched(fetcher, spoilt, IsolationLevel.READ_COMMITTED, [], 0)
    lying = bytearray(raw)
    lying[61] += 2  # a record's length
    lying[17:21] = calc_crc32c(memoryview(lying)[21:]).to_bytes(4, "big")
    with pytest.raises(CorruptRecordError, match="offset 0 of"):
        fetched(fetcher, bytes(lying), IsolationLevel.READ_COMMITTED, [], 0)


# What is written, to Apache Kafka.


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
