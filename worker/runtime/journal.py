"""The journal: makes one batch of steps durable at a time, and recovers in one way.

``exactly_once``: states, results and input offsets in one Kafka transaction, fenced by the group's
generation. ``at_least_once``, for brokers without transactions: results, then states, then offsets; after
a crash results may repeat with the same ids, and the offset kept in each state guards against replays.

Any failure has one answer, which is also how it starts: every epoch is void, the producer is thrown
away, a new one ends what the old left open, and every partition of ours is read again. Only one with a
record that the brokers refuse for good is left alone for a while, so that the others go on.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
)
from kafka.structs import MemberState

from worker.runtime import kafka_client, kafka_records
from worker.runtime.consumer import fenced_sentence
from worker.runtime.messages import Batch, Committed, Message, PartitionBatch, Record
from worker.runtime.ownership import Ownership
from worker.settings import KafkaSettings

log = logging.getLogger(__name__)

FENCED_AGAIN_S = 60.0
RETRY_S = 1.0
REFUSED_S = 30.0
"""After this long a partition is tried again that had a record which the brokers refuse."""
REBALANCE_S = 1.0

REFUSALS: Mapping[type[Exception], str] = {
    MessageSizeTooLargeError: "raise its max.message.bytes",
    TopicAuthorizationFailedError: "allow this user to write there",
    InvalidRecordError: "its cleanup.policy may want a key of every record",
    InvalidTimestampError: "look at its message.timestamp settings and at the clocks",
    PolicyViolationError: "look at the policies of the brokers",
}
"""Errors by which the brokers refuse a record until somebody changes something, and what."""

REASONS: Mapping[type[Exception], str] = {
    ProducerFencedError: "fenced",
    InvalidProducerEpochError: "fenced",
    CommitFailedError: "membership",
    KafkaTimeoutError: "timeout",
    KafkaConnectionError: "connection",
    **dict.fromkeys(REFUSALS, "refused"),
    MessageSizeTooLargeError: "too_large",
}
"""Words of ``journal_resets_total{reason}``; any other failure is ``error``."""


class RefusedError(KafkaError):  # type: ignore[misc]  # kafka-python has no types
    """The brokers do not take a record, and will not until somebody changes something."""

    def __init__(self, partition: int, record: Record, why: KafkaError) -> None:
        self.partition, self.why = partition, type(why)
        size, what = len(record.value or b""), type(why).__name__.removesuffix("Error")
        self.sentence = (
            f"partition {partition} stands still: topic {record.topic} refuses a record of {size:,} bytes "
            f"({what}): {REFUSALS[self.why]} (tried again every {REFUSED_S:.0f} s)"
        )
        super().__init__(self.sentence)


class Observer(Protocol):
    """Who counts what the journal does."""

    def on_commit(self, seconds: float) -> None:
        """Note how long a commit took."""

    def on_reset(self, reason: str) -> None:
        """Note why a batch failed."""


class Group(Protocol):
    """What the journal needs of the group consumer."""

    def membership(self) -> Any:
        """Return the group metadata of this moment, or None."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit input offsets outside any transaction."""


