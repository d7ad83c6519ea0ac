"""Records into kafka-python's batches and out of them, without what the library does for each.

Its ``send`` takes locks, makes a future and writes numbers byte by byte for every record: on the way of a
verdict that is more work than the policy's. Here batches are filled first and handed over whole. What
becomes of a batch stays the library's affair: sequence numbers, checksum, compression, retries, splitting.
Reading, it makes two objects and two dozen calls for each record, which is most of a restore. Here a batch
is read in one loop; fetching, positions and transactions stay the library's.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError, IllegalStateError, KafkaError, UnknownTopicOrPartitionError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import decode_varint

from worker.runtime.messages import Record


def private(owner: Any, name: str) -> Any:
    """Return a private name of the library's. Raises RuntimeError when it is gone."""
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(f"kafka-python has changed: {type(owner).__name__}.{name} is gone") from None


_FORMAT = 2
"""Of batches: the first that knows transactions and headers."""


def _set(owner: Any, **values: Any) -> None:
    """Set private attributes that must be there already."""
    for name, value in values.items():
        private(owner, name)
        setattr(owner, name, value)


# -- into batches --------------------------------------------------------------------------------------


def write(producer: Any, records: Sequence[Record], patience_s: float) -> dict[int, Exception]:
    """Write records, wait for the brokers' word on each, and return what went wrong, by record number.

    An empty answer means that all are written. A record that is not acknowledged after ``patience_s`` has
    a KafkaTimeoutError. Records of one partition keep their order. Raises KafkaError when some could not
    even be handed over, and none that was is to blame for it.
    """
    until = time.monotonic() + patience_s
    sent: list[tuple[Sequence[int], _Futures]] = []
    trouble: KafkaError | None = None
    try:
        for tp, numbers in _by_partition(producer, records).items():
            sent.extend(_hand_over(producer, tp, numbers, records))
    except KafkaError as error:
        trouble = error
    private(private(producer, "_sender"), "wakeup")()
    failures = {numbers[i]: error for numbers, futures in sent for i, error in futures.errors(until)}
    if trouble is not None and not failures:
        raise trouble
    return failures


def _by_partition(producer: Any, records: Sequence[Record]) -> Mapping[TopicPartition, list[int]]:
    """Return the numbers of the records of each partition, chosen by hash where they do not say one."""
    found = defaultdict(list)
    for number, record in enumerate(records):
        partition = record.partition
        if partition is None:
            some = record.key or record.value or b""
            partition = crc32(some) % len(producer.partitions_for(record.topic))
        found[record.topic, partition].append(number)
    return {TopicPartition(*place): numbers for place, numbers in found.items()}


def _hand_over(
    producer: Any, tp: TopicPartition, numbers: Sequence[int], records: Sequence[Record]
) -> Iterator[tuple[Sequence[int], "_Futures"]]:
    """Put records of a partition in line for the sender, in as many batches as it takes."""
    if tp.partition not in producer.partitions_for(tp.topic):
        raise UnknownTopicOrPartitionError(f"{tp.topic} has no partition {tp.partition}")
    transactions = private(producer, "_transaction_manager")
    if private(transactions, "is_transactional")():
        private(transactions, "maybe_add_partition_to_transaction")(tp)
    accumulator = private(producer, "_accumulator")
    waiting, incomplete = private(accumulator, "_batches"), private(accumulator, "_incomplete")
    while numbers:
        size, compression = accumulator.config["batch_size"], accumulator.config["compression_attrs"]
        builder = MemoryRecordsBuilder(_FORMAT, compression, size)
        taken = _fill(builder, size, [records[number] for number in numbers])
        batch = ProducerBatch(tp, builder)
        futures = _Futures(batch, taken)
        _set(batch, _record_futures=futures)
        with private(accumulator, "_tp_lock")(tp):
            if private(accumulator, "_closed"):
                raise IllegalStateError("the producer is closed")
            waiting[tp].append(batch)
            incomplete.add(batch)
        yield numbers[:taken], futures
        numbers = numbers[taken:]


def _fill(builder: Any, size: int, records: Sequence[Record]) -> int:
    """Put as many records into an empty batch as a size in bytes allows, at least one; return how many."""
    inner = private(builder, "_builder")
    buffer: bytearray = private(inner, "_buffer")
    count = 0
    for record in records:
        raw = encoded(record, count)
        if count and len(buffer) + len(raw) > size:
            break
        buffer += raw
        count += 1
    now = time.time_ns() // 1_000_000
    _set(inner, _first_timestamp=now, _max_timestamp=now, _num_records=count, _last_offset=count - 1)
    _set(builder, _next_offset=count)
    return count


class _Futures:
    """What becomes of the records of one batch.

    The library keeps a future for each record of a batch, and asks for them when the brokers find the batch
    too large and it splits it. Only then are they made.
    """

    def __init__(self, batch: Any, count: int) -> None:
        self._whole, self._count = batch.produce_future, count
        self._each: list[Any] = []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Any:
        if not self._each:
            self._each = [
                FutureRecordMetadata(self._whole, n, None, None, -1, -1, -1) for n in range(self._count)
            ]
        return self._each[i]

    def errors(self, until: float) -> Iterator[tuple[int, Exception]]:
        """Wait until a moment of the monotonic clock; yield the records that are not written, and why."""
        self._whole.wait(max(0.0, until - time.monotonic()))
        if self._whole.is_done:
            _, _, error_of = self._whole.value
            if error_of is not None:
                yield from ((i, error_of(i)) for i in range(self._count))
            return
        for i in range(self._count):  # it was split, or time is up
            try:
                self[i].get(max(0.0, until - time.monotonic()))
            except KafkaError as error:
                yield i, error


