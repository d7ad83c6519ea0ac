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
            _take_apart(life)
            if number % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect()
                gc.freeze()  # nor what has come to stay, as the states that are kept by their bytes
    finally:
        logging.disable(before)
        gc.unfreeze()
        if enabled:
            gc.enable()


def _take_apart(life: Life) -> None:
    """Cut what holds a life together in a circle: most of it then goes without being looked for."""
    for replica in life.replicas:
        vars(replica.engine).clear()
        vars(replica).clear()
    vars(life).clear()
