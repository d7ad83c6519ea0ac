"""Real engines through many schedules, by seed.

``MW_SEEDS=100000`` runs more of them; a failing seed replays alone with ``MW_SEED=n``.
"""

import os
from collections import Counter

import pytest

from tests.simulation.life import CRASHES, EVENTS, LATER, Life, events
from tests.simulation.many import lives

SEEDS = int(os.environ.get("MW_SEEDS", "10000"))
CHUNK = 500
ONLY = os.environ.get("MW_SEED")


@pytest.mark.parametrize("first", [int(ONLY)] if ONLY else range(0, SEEDS, CHUNK))
def test_the_promises_are_kept(first: int) -> None:
    seeds = [first] if ONLY else range(first, min(first + CHUNK, SEEDS))
    broken = [f"MW_SEED={seed}: {said}" for seed, said, _ in lives(seeds) if said is not None]
    assert not broken, "\n".join(broken[:5])


def test_a_seed_replays_exactly() -> None:
    def lived(seed: int) -> tuple[object, ...]:
        life = Life(seed)
        life.play(events(seed, 150))
        return life.w.results, [c.id for r in life.replicas for g in r.sent for c in g.calls], life.seen

    assert lived(3) == lived(3)
    assert lived(3) != lived(4)


def test_everything_happens_that_may() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        life = Life(seed)
        life.play(events(seed, 120))
        seen += life.seen
    assert {*EVENTS, *CRASHES, *LATER} <= set(seen)
