"""What a policy says that cannot be what was meant: rules that nothing reaches, guards that count nothing.

The configuration is right as far as it goes; each finding here is about its sense. A *warning* will
surprise somebody, a *note* is worth knowing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from worker.core.globs import is_glob, matches
from worker.core.policy import Guard, Policy, Rule, Then, When
from worker.core.routes import Route
from worker.durations import format_duration
from worker.vendors.base import VendorSpec
from worker.words import PRIORITIES, Action, Millis, Origin, Purpose, Severity, value

_HUMAN: Millis = 1_800_000
"""What a person gets less than to decide about an approval is worth a note."""
_PURPOSES: Mapping[Action, Purpose] = {
    "cut": "cut",
    "forbid": "forbid",
    "block_regions": "block_regions",
}


@value()
class Finding:
    """Something a policy says; ``path`` is its place in the file. ``text`` ends with what to do."""

    level: Literal["warning", "note"]
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.path}: {self.text}"


def lint(policy: Policy, routes: Sequence[Route], vendors: Mapping[str, VendorSpec]) -> list[Finding]:
    """Return what is odd about a policy, with the vendors of the accounts it acts at."""
    routed = {target.account for route in routes for target in route.targets} or set(vendors)
    reached = {name: spec for name, spec in vendors.items() if name in routed}
    found: list[Finding] = []
    for index, rule in enumerate(policy.rules):
        path, before = f"policy.rules[{index}]", policy.rules[:index]
        unreachable = list(_unreachable(path, rule, before))
        found += unreachable
        if not any(each.path == path for each in unreachable):
            found += _rule(path, rule, policy)
            found += _powers(path, rule.then, reached)
    for index, guard in enumerate(policy.guards):
        found += _guard(f"policy.guards[{index}]", guard, policy)
    if matches(policy.protected, "any stream at all"):
        text = "every stream is protected: machine and human actions all wait for approval"
        found.append(Finding("note", "policy.protected", text))
    found += _routes(routes, vendors)
    return found


# What nothing reaches.


def _unreachable(path: str, rule: Rule, before: Sequence[Rule]) -> Iterator[Finding]:
    first = _taken_by(rule.when, before)
    if first is not None:
        text = f"rule {rule.name} is never reached: {_at(first, before)} takes all it would match; "
        yield Finding("warning", path, f"{text}put it before that one, or take it out")
        return
    for word in rule.when.category or ():
        first = _taken_by(replace(rule.when, category=(word,)), before)
        if first is not None:
            text = (
                f'"{word}" never comes to rule {rule.name}: {_at(first, before)} takes it; take it out here'
            )
            yield Finding("warning", f"{path}.when.category", text)


def _taken_by(when: When, before: Sequence[Rule]) -> Rule | None:
    return next((rule for rule in before if _includes(rule.when, when)), None)


def _at(rule: Rule, rules: Sequence[Rule]) -> str:
    return f"rules[{rules.index(rule)}] ({rule.name})"


def _includes(wide: When, narrow: When) -> bool:
    """Whether whatever ``narrow`` matches is matched by ``wide`` too. Where that is not clear: no."""
    return (
        _within(narrow.category, wide.category)
        and _within(narrow.severity, wide.severity, get_args(Severity))
        and _within(narrow.origin, wide.origin, get_args(Origin))
        and _within(narrow.tenant, wide.tenant)
        and _within(narrow.regions, wide.regions)
        and _within(narrow.key, wide.key)
        and (narrow.min_confidence or 0) >= (wide.min_confidence or 0)
        and all(_within(dict(narrow.labels).get(name), patterns) for name, patterns in wide.labels)
    )


def _within(
    narrow: tuple[str, ...] | None, wide: tuple[str, ...] | None, words: tuple[str, ...] = ()
) -> bool:
    """Whether every text that one list of patterns matches is matched by the other; None matches all.

    ``words``: there are no other texts than these.
    """
    if wide is None:
        return True
    if words:
        return all(matches(wide, word) for word in words if matches(narrow, word))
    if narrow is None:
        return False
    return all(pattern in wide or _one_within(pattern, wide) for pattern in narrow)


def _one_within(pattern: str, wide: tuple[str, ...]) -> bool:
    if not is_glob(pattern):
        return matches(wide, pattern)
    # A glob of stars only that matches another as it is written matches whatever that one does.
    stars = tuple(each for each in wide if not {"?", "["} & set(each))
    return bool(stars) and matches(stars, pattern)


# What contradicts itself.


def _rule(path: str, rule: Rule, policy: Policy) -> Iterator[Finding]:
    then = rule.then
    if then.action == "none":
        yield from _nothing(path, then)
        return
    if then.approval and then.mode == "shadow":
        text = "approval is never asked for in shadow mode: leave one of the two out"
        yield Finding("warning", f"{path}.then.approval", text)
    if then.approval and then.otherwise not in (None, "none", then.action):
        text = f"{then.otherwise} waits for approval too where a vendor cannot {then.action}"
        yield Finding("note", f"{path}.then.otherwise", text)
    if then.otherwise == then.action:
        yield Finding(
            "warning", f"{path}.then.otherwise", f"{then.action} is no way out of itself: name another"
        )
    if then.approval and policy.max_age < _HUMAN:
        text = (
            f"a human has {format_duration(policy.max_age)} to approve, unless the verdict names expires_at; "
            "if that is too little, raise policy.max_age"
        )
        yield Finding("note", f"{path}.then.approval", text)
    if then.length == "requested" and then.max_length is None:
        text = "the verdict may ask for any length, even a century: set max"
        yield Finding("warning", f"{path}.then.for", text)
    if isinstance(then.length, int) and then.verify and policy.verify_after:
        first = policy.verify_after[0]
        if then.length <= first:
            text = (
                f"it ends before the first verification ({format_duration(first)}): it will not be verified"
            )
            yield Finding("note", f"{path}.then.for", text)
    if then.action == "block_regions" and isinstance(then.regions, tuple) and rule.when.regions is not None:
        outside = sorted(code for code in then.regions if not matches(rule.when.regions, code))
        if outside:
            text = f"{', '.join(outside)} is blocked though the rule asks for other regions: is that meant?"
            yield Finding("note", f"{path}.then.regions", text)


def _nothing(path: str, then: Then) -> Iterator[Finding]:
    given = {
        "approval": then.approval,
        "mode": then.mode == "shadow",
        "otherwise": then.otherwise is not None,
    }
    for name, is_given in given.items():
        if is_given:
            yield Finding("warning", f"{path}.then.{name}", "has no effect with action none: leave it out")


def _guard(path: str, guard: Guard, policy: Policy) -> Iterator[Finding]:
    if set(PRIORITIES) <= set(guard.excepted):
        yield Finding(
            "warning", f"{path}.except", f"guard {guard.name} parks nothing: every priority is excepted"
        )
        return
    asked = {action for rule in policy.rules for action in (rule.then.action, rule.then.otherwise)}
    idle = [action for action in guard.actions if action in ("none", "query") or action not in asked]
    if len(idle) == len(guard.actions):
        text = f"guard {guard.name} counts nothing: no rule asks for {' or '.join(idle)}"
        yield Finding("warning", f"{path}.actions", text)
    else:
        for action in idle:
            if action in ("none", "query"):
                text = f"{action} is never parked: take it out"
                yield Finding("warning", f"{path}.actions", text)


# What the vendors cannot do.


def _powers(path: str, then: Then, vendors: Mapping[str, VendorSpec]) -> Iterator[Finding]:
    unable = _without(then.action, vendors)
    if unable and then.otherwise is None:
        text = f"{_names(unable)} cannot {then.action}: such verdicts fail there (unsupported); set otherwise"
        yield Finding("warning", f"{path}.then.action", text)
    elif unable and then.otherwise is not None:
        still = _without(then.otherwise, unable)
        if still:
            text = f"{_names(still)} can neither {then.action} nor {then.otherwise}: such verdicts fail there"
            yield Finding("warning", f"{path}.then.otherwise", text)
    for action in dict.fromkeys((then.action, then.otherwise)):
        if action in ("forbid", "block_regions"):
            yield from _lengths(path, then, action, vendors)


def _without(action: Action, vendors: Mapping[str, VendorSpec]) -> dict[str, VendorSpec]:
    purpose = _PURPOSES.get(action)
    if purpose is None:
        return {}
    return {name: spec for name, spec in vendors.items() if not spec.can(purpose)}


def _lengths(path: str, then: Then, action: Action, vendors: Mapping[str, VendorSpec]) -> Iterator[Finding]:
    for name, spec in vendors.items():
        operation = spec.serving(_PURPOSES[action])
        longest = operation.max_length if operation is not None else None
        wanted = then.max_length if then.length == "requested" else then.length
        if longest is None or (isinstance(wanted, int) and wanted <= longest):
            continue
        text = (
            f"{name} ({spec.name}) takes at most {format_duration(longest)} at a time: it is renewed in time"
        )
        yield Finding("note", f"{path}.then.for", text)


def _names(vendors: Mapping[str, VendorSpec]) -> str:
    return ", ".join(f"{name} ({spec.name})" for name, spec in vendors.items())


def _routes(routes: Sequence[Route], vendors: Mapping[str, VendorSpec]) -> Iterator[Finding]:
    for index, route in enumerate(routes):
        for first, earlier in enumerate(routes[:index]):
            if earlier.tenant in (None, route.tenant) and _within(route.key, earlier.key):
                text = f"is never reached: routes[{first}] takes all it would match; put it before that one"
                yield Finding("warning", f"routes[{index}]", text)
                break
    named = {target.account for route in routes for target in route.targets}
    for account in vendors:
        if routes and account not in named:
            text = "no route names it: only verdicts that name their targets come here"
            yield Finding("note", f"accounts.{account}", text)
