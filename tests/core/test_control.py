"""What operators decide for every replica: pauses, and rulings about what guards have parked."""

from dataclasses import replace
from typing import Literal

import pytest

from tests.core.machine import (
    DAY,
    FULL,
    HOUR,
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
from worker.core.calls import still_goes
from worker.core.control import NOTHING_DECIDED, Control, gather
from worker.core.outcome import Unknown
from worker.core.state import Hold
from worker.core.stream import NOTHING_OPEN, Woke
from worker.events.control import Pause, Ruling, read
from worker.vendors.base import Operation
from worker.words import Purpose

PAUSE = Pause(by="op", reason="A model gone wrong.")
EVERYTHING = Control(everything=PAUSE)
SENTENCE = "Enforcement is paused by op: A model gone wrong."


def decide(one: Machine, control: Control) -> list[tuple[str | None, str]]:
    """Let the stream hear of what operators have decided; return what it tells."""
    one.ctx = replace(one.ctx, control=control)
    return said(one.do(Woke()).results)


def parked(one: Machine) -> tuple[str, ...]:
    assert one.last is not None
    return one.last.open.parked


# -- records -> Control ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pause/all", "everything"),
        ("pause/account/hw", "accounts"),
        ("pause/tenant/a/b", "tenants"),
    ],
)
def test_a_pause_that_cannot_be_read_pauses_all_the_same(key: str, value: str) -> None:
    for raw in (b"", b"stop!", b"{}", b'{"by": 7, "at": "yesterday"}'):
        scope = read(key.encode(), raw)
        assert scope is not None
        control = gather([(key, scope)])
        assert control.pauses
        found = getattr(control, value)
        assert found == Pause() or found == {key.split("/", 2)[2]: Pause()}


def test_a_ruling_that_cannot_be_read_decides_nothing() -> None:
    with pytest.raises(ValueError, match="decision"):
        read(b"guard/blast", b'{"by": "op", "at": "2026-11-22T10:00:00Z"}')
    assert read(b"replayed/3", b"{}") is None
    assert read(b"\xff", b"{}") is None


# -- a pause -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "control",
    [EVERYTHING, Control(accounts={"hw": PAUSE}), Control(tenants={"acme": PAUSE})],
    ids=["everything", "account", "tenant"],
)
@pytest.mark.parametrize("category", ["nudity", "spam", "gambling"])
def test_no_call_is_made_while_paused_and_it_is_told_once(category: str, control: Control) -> None:
    one = Machine()
    one.ctx = replace(one.ctx, control=control)
    regions = {"regions": ["DE"]} if category == "gambling" else {}
    (held,) = one.verdict(category, tenant="acme", **regions)
    assert (held.outcome, held.reason, held.terminal) == ("held", "pause", False)
    assert held.hold
    assert held.detail.endswith("by op: A model gone wrong.")
    assert one.needs() == {}
    assert parked(one) == ("pause",)
    assert decide(one, control) == []
    assert one.run() == []
    assert one.calls == []
    assert decide(one, NOTHING_DECIDED) == []
    assert said(one.run()) == [("v1", "applied*")]


@pytest.mark.parametrize(
    "control", [Control(accounts={"ali": PAUSE}), Control(tenants={"other": PAUSE}), NOTHING_DECIDED]
)
def test_others_go_on(control: Control) -> None:
    one = Machine()
    one.ctx = replace(one.ctx, control=control)
    assert one.verdict(tenant="acme") == []
    assert said(one.run()) == [("v1", "applied*")]
    one.verdict("spam")
    assert "pause" not in parked(one)


def test_what_waits_when_a_pause_begins_is_held_and_decided_anew_at_its_end() -> None:
    one = Machine()
    one.verdict()
    assert decide(one, EVERYTHING) == [("v1", "held")]
    assert one.needs() == {}
    one.now += 5 * MINUTE
    assert decide(one, NOTHING_DECIDED) == []
    assert said(one.run()) == [("v1", "applied*")]


def test_what_expires_in_a_pause_is_stale_and_so_is_what_it_covered() -> None:
    one = Machine()
    one.ctx = replace(one.ctx, control=EVERYTHING)
    one.verdict("hour")
    one.verdict("violence")
    one.verdict("violence")
    assert said(one.results)[-1] == ("v3", "absorbed*")
    stale = one.wait(11 * MINUTE)
    assert said(stale) == [("v2", "stale*")]
    assert stale[0].detail == "It expired while enforcement was paused."
    decide(one, NOTHING_DECIDED)
    assert one.run() == []
    assert one.calls == [], "nobody wants an old demand carried out"


