"""Bans that our publish gate brings about, and cuts answered by one who may not know of the stream."""

from dataclasses import replace

import pytest

from tests.core.machine import GATED, HOUR, MINUTE, NOW, POLICY, SECOND, Machine, Vendor, purposes, said
from worker.core.control import Control
from worker.core.outcome import Done, Facts, NotThere, Observed, Outcome, Refused, Unknown, Unreachable
from worker.core.state import Ban, TargetState
from worker.core.stream import Woke
from worker.events.control import Pause
from worker.words import Call, Millis

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND))
NOT_HERE = NotThere(sure=False)


class Server(Vendor):
    """A media server of several processes: ``wrong`` is how many cuts still reach one without the stream."""

    wrong = 0

    def __call__(self, call: Call) -> Outcome:
        if call.purpose == "cut" and (self.wrong > 0 or self.live_since is None):
            self.wrong -= 1
            return NOT_HERE
        assert call.purpose in ("cut", "read_live"), "the gate needs no call"
        return super().__call__(call)


@pytest.fixture
def m() -> Machine:
    machine = Machine({"hw": GATED})
    Server(machine)
    return machine


def at(machine: Machine) -> TargetState:
    assert machine.state is not None
    (target,) = machine.state.targets.values()
    return target


def ban(machine: Machine) -> Ban | None:
    return at(machine).ban


def ends(machine: Machine) -> Millis | None:
    has = ban(machine)
    assert has is not None
    return has.until


def test_a_ban_is_in_force_with_the_step_that_takes_the_verdict(m: Machine) -> None:
    assert m.verdict("nudity") == []
    assert ends(m) == NOW + 10 * MINUTE
    assert m.needs() == {"hw": "cut"}, "what runs is to be ended"
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["cut"]
    (result,) = m.results
    assert result.timing.answered_at is not None


def test_it_is_told_only_when_the_broadcast_has_ended_too(m: Machine) -> None:
    m.verdict("nudity")
    (call,) = m.grant()
    assert m.answered(call, Unreachable()) == []
    assert ends(m) == NOW + 10 * MINUTE, "the gate refuses all the same"
    m.now += SECOND
    assert said(m.run()) == [("v1", "applied*")]


def test_it_is_verified_by_the_stream_not_being_live() -> None:
    m = Machine({"hw": GATED}, CHECKED)
    Server(m)
    m.verdict("nudity")
    assert said(m.run()) == [("v1", "applied")]
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]
    assert purposes(m.calls) == ["cut", "read_live"]


def test_live_again_in_spite_of_it_is_told_and_cut_again() -> None:
    m = Machine({"hw": GATED}, CHECKED)
    server = Server(m)
    m.verdict("nudity")
    m.run()
    server.live_since = m.now + SECOND
    assert said(m.wait(6 * SECOND)) == [("v1", "reappeared")]
    assert purposes(m.calls) == ["cut", "read_live", "cut"]
    has = ban(m)
    assert has is not None
    assert has.sure
    assert server.live_since is None
    assert said(m.wait(10 * SECOND)) == [("v1", "verified*")]


def test_a_ban_on_a_stream_that_is_not_live_is_applied_once_the_server_says_so(m: Machine) -> None:
    assert isinstance(m.answer, Server)
    m.answer.live_since = None
    m.verdict("nudity")
    assert said(m.run()) == [("v1", "applied*")]
    assert purposes(m.calls) == ["cut", "read_live"]


def test_a_later_end_is_in_force_at_once_and_cuts_nothing_anew(m: Machine) -> None:
    m.verdict("nudity")
    m.run()
    m.now += MINUTE
    assert said(m.verdict("violence")) == [("v2", "applied*")]
    assert ends(m) == m.now + HOUR
    assert m.needs() == {}
    assert purposes(m.calls) == ["cut"]


def test_an_end_within_the_slack_is_moved_before_the_earlier_one_comes(m: Machine) -> None:
    m.verdict("nudity")
    m.run()
    m.now += 10 * SECOND
    later = m.now + 10 * MINUTE
    assert said(m.verdict("nudity")) == [("v2", "absorbed*")]
    m.wait(9 * MINUTE + 30 * SECOND)
    assert ends(m) == later
    assert said(m.wait(25 * SECOND)) == [("v1", "expired"), ("v2", "applied")]
    assert purposes(m.calls) == ["cut"]


def test_extending_moves_the_end_in_the_same_step(m: Machine) -> None:
    m.verdict("nudity")
    m.run()
    assert said(m.command("extend", until="2030-01-01T00:00:00Z")) == [("c2", "applied*")]
    assert ends(m) == 1_893_456_000_000
    assert m.needs() == {}


def test_a_release_takes_no_call(m: Machine) -> None:
    m.verdict("nudity")
    m.run()
    assert said(m.command("release", reason="appeal")) == [("c2", "released*")]
    assert ban(m) is None
    assert purposes(m.calls) == ["cut"]


def test_a_release_before_the_cut_calls_it_off(m: Machine) -> None:
    m.verdict("nudity")
    assert said(m.command("release", reason="appeal")) == [("v1", "cancelled*"), ("c2", "released*")]
    assert m.needs() == {}


def test_of_two_the_longer_stays_when_the_other_is_withdrawn(m: Machine) -> None:
    m.verdict("violence")
    m.verdict("minors")
    m.run()
    assert ends(m) is None
    m.verdict("minors", kind="withdraw", withdraws="v2")
    assert ends(m) == NOW + HOUR


