"""Answers that are rare: each changes exactly what it says."""

from dataclasses import replace

import pytest

from tests.core.machine import (
    DAY,
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
from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Unknown,
)
from worker.core.stream import Answered, Woke
from worker.events.result import Result
from worker.events.times import format_rfc3339

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))


def answering(*outcomes: Outcome) -> Machine:
    left = list(outcomes)
    return Machine(answer=lambda call: left.pop(0))


def test_an_answer_for_an_unknown_target_changes_nothing() -> None:
    m = Machine()
    m.verdict()
    done = m.do(Answered("nowhere", "x", Done(), NOW, 0.5))
    assert done.results == []
    assert m.needs() == {"hw": "forbid"}


def test_a_ban_whose_end_cannot_be_moved_because_it_is_gone_is_set_anew() -> None:
    m = answering(Done(), NotThere(), Done())
    m.verdict()
    m.run()
    m.verdict("violence")
    assert said(m.run()) == [("v2", "applied*")]
    assert purposes(m.calls) == ["forbid", "move_end", "forbid"]


def test_a_vendor_that_does_not_know_the_stream_refuses_the_ban() -> None:
    m = answering(NotThere())
    m.verdict()
    results = m.run()
    assert said(results) == [("v1", "failed*")]
    assert results[0].error is not None
    assert results[0].error.kind == "not_found"


def test_region_blocks_are_lifted_also_when_they_are_gone() -> None:
    for answer in (Done(), NotThere(), AlreadySo()):
        m = answering(Done(), answer)
        m.verdict("gambling", regions=["DE"])
        m.run()
        m.command("release")
        assert said(m.run()) == [("c2", "released*")]
        assert purposes(m.calls) == ["block_regions", "unblock_regions"]


def test_a_refused_lift_fails_the_release_and_is_tried_again() -> None:
    m = answering(Done(), Refused("vendor"), Done())
    m.verdict("violence")
    m.run()
    m.command("release")
    results = m.run()
    assert said(results) == [("c2", "failed*")]
    m.now += POLICY.reconcile or 0
    m.run()
    assert purposes(m.calls) == ["forbid", "lift", "lift"]


def test_without_reconciliation_a_refused_lift_is_left() -> None:
    left: list[Outcome] = [Done(), Refused("vendor")]
    m = Machine(policy=replace(POLICY, reconcile=None), answer=lambda call: left.pop(0))
    m.verdict("minors")
    m.run()
    m.command("release")
    m.run()
    m.now += DAY
    assert m.needs() == {}


def test_a_query_that_is_refused_fails_with_the_reason() -> None:
    m = answering(Refused("config", detail="the user may not list bans"))
    m.verdict("odd")
    results = m.run()
    assert said(results) == [("v1", "failed*")]
    assert results[0].detail == "the user may not list bans"
    assert results[0].error is not None
    assert results[0].error.kind == "config"


def test_a_query_of_what_does_not_exist_sees_nothing() -> None:
    m = Machine({"hw": serving("forbid", "read_live")}, answer=lambda call: NotThere())
    m.verdict("odd")
    results = m.run()
    assert said(results) == [("v1", "observed*")]
    assert results[0].observed is not None
    assert results[0].observed.live is None


def test_a_query_goes_stale_before_and_fails_after_it_was_sent() -> None:
    m = Machine()
    m.verdict("odd", expires_at=format_rfc3339(NOW + MINUTE))
    assert said(m_wait_without_calls(m, MINUTE)) == [("v1", "stale*")]
    m = Machine(answer=lambda call: Unknown())
    m.verdict("odd", expires_at=format_rfc3339(NOW + MINUTE))
    (call,) = m.grant()
    m.answered(call, Unknown())
    assert said(m_wait_without_calls(m, MINUTE)) == [("v1", "failed*")]


def m_wait_without_calls(m: Machine, length: int) -> list[Result]:
    m.now += length
    return list(m.do(Woke()).results)


def test_a_check_that_may_not_read_ends_as_applied() -> None:
    m = Machine({"hw": serving("forbid", "read_forbid")}, CHECKED)
    m.answer = lambda call: Done() if call.purpose == "forbid" else Refused("config")
    m.verdict("violence")
    m.run()
    results = m.wait(2 * MINUTE)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "not_verified")]


def test_a_ban_that_the_vendor_shortened_is_not_verified_and_is_extended() -> None:
    m = Machine({"hw": serving("forbid", "move_end", "read_forbid")}, CHECKED)
    shown = Facts(forbidden=True, forbidden_until=NOW + 10 * MINUTE)
    m.answer = lambda call: Observed(shown) if call.purpose == "read_forbid" else Done()
    m.verdict("violence")
    m.run()
    results = m.wait(31 * SECOND)
    assert said(results) == [("v1", "failed*"), ("v1", "applied")]
    assert purposes(m.calls)[-1] == "move_end"


def test_a_region_block_is_verified_only_when_the_vendor_has_finished() -> None:
    m = Machine({"hw": serving("block_regions", "unblock_regions", "read_regions")}, CHECKED)
    facts = Facts(regions=("DE",), in_progress=True)
    m.answer = lambda call: Observed(facts) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert m.wait(6 * SECOND) == []
    m.answer = lambda call: Observed(replace(facts, in_progress=False))
    assert said(m.wait(30 * SECOND)) == [("v1", "verified*")]


