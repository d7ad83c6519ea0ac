"""Rules -> Decision."""

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.globs import matches
from worker.core.policy import Policy, Rule, Then, When, decide, is_protected
from worker.events.incoming import Verdict

NOW = 1_795_341_600_000
MINUTE = 60_000
CUT = Then("cut")


def verdict(**fields: Any) -> Verdict:
    return Verdict.model_validate(
        {
            "verdict_id": "v-1",
            "stream": {"key": "acme/room42"},
            "detected_at": "2026-11-22T10:00:00Z",
            "category": "nudity",
            "severity": "high",
            **fields,
        }
    )


def policy(*rules: tuple[When, Then], **fields: Any) -> Policy:
    named = tuple(Rule(f"rule-{index}", when, then) for index, (when, then) in enumerate(rules))
    return Policy(version="1", rules=named, **fields)


@pytest.mark.parametrize(
    ("when", "fields", "applies"),
    [
        (When(), {}, True),
        (When(category=("nudity",)), {}, True),
        (When(category=("Nudity",)), {}, False),
        (When(category=("spam", "nud*")), {}, True),
        (When(category=("nud",)), {}, False),
        (When(category=("n?dity",)), {}, True),
        (When(category=("[mn]udity",)), {}, True),
        (When(category=("[mn]udity",)), {"category": "[mn]udity"}, False),
        (When(severity=("high", "critical")), {}, True),
        (When(severity=("low",)), {}, False),
        (When(severity=("*",)), {"kind": "clear", "severity": None}, False),
        (When(min_confidence=0.9), {"confidence": 0.9}, True),
        (When(min_confidence=0.9), {"confidence": 0.89}, False),
        (When(min_confidence=0.9), {}, True),
        (When(origin=("human", "order")), {"origin": "order"}, True),
        (When(origin=("human", "order")), {}, False),
        (When(tenant=("acme",)), {"tenant": "acme"}, True),
        (When(tenant=("*",)), {}, False),
        (When(key=("acme/*",)), {}, True),
        (When(key=("acme*42",)), {}, True),
        (When(key=("room42",)), {}, False),
        (When(regions=("DE", "N?")), {"regions": ["FR", "NO"]}, True),
        (When(regions=("DE",)), {"regions": ["FR", "NO"]}, False),
        (When(regions=("*",)), {}, False),
        (When(labels=(("model", ("nsfw-*",)),)), {"labels": {"model": "nsfw-7"}}, True),
        (When(labels=(("model", ("nsfw-*",)),)), {"labels": {"other": "nsfw-7"}}, False),
        (When(labels=(("a", ("1", "2")), ("b", ("3",)))), {"labels": {"a": "2", "b": "3"}}, True),
        (When(labels=(("a", ("1", "2")), ("b", ("3",)))), {"labels": {"a": "2", "b": "4"}}, False),
        (When(category=("nudity",), tenant=("other",)), {"tenant": "acme"}, False),
    ],
)
def test_a_rule_applies_when_all_it_names_matches(when: When, fields: dict[str, Any], applies: bool) -> None:
    decision = decide(policy((when, CUT)), verdict(**fields), NOW)

    assert (decision.rule == "rule-0") is applies
    assert decision.action == ("cut" if applies else "none")


def test_the_first_rule_that_matches_decides() -> None:
    rules = policy((When(category=("spam",)), Then("none")), (When(), CUT), (When(), Then("none")))

    assert decide(rules, verdict(), NOW).rule == "rule-1"


def test_without_a_rule_nothing_is_done_and_it_says_so() -> None:
    decision = decide(policy((When(category=("spam",)), CUT)), verdict(severity="low", mode="shadow"), NOW)

    assert (decision.action, decision.rule, decision.reason) == ("none", None, "no_rule")
    assert (decision.priority, decision.mode, decision.error) == ("low", "shadow", None)
    assert decision.detail == "No rule of the policy matches this verdict."


@pytest.mark.parametrize(
    ("then", "fields", "until", "detail"),
    [
        (Then("forbid", 10 * MINUTE), {}, NOW + 10 * MINUTE, "Rule rule-0: forbid for 10m."),
        (Then("forbid", "permanent"), {}, None, "Rule rule-0: forbid for good."),
        (
            Then("forbid", "requested"),
            {"requested": {"for_s": 90}},
            NOW + 90_000,
            "Rule rule-0: forbid for as long as the verdict asks.",
        ),
        (
            Then("forbid", "requested", max_length=MINUTE),
            {"requested": {"for_s": 90}},
            NOW + MINUTE,
            "Rule rule-0: forbid for as long as the verdict asks, at most 1m.",
        ),
        (
            Then("forbid", "requested", max_length=MINUTE),
            {"requested": {"for_s": 30}},
            NOW + 30_000,
            "Rule rule-0: forbid for as long as the verdict asks, at most 1m.",
        ),
        (
            Then("forbid", "requested"),
            {"requested": {"until": "2026-11-22T11:00:00Z"}},
            1_795_345_200_000,
            "Rule rule-0: forbid for as long as the verdict asks.",
        ),
        (CUT, {}, None, "Rule rule-0: cut."),
        (Then("none"), {}, None, "Rule rule-0: nothing is to be done."),
    ],
)
def test_lengths_count_from_the_decision(
    then: Then, fields: dict[str, Any], until: int | None, detail: str
) -> None:
    decision = decide(policy((When(), then)), verdict(**fields), NOW)

    assert (decision.until, decision.detail) == (until, detail)
    assert (decision.reason, decision.error) == ("policy", None)


