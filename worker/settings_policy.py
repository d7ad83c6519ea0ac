"""The ``policy`` and ``routes`` sections of the configuration file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Literal, get_args

import yaml

from worker.core.globs import matches
from worker.core.policy import WHOLE, Guard, Length, PerWhat, Policy, Rule, Then, When
from worker.core.routes import FIELDS, IN_BRACES, Route, TargetTemplate
from worker.durations import parse_quota
from worker.events.regions import KNOWN, expand
from worker.settings_file import (
    Entry,
    How,
    Mistake,
    boolean,
    duration,
    each,
    hint,
    is_off,
    length,
    name,
    number,
    one_of,
    one_or_each,
    share,
    text,
    whole,
)
from worker.vendors.base import VendorSpec
from worker.words import PRIORITIES, Action, Millis, Mode, Origin, Quota, Severity, digest

_action: How[Action] = one_of("an action", get_args(Action))
_CODES = "codes of ISO 3166-1: DE, EU"
_LASTING: tuple[Action, ...] = ("forbid", "block_regions")


def read_policy(entry: Entry) -> Policy:
    """Read the ``policy`` section. A policy without a version is named after its content."""
    section = entry.section(*(_POLICY_KEYS), required=("rules",))
    usual = Policy(version="", rules=())
    limit, within = section.read("recut", _recut, (usual.recut_limit, usual.recut_within))
    policy = Policy(
        version=section.read("version", name, ""),
        rules=section.read("rules", each(_rule, empty=True), ()),
        max_age=section.read("max_age", duration, usual.max_age),
        verify_after=section.read("verify", _verify, usual.verify_after),
        recut_limit=limit,
        recut_within=within,
        release_cooloff=section.read("release_cooloff", length(0), usual.release_cooloff),
        absorb_slack=section.read("absorb_slack", length(0), usual.absorb_slack),
        reconcile=section.read("reconcile", _duration_or_off, usual.reconcile),
        protected=section.read("protected", one_or_each(text, empty=True), ()),
        guards=section.read("guards", each(_guard, empty=True), ()),
    )
    _refuse_twins(entry, "rules", [rule.name for rule in policy.rules])
    _refuse_twins(entry, "guards", [guard.name for guard in policy.guards])
    return policy if policy.version else replace(policy, version=digest(repr(policy)))


_POLICY_KEYS = (
    "version",
    "max_age",
    "verify",
    "recut",
    "release_cooloff",
    "absorb_slack",
    "protected",
    "reconcile",
    "guards",
    "rules",
)


def _refuse_twins(entry: Entry, what: str, names: Sequence[str]) -> None:
    for index, one in enumerate(names):
        if one and one in names[:index]:
            first = names.index(one)
            entry.source.problems.append(
                f"{entry.path}.{what}[{index}].name: {what}[{first}] has this name too"
            )


def _duration_or_off(entry: Entry) -> Millis | None:
    return None if is_off(entry) else duration(entry)


def _verify(entry: Entry) -> tuple[Millis, ...]:
    if is_off(entry):
        return ()
    section = entry.section("after", required=("after",))
    after: tuple[Millis, ...] = section.read("after", one_or_each(duration), ())
    if list(after) != sorted(set(after)):
        raise entry.wrong("after: each check is expected to come later than the one before")
    return after


def _recut(entry: Entry) -> tuple[int, Millis]:
    section = entry.section("limit", "within", required=("limit", "within"))
    return section.read("limit", whole(0, 1000), 0), section.read("within", duration, 0)


def _rule(entry: Entry) -> Rule:
    section = entry.section("name", "when", "then", required=("name", "then"))
    return Rule(
        name=section.read("name", name, ""),
        when=section.read("when", _when, When()),
        then=section.read("then", _then, Then("none")),
    )


def _when(entry: Entry) -> When:
    section = entry.section(*(field.name for field in fields(When)))
    patterns = one_or_each(text)

    def globs(key: str, how: How[tuple[str, ...]] = patterns) -> tuple[str, ...] | None:
        return section.read(key, how, None)

    return When(
        category=globs("category"),
        severity=globs("severity", one_or_each(_glob("a severity", get_args(Severity)))),
        origin=globs("origin", one_or_each(_glob("an origin", get_args(Origin)))),
        tenant=globs("tenant"),
        regions=globs("regions", _any_region),
        key=globs("key"),
        min_confidence=section.read("min_confidence", number(0, 1), None),
        labels=section.read("labels", _labels, ()),
    )


def _glob(what: str, words: Collection[str], known: str | None = None) -> How[str]:
    """Return a reader of a glob that matches at least one of some words."""

    def read(entry: Entry) -> str:
        pattern = entry.text()
        if not any(matches((pattern,), word) for word in words):
            raise entry.wrong(f"{entry.show()} is not {what} ({known or ', '.join(words)})")
        return pattern

    return read


def _labels(entry: Entry) -> tuple[tuple[str, tuple[str, ...]], ...]:
    patterns, attempt = one_or_each(text), entry.source.attempt
    return tuple((key, attempt(patterns, one, ())) for key, one in entry.members().items())


def _then(entry: Entry) -> Then:
    section = entry.section(
        "action",
        "for",
        "max",
        "regions",
        "priority",
        "scope",
        "approval",
        "mode",
        "verify",
        "otherwise",
        required=("action",),
    )
    action = section.read("action", _action, None)
    then = Then(
        action=action or "none",
        length=section.read("for", _length, None),
        max_length=section.read("max", duration, None),
        regions=section.read("regions", _regions, "verdict"),
        priority=section.read("priority", one_of("a priority", PRIORITIES), None),
        scope=section.read("scope", one_of("a scope", ("stream", "session")), "stream"),
        approval=section.read("approval", _approval, False),
        mode=section.read("mode", one_of("a mode", get_args(Mode)), "live"),
        verify=section.read("verify", boolean, True),
        otherwise=section.read("otherwise", _action, None),
    )
    if action:
        _refuse_contradictions(entry, then, section.members)
    return then


def _refuse_contradictions(entry: Entry, then: Then, given: Mapping[str, Entry]) -> None:
    asked = {then.action, then.otherwise}
    lasting = [action for action in _LASTING if action in asked]
    wrong = {
        "for": ("for" in given and not lasting, f"{then.action} has no length; leave it out"),
        "max": ("max" in given and then.length not in (None, "requested"), "only goes with for: requested"),
        "regions": ("regions" in given and "block_regions" not in asked, "only goes with block_regions"),
    }
    problems = [f"{entry.path}.{key}: {sentence}" for key, (is_wrong, sentence) in wrong.items() if is_wrong]
    if lasting and "for" not in given:
        problems.append(
            f"{entry.path}.for: is required for {' and '.join(lasting)} (10m, 7d, permanent, requested)"
        )
    entry.source.problems.extend(problems)


def _length(entry: Entry) -> Length:
    value = entry.text()
    if value == "permanent":
        return "permanent"
    if value == "requested":
        return "requested"
    try:
        return duration(entry)
    except Mistake:
        raise entry.wrong(f"{entry.show()} is not a duration (10m, 7d, permanent)") from None


def _any_region(entry: Entry) -> tuple[str, ...]:
    return expand(one_or_each(_glob("a region", KNOWN, _CODES))(entry))


def _regions(entry: Entry) -> tuple[str, ...] | Literal["verdict"]:
    if isinstance(entry.node, yaml.ScalarNode) and entry.node.value == "verdict":
        return "verdict"
    return expand(one_or_each(_region)(entry))


def _region(entry: Entry) -> str:
    code = entry.text()
    if code not in KNOWN:
        raise entry.wrong(f"{entry.show()} is not a region (verdict, or {_CODES})")
    return code


def _approval(entry: Entry) -> bool:
    if is_off(entry):
        return False
    return one_of("an approval", ("required",))(entry) == "required"


def _guard(entry: Entry) -> Guard:
    shared = "share" in entry.members()
    needed = ("name", "share", "min") if shared else ("name", "max")
    section = entry.section("name", "max", "share", "min", "per", "actions", "except", required=needed)
    for key in {"max"} & section.members.keys() if shared else {"min"} & section.members.keys():
        other = "leave it out: share and min say how much" if shared else "only goes with share"
        entry.source.problems.append(f"{entry.path}.{key}: {other}")
    most = section.read("max", quota, Quota(1, 1))
    ways: tuple[PerWhat, ...] = ("tenant",) if shared else ("account", "tenant", "rule")
    return Guard(
        name=section.read("name", name, ""),
        limit=section.read("min", whole(1, 1_000_000), 1) if shared else most.limit,
        window=SHARE_WINDOW if shared else most.window,
        per=section.read("per", one_of("a way to count", ways), ways[0]),
        actions=section.read("actions", one_or_each(_action), ("forbid", "cut", "block_regions")),
        excepted=section.read("except", one_or_each(one_of("a priority", PRIORITIES), empty=True), ()),
        share=section.read("share", _share_of_streams, None),
    )


SHARE_WINDOW: Millis = 3_600_000
"""What a guard with a share counts within: the streams that it is a share of are those of the last hour."""


def _share_of_streams(entry: Entry) -> int:
    """Read a share, in ten thousandths."""
    found = round(share(entry) * WHOLE)
    if not found:
        raise entry.wrong(f"{entry.show()} is less than a guard can count (0.01%)")
    return found


def quota(entry: Entry) -> Quota:
    """Read ``N/DURATION``."""
    try:
        return parse_quota(entry.text())
    except ValueError:
        raise entry.wrong(f"{entry.show()} is not a quota (300/60s, 500/1d)") from None


def read_routes(entry: Entry, vendors: Mapping[str, VendorSpec | None]) -> tuple[Route, ...]:
    """Read the ``routes`` section. ``vendors``: each account's vendor, None where that could not be read."""

    def route(entry: Entry) -> Route:
        section = entry.section("match", "targets", required=("targets",))
        nothing: tuple[tuple[str, ...] | None, str | None] = (None, None)
        key, tenant = section.read("match", _match, nothing)
        return Route(section.read("targets", each(target), ()), key, tenant)

    def target(entry: Entry) -> TargetTemplate:
        section = entry.section(*(field.name for field in fields(TargetTemplate)), required=_ALWAYS)
        account = section.read("account", name, "")
        if account and account not in vendors:
            entry.source.problems.append(
                f"{entry.path}.account: {section.members['account'].show()} is not an account "
                f"({hint(account, vendors)})"
            )
        vendor = vendors.get(account)
        for operation in (vendor.serving("cut"), vendor.serving("forbid")) if vendor else ():
            missing = (
                [field for field in operation.needs if field not in section.members] if operation else []
            )
            entry.source.problems.extend(
                f"{entry.path}.{field}: is required by {account}" for field in missing
            )
        return TargetTemplate(
            account,
            app=section.read("app", _template, ""),
            stream=section.read("stream", _template, ""),
            push_domain=section.read("push_domain", _template, None),
            play_domain=section.read("play_domain", _template, None),
        )

    return each(route, empty=True)(entry)


_ALWAYS = ("account", "app", "stream")


def _match(entry: Entry) -> tuple[tuple[str, ...] | None, str | None]:
    section = entry.section("key", "tenant")
    return section.read("key", one_or_each(text), None), section.read("tenant", text, None)


def _template(entry: Entry) -> str:
    value = entry.text()
    for field in IN_BRACES.findall(value):
        if field not in FIELDS:
            known = " and ".join(f"{{{one}}}" for one in FIELDS)
            raise entry.wrong(f"{entry.show()} names an unknown field; known are {known}")
    return value
