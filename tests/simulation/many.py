"""Many lives one after the other. Garbage is collected seldom: that would cost a third of the time."""

import gc
import logging
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.simulation.life import Life, events
from tests.simulation.shrink import failure

COLLECT_EVERY = 50


def lives(seeds: Iterable[int]) -> Iterator[tuple[int, str | None, Counter[str]]]:
    """Yield each seed, what it broke, and what happened in it."""
    before, enabled = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    gc.collect()
    gc.freeze()  # what is there already need not be looked through each time
    try:
        for number, seed in enumerate(seeds):
            life = Life(seed)
            yield seed, failure(life, events(seed)), life.seen
            if number % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect()
    finally:
        logging.disable(before)
        gc.unfreeze()
        if enabled:
            gc.enable()
