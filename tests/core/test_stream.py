"""The stream machine, row by row of the situations it must handle."""

from dataclasses import replace

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
from worker.core.guard import GuardLedger
from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.core.policy import Guard, Rule, Then, When
from worker.core.routes import Route, Routes, TargetTemplate
from worker.core.stream import Grant, Restored, Woke
from worker.events.times import format_rfc3339
from worker.words import Call, Purpose

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND, 120 * SECOND))


# -- what is said at once ------------------------------------------------------------------------------


def test_a_verdict_seen_before_is_a_duplicate_and_nothing_else() -> None:
    m = Machine()
    m.verdict(verdict_id="v1")
    m.run()
    before = m.state
    assert said(m.verdict(verdict_id="v1")) == [("v1", "duplicate")]
    assert before is not None
    assert m.state is not None
    assert m.state.targets == before.targets
    assert m.needs() == {}


def test_a_verdict_is_stale_from_its_expiry_on() -> None:
    m = Machine()
    results = m.verdict(expires_at=format_rfc3339(NOW))
    assert said(results) == [("v1", "stale*")]
    assert results[0].target is not None
    assert m.needs() == {}
    assert said(m.verdict(detected_at=format_rfc3339(NOW - 10 * MINUTE))) == [("v2", "stale*")]
    assert said(m.verdict(detected_at=format_rfc3339(NOW - 10 * MINUTE + SECOND))) == []


def session(name: str, started_at: int | None = None) -> dict[str, object]:
    return {"session": {"id": name, **({"started_at": format_rfc3339(started_at)} if started_at else {})}}


def test_a_session_is_over_once_a_later_start_was_seen() -> None:
    m = Machine()
    m.verdict("fine", stream=session("s2", NOW - MINUTE))
    assert said(m.verdict(stream=session("s1", NOW - HOUR))) == [("v2", "wrong_session*")]
    assert said(m.verdict("fine", stream=session("s2", NOW - MINUTE))) == [("v3", "no_action*")]


def test_a_session_known_to_be_over_is_recognised_by_its_id_alone() -> None:
    m = Machine()
    m.verdict("fine", stream=session("s1", NOW - HOUR))
    m.verdict("fine", stream=session("s2", NOW - MINUTE))
    assert said(m.verdict(stream=session("s1"))) == [("v3", "wrong_session*")]


def test_a_session_without_a_start_ends_no_other() -> None:
    m = Machine()
    m.verdict("fine", stream=session("s1", NOW - HOUR))
    m.verdict("fine", stream=session("unknown"))
    assert said(m.verdict("fine", stream=session("s1"))) == [("v3", "no_action*")]


def test_an_ended_event_ends_the_session() -> None:
    m = Machine()
    m.stream_event("started", "s1", NOW - HOUR)
    m.stream_event("ended", "s1")
    assert said(m.verdict(stream=session("s1"))) == [("v1", "wrong_session*")]


@pytest.mark.parametrize(("category", "reason"), [("fine", "policy"), ("nothing matches this", "no_rule")])
def test_policy_may_say_that_nothing_is_to_be_done(category: str, reason: str) -> None:
    m = Machine()
    results = m.verdict(category)
    assert said(results) == [("v1", "no_action*")]
    assert results[0].reason == reason


def test_shadow_tells_what_would_be_done_and_does_not() -> None:
    m = Machine()
    results = m.verdict(mode="shadow")
    assert said(results) == [("v1", "shadow*")]
    assert (results[0].action, results[0].until, results[0].mode) == ("forbid", NOW + 10 * MINUTE, "shadow")
    assert m.needs() == {}


def test_without_target_and_route_the_configuration_is_at_fault() -> None:
    m = Machine()
    results = m.verdict(stream={"targets": None})
    assert said(results) == [("v1", "failed*")]
    assert results[0].target is None
    assert results[0].error is not None
    assert results[0].error.kind == "config"


def test_a_route_gives_the_target() -> None:
    route = Route((TargetTemplate("hw", "live", "{stream.name}", "push", "play"),), key=("acme/*",))
    m = Machine(routes=Routes((route,)))
    m.verdict(stream={"targets": None})
    assert [call.target.stream for call in m.grant()] == ["room42"]


def test_an_unknown_account_fails_alone() -> None:
    m = Machine()
    results = m.verdict(stream={"targets": [target("gone"), target("hw")]})
    assert said(results) == [("v1", "failed*")]
    assert results[0].target is not None
    assert results[0].target.vendor is None
    assert said(m.run()) == [("v1", "applied*")]