def encoded(record: Record, number: int) -> bytes:
    """Return a record as it stands in a batch, ``number`` places after its first, at the batch's own time.

    https://kafka.apache.org/documentation/#record
    """
    parts = [b"\0\0", _varint(number)]  # no attributes, no milliseconds later
    for content in (record.key, record.value):
        parts += (_NOTHING,) if content is None else (_varint(len(content)), content)
    parts.append(_varint(len(record.headers)))
    for name, content in record.headers:
        parts.append(_name(name))
        parts += (_NOTHING,) if content is None else (_varint(len(content)), content)
    body = b"".join(parts)
    return _varint(len(body)) + body


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    """Return a header's name with its length. Nearly every record has the same few."""
    raw = name.encode()
    return _varint(len(raw)) + raw


_NOTHING = b"\1"
"""The length of what is not there, -1."""


def _varint(number: int) -> bytes:
    """Return a number from 0 on as a zigzag varint."""
    return _SHORT[number] if number < len(_SHORT) else _long(number)


def _long(number: int) -> bytes:
    rest, groups = number << 1, bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    groups.append(rest)
    return bytes(groups)


_SHORT = tuple(_long(number) for number in range(4096))


# -- out of batches ------------------------------------------------------------------------------------


def unpack(reader: Any, tp: TopicPartition, batches: Any, *_deserializers: None) -> Iterator[ConsumerRecord]:
    """Yield the records of fetched batches, as ``PartitionRecords._unpack_records`` does.

    Compaction can leave a control batch with no record in it. At such a one the library's own raises a
    RuntimeError, for every reader, for ever. Sizes are not counted: they are -1. Raises CorruptRecordError.
    """
    while (batch := batches.next_batch()) is not None:
        if reader.check_crcs and not batch.validate_crc():
            raise CorruptRecordError(f"the batch at offset {batch.base_offset} of {tp} fails its checksum")
        if batch.magic < _FORMAT:
            yield from _old(reader, tp, batch)
            continue
        reader.leader_epoch = batch.leader_epoch
        if not _hidden(reader, batch):
            try:
                yield from _read(reader, tp, batch)
            except (ValueError, IndexError):
                at = reader.next_fetch_offset
                raise CorruptRecordError(f"the record at offset {at} of {tp} is broken") from None
        reader.next_fetch_offset = batch.next_offset  # compaction may have taken the batch's last record
    reader.drain()


def _hidden(reader: Any, batch: Any) -> bool:
    """Tell whether a batch ends a transaction, or belongs to one that was aborted and is not to be seen."""
    if reader.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
        private(reader, "_consume_aborted_transactions_up_to")(batch.last_offset)
        if not batch.is_control_batch:
            return bool(private(reader, "_is_batch_aborted")(batch))
        marker = next(batch, None)
        if marker is not None and marker.abort:
            reader.aborted_producer_ids.discard(batch.producer_id)
    return bool(batch.is_control_batch)


def _old(reader: Any, tp: TopicPartition, batch: Any) -> Iterator[ConsumerRecord]:
    """Yield the records of a batch as it was before Kafka 0.11, without transactions and headers."""
    for record in batch:
        if reader.check_crcs and not record.validate_crc():
            raise CorruptRecordError(f"the record at offset {record.offset} of {tp} fails its checksum")
        reader.next_fetch_offset = record.offset + 1
        about = (-1, record.offset, record.timestamp, record.timestamp_type)
        yield ConsumerRecord(*tp, *about, record.key, record.value, [], record.checksum, -1, -1, -1)


def _read(reader: Any, tp: TopicPartition, batch: Any) -> Iterator[ConsumerRecord]:
    """Yield the records of a batch."""
    topic, partition = tp
    private(batch, "_maybe_uncompress")()
    data, at = bytes(private(batch, "_buffer")), private(batch, "_pos")
    base, epoch, kind = batch.base_offset, batch.leader_epoch, batch.timestamp_type
    appended = batch.max_timestamp if kind == batch.LOG_APPEND_TIME else None
    first = batch.first_timestamp
    for _ in range(batch.records_count):
        length, at = decode_varint(data, at)
        end = at + length
        later, at = decode_varint(data, at + 1)  # behind the attributes, which mean nothing
        number, at = decode_varint(data, at)
        key, at = _content(data, at)
        value, at = _content(data, at)
        headers, at = _headers(data, at)
        if at != end:
            raise ValueError(f"the length of the record at {end}")
        offset = base + number
        reader.next_fetch_offset = offset + 1
        time_ms = first + later if appended is None else appended
        yield ConsumerRecord(
            topic, partition, epoch, offset, time_ms, kind, key, value, headers, None, -1, -1, -1
        )
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last record")


def _content(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(data, at)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


def _headers(data: bytes, at: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, at = decode_varint(data, at)
    headers = []
    for _ in range(count):
        name, at = _content(data, at)
        content, at = _content(data, at)
        headers.append(((name or b"").decode(), content))
    return headers, at


private(Fetcher.PartitionRecords, "_unpack_records")
Fetcher.PartitionRecords._unpack_records = unpack  # noqa: SLF001 - every reader of this process
