"""How many calls a vendor allows: sliding windows that say how long to wait, and never sleep.

A vendor may count a call at any moment between our sending and its answer. So a slot is taken when a
call is granted and comes free one window after its *answer*; then no window of the vendor's, wherever
it begins, holds more than the limit. Answers are dated in whole milliseconds, which round down, so a
slot waits one millisecond more.

Clocks. Moments are wall-clock time, since they also come from another replica. A clock set back frees
nothing early: an answer that seems to lie ahead (by more than ``ahead``: the threads read the clock at
slightly different moments, and what is not known for certain is dated late) counts as of then, so it
holds its slot longer, but hardly more than one window. A clock set forward frees slots early by as much;
the vendor then throttles, and ``push`` makes up for it.

Partitions. Each slot of a window belongs to one partition of the verdict topic: partition i of P has
``slots_of(i, P, limit)`` of them, which add up to the limit exactly. A replica has the slots of the
partitions it holds, for whichever stream. What a partition's slots were used for is its ``Kept``, which
moves with it: so a window is neither exceeded nor wasted, whoever holds which partition.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from worker.vendors.base import Quota
from worker.words import Millis, value

AHEAD: Millis = 1_000
SHORT: Millis = 1_000
"""Windows up to this long keep no reserve: they come round before it could matter."""


def slots_of(partition: int, partitions: int, limit: int) -> int:
    """Return how many of a limit's slots belong to a partition."""
    return (partition + 1) * limit // partitions - partition * limit // partitions


@dataclass(slots=True, eq=False)
class Use:
    """One request in the windows it counts in: ``slots`` says in which, and whose slots it holds there.

    ``id`` is its first call's, once there is one. ``granted_at`` bounds when it is sent.
    """

    id: str = ""
    granted_at: Millis = 0
    slots: list[tuple["Window", int, "_Book"]] = field(default_factory=list, repr=False)

    def partitions(self) -> frozenset[int]:
        """Return the partitions whose slots it holds."""
        return frozenset(partition for _, partition, _ in self.slots)

    def settle(self, at: Millis | None) -> None:
        """Let its slots come free one window after ``at``, its answer; None: at once, it was never sent."""
        for window, partition, book in self.slots:
            window.settle(self, partition, book, at)
        self.slots.clear()


@value()
class Kept:
    """What a partition's slots of one window are used for: answers (in order), and uses without one."""

    window: Millis
    answers: Sequence[Millis] = ()
    under_way: Sequence[Use] = ()


class _Book:
    """One partition's slots in one window."""

    __slots__ = ("answers", "slots", "under_way")

    def __init__(self, slots: int, kept: Kept) -> None:
        self.slots = slots
        self.answers: list[Millis] = sorted(kept.answers)
        self.under_way: set[Use] = set(kept.under_way)

    @property
    def used(self) -> int:
        return len(self.answers) + len(self.under_way)


