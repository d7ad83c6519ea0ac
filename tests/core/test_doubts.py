"""Doubts that end: what a read shows after an answer was lost must let the demand go on."""

from collections.abc import Callable
from dataclasses import replace

from tests.core.machine import DAY, HOUR, MINUTE, POLICY, SECOND, Machine, purposes, said, serving
from worker.core.outcome import AlreadySo, Done, Facts, Observed, Outcome, Unknown
from worker.words import Call, Millis


def a_ban_until(until: Millis | None) -> Callable[[Call], Outcome]:
    """Answer as a vendor that has a ban; its end can be moved."""

    def answer(call: Call) -> Outcome:
        match call.purpose:
            case "forbid":
                return AlreadySo()
            case "read_forbid":
                return Observed(Facts(forbidden=True, forbidden_until=until))
        return Done()

    return answer


def test_a_permanent_ban_whose_answer_was_lost_is_found_at_the_vendors_maximum() -> None:
    for late in (100, 5 * SECOND):
        m = Machine()
        m.verdict("minors")
        (lost,) = m.grant()
        m.answered(lost, Unknown(), jitter=0)
        m.now += late
        m.answer = a_ban_until(lost.until)
        m.run()
        assert said(m.results) == [("v1", "applied*")]
        assert purposes(m.calls) == ["forbid", "forbid", "read_forbid"]


def test_a_shorter_ban_is_made_permanent() -> None:
    m = Machine()
    m.verdict("minors")
    m.answer = a_ban_until(m.now + DAY)
    m.run()
    assert said(m.results) == [("v1", "applied*")]
    assert purposes(m.calls) == ["forbid", "read_forbid", "move_end"]


def test_a_ban_of_someone_else_that_ends_a_little_early_is_extended() -> None:
    m = Machine()
    m.verdict("violence")
    m.answer = a_ban_until(m.now + HOUR - 30 * SECOND)
    m.run()
    assert said(m.results) == [("v1", "applied*")]
    assert purposes(m.calls) == ["forbid", "read_forbid", "move_end"]


def test_a_stream_that_came_back_before_the_doubt_was_resolved_was_still_cut() -> None:
    m = Machine(policy=replace(POLICY, verify_after=(SECOND,)))
    m.verdict("spam")
    (lost,) = m.grant()
    m.answered(lost, Unknown())
    back = m.now + 2 * SECOND
    m.now += 5 * SECOND
    m.answer = lambda call: Observed(Facts(live=True, live_since=back))
    m.run()
    m.wait(MINUTE)
    assert said(m.results) == [("v1", "applied"), ("v1", "applied*")]
    assert m.results[-1].reason == "live_again"


def test_a_ban_of_ours_whose_end_nobody_can_tell_is_set_again_for_a_longer_demand() -> None:
    """The vendor lists bans without their ends, and does not move the end of one that is in force."""
    m = Machine({"hw": serving("forbid", "lift", "read_forbid", "cut", "read_live")})
    banned_until: Millis | None = None

    def answer(call: Call) -> Outcome:
        nonlocal banned_until
        match call.purpose:
            case "forbid" if banned_until is not None:
                return AlreadySo()
            case "forbid":
                banned_until = call.until
            case "lift":
                banned_until = None
            case "read_forbid":
                return Observed(Facts(forbidden=banned_until is not None))
        return Done()

    for answers_lost in (1, 2):
        m = Machine({"hw": serving("forbid", "lift", "read_forbid", "cut", "read_live")}, answer=answer)
        banned_until = None
        m.verdict("nudity")
        (lost,) = m.grant()
        answer(lost)
        m.answered(lost, Unknown())
        m.verdict("violence")
        m.now += 5 * SECOND
        for _ in range(answers_lost - 1):
            (lost,) = m.grant()
            answer(lost)
            m.answered(lost, Unknown())
            m.now += 5 * SECOND
        m.run()
        assert said(m.results) == [("v1", "superseded*"), ("v2", "applied*")]
        assert m.results[-1].until is not None
        assert banned_until == m.results[-1].until
