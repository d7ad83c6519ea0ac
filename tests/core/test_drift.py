"""What the vendor has otherwise than we believe, and what becomes of it."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.core.machine import (
    DAY,
    GATED,
    HOUR,
    KEY,
    MINUTE,
    NOW,
    POLICY,
    SECOND,
    Machine,
    Vendor,
    purposes,
    said,
    serving,
)
from worker.core.context import AccountView
from worker.core.control import Control
from worker.core.drift import MOMENTS, due_at
from worker.core.outcome import AlreadySo, Done, Facts, Observed, Outcome, Throttled, Unknown, Unreachable
from worker.core.policy import Policy
from worker.core.state import Ban, Block, TargetState
from worker.core.stream import NOTHING_OPEN, Woke
from worker.core.turn import Turn
from worker.events.control import Pause
from worker.words import Call, Target

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND), reconcile=None)


def target(m: Machine) -> TargetState:
    assert m.state is not None
    (only,) = m.state.targets.values()
    return only


def ban(m: Machine) -> Ban:
    found = target(m).ban
    assert found is not None
    return found


def block(m: Machine) -> Block:
    found = target(m).block
    assert found is not None
    return found


def enforced(category: str, **fields: object) -> tuple[Machine, Vendor]:
    """Return a machine and its vendor, a demand in force and verified, all checks over."""
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict(category, **fields)
    m.run()
    m.wait(MINUTE)
    assert ("v1", "verified*") in said(m.results)
    assert target(m).check is None
    return m, vendor


# -- a query's answer ------------------------------------------------------------------------------------


def test_a_ban_that_a_query_does_not_find_is_applied_again_and_verified() -> None:
    m, vendor = enforced("violence")
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted")]
    assert (m.results[-1].reason, m.results[-1].hold) == ("query", target(m).holds[0].id)
    assert vendor.banned_until == ban(m).until == NOW + HOUR
    assert said(m.wait(MINUTE)) == [("v1", "verified")]
    assert (m.results[-1].reason, target(m).holds[0].lost) == ("drift", False)


def test_a_region_block_that_a_query_does_not_find_is_applied_again_and_verified() -> None:
    m, vendor = enforced("gambling", regions=["DE", "FR"])
    vendor.regions = ()
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted")]
    assert vendor.blocked == block(m).regions == ("DE", "FR")
    assert said(m.wait(MINUTE)) == [("v1", "verified")]


def test_its_return_is_told_as_applied_where_nothing_verifies_it() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    m.wait(5 * MINUTE)
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted"), ("v1", "applied")]
    assert m.results[-1].reason == "drift"


def test_only_the_demand_whose_regions_are_open_is_told() -> None:
    m, vendor = enforced("gambling", regions=["DE"])
    m.verdict("gambling", regions=["FR"])
    m.run()
    m.wait(MINUTE)
    assert vendor.blocked == ("DE", "FR")
    vendor.regions = ("DE",)
    m.command("query")
    assert said(m.run()) == [("c3", "observed*"), ("v2", "drifted")]
    assert vendor.blocked == ("DE", "FR")


def test_what_is_left_of_a_block_is_lifted_when_its_demand_goes_away() -> None:
    m, vendor = enforced("gambling", regions=["DE", "FR"])
    vendor.regions = ("DE",)
    m.command("query")
    for _ in range(3):
        (call,) = m.grant()
        m.answered(call, vendor(call))
    assert block(m).regions == ("DE",)
    m.command("release")
    m.run()
    assert vendor.blocked == ()


def test_an_end_that_was_moved_at_the_vendor_is_moved_back() -> None:
    m, vendor = enforced("violence")
    for until in (NOW + 20 * MINUTE, NOW + 3 * HOUR, None):
        vendor.banned_until = until or vendor.banned_until
        m.command("query")
        m.run()
        assert vendor.banned_until == ban(m).until == NOW + HOUR
    assert purposes(m.calls).count("move_end") == 2
    assert "drifted" not in [told.outcome for told in m.results]


def test_the_end_of_somebody_elses_ban_is_taken_as_it_is() -> None:
    m, vendor = enforced("violence")
    found = ban(m)
    assert m.state is not None
    (name,) = m.state.targets
    others = replace(target(m), ban=replace(found, ours=False))
    m.state = replace(m.state, targets={name: others})
    vendor.banned_until = NOW + 3 * HOUR
    m.command("query")
    m.run()
    assert (ban(m).until, ban(m).ours, vendor.banned_until) == (NOW + 3 * HOUR, False, NOW + 3 * HOUR)
    vendor.banned_until = None
    m.command("query")
    assert said(m.run())[-1] == ("v1", "drifted")
    assert (ban(m).until, ban(m).ours, purposes(m.calls)[-1]) == (NOW + HOUR, True, "forbid")


def test_the_end_of_a_block_that_was_moved_is_moved_back() -> None:
    m, vendor = enforced("gambling", regions=["DE"])
    until = vendor.regions_until

    def answer(call: Call) -> Outcome:
        if call.purpose == "read_regions":
            return Observed(Facts(regions=vendor.blocked, regions_until=vendor.regions_until))
        return vendor(call)

    m.answer, vendor.regions_until = answer, NOW + HOUR
    m.command("query")
    m.run()
    assert (vendor.blocked, vendor.regions_until) == (("DE",), until)


def test_a_stream_that_a_query_shows_live_again_is_forbidden_again() -> None:
    m, vendor = enforced("violence")
    vendor.live_since = m.now - SECOND
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "reappeared")]
    assert vendor.live_since is None


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(live=False),
        Facts(forbidden=True, forbidden_until=None),
        Facts(regions=(), in_progress=True),
        Facts(live=True, live_since=NOW - HOUR),
        Facts(live=True),
    ],
)
@pytest.mark.parametrize("category", ["violence", "gambling"])
def test_what_a_read_cannot_tell_changes_nothing(category: str, facts: Facts) -> None:
    m, _ = enforced(category, regions=["DE"])
    before, calls = target(m), purposes(m.calls)
    m.answer = lambda call: Observed(facts)
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert set(purposes(m.calls[len(calls) :])) == {"read_forbid", "read_regions", "read_live"}
    assert (target(m).ban, target(m).block) == (before.ban, before.block)


@pytest.mark.parametrize("category", ["violence", "gambling"])
def test_a_belief_that_is_not_sure_stays_until_its_call_is_repeated(category: str) -> None:
    m, vendor = enforced(category, regions=["DE"])
    assert m.state is not None
    (name,) = m.state.targets
    before = target(m)
    doubted = replace(
        before,
        ban=before.ban and replace(before.ban, sure=False),
        block=before.block and replace(before.block, sure=False),
    )
    m.ctx = replace(m.ctx, control=Control(everything=Pause(by="op")))  # or it would be repeated first
    m.state = replace(m.state, targets={name: doubted})
    vendor.banned_until, vendor.regions = None, ()
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert (target(m).ban, target(m).block) == (doubted.ban, doubted.block)


@pytest.mark.parametrize(("category", "read"), [("violence", 1), ("gambling", 2)])
def test_what_was_told_since_the_reading_began_is_newer(category: str, read: int) -> None:
    m = Machine(policy=replace(CHECKED, verify_after=()))
    vendor = Vendor(m)
    where = {"key": KEY, "targets": [{"account": "hw", "app": "live", "stream": "room42"}]}
    m.command("query", stream=where)
    for _ in range(read):
        (call,) = m.grant()
        m.answered(call, vendor(call))  # it is not in force
    m.verdict(category, regions=["DE"], stream=where)
    (call,) = m.grant()
    m.answered(call, vendor(call))
    m.now += HOUR // 2
    m.run()
    assert purposes(m.calls)[-1] == "read_live"
    assert ("v2", "drifted") not in said(m.results)
    assert (target(m).ban or target(m).block) is not None
    assert len(m.calls) == 4


def test_a_list_that_does_not_have_it_yet_proves_nothing() -> None:
    m = Machine(policy=replace(CHECKED, verify_after=()))
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert ban(m).sure
    m.now += 2 * MINUTE
    m.command("query")
    assert ("v1", "drifted") in said(m.run())


def test_what_the_vendor_ended_a_moment_early_is_not_told_as_lost() -> None:
    m, vendor = enforced("violence")
    m.now = NOW + HOUR - 3 * SECOND
    vendor.banned_until = m.now
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert purposes(m.calls).count("forbid") == 1


# -- on schedule -----------------------------------------------------------------------------------------

PERIOD = 10 * MINUTE
SCHEDULED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND), reconcile=PERIOD)


def scheduled(
    category: str = "violence", policy: Policy = SCHEDULED, **fields: Any
) -> tuple[Machine, Vendor]:
    """Return a machine that compares on schedule, and its vendor, with a demand in force."""
    m = Machine(policy=policy)
    vendor = Vendor(m)
    m.verdict(category, **fields)
    m.run()
    return m, vendor


def until_due(m: Machine) -> None:
    """Let time pass until a comparison is due, and grant nothing."""
    for _ in range(20):
        if target(m).reading is not None and not m.needs():
            return
        assert m.last is not None
        m.now = max(m.now, m.last.wake_at)
        m.do(Woke())
        while m.needs():
            (call,) = m.grant()
            m.answered(call, m.answer(call))
    raise AssertionError("no comparison is ever due")


def waiting(m: Machine) -> str | None:
    """Return what the reading under way, or waited for, is about."""
    reading = target(m).reading
    return reading.why if reading is not None else None


@pytest.mark.parametrize(("category", "reads"), [("violence", "read_forbid"), ("gambling", "read_regions")])
def test_what_the_vendor_lost_is_found_applied_again_and_verified(category: str, reads: str) -> None:
    m, vendor = scheduled(category, regions=["DE"])
    assert said(m.wait(MINUTE)) == [("v1", "verified*")]
    vendor.banned_until, vendor.regions = None, ()
    told = m.wait(PERIOD + MINUTE)
    assert said(told) == [("v1", "drifted"), ("v1", "verified")]
    assert told[0].reason == "drift"
    assert {call.purpose for call in m.comparisons} == {reads}
    again = vendor.banned_until == NOW + HOUR if category == "violence" else vendor.blocked == ("DE",)
    assert again


def test_a_comparison_is_made_once_a_period_whatever_restarts() -> None:
    m, _ = scheduled("minors")
    for number in range(1, 20):
        m.wait(PERIOD)
        m.restore()
        assert number - 1 <= len(m.comparisons) <= number
    assert {call.priority for call in m.comparisons} == {"low"}
    assert said(m.results) == [("v1", "applied"), ("v1", "verified*")]


def test_streams_are_compared_at_a_few_moments_each_with_its_share() -> None:
    m = Machine(policy=SCHEDULED)
    state = TargetState(Target("hw", "live", "room42"), ban=Ban(None, since=NOW))
    due = Counter(due_at(Turn(m.ctx, f"stream-{n}", state, NOW)) for n in range(20_000))
    assert len(due) == MOMENTS
    assert min(due) >= NOW + PERIOD // 2
    assert max(due) < NOW + PERIOD // 2 + PERIOD
    assert {later - at for at, later in pairwise(sorted(due))} == {PERIOD // MOMENTS}
    assert max(due.values()) < 1.2 * 20_000 / MOMENTS


@pytest.mark.parametrize(
    "view", [serving("forbid", "lift", "read_live"), GATED, serving("forbid", "read_regions")]
)
def test_a_vendor_that_cannot_be_asked_is_not_compared_with(view: AccountView) -> None:
    m = Machine({"hw": view}, SCHEDULED)
    m.verdict("minors")
    m.run()
    m.wait(10 * PERIOD)
    assert target(m).ban is not None
    assert m.comparisons == []
    assert m.last is not None
    assert m.last.wake_at > m.now + DAY


def test_nothing_is_compared_where_that_is_off() -> None:
    m, _ = scheduled("minors", replace(SCHEDULED, reconcile=None))
    m.wait(10 * PERIOD)
    assert m.comparisons == []


def test_a_comparison_that_waits_is_nothing_unfinished() -> None:
    m, _ = scheduled()
    until_due(m)
    assert waiting(m) == "drift"
    assert m.last is not None
    assert m.last.open == NOTHING_OPEN
    assert m.now < m.last.wake_at <= m.now + PERIOD, "whoever restores it looks at it again"


def test_a_comparison_holds_no_enforcement_back() -> None:
    m, vendor = scheduled()
    until_due(m)
    (read,) = m.grant()
    m.verdict("minors")
    assert m.needs() == {"hw": "move_end"}
    m.run()
    m.answered(read, Observed(Facts(forbidden=False)))
    assert ban(m).sure
    until_due(m)
    m.command("release")
    assert m.needs() == {"hw": "lift"}
    m.run()
    assert (vendor.banned_until, waiting(m)) == (None, None)


def test_a_stream_with_nothing_in_force_is_forgotten_whatever_was_to_be_compared() -> None:
    m, _ = scheduled("nudity", replace(SCHEDULED, reconcile=2 * MINUTE))
    until_due(m)
    m.answer = lambda call: Throttled(None)
    m.now = NOW + 3 * HOUR
    m.do(Woke())
    assert m.state is None


def test_a_query_takes_the_place_of_a_comparison_and_so_does_a_verification() -> None:
    m, _ = scheduled("violence")
    until_due(m)
    m.command("query")
    assert waiting(m) == "ask"
    m.run()
    until_due(m)
    m.verdict("minors")
    m.run()
    assert waiting(m) is None
    m.wait(6 * SECOND)
    assert said(m.results)[-1] == ("v3", "verified*")


def test_a_comparison_that_failed_is_left_for_the_next_one() -> None:
    m, vendor = scheduled("violence")
    until_due(m)
    for outcome in (Throttled(None), Unknown(), Unreachable()):
        (read,) = m.grant()
        m.answered(read, outcome, jitter=0.0)
        m.wait(PERIOD // 2)
        assert (waiting(m), target(m).attempts) == (None, ())
        until_due(m)
    vendor.banned_until = None
    assert ("v1", "drifted") in said(m.wait(PERIOD))


def test_a_comparison_that_a_crash_interrupted_is_left_for_the_next_one() -> None:
    m, _ = scheduled("violence")
    until_due(m)
    m.grant()
    assert m.last is not None
    assert m.last.open.busy, "or nobody would notice after a crash that no answer comes"
    m.restore()
    assert (target(m).call, waiting(m)) == (None, None)
    until_due(m)
    assert waiting(m) == "drift"


# -- a verification --------------------------------------------------------------------------------------


def test_a_block_that_was_shown_and_is_gone_is_told_and_applied_again_at_once() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]
    vendor.regions = ()
    assert said(m.wait(MINUTE)) == [("v1", "drifted"), ("v1", "verified")]
    assert vendor.blocked == ("DE",)


def test_a_block_that_never_showed_has_failed_and_is_not_told_as_lost() -> None:
    m = Machine(policy=replace(CHECKED, reconcile=10 * MINUTE))
    m.answer = lambda call: Observed(Facts(regions=())) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert said(m.wait(MINUTE)) == [("v1", "failed*")]
    assert purposes(m.calls).count("block_regions") == 1


def test_a_second_loss_is_told_again() -> None:
    m, vendor = enforced("violence")
    for number in range(2, 4):
        vendor.banned_until = None
        m.command("query")
        assert said(m.run()) == [(f"c{number}", "observed*"), ("v1", "drifted")]
        assert said(m.wait(MINUTE)) == [("v1", "verified")]
    assert len({told.result_id for told in m.results}) == len(m.results)


def test_what_is_there_again_already_is_told_all_the_same() -> None:
    m, vendor = enforced("violence")
    vendor.banned_until = None
    m.command("query")
    for _ in range(3):
        (call,) = m.grant()
        m.answered(call, vendor(call))
    vendor.banned_until = NOW + HOUR
    m.answer = lambda call: AlreadySo() if call.purpose == "forbid" else vendor(call)
    assert said(m.run())[-1] == ("v1", "applied")
    assert purposes(m.calls)[-2:] == ["forbid", "read_forbid"]
