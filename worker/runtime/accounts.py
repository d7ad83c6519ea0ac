"""The accounts' schedules as the engine uses them: wants in, granted requests out, answers back."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from worker.core.calls import Need
from worker.core.capacity import Capacities
from worker.core.holds import FOREVER
from worker.core.outcome import AlreadySo, Done, NextPage, NotThere, Observed, Outcome, Refused, Throttled
from worker.core.schedule import Grant, Schedule, Want
from worker.core.state import StreamState, TargetState
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.runtime.partition import Partition
from worker.settings import AccountSettings
from worker.vendors.base import Vendor, VendorSpec
from worker.words import Call, Millis, Priority

THROTTLED_FOR: Millis = 2_000
"""How long an account's window gives nothing after a throttled answer that names no wait."""


@dataclass(frozen=True, slots=True)
class AccountPart:
    """One account: what its vendor is, the adapter made for it, and its settings."""

    spec: VendorSpec
    vendor: Vendor
    settings: AccountSettings


class Accounts:
    """All accounts' schedules. Used by the engine's thread only, but for the gauges' read-only views."""

    def __init__(self, accounts: Mapping[str, AccountPart], metrics: Metrics) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._schedules = {
            name: Schedule(part.settings.quotas, part.settings.concurrency, part.settings.reserve)
            for name, part in accounts.items()
        }
        self.capacities = Capacities(
            {name: tuple(part.spec.capacities.values()) for name, part in accounts.items()}
        )
        self._under_way: dict[str, Grant] = {}
        self._stopped: frozenset[str] = frozenset()

    # -- wants -----------------------------------------------------------------------------------------

    def want(
        self, partition: int, key: str, targets: Mapping[str, TargetState], name: str, need: Need | None
    ) -> None:
        """Let what a target needs wait for its slot, or no longer."""
        state = targets.get(name)
        if state is None:
            for known in self._schedules.values():
                known.withdraw(key, name)
            return
        schedule = self._schedules.get(state.target.account)
        if schedule is None:
            return
        if need is None:
            schedule.withdraw(key, name)
            return
        vendor = self._accounts[state.target.account].vendor
        schedule.offer(
            Want(
                key,
                name,
                partition,
                need.operation.name,
                need.operation.charges,
                need.priority,
                need.check,
                need.since,
                need.not_before,
                vendor.shared(need.call(key, state)),
            )
        )

    @property
    def names(self) -> Iterable[str]:
        """The accounts there are."""
        return self._schedules

    def waiting_at(self, accounts: Iterable[str]) -> list[tuple[int, str]]:
        """Return (partition, stream key) of everything that waits at these accounts."""
        return [place for name in accounts for place in self._schedules[name].streams()]

    # -- grants ----------------------------------------------------------------------------------------

    def take(self, now: Millis) -> Iterator[tuple[str, Grant]]:
        """Yield the grants that may go now, the most urgent of each account first."""
        for name, schedule in self._schedules.items():
            for grant in schedule.take(now):
                yield name, grant

    def next_at(self, now: Millis) -> Millis:
        """Return when ``take`` could give something; FOREVER if only an answer can change that."""
        moments = (schedule.next_at(now) for schedule in self._schedules.values())
        return min((at for at in moments if at is not None), default=FOREVER)

    def granted(self, granted: Granted, grant: Grant) -> bool:
        """Note a grant's calls as under way; False, and the slot given back, if there are none."""
        if not granted.calls:
            self._schedules[granted.account].give_back(grant)
            return False
        self._metrics.quota_wait_seconds.labels(granted.account).observe(grant.waited / 1000)
        for call in granted.calls:
            self._under_way[call.id] = grant
        return True

    def narrowed(self, granted: Granted, left: Granted) -> None:
        """Forget the calls of a request that are not going out after all; its slot too if none is."""
        if not left.calls:
            self.never_sent(granted)
        for call in granted.calls:
            if call not in left.calls:
                self._under_way.pop(call.id, None)

    def never_sent(self, granted: Granted) -> None:
        """Give the slot of a request back that never left."""
        grant = self._pop(granted.calls)
        if grant is not None:
            self._schedules[granted.account].give_back(grant)

    def under_way(self) -> int:
        """Return how many calls are granted and not answered."""
        return len(self._under_way)

    def in_flight(self, state: StreamState) -> frozenset[str]:
        """Return which of a stream's calls this process itself has under way."""
        calls = (target.call.id for target in state.targets.values() if target.call is not None)
        return frozenset(call for call in calls if call in self._under_way)

    # -- answers ---------------------------------------------------------------------------------------

    def answered(self, message: Answered, now: Millis) -> frozenset[str]:
        """Close a request; feed back throttling and refused logins. Returns the stopped accounts."""
        name, calls = message.granted.account, message.granted.calls
        grant = self._pop(calls)
        schedule = self._schedules[name]
        if grant is None:
            return self._stopped
        outcome: Outcome = message.outcomes[0]
        if message.started_at is None:
            schedule.give_back(grant)
            if not (isinstance(outcome, Refused) and outcome.error == "auth"):
                return self._stopped  # else a login that has to come first was refused
        else:
            schedule.answered(grant, message.finished_at)
        if isinstance(outcome, Observed | NextPage) and outcome.total is not None:
            self.capacities.shown(calls[0].operation, calls[0].target, outcome.total)
        match outcome:
            case Throttled(retry_after=retry_after):
                schedule.throttled(grant.charges, now + (retry_after or THROTTLED_FOR), now)
            case Refused(error="auth"):
                schedule.stop(now)
                self._stopped |= {name}
            case Done() | AlreadySo() | NotThere() | Observed() | NextPage():
                schedule.go()
                self._stopped -= {name}
            case _:
                pass
        return self._stopped

    def _pop(self, calls: Iterable[Call]) -> Grant | None:
        grants = [self._under_way.pop(call.id, None) for call in calls]
        return next((grant for grant in grants if grant is not None), None)

    # -- partitions ------------------------------------------------------------------------------------

    def seed(self, state: StreamState, now: Millis, counted: Millis, answered: Container[str]) -> None:
        """Count the calls that a restored state knows of: those under way as if sent just now.

        But not again what this process knows already: calls up to ``counted``, and the ``answered`` ones.
        """
        for target in state.targets.values():
            part = self._accounts.get(target.target.account)
            if part is None:
                continue
            uses = [(name, at) for name, at in target.spent if at > counted]
            call = target.call
            if call is not None and call.pays and call.id not in self._under_way and call.id not in answered:
                uses.append((call.operation, now))
            for name, at in uses:
                operation = part.spec.operations.get(name)
                if operation is not None:
                    self._schedules[target.target.account].seed(operation.charges, at)

    def drop_partition(self, part: Partition) -> None:
        """Forget what the streams of a partition want, and what they take up."""
        for schedule in self._schedules.values():
            schedule.drop_partition(part.number)
        for taken in part.places.values():
            self.capacities.change(taken, ())

    def restored(self, part: Partition) -> None:
        """Count what the streams of a partition take up."""
        for taken in part.places.values():
            self.capacities.change((), taken)

    def set_share(self, held: int, total: int) -> None:
        """Scale every quota to the part of the partitions that is ours, once their number is known."""
        for schedule in self._schedules.values():
            schedule.set_share(held, max(1, total))

    # -- views -----------------------------------------------------------------------------------------

    @property
    def stopped(self) -> frozenset[str]:
        """The accounts whose login was refused."""
        return self._stopped

    def waiting(self) -> Iterator[tuple[str, Priority, int]]:
        """Yield (account, priority, calls that wait)."""
        for name, schedule in self._schedules.items():
            for priority, number in schedule.waiting().items():
                yield name, priority, number

    def used_ratios(self, now: Millis) -> Iterator[tuple[str, str, float]]:
        """Yield (account, quota name, used part)."""
        for name, schedule in self._schedules.items():
            for quota, ratio in schedule.used_ratio(now).items():
                yield name, quota, ratio

    def below_one(self) -> list[str]:
        """Return a sentence for each quota of which this replica's share is less than one call."""
        return [
            f"the share of {name}/{quota} is below one call: a quota store is needed, or fewer replicas"
            for name, schedule in self._schedules.items()
            for quota in schedule.below_one()
        ]
