"""Which partitions are ours, since which epoch, and whether the brokers still agree.

An epoch numbers one assignment of one partition; it only ever rises. Everything the engine hears about
a partition passes through here, under one lock with the epochs, so that it hears Dropped (or Reset)
before anything of a newer epoch and nothing of an older one after it.
"""

import threading
import time
from collections.abc import Callable, Iterable

from worker.runtime.messages import Dropped, Message, Polled, Reset, Restored
from worker.words import Millis


class Ownership:
    """Epochs and the lease of one process. Safe from any thread; no method waits.

    ``put`` hands a message to the engine, ``restore`` asks for a partition to be read. A partition is not
    read before the journal is settled (``settle``): what a predecessor left open must be ended first.
    """

    def __init__(
        self,
        put: Callable[[Message], None],
        restore: Callable[[int, int], None],
        session_timeout: Millis,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._put, self._restore, self._clock = put, restore, clock
        self._session_s = session_timeout / 1000
        self._lock = threading.Lock()
        self._epochs: dict[int, int] = {}  # of every partition ever seen
        self._owned: set[int] = set()
        self._aside: set[int] = set()  # of those that are ours, what is not restored for now
        self._settled = False
        self._heard: float | None = None

    def assign(self, partitions: Iterable[int]) -> None:
        """Take partitions: each gets a new epoch and is restored."""
        with self._lock:
            for partition in partitions:
                self._take(partition, "assigned again")

    def drop(self, partitions: Iterable[int], reason: str) -> None:
        """Give partitions up; what carries their epochs is void."""
        with self._lock:
            for partition in self._owned.intersection(partitions):
                self._owned.remove(partition)
                self._epochs[partition] += 1
                self._put(Dropped(partition, reason))

    def read_again(self, partition: int) -> None:
        """Have a partition of ours restored anew."""
        with self._lock:
            if partition in self._owned:
                self._take(partition, "read again")

    def set_aside(self, partition: int) -> None:
        """Leave a partition of ours alone after the next ``void``, until it is read again."""
        with self._lock:
            self._aside.add(partition)

    def _take(self, partition: int, reason: str) -> None:
        if partition in self._owned:
            self._put(Dropped(partition, reason))
        self._owned.add(partition)
        self._aside.discard(partition)
        self._epochs[partition] = self._epochs.get(partition, 0) + 1
        if self._settled:
            self._restore(partition, self._epochs[partition])

    def void(self, reason: str) -> None:
        """Make every epoch void, and keep the partitions: a transaction failed."""
        with self._lock:
            self._settled = False
            for partition in self._owned:
                self._epochs[partition] += 1
            self._put(Reset(reason))

    def settle(self) -> None:
        """Have every owned partition restored: nothing of ours is open any more."""
        with self._lock:
            self._settled = True
            for partition in sorted(self._owned - self._aside):
                self._restore(partition, self._epochs[partition])

    @property
    def settled(self) -> bool:
        """Whether the journal is ready."""
        return self._settled

    def owned(self) -> dict[int, int]:
        """Return the partitions that are ours, with their epochs."""
        with self._lock:
            return {partition: self._epochs[partition] for partition in self._owned}

    def is_current(self, partition: int, epoch: int) -> bool:
        """Return whether the partition is ours and this is its epoch."""
        with self._lock:
            return self._is_current(partition, epoch)

    def _is_current(self, partition: int, epoch: int) -> bool:
        return partition in self._owned and self._epochs[partition] == epoch

    def publish(self, message: Restored | Polled) -> bool:
        """Hand a message to the engine if its epoch is current, and return whether it was."""
        with self._lock:
            current = self._is_current(message.partition, message.epoch)
            if current:
                self._put(message)
            return current

    def heard(self, sent_at: float) -> None:
        """Note that a heartbeat sent at that moment (by the clock, in seconds) was answered."""
        with self._lock:
            self._heard = sent_at if self._heard is None else max(self._heard, sent_at)

    def silence(self) -> float:
        """Return for how many seconds the brokers may have forgotten us; infinite before the first answer.

        Counted from when the last answered heartbeat was sent. A commit does not count: in a transaction
        it proves membership, but does not prolong it.
        """
        heard = self._heard
        return float("inf") if heard is None else self._clock() - heard

    def lease_fresh(self) -> bool:
        """Return whether the brokers cannot have given our partitions to another process yet.

        Holds after a freeze too: the time stood still for us, but not for the clock.
        """
        return self.silence() < self._session_s
