"""A vendor that throttles: a replica that nobody tells is refused what it had under way, and no more."""

from collections.abc import Iterator

import pytest

from tests.runtime.engine_world import NOW, SECOND, World
from worker.core.outcome import Throttled
from worker.words import Millis

TRIP: Millis = 50
"""From a request to its answer."""
OVER = NOW + 30 * SECOND
"""Until then the vendor refuses every call of the account, and says for how much longer."""
CONCURRENCY = 10
ORDINARY = 9
"""As many of them at once are not critical."""


def refused(w: World, until: Millis) -> Iterator[Millis]:
    """Let the worker work; yield when each request left that was throttled."""
    left: dict[int, Millis] = {}  # by the request's place among those sent
    while w.clock.at < until:
        left |= dict.fromkeys(range(len(left), len(w.sent)), w.clock.at)
        for place, granted in enumerate(w.sent):
            if granted in w.under_way and w.clock.at - left[place] >= TRIP:
                if left[place] < OVER:
                    yield left[place]
                    w.answer(granted, Throttled(OVER - w.clock.at), started_at=left[place])
                else:
                    w.answer(granted, started_at=left[place])
        w.settle(1, answering=False)


@pytest.mark.parametrize(("at_once", "times"), [(20, ORDINARY), (1, 1)], ids=["queue", "one by one"])
def test_a_throttled_replica_sends_nothing_more_until_the_vendors_wait_is_over(
    at_once: int, times: int
) -> None:
    """Word from another replica would have to come before the first answer of its own to save a request."""
    w = World(partitions=1, concurrency=CONCURRENCY)
    w.assign()
    names, found = [], []
    for second in range(10):
        names += [w.verdict(f"s{second}.{n}") for n in range(at_once)]
        found += list(refused(w, NOW + (second + 1) * SECOND))
    assert len(found) == times
    assert not list(refused(w, OVER))
    w.settle(2_000)
    assert [w.outcomes(name) for name in names] == [["applied"]] * len(names)
