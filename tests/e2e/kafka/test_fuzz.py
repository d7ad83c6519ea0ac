"""Fuzzed records through the decoder and a real worker: each is decided, or goes aside as it was."""

from collections.abc import Callable

import pytest

from benchmarks.fuzz import carried, decoded
from worker.sandbox.stage import Stage


def test_twenty_thousand_records_are_understood_or_refused_for_a_reason() -> None:
    found = decoded(1, 20_000)
    assert set(found) == {"understood", "schema", "envelope", "json", "encoding", "type", "enum", "time"}


@pytest.mark.kafka
def test_two_thousand_records_through_a_worker(stage: Callable[..., Stage]) -> None:
    assert carried(stage(), 1, 2_000) == []
