"""Dead letters back into the verdict topic, each once.

What was replayed is remembered in the control topic, a record for each partition of the dead letters with
the ranges of offsets (``replayed/3``: ``[[0, 41], [57, 57]]``); offsets in a row would not do, since filters
leave letters out. It is written in the transaction that replays them, so whatever fails repeats nothing.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from kafka.errors import KafkaError

from worker.commands.parts.topic_reader import Progress, TopicReader, silent
from worker.durations import format_duration
from worker.events.partition import home_partition
from worker.events.times import format_rfc3339
from worker.runtime import kafka_client
from worker.settings import KafkaSettings
from worker.words import Millis

PREFIX = "replayed/"
REPLAYED_FROM = "replayed_from"
"""Header of a replayed record: partition@offset of its dead letter."""
AT_ONCE = 500
"""Letters in one transaction."""
OURS = ("dead_letter_reason", "dead_letter_detail", "source_topic", "source_partition", "source_offset")
"""The headers that a record got when it was put aside, in this order, behind its own."""

Ranges = list[tuple[int, int]]
"""Offsets, first and last, ascending and apart."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that could not be read. ``at`` is when it was put aside; ``home`` where it goes."""

    partition: int
    offset: int
    at: Millis
    reason: str
    home: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; None means any."""

    reason: str | None = None
    since: Millis | None = None
    until: Millis | None = None
    partition: int | None = None

    def __call__(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        return (
            self.reason in (None, letter.reason)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def replay(settings: KafkaSettings, wanted: Wanted, progress: Progress = silent) -> list[Letter]:
    """Replay what is wanted and was not replayed before; return the letters. Raises Failure, KafkaError."""
    with _producer(settings) as producer, TopicReader(settings, progress) as reader:
        # Only now nobody else replays any more: the producer has ended its predecessor.
        replayed = _replayed(reader, settings)
        letters = list(_letters(reader, settings, wanted, replayed))
        for start in range(0, len(letters), AT_ONCE):
            chunk = letters[start : start + AT_ONCE]
            _send(producer, settings, chunk, replayed)
            progress("and replaying dead letters", start + len(chunk), len(letters))
    return letters


def look(settings: KafkaSettings, wanted: Wanted, progress: Progress = silent) -> list[Letter]:
    """Return what ``replay`` would replay."""
    with TopicReader(settings, progress) as reader:
        return list(_letters(reader, settings, wanted, _replayed(reader, settings)))


def row(letter: Letter, now: Millis) -> tuple[str, ...]:
    """Return a line of a table about a letter; nothing of its content."""
    at = format_rfc3339(letter.at // 1000 * 1000)
    age = format_duration(max(0, now - letter.at) // 1000 * 1000)
    return (
        letter.reason,
        str(letter.partition),
        str(letter.offset),
        at,
        f"{age} ago",
        f"{_size(letter)} bytes",
    )


def _size(letter: Letter) -> int:
    return len(letter.value or b"")


def add(ranges: Ranges, offset: int) -> None:
    """Note an offset."""
    at = bisect_right(ranges, (offset, offset))
    first = last = offset
    if at and ranges[at - 1][1] >= offset - 1:
        at -= 1
        first, last = ranges[at][0], max(last, ranges[at][1])
        del ranges[at]
    if at < len(ranges) and ranges[at][0] <= last + 1:
        last = max(last, ranges[at][1])
        del ranges[at]
    ranges.insert(at, (first, last))


def has(ranges: Ranges, offset: int) -> bool:
    """Whether an offset was noted."""
    at = bisect_right(ranges, (offset, 1 << 62))
    return at > 0 and ranges[at - 1][1] >= offset


def _replayed(reader: TopicReader, settings: KafkaSettings) -> dict[int, Ranges]:
    found: dict[int, Ranges] = {}
    for record in reader.read(settings.topics.control):
        name = (record.key or b"").decode("utf-8", "replace")
        if name.startswith(PREFIX):
            ranges = json.loads(record.value) if record.value is not None else []
            found[int(name.removeprefix(PREFIX))] = [(first, last) for first, last in ranges]
    return found


def _letters(
    reader: TopicReader, settings: KafkaSettings, wanted: Wanted, replayed: dict[int, Ranges]
) -> Iterator[Letter]:
    partitions = reader.partitions(settings.topics.verdicts)
    numbers = None if wanted.partition is None else [wanted.partition]
    first: dict[int, int] = {}
    for record in reader.read(settings.topics.dead_letters, numbers, wanted.since):
        if wanted.since is None and record.partition not in first:
            first[record.partition] = record.offset
            _forget_before(replayed.get(record.partition, []), record.offset)
        letter = _letter(record, partitions, settings)
        if wanted(letter) and not has(replayed.get(letter.partition, []), letter.offset):
            yield letter


def _forget_before(ranges: Ranges, offset: int) -> None:
    """Forget letters that the brokers have deleted by now."""
    ranges[:] = [(max(first, offset), last) for first, last in ranges if last >= offset]


def _letter(record: Any, partitions: int, settings: KafkaSettings) -> Letter:
    headers = list(record.headers)
    said: dict[str, str] = {}
    if tuple(name for name, _ in headers[-len(OURS) :]) == OURS:
        said = {name: (text or b"").decode("utf-8", "replace") for name, text in headers[-len(OURS) :]}
        del headers[-len(OURS) :]
    headers = [header for header in headers if header[0] != REPLAYED_FROM]
    headers.append((REPLAYED_FROM, f"{record.partition}@{record.offset}".encode()))
    source = said.get("source_partition", "")
    # Where it lay: its worker forwards it home, as it would have then.
    home = (
        int(source)
        if source.isdecimal()
        else home_partition(record.key or b"", partitions, settings.partitioner)
    )
    return Letter(
        record.partition,
        record.offset,
        record.timestamp,
        said.get("dead_letter_reason", "unknown"),
        home % partitions,
        record.key,
        record.value,
        headers,
    )


@contextmanager
def _producer(settings: KafkaSettings) -> Iterator[Any]:
    """Give a producer, transactional where the brokers can do that: then the second ends the first."""
    if settings.delivery == "at_least_once":
        producer = kafka_client.plain_producer(settings)
    else:
        producer = kafka_client.transactional_producer(replace(settings, instance_id="replay"))
    try:
        yield producer
    finally:
        kafka_client.bury(producer)


def _send(
    producer: Any, settings: KafkaSettings, letters: Sequence[Letter], replayed: dict[int, Ranges]
) -> None:
    """Replay some letters and remember it, in one transaction where there are any; else in this order."""
    transactional = settings.delivery == "exactly_once"
    if transactional:
        producer.begin_transaction()
    topic = settings.topics.verdicts
    _settle(
        producer, [producer.send(topic, one.value, one.key, list(one.headers), one.home) for one in letters]
    )
    for letter in letters:
        add(replayed.setdefault(letter.partition, []), letter.offset)
    touched: Mapping[int, Ranges] = {one.partition: replayed[one.partition] for one in letters}
    control = settings.topics.control
    _settle(
        producer,
        [
            producer.send(control, json.dumps(ranges).encode(), f"{PREFIX}{number}".encode())
            for number, ranges in touched.items()
        ],
    )
    if transactional:
        producer.commit_transaction()


def _settle(producer: Any, futures: Sequence[Any]) -> None:
    """Wait for records: one that is lost does not fail the transaction by itself."""
    producer.flush(timeout=kafka_client.FLUSH_S)
    for future in futures:
        if not future.succeeded():
            raise future.exception or KafkaError("a record was not acknowledged in time")
