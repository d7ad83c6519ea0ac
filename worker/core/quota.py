"""How many calls a vendor allows: sliding windows that say how long to wait, and never sleep.

A vendor may count a call at any moment between our sending and its answer. So a slot is taken when a
call is granted and comes free one window after its *answer*; then no window of the vendor's, wherever
it begins, holds more than the limit. Answers are dated in whole milliseconds, which round down, so a
slot waits one millisecond more.

Clocks. Moments are wall-clock time, since they also come from the states of another replica. A clock
set back frees nothing early: an answer that seems to lie ahead counts as of now (plus ``AHEAD``, as the
threads read the clock at slightly different moments), so it holds its slot longer, but never for more
than one window. A clock set forward frees slots early by as much; the vendor then throttles, and
``push`` makes up for it.

Shares. A replica that holds some of the partitions gets that part of a limit, rounded down: the
shares of a group never add up to more than the limit, and a part smaller than one slot gives none.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from worker.vendors.base import Quota
from worker.words import Millis

AHEAD: Millis = 1_000
SHORT: Millis = 1_000
"""Windows up to this long keep no reserve: they come round before it could matter."""


class Window:
    """One sliding window: the answers of its last length, and how many calls it still takes."""

    __slots__ = ("_answers", "_open", "_quota", "_reserve", "limit")

    def __init__(self, quota: Quota, reserve: float) -> None:
        self._quota = quota
        self._reserve = reserve if quota.window > SHORT else 0.0
        self._answers: list[Millis] = []  # sorted
        self.set_share(1, 1)

    def set_share(self, held: int, total: int) -> None:
        """Take ``held`` of ``total`` parts of the limit, and what of it is open to all calls."""
        self.limit = self._quota.limit * held // total
        kept = max(1, int(self.limit * self._reserve)) if self._reserve else 0
        self._open = self.limit - min(kept, max(0, self.limit - 1))  # a single slot is open to all

    def wait(self, now: Millis, under_way: int, *, critical: bool) -> Millis | None:
        """Return how long until a call may go; 0 for now, None if that hangs on answers to come."""
        self._forget(now)
        to_come_free = under_way + len(self._answers) + 1 - (self.limit if critical else self._open)
        if to_come_free <= 0:
            return 0
        if to_come_free > len(self._answers):
            return None
        return self._answers[to_come_free - 1] + self._quota.window + 1 - now

    def used_ratio(self, now: Millis, under_way: int) -> float:
        """Return the used part of the limit; above 1 when a share has shrunk."""
        self._forget(now)
        used = under_way + len(self._answers)
        return used / self.limit if self.limit else 1.0

    def answered(self, at: Millis) -> None:
        """Date a slot: it comes free one window after ``at``."""
        insort(self._answers, at)

    def _forget(self, now: Millis) -> None:
        """Let go what is older than the window; bring down what lies ahead of the clock."""
        answers = self._answers
        latest = now + AHEAD
        if answers and answers[-1] > latest:
            place = bisect_right(answers, latest)
            answers[place:] = [latest] * (len(answers) - place)
        del answers[: bisect_left(answers, now - self._quota.window)]


class Allowance:
    """What one quota name gives: all its windows at once, and the calls under way.

    ``reserve`` (0.05 is 5 %) of each window longer than ``SHORT``, at least one slot, is for critical
    calls only; but the only slot of a window is open to all.
    """

    __slots__ = ("_held", "_pushed", "_under_way", "_windows")

    def __init__(self, quotas: Iterable[Quota], reserve: float) -> None:
        self._windows = tuple(Window(quota, reserve) for quota in quotas)
        self._under_way = 0
        self._pushed: tuple[Millis, Millis] = (0, 0)  # until when, and for how long
        self._held = True

    def wait(self, now: Millis, *, critical: bool) -> Millis | None:
        """Return how long until a call may go; 0 for now, None if that hangs on answers or shares."""
        longest = self._pushed_for(now)
        for window in self._windows:
            wait = window.wait(now, self._under_way, critical=critical)
            if wait is None:
                return None
            longest = max(longest, wait)
        return longest

    def take(self) -> None:
        """Take a slot of every window. The caller has seen that there is no wait."""
        self._under_way += 1

    def answered(self, at: Millis) -> None:
        """Let a taken slot come free one window after ``at``."""
        self._under_way -= 1
        for window in self._windows:
            window.answered(at)

    def give_back(self) -> None:
        """Undo a take whose call was never sent."""
        self._under_way -= 1

    def push(self, until: Millis, now: Millis) -> None:
        """Give nothing before ``until``: the vendor says that it is used up. Never shortens a push."""
        if until - now > self._pushed_for(now):
            self._pushed = (until, until - now)

    def seed(self, at: Millis) -> None:
        """Count a call known from restored state, answered at ``at``. Each seed is one call more."""
        for window in self._windows:
            window.answered(at)

    def set_share(self, held: int, total: int) -> None:
        """Scale the limits to ``held`` of ``total`` partitions."""
        self._held = held > 0
        for window in self._windows:
            window.set_share(held, total)

    def below_one(self) -> bool:
        """Tell whether partitions are held, but their share of some window is less than one slot."""
        return self._held and any(window.limit < 1 for window in self._windows)

    def used_ratio(self, now: Millis) -> float:
        """Return the used part of the fullest window; at least 1 while pushed."""
        ratio = max((window.used_ratio(now, self._under_way) for window in self._windows), default=0.0)
        return max(ratio, 1.0) if self._pushed_for(now) else ratio

    def _pushed_for(self, now: Millis) -> Millis:
        """Return what is left of a push: never more than it was, though the clock be set back."""
        until, length = self._pushed
        return max(0, min(until - now, length))
