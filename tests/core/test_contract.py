"""The contract's sentences against the machine, where a life takes a turn that few lives take."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.core.machine import (
    DAY,
    FULL,
    HOUR,
    KEY,
    MINUTE,
    NOW,
    POLICY,
    SECOND,
    Machine,
    Vendor,
    purposes,
    rule,
    said,
    serving,
    target,
)
from worker.core.context import AccountView
from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
)
from worker.core.state import LEDGER, TargetState, stream_of
from worker.core.stream import Received, Woke
from worker.core.turn import AFTER_FAILURE
from worker.events.incoming import StreamEvent
from worker.events.times import format_rfc3339
from worker.words import Call

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND, 120 * SECOND))
LATER = format_rfc3339(NOW + DAY)
"""An expiry that no test reaches."""


def session(name: str, started_at: int | None = None) -> dict[str, object]:
    return {"session": {"id": name, **({"started_at": format_rfc3339(started_at)} if started_at else {})}}


def only(m: Machine) -> TargetState:
    assert m.state is not None
    (state,) = m.state.targets.values()
    return state


def hold_of(m: Machine, verdict_id: str) -> str:
    return next(hold.id for hold in only(m).holds if hold.cause.verdict_id == verdict_id)


def refusing(*refused: str, error: Any = "vendor") -> Callable[[Call], Outcome]:
    return lambda call: Refused(error) if call.purpose in refused else Done()


# -- failed ends the verdict, not the demand -----------------------------------------------------------


@pytest.mark.parametrize("reconcile", [None, 10 * MINUTE])
def test_a_new_verdict_is_tried_at_once_though_one_before_it_was_given_up(reconcile: int | None) -> None:
    m = Machine(policy=replace(POLICY, reconcile=reconcile), answer=refusing("forbid"))
    m.verdict()
    assert said(m.run()) == [("v1", "failed*")]
    m.answer = lambda call: Done()
    m.verdict("violence")
    m.now += AFTER_FAILURE
    assert ("v2", "applied*") in said(m.run())


def test_a_cut_goes_out_though_a_forbid_was_given_up() -> None:
    m = Machine(answer=refusing("forbid", error="quota"))
    m.verdict()
    m.run()
    m.verdict("spam")
    m.now += AFTER_FAILURE
    assert ("v2", "applied*") in said(m.run())
    assert purposes(m.calls)[:2] == ["forbid", "cut"]


def test_giving_one_up_does_not_put_off_another() -> None:
    m = Machine(answer=lambda call: Unreachable())
    m.verdict("gambling", regions=["DE"], expires_at=format_rfc3339(NOW + MINUTE))
    m.verdict("gambling", regions=["FR"], expires_at=LATER)
    m.run()
    m.now += MINUTE
    assert said(m.do(Woke()).results) == [("v1", "failed*")]
    m.now += 31 * SECOND
    assert m.needs() == {"hw": "block_regions"}


def test_a_success_after_failed_is_told_by_a_non_terminal_applied() -> None:
    outcomes: list[Outcome] = [Refused("vendor"), Done()]
    m = Machine(answer=lambda call: outcomes.pop(0))
    m.verdict("violence")
    assert said(m.run()) == [("v1", "failed*")]
    m.now += POLICY.reconcile or 0
    assert said(m.run()) == [("v1", "applied")]
    m.now += POLICY.reconcile or 0
    assert m.do(Woke()).results == []


def test_a_success_after_giving_up_is_told_by_a_non_terminal_applied() -> None:
    m = Machine(answer=lambda call: Unreachable())
    m.verdict("violence", expires_at=format_rfc3339(NOW + SECOND))
    m.run()
    m.now += SECOND
    assert said(m.do(Woke()).results) == [("v1", "failed*")]
    m.answer = lambda call: Done()
    m.now += POLICY.reconcile or 0
    assert said(m.run()) == [("v1", "applied")]


def test_a_demand_outlives_a_refused_login() -> None:
    m = Machine(stopped=frozenset({"hw"}))
    m.verdict("minors", expires_at=format_rfc3339(NOW + MINUTE))
    m.now += MINUTE
    results = m.do(Woke()).results
    assert [(r.outcome, r.error and r.error.kind) for r in results] == [("failed", "auth")]
    m.ctx = replace(m.ctx, stopped=frozenset())
    m.now += POLICY.reconcile or 0
    assert said(m.run()) == [("v1", "applied")]
    assert purposes(m.calls) == ["forbid"]


# -- a refusal concerns what was asked -----------------------------------------------------------------


def test_a_forbid_that_cannot_work_leaves_a_block_in_force() -> None:
    m = Machine(answer=refusing("forbid", error="invalid"))
    m.verdict("gambling", regions=["DE"])
    m.run()
    m.verdict()
    assert said(m.run()) == [("v2", "failed*")]
    assert m.needs() == {}
    assert purposes(m.calls) == ["block_regions", "forbid"]


def test_a_longer_ban_that_cannot_work_leaves_the_shorter_one_in_force() -> None:
    m = Machine(answer=refusing("move_end", error="invalid"))
    m.verdict()
    m.run()
    m.verdict("violence")
    assert said(m.run()) == [("v2", "failed*")]
    assert purposes(m.calls) == ["forbid", "move_end"]
    assert m.needs() == {}


def test_what_was_not_asked_for_does_not_fail_with_a_call_under_way() -> None:
    m = Machine()
    m.verdict("spam")
    (call,) = m.grant()
    m.now += SECOND
    assert m.verdict() == []
    assert said(m.answered(call, Refused("vendor"))) == [("v1", "failed*")]
    assert said(m.run()) == [("v2", "applied*")]
    assert m.results[-1].timing.called_at is not None
    assert m.results[-1].timing.called_at > call_time(m, call)


def call_time(m: Machine, call: Call) -> int:
    assert call in m.calls
    return NOW


def test_a_refused_lift_does_not_fail_a_new_demand() -> None:
    m = Machine(answer=refusing("lift"))
    m.verdict()
    m.run()
    m.command("release")
    (lift,) = m.grant()
    m.now += SECOND
    m.verdict(verdict_id="new", origin="human")
    results = m.answered(lift, Refused("vendor"))
    assert ("new", "failed*") not in said(results)
    m.run()
    assert ("new", "applied*") in said(m.results)


@pytest.mark.parametrize("error", ["invalid", "vendor"])
def test_an_extension_that_is_refused_fails_and_leaves_the_ban(error: str) -> None:
    m = Machine(answer=refusing("move_end", error=error))
    m.verdict()
    m.run()
    m.command("extend", until=format_rfc3339(NOW + DAY))
    results = m.run()
    assert said(results) == [("c2", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == error
    assert purposes(m.calls) == ["forbid", "move_end"]
    assert m.needs() == {}


# -- cuts ----------------------------------------------------------------------------------------------


def test_a_cut_answers_only_for_what_it_was_made_for() -> None:
    m = Machine()
    m.verdict("spam", stream=session("s1", NOW - HOUR))
    (call,) = m.grant()
    m.now += SECOND
    m.verdict("spam", stream=session("s2", NOW + 500))
    assert [name for name, _ in said(m.answered(call, Done()))] == ["v1"]
    assert m.needs() == {"hw": "cut"}
    assert said(m.run()) == [("v2", "applied*")]


def test_what_is_seen_after_a_cut_cuts_again_though_the_cut_is_not_verified_yet() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("spam", stream=session("s1"))
    m.run()
    m.now += SECOND
    vendor.live_since = m.now
    m.now += SECOND
    assert said(m.verdict("spam", stream=session("s1"))) == []
    assert said(m.run()) == [("v2", "applied")]
    results = m.wait(6 * SECOND)
    assert sorted(said(results)) == [("v1", "verified*"), ("v2", "verified*")]
    assert purposes(m.calls).count("cut") == 2


def test_a_doubtful_cut_does_not_hold_back_a_forbid() -> None:
    m = Machine()
    m.verdict("spam")
    (call,) = m.grant()
    m.answered(call, Unknown())
    m.now += SECOND
    (question,) = m.grant()
    m.answered(question, Throttled(retry_after=5 * MINUTE))
    assert said(m.verdict("minors")) == [("v1", "superseded*")]
    assert m.needs() == {"hw": "forbid"}


def test_a_covered_cut_is_made_when_what_covered_it_comes_to_nothing() -> None:
    m = Machine()
    m.verdict("spam", expires_at=format_rfc3339(NOW + MINUTE))
    assert said(m.verdict("spam", expires_at=format_rfc3339(NOW + 10 * MINUTE))) == [("v2", "absorbed*")]
    m.now += MINUTE
    assert said(m.do(Woke()).results) == [("v1", "stale*")]
    assert said(m.run()) == [("v2", "applied")]
    assert purposes(m.calls) == ["cut"]
    assert only(m).holds == ()


def test_a_covered_cut_is_forgotten_once_the_stream_is_cut_or_forbidden() -> None:
    for category in ("spam", "violence"):
        m = Machine()
        m.verdict(category)
        assert said(m.verdict("spam")) == [("v2", "absorbed*")]
        m.run()
        m.command("release")
        m.run()
        assert m.needs() == {}
        assert "cut" not in purposes(m.calls)[1:]


def test_a_covered_cut_is_made_when_the_forbid_is_refused() -> None:
    m = Machine(answer=refusing("forbid", error="quota"))
    m.verdict()
    assert said(m.verdict("spam")) == [("v2", "absorbed*")]
    assert said(m.run()) == [("v1", "failed*")]
    m.now += AFTER_FAILURE
    assert said(m.run()) == [("v2", "applied")]
    assert purposes(m.calls)[:2] == ["forbid", "cut"]


def test_a_covered_cut_is_not_made_after_its_expiry() -> None:
    m = Machine(stopped=frozenset({"hw"}))
    m.verdict("spam", expires_at=format_rfc3339(NOW + MINUTE))
    m.verdict("spam", expires_at=format_rfc3339(NOW + 2 * MINUTE))
    m.now += 2 * MINUTE
    m.do(Woke())
    m.ctx = replace(m.ctx, stopped=frozenset())
    assert m.run() == []
    assert m.calls == []
    assert m.state is not None
    assert m.state.targets == {}


# -- someone else's bans -------------------------------------------------------------------------------


def others_ban(until: int | None) -> Callable[[Call], Outcome]:
    def answer(call: Call) -> Outcome:
        match call.purpose:
            case "forbid":
                return AlreadySo()
            case "read_forbid":
                return Observed(Facts(forbidden=True, forbidden_until=until))
        return Done()

    return answer


def test_someone_elses_ban_is_not_lifted_when_the_demand_goes_before_its_end_is_known() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    m.answered(call, AlreadySo())
    m.verdict(kind="withdraw", withdraws="v1")
    m.answer = others_ban(NOW + DAY)
    assert said(m.run()) == [("v2", "released*")]
    assert "lift" not in purposes(m.calls)
    m.wait(2 * DAY)
    assert m.state is None


def test_someone_elses_longer_ban_is_not_shortened_by_a_release() -> None:
    m = Machine(answer=others_ban(NOW + DAY))
    m.verdict("violence", verdict_id="a")
    m.run()
    m.verdict(verdict_id="b")
    m.command("release", holds=[hold_of(m, "a")])
    m.run()
    assert purposes(m.calls) == ["forbid", "read_forbid"]


def test_a_withdrawn_verdict_leaves_someone_elses_ban_and_says_so() -> None:
    m = Machine(answer=others_ban(None))
    m.verdict()
    m.run()
    results = m.verdict(kind="withdraw", withdraws="v1")
    assert said(results) == [("v2", "released*")]
    assert "nothing is in force" not in results[0].detail
    assert purposes(m.calls) == ["forbid", "read_forbid"]
    m.wait(2 * DAY)
    assert m.state is None, "someone else's ban is not ours to remember"


def test_a_block_that_cannot_be_lifted_is_not_told_as_lifted() -> None:
    m = Machine({"hw": serving("block_regions")})
    m.verdict("gambling", regions=["DE"])
    m.run()
    results = m.command("release")
    assert said(results) == [("c2", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "unsupported"


def test_a_ban_of_unknown_end_that_cannot_be_asked_about_is_set_anew() -> None:
    m = Machine({"hw": serving("forbid", "lift")})
    m.verdict()
    (call,) = m.grant()
    m.answered(call, Unknown())
    m.command("extend", until=format_rfc3339(NOW + 2 * HOUR))
    outcomes: list[Outcome] = [AlreadySo(), Done(), Done()]
    m.answer = lambda call: outcomes.pop(0)
    m.now += SECOND
    assert ("v1", "applied*") in said(m.run())
    assert purposes(m.calls) == ["forbid", "forbid", "lift", "forbid"]
    assert m.calls[-1].until == NOW + 2 * HOUR


def test_a_covered_cut_leaves_the_stream_to_a_ban_that_is_still_wanted() -> None:
    m = Machine()
    m.verdict("violence")
    m.verdict()
    m.verdict("spam")
    m.verdict(kind="withdraw", withdraws="v1")
    m.run()
    assert purposes(m.calls) == ["forbid"]


# -- reads ---------------------------------------------------------------------------------------------


def test_a_query_is_not_answered_by_the_read_of_a_verification() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict()
    m.run()
    m.now += 5 * SECOND
    m.do(Woke())
    (first,) = m.grant()
    m.answered(first, m.answer(first))
    (second,) = m.grant()
    assert second.purpose == "read_live"
    m.command("query")
    m.answered(second, m.answer(second))
    m.run()
    told = next(r for r in m.results if r.outcome == "observed")
    assert told.observed is not None
    assert (told.observed.forbidden, told.observed.live) == (True, False)


def test_a_throttled_read_does_not_hold_back_enforcement() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict()
    m.run()
    m.now += 5 * SECOND
    m.do(Woke())
    (read,) = m.grant()
    m.answered(read, Throttled(retry_after=5 * MINUTE))
    m.verdict("violence")
    assert m.needs() == {"hw": "move_end"}


def test_a_read_that_succeeds_does_not_end_the_backoff_of_a_call() -> None:
    m = Machine()
    Vendor(m)
    m.verdict()
    (call,) = m.grant()
    m.command("query")
    m.answered(call, Throttled(retry_after=5 * MINUTE))
    assert m.needs() == {}
    (need,) = (need for need in m.do(Woke()).needs.values() if need)
    assert need.not_before >= NOW + 5 * MINUTE


def test_a_forbid_is_not_verified_where_the_list_could_not_be_read() -> None:
    m = Machine(policy=replace(POLICY, verify_after=(5 * SECOND,)))
    answers: dict[str, Outcome] = {
        "read_forbid": Refused("vendor"),
        "read_live": Observed(Facts(live=False)),
    }
    m.answer = lambda call: answers.get(call.purpose, Done())
    m.verdict("violence")
    m.run()
    results = m.wait(6 * SECOND)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "not_verified")]


# -- what is seen afterwards ---------------------------------------------------------------------------


def test_a_ban_that_never_shows_is_not_set_again_at_every_check() -> None:
    m = Machine({"hw": serving("forbid", "lift", "read_forbid")}, CHECKED)
    m.answer = lambda call: Done() if call.purpose == "forbid" else Observed(Facts(forbidden=False))
    m.verdict("violence")
    m.run()
    while m.now < NOW + 30 * MINUTE:
        m.wait(SECOND)
    assert 2 <= purposes(m.calls).count("forbid") <= 4
    assert len(m.results) <= 10


def test_what_vanished_is_applied_again_at_once_also_when_the_last_check_says_so() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    m.wait(31 * SECOND)
    vendor.banned_until = None
    assert ("v1", "drifted") in said(m.wait(90 * SECOND))
    assert vendor.banned_until is not None


def test_what_reappears_is_cut_where_forbidding_again_does_nothing() -> None:
    m = Machine(policy=replace(POLICY, verify_after=(5 * SECOND,)))
    vendor = Vendor(m)

    def answer(call: Call) -> Outcome:
        if call.purpose == "forbid" and vendor.banned_until is not None:
            return AlreadySo()
        return vendor(call)

    m.answer = answer
    m.verdict("violence")
    m.run()
    vendor.live_since = m.now + SECOND
    results = m.wait(6 * SECOND)
    assert ("v1", "reappeared") in said(results)
    assert vendor.live_since is None
    m.verdict(kind="withdraw", withdraws="v1")
    m.run()
    assert vendor.banned_until is None, "it is still our own ban"


def test_a_vendor_that_contradicts_itself_is_asked_ever_less_often() -> None:
    m = Machine()
    m.answer = lambda call: AlreadySo() if call.purpose == "forbid" else Observed(Facts(forbidden=False))
    m.verdict("violence", expires_at=format_rfc3339(NOW + 5 * MINUTE))
    m.run()
    while m.now < NOW + 6 * MINUTE:
        m.now += 500
        m.do(Woke())
        m.run()
    assert len(m.calls) < 50
    assert said(m.results) == [("v1", "failed*")]
    assert m.results[0].error is not None
    assert m.results[0].error.kind == "vendor"


# -- humans --------------------------------------------------------------------------------------------


def test_approve_does_not_let_go_what_a_stopped_account_holds() -> None:
    m = Machine(stopped=frozenset({"hw"}))
    m.verdict()
    assert said(m.command("approve")) == [("c2", "no_action*")]


def test_cancelled_says_by_what() -> None:
    m = Machine()
    m.verdict("doubtful")
    m.command("reject")
    m.verdict("violence")
    m.verdict(kind="withdraw", withdraws="v3")
    m.verdict("minors", origin="human")
    m.command("release")
    told = [(r.verdict_id, r.reason, r.caused_by) for r in m.results if r.outcome == "cancelled"]
    assert told == [("v1", "rejected", "c2"), ("v3", "withdrawn", "v4"), ("v5", "released", "c6")]


def test_a_rest_is_of_the_broadcast_that_a_verdict_names() -> None:
    m = Machine()
    m.verdict(stream=session("s1", NOW - HOUR))
    m.run()
    m.command("release")
    m.run()
    assert said(m.verdict(stream=session("s1"))) == [("v3", "no_action*")]
    assert said(m.verdict()) == [("v4", "no_action*")]
    assert said(m.verdict(stream=session("other"))) == []


def test_what_a_session_leaves_behind_ends_also_when_the_next_verdict_is_absorbed() -> None:
    m = Machine()
    m.verdict("minors")
    m.run()
    m.verdict("brief", stream=session("s1", NOW - HOUR))
    results = m.verdict(stream=session("s2", NOW - MINUTE))
    assert ("v3", "absorbed*") in said(results)
    assert all(hold.cause.verdict_id != "v2" for hold in only(m).holds)


# -- what is told --------------------------------------------------------------------------------------


def test_a_shadow_verdict_is_shadow_in_whatever_is_said_of_it() -> None:
    m = Machine()
    m.verdict("fine", stream=session("s2", NOW - MINUTE), mode="shadow")
    m.verdict(mode="shadow", expires_at=format_rfc3339(NOW))
    m.verdict(stream=session("s1", NOW - HOUR), mode="shadow")
    m.verdict("gambling", mode="shadow")
    m.verdict(stream={"targets": [target("gone")]}, mode="shadow")
    m.verdict(mode="shadow")
    outcomes = [(r.outcome, r.mode) for r in m.results]
    words = ("no_action", "stale", "wrong_session", "failed", "failed", "shadow")
    assert outcomes == [(word, "shadow") for word in words]


def test_a_stream_event_tells_where_the_stream_runs() -> None:
    m = Machine()
    data = {
        "stream_event": "started",
        "stream": {"key": KEY, **session("s1", NOW - HOUR), "targets": [target("hw")]},
        "at": format_rfc3339(NOW),
    }
    m.do(Received(StreamEvent.model_validate(data), "0@0"))
    m.verdict(stream={"targets": None})
    assert said(m.run()) == [("v1", "applied*")]


def test_nothing_is_called_for_the_last_second_of_a_ban() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.now = NOW + 10 * MINUTE - 500
    m.do(Woke())
    assert m.needs() == {}


def test_a_vendor_without_a_stream_to_cut_leaves_a_later_demand_alone() -> None:
    m = Machine()
    m.verdict("spam", stream=session("s1", NOW - HOUR))
    (call,) = m.grant()
    m.now += SECOND
    m.verdict("spam", stream=session("s2", NOW + 500))
    results = m.answered(call, NotThere())
    assert ("v2", "no_action*") not in said(results)
    assert m.needs() == {"hw": "cut"}


def test_a_parked_demand_of_a_region_waits_alone() -> None:
    both = rule("g", "geo", action="block_regions", length=HOUR, regions="verdict", approval=True)
    m = Machine({"hw": AccountView("test", FULL)}, replace(POLICY, rules=(*POLICY.rules, both)))
    m.verdict("gambling", regions=["DE"])
    m.verdict("geo", regions=["FR"])
    m.run()
    assert [call.regions for call in m.calls] == [("DE",)]
    m.command("approve")
    m.run()
    assert [call.regions for call in m.calls] == [("DE",), ("DE", "FR")]


# -- records of the state topic --------------------------------------------------------------------------


def test_a_partitions_own_record_is_no_streams() -> None:
    assert stream_of(b"acme/room42") == "acme/room42"
    assert stream_of("á\U0010ffff".encode()) == "á\U0010ffff"
    assert stream_of(None) is None
    assert stream_of(LEDGER) is None
    with pytest.raises(UnicodeDecodeError):
        LEDGER.decode()  # so that no stream can have this key
