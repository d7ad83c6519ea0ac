"""The figures of a summary."""

from typing import Any

import pytest

from worker.events.times import format_rfc3339
from worker.sandbox.summary import answered, once, percentile, to_action, to_dark

pytestmark = pytest.mark.sandbox

NOW = 1_790_000_000_000


def result(name: str, outcome: str, *, acted: int | None = None, dark: int | None = None) -> dict[str, Any]:
    def moment(after: int | None) -> str | None:
        return None if after is None else format_rfc3339(NOW + after)

    return {
        "result_id": name,
        "verdict_id": name,
        "command_id": None,
        "target": {"account": "hw"},
        "outcome": outcome,
        "reason": "policy",
        "terminal": outcome == "verified",
        "timing": {"detected_at": moment(0), "answered_at": moment(acted), "verified_at": moment(dark)},
    }


def test_lengths_are_those_of_actions_and_verifications() -> None:
    results = [
        result("a", "applied", acted=300),
        result("b", "applied", acted=100),
        result("b", "verified", acted=100, dark=1100),
        result("c", "absorbed"),
        result("d", "applied", acted=50) | {"reason": "released"},
    ]
    assert to_action(results) == [100, 300]
    assert to_dark(results) == [1100]
    assert answered(results) == {("b", "hw")}
    assert len(once([*results, results[0]])) == 4


def test_percentiles_are_lengths_that_occurred() -> None:
    lengths = list(range(1, 101))
    assert [percentile(lengths, share) for share in (0.01, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert percentile([7], 0.5) == 7
    assert percentile([1, 2], 0.5) == 1
    assert percentile([], 0.5) == 0
