"""Verdict -> Decision: which rule applies, and what it asks for."""

from dataclasses import dataclass
from typing import Literal

from worker.words import Action, ErrorClass, Millis, Mode, Priority

Length = Millis | Literal["permanent", "requested"]
"""How long an action lasts: milliseconds, for ever, or what the verdict asked for."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the first that matches decides."""

    name: str
    when: When
    then: Then


@dataclass(frozen=True, slots=True)
class Guard:
    """At most ``limit`` of ``actions`` within ``window`` for each account, tenant or rule; the rest parks."""

    name: str
    limit: int
    window: Millis
    per: Literal["account", "tenant", "rule"]
    actions: tuple[Action, ...]
    excepted: tuple[Priority, ...] = ()


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
