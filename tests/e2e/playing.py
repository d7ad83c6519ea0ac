"""What the end-to-end tests do on a stage: play a load, wait, and open the books."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from worker.events.times import format_rfc3339
from worker.sandbox.books import Books
from worker.sandbox.load import Load, build
from worker.sandbox.stage import ACCOUNTS, Incoming, Stage
from worker.words import Millis

BRISK = {
    "kafka": {"session_timeout": "4s"},
    "accounts": {name: {"timeout_s": 1} for name in ACCOUNTS},
    "policy": {"verify": {"after": ["500ms", "1s", "3s"]}},
}
"""Changes to the stage's configuration: nothing that is waited for takes its time."""


def now() -> Millis:
    return time.time_ns() // 1_000_000


def wait_for(condition: Callable[[], object], timeout_s: float, what: str, pause_s: float = 0.05) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(pause_s)


def set_up(stage: Stage, seed: int, events: int) -> Load:
    """Return a load whose live streams are live."""
    load = build(seed, events, now(), partitions=stage.kafka.partitions)
    for encoder in load.live:
        stage.go_live(*encoder)
    return load


def records(load: Load) -> list[Incoming]:
    return [record for _, record in load.records]


def pour(stage: Stage, given: Sequence[Incoming], seconds: float) -> None:
    """Publish records evenly over some time."""
    start = time.monotonic()
    for i, record in enumerate(given):
        stage.produce([record])
        time.sleep(max(0.0, start + seconds * (i + 1) / len(given) - time.monotonic()))


def books(stage: Stage, load: Load) -> Books:
    return Books(
        load.owed,
        load.dead_letters,
        stage.results(),
        stage.dead_letters(),
        stage.vendor_log(),
        stage.vendor_stats(),
        stage.states(),
        stage.vendor_state(),
        ACCOUNTS,
        now(),
    )


def verdict(name: str, key: str, category: str = "nudity", **fields: Any) -> dict[str, Any]:
    return {
        "verdict_id": name,
        "stream": {"key": key},
        "detected_at": format_rfc3339(now()),
        "category": category,
        "severity": "high",
        **fields,
    }


def outcomes(results: Iterable[dict[str, Any]], name: str) -> list[str]:
    """The outcomes of a verdict or command, in order; a star marks a terminal one."""
    return [
        result["outcome"] + ("*" if result["terminal"] else "")
        for result in results
        if name in (result["verdict_id"], result["command_id"])
    ]


def under_way(stage: Stage) -> int:
    """How many calls were granted and have no answer yet, as the state topic says."""
    return sum(
        "call" in target for state in stage.states().values() for target in state.get("targets", {}).values()
    )


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
