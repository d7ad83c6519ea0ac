"""Why a rule does not match a verdict, in words: what ``decide`` only answers with yes or no."""

from collections.abc import Iterator

from worker.core.globs import matches
from worker.core.policy import Policy, When
from worker.events.incoming import Verdict
from worker.words import value


@value()
class Look:
    """A rule that was looked at. ``why`` says what kept it from matching; empty where it matches."""

    rule: str
    matches: bool
    why: str = ""


def looks(policy: Policy, verdict: Verdict) -> tuple[Look, ...]:
    """Return the rules in their order up to the first that matches, which decides."""
    found = []
    for rule in policy.rules:
        why = "; ".join(_against(rule.when, verdict))
        found.append(Look(rule.name, not why, why))
        if not why:
            break
    return tuple(found)


def _against(when: When, verdict: Verdict) -> Iterator[str]:
    """Yield what a rule asks for that a verdict does not have."""
    pairs = (
        ("category", when.category, verdict.category),
        ("severity", when.severity, verdict.severity),
        ("origin", when.origin, verdict.origin),
        ("tenant", when.tenant, verdict.tenant),
    )
    for name, patterns, found in pairs:
        if not matches(patterns, found):
            yield f"{name} is {found or 'not given'}, not {_either(patterns)}"
    if when.min_confidence is not None and verdict.confidence < when.min_confidence:
        yield f"confidence is {verdict.confidence:g}, below {when.min_confidence:g}"
    if not matches(when.key, verdict.stream.key):
        yield f"the stream's key is not like {_either(when.key)}"
    if when.regions is not None and not any(matches(when.regions, region) for region in verdict.regions):
        yield f"regions are {', '.join(verdict.regions) or 'not given'}, none of {_either(when.regions)}"
    for name, patterns in when.labels:
        if not matches(patterns, verdict.labels.get(name)):
            yield f"label {name} is {verdict.labels.get(name, 'not given')}, not {_either(patterns)}"


def _either(patterns: tuple[str, ...] | None) -> str:
    *most, last = patterns or ("",)
    return f"{', '.join(most)} or {last}" if most else last
