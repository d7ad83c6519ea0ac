"""Ends that a vendor does not see to: what it brings about stays until the worker lifts it."""

from dataclasses import replace

import pytest

from tests.core.machine import FULL, HOUR, MINUTE, SECOND, Machine, purposes, said
from worker.core.context import AccountView
from worker.core.outcome import AlreadySo, Done, NotThere, Refused, Unreachable
from worker.core.state import TargetState
from worker.core.stream import Woke, step
from worker.vendors.base import Capacity
from worker.words import Purpose

RULES = Capacity("rules", "Rules", "block_regions", 200, "domain", "play_domain")
STAYS = AccountView(
    "test",
    {
        **FULL,
        "forbid": replace(FULL["forbid"], lapses=False),
        "block_regions": replace(FULL["block_regions"], lapses=False),
    },
    capacities=(RULES,),
)
KINDS = [("nudity", "lift", 10 * MINUTE), ("gambling", "unblock_regions", 168 * HOUR)]


def begun(category: str) -> Machine:
    m = Machine({"hw": STAYS})
    m.verdict(category, regions=["DE"])
    m.run()
    return m


def targets(m: Machine) -> list[TargetState]:
    """Return the target, while there is anything to remember of it."""
    return list(m.state.targets.values()) if m.state is not None else []


def is_over(m: Machine) -> bool:
    return all(target.ban is None and target.block is None for target in targets(m))


@pytest.mark.parametrize(("category", "lift", "length"), KINDS)
def test_what_does_not_end_by_itself_is_lifted_at_its_end(category: str, lift: Purpose, length: int) -> None:
    m = begun(category)
    m.wait(length - SECOND)
    assert lift not in purposes(m.calls), "not before its end"
    assert said(m.wait(2 * SECOND)) == [("v1", "expired")]
    assert purposes(m.calls)[-1:] == [lift]
    m.wait(HOUR)
    assert purposes(m.calls).count(lift) == 1
    assert is_over(m)


@pytest.mark.parametrize(("category", "lift", "length"), KINDS)
@pytest.mark.parametrize("answers", [[NotThere()], [Unreachable(), AlreadySo()], [Refused("vendor"), Done()]])
def test_an_end_that_passed_while_nobody_looked_is_overdue_until_it_is_lifted(
    category: str, lift: Purpose, length: int, answers: list[Done]
) -> None:
    m = begun(category)
    ends = m.now + length
    m.now += length + HOUR  # every replica was down
    told = m.restore()
    assert said(told) == [("v1", "expired")]
    left = list(answers)
    while left:
        assert m.last is not None
        assert m.last.open.ended is not None
        assert ends - SECOND <= m.last.open.ended <= ends
        assert len(m.last.places) == (lift == "unblock_regions"), "it still takes up its place"
        (call,) = m.grant()
        assert call.purpose == lift
        m.answered(call, left.pop(0))
        m.now = max([m.now + SECOND, *(target.retry_at for target in targets(m))])
        m.do(Woke())
    assert m.last is not None
    assert m.last.open.ended is None
    assert is_over(m)
    assert m.last.places == ()


def test_a_demand_that_comes_after_the_end_takes_up_what_is_still_there() -> None:
    m = begun("nudity")
    m.now += HOUR
    m.verdict("nudity")
    m.run()
    assert purposes(m.calls) == ["forbid", "move_end"]
    m.wait(HOUR)
    assert purposes(m.calls) == ["forbid", "move_end", "lift"]


def test_somebody_elses_ban_is_left_to_its_owner() -> None:
    m = begun("nudity")
    assert m.state is not None
    ((name, mine),) = m.state.targets.items()
    assert mine.ban is not None
    theirs = replace(mine, ban=replace(mine.ban, ours=False), holds=())
    m.state = replace(m.state, targets={name: theirs})
    m.now += HOUR
    done = step(m.state, Woke(), m.now, m.ctx)
    assert [need for need in done.needs.values() if need is not None] == []
