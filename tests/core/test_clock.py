"""Clock steps: what a call was made for, and what is in force, do not hang on the clock's going forward."""

from dataclasses import replace

from tests.core.machine import (
    DAY,
    HOUR,
    MINUTE,
    POLICY,
    SECOND,
    Machine,
    Vendor,
    purposes,
    said,
    serving,
)
from worker.core.outcome import Done, Facts, Observed, Refused, Unknown
from worker.core.stream import Woke
from worker.events.times import format_rfc3339

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))
LATER = format_rfc3339(1_790_000_000_000 + DAY)


def test_a_cut_is_made_once_though_the_clock_is_set_back_before_it_goes_out() -> None:
    m = Machine()
    m.verdict("spam")
    m.now -= HOUR
    assert said(m.run()) == [("v1", "applied*")]
    m.wait(HOUR)
    assert purposes(m.calls) == ["cut"]


def test_a_cut_that_was_covered_is_not_made_later_when_the_clock_was_set_back() -> None:
    m = Machine()
    m.verdict("spam")
    assert said(m.verdict("spam", expires_at=LATER)) == [("v2", "absorbed*")]
    m.now -= HOUR
    m.run()
    m.wait(HOUR)
    assert purposes(m.calls) == ["cut"]


def test_a_refusal_fails_what_it_was_about_though_the_clock_was_set_back() -> None:
    m = Machine(answer=lambda call: Refused("vendor"))
    m.verdict("violence", expires_at=LATER)
    m.now -= HOUR
    assert said(m.run()) == [("v1", "failed*")]
    m.answer = lambda call: Done()
    m.now += POLICY.reconcile or 0
    assert said(m.run()) == [("v1", "applied")]


def test_a_lost_cut_is_told_by_the_read_though_the_clock_was_set_back() -> None:
    m = Machine()
    m.verdict("spam", expires_at=LATER)
    (lost,) = m.grant()
    m.answered(lost, Unknown())
    m.now -= HOUR
    m.do(Woke())
    m.answer = lambda call: Observed(Facts(live=False))
    results = m.wait(HOUR + SECOND)
    assert said(results) == [("v1", "applied*")]
    assert purposes(m.calls) == ["cut", "read_live"]


def test_a_vendor_whose_ban_does_not_cut_cuts_once_though_the_clock_was_set_back() -> None:
    m = Machine({"hw": serving("forbid", "cut", "move_end", "lift", forbid_cuts=False)})
    m.verdict("violence", expires_at=LATER)
    (ban,) = m.grant()
    m.answered(ban, Done())
    m.now -= HOUR
    assert said(m.run()) == [("v1", "applied*")]
    m.wait(10 * MINUTE)
    assert purposes(m.calls) == ["forbid", "cut"]
    m.command("extend", until=LATER)
    m.run()
    assert purposes(m.calls) == ["forbid", "cut", "move_end"], "a dark stream need not be cut again"


def test_what_is_approved_during_a_call_is_not_what_that_call_was_for() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    held = m.verdict("doubtful")
    m.command("approve", holds=[held[0].hold])
    assert said(m.answered(call, Refused("vendor"))) == [("v1", "failed*")]
    assert ("v2", "applied*") in said(m.run())


# -- regions -------------------------------------------------------------------------------------------


def hold_of(m: Machine, verdict_id: str) -> str:
    assert m.state is not None
    holds = (hold for target in m.state.targets.values() for hold in target.holds)
    return next(hold.id for hold in holds if hold.cause.verdict_id == verdict_id)


def test_a_released_block_frees_its_regions_though_another_lasts() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict("gambling", regions=["DE", "FR"])
    m.verdict("gambling", regions=["FR", "IT"])
    m.run()
    assert list(vendor.regions) == ["DE", "FR", "IT"]
    assert m.command("release", holds=[hold_of(m, "v1")]) == [], "DE is still blocked"
    assert said(m.run()) == [("c3", "released*")]
    assert list(vendor.regions) == ["FR", "IT"]


def test_a_release_says_so_when_the_regions_cannot_be_freed() -> None:
    m = Machine()
    m.verdict("gambling", regions=["DE"])
    m.verdict("gambling", regions=["FR"])
    m.run()
    m.answer = lambda call: Refused("vendor")
    m.command("release", holds=[hold_of(m, "v1")])
    results = m.run()
    assert said(results) == [("c3", "failed*")]


def test_a_block_is_lifted_below_a_ban() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict("gambling", regions=["DE"])
    m.run()
    m.verdict("violence")
    m.run()
    m.verdict(kind="withdraw", withdraws="v1")
    results = m.run()
    assert said(results) == [("v3", "released*")]
    assert "another demand" in results[0].detail
    assert vendor.regions == ()
    assert vendor.banned_until is not None


def test_regions_whose_end_passed_while_the_worker_was_down_are_freed_when_it_starts() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict("gambling", regions=["DE"])
    m.verdict("gambling", regions=["FR"])
    m.run()
    m.command("extend", holds=[hold_of(m, "v1")], until=format_rfc3339(m.now + HOUR))
    m.run()
    assert list(vendor.regions) == ["DE", "FR"]
    m.now += DAY
    m.restore()
    m.run()
    assert ("v1", "expired") in said(m.results)
    assert list(vendor.regions) == ["FR"]
