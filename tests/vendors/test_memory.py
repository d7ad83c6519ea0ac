"""The vendor in the process."""

import pytest

from worker.core.outcome import AlreadySo, Done, Facts, NotThere, Observed, Unknown
from worker.vendors import load_spec, make
from worker.vendors.base import Account, InProcess, Response
from worker.vendors.memory import OFF_AIR, Memory
from worker.words import Call, Purpose, Target

NOW = 1_795_342_500_000
SPEC = load_spec("memory")


def memory(*, assume_live: bool = False) -> Memory:
    vendor = make(SPEC, Account("m", "memory", {"assume_live": assume_live}))
    assert isinstance(vendor, Memory)
    return vendor


def call(purpose: Purpose, stream: str = "room42", *, until: int | None = None, regions: str = "") -> Call:
    return Call(
        "c", purpose, purpose, Target("m", "live", stream), until=until, regions=tuple(regions.split())
    )


def forbidden(vendor: Memory, now: int, stream: str = "room42") -> Facts:
    outcome = vendor.perform(call("read_forbid", stream), now)
    assert isinstance(outcome, Observed)
    return outcome.facts


def blocked(vendor: Memory, now: int) -> Facts:
    outcome = vendor.perform(call("read_regions"), now)
    assert isinstance(outcome, Observed)
    return outcome.facts


def live(vendor: Memory, now: int) -> bool | None:
    outcome = vendor.perform(call("read_live"), now)
    assert isinstance(outcome, Observed)
    return outcome.facts.live


def test_it_serves_every_purpose_by_the_operation_of_that_name() -> None:
    assert {name: operation.serves for name, operation in SPEC.operations.items()} == {
        name: (name,)
        for name in (
            "cut",
            "forbid",
            "move_end",
            "lift",
            "block_regions",
            "unblock_regions",
            "read_forbid",
            "read_regions",
            "read_live",
        )
    }
    assert isinstance(memory(), InProcess)


def test_a_ban_is_in_force_until_its_end() -> None:
    vendor = memory()
    assert vendor.perform(call("forbid", until=NOW + 10), NOW) == Done()
    assert forbidden(vendor, NOW + 9) == Facts(forbidden=True, forbidden_until=NOW + 10)
    assert forbidden(vendor, NOW + 10) == Facts(forbidden=False)
    assert forbidden(vendor, NOW, "another") == Facts(forbidden=False)


def test_a_ban_without_end_stays() -> None:
    vendor = memory()
    assert vendor.perform(call("forbid"), NOW) == Done()
    assert forbidden(vendor, NOW * 2) == Facts(forbidden=True, forbidden_until=None)


@pytest.mark.parametrize("until", [NOW - 1, NOW + 10, NOW + 20])
def test_a_ban_is_not_shortened_by_another(until: int) -> None:
    vendor = memory()
    vendor.perform(call("forbid", until=NOW + 20), NOW)
    assert vendor.perform(call("forbid", until=until), NOW) == AlreadySo()
    assert forbidden(vendor, NOW).forbidden_until == NOW + 20


def test_a_ban_is_made_longer_by_another() -> None:
    vendor = memory()
    vendor.perform(call("forbid", until=NOW + 20), NOW)
    assert vendor.perform(call("forbid"), NOW) == Done()
    assert forbidden(vendor, NOW) == Facts(forbidden=True, forbidden_until=None)


def test_the_end_of_a_ban_can_be_moved_both_ways_while_it_is_in_force() -> None:
    vendor = memory()
    assert vendor.perform(call("move_end", until=NOW + 20), NOW) == NotThere()
    vendor.perform(call("forbid", until=NOW + 20), NOW)
    assert vendor.perform(call("move_end", until=NOW + 5), NOW) == Done()
    assert forbidden(vendor, NOW).forbidden_until == NOW + 5
    assert vendor.perform(call("move_end", until=NOW + 50), NOW + 1) == Done()
    assert forbidden(vendor, NOW).forbidden_until == NOW + 50
    assert vendor.perform(call("move_end"), NOW + 50) == NotThere()


def test_a_ban_is_lifted_once() -> None:
    vendor = memory()
    vendor.perform(call("forbid"), NOW)
    assert vendor.perform(call("lift"), NOW) == Done()
    assert forbidden(vendor, NOW) == Facts(forbidden=False)
    assert vendor.perform(call("lift"), NOW) == NotThere()


def test_a_ban_that_has_ended_is_not_there_to_lift() -> None:
    vendor = memory()
    vendor.perform(call("forbid", until=NOW + 10), NOW)
    assert vendor.perform(call("lift"), NOW + 10) == NotThere()


def test_the_last_region_block_counts_and_ends_by_itself() -> None:
    vendor = memory()
    assert vendor.perform(call("block_regions", until=NOW + 20, regions="FR DE"), NOW) == Done()
    assert blocked(vendor, NOW + 19) == Facts(regions=("DE", "FR"), regions_until=NOW + 20)
    assert vendor.perform(call("block_regions", until=NOW + 10, regions="DE AT"), NOW) == Done()
    assert vendor.perform(call("block_regions", until=NOW + 10, regions="AT DE"), NOW) == AlreadySo()
    assert blocked(vendor, NOW) == Facts(regions=("AT", "DE"), regions_until=NOW + 10)
    assert blocked(vendor, NOW + 10) == Facts(regions=())


def test_region_blocks_without_end_stay_until_they_are_lifted() -> None:
    vendor = memory()
    vendor.perform(call("block_regions", regions="FR"), NOW)
    assert blocked(vendor, NOW * 2) == Facts(regions=("FR",), regions_until=None)
    assert vendor.perform(call("unblock_regions"), NOW) == Done()
    assert blocked(vendor, NOW).regions == ()
    assert vendor.perform(call("unblock_regions"), NOW) == NotThere()


def test_without_assuming_it_nobody_knows_what_is_live() -> None:
    vendor = memory()
    assert vendor.perform(call("cut"), NOW) == Done()
    assert vendor.perform(call("cut"), NOW) == Done()
    assert live(vendor, NOW) is None


def test_an_assumed_broadcast_ends_by_a_cut_and_comes_back() -> None:
    vendor = memory(assume_live=True)
    assert live(vendor, NOW) is True
    assert vendor.perform(call("cut"), NOW) == Done()
    assert vendor.perform(call("cut"), NOW + 1) == NotThere()
    assert live(vendor, NOW + OFF_AIR - 1) is False
    assert live(vendor, NOW + OFF_AIR) is True


def test_an_assumed_broadcast_is_off_while_it_is_forbidden() -> None:
    vendor = memory(assume_live=True)
    vendor.perform(call("forbid", until=NOW + 10), NOW)
    assert live(vendor, NOW) is False
    assert live(vendor, NOW + 10) is True


def test_each_account_has_a_memory_of_its_own() -> None:
    vendor = memory()
    vendor.perform(call("forbid"), NOW)
    assert forbidden(memory(), NOW) == Facts(forbidden=False)


def test_nothing_is_sent_and_nothing_is_believed() -> None:
    vendor = memory()
    with pytest.raises(ValueError, match="asked by perform"):
        vendor.request(call("forbid"), NOW, "nonce")
    assert isinstance(vendor.read(call("forbid"), Response(204, {}, b""), NOW), Unknown)
    assert vendor.shared(call("read_forbid")) is None
