"""The two clocks, in one place, so that tests can bring their own."""

import time
from typing import Protocol

from worker.words import Millis


class Clock(Protocol):
    """What the runtime asks for the time."""

    def now(self) -> Millis:
        """Return the wall-clock time, in milliseconds. It may be set back or forward."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment, which never go back: for measuring lengths of time."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> Millis:
        """Return the wall-clock time, in milliseconds, rounded down."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()
