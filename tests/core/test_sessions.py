"""The right broadcast, and the right place: what is bound to a session, and streams that move."""

from dataclasses import replace
from typing import Any

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
    target,
)
from worker.core.context import AccountView
from worker.core.outcome import Done, Facts, Observed, Outcome, Unreachable
from worker.events.result import Result
from worker.events.times import format_rfc3339
from worker.words import READS, Call

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))


def session(name: str, started_at: int) -> dict[str, Any]:
    return {"session": {"id": name, "started_at": format_rfc3339(started_at)}}


class World:
    """One stream at two CDNs, each with a vendor of its own; only the platform knows where it runs."""

    def __init__(self, **views: AccountView) -> None:
        accounts = {name: views.get(name, AccountView("test", FULL)) for name in ("hw", "ali")}
        self.m = Machine(accounts)
        self.vendors = {name: Vendor(self.m) for name in accounts}
        self.m.answer = self.answer

    def answer(self, call: Call) -> Outcome:
        return self.vendors[call.target.account](call)

    def starts(self, name: str, started_at: int, *accounts: str) -> list[Result]:
        targets = {"targets": [target(account) for account in accounts]} if accounts else {}
        return [*self.m.stream_event("started", name, started_at, **targets), *self.m.run()]

    @property
    def banned(self) -> dict[str, bool]:
        return {name: (v.banned_until or 0) > self.m.now for name, v in self.vendors.items()}


def told(results: list[Result]) -> list[tuple[str, str, str | None]]:
    return [(r.target.account if r.target else "", r.outcome, r.reason) for r in results]


# -- a stream that moves -------------------------------------------------------------------------------


def test_a_forbidden_stream_that_moves_is_forbidden_there_too() -> None:
    w = World()
    w.m.verdict("violence", stream=session("s1", NOW - HOUR))
    w.m.run()
    results = w.starts("s2", NOW + SECOND, "ali")
    assert told(results) == [("ali", "applied", "moved")]
    assert not results[0].terminal
    assert results[0].verdict_id == "v1"
    assert w.banned == {"hw": True, "ali": True}, "the old place stays forbidden until its end"
    assert w.vendors["ali"].banned_until == w.vendors["hw"].banned_until
    assert w.starts("s2", NOW + SECOND, "ali") == [], "told once"
    assert len({r.result_id for r in w.m.results}) == len(w.m.results)


def test_both_places_are_open_after_the_end_and_after_a_release() -> None:
    for ends in (lambda m: m.wait(HOUR), lambda m: [m.command("release"), m.run()]):
        w = World()
        w.m.verdict("violence")
        w.m.run()
        w.starts("s2", NOW, "ali")
        ends(w.m)
        assert w.banned == {"hw": False, "ali": False}


def test_what_moves_with_a_stream_is_the_strongest_that_lasts() -> None:
    w = World()
    w.m.verdict("gambling", regions=["DE"])
    w.m.verdict("nudity")
    w.m.verdict("spam")
    w.m.run()
    w.starts("s2", NOW, "ali")
    assert w.banned == {"hw": True, "ali": True}
    assert "cut" not in purposes([call for call in w.m.calls if call.target.account == "ali"])
    w.m.wait(11 * MINUTE)
    assert [list(v.regions) for v in w.vendors.values()] == [["DE"], ["DE"]]


def test_what_is_bound_to_a_broadcast_does_not_move() -> None:
    w = World()
    w.m.verdict("brief", stream=session("s1", NOW - HOUR))
    w.m.run()
    w.starts("s2", NOW + SECOND, "ali")
    assert w.banned == {"hw": False, "ali": False}
    assert purposes(w.m.calls) == ["forbid", "lift"]


def test_what_waits_for_approval_follows_once_it_is_approved() -> None:
    w = World()
    w.m.verdict("doubtful")
    assert w.starts("s2", NOW, "ali") == []
    w.m.command("approve")
    w.m.run()
    assert w.banned == {"hw": True, "ali": True}


def test_a_place_that_cannot_do_it_is_left_and_holds_nothing_back() -> None:
    w = World(ali=serving("cut"))
    w.m.verdict("violence")
    w.m.run()
    assert w.starts("s2", NOW, "ali") == []
    results = [*w.m.command("release"), *w.m.run()]
    assert told(results) == [("ali", "released", "released"), ("hw", "released", "released")]