def test_what_a_vendor_cannot_do_is_unsupported_or_otherwise() -> None:
    m = Machine({"hw": serving("cut", "forbid")})
    results = m.verdict("gambling", regions=["DE"])
    assert said(results) == [("v1", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "unsupported"
    other = rule("geo", "gambling", action="block_regions", length=HOUR, regions=("DE",), otherwise="forbid")
    m = Machine({"hw": serving("cut", "forbid")}, replace(POLICY, rules=(other,)))
    m.verdict("gambling")
    results = m.run()
    assert said(results) == [("v1", "applied*")]
    assert results[0].action == "forbid"


def test_regions_of_the_verdict_must_be_given() -> None:
    m = Machine()
    results = m.verdict("gambling")
    assert said(results) == [("v1", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "invalid"


# -- holds ---------------------------------------------------------------------------------------------


def test_a_thousand_frames_are_one_call() -> None:
    m = Machine()
    m.verdict()
    m.run()
    for _ in range(1000):
        m.now += 10
        assert [outcome for _, outcome in said(m.verdict())] == ["absorbed*"]
    assert purposes(m.calls) == ["forbid"]
    assert m.state is not None
    (state,) = m.state.targets.values()
    assert len(state.holds) < 20, "covered holds of one kind are bounded"


def test_absorbed_while_the_call_is_under_way() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    absorbed = m.verdict()
    assert said(absorbed) == [("v2", "absorbed*")]
    assert absorbed[0].caused_by == "v1"
    assert said(m.answered(call, Done())) == [("v1", "applied*")]


def test_a_covered_hold_comes_into_force_for_what_is_left() -> None:
    m = Machine()
    m.verdict("violence", verdict_id="hour")
    m.run()
    m.now += 55 * MINUTE
    assert said(m.verdict(verdict_id="ten", expires_at=format_rfc3339(m.now + DAY))) == []
    m.run()
    m = Machine()
    m.verdict("minors", verdict_id="ever")
    m.run()
    m.verdict(verdict_id="ten")
    m.command("release", holds=[hold_of(m, "ever")])
    m.run()
    assert said(m.results)[-2:] == [("ten", "applied"), ("c3", "released*")]
    assert (m.calls[-1].purpose, m.calls[-1].until) == ("move_end", NOW + 10 + 10 * MINUTE)


def hold_of(m: Machine, verdict_id: str) -> str:
    assert m.state is not None
    holds = [hold for t in m.state.targets.values() for hold in t.holds]
    return next(hold.id for hold in holds if hold.cause.verdict_id == verdict_id)


def test_a_stronger_verdict_supersedes_one_whose_call_is_not_made() -> None:
    m = Machine()
    m.verdict("spam", verdict_id="weak")
    superseded = m.verdict(verdict_id="strong")
    assert said(superseded) == [("weak", "superseded*")]
    assert superseded[0].caused_by == "strong"
    assert said(m.run()) == [("strong", "applied*")]
    assert purposes(m.calls) == ["forbid"]


def test_a_call_under_way_is_not_superseded() -> None:
    m = Machine()
    m.verdict(verdict_id="short")
    (call,) = m.grant()
    assert said(m.verdict("violence", verdict_id="long")) == []
    assert m.needs() == {}
    assert said(m.answered(call, Done())) == [("short", "applied*")]
    assert said(m.run()) == [("long", "applied*")]
    assert purposes(m.calls) == ["forbid", "move_end"]


def test_the_later_end_wins_and_a_short_hold_does_not_lift_a_long_one() -> None:
    m = Machine()
    m.verdict("violence", verdict_id="long")
    m.verdict(verdict_id="short")
    m.run()
    m.wait(30 * MINUTE)
    assert purposes(m.calls) == ["forbid"]
    assert m.calls[0].until == NOW + HOUR


def test_regions_unite_each_with_its_own_end() -> None:
    short = rule("s", "short", action="block_regions", length=HOUR, regions="verdict")
    m = Machine(policy=replace(POLICY, rules=(*POLICY.rules, short)))
    m.verdict("gambling", regions=["DE"])
    m.run()
    m.verdict("short", regions=["FR"])
    m.run()
    m.wait(2 * HOUR)
    assert [call.regions for call in m.calls] == [("DE",), ("DE", "FR"), ("DE",)]


def test_several_targets_have_each_their_own_result() -> None:
    def answer(call: Call) -> Outcome:
        return Refused("not_found") if call.target.account == "bad" else Done()

    m = Machine({"hw": serving("forbid"), "bad": serving("forbid")}, answer=answer)
    m.verdict(stream={"targets": [target("hw"), target("bad")]})
    results = m.run()
    assert {(r.target.account, r.outcome) for r in results if r.target} == {
        ("hw", "applied"),
        ("bad", "failed"),
    }
    assert len({r.result_id for r in results}) == 2


def test_a_cut_belongs_to_its_session() -> None:
    m = Machine()
    m.verdict("spam", stream=session("s1", NOW - HOUR))
    results = m.verdict("fine", stream=session("s2", NOW - SECOND))
    assert said(results) == [("v2", "no_action*"), ("v1", "wrong_session*")]
    assert m.needs() == {}


def test_what_was_seen_before_the_cut_is_absorbed_and_what_was_seen_after_it_cuts_again() -> None:
    m = Machine()
    m.verdict("spam", stream=session("s1"))
    m.now += SECOND
    m.run()
    late = m.verdict("spam", detected_at=format_rfc3339(NOW + 500), stream=session("s1"))
    assert said(late) == [("v2", "absorbed*")]
    assert late[0].caused_by == "v1"
    m.now += SECOND
    assert said(m.verdict("spam", stream=session("s1"))) == []
    assert m.needs() == {"hw": "cut"}


def test_session_scope_ends_with_the_session() -> None:
    m = Machine()
    m.verdict("brief", stream=session("s1", NOW - HOUR))
    m.run()
    results = m.verdict("fine", stream=session("s2", NOW + 1))
    assert ("v1", "expired") in said(results)
    m.run()
    assert purposes(m.calls) == ["forbid", "lift"]


def test_a_vendor_whose_ban_does_not_cut_is_asked_to_cut_as_well() -> None:
    m = Machine({"hw": serving("forbid", "cut", forbid_cuts=False)})
    m.verdict()
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["forbid", "cut"]


# -- outcomes ------------------------------------------------------------------------------------------

DETAILS = Wire(503, "X", "r-1")


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Throttled(), "throttled"),
        (Unreachable(), "network"),
        (Unknown(), "network"),
        (Unknown(Wire(500)), "vendor"),
    ],
)
def test_what_may_pass_is_tried_again_with_backoff_and_fails_at_its_expiry(
    outcome: Outcome, error: str
) -> None:
    m = Machine(answer=lambda call: outcome)
    m.verdict(expires_at=format_rfc3339(NOW + MINUTE))
    results = m.wait(50 * SECOND)
    tries = len(m.calls)
    assert results == []
    while m.now < NOW + 2 * MINUTE and not results:
        m.now += SECOND
        results = m.wait(0)
        results = m.run() or results or m.results
    assert tries >= 1
    assert said(m.results) == [("v1", "failed*")]
    assert m.results[0].error is not None
    assert (m.results[0].error.kind, m.results[0].reason) == (error, "gave_up")
    assert m.results[0].attempts[0].n == 1


def test_backoff_waits_and_respects_the_vendors_wait() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    m.answered(call, Throttled(retry_after=7 * SECOND), jitter=0.0)
    assert m.needs() == {}
    m.now += 7 * SECOND + 100
    assert m.needs() == {"hw": "forbid"}


def test_given_up_is_tried_again_at_the_next_reconciliation() -> None:
    outcomes: list[Outcome] = [Refused("vendor"), Done()]
    m = Machine(answer=lambda call: outcomes.pop(0))
    m.verdict("violence")
    assert said(m.run()) == [("v1", "failed*")]
    m.now += POLICY.reconcile or 0
    m.run()
    assert purposes(m.calls) == ["forbid", "forbid"]


@pytest.mark.parametrize("error", ["config", "invalid", "unsupported"])
def test_what_cannot_work_is_not_tried_again(error: str) -> None:
    m = Machine(answer=lambda call: Refused(error))  # type: ignore[arg-type]  # one of the classes
    m.verdict()
    assert said(m.run()) == [("v1", "failed*")]
    m.now += HOUR
    assert m.needs() == {}


def test_a_refused_login_holds_the_account_and_fails_at_expiry() -> None:
    m = Machine()
    m.verdict(expires_at=format_rfc3339(NOW + MINUTE))
    (call,) = m.grant()
    m.ctx = replace(m.ctx, stopped=frozenset({"hw"}))
    assert said(m.answered(call, Refused("auth"))) == [("v1", "held")]
    assert m.results[-1].reason == "account"
    results = m.verdict(expires_at=format_rfc3339(NOW + HOUR), category="violence")
    assert ("v2", "held") in said(results)
    m.now = NOW + MINUTE
    assert m.do(Woke()).results == []
    assert ("v1", "superseded*") in said(m.results)
    m.ctx = replace(m.ctx, stopped=frozenset())
    m.answer = lambda call: Done()
    assert ("v2", "applied*") in said(m.run())


def test_a_refused_login_alone_fails_with_auth() -> None:
    m = Machine(stopped=frozenset({"hw"}))
    assert said(m.verdict(expires_at=format_rfc3339(NOW + MINUTE))) == [("v1", "held")]
    m.answer = lambda call: Unreachable()
    m.now = NOW + MINUTE
    m.wait(0)
    assert said(m.results) == [("v1", "held"), ("v1", "failed*")]
    assert m.results[-1].error is not None
    assert m.results[-1].error.kind == "auth"


def test_an_unknown_ban_is_repeated() -> None:
    outcomes: list[Outcome] = [Unknown(), Done()]
    m = Machine(answer=lambda call: outcomes.pop(0))
    m.verdict()
    m.run()
    m.now += SECOND
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["forbid", "forbid"]
    assert m.calls[0].until == m.calls[1].until
    assert [a.outcome for a in m.results[-1].attempts] == ["unknown", "done"]


@pytest.mark.parametrize(
    ("live", "since", "told", "then"),
    [
        (False, None, "applied*", []),
        (True, HOUR, "applied*", []),
        (True, -HOUR, None, ["cut"]),
        (None, None, "failed*", []),
    ],
)
def test_an_unknown_cut_is_asked_about_before_it_is_repeated(
    live: bool | None, since: int | None, told: str | None, then: list[str]
) -> None:
    m = Machine()
    m.verdict("spam")
    (call,) = m.grant()
    m.answered(call, Unknown())
    m.now += SECOND
    (question,) = m.grant()
    assert question.purpose == "read_live"
    facts = Facts(live=live, live_since=None if since is None else NOW + since)
    results = m.answered(question, Observed(facts))
    assert [outcome for _, outcome in said(results)] == ([told] if told else [])
    m.now += SECOND
    assert purposes(m.grant()) == then


def test_an_unknown_cut_of_a_vendor_that_cannot_be_asked_is_ambiguous() -> None:
    m = Machine({"hw": serving("cut")}, answer=lambda call: Unknown())
    m.verdict("spam")
    results = m.run()
    assert said(results) == [("v1", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "ambiguous"
    assert purposes(m.calls) == ["cut"]


def test_nothing_to_cut_is_no_action() -> None:
    m = Machine(answer=lambda call: NotThere())
    m.verdict("spam")
    results = m.run()
    assert said(results) == [("v1", "no_action*")]
    assert results[0].reason == "not_live"


def test_already_so_is_asked_for_its_end() -> None:
    m = Machine()
    longer = Facts(forbidden=True, forbidden_until=NOW + DAY)
    m.answer = lambda call: AlreadySo() if call.purpose == "forbid" else Observed(longer)
    m.verdict()
    assert said(m.run()) == [("v1", "already*")]
    m.wait(20 * MINUTE)
    assert purposes(m.calls) == ["forbid", "read_forbid"], "someone else's longer ban is not shortened"


def test_an_existing_shorter_ban_is_extended() -> None:
    m = Machine()
    shorter = Facts(forbidden=True, forbidden_until=NOW + MINUTE)
    answers: dict[str, Outcome] = {"forbid": AlreadySo(), "read_forbid": Observed(shorter)}
    m.answer = lambda call: answers.get(call.purpose, Done())
    m.verdict()
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["forbid", "read_forbid", "move_end"]


def test_already_so_without_a_read_takes_the_vendors_word() -> None:
    m = Machine({"hw": serving("forbid", "lift")}, answer=lambda call: AlreadySo())
    m.verdict()
    assert said(m.run()) == [("v1", "already*")]


def test_a_ban_whose_end_does_not_move_is_lifted_and_set_again() -> None:
    m = Machine({"hw": serving("forbid", "lift")})
    m.verdict()
    m.run()
    outcomes: list[Outcome] = [AlreadySo(), Done(), Done()]
    m.answer = lambda call: outcomes.pop(0)
    m.verdict("violence")
    assert said(m.run()) == [("v2", "applied*")]
    assert purposes(m.calls) == ["forbid", "forbid", "lift", "forbid"]


def test_what_was_never_sent_is_stale_and_what_was_sent_has_failed() -> None:
    m = Machine(answer=lambda call: Unreachable())
    m.verdict(expires_at=format_rfc3339(NOW + MINUTE), verdict_id="never")
    (call,) = m.grant()
    m.answered(call, Unreachable(), sent=False)
    m.now += MINUTE
    assert said(m.do(Woke()).results) == [("never", "stale*")]


def test_a_late_answer_to_another_call_changes_nothing() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    m.answered(call, Done())
    before = m.state
    assert m.answered(call, Refused("vendor")) == []
    assert m.state == before


# -- restarts ------------------------------------------------------------------------------------------


def test_restored_with_a_ban_under_way_repeats_it() -> None:
    m = Machine()
    m.verdict()
    m.grant()
    m.now += SECOND
    assert said(m.restore()) == []
    m.now += SECOND
    assert purposes(m.grant()) == ["forbid"]


def test_restored_with_a_cut_under_way_asks_first() -> None:
    m = Machine()
    m.verdict("spam")
    m.grant()
    m.restore()
    m.now += SECOND
    assert purposes(m.grant()) == ["read_live"]


def test_restored_while_the_call_is_still_in_flight_here_waits_for_its_answer() -> None:
    m = Machine()
    m.verdict()
    (call,) = m.grant()
    m.do(Restored(frozenset({call.id})))
    assert m.needs() == {}
    assert said(m.answered(call, Done())) == [("v1", "applied*")]


def test_restored_with_a_call_that_only_waited_just_waits_on() -> None:
    m = Machine()
    m.verdict()
    assert m.restore() == []
    assert m.needs() == {"hw": "forbid"}


# -- verification --------------------------------------------------------------------------------------


def test_verified_when_the_vendor_shows_it() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict()
    assert said(m.run()) == [("v1", "applied")]
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]
    assert purposes(m.calls) == ["forbid", "read_forbid", "read_live"]
    assert m.results[-1].timing.verified_at == m.results[-1].at


def test_verification_follows_pages() -> None:
    m = Machine({"hw": serving("forbid", "read_forbid")}, CHECKED)
    pages: list[Outcome] = [Done(), NextPage("2"), Observed(Facts(forbidden=True))]
    m.answer = lambda call: pages.pop(0)
    m.verdict()
    m.run()
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]
    assert [call.cursor for call in m.calls] == [None, None, "2"]


def test_the_last_check_decides() -> None:
    m = Machine({"hw": serving("forbid", "read_forbid")}, CHECKED)
    m.answer = lambda call: Done() if call.purpose == "forbid" else Observed(Facts(forbidden=False))
    m.verdict()
    m.run()
    assert m.wait(119 * SECOND) == []
    results = m.wait(2 * SECOND)
    assert said(results)[0] == ("v1", "failed*")
    assert results[0].error is not None
    assert results[0].error.kind == "vendor"


def test_live_again_is_cut_and_forbidden_again_within_the_limit() -> None:
    m = Machine(policy=replace(CHECKED, recut_limit=2))
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    for _ in range(3):
        vendor.live_since = m.now + SECOND
        m.wait(6 * SECOND)
    told = [(r.outcome, r.reason) for r in m.results if r.outcome == "reappeared"]
    assert told == [("reappeared", "live"), ("reappeared", "live"), ("reappeared", "limit")]
    assert purposes(m.calls).count("forbid") == 3


@pytest.mark.parametrize(
    ("category", "served", "needed"),
    [
        ("violence", "forbid", "read_forbid"),
        ("gambling", "block_regions", "read_regions"),
        ("spam", "cut", "read_live"),
    ],
)
def test_a_vendor_that_cannot_be_asked_gets_applied_and_that_is_said(
    category: str, served: Purpose, needed: Purpose
) -> None:
    reads: tuple[Purpose, ...] = ("read_forbid", "read_regions", "read_live")
    others = [each for each in reads if each != needed and (needed, each) != ("read_forbid", "read_live")]
    without, able = serving(served, *others), serving(served, *reads)
    for view, policy, said_so in ((without, CHECKED, True), (without, POLICY, True), (able, POLICY, False)):
        m = Machine({"hw": view}, policy)
        m.verdict(category, regions=["DE"])
        (told,) = m.run()
        assert (told.outcome, told.terminal) == ("applied", True)
        assert told.detail.endswith("The vendor cannot be asked whether that is so.") == said_so


def test_what_vanished_is_applied_again() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    m.wait(6 * SECOND)
    vendor.banned_until = None
    assert ("v1", "drifted") in said(m.wait(30 * SECOND))
    assert vendor.banned_until is not None


def test_a_cut_is_verified_when_the_stream_is_not_live() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict("spam")
    m.run()
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]


