"""The accounts' schedules as the engine uses them: wants in, granted requests out, answers back."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from worker.core import ledger
from worker.core.calls import Need
from worker.core.capacity import Capacities
from worker.core.guard import GuardLedger
from worker.core.holds import FOREVER
from worker.core.outcome import (
    AlreadySo,
    Done,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
)
from worker.core.quota import AHEAD, Kept, Use
from worker.core.schedule import Grant, Schedule, Want
from worker.core.state import LEDGER, SEEN, StreamState, TargetState
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.runtime.partition import Partition
from worker.settings import AccountSettings
from worker.vendors.base import Vendor, VendorSpec
from worker.words import Call, Millis, Priority

log = logging.getLogger(__name__)

SENT_WITHIN: Millis = 60_000
"""A request that has not left so long after its grant does not leave any more. No commit takes longer."""
ANSWERS_KEPT = 4_000

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
            name: Schedule(
                part.settings.quotas,
                part.settings.concurrency,
                part.settings.reserve,
                AHEAD + part.settings.timeout,
            )
            for name, part in accounts.items()
        }
        self.capacities = Capacities(
            {name: tuple(part.spec.capacities.values()) for name, part in accounts.items()}
        )
        self.guards = GuardLedger()
        self._under_way: dict[str, Grant] = {}
        self._uses: dict[str, Use] = {}  # of the grants under way, by their names in the ledgers
        self._answers: dict[str, Millis | None] = {}  # of the latest that are not
        self._held: set[int] = set()
        self._unwritten: set[int] = set()
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
                need.behind,
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
        grant.use.id = granted.calls[0].id
        self._uses[grant.use.id] = grant.use
        self._changed(grant.use)
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
            self._give_back(granted.account, grant)

    def _give_back(self, account: str, grant: Grant) -> None:
        self._changed(grant.use)
        self._settled(grant.use, None)
        self._schedules[account].give_back(grant)

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
            self._give_back(name, grant)
            if not (isinstance(outcome, Refused) and outcome.error == "auth"):
                return self._stopped  # else a login that has to come first was refused
        else:
            self._changed(grant.use)
            self._settled(grant.use, message.finished_at)
            schedule.answered(grant, message.finished_at)
            self._heard(name, outcome, now)
        if isinstance(outcome, Observed | NextPage) and outcome.total is not None:
            self.capacities.shown(calls[0].operation, calls[0].target, outcome.total, now)
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

    def _heard(self, name: str, outcome: Outcome, now: Millis) -> None:
        """Tell an account's breaker what an answer says of its vendor, and the log when that changes."""
        breaker = self._schedules[name].breaker
        before = breaker.is_open
        match outcome:
            case Unknown() | Unreachable():
                breaker.failed(now)
            case Throttled():
                breaker.neither()
            case _:
                breaker.answered(now)
        if breaker.is_open and not before:
            log.warning("account %s: its vendor does not answer; what is to be called there waits", name)
        elif before and not breaker.is_open:
            log.info("account %s: its vendor answers again", name)

    def _pop(self, calls: Iterable[Call]) -> Grant | None:
        grants = [self._under_way.pop(call.id, None) for call in calls]
        return next((grant for grant in grants if grant is not None), None)

    # -- partitions ------------------------------------------------------------------------------------

    def restored(self, part: Partition, partitions: int, now: Millis) -> None:
        """Take the quota slots of a partition, one of ``partitions``, and count what its streams take up."""
        self._held.add(part.number)
        known = ledger.decode(part.ledger)
        for name, schedule in self._schedules.items():
            uses = known.uses.get(name, {})
            kept = {
                quota: {window: self._known(one, name, now) for window, one in windows.items()}
                for quota, windows in uses.items()
            }
            schedule.hold(part.number, partitions, kept, known.full_at)
        self.guards.hold(part.number, partitions, known.guards, known.guards_full_at, part.seen)
        for taken in part.places.values():
            self.capacities.change((), taken)

    def _known(self, kept: Kept, account: str, now: Millis) -> Kept:
        """Return a restored window, each use without an answer with what this process knows of it.

        What it does not know was sent by now, and within ``SENT_WITHIN`` of its grant, and was answered
        within the account's timeout.
        """
        answers, under_way = list(kept.answers), []
        for use in kept.under_way:
            here = self._uses.get(use.id)
            if here is not None:
                under_way.append(here)
            elif use.id not in self._answers:
                latest = min(now, use.granted_at + SENT_WITHIN)
                answers.append(latest + self._accounts[account].settings.timeout)
            elif (at := self._answers[use.id]) is not None:
                answers.append(at)
        return Kept(kept.window, answers, under_way)

    def drop_partition(self, part: Partition) -> None:
        """Forget what the streams of a partition want, what they take up, and its slots."""
        self._held.discard(part.number)
        self._unwritten.discard(part.number)
        self.guards.release(part.number)
        for schedule in self._schedules.values():
            schedule.release(part.number)
        for taken in part.places.values():
            self.capacities.change(taken, ())

    def unwritten(self) -> frozenset[int]:
        """Return the partitions whose ledgers have changed since they were written."""
        return self.guards.unwritten() | self._unwritten

    def own_records(self, partitions: Iterable[int], now: Millis) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the partitions' own records that are to be written, with their keys; they count as written.

        ``partitions``: those that are written anyway, the ones of ``unwritten`` among them.
        """
        for number in partitions:
            if (seen := self.guards.seen(number, now)) is not None:
                yield number, SEEN, seen
        for number in self.unwritten():
            uses = {name: schedule.kept(number) for name, schedule in self._schedules.items()}
            guards = self.guards.counted(number, now)
            yield number, LEDGER, ledger.encode(uses, guards, self.guards.full_at(number))
        self._unwritten.clear()
        self.guards.written()

    def _changed(self, use: Use) -> None:
        self._unwritten |= use.partitions() & self._held

    def _settled(self, use: Use, at: Millis | None) -> None:
        """Note when a request was answered (None: never sent), should its record be restored once more."""
        if self._uses.pop(use.id, None) is None:
            return
        self._answers[use.id] = at
        while len(self._answers) > ANSWERS_KEPT:
            del self._answers[next(iter(self._answers))]

    # -- views -----------------------------------------------------------------------------------------

    @property
    def stopped(self) -> frozenset[str]:
        """The accounts whose login was refused."""
        return self._stopped

    def open(self) -> Iterator[tuple[str, bool]]:
        """Yield for each account whether its vendor is taken for away."""
        for name, schedule in self._schedules.items():
            yield name, schedule.breaker.is_open

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
            f"no slot of {name}/{quota} belongs to our partitions: a quota store is needed, or fewer replicas"
            for name, schedule in self._schedules.items()
            for quota in schedule.below_one()
        ] + self.guards.below_one()