def test_a_vendor_that_is_still_at_work_at_the_last_check_is_followed() -> None:
    m = Machine({"hw": serving("block_regions", "unblock_regions", "read_regions")}, CHECKED)
    facts = Facts(regions=("DE",), in_progress=True)
    m.answer = lambda call: Observed(facts) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    told = [result for _ in range(300) for result in m.wait(SECOND)]
    assert told == []
    reads = purposes(m.calls).count("read_regions")
    assert 20 < reads < 40, "asked again every 10 s, and not more often"
    m.answer = lambda call: Observed(replace(facts, in_progress=False))
    assert said(m.wait(11 * SECOND)) == [("v1", "verified*")]


def test_a_vendor_that_is_at_work_for_ever_is_not_followed_for_ever() -> None:
    m = Machine({"hw": serving("block_regions", "unblock_regions", "read_regions")}, CHECKED)
    facts = Facts(regions=("DE",), in_progress=True)
    m.answer = lambda call: Observed(facts) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    results = m.wait(16 * MINUTE)
    assert [(r.outcome, r.terminal, r.reason) for r in results] == [("applied", True, "not_verified")]
    reads = purposes(m.calls).count("read_regions")
    m.wait(HOUR)
    assert purposes(m.calls).count("read_regions") == reads


def test_a_block_that_the_vendor_gave_up_on_has_failed_at_once_and_is_set_again_later() -> None:
    m = Machine({"hw": serving("block_regions", "unblock_regions", "read_regions")}, CHECKED)
    facts = Facts(regions=(), gave_up=True)
    m.answer = lambda call: Observed(facts) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    (told,) = m.wait(6 * SECOND)
    assert (told.outcome, told.terminal) == ("failed", True)
    assert told.error is not None
    assert told.error.kind == "vendor"
    assert "could not do it" in told.detail
    m.answer = lambda call: Observed(Facts(regions=("DE",))) if call.purpose == "read_regions" else Done()
    assert said(m.wait(11 * MINUTE)) == [("v1", "applied")]


def test_a_block_that_was_given_up_on_says_nothing_of_a_ban() -> None:
    """Only what the vendor spoke of has failed; the rest has its further checks."""
    m = Machine(policy=CHECKED)
    m.answer = lambda call: (
        Observed(Facts(regions=(), forbidden=False, live=None, gave_up=True))
        if call.purpose.startswith("read_")
        else Done()
    )
    m.verdict("nudity")
    m.run()
    assert m.wait(6 * SECOND) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(regions=("DE",), in_progress=True), "still at work"),
        (Facts(regions=(), gave_up=True), "could not do what it had acknowledged"),
    ],
)
def test_a_query_tells_how_far_the_vendor_is(facts: Facts, words: str) -> None:
    m = Machine({"hw": serving("block_regions", "read_regions")})
    m.answer = lambda call: Observed(facts)
    m.verdict("odd")
    (told,) = m.run()
    assert (told.outcome, words in told.detail) == ("observed", True)


def test_a_region_block_that_never_shows_has_failed_and_is_set_again_later() -> None:
    m = Machine({"hw": serving("block_regions", "unblock_regions", "read_regions")}, CHECKED)
    m.answer = lambda call: Observed(Facts(regions=())) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert said(m.wait(31 * SECOND)) == [("v1", "failed*")]
    m.wait(11 * MINUTE)
    assert purposes(m.calls).count("block_regions") == 2


def test_a_region_block_of_doubtful_success_is_repeated() -> None:
    m = answering(Unknown(), Done())
    m.verdict("gambling", regions=["DE"])
    m.run()
    m.now += SECOND
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["block_regions", "block_regions"]


def test_a_doubtful_ban_that_nothing_demands_any_more_is_lifted() -> None:
    m = answering(Unknown(), Done())
    m.verdict()
    m.run()
    m.command("release")
    m.now += SECOND
    assert said(m.run()) == [("c2", "released*")]
    assert purposes(m.calls) == ["forbid", "lift"]


def test_a_doubtful_lift_does_not_count_as_a_ban() -> None:
    m = answering(Done(), Unknown(), Done())
    m.verdict()
    m.run()
    m.command("release")
    m.run()
    m.now += SECOND
    m.verdict("violence", origin="human")
    m.run()
    assert purposes(m.calls) == ["forbid", "lift", "forbid"]


def test_pages_without_a_reading_are_ignored() -> None:
    m = Machine(policy=CHECKED)
    Vendor(m)
    m.verdict("violence")
    m.run()
    m.now += 5 * SECOND
    m_wait_without_calls(m, 0)
    (question,) = m.grant()
    m.command("release")
    assert m.answered(question, NextPage("2")) is not None


def test_a_new_ban_of_a_stream_that_had_one_of_someone_else() -> None:
    m = Machine({"hw": serving("forbid", "lift", "read_forbid")})
    ends = Facts(forbidden=True, forbidden_until=NOW + DAY)
    m.answer = lambda call: AlreadySo() if call.purpose == "forbid" else Observed(ends)
    m.verdict()
    m.run()
    m.wait(HOUR)
    assert purposes(m.calls) == ["forbid", "read_forbid"]
    m.command("release")
    assert said(m.results)[-1][1] == "no_action*", "its own demand is over; someone else's ban is not ours"