class Journal:
    """Takes batches from the engine, one at a time, and answers each with Committed or Reset.

    ``on_fatal`` gets one sentence when going on is useless; the journal has then stopped.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        ownership: Ownership,
        group: Group,
        *,
        put: Callable[[Message], None],
        observer: Observer,
        on_fatal: Callable[[str], None],
        watchdog_s: float = kafka_client.WATCHDOG_S,
    ) -> None:
        self._settings, self._ownership, self._group = settings, ownership, group
        self._put, self._observer, self._on_fatal = put, observer, on_fatal
        self._watchdog_s = watchdog_s
        self._transactional = settings.delivery == "exactly_once"
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._fenced_at: float | None = None
        self._progress: dict[int, int] = {}  # offsets committed outside transactions
        self._refused: dict[int, str] = {}  # a sentence by partition, until it commits again
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Start with the recovery."""
        self._thread.start()

    @property
    def started(self) -> bool:
        """Whether it was started."""
        return self._thread.ident is not None

    def submit(self, batch: Batch) -> None:
        """Take the next batch. The engine waits for Committed or Reset before it submits another."""
        self._batches.put(batch)

    def stop(self, timeout_s: float) -> None:
        """Finish the submitted batch, and end."""
        self._stopping.set()
        self._batches.put(None)
        self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Return whether the thread lives."""
        return self._thread.is_alive()

    def troubles(self) -> list[str]:
        """Return a sentence for each partition that somebody has to help."""
        owned, troubles = self._ownership.owned(), self._refused.copy()
        return [sentence for partition, sentence in sorted(troubles.items()) if partition in owned]

    def _run(self) -> None:
        try:
            self._recover_and_serve()
        except Exception:
            log.exception("the journal failed")
            self._on_fatal("the journal failed; see the log above")

    def _recover_and_serve(self) -> None:
        while not self._stopping.is_set():
            producer = self._open()
            if producer is None:
                continue
            self._ownership.settle()
            error = self._serve(producer)
            if error is None:
                self._close(producer)
                return
            self._fail(producer, error)

    def _open(self) -> Any:
        """Build a producer; None if that failed. Bounded by the client's own timeouts."""
        build = kafka_client.transactional_producer if self._transactional else kafka_client.plain_producer
        try:
            return build(self._settings)
        except KafkaError as error:
            log.warning("the journal cannot start (%s); trying again", error)
            self._stopping.wait(RETRY_S)
            return None

    def _serve(self, producer: Any) -> Exception | None:
        """Write batches until one fails (its error) or the journal is stopped (None)."""
        while True:
            batch = self._batches.get()
            if batch is None:
                return None
            started = time.monotonic()
            try:
                batch = self._write(producer, batch)
            except Exception as error:  # noqa: BLE001 - every failure has the same answer
                return error
            seconds = time.monotonic() - started
            for partition in batch.partitions:
                self._refused.pop(partition, None)
            self._observer.on_commit(seconds)
            self._put(Committed(batch, seconds))
            if not self._transactional:
                self._commit_offsets(batch)

    def _write(self, producer: Any, batch: Batch) -> Batch:
        """Make a batch durable, less what was lost meanwhile, and return what remained."""
        # The membership first, then the epochs: a partition lost in between is dropped here or fenced there.
        self._member()
        batch = still_ours(batch, self._ownership)
        if batch.leans_on_lost(self._ownership.is_current):
            raise CommitFailedError("a partition was lost whose guards' slots were taken")
        if batch.partitions:
            write = self._transaction if self._transactional else self._plain_write
            _within(self._watchdog_s, lambda abandoned: write(producer, batch, abandoned))
        return batch

    def _member(self) -> Any:
        """Return the membership of this moment, never kept: it may change without a word."""
        member = self._group.membership()
        if member is None or member.generation_id < 0 or not member.member_id:
            raise CommitFailedError("not a member of the group")  # the broker would not fence such offsets
        return member

    def _calm_member(self) -> Any:
        """Return the membership, if possible not in the middle of a rebalance.

        While one completes the brokers take no offsets. While it waits for other members they do, and
        that can last, so patience has an end.
        """
        until = time.monotonic() + REBALANCE_S
        while (member := self._member()).state is MemberState.REBALANCING and time.monotonic() < until:
            time.sleep(0.01)
        return member

    def _transaction(self, producer: Any, batch: Batch, abandoned: threading.Event) -> None:
        producer.begin_transaction()
        _send(producer, batch.partitions.values(), abandoned)
        member = self._calm_member()  # again, so that a rebalance in between costs nothing to what stays
        if still_ours(batch, self._ownership) is not batch:
            raise CommitFailedError("a partition was lost meanwhile")
        # Every touched partition, even where its offset did not move: that is the fence.
        offsets = {
            TopicPartition(self._settings.topics.verdicts, p): OffsetAndMetadata(part.next_offset, "", -1)
            for p, part in batch.partitions.items()
        }
        try:
            producer.send_offsets_to_transaction(offsets, member)
            _go_on(abandoned)
            producer.commit_transaction()
        except FencedInstanceIdError:
            # The one who took our name may be ourselves: whoever was evicted joins again under a new id.
            if self._member().member_id == member.member_id:
                raise
            raise CommitFailedError("joined the group again meanwhile") from None

    def _plain_write(self, producer: Any, batch: Batch, abandoned: threading.Event) -> None:
        # Nothing else keeps a process that was frozen from writing over its successor's states.
        if not self._ownership.lease_fresh():
            raise CommitFailedError("the brokers have been silent for longer than the session timeout")
        parts = batch.partitions.values()
        _send(producer, [replace(part, states={}, own=[]) for part in parts], abandoned)
        _send(producer, [replace(part, records=[]) for part in parts], abandoned)

    def _commit_offsets(self, batch: Batch) -> None:
        """Commit what advanced. A failure is made good by the next commit, or by the states after a crash."""
        moved = {
            p: part.next_offset
            for p, part in batch.partitions.items()
            if self._progress.get(p) != part.next_offset
        }
        if not moved:
            return  # committing in vain can keep a group from settling
        try:
            self._group.commit(moved)
        except KafkaError as error:
            log.warning("committing input offsets failed: %s", error)
        else:
            self._progress.update(moved)

    def _fail(self, producer: Any, error: Exception) -> None:
        kind = error.why if isinstance(error, RefusedError) else type(error)
        reason = next((word for known, word in REASONS.items() if issubclass(kind, known)), "error")
        text = str(error) if isinstance(error, KafkaError) else type(error).__name__
        log.warning("a batch failed (%s: %s); reading the states again", reason, text)
        self._observer.on_reset(reason)
        self._progress.clear()
        if isinstance(error, RefusedError):
            self._leave_alone(error)
        self._ownership.void(reason)
        kafka_client.bury(producer)
        if isinstance(error, FencedInstanceIdError) or (reason == "fenced" and self._fenced_again()):
            self._stopping.set()
            self._on_fatal(fenced_sentence(self._settings))

    def _leave_alone(self, error: RefusedError) -> None:
        self._refused[error.partition] = error.sentence
        self._ownership.set_aside(error.partition)
        again = threading.Timer(REFUSED_S, self._ownership.read_again, [error.partition])
        again.daemon = True
        again.start()

    def _fenced_again(self) -> bool:
        """Tell whether this is the second fencing within a minute: two processes then fence each other."""
        before, self._fenced_at = self._fenced_at, time.monotonic()
        return before is not None and self._fenced_at - before < FENCED_AGAIN_S

    def _close(self, producer: Any) -> None:
        try:
            producer.close(timeout=5)
        except KafkaError as error:
            log.warning("closing the producer failed: %s", error)


