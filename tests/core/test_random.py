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
from worker.core.holds import desired, end
from worker.core.outcome import Done, NotThere, Outcome, Throttled, Unknown, Unreachable, Wire
from worker.core.state import decode, encode
from worker.core.stream import Grant, Restored, Woke
from worker.events.times import format_rfc3339
from worker.words import READS, Call

SEEDS = int(os.environ.get("MW_SEEDS", "300"))
ONLY = os.environ.get("MW_SEED")
CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))
VENDORS: list[AccountView] = [
    AccountView("test", FULL),
    serving("forbid", "cut", "lift"),
    serving("forbid", "cut", "lift", "read_forbid"),
    serving("forbid", "cut", "lift", "block_regions", "unblock_regions", "read_regions", "read_live"),
    serving("cut", "forbid", "lift", "read_live", forbid_cuts=False),
]
CATEGORIES = ("minors", "nudity", "violence", "gambling", "spam", "odd", "doubtful", "brief", "fine", "none")


class Fickle(Vendor):
    """A vendor whose answers get lost, come too late or not at all; what it did, it did."""

    def __init__(self, machine: Machine, random: Random) -> None:
        super().__init__(machine)
        self.random = random
        self.calm = False
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
        done = self._do(call)
        return Unknown() if fate < 0.4 else done

    def _do(self, call: Call) -> Outcome:
        if call.until is not None and call.purpose not in READS:
            assert call.until > self.machine.now - SECOND, "an end in the past means a day to some vendors"
        self.made[call.purpose] += 1
        return super().__call__(call)


class World:
    """One stream at one or two targets, driven at random, then left in peace until it comes to rest."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        views = self.random.sample(VENDORS, self.random.choice((1, 1, 2)))
        accounts = {f"a{number}": view for number, view in enumerate(views)}
        policy = self.random.choice((POLICY, CHECKED))
        self.m = Machine(accounts, policy)
        self.vendors = {name: Fickle(self.m, self.random) for name in accounts}
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
            ("verdict", "verdict", "verdict", "call", "call", "call", "wait", "crash", "human", "clear")
        ):
            case "verdict":
                self._verdict()
            case "call":
                for call in m.grant():
                    m.now += random.randrange(1, 3000)
                    self._maybe_crash()
                    m.answered(call, m.answer(call), jitter=random.random())
            case "wait":
                m.now += random.choice((100, SECOND, 5 * SECOND, 30 * SECOND, MINUTE, 11 * MINUTE, HOUR, DAY))
                m.do(Woke())
            case "crash":
                if m.state is not None:
                    m.restore()
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

    def _maybe_crash(self) -> None:
        if self.random.random() < 0.1 and self.m.state is not None:
            self.m.state = decode(encode(self.m.state))
            self.m.do(Restored())

    def _rest(self) -> None:
        m = self.m
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
    assert {Done, NotThere, Throttled, Unreachable, Unknown} >= kinds > {Throttled, Unreachable, Unknown}
