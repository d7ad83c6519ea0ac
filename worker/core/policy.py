"""Verdict -> Decision: which rule applies, and what it asks for.

``decide`` stands on the way of every verdict: the sentences that depend on the rule alone are kept.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from worker.core.globs import is_glob, matches
from worker.durations import format_duration
from worker.events.incoming import Requested, Verdict
from worker.words import Action, ErrorClass, Millis, Mode, Priority, Severity, value

Length = Millis | Literal["permanent", "requested"]
"""How long an action lasts: milliseconds, for ever, or what the verdict asked for."""


@value()
class Then:
    """What a rule asks for (``then`` in the configuration)."""

    action: Action
    length: Length | None = None
    max_length: Millis | None = None
    regions: tuple[str, ...] | Literal["verdict"] = ()
    priority: Priority | None = None
    scope: Literal["stream", "session"] = "stream"
    approval: bool = False
    mode: Mode = "live"
    verify: bool = True
    otherwise: Action | None = None


@value()
class When:
    """What a rule applies to (``when`` in the configuration). None matches all; a tuple means any of them."""

    category: tuple[str, ...] | None = None
    severity: tuple[str, ...] | None = None
    origin: tuple[str, ...] | None = None
    tenant: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    min_confidence: float | None = None
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()


@value()
class Rule:
    """One rule; the first that matches decides."""

    name: str
    when: When
    then: Then


PerWhat = Literal["account", "tenant", "rule"]
"""What a guard counts for, each apart."""
WHOLE = 10_000
"""All, where a guard's share is written in ten thousandths."""


@value()
class Guard:
    """At most ``limit`` of ``actions`` within ``window`` for each account, tenant or rule; the rest parks.

    With a ``share`` (in ten thousandths) it is for a tenant, and counts verdicts, not their targets: as many
    as that share of its streams seen within the last hour; ``limit`` is what it may have in any case.
    """

    name: str
    limit: int
    window: Millis
    per: PerWhat
    actions: tuple[Action, ...]
    excepted: tuple[Priority, ...] = ()
    share: int | None = None


@dataclass(frozen=True)
class Policy:
    """The ``policy`` section of the configuration; lengths in milliseconds, None where ``off``."""

    version: str
    rules: tuple[Rule, ...]
    max_age: Millis = 600_000
    verify_after: tuple[Millis, ...] = (5_000, 30_000, 120_000)
    recut_limit: int = 3
    recut_within: Millis = 600_000
    release_cooloff: Millis = 1_800_000
    absorb_slack: Millis = 60_000
    reconcile: Millis | None = 600_000
    protected: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()

    def candidates(self, category: str | None) -> tuple[Rule, ...]:
        """Return the rules that may apply to a category, in their order: the others need not be asked."""
        return self._by_category.get(category, self._for_others)

    @cached_property
    def _by_category(self) -> dict[str | None, tuple[Rule, ...]]:
        named = {category for rule in self.rules for category in rule.when.category or ()}
        return {
            category: tuple(rule for rule in self.rules if matches(rule.when.category, category))
            for category in named
        }

    @cached_property
    def _for_others(self) -> tuple[Rule, ...]:
        """The rules for a category that none names as it is: those for all, and those with globs."""
        return tuple(
            rule for rule in self.rules if rule.when.category is None or is_glob(*rule.when.category)
        )


@value()
class Decision:
    """What is to be done about a verdict, and why.

    ``until`` None means permanent (for ``forbid`` and ``block_regions``) or not applicable.
    ``error`` set: it cannot be decided (``regions: verdict`` with none given, say); action is then the
    one the rule wanted. ``reason`` is a short word for results (``policy``, ``no_rule``); ``detail`` a
    sentence a person can read.
    """

    action: Action
    rule: str | None
    priority: Priority
    reason: str
    detail: str
    until: Millis | None = None
    regions: tuple[str, ...] = ()
    scope: Literal["stream", "session"] = "stream"
    approval: bool = False
    mode: Mode = "live"
    verify: bool = True
    otherwise: Action | None = None
    error: ErrorClass | None = None


