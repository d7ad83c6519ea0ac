"""Sliding-window quotas, counted at arrival, per account and quota name, several windows at once."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.words import Millis

Limits = Sequence[tuple[int, Millis]]
"""(limit, window in milliseconds): at most ``limit`` calls in any ``window``; several hold together."""


@dataclass(slots=True)
class Window:
    """One window of one account's quota. ``max_used`` is above ``limit`` if ever a call was too many."""

    account: str
    quota: str
    limit: int
    window_ms: Millis
    max_used: int = 0
    violations: int = 0

    arrivals: deque[Millis] = field(default_factory=deque)

    def full(self, now: Millis) -> bool:
        """Return whether an arrival now is one too many, and remember it if so."""
        while self.arrivals and self.arrivals[0] <= now - self.window_ms:
            self.arrivals.popleft()
        used = len(self.arrivals) + 1
        self.max_used = max(self.max_used, used)
        self.violations += used > self.limit
        return used > self.limit


class Quotas:
    """All quotas of a simulator.

    A call refused for one window does not count in any: none of the vendors documents whether it would
    (chosen). A call that arrives exactly one window after another is in the next window.
    """

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._limits = {name: tuple(windows) for name, windows in limits.items()}
        self._windows: dict[tuple[str, str], list[Window]] = {}

    def arrive(self, account: str, names: Iterable[str], now: Millis) -> Window | None:
        """Count a call against its quotas; return the window it is too many for, or None."""
        windows: list[Window] = []
        for name in names:
            if (account, name) not in self._windows:
                limits = self._limits.get(name, ())
                self._windows[account, name] = [Window(account, name, *limit) for limit in limits]
            windows += self._windows[account, name]
        exceeded = [window for window in windows if window.full(now)]
        if exceeded:
            return exceeded[0]
        for window in windows:
            window.arrivals.append(now)
        return None

    def report(self) -> list[dict[str, Any]]:
        """Return limit, length, most used and violations of every window that saw a call."""
        windows = [window for group in self._windows.values() for window in group]
        return [{k: v for k, v in asdict(window).items() if k != "arrivals"} for window in windows]