class Window:
    """One sliding window: the slots of the partitions held, and how many calls they still take."""

    __slots__ = ("_ahead", "_books", "_due", "_latest", "_quota", "_reserve", "_reserved", "_room", "limit")

    def __init__(self, quota: Quota, reserve: float, ahead: Millis = AHEAD) -> None:
        self._quota = quota
        self._ahead = ahead
        self._reserve = reserve if quota.window > SHORT else 0.0
        self._books: dict[int, _Book] = {}
        self._room = 0  # slots that are free
        self._due: Millis = 0  # nothing comes free before
        self._latest: Millis = 0  # no answer is dated later
        self._look_over()

    def hold(self, partition: int, partitions: int, kept: Kept, full_at: Millis | None = None) -> None:
        """Take the slots of one of ``partitions`` partitions, with what they are used for."""
        slots = slots_of(partition, partitions, self._quota.limit)
        if full_at is not None:
            kept = Kept(self._quota.window, (full_at,) * slots)
        book = _Book(slots, kept)
        self._books[partition] = book
        for use in book.under_way:
            use.slots.append((self, partition, book))
        self._look_over()

    def resize(self, partition: int, slots: int) -> None:
        """Let a held partition have other slots."""
        book = self._books[partition]
        if book.slots != slots:
            book.slots = slots
            self._look_over()

    def release(self, partition: int) -> None:
        """Give a partition's slots up."""
        if self._books.pop(partition, None) is not None:
            self._look_over()

    def kept(self, partition: int) -> Kept:
        """Return what a held partition's slots are used for."""
        book = self._books[partition]
        return Kept(self._quota.window, tuple(book.answers), tuple(book.under_way))

    def wait(self, now: Millis, *, critical: bool, half: bool = False) -> Millis | None:
        """Return how long until a call may go; 0 for now, None if that hangs on answers to come."""
        self._forget(now)
        kept = 0 if critical else max(self._reserved, self.limit // 2 if half else 0)
        missing = 1 + kept - self._room
        if missing <= 0:
            return 0
        freeing: list[Millis] = []
        for book in self._books.values():
            over = max(0, book.used - book.slots)  # so many come free in vain
            freeing += book.answers[over : over + missing]
        if len(freeing) < missing:
            return None
        return sorted(freeing)[missing - 1] + self._quota.window + 1 - now

    def room(self, now: Millis) -> int:
        """Return how many slots are free."""
        self._forget(now)
        return self._room

    def is_empty(self, now: Millis) -> bool:
        """Tell whether no slot is in use."""
        self._forget(now)
        return not any(book.used for book in self._books.values())

    def take(self, use: Use, prefer: int) -> None:
        """Take a slot: the preferred partition's, or else of the one that has most. There is one."""
        partition = prefer
        book = self._books.get(prefer)
        if book is None or book.used >= book.slots:
            partition, book = max(self._books.items(), key=lambda each: each[1].slots - each[1].used)
        book.under_way.add(use)
        use.slots.append((self, partition, book))
        self._room -= 1

    def settle(self, use: Use, partition: int, book: _Book, at: Millis | None) -> None:
        """Date a use's slot, or give it back. If its partition is gone, so are its slots."""
        book.under_way.discard(use)
        if at is not None:
            insort(book.answers, at)
        if self._books.get(partition) is book:
            self._look_over()

    def used_ratio(self, now: Millis) -> float:
        """Return the used part of the slots; above 1 when there are fewer now than were used."""
        self._forget(now)
        used = sum(book.used for book in self._books.values())
        return used / self.limit if self.limit else 1.0

    def _forget(self, now: Millis) -> None:
        """Let go what is older than the window; bring down what lies ahead of the clock."""
        latest = now + self._ahead
        if self._latest <= latest and now <= self._due:
            return
        for book in self._books.values():
            answers = book.answers
            if answers and answers[-1] > latest:
                place = bisect_right(answers, latest)
                answers[place:] = [latest] * (len(answers) - place)
            del answers[: bisect_left(answers, now - self._quota.window)]
        self._look_over()

    def _look_over(self) -> None:
        books = self._books.values()
        self.limit = sum(book.slots for book in books)
        kept = max(1, int(self.limit * self._reserve)) if self._reserve else 0
        self._reserved = min(kept, max(0, self.limit - 1))  # a single slot is open to all
        self._room = sum(max(0, book.slots - book.used) for book in books)
        self._due = min((book.answers[0] for book in books if book.answers), default=0) + self._quota.window
        self._latest = max((book.answers[-1] for book in books if book.answers), default=0)
        if not self._latest:
            self._due = 1 << 62


class Allowance:
    """What one quota name gives: all its windows at once.

    ``reserve`` (0.05 is 5 %) of each window longer than ``SHORT``, at least one slot, is for critical
    calls only; but the only slot of a window is open to all. ``ahead``: see above.
    """

    __slots__ = ("_held", "_pushed", "_windows")

    def __init__(self, quotas: Iterable[Quota], reserve: float, ahead: Millis = AHEAD) -> None:
        # Of two limits on windows as long as each other the lower one holds.
        lowest_last = sorted(quotas, key=lambda quota: -quota.limit)
        self._windows = {quota.window: Window(quota, reserve, ahead) for quota in lowest_last}
        self._pushed: tuple[Millis, Millis] = (0, 0)  # until when, and for how long
        self._held: set[int] = set()

    def hold(
        self, partition: int, partitions: int, kept: Mapping[Millis, Kept], full_at: Millis | None = None
    ) -> None:
        """Take the slots of a partition, one of ``partitions``, with what they were used for, by window.

        What is known of another window only (the quota was configured anew) counts in this one too.
        ``full_at``: every slot counts as used then.
        """
        self._held.add(partition)
        longest = kept[max(kept)] if kept else Kept(0)
        for length, window in self._windows.items():
            window.hold(partition, partitions, kept.get(length, longest), full_at)

    def release(self, partition: int) -> None:
        """Give the slots of a partition up. Uses under way are settled all the same."""
        self._held.discard(partition)
        for window in self._windows.values():
            window.release(partition)

    def kept(self, partition: int) -> tuple[Kept, ...]:
        """Return what a held partition's slots are used for, in each window."""
        return tuple(window.kept(partition) for window in self._windows.values())

    def wait(self, now: Millis, *, critical: bool, half: bool = False) -> Millis | None:
        """Return how long until a call may go; 0 for now, None if that hangs on answers or partitions.

        ``half``: it leaves half of every window to others.
        """
        longest = self._pushed_for(now)
        for window in self._windows.values():
            wait = window.wait(now, critical=critical, half=half)
            if wait is None:
                return None
            longest = max(longest, wait)
        return longest

    def take(self, use: Use, prefer: int) -> None:
        """Take a slot of every window. The caller has seen that there is no wait."""
        for window in self._windows.values():
            window.take(use, prefer)

    def push(self, until: Millis, now: Millis) -> None:
        """Give nothing before ``until``: the vendor says that it is used up. Never shortens a push."""
        if until - now > self._pushed_for(now):
            self._pushed = (until, until - now)

    def pace(self) -> Millis:
        """Return the time between two calls, if its shortest window were spread evenly; 0 without one."""
        shortest = min(self._windows, default=0)
        return shortest // max(1, self._windows[shortest].limit) if shortest else 0

    def below_one(self) -> bool:
        """Tell whether partitions are held, but none with a slot in some window."""
        return bool(self._held) and any(window.limit < 1 for window in self._windows.values())

    def used_ratio(self, now: Millis) -> float:
        """Return the used part of the fullest window; at least 1 while pushed."""
        ratio = max((window.used_ratio(now) for window in self._windows.values()), default=0.0)
        return max(ratio, 1.0) if self._pushed_for(now) else ratio

    def _pushed_for(self, now: Millis) -> Millis:
        """Return what is left of a push: never more than it was, though the clock be set back."""
        until, length = self._pushed
        return max(0, min(until - now, length))
