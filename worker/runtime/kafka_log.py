"""The log of everything, as the rest of the worker sees it: batches in, messages out.

Puts the poll thread, the restore thread and the journal together. The engine hears of a partition in this
order: Dropped (or Reset) for an old epoch, Restored for a new one, then its Polled records.
"""

import logging
import threading
import time
from collections.abc import Callable

from kafka.errors import KafkaError

from worker.runtime import preflight, topics
from worker.runtime.consumer import Consumer
from worker.runtime.control import ControlReader
from worker.runtime.journal import Journal, Observer
from worker.runtime.kafka_client import session_timeout
from worker.runtime.messages import Batch, Message
from worker.runtime.ownership import Ownership
from worker.runtime.restore import Restorer
from worker.settings import KafkaSettings

log = logging.getLogger(__name__)


class KafkaLog:
    """One member of the group.

    ``put`` takes messages for the engine. ``on_fatal`` takes one sentence, from any thread, at most once:
    the process is to end with 1. Neither may wait.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        put: Callable[[Message], None],
        on_fatal: Callable[[str], None],
        observer: Observer,
    ) -> None:
        self._settings = settings
        self._tell_fatal = on_fatal
        self._fatal = threading.Lock()
        self._trouble: tuple[str, ...] = ("the brokers have not been asked yet",)
        self.partitions = 0
        """How many partitions the verdict topic has; 0 until the brokers have said so."""
        self._restorer = Restorer(settings, on_restored=self._flow)
        self._ownership = Ownership(put, self._restorer.request, session_timeout(settings))
        self._consumer = Consumer(settings, self._ownership, connect=self._connect, on_fatal=self._on_fatal)
        self._control = ControlReader(settings, put, self._resume_stopped)
        self._journal = Journal(
            settings, self._ownership, self._consumer, put=put, observer=observer, on_fatal=self._on_fatal
        )

    def start(self) -> None:
        """Start the threads. Does not wait for the brokers."""
        self._restorer.start(self._ownership)
        self._consumer.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the submitted batch, and leave. A static member keeps its place until its session ends."""
        until = time.monotonic() + timeout_s
        if self._journal.started:
            self._journal.stop(max(0.0, until - time.monotonic()))
        self._control.stop(1.0)
        self._consumer.stop(max(1.0, until - time.monotonic()))
        self._restorer.stop(max(1.0, until - time.monotonic()))

    def submit(self, batch: Batch) -> None:
        """Make a batch durable; Committed or Reset answers. One batch at a time."""
        self._journal.submit(batch)

    def lease_fresh(self, partition: int, epoch: int) -> bool:
        """Return whether a call may go out for a partition in this epoch."""
        return self._ownership.is_current(partition, epoch) and self._ownership.lease_fresh()

    def owned(self) -> dict[int, int]:
        """Return the partitions that are ours, with their epochs."""
        return self._ownership.owned()

    def held(self) -> int:
        """Return how many partitions are ours."""
        return len(self._ownership.owned())

    def set_back_pressure(self, on: bool) -> None:
        """Hold every partition back, or no longer."""
        self._consumer.set_back_pressure(on)

    def stop_partition(self, partition: int) -> None:
        """Hold one partition back until it is resumed or moves away."""
        self._consumer.stop_partition(partition)

    def resume_partition(self, partition: int) -> None:
        """Let one partition go on, from what was committed: what was read beyond that was put aside."""
        self._ownership.read_again(partition)
        self._consumer.resume_partition(partition)

    def _resume_stopped(self) -> None:
        for partition in self.stopped():
            log.info("an operator lets partition %d go on", partition)
            self.resume_partition(partition)

    def stopped(self) -> frozenset[int]:
        """Return the partitions that are held back one by one."""
        return self._consumer.stopped()

    def caught_up(self) -> bool:
        """Return whether the input of our partitions is read to its end."""
        return self._consumer.caught_up()

    def lag(self) -> dict[int, int]:
        """Return the number of records not read yet, by partition."""
        return self._consumer.lag()

    def reasons_not_ready(self) -> list[str]:
        """Return why this member cannot do its work now, one sentence each; empty if it can."""
        reasons = list(self._trouble)
        if self._trouble:
            return reasons
        if not self._ownership.settled:
            reasons.append("the journal is recovering")
        if not self._consumer.joined():
            reasons.append("not a member of the group yet")
        elif self._ownership.owned() and not self._ownership.lease_fresh():
            reasons.append("the brokers do not answer heartbeats")
        reasons += [f"partition {partition} is being restored" for partition in self._consumer.restoring()]
        return reasons + list(self._restorer.overdue()) + self._journal.troubles() + self._control.troubles()

    def alive(self) -> bool:
        """Return whether every loop turns."""
        journal = self._journal.alive() or not self._journal.started
        return self._consumer.alive() and self._restorer.alive() and journal and self._control.alive()

    def _connect(self) -> int | None:
        """Look at the topics before anything is read. Returns the number of verdict partitions."""
        try:
            if self._settings.create_topics:
                topics.create(self._settings)
            present = topics.describe(self._settings)
        except KafkaError:
            found = preflight.examine(self._settings)
            self._trouble = tuple(found) or ("the brokers can be reached but do not answer in time",)
            for sentence in self._trouble:
                log.warning("%s", sentence)
            raise
        problems = topics.problems(self._settings, present)
        if problems:
            self._on_fatal("; ".join(problems))
            return None
        self._trouble = ()
        self.partitions = present[self._settings.topics.verdicts].partitions
        if not self._journal.started:
            self._journal.start()
            self._control.start()
        return self.partitions

    def _flow(self, partition: int, epoch: int, offset: int) -> None:
        self._consumer.seek(partition, epoch, offset)

    def _on_fatal(self, sentence: str) -> None:
        if self._fatal.acquire(blocking=False):  # the first one is the cause
            log.critical("%s", sentence)
            self._tell_fatal(sentence)
