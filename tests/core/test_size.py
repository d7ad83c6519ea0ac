"""A stream's record stays below what brokers take (1 MiB), whatever is said about the stream."""

import pytest

from tests.core.machine import Machine, said
from worker.core.accept import WAITING_MOST
from worker.core.state import encode

LARGEST = 1_048_576 // 3
"""A stream usually runs at one place, and may run at three."""


@pytest.mark.parametrize(("category", "refused"), [("doubtful", 0), ("odd", 50)])
def test_what_waits_is_bounded(category: str, refused: int) -> None:
    """Of demands alike that wait for a human all but the first are absorbed; reads are refused at last."""
    m = Machine()
    told = [
        outcome
        for n in range(WAITING_MOST + 50)
        for _, outcome in said(m.verdict(category, verdict_id=f"v-{n}"))
    ]
    assert told.count("failed*") == refused
    assert m.state is not None
    assert len(encode(m.state)) < LARGEST
    m.verdict("minors", verdict_id="worse")
    assert m.state is not None
    (target,) = m.state.targets.values()
    assert [hold.category for hold in target.holds][-1] == "minors"