def test_a_cut_whose_stream_came_back_was_still_applied() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("spam")
    m.run()
    vendor.live_since = m.now + SECOND
    results = m.wait(3 * MINUTE)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "live_again")]
    assert purposes(m.calls).count("cut") == 1, "a cut is never repeated on another broadcast"


def test_a_stream_that_is_back_before_the_answer_is_heard_was_cut_too() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("spam")
    (call,) = m.grant()
    vendor(call)
    vendor.live_since = m.now + SECOND
    m.now += 2 * SECOND
    m.answered(call, Done())
    results = m.wait(3 * MINUTE)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "live_again")]


def test_an_unread_verification_ends_as_applied() -> None:
    m = Machine({"hw": serving("forbid", "read_forbid")}, CHECKED)
    m.verdict("violence")
    (call,) = m.grant()
    m.answered(call, Done())
    m.answer = lambda call: Throttled(retry_after=DAY)
    results = m.wait(5 * MINUTE)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "not_verified")]


def test_enforcement_does_not_wait_for_a_read_under_way() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict()
    m.run()
    m.now += 5 * SECOND
    m.do(Woke())
    (question,) = m.grant()
    assert question.purpose == "read_forbid"
    m.verdict("violence")
    assert purposes(m.grant()) == ["move_end"]
    assert m.answered(question, Observed(Facts(forbidden=False))) == []


