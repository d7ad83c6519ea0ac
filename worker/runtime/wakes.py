"""When which stream must be looked at, whatever else happens: one heap, one entry that counts a stream."""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from worker.core.holds import FOREVER
from worker.core.stream import Step
from worker.runtime.partition import Partition
from worker.words import Millis


class Wakes:
    """The wake times of all streams. ``Partition.wakes`` says which entry of a stream counts."""

    def __init__(self) -> None:
        self._heap: list[tuple[Millis, int, int, str]] = []

    def plan(self, part: Partition, key: str, step: Step) -> None:
        """Plan a stream's next wake as its step says; a quiet step can only make it earlier."""
        planned = part.wakes.get(key, FOREVER)
        at = min(step.wake_at, planned) if step.quiet else step.wake_at
        if at == planned:
            return
        if at < FOREVER:
            part.wakes[key] = at
            heappush(self._heap, (at, part.number, part.epoch, key))
        else:
            del part.wakes[key]

    def load(self, part: Partition, wakes: Iterable[tuple[str, Millis]]) -> None:
        """Take the wake times of a restored partition."""
        for key, at in wakes:
            part.wakes[key] = at
            self._heap.append((at, part.number, part.epoch, key))
        heapify(self._heap)

    def next_at(self) -> Millis:
        """Return when the next entry is due; FOREVER if there is none."""
        return self._heap[0][0] if self._heap else FOREVER

    def pop(self, now: Millis, partitions: Mapping[int, Partition]) -> tuple[Partition, str] | None:
        """Return the next stream that is due, or None."""
        while self._heap and self._heap[0][0] <= now:
            at, number, epoch, key = heappop(self._heap)
            part = partitions.get(number)
            if part is not None and part.epoch == epoch and part.wakes.get(key) == at:
                del part.wakes[key]
                return part, key
        return None
