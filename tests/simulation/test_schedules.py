"""The real engine through many schedules, by seed.

``MW_SEEDS=10000`` runs more of them; a failing seed replays alone with ``MW_SEED=n``.
"""

import os
from collections import Counter

import pytest

from tests.simulation.life import CRASHES, EVENTS, Life, events

SEEDS = int(os.environ.get("MW_SEEDS", "80"))
ONLY = os.environ.get("MW_SEED")


@pytest.mark.parametrize("seed", [int(ONLY)] if ONLY else range(SEEDS))
def test_the_promises_are_kept(seed: int) -> None:
    Life(seed).play(events(seed))


def test_a_seed_replays_exactly() -> None:
    def lived(seed: int) -> tuple[object, ...]:
        life = Life(seed)
        life.play(events(seed))
        return life.w.results, [call.id for granted in life.w.sent for call in granted.calls], life.seen

    assert lived(3) == lived(3)
    assert lived(3) != lived(4)


def test_everything_happens_that_may() -> None:
    seen: Counter[str] = Counter()
    for seed in range(12):
        life = Life(seed)
        life.play(events(seed))
        seen += life.seen
    assert {*EVENTS, *CRASHES} <= set(seen)