def test_a_rule_may_switch_verification_off() -> None:
    m = Machine(policy=CHECKED)
    m.verdict("quiet")
    assert said(m.run()) == [("v1", "applied*")]


# -- ends ----------------------------------------------------------------------------------------------


def test_a_hold_expires_and_the_vendor_ends_it_itself() -> None:
    m = Machine()
    m.verdict()
    m.run()
    assert said(m.wait(10 * MINUTE)) == [("v1", "expired")]
    assert purposes(m.calls) == ["forbid"]


def test_a_permanent_ban_is_renewed_before_the_vendors_maximum() -> None:
    m = Machine(policy=replace(POLICY, reconcile=None))
    vendor = Vendor(m)
    m.verdict("minors")
    m.run()
    assert m.calls[0].until == NOW + 90 * DAY
    m.wait(100 * DAY)
    assert purposes(m.calls) == ["forbid", "move_end"]
    assert vendor.banned_until is not None
    assert vendor.banned_until > m.now + 70 * DAY
    assert m.results[0].until is None


def test_a_short_ban_is_made_permanent_at_once() -> None:
    m = Machine()
    m.verdict("violence")
    m.run()
    m.verdict("minors")
    assert said(m.run()) == [("v2", "applied*")]
    assert m.calls[-1].until == m.now - 10 + 90 * DAY