def test_a_verdict_that_names_no_place_goes_where_the_platform_says() -> None:
    w = World()
    w.starts("s1", NOW, "ali")
    w.m.verdict("violence", stream={"targets": None})
    w.m.run()
    assert w.banned == {"hw": False, "ali": True}


def test_news_of_a_broadcast_that_is_over_moves_nothing() -> None:
    w = World()
    w.starts("s2", NOW, "hw")
    w.m.verdict("violence", stream={"targets": None})
    w.m.run()
    w.starts("s1", NOW - HOUR, "ali")
    w.m.stream_event("ended", "s2", NOW, targets=[target("ali")])
    w.m.run()
    assert w.banned == {"hw": True, "ali": False}


def test_moving_survives_a_restart_and_an_unreachable_vendor() -> None:
    w = World()
    w.m.verdict("violence")
    w.m.run()
    w.m.answer = lambda call: Unreachable()
    w.starts("s2", NOW, "ali")
    w.m.restore()
    w.m.answer = w.answer
    assert ("ali", "applied", "moved") in told(w.m.wait(MINUTE))
    assert w.banned == {"hw": True, "ali": True}


# -- what the vendor shows -----------------------------------------------------------------------------


def shown(m: Machine, since: int) -> None:
    """Let a query show a broadcast that began then."""
    answers: dict[str, Outcome] = {"read_live": Observed(Facts(live=True, live_since=since))}
    m.answer = lambda call: answers.get(call.purpose, Observed(Facts())) if call.purpose in READS else Done()
    m.command("query")
    m.run()
    m.answer = lambda call: Done()


def test_a_cut_of_a_broadcast_that_the_vendor_shows_to_be_over_is_not_made() -> None:
    m = Machine()
    m.verdict("violence")
    m.run()
    shown(m, NOW + MINUTE)
    m.now += 2 * MINUTE
    late = {"stream": session("s1", NOW - HOUR), "detected_at": format_rfc3339(NOW)}
    m.command("release")
    m.run()
    results = m.verdict("spam", origin="human", **late)
    assert [(r.outcome, r.reason) for r in results] == [("wrong_session", "session_over")]
    assert "cut" not in purposes(m.calls)
    fresh = m.verdict("spam", origin="human", stream=session("s1", NOW - HOUR))
    assert fresh == [], "what was seen after that start is of the broadcast that runs"
    assert m.needs() == {"hw": "cut"}


def test_a_ban_of_one_broadcast_ends_when_the_vendor_shows_the_next() -> None:
    m = Machine()
    m.verdict("brief", stream=session("s1", NOW - HOUR))
    m.run()
    m.now += 2 * MINUTE
    shown(m, NOW + MINUTE)
    m.run()
    assert ("v1", "expired") in said(m.results)
    assert purposes(m.calls)[-1] == "lift"


def test_a_ban_of_the_stream_does_not_end_with_a_broadcast() -> None:
    m = Machine()
    m.verdict("violence", stream=session("s1", NOW - HOUR))
    m.run()
    m.now += 2 * MINUTE
    shown(m, NOW + MINUTE)
    m.run()
    assert "lift" not in purposes(m.calls)


def test_the_start_of_the_very_broadcast_ends_nothing() -> None:
    """A vendor may date a start a little later than the platform, but not later than what was seen in it."""
    m = Machine()
    m.verdict("brief", stream=session("s1", NOW - HOUR))
    m.run()
    shown(m, NOW - HOUR + 5 * SECOND)
    m.run()
    assert "lift" not in purposes(m.calls)


# -- a withdrawal that overtakes its verdict -----------------------------------------------------------


def test_a_verdict_that_was_withdrawn_before_it_came_is_cancelled() -> None:
    m = Machine()
    assert said(m.verdict(kind="withdraw", withdraws="late", verdict_id="w")) == [("w", "no_action*")]
    results = m.verdict("minors", verdict_id="late")
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("cancelled", True, "withdrawn")]
    assert results[0].caused_by == "w"
    assert m.needs() == {}
    assert said(m.verdict("minors", verdict_id="late")) == [("late", "duplicate")]
    assert said(m.verdict("minors", verdict_id="other")) == []


def test_a_withdrawal_is_remembered_for_a_day_and_not_for_ever() -> None:
    m = Machine()
    m.verdict(kind="withdraw", withdraws="late", verdict_id="w")
    m.now += DAY - SECOND
    assert m.state is not None
    assert m.state.withdrawn
    m.now += 2 * SECOND
    m.verdict("fine")
    assert not m.state.withdrawn