@pytest.mark.parametrize(
    ("then", "fields", "reason", "sentence"),
    [
        (
            Then("forbid", "requested"),
            {},
            "nothing_requested",
            "Rule rule-0: forbid for as long as the verdict asks, but the verdict asks for no length.",
        ),
        (
            Then("forbid", "requested"),
            {"requested": {"action": "forbid"}},
            "nothing_requested",
            "Rule rule-0: forbid for as long as the verdict asks, but the verdict asks for no length.",
        ),
        (
            Then("forbid", "requested"),
            {"requested": {"until": "2026-11-22T10:00:00Z"}},
            "past_end",
            "Rule rule-0: forbid for as long as the verdict asks, but that end has passed.",
        ),
        (
            Then("block_regions", MINUTE, regions="verdict"),
            {},
            "no_regions",
            "Rule rule-0: block_regions for 1m, but the verdict names no region.",
        ),
    ],
)
def test_what_the_verdict_does_not_say_is_invalid(
    then: Then, fields: dict[str, Any], reason: str, sentence: str
) -> None:
    decision = decide(policy((When(), then)), verdict(**fields), NOW)

    assert (decision.error, decision.action, decision.reason) == ("invalid", then.action, reason)
    assert (decision.until, decision.regions, decision.detail) == (
        None if then.length == "requested" else NOW + MINUTE,
        (),
        sentence,
    )


@pytest.mark.parametrize(
    ("then", "fields", "regions"),
    [
        (Then("block_regions", MINUTE, regions=("DE",)), {"regions": ["FR"]}, ("DE",)),
        (Then("block_regions", MINUTE, regions="verdict"), {"regions": ["FR", "NO"]}, ("FR", "NO")),
        (Then("block_regions", MINUTE, regions="verdict"), {"requested": {"regions": ["IT"]}}, ("IT",)),
        (
            Then("block_regions", MINUTE, regions="verdict"),
            {"regions": ["FR"], "requested": {"regions": ["IT"]}},
            ("FR",),
        ),
        (
            Then("forbid", MINUTE, regions="verdict", otherwise="block_regions"),
            {"regions": ["FR"]},
            ("FR",),
        ),
        (Then("forbid", MINUTE, regions="verdict"), {"regions": ["FR"]}, ()),
    ],
)
def test_regions_are_the_rules_or_the_verdicts(
    then: Then, fields: dict[str, Any], regions: tuple[str, ...]
) -> None:
    assert decide(policy((When(), then)), verdict(**fields), NOW).regions == regions


@pytest.mark.parametrize(
    ("severity", "priority"),
    [("low", "low"), ("medium", "normal"), ("high", "high"), ("critical", "critical")],
)
def test_priority_follows_severity_unless_the_rule_names_one(severity: str, priority: str) -> None:
    assert decide(policy((When(), CUT)), verdict(severity=severity), NOW).priority == priority
    named = policy((When(), Then("cut", priority="low")))
    assert decide(named, verdict(severity=severity), NOW).priority == "low"


@pytest.mark.parametrize(
    ("rule", "said", "mode"),
    [("live", "live", "live"), ("shadow", "live", "shadow"), ("live", "shadow", "shadow")],
)
def test_shadow_if_rule_or_verdict_says_so(rule: Any, said: str, mode: str) -> None:
    assert decide(policy((When(), Then("cut", mode=rule))), verdict(mode=said), NOW).mode == mode


def test_what_else_a_rule_says_is_carried_over() -> None:
    then = Then(
        "forbid", "permanent", scope="session", approval=True, verify=False, otherwise="cut", priority="high"
    )

    decision = decide(policy((When(), then)), verdict(), NOW)

    assert (decision.scope, decision.approval, decision.verify) == ("session", True, False)
    assert (decision.otherwise, decision.priority) == ("cut", "high")


def test_a_cut_is_always_the_sessions() -> None:
    assert decide(policy((When(), Then("cut", scope="stream"))), verdict(), NOW).scope == "session"


def test_protected_streams_are_found_by_glob() -> None:
    guarded = policy(protected=("acme/president-*", "globex/1"))

    assert is_protected(guarded, "acme/president-7")
    assert is_protected(guarded, "globex/1")
    assert not is_protected(guarded, "globex/12")
    assert not is_protected(policy(), "acme/president-7")


TEXTS = st.text(alphabet="ab*?[]!/-", max_size=6)


@given(st.lists(TEXTS, max_size=4), TEXTS)
def test_globs_are_those_of_fnmatch(patterns: list[str], text: str) -> None:
    expected = any(fnmatchcase(text, pattern) for pattern in patterns)

    assert matches(tuple(patterns), text) is expected


@given(st.lists(st.sampled_from(["nudity", "spam", "*", "n*"]), max_size=6), st.sampled_from(["nudity", "x"]))
def test_no_rule_behind_the_first_match_matters(categories: list[str], category: str) -> None:
    rules = policy(*((When(category=(one,)), CUT) for one in categories))
    decision = decide(rules, verdict(category=category), NOW)
    fitting = [rule.name for rule in rules.rules if fnmatchcase(category, (rule.when.category or ("",))[0])]

    assert decision.rule == (fitting[0] if fitting else None)
    if fitting:
        kept = tuple(rule for rule in rules.rules if rule.name <= fitting[0])
        assert decide(replace(rules, rules=kept), verdict(category=category), NOW) == decision