def test_nothing_is_left_when_nothing_is_in_force_or_recent() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.wait(2 * DAY)
    assert m.state is None


# -- taking back ---------------------------------------------------------------------------------------


def test_release_lifts_and_tells_the_command_only() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.command("release")
    assert said(m.run()) == [("c2", "released*")]
    assert purposes(m.calls) == ["forbid", "lift"]


def test_release_of_one_hold_leaves_the_other() -> None:
    m = Machine()
    m.verdict("violence", verdict_id="long")
    m.run()
    m.verdict(verdict_id="short")
    m.command("release", holds=[hold_of(m, "short")])
    results = m.run()
    assert said(m.results)[-1] == ("c3", "released*")
    assert "another demand" in m.results[-1].detail
    assert results == []
    assert purposes(m.calls) == ["forbid"]


@pytest.mark.parametrize("vendor", ["moves the end", "bans anew", "lifts first"])
def test_a_release_is_answered_once_the_end_is_that_of_what_is_left(vendor: str) -> None:
    m = Machine({"hw": AccountView("test", FULL)})
    if vendor != "moves the end":
        m = Machine({"hw": serving("forbid", "lift")})
    if vendor == "lifts first":  # it takes a ban only where it has none
        m.answer = lambda call: (
            AlreadySo() if call.purpose == "forbid" and "forbid" in purposes(m.calls[:-1][-1:]) else Done()
        )
    m.verdict(verdict_id="short")
    m.run()
    m.verdict("minors", verdict_id="long")
    m.run()
    assert m.command("release", holds=[hold_of(m, "long")]) == []
    made = len(m.calls)
    (told,) = m.run()
    assert (told.command_id, told.outcome) == ("c3", "released")
    assert "another demand" in told.detail
    assert told.attempts[-1].operation in {call.operation for call in m.calls[made:]}
    moved = {
        "moves the end": ["move_end"],
        "bans anew": ["forbid"],
        "lifts first": ["forbid", "lift", "forbid"],
    }
    assert purposes(m.calls[made:]) == moved[vendor]