def test_a_covered_demand_that_is_still_fresh_stands_when_the_one_before_it_has_gone_stale() -> None:
    one = Machine()
    one.ctx = replace(one.ctx, control=EVERYTHING)
    one.verdict("violence")
    one.now += MINUTE // 2
    one.verdict("violence")
    assert said(one.results)[-1] == ("v2", "absorbed*")
    one.now += 9 * MINUTE + 40 * SECOND
    assert decide(one, EVERYTHING) == [("v1", "stale*")]
    decide(one, NOTHING_DECIDED)
    one.run()
    assert purposes(one.calls) == ["forbid"]


def test_a_stronger_demand_takes_over_in_a_pause_too() -> None:
    one = Machine()
    one.verdict("spam")
    decide(one, EVERYTHING)
    told = one.verdict("nudity")
    assert said(told) == [("v1", "superseded*"), ("v2", "held")]


def test_a_call_under_way_when_the_pause_begins_is_heard_to_its_end() -> None:
    one = Machine()
    one.verdict()
    (call,) = one.grant()
    assert decide(one, EVERYTHING) == []
    assert said(one.answered(call, one.answer(call))) == [("v1", "applied*")]


def test_an_answer_that_was_lost_in_a_pause_is_followed_up_at_its_end() -> None:
    one = Machine()
    one.verdict("spam")
    (call,) = one.grant()
    decide(one, EVERYTHING)
    assert said(one.answered(call, Unknown())) == [("v1", "held")]
    one.now += MINUTE
    assert one.needs() == {"hw": "read_live"}, "asking goes on"


def test_lifting_and_queries_go_on_in_a_pause() -> None:
    one = Machine()
    vendor = Vendor(one)
    one.verdict()
    one.run()
    assert vendor.banned_until is not None
    decide(one, EVERYTHING)
    one.command("query")
    assert said(one.run()) == [("c2", "observed*")]
    one.command("release")
    assert said(one.run()) == [("c3", "released*")]
    assert vendor.banned_until is None


def test_a_pause_lifts_nothing_that_is_demanded() -> None:
    """Not even a ban of which nobody knows whether it is there."""
    one = Machine()
    one.verdict()
    (call,) = one.grant()
    one.answered(call, Unknown())
    decide(one, EVERYTHING)
    one.now += MINUTE
    assert one.needs() == {}


