"""What vendors keep of ours, counted against how much they keep at most.

A ban or a region block takes up a *place* at the vendor. Our states know the places that our own take;
a list that was read shows how many there are in all, other people's and other replicas' among them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from worker.core.context import Context
from worker.core.state import TargetState
from worker.vendors.base import Capacity
from worker.words import Millis, Purpose, Target

SHOWN_FOR: Millis = 600_000
"""For how long a list that was read tells how many places are taken; afterwards others' are unknown."""

Place = tuple[str, str, str]
"""Account, capacity, and the domain that it is counted by (``""`` where the target names none)."""


def places(targets: Iterable[TargetState], ctx: Context) -> tuple[Place, ...]:
    """Return the places that a stream's targets take up, as far as their vendors keep only so many."""
    return tuple(
        (state.target.account, capacity.name, _domain(capacity, state.target))
        for state in targets
        if (view := ctx.accounts.get(state.target.account)) is not None
        for capacity in view.capacities
        if (state.ban if capacity.takes == "forbid" else state.block) is not None
    )


def adds(state: TargetState, purpose: Purpose) -> bool:
    """Tell whether a call for this would take up a place that the target does not have yet."""
    return (purpose == "forbid" and state.ban is None) or (purpose == "block_regions" and state.block is None)


class Capacities:
    """The capacities of each account, and what is taken of them.

    What is not ours is known from the last list that was read, and may have changed since: beside it our
    own places are counted as they are now.
    """

    def __init__(self, accounts: Mapping[str, Sequence[Capacity]]) -> None:
        self._accounts = {name: tuple(them) for name, them in accounts.items()}
        self._ours: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._others: defaultdict[tuple[str, str], dict[str, tuple[int, Millis]]] = defaultdict(dict)
        """How many places of a domain are not ours, and when a list showed so."""

    def change(self, before: Iterable[Place], after: Iterable[Place]) -> None:
        """Note that a stream's places are no longer those before but those after."""
        for account, capacity, domain in after:
            self._ours[account, capacity][domain] += 1
        for account, capacity, domain in before:
            taken = self._ours[account, capacity]
            taken[domain] -= 1
            if not taken[domain]:
                del taken[domain]

    def shown(self, operation: str, target: Target, total: int, now: Millis) -> None:
        """Note how many entries the list has in all that an operation read at a target's domain."""
        for capacity in self._accounts.get(target.account, ()):
            if capacity.shown_by == operation:
                key, domain = (target.account, capacity.name), _domain(capacity, target)
                self._others[key][domain] = max(0, total - self._ours[key][domain]), now

    def left(self, purpose: Purpose, target: Target, now: Millis) -> int | None:
        """Return how many more of what a purpose brings about a vendor takes; None: it names no limit.

        What is not known to be taken counts as free: others' places, where no list told of them lately.
        """
        rooms = [
            capacity.limit - self._used(target.account, capacity, _domain(capacity, target), now - SHOWN_FOR)
            for capacity in self._accounts.get(target.account, ())
            if capacity.takes == purpose
        ]
        return min(rooms, default=None)

    def used_ratios(self) -> Iterator[tuple[str, str, float]]:
        """Yield (account, capacity, taken part); where each domain has its own, the fullest one's."""
        for account, capacities in self._accounts.items():
            for capacity in capacities:
                key = (account, capacity.name)
                domains = (self._ours[key].keys() | self._others[key].keys()) or {""}
                most = max(self._used(account, capacity, domain) for domain in domains)
                yield account, capacity.name, most / capacity.limit

    def _used(self, account: str, capacity: Capacity, domain: str, since: Millis = 0) -> int:
        key = (account, capacity.name)
        ours = self._ours[key]
        others = {name: number for name, (number, at) in self._others[key].items() if at >= since}
        if capacity.per == "account":
            return ours.total() + sum(others.values())
        return ours[domain] + others.get(domain, 0)


def _domain(capacity: Capacity, target: Target) -> str:
    return getattr(target, capacity.domain) or ""
