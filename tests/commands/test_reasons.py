"""What is said of the rules a verdict met is what the policy decides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.policy import Policy, Rule, Then, When, decide
from worker.core.reasons import looks
from worker.events.incoming import Verdict

AT = 1_795_000_000_000


def verdict(**fields: Any) -> Verdict:
    given = {
        "verdict_id": "v",
        "stream": {"key": "acme/room"},
        "detected_at": "2026-11-22T10:05:00Z",
        "category": "nudity",
        "severity": "high",
        **fields,
    }
    return Verdict.model_validate(given)


def some(*words: str) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.lists(st.sampled_from(words), min_size=1, max_size=2).map(tuple)


WHENS = st.builds(
    When,
    category=some("nudity", "spam", "nud*"),
    severity=some("low", "high"),
    origin=some("machine", "order"),
    tenant=some("acme", "globex"),
    regions=some("DE", "F?"),
    key=some("acme/*", "other"),
    min_confidence=st.none() | st.sampled_from([0.2, 0.9]),
    labels=st.sampled_from([(), (("model", ("beta-*",)),), (("model", ("x",)), ("team", ("y",)))]),
)
VERDICTS = st.builds(
    verdict,
    category=st.sampled_from(["nudity", "spam", "other"]),
    severity=st.sampled_from(["low", "high"]),
    origin=st.sampled_from(["machine", "human", "order"]),
    tenant=st.sampled_from([None, "acme"]),
    regions=st.sampled_from([(), ("DE",), ("FR", "NO")]),
    confidence=st.sampled_from([0.1, 0.9, 1.0]),
    labels=st.sampled_from([{}, {"model": "beta-1"}, {"model": "x", "team": "y"}]),
)


@given(st.lists(WHENS, max_size=4), VERDICTS)
def test_the_last_rule_looked_at_is_the_one_that_decides(whens: list[When], given: Verdict) -> None:
    rules = tuple(Rule(str(n), when, Then("none")) for n, when in enumerate(whens))
    policy = Policy("1", rules)

    found = looks(policy, given)

    decided = decide(policy, given, AT).rule
    assert [look.rule for look in found] == [rule.name for rule in rules[: len(found)]]
    assert [look.rule for look in found if look.matches] == ([] if decided is None else [decided])
    assert all(look.matches == (look.why == "") for look in found)
    assert len(found) == len(rules) or found[-1].matches


@pytest.mark.parametrize(
    ("when", "fields", "why"),
    [
        (When(category=("a", "b", "c")), {}, "category is nudity, not a, b or c"),
        (When(severity=("low",)), {}, "severity is high, not low"),
        (When(tenant=("acme",)), {}, "tenant is not given, not acme"),
        (When(min_confidence=0.9), {"confidence": 0.5}, "confidence is 0.5, below 0.9"),
        (When(key=("b/*",)), {}, "the stream's key is not like b/*"),
        (When(regions=("DE",)), {}, "regions are not given, none of DE"),
        (When(regions=("DE",)), {"regions": ["NO"]}, "regions are NO, none of DE"),
        (When(labels=(("model", ("x",)),)), {"labels": {"model": "y"}}, "label model is y, not x"),
        (
            When(category=("a",), origin=("order",)),
            {},
            "category is nudity, not a; origin is machine, not order",
        ),
    ],
)
def test_what_keeps_a_rule_from_matching_is_said(when: When, fields: dict[str, Any], why: str) -> None:
    (look,) = looks(Policy("1", (Rule("r", when, Then("none")),)), verdict(**fields))
    assert look.why == why
