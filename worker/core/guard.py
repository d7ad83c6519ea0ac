"""Mass-action limits: what exceeds one parks instead of acting.

A guard counts the demands that act, for each account, tenant or rule in a sliding window of its own. Its
limit holds for the whole group, in the way of a quota (``core/quota.py``): each unit of it is a slot of one
partition, a replica uses the slots of all partitions it holds, and what they were used for moves with the
partition, in its ledger. What the slots of others could still take is not known here: a replica parks too
early rather than too late.

A guard with a share has as many slots of a partition as that share of the tenant's streams seen there
(``core/seen.py``), or its part of the guard's minimum, if that is more. Fractions are rounded so that they
add up where streams lie evenly (Hermite's identity); where they do not, up to half a slot for each partition
is given too many, and up to the minimum where only some partitions have less than that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from worker.core.policy import WHOLE, Guard
from worker.core.quota import Kept, Use, Window, slots_of
from worker.core.seen import SeenStreams
from worker.core.state import Hold
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.vendors.base import Quota
from worker.words import Millis

Counted = Mapping[str, Mapping[str, Mapping[Millis, Kept]]]
"""What a partition's slots are used for, by guard, then account, tenant or rule, then length of window."""

_NOTHING = Kept(0)


class GuardLedger:
    """The guards of a policy and what counts in their windows. Moments come from the holds."""

    def __init__(self, guards: Sequence[Guard] = ()) -> None:
        self._guards = {guard.name: guard for guard in guards}
        self._windows: dict[tuple[str, str], Window] = {}  # by guard, and what it counts for
        self._held: dict[int, tuple[int, Millis | None]] = {}  # of how many partitions; full at
        self._seen: dict[int, SeenStreams] = {}
        self._unwritten: set[int] = set()

    def change(self, guards: Sequence[Guard]) -> None:
        """Take other guards; one that keeps its name and its ``per`` keeps what counts in its windows."""
        before, windows = self._guards, self._windows
        self._guards, self._windows = {guard.name: guard for guard in guards}, {}
        for (name, of), window in windows.items():
            guard = self._guards.get(name)
            if guard is not None and guard.per == before[name].per:
                self._windows[name, of] = self._new(guard, {p: window.kept(p) for p in self._held})

    def saw(self, partition: int, event: Verdict | Command | StreamEvent, now: Millis) -> None:
        """Note that a tenant's stream was seen on a held partition, if a guard has a share of them."""
        if not isinstance(event, Command) and any(guard.share for guard in self._guards.values()):
            self._seen[partition].add(event.tenant or "", event.stream.key, now)

    # -- demands ---------------------------------------------------------------------------------------

    def parks(self, account: str, hold: Hold, placed: Iterable[tuple[str, Hold]] = ()) -> str | None:
        """Return the name of a guard that has no slot for this demand, or None. Takes none.

        ``placed``: what the same step has placed already, which is not counted yet.
        """
        earlier = list(placed)
        for guard in self._concerned(hold):
            of = _of(guard, account, hold)
            taken = self._taken(guard, of, earlier)
            if guard.share is not None and taken:
                continue
            if self._fitted(guard, of, hold.placed_at).room(hold.placed_at) <= taken:
                return guard.name
        return None

    def count(self, partition: int, placed: Sequence[tuple[str, Hold]]) -> frozenset[int]:
        """Take slots for the demands of a step that act, each with its account.

        Returns whose slots: only with their ledgers may the step be committed. ``partition`` is its
        stream's, whose slots are taken before those of others.
        """
        charged: frozenset[int] = frozenset()
        for number, (account, hold) in enumerate(placed):
            for guard in self._concerned(hold):
                of = _of(guard, account, hold)
                if guard.share is not None and self._taken(guard, of, placed[:number]):
                    continue
                use = Use()
                self._fitted(guard, of, hold.placed_at).take(use, partition)
                charged |= use.partitions()
                use.settle(hold.placed_at)
        self._unwritten |= charged
        return charged

    def _taken(self, guard: Guard, of: str, placed: Iterable[tuple[str, Hold]]) -> int:
        return sum(guard in self._concerned(other) and _of(guard, at, other) == of for at, other in placed)

    def parking(self, now: Millis) -> dict[str, bool]:
        """Return for each guard whether it has no slot left for anyone, so that it parks."""
        full = dict.fromkeys(self._guards, False)
        for name, of in self._windows:
            full[name] = full[name] or self._fitted(self._guards[name], of, now).room(now) < 1
        return full

    # -- partitions ------------------------------------------------------------------------------------

    def hold(
        self,
        partition: int,
        partitions: int,
        counted: Counted,
        full_at: Millis | None = None,
        seen: bytes | None = None,
    ) -> None:
        """Take the slots of one of ``partitions`` partitions, with what they were used for.

        ``full_at``: others had its slots until then, so what is not known to be counted counts as full.
        ``seen``: the record of the streams it has seen.
        """
        self._held[partition] = partitions, full_at
        self._seen[partition] = SeenStreams(seen)
        known = {
            (name, of): next(iter(windows.values()), _NOTHING)
            for name, them in counted.items()
            for of, windows in them.items()
        }
        for name, of in known.keys() - self._windows.keys():
            if name in self._guards:
                self._window(self._guards[name], of)
        for place, window in self._windows.items():
            kept = known.get(place)
            window.hold(partition, partitions, kept or _NOTHING, full_at if kept is None else None)

    def release(self, partition: int) -> None:
        """Give a partition's slots up."""
        self._held.pop(partition, None)
        self._seen.pop(partition, None)
        self._unwritten.discard(partition)
        for window in self._windows.values():
            window.release(partition)
        if not self._held:
            self._windows.clear()

    def unwritten(self) -> frozenset[int]:
        """Return the partitions whose counts have changed since they were written."""
        return frozenset(self._unwritten)

    def written(self) -> None:
        """Note that all counts are on their way into the ledgers."""
        self._unwritten.clear()

    def counted(self, partition: int, now: Millis) -> dict[str, dict[str, tuple[Kept]]]:
        """Return what a held partition's slots are used for. Windows in which nothing counts are dropped."""
        for place in [place for place, window in self._windows.items() if window.is_empty(now)]:
            del self._windows[place]
        found: dict[str, dict[str, tuple[Kept]]] = {}
        for (name, of), window in self._windows.items():
            found.setdefault(name, {})[of] = (window.kept(partition),)
        return found

    def seen(self, partition: int, now: Millis) -> bytes | None:
        """Return the record of the streams that a held partition has seen, if it is to be written."""
        return self._seen[partition].record(now)

    def full_at(self, partition: int) -> Millis | None:
        """Return until when others had a held partition's slots; None if it was never new here."""
        return self._held[partition][1]

    def below_one(self) -> list[str]:
        """Return a sentence for each guard of which no slot belongs to this replica's partitions."""
        return [
            f"no slot of guard {guard.name} belongs to our partitions: it parks all; raise its max above "
            "the number of partitions, or run fewer replicas"
            for guard in list(self._guards.values())
            if (held := list(self._held.items()))
            and not sum(slots_of(partition, of, guard.limit) for partition, (of, _) in held)
        ]

    # -- windows ---------------------------------------------------------------------------------------

    def _concerned(self, hold: Hold) -> Iterator[Guard]:
        for guard in self._guards.values():
            if hold.action in guard.actions and hold.priority not in guard.excepted:
                yield guard

    def _window(self, guard: Guard, of: str) -> Window:
        window = self._windows.get((guard.name, of))
        if window is None:
            window = self._windows[guard.name, of] = self._new(guard, {})
        return window

    def _fitted(self, guard: Guard, of: str, now: Millis) -> Window:
        """Return a window, with as many slots as it has now."""
        window = self._window(guard, of)
        if guard.share is not None:
            for partition in self._held:
                window.resize(partition, self._share(guard, of, partition, now))
        return window

    def _share(self, guard: Guard, of: str, partition: int, now: Millis) -> int:
        """Return how many slots of a guard with a share a partition has for a tenant."""
        partitions, full_at = self._held[partition]
        if full_at is not None and now <= full_at + guard.window:
            return 0
        seen = self._seen[partition].number(of, now)
        shared = ((guard.share or 0) * seen * partitions + WHOLE * partition) // (WHOLE * partitions)
        return max(shared, slots_of(partition, partitions, guard.limit))

    def _new(self, guard: Guard, known: Mapping[int, Kept]) -> Window:
        window = Window(Quota(guard.limit, guard.window), 0.0)
        for partition, (partitions, full_at) in self._held.items():
            kept = known.get(partition)
            window.hold(partition, partitions, kept or _NOTHING, full_at if kept is None else None)
        return window


def _of(guard: Guard, account: str, hold: Hold) -> str:
    match guard.per:
        case "account":
            return account
        case "tenant":
            return hold.cause.tenant or ""
        case "rule":
            return hold.rule or ""