def test_verification_goes_on_in_a_pause_and_what_it_finds_gone_waits() -> None:
    one = Machine(policy=replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND)))
    vendor = Vendor(one)
    one.verdict("violence")
    one.run()
    vendor.live_since = one.now
    decide(one, EVERYTHING)
    vendor.banned_until = None
    one.wait(MINUTE)
    assert purposes(one.calls).count("read_forbid") >= 1
    assert purposes(one.calls).count("forbid") == 1
    assert parked(one) == ("pause",), "it is woken when the pause ends"
    decide(one, NOTHING_DECIDED)
    one.wait(HOUR // 2)
    assert purposes(one.calls).count("forbid") == 2


def test_a_ban_is_not_renewed_in_a_pause_and_is_at_its_end() -> None:
    short: Operation = replace(FULL["forbid"], max_length=HOUR)
    serves: dict[Purpose, Operation] = {**FULL, "forbid": short, "move_end": replace(short, name="move")}
    one = Machine(accounts={"hw": replace(serving(), serves=serves)})
    one.verdict("minors")
    one.run()
    decide(one, EVERYTHING)
    one.wait(56 * MINUTE)
    assert purposes(one.calls) == ["forbid"]
    assert parked(one) == ("pause",)
    decide(one, NOTHING_DECIDED)
    one.run()
    assert purposes(one.calls) == ["forbid", "move_end"]


def test_an_end_is_not_moved_in_a_pause_and_the_command_waits_for_it() -> None:
    one = Machine()
    one.verdict()
    one.run()
    decide(one, EVERYTHING)
    assert one.command("extend", until="2027-01-01T00:00:00Z") == []
    assert one.run() == []
    decide(one, NOTHING_DECIDED)
    assert said(one.run()) == [("c2", "applied*")]
    assert purposes(one.calls) == ["forbid", "move_end"]


def test_approval_does_not_let_go_what_is_paused_and_a_human_may_end_it() -> None:
    one = Machine()
    one.ctx = replace(one.ctx, control=EVERYTHING)
    one.verdict()
    assert said(one.command("approve")) == [("c2", "no_action*")]
    assert said(one.command("reject")) == [("c3", "applied*"), ("v1", "cancelled*")]
    one.verdict("doubtful")
    assert said(one.command("approve")) == [("c5", "applied*"), ("v4", "held")]
    assert one.needs() == {}


def test_the_account_that_refuses_the_login_is_told_when_the_pause_is_over() -> None:
    one = Machine(stopped=frozenset({"hw"}))
    (held,) = one.verdict()
    assert held.reason == "account"
    assert decide(one, EVERYTHING) == [("v1", "held")]
    assert one.results[-1].reason == "pause"
    assert decide(one, NOTHING_DECIDED) == [("v1", "held")]
    assert one.results[-1].reason == "account"


def test_of_calls_that_were_granted_before_a_pause_reads_and_lifts_are_still_sent() -> None:
    one = Machine()
    one.verdict()
    one.run()
    assert one.state is not None
    (state,) = one.state.targets.values()
    goes = {purpose: still_goes(state, purpose, EVERYTHING, one.now) for purpose in FULL}
    assert {purpose for purpose, still in goes.items() if still} == {
        "read_forbid",
        "read_regions",
        "read_live",
    }
    assert all(still_goes(state, purpose, NOTHING_DECIDED, one.now) for purpose in FULL)
    one.command("release")
    (state,) = one.state.targets.values()
    assert still_goes(state, "lift", EVERYTHING, one.now)


# -- rulings about guards ----------------------------------------------------------------------------


class Parks:
    """A guard that parks all."""

    def parks(self, account: str, hold: Hold, placed: object) -> str:  # noqa: ARG002 - whoever asks
        return "blast"


def ruling(decision: Literal["release", "reject"], at: int = NOW) -> Control:
    return Control(rulings={"blast": Ruling.model_construct(decision=decision, by="op", reason=None, at=at)})


def guarded() -> Machine:
    return Machine(guards=Parks())


def test_what_a_guard_parked_names_it() -> None:
    (held,) = guarded().verdict()
    assert (held.outcome, held.reason) == ("held", "guard")
    assert held.detail.startswith("Guard blast parked it:")


def test_a_release_lets_go_what_was_parked_before_it_and_nothing_later() -> None:
    one = guarded()
    one.verdict()
    assert decide(one, ruling("release")) == []
    assert said(one.run()) == [("v1", "applied*")]
    assert said(one.verdict("violence")) == [("v2", "held")]
    assert decide(one, ruling("release")) == []
    assert one.run() == []
    decide(one, ruling("release", NOW + 1))
    assert said(one.run()) == [("v2", "applied*")]


def test_a_rejection_ends_what_was_parked() -> None:
    one = guarded()
    one.verdict()
    assert decide(one, ruling("reject")) == [("v1", "cancelled*")]
    assert one.results[-1].reason == "rejected"
    assert one.results[-1].detail == "Rejected by op with all that guard blast had parked."
    assert one.run() == []
    assert decide(one, ruling("release", NOW + 1)) == []
    assert one.calls == []


def test_a_ruling_about_another_guard_changes_nothing() -> None:
    one = guarded()
    one.verdict()
    other = Control(rulings={"other": ruling("release").rulings["blast"]})
    assert decide(one, other) == []
    assert parked(one) == ("guard",)


def test_a_restored_stream_hears_of_a_ruling_that_was_made_meanwhile() -> None:
    one = guarded()
    one.verdict()
    one.ctx = replace(one.ctx, control=ruling("release"))
    one.restore()
    assert said(one.run()) == [("v1", "applied*")]


def test_what_has_expired_is_stale_when_it_is_let_go() -> None:
    one = guarded()
    one.verdict()
    one.now += 11 * MINUTE
    assert decide(one, ruling("release")) == [("v1", "stale*")]
    assert one.calls == []


def test_a_flood_on_a_parked_stream_does_not_grow_its_state() -> None:
    one = guarded()
    for _ in range(300):
        one.verdict("minors")
        one.now += SECOND
    assert one.state is not None
    (target,) = one.state.targets.values()
    assert len(target.holds) <= 6
    assert parked(one) == ("guard",)
    outcomes = {result.verdict_id: result.outcome for result in one.results}
    assert outcomes["v1"] == "held"
    assert outcomes["v300"] == "absorbed"
    decide(one, ruling("reject"))
    assert one.run() == []
    assert one.calls == []
    one.now += DAY
    one.do(Woke())
    assert one.last is not None
    assert one.last.open == NOTHING_OPEN


def test_what_a_parked_demand_has_absorbed_is_let_go_with_it() -> None:
    one = guarded()
    one.verdict("minors")
    one.now += MINUTE
    one.verdict("minors")
    one.now += 9 * MINUTE + SECOND
    told = decide(one, ruling("release"))
    assert told == [("v1", "stale*")]
    one.run()
    assert purposes(one.calls) == ["forbid"], "the second one is fresh"