_PRIORITY: dict[Severity | None, Priority] = {
    None: "normal",
    "low": "low",
    "medium": "normal",
    "high": "high",
    "critical": "critical",
}


def decide(policy: Policy, verdict: Verdict, now: Millis) -> Decision:
    """Return what the first matching rule asks for; lengths count from ``now``.

    Never raises: what cannot be decided comes back with ``error`` set.
    """
    for rule in policy.candidates(verdict.category):
        if _applies(rule.when, verdict):
            return _decision(rule, verdict, now)
    return Decision(
        action="none",
        rule=None,
        priority=_PRIORITY[verdict.severity],
        reason="no_rule",
        detail="No rule of the policy matches this verdict.",
        mode=verdict.mode,
    )


def is_protected(policy: Policy, key: str) -> bool:
    """Return whether machine and human actions on a stream need approval."""
    return matches(policy.protected, key)


def _applies(when: When, verdict: Verdict) -> bool:
    # Most patterns are absent; asking here spares a call for each.
    return (
        (when.category is None or matches(when.category, verdict.category))
        and (when.severity is None or matches(when.severity, verdict.severity))
        and (when.min_confidence is None or verdict.confidence >= when.min_confidence)
        and (when.origin is None or matches(when.origin, verdict.origin))
        and (when.tenant is None or matches(when.tenant, verdict.tenant))
        and (when.key is None or matches(when.key, verdict.stream.key))
        and (when.regions is None or any(matches(when.regions, region) for region in verdict.regions))
        and (
            not when.labels
            or all(matches(patterns, verdict.labels.get(name)) for name, patterns in when.labels)
        )
    )


def _decision(rule: Rule, verdict: Verdict, now: Millis) -> Decision:
    then = rule.then
    reason, trouble = "policy", ""
    until: Millis | None = None
    regions: tuple[str, ...] = ()
    if then.length == "requested":
        until, reason, trouble = _requested_end(then, verdict.requested, now)
    elif isinstance(then.length, int):
        until = now + then.length
    if "block_regions" in (then.action, then.otherwise):
        regions = _regions(then, verdict)
        if not regions and not trouble:
            reason, trouble = "no_regions", ", but the verdict names no region."
    return Decision(
        action=then.action,
        rule=rule.name,
        priority=then.priority or _PRIORITY[verdict.severity],
        reason=reason,
        detail=_sentence(rule.name, then.action, then.length, then.max_length) + (trouble or "."),
        until=until,
        regions=regions,
        # A cut belongs to one broadcast, and so does whatever stands in for it.
        scope="session" if then.action == "cut" else then.scope,
        approval=then.approval,
        mode="shadow" if verdict.mode == "shadow" else then.mode,
        verify=then.verify,
        otherwise=then.otherwise,
        error="invalid" if trouble else None,
    )


def _requested_end(then: Then, requested: Requested | None, now: Millis) -> tuple[Millis | None, str, str]:
    """Return the end a verdict wishes for, limited by the rule; else None, a reason and a sentence's end."""
    if requested is not None and requested.for_s is not None:
        until = now + requested.for_s * 1000
    elif requested is not None and requested.until is not None:
        until = requested.until
    else:
        return None, "nothing_requested", ", but the verdict asks for no length."
    if until <= now:
        return None, "past_end", ", but that end has passed."
    return until if then.max_length is None else min(until, now + then.max_length), "policy", ""


def _regions(then: Then, verdict: Verdict) -> tuple[str, ...]:
    if then.regions != "verdict":
        return then.regions
    return verdict.regions or (verdict.requested.regions if verdict.requested else ())


@lru_cache(maxsize=4096)
def _sentence(rule: str, action: Action, length: Length | None, max_length: Millis | None) -> str:
    """Return what a rule asks for, as a sentence without its full stop."""
    if action == "none":
        return f"Rule {rule}: nothing is to be done"
    text = f"Rule {rule}: {action}"
    if length == "permanent":
        return f"{text} for good"
    if length == "requested":
        limit = f", at most {format_duration(max_length)}" if max_length else ""
        return f"{text} for as long as the verdict asks{limit}"
    return text if length is None else f"{text} for {format_duration(length)}"
