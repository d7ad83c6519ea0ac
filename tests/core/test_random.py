"""The machine under random verdicts, commands, answers, crashes and waits, by seed.

``MW_SEEDS=100000`` runs more of them; a failing seed replays alone with ``MW_SEED=n``.
"""

import os
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from tests.core.machine import (
    DAY,
    FULL,
    GATED,
    HOUR,
    MINUTE,
    POLICY,
    SECOND,
    Machine,
    Vendor,
    serving,
    target,
)
from worker.core.context import AccountView
from worker.core.holds import FOREVER, desired, end
from worker.core.outcome import (
    AlreadySo,
    Done,
    NotThere,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.core.state import StreamState, TargetState, decode, encode
from worker.core.stream import Answered, Event, Grant, Received, Restored, Step, Woke
from worker.events.incoming import Verdict
from worker.events.times import format_rfc3339
from worker.words import READS, Call, ErrorClass

SEEDS = int(os.environ.get("MW_SEEDS", "300"))
ONLY = os.environ.get("MW_SEED")
CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))
VENDORS: list[AccountView] = [
    AccountView("test", FULL),
    serving("forbid", "cut", "lift"),
    serving("forbid", "cut", "lift", "read_forbid"),
    serving("forbid", "cut", "lift", "block_regions", "unblock_regions", "read_regions", "read_live"),
    serving("cut", "forbid", "lift", "read_live", forbid_cuts=False),
    GATED,
]
CATEGORIES = ("minors", "nudity", "violence", "gambling", "spam", "odd", "doubtful", "brief", "fine", "none")


AFTERWARDS = {"applied", "reappeared", "drifted", "expired"}
"""What may still be told of a verdict that has its terminal result; a duplicate is of another record."""
REFUSALS: tuple[ErrorClass, ...] = ("vendor", "quota", "not_found", "invalid", "unsupported")


