"""The accounts' own lists, read whole and within half of what their read quotas leave over."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import ClassVar

from prometheus_client import CollectorRegistry

from worker import vendors
from worker.core.ledger import Ledger
from worker.core.outcome import Facts, NextPage, Observed, Outcome, Refused, Throttled, Unknown, Unreachable
from worker.core.quota import Allowance, Kept, Use
from worker.core.state import StreamState
from worker.runtime.caller import Caller
from worker.runtime.clock import SystemClock
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings, Settings
from worker.vendors.base import (
    Entry,
    Lists,
    LoggedIn,
    LogsIn,
    Page,
    Quota,
    Request,
    Response,
    VendorSpec,
)
from worker.words import READS, Call, Millis, Purpose, Target

TRIES = 4
"""How often a page is asked for before its list counts as one that cannot be read."""
TELL_FROM: Millis = 2_000
"""Waits from here on are told."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """What one list is of: an account, what the list tells, and the domain."""

    account: str
    purpose: Purpose
    domain: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that was read to its end, or why it was not."""

    place: Place
    entries: tuple[Entry, ...] = ()
    problem: str = ""


class _Whole:
    """An adapter whose reads are of whole lists; ``entries`` is what the pages since ``begin`` held."""

    code: ClassVar[str] = "whole"

    def __init__(self, vendor: Lists, kept: list[Entry] | None = None) -> None:
        self._vendor = vendor
        self.entries: list[Entry] = [] if kept is None else kept

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        return self._vendor.list_all(call, now, nonce)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        page = self._vendor.read_all(call, response, now)
        if not isinstance(page, Page):
            return page
        self.entries += page.entries
        return Observed(Facts()) if page.cursor is None else NextPage(page.cursor)

    def shared(self, _call: Call) -> str | None:
        return None

    def login(self, now: Millis) -> Request | None:
        return self._vendor.login(now) if isinstance(self._vendor, LogsIn) else None

    def logged_in(self, response: Response, now: Millis) -> LoggedIn | Outcome:
        nothing = Refused("internal", detail="the login gave nothing that lists can be read with")
        found = self._vendor.logged_in(response, now) if isinstance(self._vendor, LogsIn) else nothing
        if not isinstance(found, LoggedIn):
            return found
        vendor = found.vendor
        if not isinstance(vendor, Lists):
            return nothing
        return LoggedIn(_Whole(vendor, self.entries), found.renew_at, found.until)

    def logged_out(self, response: Response) -> bool:
        return isinstance(self._vendor, LogsIn) and self._vendor.logged_out(response)


def able(spec: VendorSpec, account: AccountSettings) -> tuple[tuple[Purpose, str], ...]:
    """Return (purpose, field of a target that names the domain) of each list of a vendor that can be read."""
    vendor = vendors.make(spec, account.account)
    if not isinstance(vendor, Lists):
        return ()
    return tuple(
        (purpose, operation.needs[0])
        for name in vendor.whole_lists
        for operation in (spec.operations[name],)
        for purpose in operation.serves
        if purpose in READS
    )


