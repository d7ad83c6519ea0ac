"""What vendors keep at most: who takes a place, and how full it is."""

import pytest

from tests.core.machine import MINUTE, NOW, Machine, said
from worker.core.capacity import SHOWN_FOR, Capacities, Place
from worker.core.context import AccountView
from worker.vendors import load_spec
from worker.vendors.base import Capacity
from worker.words import Target

BANS = Capacity("bans", "Bans", "forbid", 10, "account", "play_domain", "list")
RULES = Capacity("rules", "Rules", "block_regions", 4, "domain", "play_domain")


def target(domain: str | None = "one", account: str = "a") -> Target:
    return Target(account, "live", "room42", "push", domain)


def taken(*domains: str, capacity: str = "bans") -> tuple[Place, ...]:
    return tuple(("a", capacity, domain) for domain in domains)


def made() -> Capacities:
    return Capacities({"a": (BANS, RULES), "b": ()})


def test_nothing_is_taken_at_first() -> None:
    capacities = made()
    assert list(capacities.used_ratios()) == [("a", "bans", 0.0), ("a", "rules", 0.0)]
    assert capacities.left("forbid", target(), NOW) == 10
    assert capacities.left("block_regions", target(), NOW) == 4
    assert capacities.left("cut", target(), NOW) is None
    assert capacities.left("forbid", target(account="b"), NOW) is None
    assert capacities.left("forbid", target(account="gone"), NOW) is None


def test_an_account_has_its_places_for_all_domains_together() -> None:
    capacities = made()
    capacities.change((), taken("one", "one", "two"))
    assert capacities.left("forbid", target("three"), NOW) == 7
    assert next(capacities.used_ratios()) == ("a", "bans", 0.3)
    capacities.change(taken("one", "one", "two"), taken("two"))
    assert capacities.left("forbid", target(), NOW) == 9


def test_each_domain_has_its_own_places_and_the_fullest_is_told() -> None:
    capacities = made()
    capacities.change((), taken("one", "one", "one", "two", capacity="rules"))
    assert capacities.left("block_regions", target("one"), NOW) == 1
    assert capacities.left("block_regions", target("two"), NOW) == 3
    assert capacities.left("block_regions", target(None), NOW) == 4
    assert {name: ratio for _, name, ratio in capacities.used_ratios()}["rules"] == 0.75


def test_a_list_shows_what_is_not_ours() -> None:
    capacities = made()
    capacities.change((), taken("one", "one"))
    capacities.shown("list", target("one"), 5, NOW)
    capacities.shown("list", target("two"), 1, NOW)
    assert capacities.left("forbid", target(), NOW) == 4
    capacities.change((), taken("one"))
    assert capacities.left("forbid", target(), NOW) == 3, "what came since is ours"
    capacities.shown("list", target("one"), 6, NOW)
    assert capacities.left("forbid", target(), NOW) == 3
    capacities.shown("list", target("two"), 0, NOW)
    assert capacities.left("forbid", target(), NOW) == 4
    capacities.shown("another", target("two"), 9, NOW)
    assert capacities.left("forbid", target(), NOW) == 4


def test_a_list_that_has_less_than_we_know_of_frees_nothing() -> None:
    """It was read before our last bans, or is an old copy."""
    capacities = made()
    capacities.change((), taken("one", "one"))
    capacities.shown("list", target("one"), 0, NOW)
    assert capacities.left("forbid", target(), NOW) == 8


def places(machine: Machine) -> tuple[Place, ...]:
    assert machine.last is not None
    return machine.last.places


@pytest.mark.parametrize(
    ("category", "name", "fields"),
    [("nudity", "blacklist", {}), ("gambling", "region_rules", {"regions": ["CN"]})],
)
def test_what_is_in_force_takes_its_place(category: str, name: str, fields: dict[str, object]) -> None:
    spec = load_spec("aliyun")
    machine = Machine({"hw": AccountView.of(spec)})
    machine.verdict(category, **fields)
    assert places(machine) == ()
    machine.run()
    assert places(machine) == (("hw", name, "play.example"),)
    machine.command("release", holds=None, reason="appeal")
    machine.run()
    assert places(machine) == ()


def test_a_ban_that_ended_takes_none() -> None:
    spec = load_spec("aliyun")
    machine = Machine({"hw": AccountView.of(spec)})
    machine.verdict("nudity")
    machine.run()
    assert places(machine)
    machine.wait(11 * MINUTE)
    assert places(machine) == ()


def test_what_a_list_showed_long_ago_is_unknown() -> None:
    capacities = made()
    capacities.change((), taken("one"))
    capacities.shown("list", target("one"), 10, NOW)
    assert capacities.left("forbid", target(), NOW + SHOWN_FOR) == 0
    assert capacities.left("forbid", target(), NOW + SHOWN_FOR + 1) == 9, "others may have made room"


@pytest.mark.parametrize(
    ("category", "name", "limit", "fields"),
    [("violence", "blacklist", 10_000, {}), ("gambling", "region_rules", 200, {"regions": ["CN"]})],
)
def test_what_the_vendor_has_no_room_for_is_refused_before_the_call(
    category: str, name: str, limit: int, fields: dict[str, object]
) -> None:
    spec = load_spec("aliyun")
    capacities = Capacities({"hw": tuple(spec.capacities.values())})
    machine = Machine({"hw": AccountView.of(spec)}, capacities=capacities)
    full = [("hw", name, "play.example")] * limit
    capacities.change((), full)
    machine.verdict(category, **fields)
    (failed,) = machine.run()
    assert said([failed]) == [("v1", "failed*")]
    assert failed.error is not None
    assert (failed.reason, failed.error.kind, list(failed.attempts)) == ("quota", "quota", [])

    capacities.change(full[:1], ())
    assert said(machine.wait(10 * MINUTE)) == [("v1", "applied")], "tried again once there is room"
    capacities.change((), full[:1])
    machine.verdict(category, **fields)
    assert ("v2", "failed*") not in said(machine.run()), "a later end needs no other place"
    assert places(machine)