def test_a_release_fails_where_the_vendor_refuses_to_move_the_end_and_it_is_tried_again() -> None:
    m = Machine()
    m.verdict("violence", verdict_id="short")
    m.run()
    m.verdict("minors", verdict_id="long")
    m.run()
    m.command("release", holds=[hold_of(m, "long")])
    m.answer = lambda _: Refused("vendor")
    assert said(m.run()) == [("c3", "failed*")]
    m.answer = lambda _: Done()
    m.now += POLICY.reconcile or 0
    assert m.run() == []
    assert purposes(m.calls)[-2:] == ["move_end", "move_end"]


def test_release_before_it_was_applied_cancels() -> None:
    m = Machine()
    m.verdict()
    assert said(m.command("release")) == [("v1", "cancelled*"), ("c2", "released*")]
    assert m.needs() == {}


def test_release_of_nothing_is_no_action() -> None:
    m = Machine()
    results = m.command("release")
    assert said(results) == [("c1", "no_action*")]
    assert results[0].target is None


def test_machines_rest_after_a_human_release_and_humans_do_not() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.command("release")
    m.run()
    rested = m.verdict(verdict_id="m")
    assert said(rested) == [("m", "no_action*")]
    assert rested[0].reason == "cooloff"
    assert said(m.verdict(verdict_id="h", origin="human")) == []
    assert said(m.verdict("violence", verdict_id="other")) == [("h", "superseded*")]
    m.now += POLICY.release_cooloff
    assert said(m.verdict(verdict_id="later")) != [("later", "no_action*")]