def test_it_ends_by_itself(m: Machine) -> None:
    m.verdict("nudity")
    m.run()
    assert m.wait(10 * MINUTE - SECOND) == []
    assert ban(m) is not None, "its last second included"
    assert said(m.wait(2 * SECOND)) == [("v1", "expired")]
    assert ban(m) is None
    assert purposes(m.calls) == ["cut"]


def test_what_waits_for_a_human_is_no_ban_yet(m: Machine) -> None:
    assert said(m.verdict("doubtful")) == [("v1", "held")]
    assert ban(m) is None
    m.command("approve")
    assert ban(m) is not None


def test_a_cut_that_never_works_fails_and_the_gate_goes_on_refusing(m: Machine) -> None:
    m.answer = lambda call: Unreachable()
    m.verdict("nudity", expires_at="2026-09-21T14:14:20Z")
    assert m.now < 1_790_000_060_000
    told = m.wait(2 * MINUTE)
    assert said(told) == [("v1", "failed*")]
    assert told[0].error is not None
    assert told[0].error.kind == "network"
    assert ends(m) == NOW + 10 * MINUTE
    Server(m)
    assert said(m.wait(9 * MINUTE)) == [("v1", "expired")]


def test_a_failed_one_whose_cut_works_later_is_told(m: Machine) -> None:
    m.answer = lambda call: Refused("vendor")
    m.verdict("violence")
    assert said(m.run()) == [("v1", "failed*")]
    Server(m)
    assert said(m.wait(11 * MINUTE)) == [("v1", "applied")]


def test_a_stopped_account_still_bans(m: Machine) -> None:
    m.ctx = replace(m.ctx, stopped=frozenset({"hw"}))
    assert said(m.verdict("nudity")) == [("v1", "held")]
    assert ban(m) is not None


def test_a_pause_holds_it_back_and_lets_what_is_in_force_be() -> None:
    m = Machine({"hw": GATED})
    Server(m)
    m.verdict("nudity")
    m.run()
    m.ctx = replace(m.ctx, control=Control(everything=Pause(by="op")))
    assert said(m.verdict("minors")) == [("v2", "held")]
    assert ends(m) == NOW + 10 * MINUTE
    m.ctx = replace(m.ctx, control=Control())
    m.do(Woke())
    assert ends(m) is None
    m.ctx = replace(m.ctx, control=Control(everything=Pause(by="op")))
    m.command("release")
    assert ban(m) is None, "lifting goes on"


def test_a_crash_changes_nothing(m: Machine) -> None:
    m.verdict("nudity")
    m.grant()
    m.restore()
    assert ends(m) == NOW + 10 * MINUTE
    assert m.needs() == {}, "the cut may have happened: asked about, after its backoff"
    m.now += SECOND
    assert m.needs() == {"hw": "read_live"}


# A cut answered "nothing here" by one of several


def test_nothing_here_is_not_nothing_there(m: Machine) -> None:
    m.verdict("spam")
    (call,) = m.grant()
    assert m.answered(call, NOT_HERE) == []
    assert m.needs() == {"hw": "read_live"}


def test_not_live_ends_it_as_nothing_to_do(m: Machine) -> None:
    assert isinstance(m.answer, Server)
    m.answer.live_since = None
    m.verdict("spam")
    told = m.run()
    assert said(told) == [("v1", "no_action*")]
    assert told[0].reason == "not_live"


def test_begun_since_is_another_broadcast(m: Machine) -> None:
    m.verdict("spam")
    (call,) = m.grant()
    m.answered(call, NOT_HERE)
    (read,) = m.grant()
    m.now += SECOND
    told = m.answered(read, Observed(Facts(live=True, live_since=m.now - SECOND + 1)))
    assert said(told) == [("v1", "no_action*")]


def test_live_elsewhere_is_cut_again_ever_less_often_until_it_ends(m: Machine) -> None:
    assert isinstance(m.answer, Server)
    m.answer.wrong = 4
    m.verdict("spam")
    assert said(m.wait(MINUTE)) == []
    for _ in range(200):
        m.now += 250
        m.run()
    assert said(m.results) == [("v1", "applied*")]
    assert purposes(m.calls) == ["cut", "read_live"] * 4 + ["cut"]
    (result,) = m.results
    assert [tried.outcome for tried in result.attempts][::2] == ["absent"] * 4 + ["done"]


def test_live_elsewhere_for_ever_fails_and_is_never_told_as_done(m: Machine) -> None:
    assert isinstance(m.answer, Server)
    m.answer.wrong = 1 << 30
    m.verdict("spam")
    for _ in range(700):
        m.now += SECOND
        m.do(Woke())
        m.run()
    assert said(m.results) == [("v1", "failed*")]
    assert len(m.calls) < 100


def test_where_nobody_can_say_it_is_ambiguous(m: Machine) -> None:
    m.verdict("spam")
    (call,) = m.grant()
    m.answered(call, NOT_HERE)
    (read,) = m.grant()
    told = m.answered(read, Observed(Facts()))
    assert said(told) == [("v1", "failed*")]
    assert told[0].error is not None
    assert told[0].error.kind == "ambiguous"


def test_a_ban_waits_for_no_doubt_about_a_cut(m: Machine) -> None:
    """Where the ban itself cuts, it goes first; where it does not, its own cut is asked about."""
    m.verdict("nudity")
    (call,) = m.grant()
    m.answered(call, Unknown())
    m.now += SECOND
    assert m.needs() == {"hw": "read_live"}
    m.answer = lambda call: Observed(Facts(live=False)) if call.purpose == "read_live" else Done()
    assert said(m.run()) == [("v1", "applied*")]
