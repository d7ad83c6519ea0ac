"""When which stream must be looked at, whatever else happens: one heap, one entry that counts a stream."""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from worker.core.holds import FOREVER
from worker.core.stream import Step
from worker.runtime.partition import Partition
from worker.words import Millis

SLACK = 1_000
"""How many entries that no longer count are let lie, beside as many as do count."""

_Entry = tuple[Millis, int, int, str]


class Wakes:
    """The wake times of all streams. ``Partition.wakes`` says which entry of a stream counts."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []

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

    def soon(self, part: Partition, key: str, now: Millis) -> None:
        """Have a stream looked at as soon as there is room."""
        if part.wakes.get(key, FOREVER) > now:
            part.wakes[key] = now
            heappush(self._heap, (now, part.number, part.epoch, key))

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
        if len(self._heap) > 2 * sum(len(part.wakes) for part in partitions.values()) + SLACK:
            self._heap = [entry for entry in self._heap if _counts(entry, partitions)]
            heapify(self._heap)
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if _counts(entry, partitions):
                part, key = partitions[entry[1]], entry[3]
                del part.wakes[key]
                return part, key
        return None


def _counts(entry: _Entry, partitions: Mapping[int, Partition]) -> bool:
    at, number, epoch, key = entry
    part = partitions.get(number)
    return part is not None and part.epoch == epoch and part.wakes.get(key) == at