def test_clear_releases_only_its_own_category_and_origin() -> None:
    m = Machine()
    m.verdict(verdict_id="machine")
    m.run()
    m.verdict("violence", verdict_id="other", origin="human")
    m.run()
    assert said(m.verdict("nudity", kind="clear", verdict_id="c")) == [("c", "released*")]
    assert said(m.verdict("nudity", kind="clear", verdict_id="again")) == [("again", "no_action*")]
    assert purposes(m.calls) == ["forbid", "move_end"]


def test_withdraw_releases_only_its_own_verdict() -> None:
    m = Machine()
    m.verdict(verdict_id="a")
    m.run()
    results = m.verdict(kind="withdraw", withdraws="a", verdict_id="w")
    assert results == []
    assert said(m.run()) == [("w", "released*")]


def test_a_lift_that_the_vendor_no_longer_has_is_done() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.answer = lambda call: NotThere()
    m.command("release")
    assert said(m.run()) == [("c2", "released*")]


def test_approval_parks_until_approved_or_rejected() -> None:
    m = Machine()
    held = m.verdict("doubtful")
    assert said(held) == [("v1", "held")]
    assert held[0].reason == "approval"
    assert held[0].hold is not None
    assert m.needs() == {}
    approved = m.command("approve", holds=[held[0].hold])
    assert said(approved) == [("c2", "applied*")]
    assert approved[0].target is None
    assert said(m.run()) == [("v1", "applied*")]
    m = Machine()
    m.verdict("doubtful")
    assert said(m.command("reject")) == [("c2", "applied*"), ("v1", "cancelled*")]


def test_what_nobody_approves_goes_stale() -> None:
    m = Machine()
    m.verdict("doubtful")
    assert said(m.wait(10 * MINUTE)) == [("v1", "stale*")]


