"""Records that were polled and are not worked off yet, and the back pressure they make."""

from collections import deque
from collections.abc import Callable

from worker.runtime.messages import Polled

HIGH = 4_000
LOW = 2_000
"""Records at which polling is held back, and at which it goes on."""


class Backlog:
    """A queue of polled records. ``hold_back`` is told True above HIGH and False below LOW records."""

    def __init__(self, hold_back: Callable[[bool], None]) -> None:
        self._hold_back = hold_back
        self._queue: deque[Polled] = deque()
        self._records = 0
        self._held = False

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._queue)

    def push(self, polled: Polled) -> None:
        """Let records wait."""
        self._queue.append(polled)
        self._records += len(polled.records)
        if self._records > HIGH and not self._held:
            self._held = True
            self._hold_back(True)

    def pop(self) -> Polled | None:
        """Take the oldest, or None."""
        if not self._queue:
            return None
        polled = self._queue.popleft()
        self._records -= len(polled.records)
        if self._records < LOW and self._held:
            self._held = False
            self._hold_back(False)
        return polled

    def close(self) -> None:
        """Hold polling back for good and forget what waits: it was not committed, so it is read again."""
        self._hold_back(True)
        self._queue.clear()
        self._records = 0
