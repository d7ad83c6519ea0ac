"""The load: the same for the same seed, and as good and bad as it says."""

from collections import Counter

import pytest

from worker.events.codec import Invalid, decode
from worker.events.partition import home_partition
from worker.sandbox.load import build

pytestmark = pytest.mark.sandbox

NOW = 1_790_000_000_000


def test_a_seed_always_gives_the_same_load_and_another_gives_another() -> None:
    assert build(1, 200, NOW, 10_000) == build(1, 200, NOW, 10_000)
    assert build(1, 200, NOW, 10_000) != build(2, 200, NOW, 10_000)


@pytest.mark.parametrize("seed", range(5))
def test_a_load_is_what_it_says(seed: int) -> None:
    load = build(seed, 300, NOW, 20_000)
    found = [decode(r.key, r.value, r.headers, NOW + at) for at, r in load.records]
    assert sum(isinstance(one, Invalid) for one in found) == load.dead_letters > 0
    ids = Counter(
        getattr(one.event, "verdict_id", None) or getattr(one.event, "command_id", None)
        for one in found
        if not isinstance(one, Invalid)
    )
    assert set(ids) == set(load.owed) == {e.get("verdict_id") or e["command_id"] for e in load.events}
    assert max(ids.values()) > 1, "some come twice"
    strays = [
        record
        for (_, record), one in zip(load.records, found, strict=True)
        if not isinstance(one, Invalid)
        and record.partition != home_partition(one.stream_key.encode(), 4, "murmur2")
    ]
    assert strays
    assert all(0 <= at <= 20_000 for at, _ in load.records)
    assert [at for at, _ in load.records] == sorted(at for at, _ in load.records)
    outcomes = {outcome for owed in load.owed.values() for outcome in owed.outcomes}
    assert {"stale", "wrong_session", "shadow", "released", "cancelled", "failed/config"} <= outcomes
    forms = {tuple(name for name, _ in record.headers)[:1] for _, record in load.records}
    assert {(), ("ce_specversion",), ("content-type",)} <= forms
