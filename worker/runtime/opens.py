"""What is open at the streams of a partition, with its sums: they are asked for each second, of any number.

Looked for among 100,000 open streams they would hold the loop for 80 ms each time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from worker.core.stream import NOTHING_OPEN, Open
from worker.words import Millis

GRAIN: Millis = 100
"""Moments are counted by so much, rounded down."""


class Opens(Mapping[str, Open]):
    """What is open, by stream: only where something is.

    ``parked``: how many demands wait for a human, or for their account, by reason.
    """

    __slots__ = ("_ended", "_of", "_since", "parked")

    def __init__(self) -> None:
        self._of: dict[str, Open] = {}
        self._since: Counter[int] = Counter()
        self._ended: Counter[int] = Counter()
        self.parked: Counter[str] = Counter()

    def __getitem__(self, key: str) -> Open:
        return self._of[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def put(self, key: str, found: Open) -> None:
        """Note what is open at a stream now."""
        before = self._of.get(key, NOTHING_OPEN)
        if found == before:
            return
        if found == NOTHING_OPEN:
            del self._of[key]
        else:
            self._of[key] = found
        _move(self._since, before.since, found.since)
        _move(self._ended, before.ended, found.ended)
        if before.parked != found.parked:
            self.parked.subtract(before.parked)
            self.parked.update(found.parked)

    def since(self) -> Millis | None:
        """Return when the oldest event came that still waits for its terminal result, to a ``GRAIN``."""
        return _first(self._since)

    def ended(self) -> Millis | None:
        """Return the earliest end of what is over at its vendor and has to be lifted, to a ``GRAIN``."""
        return _first(self._ended)


def earliest(moments: Iterator[Millis | None]) -> Millis | None:
    """Return the earliest moment, if there is any."""
    return min((at for at in moments if at is not None), default=None)


def _move(counted: Counter[int], before: Millis | None, now: Millis | None) -> None:
    if before == now:
        return
    if before is not None:
        counted[before // GRAIN] -= 1
        if not counted[before // GRAIN]:
            del counted[before // GRAIN]
    if now is not None:
        counted[now // GRAIN] += 1


def _first(counted: Counter[int]) -> Millis | None:
    return min(counted) * GRAIN if counted else None
