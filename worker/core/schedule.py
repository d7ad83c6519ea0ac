"""The calls of one account that wait for a slot, and which of them go next.

A stream that needs a call *wants* it; the schedule *grants* it when the quotas, the account's
concurrency and the want's own ``not_before`` allow. The most urgent goes first: what is critical, then
enforcement before verification and both before comparisons, then age, in which a higher priority has a head
start (``HEAD_START``): so nothing waits for ever behind what is only more urgent than it. A want whose quota
is used up stands aside for the others. Verifications and comparisons leave enforcement some concurrency
(``ALOOF``), what is not critical leaves the reserve of it too, and comparisons leave half of every quota to
all else.
Wants that can share one request are granted together.

Wants lie in *lanes*, one for each kind that is granted or held back alike, each a heap by age. What
was withdrawn or replaced stays in its heap until it comes up or the heaps are swept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count, islice

from worker.core.breaker import Breaker
from worker.core.quota import AHEAD, Allowance, Kept, Use
from worker.vendors.base import Quota
from worker.words import COMPARES, PRIORITIES, Behind, Millis, Priority

PROBE: Millis = 30_000
"""A stopped account lets one call through this often, to see whether its login works again."""

TOGETHER = 256
"""The most wants that share one request: its answer is read once for each."""

HEAD_START: Mapping[Priority, Millis] = {"critical": 0, "high": 0, "normal": 60_000, "low": 300_000}
"""By how much later a want counts as come: high goes before what is normal and up to a minute older."""

ALOOF = 4
"""Of so many requests that may be under way, one is never a verification or a comparison, and at most one is
kept for what is critical."""

SLOWEST: Millis = 1_000
UNPACED: Millis = 100
"""Between two calls to a vendor that has just come back: the longest pause, and the one without a quota."""

_RANK: Mapping[Priority, int] = {priority: rank for rank, priority in enumerate(PRIORITIES)}


@dataclass(frozen=True, slots=True)
class Want:
    """A call that a stream needs at a target.

    ``charges`` are the quota names it counts against. ``since`` is the age that decides among equals.
    ``behind``: whether it enforces, verifies or compares.
    Wants of one operation with the same ``shared`` name can go out as one request.
    """

    stream: str = field(repr=False)
    target: str
    partition: int
    operation: str
    charges: tuple[str, ...]
    priority: Priority
    behind: Behind
    since: Millis
    not_before: Millis = 0
    shared: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """One request that may go out for its ``wants``, the most urgent first; its ``use`` holds its slots.

    ``waited`` is how long that first one was kept back, by quota or concurrency, after it was due.
    """

    wants: tuple[Want, ...] = field(repr=False)
    operation: str
    charges: tuple[str, ...]
    waited: Millis
    use: Use = field(default_factory=Use, repr=False)


_Key = tuple[str, str]
_Lane = tuple[int, Behind, str, tuple[str, ...]]
_Heap = list[tuple[Millis, int, Want]]


class Schedule:
    """One account's waiting wants, quotas and grants under way. Moments come in as ``now``.

    A quota name without windows limits nothing. ``reserve`` and ``ahead`` as in ``Allowance``; the reserve is
    one of the ``concurrency`` too.
    """

    def __init__(
        self,
        quotas: Mapping[str, tuple[Quota, ...]],
        concurrency: int,
        reserve: float,
        ahead: Millis = AHEAD,
    ) -> None:
        self._allowances = {name: Allowance(windows, reserve, ahead) for name, windows in quotas.items()}
        self._concurrency = concurrency
        self._wants: dict[_Key, Want] = {}
        self._waiting: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._sharing: dict[tuple[str, str], dict[_Key, Want]] = {}
        self._lanes: dict[_Lane, _Heap] = {}
        self._asleep: _Heap = []
        self._entries = 0  # in all heaps, dead ones too
        self._order = count()
        self._now: Millis = 0  # when it was last asked
        self._under_way: set[Grant] = set()
        self._aloof = min(concurrency - 1, -(-concurrency // ALOOF))
        kept = max(1, int(concurrency * reserve)) if reserve else 0
        self._open = concurrency - min(kept, concurrency // ALOOF)  # to what is not critical
        self._probe_at: Millis | None = None
        self.breaker = Breaker()

    # What waits

    def offer(self, want: Want) -> None:
        """Let a want wait; it replaces an earlier one of the same stream and target."""
        key = (want.stream, want.target)
        earlier = self._wants.get(key)
        if earlier == want:
            return
        if earlier is not None:
            self._remove(earlier)
        self._wants[key] = want
        self._waiting[want.priority] += 1
        if want.shared is not None:
            self._sharing.setdefault((want.operation, want.shared), {})[key] = want
        order = next(self._order)
        if want.not_before <= self._now:
            self._line_up(order, want)
        else:
            heappush(self._asleep, (want.not_before, order, want))
        self._entries += 1
        if self._entries > 2 * len(self._wants) + 1000:
            self._sweep()

    def withdraw(self, stream: str, target: str) -> None:
        """Forget what a stream wants at a target, if anything."""
        want = self._wants.get((stream, target))
        if want is not None:
            self._remove(want)

    def streams(self) -> list[tuple[int, str]]:
        """Return (partition, stream) of every want that waits."""
        return [(want.partition, want.stream) for want in self._wants.values()]

    def waiting(self) -> Mapping[Priority, int]:
        """Return how many wants wait, by priority."""
        return dict(self._waiting)

    # What goes

    def take(self, now: Millis) -> list[Grant]:
        """Grant what may go now, the most urgent first."""
        grants = []
        while self._room(now) and (want := self._next(now)) is not None:
            grants.append(self._grant(want, now))
        return grants

    def next_at(self, now: Millis) -> Millis | None:
        """Return when ``take`` could give something; None if only an answer or an offer can change that."""
        if len(self._under_way) >= self._concurrency:
            return None
        self._wake(now)
        moments = [self._asleep[0][0]] if self._asleep else []
        for lane, _ in self._heads():
            wait = self._wait(lane, now)
            if wait is not None:
                moments.append(now + wait)
        away = self.breaker.wait(now)
        if not moments or away is None:
            return None
        return max(min(moments), now + self._until_probe(now), now + away)

    def answered(self, grant: Grant, at: Millis) -> None:
        """Close a grant whose request was answered, or given up on, at ``at``.

        Raises KeyError for a grant that is not under way.
        """
        self._under_way.remove(grant)
        grant.use.settle(at)

    def give_back(self, grant: Grant) -> None:
        """Close a grant whose request was never sent. Its wants have to be offered again.

        Raises KeyError for a grant that is not under way.
        """
        self._under_way.remove(grant)
        grant.use.settle(None)
        self.breaker.neither()

    # What the vendor and the group say

    def throttled(self, charges: tuple[str, ...], until: Millis, now: Millis) -> None:
        """Grant nothing that counts against any of ``charges`` before ``until``.

        Other operations go on: where the vendor meant the whole account, their own next answer says so.
        """
        for allowance in self._charged(charges):
            allowance.push(until, now)

    def stop(self, now: Millis) -> None:
        """Stop the account, as its login was refused, but for one call each ``PROBE``."""
        if self._probe_at is None:
            self._probe_at = now + PROBE

    def go(self) -> None:
        """Let a stopped account go on, as a login was accepted."""
        self._probe_at = None

    @property
    def stopped(self) -> bool:
        """Tell whether the account is stopped."""
        return self._probe_at is not None

    def hold(
        self,
        partition: int,
        partitions: int,
        kept: Mapping[str, Mapping[Millis, Kept]],
        full_at: Millis | None = None,
    ) -> None:
        """Take a partition's slots of every quota, with what they were used for (see ``Allowance.hold``)."""
        for name, allowance in self._allowances.items():
            allowance.hold(partition, partitions, kept.get(name, {}), full_at)

    def release(self, partition: int) -> None:
        """Give a partition's slots up, and forget the wants of its streams.

        Grants under way stay, and still have to be answered.
        """
        for allowance in self._allowances.values():
            allowance.release(partition)
        for want in [want for want in self._wants.values() if want.partition == partition]:
            self._remove(want)

    def kept(self, partition: int) -> Mapping[str, tuple[Kept, ...]]:
        """Return what a held partition's slots are used for, by quota name."""
        return {name: allowance.kept(partition) for name, allowance in self._allowances.items()}

    def below_one(self) -> tuple[str, ...]:
        """Name the quotas of which the partitions held have no slot: their calls never go from here."""
        return tuple(name for name, allowance in list(self._allowances.items()) if allowance.below_one())

    def used_ratio(self, now: Millis) -> Mapping[str, float]:
        """Return the used part of each quota, by its name."""
        return {name: allowance.used_ratio(now) for name, allowance in self._allowances.items()}

    # Inside

    def _room(self, now: Millis) -> bool:
        free = len(self._under_way) < self._concurrency and self._until_probe(now) == 0
        return free and self.breaker.wait(now) == 0

    def _until_probe(self, now: Millis) -> Millis:
        if self._probe_at is None:
            return 0
        self._probe_at = min(self._probe_at, now + PROBE)  # the clock may have been set back
        return max(0, self._probe_at - now)

    def _next(self, now: Millis) -> Want | None:
        """Return the most urgent want that may go."""
        self._wake(now)
        best: tuple[bool, Behind, Millis, int, int] | None = None
        chosen = None
        for lane, (since, order, want) in self._heads():
            rank = (lane[0] > 0, lane[1], since + HEAD_START[want.priority], lane[0], order)
            if (best is None or rank < best) and self._wait(lane, now) == 0:
                best, chosen = rank, want
        return chosen

    def _grant(self, want: Want, now: Millis) -> Grant:
        wants = [want]
        if want.shared is not None:
            sharing = self._sharing[want.operation, want.shared].values()
            others = (other for other in sharing if other is not want and other.not_before <= now)
            wants += islice(others, TOGETHER - 1)
        for each in wants:
            self._remove(each)
        use = Use(granted_at=now)
        for allowance in self._charged(want.charges):
            allowance.take(use, want.partition)
        if self._probe_at is not None:
            self._probe_at = now + PROBE
        pace = max((allowance.pace() for allowance in self._charged(want.charges)), default=0) or UNPACED
        self.breaker.went(now, min(SLOWEST, pace))
        waited = max(0, now - max(want.since, want.not_before))
        grant = Grant(tuple(wants), want.operation, want.charges, waited, use)
        self._under_way.add(grant)
        return grant

    def _wait(self, lane: _Lane, now: Millis) -> Millis | None:
        rank, behind, _, charges = lane
        if rank > 0 and len(self._under_way) >= self._open:
            return None
        if behind and len(self._under_way) >= self._concurrency - self._aloof and self._is_crowded():
            return None
        longest = 0
        for allowance in self._charged(charges):
            wait = allowance.wait(now, critical=rank == 0, half=behind == COMPARES)
            if wait is None:
                return None
            longest = max(longest, wait)
        return longest

    def _is_crowded(self) -> bool:
        """Whether as many verifications and comparisons are under way as may be."""
        reads = sum(1 for grant in self._under_way if grant.wants[0].behind)
        return reads >= self._concurrency - self._aloof

    def _charged(self, charges: tuple[str, ...]) -> Iterator[Allowance]:
        for name in charges:
            if name not in self._allowances:
                self._allowances[name] = Allowance((), 0)
            yield self._allowances[name]

    def _heads(self) -> Iterator[tuple[_Lane, tuple[Millis, int, Want]]]:
        for lane, heap in self._lanes.items():
            self._bury(heap)
            if heap:
                yield lane, heap[0]

    def _wake(self, now: Millis) -> None:
        """Move what has become due into its lane."""
        self._now = now
        while self._bury(self._asleep) and self._asleep[0][0] <= now:
            _, order, want = heappop(self._asleep)
            self._line_up(order, want)

    def _line_up(self, order: int, want: Want) -> None:
        lane = (_RANK[want.priority], want.behind, want.operation, want.charges)
        heappush(self._lanes.setdefault(lane, []), (want.since, order, want))

    def _bury(self, heap: _Heap) -> bool:
        """Take the dead off a heap's top; tell whether anything is left."""
        while heap and not self._lives(heap[0][2]):
            heappop(heap)
            self._entries -= 1
        return bool(heap)

    def _sweep(self) -> None:
        for heap in (self._asleep, *self._lanes.values()):
            heap[:] = [entry for entry in heap if self._lives(entry[2])]
            heapify(heap)
        self._entries = len(self._wants)

    def _lives(self, want: Want) -> bool:
        return self._wants.get((want.stream, want.target)) is want

    def _remove(self, want: Want) -> None:
        key = (want.stream, want.target)
        del self._wants[key]
        self._waiting[want.priority] -= 1
        if want.shared is not None:
            sharing = self._sharing[want.operation, want.shared]
            del sharing[key]
            if not sharing:
                del self._sharing[want.operation, want.shared]