class Watched(Machine):
    """A machine of which every step is held against what it promises."""

    closed: set[tuple[str | None, str | None]]
    released: set[tuple[str | None, str]]

    def do(self, event: Event) -> Step:
        self.__dict__.setdefault("closed", set())
        self.__dict__.setdefault("released", set())
        before = self.state if self.state is not None else StreamState("")
        done = super().do(event)
        self._results_are_in_order(done)
        self._it_wakes(event, done)
        self._it_is_bounded(done)
        if isinstance(event, Answered):
            self._failures_back_off(event, before, done)
        if isinstance(event, Grant) and done.call is not None:
            self._one_change_at_a_time(before.targets[event.target], done.call)
        if isinstance(event, Received):
            self._note_what_is_released(event, before, done)
        return done

    def _results_are_in_order(self, done: Step) -> None:
        for r in done.results:
            assert r.detail, r
            assert r.reason, (r.outcome, r.detail)
            assert (r.error is not None) == (r.outcome == "failed"), r.outcome
            assert (r.caused_by is not None) >= (r.outcome in {"absorbed", "superseded", "cancelled"})
            account = r.target.account if r.target else None
            name = (r.verdict_id or r.command_id, account)
            if r.outcome == "duplicate":
                continue
            if name in self.closed:
                assert not r.terminal, f"{name}: {r.outcome} after its terminal result"
                assert r.outcome in AFTERWARDS, f"{name}: {r.outcome} after its terminal result"
            assert (r.verdict_id, account) not in self.released, f"{name}: {r.outcome} after its release"
            if r.terminal:
                self.closed.add(name)

    def _it_wakes(self, event: Event, done: Step) -> None:
        if done.state is None or done.quiet:
            return
        if isinstance(event, Woke | Restored):
            assert done.wake_at > self.now, "it would wake over and over"
        for one in done.state.targets.values():
            if one.call is not None and one.call.purpose not in READS:
                continue  # its answer, or the next start, decides what becomes due
            times = [end(hold.until) for hold in one.holds]
            times += [hold.expires_at for hold in one.holds if hold.phase == "waiting"]
            times += [end(has.until) for has in (one.ban, one.block) if has is not None]
            assert done.wake_at <= max(self.now, min(times, default=FOREVER)), "it would be late"
            if one.check is not None:
                assert done.wake_at < FOREVER, "its verification would be forgotten"

    def _it_is_bounded(self, done: Step) -> None:
        for one in done.state.targets.values() if done.state is not None else ():
            assert len(one.holds) < 60
            assert len(one.attempts) <= 20
            covered = [hold for hold in one.holds if hold.covered]
            assert all(hold.phase == "closed" for hold in covered)

    def _failures_back_off(self, event: Answered, before: StreamState, done: Step) -> None:
        """What did not work is not needed again in the same moment."""
        need, known = done.needs.get(event.target), before.targets.get(event.target)
        call = known.call if known is not None else None
        reading = known.reading if known is not None else None
        if need is None or not isinstance(event.outcome, Throttled | Unreachable | Unknown):
            return
        if need.purpose in READS and (reading is None or need.since != reading.since):
            return  # another reading has begun since; what was asked before is not its own
        if call is not None and call.id == event.call and call.purpose == need.purpose:
            wait = event.outcome.retry_after if isinstance(event.outcome, Throttled) else None
            assert need.not_before >= self.now + (wait or 0) + 100, (need, call.purpose)

    def _one_change_at_a_time(self, before: TargetState, call: Call) -> None:
        under_way = before.call
        assert under_way is None or (under_way.purpose in READS and call.purpose not in READS)
        if call.until is not None:
            assert call.until > self.now, "an end that has passed"
        holds = [hold for hold in before.holds if not hold.over]
        if call.purpose == "cut":
            assert any(hold.action in ("cut", "forbid") for hold in holds), "nobody wants this cut"
        if call.purpose == "lift":
            wanted = desired(before.holds, self.now)
            fixed = before.ban is not None and before.ban.fixed
            assert not wanted.forbid or fixed, "it lifts what is wanted"

    def _note_what_is_released(self, event: Received, before: StreamState, done: Step) -> None:
        given = event.event
        takes = given.kind != "violation" if isinstance(given, Verdict) else False
        if not takes and getattr(given, "command", None) not in ("release", "reject"):
            return
        left = {r.verdict_id for r in done.results if r.outcome in AFTERWARDS and not r.terminal}
        for name, one in before.targets.items():
            after = done.state.targets.get(name) if done.state is not None else None
            kept = {hold.id for hold in after.holds} if after is not None else set()
            for hold in one.holds:
                if hold.id not in kept and hold.cause.verdict_id not in left:
                    self.released.add((hold.cause.verdict_id, one.target.account))


class Fickle(Vendor):
    """A vendor whose answers get lost, come too late or not at all; what it did, it did.

    ``stubborn``: it answers a second ban with AlreadySo, and leaves its end as it is. ``several``: it is a
    server of several processes, of which one answers a cut.
    """

    def __init__(self, machine: Machine, random: Random, *, several: bool = False) -> None:
        super().__init__(machine)
        self.random = random
        self.several = several
        self.calm = False
        self.stubborn = random.random() < 0.3
        self.made: Counter[str] = Counter()

    def __call__(self, call: Call) -> Outcome:
        if self.calm:
            return self._do(call)
        fate = self.random.random()
        if fate < 0.1:
            return Throttled(self.random.choice((None, 3 * SECOND)))
        if fate < 0.2:
            return Unreachable()
        if fate < 0.3:
            return Unknown(Wire(502))
        if fate < 0.33:
            return Refused(self.random.choice(REFUSALS))
        done = self._do(call)
        return Unknown() if fate < 0.4 else done

    def _do(self, call: Call) -> Outcome:
        if call.until is not None and call.purpose not in READS:
            late = call.until <= self.machine.now - MINUTE
            assert not late, "an end in the past means a day to some vendors"
        self.made[call.purpose] += 1
        elsewhere = self.live_since is None or (not self.calm and self.random.random() < 0.5)
        if self.several and call.purpose == "cut" and elsewhere:
            return NotThere(sure=False)
        banned = self.banned_until is not None and self.banned_until > self.machine.now
        if call.purpose == "forbid" and banned and self.stubborn:
            return AlreadySo()
        return super().__call__(call)