def test_protected_streams_need_approval_but_for_orders() -> None:
    m = Machine(policy=replace(POLICY, protected=("acme/*",)))
    assert said(m.verdict()) == [("v1", "held")]
    assert said(m.verdict(origin="order", category="violence")) == []
    assert m.needs() == {"hw": "forbid"}


def test_a_guard_parks_what_exceeds_it_until_approved() -> None:
    guard = Guard("blast", 1, HOUR, "account", ("forbid", "cut"), ("critical",))
    ledger = GuardLedger((guard,))
    ledger.hold(0, 1, {})
    m = Machine(guards=ledger)
    m.verdict()
    assert m.last is not None
    ((account, hold),) = m.last.placed
    ledger.count(0, [(account, hold)])
    held = m.verdict("violence")
    assert said(held) == [("v2", "held")]
    assert held[0].reason == "guard"
    assert ledger.parking(m.now) == {"blast": True}
    assert said(m.verdict("minors", severity="critical")) == [("v1", "superseded*")]
    assert m.last.placed[0][1].cause.verdict_id == "v3", "the excepted priority passes"
    m.run()
    assert said(m.command("approve")) == [("c4", "applied*"), ("v2", "applied*")]
    m.now += HOUR + 1
    assert ledger.parking(m.now) == {"blast": False}
    assert said(m.verdict("spam")) == [("v5", "absorbed*")]


def test_extend_moves_the_end() -> None:
    m = Machine()
    m.verdict()
    m.run()
    m.command("extend", until=format_rfc3339(NOW + DAY))
    assert said(m.run()) == [("c2", "applied*")]
    assert m.calls[-1].until == NOW + DAY


# -- questions -----------------------------------------------------------------------------------------


def test_query_asks_every_read_and_tells_what_it_saw() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict()
    m.run()
    m.command("query")
    results = m.run()
    assert said(results) == [("c2", "observed*")]
    assert results[0].observed is not None
    assert results[0].observed.forbidden is True
    assert results[0].observed.forbidden_until == vendor.banned_until
    assert results[0].observed.live is False


def test_a_verdict_may_ask_too() -> None:
    m = Machine()
    Vendor(m)
    m.verdict("odd")
    assert said(m.run()) == [("v1", "observed*")]


def test_a_vendor_that_cannot_be_asked_says_so() -> None:
    m = Machine({"hw": serving("forbid")})
    results = m.verdict("odd")
    assert said(results) == [("v1", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "unsupported"


def test_missing_domains_are_a_mistake_of_the_configuration() -> None:
    forbid = replace(FULL["forbid"], needs=("push_domain",))
    m = Machine({"hw": AccountView("test", {"forbid": forbid})})
    results = m.verdict(stream={"targets": [target("hw", push_domain=None)]})
    assert said(results) == [("v1", "failed*")]
    assert "push_domain" in results[0].detail


def test_the_same_step_gives_the_same_identities() -> None:
    one, two = Machine(), Machine()
    for m in (one, two):
        m.verdict()
        m.run()
    two.now += 1
    assert [r.result_id for r in one.results] == [r.result_id for r in two.results]
    assert one.results[0].stream.key == KEY


def test_rules_without_a_match_condition_match_all() -> None:
    policy = replace(POLICY, rules=(Rule("rest", When(), Then("none")),))
    assert said(Machine(policy=policy).verdict("whatever")) == [("v1", "no_action*")]


def test_what_falls_due_at_one_target_is_not_forgotten_over_another() -> None:
    both = {name: AccountView("test", FULL) for name in ("hw", "ali")}
    machine = Machine(both, replace(POLICY, verify_after=(SECOND,)))
    machine.verdict("spam", stream={"targets": [target("hw"), target("ali")]})
    for call in machine.grant():
        machine.answered(call, Done())
        machine.now += 1  # so the second check is due a millisecond after the first
    assert machine.last is not None
    machine.now = machine.last.wake_at
    ((name, need),) = ((name, need) for name, need in machine.do(Woke()).needs.items() if need)
    machine.now += 1
    granted = machine.do(Grant(name, need.operation.name))
    assert granted.wake_at <= machine.now
    assert granted.call is not None
    machine.answered(granted.call, Observed(Facts(live=False)))
    machine.answer = lambda call: Observed(Facts(live=False))
    machine.wait(SECOND)
    assert sorted(result.outcome for result in machine.results if result.terminal) == ["verified", "verified"]
