"""What should be in force against what lists say: each way in which they may differ."""

from dataclasses import replace

import pytest

from tests.core.machine import HOUR, MINUTE, SECOND, Machine, Vendor, serving
from worker.commands.parts.reconciling import Difference, as_text, differences, problems
from worker.commands.parts.whole_lists import Listing, Place
from worker.core.outcome import Unreachable
from worker.core.state import StreamState
from worker.vendors.base import Entry
from worker.words import Millis, Purpose

BANS = Place("hw", "read_forbid", "push.example")
BLOCKS = Place("hw", "read_regions", "play.example")
BY: dict[tuple[str, Purpose], str] = {
    ("hw", "read_forbid"): "push_domain",
    ("hw", "read_regions"): "play_domain",
}
ROOM = "live/room42"


def forbidden(category: str = "nudity") -> Machine:
    machine = Machine()
    Vendor(machine)
    machine.verdict(category, **({"regions": ["DE", "FR"]} if category == "gambling" else {}))
    machine.run()
    return machine


def found(machine: Machine, *listings: Listing) -> list[Difference]:
    assert machine.state is not None
    states: list[StreamState] = [machine.state]
    return differences(states, listings, BY, machine.ctx, machine.now)


def whats(differing: list[Difference]) -> list[tuple[str, str | None]]:
    return [(one.what, one.stream) for one in differing]


def bans(*entries: Entry) -> Listing:
    return Listing(BANS, entries)


def blocks(*entries: Entry) -> Listing:
    return Listing(BLOCKS, entries)


def end(machine: Machine) -> Millis:
    assert machine.state is not None
    (target,) = machine.state.targets.values()
    has = target.ban or target.block
    assert has is not None
    assert has.until is not None
    return has.until


def test_what_is_as_it_should_be_is_no_difference() -> None:
    machine = forbidden()
    assert found(machine, bans(Entry(ROOM, end(machine)))) == []
    assert found(machine, bans(Entry(ROOM, end(machine) + SECOND))) == []
    assert found(machine, bans(Entry(ROOM, None))) == [], "a list that tells no end"


def test_what_is_missing_would_be_applied_again() -> None:
    machine = forbidden()
    (one,) = found(machine, bans())
    assert (one.what, one.stream, one.name) == ("missing", "acme/room42", ROOM)
    assert "applied again" in one.detail


def test_an_end_may_differ_by_what_verdicts_absorb() -> None:
    machine = forbidden()
    assert found(machine, bans(Entry(ROOM, end(machine) - MINUTE))) == []
    for other in (end(machine) - MINUTE - 1, end(machine) + HOUR):
        assert whats(found(machine, bans(Entry(ROOM, other)))) == [("another end", "acme/room42")]


def test_what_nobody_asked_for_is_reported_and_left_alone() -> None:
    machine = forbidden()
    there = bans(Entry(ROOM, end(machine)), Entry("live/other", end(machine)))
    (one,) = found(machine, there)
    assert (one.what, one.stream, one.name) == ("unknown to us", None, "live/other")
    assert "left alone" in one.detail


def test_what_is_not_lifted_yet_is_told() -> None:
    machine = forbidden()
    until = end(machine)
    machine.answer = lambda call: Unreachable()
    machine.command("release", holds=None, reason="appeal")
    assert whats(found(machine, bans(Entry(ROOM, until)))) == [("not lifted", "acme/room42")]
    assert found(machine, bans()) == []


def test_a_ban_of_somebody_else_on_a_stream_of_ours_is_not_ours() -> None:
    machine = forbidden()
    until = end(machine)
    machine.command("release", holds=None, reason="appeal")
    machine.run()
    assert whats(found(machine, bans(Entry(ROOM, until)))) == [("unknown to us", "acme/room42")]


def test_a_permanent_ban_has_the_latest_end_that_the_vendor_takes() -> None:
    machine = forbidden("minors")
    assert found(machine, bans(Entry(ROOM, end(machine)))) == []
    assert whats(found(machine, bans(Entry(ROOM, machine.now + HOUR)))) == [("another end", "acme/room42")]


def test_a_demand_that_was_not_applied_yet_is_missing_with_its_end() -> None:
    machine = Machine()
    machine.verdict("minors")
    (one,) = found(machine, bans())
    assert one.what == "missing"
    assert "no end" not in one.detail, "the vendor's maximum"


def test_what_is_being_changed_just_now_is_not_compared() -> None:
    machine = Machine()
    machine.verdict("nudity")
    machine.grant()
    assert found(machine, bans()) == []
    assert found(machine, bans(Entry(ROOM, machine.now + HOUR))) == []


def test_what_is_parked_is_not_missing() -> None:
    machine = Machine()
    machine.verdict("doubtful")
    assert found(machine, bans()) == []


def test_regions_are_compared_too() -> None:
    machine = forbidden("gambling")
    until = end(machine)
    assert found(machine, blocks(Entry(ROOM, until, ("DE", "FR")))) == []
    assert found(machine, blocks(Entry(ROOM, until, ("AT", "DE", "FR")))) == []
    (fewer,) = found(machine, blocks(Entry(ROOM, until, ("DE",))))
    assert (fewer.what, fewer.stream) == ("other regions", "acme/room42")
    assert whats(found(machine, blocks())) == [("missing", "acme/room42")]
    assert found(machine, blocks(Entry(ROOM, until, ("DE", "FR"))), bans()) == []


def test_a_list_that_could_not_be_read_is_no_empty_list() -> None:
    machine = forbidden()
    unread = Listing(BANS, problem="over the rate limit")
    assert found(machine, unread) == []
    assert problems([unread, blocks()]) == [
        "account hw: the list of push.example could not be read: over the rate limit"
    ]


def test_another_domain_or_account_is_not_meant() -> None:
    machine = forbidden()
    elsewhere = Listing(replace(BANS, domain="push.other"), (Entry(ROOM, 1),))
    assert whats(found(machine, elsewhere)) == [("unknown to us", None)]
    other = Listing(replace(BANS, account="another"), ())
    assert found(machine, other) == []


def test_the_table_and_what_each_account_comes_to() -> None:
    machine = forbidden()
    listings = [bans(Entry("live/other", end(machine)))]
    text = as_text(found(machine, *listings), listings, {"edge": "nginx_rtmp has no list to compare with"})
    lines = text.splitlines()
    assert lines[0].split("  ")[0:2] == ["hw", "missing"]
    assert "push.example/live/room42" in lines[0]
    assert "unknown to us" in lines[1]
    assert lines[2] == "account hw: 1 entries of 1 lists read; 1 missing, 1 unknown to us"
    assert lines[3] == "account edge: not compared: nginx_rtmp has no list to compare with"
    assert as_text([], [bans()], {}) == "account hw: 0 entries of 1 lists read; no difference"


@pytest.mark.parametrize("thing", ["difference", "entry"])
def test_no_repr_shows_a_name(thing: str) -> None:
    machine = forbidden()
    (one,) = found(machine, bans())
    shown = repr({"difference": one, "entry": Entry(ROOM)}[thing])
    assert "room42" not in shown


def test_a_vendor_without_a_list_of_regions_is_not_compared_by_them() -> None:
    machine = Machine({"hw": serving("block_regions", "unblock_regions")})
    machine.verdict("gambling", regions=["DE"])
    machine.run()
    assert found(machine, bans()) == []
