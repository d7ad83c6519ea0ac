"""What vendors keep at most: who takes a place, and how full it is."""

import pytest

from tests.core.machine import MINUTE, Machine
from worker.core.capacity import Capacities, Place
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
    assert capacities.left("forbid", target()) == 10
    assert capacities.left("block_regions", target()) == 4
    assert capacities.left("cut", target()) is None
    assert capacities.left("forbid", target(account="b")) is None
    assert capacities.left("forbid", target(account="gone")) is None


def test_an_account_has_its_places_for_all_domains_together() -> None:
    capacities = made()
    capacities.change((), taken("one", "one", "two"))
    assert capacities.left("forbid", target("three")) == 7
    assert next(capacities.used_ratios()) == ("a", "bans", 0.3)
    capacities.change(taken("one", "one", "two"), taken("two"))
    assert capacities.left("forbid", target()) == 9


def test_each_domain_has_its_own_places_and_the_fullest_is_told() -> None:
    capacities = made()
    capacities.change((), taken("one", "one", "one", "two", capacity="rules"))
    assert capacities.left("block_regions", target("one")) == 1
    assert capacities.left("block_regions", target("two")) == 3
    assert capacities.left("block_regions", target(None)) == 4
    assert {name: ratio for _, name, ratio in capacities.used_ratios()}["rules"] == 0.75


def test_a_list_shows_what_is_not_ours() -> None:
    capacities = made()
    capacities.change((), taken("one", "one"))
    capacities.shown("list", target("one"), 5)
    capacities.shown("list", target("two"), 1)
    assert capacities.left("forbid", target()) == 4
    capacities.change((), taken("one"))
    assert capacities.left("forbid", target()) == 3, "what came since is ours"
    capacities.shown("list", target("one"), 6)
    assert capacities.left("forbid", target()) == 3
    capacities.shown("list", target("two"), 0)
    assert capacities.left("forbid", target()) == 4
    capacities.shown("another", target("two"), 9)
    assert capacities.left("forbid", target()) == 4


def test_a_list_that_has_less_than_we_know_of_frees_nothing() -> None:
    """It was read before our last bans, or is an old copy."""
    capacities = made()
    capacities.change((), taken("one", "one"))
    capacities.shown("list", target("one"), 0)
    assert capacities.left("forbid", target()) == 8


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