def still_ours(batch: Batch, ownership: Ownership) -> Batch:
    """Return the batch without the partitions whose epoch has changed, and without their calls."""
    parts = {p: part for p, part in batch.partitions.items() if ownership.is_current(p, part.epoch)}
    if len(parts) == len(batch.partitions):
        return batch
    granted = [grant.only(ownership.is_current) for grant in batch.granted]
    return Batch(parts, [grant for grant in granted if grant.calls])


def _send(producer: Any, parts: Iterable[PartitionBatch], abandoned: threading.Event) -> None:
    """Write records and make sure of each: one that fails does not fail the transaction by itself."""
    whose = [(part.partition, record) for part in parts for record in _records(part)]
    try:
        failures = kafka_records.write(producer, [record for _, record in whose], kafka_client.FLUSH_S)
    except TopicAuthorizationFailedError as forbidden:  # of one topic; no other was even tried
        failures = dict.fromkeys(range(len(whose)), forbidden)
    for number, error in failures.items():
        if type(error) in REFUSALS and _is_about(error, whose[number][1]):
            raise RefusedError(*whose[number], error)
    for error in failures.values():
        raise error
    _go_on(abandoned)


def _is_about(error: Exception, record: Record) -> bool:
    """Tell whether a refusal is this record's: that of one topic is said of all that was to be written."""
    if not isinstance(error, TopicAuthorizationFailedError):
        return True
    topics = error.args[0]
    return record.topic in ({topics} if isinstance(topics, str) else topics)


def _records(part: PartitionBatch) -> Iterator[Record]:
    yield from part.records
    yield from part.states.values()
    yield from part.own


def _go_on(abandoned: threading.Event) -> None:
    if abandoned.is_set():
        raise KafkaTimeoutError("abandoned")


def _within(seconds: float, work: Callable[[threading.Event], None]) -> None:
    """Run work in a thread that can be left behind, since some of its calls never time out.

    Raises what it raised, or KafkaTimeoutError when it is left behind. It then releases nothing: what
    was written is decided by the next producer's recovery.
    """
    abandoned = threading.Event()
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(abandoned)
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, name="transaction", daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        abandoned.set()
        raise KafkaTimeoutError(f"stuck for {seconds:.0f} s") from None
    if error is not None:
        raise error
