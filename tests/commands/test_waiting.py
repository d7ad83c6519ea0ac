"""What a stream waits for, told from its state alone."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.core.machine import HOUR, MINUTE, NOW, POLICY, SECOND, Machine
from worker import vendors
from worker.commands.parts.explaining import Explained, explain
from worker.commands.parts.story import as_text
from worker.commands.parts.waiting import Around, Lines, Waiting, turn_comes, waiting
from worker.core.context import AccountView
from worker.core.control import Control
from worker.core.outcome import Done, Unreachable
from worker.core.policy import Guard, Policy
from worker.core.state import Hold, StreamState, TargetState
from worker.events.control import Pause
from worker.events.times import format_rfc3339
from worker.vendors.base import Account, Quota

SPEC = vendors.load_spec("huawei")
KEYS: Mapping[str, str] = {"region": "x", "project_id": "p", "access_key": "a", "secret_key": "s"}
HW = AccountView.of(SPEC)


def machine(policy: Policy = POLICY) -> Machine:
    return Machine({"hw": HW}, policy)


def around(one: Machine, *states: StreamState, limit: int = 1) -> Around:
    return Around(
        one.ctx,
        {"hw": vendors.make(SPEC, Account("hw", "huawei", KEYS))},
        {"hw": SPEC},
        {"hw": {"block": (Quota(limit, MINUTE),)}},
        states,
        partitions=1,
    )


def waits(one: Machine, *others: StreamState) -> list[Waiting]:
    assert one.state is not None
    return list(waiting(one.state, around(one, one.state, *others), one.now, Lines("c.yaml")))


def explained(one: Machine) -> Explained:
    assert one.state is not None
    return explain(one.state, [], around(one, one.state), one.now, Lines("c.yaml"))


@pytest.mark.parametrize(
    ("limit", "used", "ahead", "share", "expected"),
    [
        (3, [], 2, 1, 0),
        (3, [], 3, 1, MINUTE),
        (3, [-10 * SECOND], 2, 1, 50 * SECOND),
        (3, [-50 * SECOND, -10 * SECOND], 2, 1, 50 * SECOND),
        (3, [-50 * SECOND, -10 * SECOND], 1, 1, 10 * SECOND),
        (3, [-70 * SECOND], 2, 1, 0),
        (3, [-10 * SECOND], 5, 1, MINUTE + 50 * SECOND),
        (12, [], 3, 0.25, MINUTE),
        (2, [], 1, 0.25, 2 * MINUTE),
    ],
)
def test_a_turn_comes_when_the_window_has_room(
    limit: int, used: list[int], ahead: int, share: float, expected: int
) -> None:
    at = [NOW + one for one in used]
    assert turn_comes(Quota(limit, MINUTE), at, ahead, share, NOW) == expected


def test_a_queue_is_counted_in_the_order_of_the_schedule() -> None:
    first, urgent, ours = machine(), machine(), machine()
    first.verdict("violence")
    urgent.now = ours.now = NOW + SECOND
    ours.verdict("violence")
    urgent.verdict("minors")
    states = [replace(_state(one), key=key) for one, key in ((first, "a"), (urgent, "b"))]

    (wait,) = waits(ours, *states)

    assert (wait.why, wait.quota, wait.ahead, wait.about_ms) == ("quota", "block", 2, 2 * MINUTE)
    assert wait.detail == "The ban (block) waits for quota of hw/block, 2 ahead, about 2 m."
    assert [one.ahead for one in waits(ours)] == [0]


def _state(one: Machine) -> StreamState:
    assert one.state is not None
    return one.state


def test_a_call_under_way_and_a_verification_to_come_are_told() -> None:
    one = machine(Policy("p1", POLICY.rules))
    one.verdict("violence")
    one.grant()
    (wait,) = waits(one)
    assert (wait.why, wait.target) == ("answer", next(iter(_state(one).targets)))
    one.answered(one.calls[0], Done())
    assert [(each.why, each.until) for each in waits(one)] == [("verification", one.now + 5 * SECOND)]


def test_a_call_that_failed_is_told_with_when_it_is_tried_again() -> None:
    one = machine()
    one.verdict("violence")
    one.grant()
    one.answered(one.calls[0], Unreachable())
    (wait,) = waits(one)
    assert (wait.why, wait.until) == ("backoff", _target(one).retry_at)
    assert wait.detail.endswith("after its answer was: unreachable.")


def _target(one: Machine) -> TargetState:
    (found,) = _state(one).targets.values()
    return found


def test_what_waits_for_a_human_comes_with_the_commands_that_let_it_go() -> None:
    one = machine()
    one.verdict("doubtful")
    (wait,) = waits(one)
    (hold,) = _target(one).holds
    assert wait.why == "approval"
    assert wait.lets_go == tuple(
        f"moderation-worker {word} acme/room42 --hold {hold.id} --config c.yaml"
        for word in ("approve", "reject")
    )

    guards = (Guard("blast", 1, HOUR, "account", ("forbid",)), Guard("cuts", 1, HOUR, "account", ("cut",)))
    one = machine(replace(POLICY, guards=guards))
    one.ctx = replace(one.ctx, guards=Full())
    one.verdict("violence")
    (wait,) = waits(one)
    assert wait.why == "guard"
    assert wait.lets_go[2:] == tuple(
        f"moderation-worker guard {word} blast --config c.yaml" for word in ("release", "reject")
    )


def test_what_a_pause_keeps_waiting_comes_with_the_command_that_ends_it() -> None:
    one = machine()
    one.ctx = replace(one.ctx, control=Control(accounts={"hw": Pause(by="mod", reason="Wrong model")}))
    one.verdict("violence")
    (wait,) = waits(one)
    assert wait.why == "pause"
    assert wait.detail == "Enforcement is paused for account hw by mod: Wrong model."
    assert wait.lets_go == ("moderation-worker resume --account hw --config c.yaml",)


class Full:
    """A guard that parks all."""

    def parks(self, account: str, hold: Hold, placed: object) -> str:  # noqa: ARG002 - whoever asks
        return "blast"


def test_a_demand_stands_behind_the_one_that_covers_it_until_that_is_gone() -> None:
    one = machine()
    one.verdict("minors")
    one.verdict("minors")
    one.verdict("nudity")
    one.run()
    first, second, third = explained(one).holds
    assert [hold.standing for hold in (first, second, third)] == ["in_force", "behind", "behind"]
    assert second.covered_by == (first.id,)
    assert third.covered_by == (first.id, second.id)
    assert first.released_by == f"moderation-worker release acme/room42 --hold {first.id} --config c.yaml"

    (place,) = explained(one).in_force
    assert (place.action, place.renewed, place.sure) == ("forbid", True, True)

    one.command("release", holds=[first.id, second.id])
    one.run()
    (left,) = explained(one).holds
    assert (left.id, left.standing, left.covered_by) == (third.id, "in_force", ())


def test_a_cut_is_told_with_its_moment() -> None:
    one = machine()
    one.verdict("spam")
    one.run()
    (place,) = explained(one).in_force
    assert (place.action, place.cut_at is None) == ("none", False)


def test_a_demand_that_was_given_up_waits_for_the_next_reconciliation() -> None:
    one = machine()
    one.verdict("violence", expires_at=format_rfc3339(one.now + MINUTE))
    one.grant()
    one.answered(one.calls[0], Unreachable())
    one.wait(2 * MINUTE)
    assert [hold.standing for hold in explained(one).holds] == ["failed"]
    (wait,) = waits(one)
    assert wait.why == "backoff"
    assert wait.until == _target(one).gave_up_at + 10 * MINUTE


def test_a_stream_of_which_nothing_is_remembered() -> None:
    one = machine()
    found = explain(StreamState("k"), [], around(one), NOW, Lines(None))
    assert found == Explained("k", None, (), (), (), ())
    assert as_text(found, NOW, Lines(None)).startswith("Nothing is known of k: ")
