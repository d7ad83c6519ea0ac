"""Mass-action limits: what exceeds one parks instead of acting.

A guard counts the demands placed for each account, tenant or rule in a sliding window. This ledger
counts what one replica has placed since it started: a restart begins anew, and each replica has its
own count. The guard is a brake against a bad deploy upstream, not an exact limit.
"""

from collections import defaultdict, deque
from collections.abc import Sequence

from worker.core.policy import Guard
from worker.core.state import Hold
from worker.words import Millis

_Placed = tuple[Millis, str]
"""When a demand was placed, and its id."""


class GuardLedger:
    """The guards of a policy and what counts in their windows. Moments come from the holds."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = tuple(guards)
        self._placed: dict[tuple[str, str], deque[_Placed]] = defaultdict(deque)

    def change(self, guards: Sequence[Guard]) -> None:
        """Take other guards; one that keeps its name keeps what counts in its window."""
        self._guards = tuple(guards)
        names = {guard.name for guard in guards}
        for kept in [kept for kept in self._placed if kept[0] not in names]:
            del self._placed[kept]

    def parks(self, account: str, hold: Hold) -> str | None:
        """Return the name of a guard whose window is full for this demand, or None. Changes nothing."""
        for guard in self._guards:
            if _concerns(guard, hold):
                placed = self._placed.get((guard.name, _of(guard, account, hold)), ())
                if _number(placed, hold.placed_at - guard.window) >= guard.limit:
                    return guard.name
        return None

    def count(self, account: str, hold: Hold) -> None:
        """Note a demand that was placed and not parked.

        Placed again at another time, it counts from then: its first step was not committed.
        """
        for guard in self._guards:
            if _concerns(guard, hold):
                placed = self._placed[guard.name, _of(guard, account, hold)]
                while placed and placed[0][0] <= hold.placed_at - guard.window:
                    placed.popleft()
                for again in [each for each in placed if each[1] == hold.id and each[0] != hold.placed_at]:
                    placed.remove(again)
                placed.append((hold.placed_at, hold.id))

    def parking(self, now: Millis) -> dict[str, bool]:
        """Return for each guard whether its window is full anywhere, so that it parks."""
        windows = {guard.name: guard for guard in self._guards}
        full = dict.fromkeys(windows, False)
        for (name, _), placed in self._placed.items():
            guard = windows[name]
            full[name] = full[name] or _number(placed, now - guard.window) >= guard.limit
        return full


def _concerns(guard: Guard, hold: Hold) -> bool:
    return hold.action in guard.actions and hold.priority not in guard.excepted


def _of(guard: Guard, account: str, hold: Hold) -> str:
    match guard.per:
        case "account":
            return account
        case "tenant":
            return hold.cause.tenant or ""
        case "rule":
            return hold.rule or ""


def _number(placed: Sequence[_Placed] | deque[_Placed], after: Millis) -> int:
    return sum(1 for at, _ in placed if at > after)
