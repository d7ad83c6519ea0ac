"""The restore thread: reads the states of a partition back before its first record flows.

The order is what makes it right. First the committed input offset, which a read_committed reader gets
only when no transaction is open on it; then the end of the state partition as a read_uncommitted reader
sees it, since the other one's end may still hide what was just committed; then the states up to there.
Partitions are read side by side: one that waits for a dead owner's transaction does not hold up the rest.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from worker.runtime import kafka_client
from worker.runtime.messages import Headers, Restored
from worker.runtime.ownership import Ownership
from worker.settings import KafkaSettings

log = logging.getLogger(__name__)

COMMITTED_MS = 500
POLL_MS = 200
POLL_RECORDS = 5000
RETRY_S = 0.5

OVERDUE_S = kafka_client.TRANSACTION_TIMEOUT_S + 30.0
"""Past this a dead owner's transaction should have been ended by the broker: say so, and again and again."""


@dataclass(slots=True)
class _Reading:
    """A partition on its way back. ``end`` None: it is not known yet where to stop."""

    partition: int
    epoch: int
    since: float
    complain_at: float
    asked_at: float = 0.0
    next_offset: int = 0
    end: int | None = None
    states: dict[bytes, tuple[bytes, Headers]] = field(default_factory=dict)


class Restorer:
    """Restores partitions on request. ``on_restored(partition, epoch, offset)`` follows the message.

    Values stay raw bytes: most streams are never touched again before the next restore.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        on_restored: Callable[[int, int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._on_restored, self._clock = settings, on_restored, clock
        self._requests: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._active: dict[int, _Reading] = {}
        self._committed: Any = None  # reads as read_committed
        self._end: Any = None  # reads as read_uncommitted
        self._stopping = False
        self._overdue: tuple[str, ...] = ()
        self._ownership: Ownership
        self._thread = threading.Thread(target=self._run, name="restore", daemon=True)

    def start(self, ownership: Ownership) -> None:
        """Start restoring."""
        self._ownership = ownership
        self._thread.start()

    def request(self, partition: int, epoch: int) -> None:
        """Ask for a partition. A request whose epoch is no longer current is forgotten."""
        self._requests.put((partition, epoch))

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping = True
        self._requests.put(None)
        self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Return whether the thread lives."""
        return self._thread.is_alive()

    def overdue(self) -> tuple[str, ...]:
        """Return a sentence for each partition that has waited longer than it should."""
        return self._overdue

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._take_requests()
                if self._active:
                    self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it was, the partitions must come back
                # The type only: the text of an unforeseen error could show what was read.
                text = str(error) if isinstance(error, KafkaError) else type(error).__name__
                log.warning("restoring %s failed (%s); starting over", sorted(self._active), text)
                self._start_over()
                self._complain()
                time.sleep(RETRY_S)
        self._close()

    def _take_requests(self) -> None:
        while not self._stopping:
            try:
                request = self._requests.get(block=not self._active)
            except queue.Empty:
                break
            if request is not None:
                partition, epoch = request
                now = self._clock()
                self._active[partition] = _Reading(partition, epoch, now, now + OVERDUE_S)
        self._forget_void()

    def _forget_void(self) -> None:
        self._active = {p: r for p, r in self._active.items() if self._ownership.is_current(p, r.epoch)}

    def _turn(self) -> None:
        if self._committed is None:
            self._committed = kafka_client.restore_consumer(self._settings, committed_only=True)
        if self._end is None:
            self._end = kafka_client.restore_consumer(self._settings, committed_only=False)
        waiting = [r for r in self._active.values() if r.end is None]
        for reading in sorted(waiting, key=lambda r: r.asked_at):
            if not self._find_bounds(reading):
                break  # at most one wait a turn, so that the others are read meanwhile
        ready = {self._tp(r.partition): r for r in self._active.values() if r.end is not None}
        self._read(ready)
        for tp, reading in ready.items():
            # position() passes control records, so it gets there even if the last record is one.
            if self._committed.position(tp, timeout_ms=COMMITTED_MS) >= reading.end:
                self._finish(reading)
        self._complain()

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._settings.topics.state, partition)

    def _find_bounds(self, reading: _Reading) -> bool:
        """Find out from where records go on and how far states go; False if a transaction is open on it."""
        reading.asked_at = self._clock()
        verdicts, states = (
            TopicPartition(self._settings.topics.verdicts, reading.partition),
            self._tp(reading.partition),
        )
        try:
            offset = self._committed.committed(verdicts, timeout_ms=COMMITTED_MS)
        except KafkaTimeoutError:
            return False  # or the brokers are away: a later turn asks again
        if offset is None:
            offset = self._end.beginning_offsets([verdicts])[verdicts]
        reading.next_offset = offset
        end = self._end.end_offsets([states])[states]
        start = self._end.beginning_offsets([states])[states]
        self._committed.assign([*self._committed.assignment(), states])
        self._committed.seek(states, start)
        reading.end = end
        return True

    def _read(self, ready: dict[TopicPartition, _Reading]) -> None:
        if not ready:
            return
        self._committed.assign(list(ready))
        for tp, records in self._committed.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).items():
            states = ready[tp].states
            for record in records:
                if record.value is None:
                    states.pop(record.key, None)
                else:
                    states[record.key] = (record.value, record.headers)

    def _finish(self, reading: _Reading) -> None:
        del self._active[reading.partition]
        states = [(key, value, headers) for key, (value, headers) in reading.states.items()]
        restored = Restored(reading.partition, reading.epoch, states, reading.next_offset)
        if self._ownership.publish(restored):
            log.info(
                "restored partition %d: %d states in %.1f s, from offset %d",
                reading.partition,
                len(states),
                self._clock() - reading.since,
                reading.next_offset,
            )
            self._on_restored(reading.partition, reading.epoch, reading.next_offset)

    def _start_over(self) -> None:
        self._close()
        for reading in self._active.values():
            reading.end = None
            reading.states.clear()

    def _close(self) -> None:
        for consumer in (self._committed, self._end):
            if consumer is not None:
                try:
                    consumer.close(timeout_ms=200)
                except Exception as error:  # noqa: BLE001 - it is being given up; the thread must go on
                    log.info("closing a restore consumer failed (%s)", type(error).__name__)
        self._committed = self._end = None

    def _complain(self) -> None:
        now = self._clock()
        for reading in self._active.values():
            if now >= reading.complain_at:
                reading.complain_at = now + OVERDUE_S
                log.error("%s", self._sentence(reading, self._open_transactions(reading.partition)))
        self._overdue = tuple(
            self._sentence(r, "see the log") for r in self._active.values() if now - r.since >= OVERDUE_S
        )

    def _sentence(self, reading: _Reading, cause: str) -> str:
        waited = self._clock() - reading.since
        return f"partition {reading.partition} has not been restored for {waited:.0f} s: {cause}"

    def _open_transactions(self, partition: int) -> str:
        """Say what the partition waits for, as far as the brokers tell."""
        states = self._tp(partition)
        try:
            admin = kafka_client.admin_client(self._settings)
            try:
                described = admin.describe_producers([states])
            finally:
                admin.close()
        except Exception as error:  # noqa: BLE001 - a complaint must not end the thread that restores
            return f"the brokers do not answer ({type(error).__name__})"
        open_ones = [
            f"producer {p.producer_id} (epoch {p.producer_epoch}, coordinator epoch {p.coordinator_epoch})"
            f" since offset {p.current_transaction_start_offset}"
            for p in described[states].active_producers
            if p.current_transaction_start_offset >= 0
        ]
        if not open_ones:
            return "no transaction is open on its states; look at the brokers"
        return (
            f"a transaction is open on {states.topic} of {', '.join(open_ones)}; if its owner is gone, "
            "abort it with kafka-transactions.sh abort"
        )
