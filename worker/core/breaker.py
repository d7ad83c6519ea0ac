"""Whether a vendor is away, and how to come back to it.

::

    closed ── FAILURES in a row ──► open ── its delay is over ──► one probe ── answered ──► ramp ──► closed
                                     ▲                              │                        │
                                     └── twice the delay ◄── failed ┴────── FAILURES in a row ┘

While it is open nothing goes to the vendor; what waits goes on waiting, until its own ``expires_at``. On
the ramp calls are spaced out, so that a backlog does not fall on a vendor that has just come back.
"""

from worker.words import Millis

FAILURES = 5
"""So many requests in a row without a sensible answer (5xx, timeout, no connection) mean that it is away."""
SHORTEST: Millis = 1_000
LONGEST: Millis = 30_000
"""How long it is left alone: this at first, twice as long after each probe that fails, at most so long."""
RAMP: Millis = 10_000


class Breaker:
    """One account's. Moments come in as ``now``; a clock set back prolongs no delay."""

    __slots__ = ("_delay", "_failures", "_gap_until", "_open_until", "_probing", "_ramp_until")

    def __init__(self) -> None:
        self._failures = 0
        self._delay = SHORTEST
        self._open_until: Millis | None = None
        self._probing = False
        self._ramp_until: Millis | None = None
        self._gap_until: Millis = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the vendor is taken for away."""
        return self._open_until is not None

    def failed(self, now: Millis) -> None:
        """Note a request without a sensible answer."""
        self._failures += 1
        if self._open_until is not None:
            if self._probing:  # else an answer to what went out before
                self._delay = min(LONGEST, 2 * self._delay)
                self._open(now)
        elif self._failures >= FAILURES:  # on the ramp too: a vendor that loses one in ten is not away
            if self._ramp_until is not None:
                self._delay = min(LONGEST, 2 * self._delay)
            self._open(now)

    def answered(self, now: Millis) -> None:
        """Note a request that the vendor dealt with, whatever it said."""
        self._failures = 0
        if self._open_until is not None:
            self._open_until, self._probing = None, False
            self._ramp_until = now + RAMP

    def neither(self) -> None:
        """Note that a request tells nothing: it was never sent, or throttled at the door."""
        self._probing = False

    def wait(self, now: Millis) -> Millis | None:
        """Return how long until a call may go; None if that hangs on the probe's answer."""
        if self._open_until is not None:
            if self._probing:
                return None
            self._open_until = min(self._open_until, now + LONGEST)
            return max(0, self._open_until - now)
        if self._ramp_until is None:
            return 0
        self._ramp_until = min(self._ramp_until, now + RAMP)
        if now >= self._ramp_until:
            self._ramp_until, self._delay = None, SHORTEST
            return 0
        self._gap_until = min(self._gap_until, now + RAMP)
        return max(0, self._gap_until - now)

    def went(self, now: Millis, pace: Millis) -> None:
        """Note that a call goes out; ``pace`` is what its quota allows, as the time between two calls."""
        if self._open_until is not None:
            self._probing = True
        elif self._ramp_until is not None:
            self._gap_until = now + pace

    def _open(self, now: Millis) -> None:
        self._open_until, self._probing, self._ramp_until = now + self._delay, False, None