@dataclass(slots=True)
class _Reader:
    """What reads one account's lists."""

    name: str
    spec: VendorSpec
    vendor: _Whole
    settings: AccountSettings
    allowances: dict[str, Allowance] = field(init=False)

    def __post_init__(self) -> None:
        # The workers go on reading beside us, and cannot know of our calls.
        self.allowances = {
            name: Allowance([Quota(max(1, quota.limit // 2), quota.window) for quota in quotas], 0.0)
            for name, quotas in self.settings.quotas.items()
        }

    def begin(self, ledgers: Sequence[Ledger]) -> None:
        """Count the calls that the workers made, whichever partition's slots they had."""
        for name, allowance in self.allowances.items():
            used: dict[Millis, list[Millis]] = {}
            for ledger in ledgers:
                for length, kept in ledger.uses.get(self.name, {}).get(name, {}).items():
                    under_way = (use.granted_at for use in kept.under_way)
                    used.setdefault(length, []).extend((*kept.answers, *under_way))
            allowance.hold(0, 1, {length: Kept(length, sorted(at)) for length, at in used.items()})


def read_lists(
    settings: Settings, places: Sequence[Place], ledgers: Sequence[Ledger], say: Say
) -> list[Listing]:
    """Read the lists of some places, one after the other, each to its end.

    ``ledgers`` tell which calls the workers made lately. ``say`` hears of long waits.
    """
    readers: dict[str, _Reader] = {}
    for name in dict.fromkeys(place.account for place in places):
        account = settings.accounts[name]
        spec = vendors.load_spec(account.account.vendor)
        vendor = vendors.make(spec, account.account)
        if isinstance(vendor, Lists):
            readers[name] = _Reader(name, spec, _Whole(vendor), account)
    for reader in readers.values():
        reader.begin(ledgers)
    answers: SimpleQueue[Answered] = SimpleQueue()
    caller = Caller(
        {name: (one.vendor, one.settings) for name, one in readers.items()},
        answers.put,
        lambda partition, epoch: True,  # noqa: ARG005 - there is no partition to lose
        SystemClock(),
        Metrics(CollectorRegistry()),
    )
    caller.start()
    try:
        return [_read(caller, answers, readers[place.account], place, say) for place in places]
    finally:
        caller.stop(timeout=0.0)


def _read(
    caller: Caller, answers: "SimpleQueue[Answered]", reader: _Reader, place: Place, say: Say
) -> Listing:
    operation = next(one for one in reader.spec.operations.values() if place.purpose in one.serves)
    domains = {operation.needs[0]: place.domain}
    target = Target(place.account, "", "", domains.get("push_domain"), domains.get("play_domain"))
    charged = [reader.allowances[name] for name in operation.charges if name in reader.allowances]
    reader.vendor.entries.clear()
    cursor, tries = None, 0
    while True:
        _wait(reader.name, charged, say)
        call = Call("reconcile", place.purpose, operation.name, target, cursor=cursor)
        caller.send(Granted(reader.name, (call,), ((0, 0, "", ""),)))
        try:
            # A login may come first, and has as long.
            outcome = answers.get(timeout=2 * reader.settings.timeout / 1000 + 5).outcomes[0]
        except Empty:
            outcome = Unknown(detail="no answer in time")
        now = _now()
        use = Use()
        for allowance in charged:
            allowance.take(use, 0)
        use.settle(now)
        match outcome:
            case NextPage():
                cursor, tries = outcome.cursor, 0
                continue
            case Observed():
                return Listing(place, tuple(reader.vendor.entries))
            case Throttled() | Unreachable() | Unknown() if tries + 1 < TRIES:
                tries += 1
                wait = (outcome.retry_after or 0) if isinstance(outcome, Throttled) else 0
                for allowance in charged or [Allowance((), 0.0)]:
                    allowance.push(now + max(wait, 500 * 2**tries), now)
                if not charged:
                    time.sleep(max(wait, 500 * 2**tries) / 1000)
            case _:
                return Listing(place, problem=outcome.detail or "no usable answer")


def _wait(account: str, charged: Sequence[Allowance], say: Say) -> None:
    """Wait until all quotas have a place."""
    while wait := max((allowance.wait(_now(), critical=False) or 0 for allowance in charged), default=0):
        if wait >= TELL_FROM:
            say(f"account {account}: waiting {wait / 1000:.0f} s for its read quota")
        time.sleep(wait / 1000)


def _now() -> Millis:
    return round(time.time() * 1000)


def places_of(
    settings: Settings, states: Iterable[StreamState], lists: Mapping[str, Sequence[tuple[Purpose, str]]]
) -> list[Place]:
    """Return the lists to read: of each account's domains, as its routes and the states name them."""
    targets = [target for route in settings.routes for target in route.targets]
    known = {(one.account, one.push_domain, one.play_domain) for one in targets}
    known |= {
        (one.target.account, one.target.push_domain, one.target.play_domain)
        for state in states
        for one in state.targets.values()
    }
    found = {
        Place(account, purpose, domain.lower())
        for account, push, play in known
        for purpose, by in lists.get(account, ())
        if (domain := {"push_domain": push, "play_domain": play}[by]) and "{" not in domain
    }
    return sorted(found, key=lambda place: (place.account, place.purpose, place.domain))
