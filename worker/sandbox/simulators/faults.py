"""Faults by script: which calls go wrong, and how. Deterministic: same seed, same calls, same faults.

A script is a JSON list of rules, for example::

    [{"operation": "block", "effect": "done_then_hang", "first": 1},
     {"operation": "*", "effect": "delay_ms", "ms": 200, "probability": 0.1, "seed": 7},
     {"operation": ["forbid", "stop"], "effect": "status", "status": 502, "body": "Bad Gateway", "every": 5},
     {"operation": "block", "effect": "error_code", "code": "LIVE.103011021", "status": 400}]

A rule fires on each call of its operation, or on those that ``first``, ``every`` or ``probability``
select. Delays add up; of the other effects the first rule that fires decides.

==================  ====================================================================
effect              what happens
==================  ====================================================================
``delay_ms``        ``ms`` pass before anything is done
``throttle``        the vendor's throttled answer (``retry_after_ms`` where it has one)
``status``          ``status`` and ``body`` (a text or JSON), nothing done
``error_code``      the vendor's error answer with ``code``, ``status``, ``message``; nothing done
``hang``            nothing done, no answer ever
``reset_before``    nothing done, connection reset
``done_then_hang``  done, no answer ever
``done_then_reset`` done, connection reset instead of an answer
``truncated``       done, the answer ends in the middle
``garbage``         done, the answer's body is unreadable
==================  ====================================================================
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.words import Millis

EFFECTS = frozenset(
    {
        "delay_ms",
        "throttle",
        "status",
        "error_code",
        "hang",
        "reset_before",
        "done_then_hang",
        "done_then_reset",
        "truncated",
        "garbage",
    }
)
_NEEDS = {"delay_ms": "ms", "status": "status", "error_code": "code"}
_SELECTORS = {"probability", "every", "first"}
_KEYS = {"vendor", "operation", "effect", "seed", "ms", "status", "body", "code", "message", "retry_after_ms"}


@dataclass(slots=True)
class Rule:
    """One rule of a script. Raises ValueError, naming the key, for a rule that makes no sense."""

    spec: Mapping[str, Any]
    fired: int = 0
    _seen: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        unknown = set(self.spec) - _KEYS - _SELECTORS
        if unknown:
            raise ValueError(f"unknown key in a fault rule: {', '.join(sorted(unknown))}")
        if self.effect not in EFFECTS:
            raise ValueError(f"effect must be one of {', '.join(sorted(EFFECTS))}")
        if (needed := _NEEDS.get(self.effect)) and needed not in self.spec:
            raise ValueError(f"effect {self.effect} needs {needed}")
        if len(_SELECTORS & set(self.spec)) > 1:
            raise ValueError("a fault rule takes one of probability, every, first")
        self._random = random.Random(self.spec.get("seed", 0))

    @property
    def effect(self) -> str:
        """The rule's effect, a word of EFFECTS."""
        return str(self.spec.get("effect"))

    def fires(self, operation: str | None) -> bool:
        """Count a call, if it is one of this rule's, and say whether the rule fires on it."""
        wanted = self.spec.get("operation", "*")
        if wanted != "*" and operation not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
        self._seen += 1
        if "first" in self.spec:
            fires = self._seen <= int(self.spec["first"])
        elif "every" in self.spec:
            fires = self._seen % int(self.spec["every"]) == 0
        else:
            fires = self._random.random() < float(self.spec.get("probability", 1.0))
        self.fired += fires
        return fires


class Script:
    """The rules in force."""

    def __init__(self, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        self.rules = [Rule(rule) for rule in rules]

    def pick(self, operation: str | None) -> tuple[Millis, Rule | None]:
        """Return how long a call is delayed and the rule that spoils it, if any."""
        delay, chosen = 0, None
        for rule in self.rules:
            if not rule.fires(operation):
                continue
            if rule.effect == "delay_ms":
                delay += int(rule.spec["ms"])
            elif chosen is None:
                chosen = rule
        return delay, chosen
