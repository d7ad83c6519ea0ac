"""How much goes wrong in a run of ``benchmarks/chaos.py``, on what stage, and what was found."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.common import report
from tests.e2e.kafka import play
from worker.sandbox.stage import POLICY
from worker.words import Millis

CDN: Mapping[str, tuple[int, Millis]] = {
    "writes": (2_000, 20_000),
    "all": (2_000, 20_000),
    "forbid_query": (800, 10_000),
}
CHANGES: Mapping[str, Any] = {
    **play.CHANGES,
    "accounts": {
        **play.CHANGES["accounts"],
        "hw": {"timeout_s": 1, "quotas": {"block_once": "3000/60s"}},
        "cdn": {"timeout_s": 1, "quotas": {name: f"{n}/{window}ms" for name, (n, window) in CDN.items()}},
    },
}
SIMULATORS: Mapping[str, Any] = {
    "huawei": {"quotas": {"block_once": [(3_000, 60_000)]}},
    "cdnetworks": {
        "quotas": {"writes": [CDN["writes"]], "requests": [CDN["all"]], "forbid_query": [CDN["forbid_query"]]}
    },
}


def _lasting(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a rule whose ban does not end while a run lasts: what is called at an end is in no result."""
    then = {name: word for name, word in rule["then"].items() if name != "max"}
    return {**rule, "then": {**then, "for": "6h"}} if then["action"] == "forbid" else rule


LASTING: Mapping[str, Any] = {**CHANGES["policy"], "rules": [_lasting(rule) for rule in POLICY["rules"]]}


@dataclass(frozen=True)
class Plan:
    """How much of what. ``pause`` lies between two troubles, in seconds; so much of each is one trouble.

    ``away_s``: how long the broker stays away once; ``refused_s``: how long one vendor answers 503.
    """

    seed: int = 0
    verdicts: int = 20_000
    kills: int = 100
    brokers: int = 6
    zombies: int = 6
    others: int = 3
    pause: tuple[float, float] = (2.0, 4.0)
    away_s: float = 60.0
    refused_s: float = 300.0
    patience_s: float = 600.0


@dataclass
class Report:
    """What was done and found. ``repeated``: each change made twice, and why; ``wrong``: what is amiss.

    ``hanging``: the transactions that Kafka left open for an operator to end.
    """

    events: int = 0
    results: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    recoveries: dict[str, list[Millis]] = field(default_factory=lambda: defaultdict(list))


def tell(found: Report) -> None:
    """Print a report."""
    for sentence in found.repeated:
        print(f"repeated: {sentence}")
    for sentence in found.hanging:
        print(f"a transaction hung: {sentence}")
    for sentence in found.wrong:
        print(f"WRONG: {sentence}")
    report.show("Troubles", ("what", "times"), sorted(found.troubles.items()))
    rows = [
        (what, f"{median(ms):.0f}", f"{max(ms):.0f}", len(ms)) for what, ms in found.recoveries.items() if ms
    ]
    report.show("From a kill to", ("what", "p50, ms", "max, ms", "number"), rows)
    figures = [
        ("events", found.events),
        ("results", found.results),
        ("repeated changes", len(found.repeated)),
        ("transactions that hung", len(found.hanging)),
        ("wrong", len(found.wrong)),
    ]
    report.show("Books", ("what", "number"), figures)
