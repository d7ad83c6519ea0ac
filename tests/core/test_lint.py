"""What the linter says of a policy, and that it never calls a rule unreachable that is reached."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands.test_reasons import VERDICTS, WHENS
from worker import vendors
from worker.core.lint import lint
from worker.core.policy import Guard, Policy, Rule, Then, When
from worker.core.reasons import looks
from worker.core.routes import Route, TargetTemplate
from worker.events.incoming import Verdict

HOUR, DAY = 3_600_000, 86_400_000
SPECS = {name: vendors.load_spec(name) for name in ("huawei", "cdnetworks", "memory", "nginx_rtmp")}
CUT = Then("cut")


def findings(*rules: Rule, routes: tuple[Route, ...] = (), to: str = "memory", **policy: Any) -> list[str]:
    """Return the findings, each as its level, the end of its path and the first words of its text."""
    found = lint(Policy("1", rules, **policy), routes, {"here": SPECS[to]})
    assert all(str(each) == f"{each.level}: {each.path}: {each.text}" for each in found)
    return [f"{each.level} {each.path}: {each.text.partition(':')[0].partition(';')[0]}" for each in found]


def rule(name: str, then: Then = CUT, **when: Any) -> Rule:
    return Rule(name, When(**when), then)


@given(st.lists(WHENS, min_size=2, max_size=4), VERDICTS)
def test_a_rule_that_is_reached_is_never_called_unreachable(whens: list[When], verdict: Verdict) -> None:
    policy = Policy("1", tuple(Rule(str(n), when, CUT) for n, when in enumerate(whens)))
    *_, last = looks(policy, verdict)
    if last.matches:
        found = lint(policy, (), {})
        assert f"policy.rules[{last.rule}]" not in [each.path for each in found]
        place = f"policy.rules[{last.rule}].when.category"
        assert not [each for each in found if each.path == place and f'"{verdict.category}"' in each.text]


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ({}, {}, True),
        ({}, {"category": ("a",)}, True),
        ({"category": ("a",)}, {}, False),
        ({"category": ("a*",)}, {"category": ("ab", "ac*")}, True),
        ({"category": ("a?",)}, {"category": ("a*",)}, False),
        ({"category": ("a?",)}, {"category": ("a[bc]",)}, False),
        ({"severity": ("low", "medium", "high", "critical")}, {"category": ("a",)}, True),
        ({"severity": ("low", "medium")}, {"severity": ("low",)}, True),
        ({"origin": ("machine",)}, {}, False),
        ({"min_confidence": 0.5}, {"min_confidence": 0.9}, True),
        ({"min_confidence": 0.9}, {"min_confidence": 0.5}, False),
        ({"labels": (("m", ("x*",)),)}, {"labels": (("m", ("xy",)), ("n", ("z",)))}, True),
        ({"labels": (("m", ("x",)),)}, {"labels": (("n", ("x",)),)}, False),
    ],
)
def test_a_rule_that_an_earlier_one_hides_is_named(
    first: dict[str, Any], second: dict[str, Any], hidden: bool
) -> None:
    found = findings(rule("one", **first), rule("two", **second))
    said = "warning policy.rules[1]: rule two is never reached"
    assert found == ([said] if hidden else [])


def test_a_category_that_never_comes_is_named() -> None:
    assert findings(rule("one", category=("a",)), rule("two", category=("b", "a"))) == [
        'warning policy.rules[1].when.category: "a" never comes to rule two'
    ]


@pytest.mark.parametrize(
    ("then", "to", "said"),
    [
        (Then("cut"), "huawei", []),
        (Then("forbid", HOUR), "huawei", []),
        (Then("block_regions", HOUR), "huawei", ["warning action: here (huawei) cannot block_regions"]),
        (
            Then("block_regions", HOUR),
            "nginx_rtmp",
            ["warning action: here (nginx_rtmp) cannot block_regions"],
        ),
        (Then("forbid"), "nginx_rtmp", []),
        (Then("block_regions", HOUR, otherwise="cut"), "huawei", []),
        (
            Then("forbid", "permanent"),
            "cdnetworks",
            ["note for: here (cdnetworks) takes at most 30d at a time"],
        ),
        (Then("forbid", 30 * DAY), "cdnetworks", []),
        (Then("forbid", "requested", 7 * DAY), "cdnetworks", []),
        (
            Then("forbid", "requested"),
            "memory",
            ["warning for: the verdict may ask for any length, even a century"],
        ),
        (
            Then("cut", approval=True, mode="shadow"),
            "memory",
            [
                "warning approval: approval is never asked for in shadow mode",
                "note approval: a human has 10m to approve, unless the verdict names expires_at",
            ],
        ),
        (Then("none", approval=True), "memory", ["warning approval: has no effect with action none"]),
        (Then("forbid", 5_000), "memory", ["note for: it ends before the first verification (5s)"]),
        (Then("cut", otherwise="cut"), "memory", ["warning otherwise: cut is no way out of itself"]),
    ],
)
def test_what_a_rule_asks_for_in_vain_is_said(then: Then, to: str, said: list[str]) -> None:
    found = findings(rule("r", then), to=to)
    assert [each.replace("policy.rules[0].then.", "") for each in found] == said


def test_approval_of_a_way_out_is_worth_a_note() -> None:
    then = Then("forbid", HOUR, approval=True, otherwise="cut")
    assert findings(rule("r", then), max_age=DAY) == [
        "note policy.rules[0].then.otherwise: cut waits for approval too where a vendor cannot forbid"
    ]


def test_a_guard_that_counts_nothing_is_named() -> None:
    guards = (
        Guard("idle", 1, HOUR, "account", ("forbid", "block_regions")),
        Guard("odd", 1, HOUR, "account", ("cut", "query")),
        Guard("off", 1, HOUR, "account", ("cut",), ("critical", "high", "normal", "low")),
        Guard("fine", 1, HOUR, "account", ("cut", "forbid")),
    )
    assert findings(rule("r"), guards=guards) == [
        "warning policy.guards[0].actions: guard idle counts nothing",
        "warning policy.guards[1].actions: query is never parked",
        "warning policy.guards[2].except: guard off parks nothing",
    ]


def test_routes_are_looked_at_too() -> None:
    def route(account: str, **match: Any) -> Route:
        return Route((TargetTemplate(account, "live", "x"),), **match)

    routes = (route("here", key=("acme/*",)), route("here", key=("acme/a*",), tenant="t"))
    assert findings(rule("r"), routes=routes) == ["warning routes[1]: is never reached"]
    assert [
        str(each)
        for each in lint(Policy("1", ()), routes[:1], {"here": SPECS["memory"], "x": SPECS["huawei"]})
    ] == ["note: accounts.x: no route names it: only verdicts that name their targets come here"]
    # Only the vendors that are routed to count.
    blocks = (rule("r", Then("block_regions", HOUR)),)
    accounts = {"here": SPECS["memory"], "x": SPECS["huawei"]}
    assert not [each for each in lint(Policy("1", blocks), routes[:1], accounts) if each.level == "warning"]


def test_protecting_everything_is_worth_a_note() -> None:
    assert findings(rule("r"), protected=("*",))[-1].startswith("note policy.protected: every stream")