class World:
    """One stream at one or two targets, driven at random, then left in peace until it comes to rest."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        views = self.random.sample(VENDORS, self.random.choice((1, 1, 2)))
        accounts = {f"a{number}": view for number, view in enumerate(views)}
        policy = self.random.choice((POLICY, CHECKED))
        self.m = Watched(accounts, policy)
        self.open: list[Call] = []
        """Calls that are under way; a crash forgets them, whatever the vendor makes of them."""
        self.vendors = {
            name: Fickle(self.m, self.random, several=view.gate) for name, view in accounts.items()
        }
        self.m.answer = lambda call: self.vendors[call.target.account](call)
        self.targets = [target(name) for name in accounts]
        self.sent: dict[str, str] = {}
        self.verdicts: list[tuple[str, int]] = []

    def play(self, turns: int) -> None:
        for _ in range(turns):
            self._turn()
        self._rest()

    def _turn(self) -> None:
        m, random = self.m, self.random
        match random.choice(
            (
                *("verdict", "verdict", "verdict", "call", "call", "call", "grant", "answer"),
                *("wait", "crash", "human", "clear", "login", "back"),
            )
        ):
            case "verdict":
                self._verdict()
            case "call":
                self.open += m.grant()
                self._answer_all()
            case "grant":
                self.open += m.grant()
            case "answer":
                self._answer_all()
            case "wait":
                length = random.choice((100, SECOND, 5 * SECOND, 30 * SECOND, MINUTE, 11 * MINUTE, HOUR, DAY))
                if length > 5 * SECOND:
                    self._answer_all()
                m.now += length
                m.do(Woke())
            case "crash":
                self._crash()
            case "login":
                stopped = random.choice((frozenset(), frozenset({random.choice(sorted(self.vendors))})))
                m.ctx = replace(m.ctx, stopped=stopped)
            case "back":
                random.choice(sorted(self.vendors.items()))[1].live_since = m.now
            case "human":
                name = random.choice(("release", "approve", "reject", "query", "extend"))
                until = {"until": format_rfc3339(m.now + 2 * HOUR)} if name == "extend" else {}
                m.command(name, stream={"key": "x", "targets": self.targets}, **until)
                self.sent[f"c{m._n}"] = "command"
            case "clear":
                m.verdict(random.choice(CATEGORIES), kind="clear")
                self.sent[f"v{m._n}"] = "clear"

    def _verdict(self) -> None:
        m, random = self.m, self.random
        recent = [name for name, at in self.verdicts[-3:] if m.now - at < HOUR]
        again = recent and random.random() < 0.1
        verdict = {"verdict_id": random.choice(recent)} if again else {}
        regions = random.sample(("DE", "FR", "IT"), random.randrange(1, 3))
        stream: dict[str, object] = {"targets": self.targets}
        if random.random() < 0.5:
            number = random.randrange(1, 4)
            started = format_rfc3339(1_789_000_000_000 + number * HOUR)
            stream["session"] = {"id": f"s{number}", "started_at": started}
        fields = {
            "regions": regions,
            "origin": random.choice(("machine", "machine", "human", "order")),
            "expires_at": format_rfc3339(m.now + random.choice((10 * SECOND, 10 * MINUTE, HOUR))),
            "stream": stream,
            **verdict,
        }
        m.verdict(random.choice(CATEGORIES), **fields)
        if not again:
            self.sent[f"v{m._n}"] = "verdict"
            self.verdicts.append((f"v{m._n}", m.now))

    def _answer_all(self) -> None:
        """Answer the calls under way, one after the other; some answers are lost in a crash."""
        m, random = self.m, self.random
        while self.open:
            call = self.open.pop(0)
            m.now += random.randrange(1, 3000)
            outcome = m.answer(call)
            if random.random() < 0.1:
                self._crash()
            m.answered(call, outcome, jitter=random.random())

    def _crash(self) -> None:
        for call in self.open:
            if self.random.random() < 0.5:
                self.m.answer(call)
        self.open = []
        if self.m.state is not None:
            self.m.state = decode(encode(self.m.state))
            self.m.do(Restored())

    def _rest(self) -> None:
        m = self.m
        m.ctx = replace(m.ctx, stopped=frozenset())
        self._answer_all()
        for vendor in self.vendors.values():
            vendor.calm = True
        for _ in range(60):
            m.command("approve")
            self.sent[f"c{m._n}"] = "command"
            m.now += MINUTE
            m.do(Woke())
            m.run(limit=60)
            if m.state is None or not self._waiting():
                break
        for _ in range(2):  # what was given up is tried again when it is reconciled
            m.now += 11 * MINUTE
            m.do(Woke())
            m.run(limit=60)

    def _waiting(self) -> bool:
        assert self.m.state is not None
        return any(
            state.call or state.asks or any(hold.phase != "closed" for hold in state.holds)
            for state in self.m.state.targets.values()
        )

    # -- what must be so -------------------------------------------------------------------------------

    def check(self) -> None:
        self._one_terminal_result_each()
        self._vendors_have_what_is_desired()

    def _one_terminal_result_each(self) -> None:
        terminal = Counter(
            (r.verdict_id or r.command_id, r.target.account if r.target else None)
            for r in self.m.results
            if r.terminal
        )
        twice = {key: number for key, number in terminal.items() if number != 1}
        assert not twice, f"more than one terminal result: {twice}"
        answered = {event for event, _ in terminal}
        assert answered == set(self.sent), f"without: {set(self.sent) - answered}"
        for event, kind in self.sent.items():
            if kind != "verdict":
                continue
            accounts = {account for name, account in terminal if name == event}
            assert accounts == {one["account"] for one in self.targets}, f"{event}: {accounts}"
        ids = Counter(r.result_id for r in self.m.results)
        assert max(ids.values()) == 1, "result ids must differ"

    def _vendors_have_what_is_desired(self) -> None:
        states = self.m.state.targets.values() if self.m.state is not None else ()
        seen = set()
        for state in states:
            account = state.target.account
            seen.add(account)
            vendor, want = self.vendors[account], desired(state.holds, self.m.now)
            if self.m.accounts[account].gate and state.ban is not None:
                assert state.ban.sure
                vendor.banned_until = FOREVER if state.ban.until is None else state.ban.until
            banned = vendor.banned_until is not None and vendor.banned_until > self.m.now
            assert banned == want.forbid, (account, vendor.banned_until, self.m.now, state)
            if want.forbid and vendor.banned_until is not None:
                early = end(want.until) - vendor.banned_until
                clamped = state.ban is not None and state.ban.clamped
                assert early <= MINUTE or clamped, f"{account}: ends {early} ms too early"
                assert early >= -SECOND, f"{account}: ends {-early} ms too late"
            if want.regions:
                assert set(want.regions) == set(vendor.regions), account
        for account in set(self.vendors) - seen:
            until = self.vendors[account].banned_until
            assert until is None or until <= self.m.now, f"{account} is forgotten but still forbidden"


def run(seed: int) -> None:
    world = World(seed)
    world.play(world.random.randrange(5, 40))
    world.check()


@pytest.mark.parametrize("block", range(10))
def test_random_lives_keep_the_promises(block: int) -> None:
    seeds = [int(ONLY)] if ONLY is not None else range(block, SEEDS, 10)
    for seed in seeds:
        try:
            run(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_grant_that_is_no_longer_needed_makes_no_call() -> None:
    m = Machine()
    m.verdict()
    assert m.state is not None
    (name,) = m.state.targets
    m.command("release")
    assert m.do(Grant(name, "forbid")).call is None


def test_the_fickle_vendor_is_fickle() -> None:
    m = Machine()
    m.verdict("spam")
    (call,) = m.grant()
    vendor = Fickle(m, Random(1))
    kinds = {type(vendor(call)) for _ in range(200)}
    failures = {Throttled, Unreachable, Unknown, Refused}
    assert {Done, NotThere, *failures} >= kinds > failures
