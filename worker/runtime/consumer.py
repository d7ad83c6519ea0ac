"""The poll thread: one thread that is always inside ``poll``, and what it knows.

A join that completes while nobody polls is thrown away by the client, so nothing else happens on this
thread: no restore, no commit, no sleep. The rebalance listener runs on the client's own thread, inside
poll; it only bumps epochs, pauses and asks for restores.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import MemberState

from worker.runtime import kafka_client, topics
from worker.runtime.messages import Polled
from worker.runtime.ownership import Ownership
from worker.settings import KafkaSettings

log = logging.getLogger(__name__)

POLL_MS = 250
COMMIT_MS = 5000
LAG_MS = 1000
RETRY_S = 1.0
ALIVE_S = 60.0


def fenced_sentence(settings: KafkaSettings) -> str:
    """Say that another process runs under our name."""
    return (
        f"another process runs with kafka.instance_id {settings.instance_id!r} in group "
        f"{settings.group_id!r}; give every replica an instance_id of its own"
    )


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Reads the verdict topic for the partitions the group gives us.

    ``connect`` runs on the poll thread before the group is joined, again and again while it raises
    KafkaError. It returns the number of the topic's partitions, or None if there is no going on.
    ``on_fatal`` gets one sentence when going on is useless; it must not wait.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        ownership: Ownership,
        *,
        connect: Callable[[], int | None],
        on_fatal: Callable[[str], None],
    ) -> None:
        self._settings, self._ownership = settings, ownership
        self._connect, self._on_fatal = connect, on_fatal
        self._topic = settings.topics.verdicts
        self._consumer: Any = None
        self._partitions = 0
        self._stopping = threading.Event()
        self._seeks: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()
        self._flowing: dict[int, int] = {}  # partition -> the epoch its records carry
        self._stopped: frozenset[int] = frozenset()
        self._back_pressure = False
        self._joined = False
        self._progress: dict[int, tuple[int, int]] = {}  # partition -> (position, end) when last polled
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    # What other threads may call.

    def start(self) -> None:
        """Start polling."""
        self._turned = time.monotonic()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Leave the loop and close the consumer. A static member does not leave the group by that."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def seek(self, partition: int, epoch: int, offset: int) -> None:
        """Let a restored partition flow from this offset, before the next poll."""
        self._seeks.put((partition, epoch, offset))

    def set_back_pressure(self, on: bool) -> None:
        """Hold back every partition, or no longer."""
        self._back_pressure = on

    def stop_partition(self, partition: int) -> None:
        """Hold back one partition, until it is resumed or given up."""
        self._stopped |= {partition}

    def stopped(self) -> frozenset[int]:
        """Return the partitions that are held back one by one."""
        return self._stopped

    def resume_partition(self, partition: int) -> None:
        """Let one partition go on."""
        self._stopped -= {partition}

    def membership(self) -> Any:
        """Return the group metadata of this moment, or None before there is a consumer. Never keep it."""
        consumer = self._consumer
        return None if consumer is None else consumer.group_metadata()

    def joined(self) -> bool:
        """Return whether we are a member of the group, and know which partitions are ours."""
        return self._joined

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit input offsets outside any transaction. Raises KafkaError."""
        self._consumer.commit(
            {TopicPartition(self._topic, p): OffsetAndMetadata(at, "", -1) for p, at in offsets.items()},
            timeout_ms=COMMIT_MS,
        )

    def restoring(self) -> list[int]:
        """Return the partitions that are ours but not read back yet."""
        return sorted(p for p, epoch in self._ownership.owned().items() if self._flowing.get(p) != epoch)

    def lag(self) -> dict[int, int]:
        """Return how many records of each partition are not read yet.

        For what is held back this asks the brokers, a second at most: nobody else would notice its growth.
        """
        progress = self._progress
        ends = {p: end for p, (_, end) in progress.items()}
        if held := [TopicPartition(self._topic, p) for p in progress if self._is_held(p)]:
            try:
                found = self._consumer.end_offsets(held, timeout_ms=LAG_MS)
            except KafkaError as error:
                log.info("the lag of partitions held back is not known now: %s", error)
            else:
                ends |= {tp.partition: end for tp, end in found.items()}
        return {p: max(0, ends[p] - position) for p, (position, _) in progress.items()}

    def caught_up(self) -> bool:
        """Return whether every partition of ours has been read to its end, and none is held back."""
        owned, progress = self._ownership.owned(), self._progress
        return (
            self.joined()
            and not self.restoring()
            and not any(self._is_held(p) for p in owned)
            and all(p in progress and progress[p][0] >= progress[p][1] for p in owned)
        )

    def _is_held(self, partition: int) -> bool:
        return self._back_pressure or partition in self._stopped

    def alive(self) -> bool:
        """Return whether the loop turns."""
        return self._thread.is_alive() and time.monotonic() - self._turned < ALIVE_S

    # The rebalance listener: on the client's thread, inside poll. No request, no waiting.

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Give up what the group takes away (at first it is nothing)."""
        self._give_up(revoked, "revoked")

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Give up what the group has already given to others."""
        self._give_up(lost, "lost")

    def _give_up(self, partitions: set[TopicPartition], reason: str) -> None:
        numbers = {tp.partition for tp in partitions}
        self._ownership.drop(numbers, reason)
        self._stopped -= numbers

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Hold the new partitions back until they are restored.

        The client keeps the position of a partition it had before, so each is sought when it is restored.
        Until then any position will do: without one, poll itself would ask the brokers for it, and wait.
        """
        partitions = sorted(tp.partition for tp in assigned)
        if partitions and partitions[-1] >= self._partitions:
            grown = topics.partitions_differ(
                self._topic, partitions[-1] + 1, self._settings.topics.state, self._partitions
            )
            self._on_fatal(grown)
        self._consumer.pause(*assigned)
        for tp in assigned:
            self._consumer.seek(tp, 0)
        self._ownership.assign(p for p in partitions if p < self._partitions)
        kafka_client.heartbeat_soon(self._consumer)

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and self._consumer is None:
                self._turned = time.monotonic()
                self._open()
            while not self._stopping.is_set():
                self._turn()
        except FencedInstanceIdError:
            self._on_fatal(fenced_sentence(self._settings))
        except Exception:
            log.exception("the poll thread failed")
            self._on_fatal("the poll thread failed; see the log above")
        finally:
            self._close()

    def _open(self) -> None:
        try:
            partitions = self._connect()
            if partitions is None:
                self._stopping.set()
                return
            consumer = kafka_client.group_consumer(
                self._settings,
                on_heartbeat=self._ownership.heard,
                on_fenced=lambda: self._on_fatal(fenced_sentence(self._settings)),
            )
            try:
                consumer.subscribe([self._topic], listener=self)
                # A leader that does not know the topic yet gives nobody anything, and the group keeps that
                # for a static member that takes its place. Asked for after the subscription: what was known
                # before it does not count, and the client would join a second time.
                consumer.beginning_offsets([TopicPartition(self._topic, 0)])
            except BaseException:
                consumer.close(timeout_ms=200)
                raise
        except KafkaError as error:
            log.warning("the brokers cannot be reached (%s); trying again", type(error).__name__)
            self._stopping.wait(RETRY_S)
            return
        self._partitions = partitions
        self._consumer = consumer

    def _turn(self) -> None:
        self._turned = time.monotonic()
        try:
            self._apply_seeks()
            self._apply_pauses()
            for tp, records in self._consumer.poll(timeout_ms=POLL_MS).items():
                epoch = self._flowing.get(tp.partition)
                if epoch is not None:
                    self._ownership.publish(Polled(tp.partition, epoch, records))
            # After a poll, not within: the listener has then been told of the partitions.
            self._joined = self._consumer.group_metadata().state is MemberState.STABLE
            self._measure()
        except FencedInstanceIdError:
            raise
        except KafkaError as error:
            log.warning("polling failed: %s", error)
            self._stopping.wait(RETRY_S)

    def _apply_seeks(self) -> None:
        while not self._seeks.empty():
            partition, epoch, offset = self._seeks.get()
            tp = TopicPartition(self._topic, partition)
            if self._ownership.is_current(partition, epoch) and tp in self._consumer.assignment():
                self._consumer.seek(tp, offset)
                self._flowing[partition] = epoch

    def _apply_pauses(self) -> None:
        assigned, owned = self._consumer.assignment(), self._ownership.owned()
        self._flowing = {p: e for p, e in self._flowing.items() if owned.get(p) == e}
        held = {tp for tp in assigned if self._is_held(tp.partition) or tp.partition not in self._flowing}
        paused = self._consumer.paused()
        self._consumer.pause(*(held - paused))
        self._consumer.resume(*(paused - held))

    def _measure(self) -> None:
        progress = {}
        for tp in self._consumer.assignment():
            end = self._consumer.highwater(tp)
            if end is not None and tp.partition in self._flowing:
                progress[tp.partition] = (self._consumer.position(tp), end)  # it passes control records
        self._progress = progress

    def _close(self) -> None:
        if self._consumer is None:
            return
        try:
            self._consumer.close(timeout_ms=2000)
        except KafkaError as error:
            log.warning("closing the consumer failed: %s", error)
