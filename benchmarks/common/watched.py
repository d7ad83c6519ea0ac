"""The worker under observation: ``python -m benchmarks.common.watched OUT run --config F``.

It forgets streams and ids a minute after they are over instead of an hour or a day, so that within minutes as
much is forgotten as is new. Its bounded caches are emptied every ten seconds: with new names they would fill
for an hour, and only then be level. Once a second it writes to OUT, as JSON, what cannot be seen from
outside: the names of its threads and the number of its asyncio tasks.
"""

import asyncio
import gc
import json
import sys
import threading
import time
from functools import _lru_cache_wrapper
from itertools import count
from pathlib import Path

from worker.cli import main
from worker.core import accept, orders
from worker.runtime.caller import Caller
from worker.words import Millis

REMEMBERS: Millis = 60_000
EMPTIED_EVERY_S = 10


def forget_soon() -> None:
    """Remember for a minute what is remembered for an hour or a day."""
    accept.SEEN_AFTER_EXPIRY = REMEMBERS  # type: ignore[attr-defined]  # it comes from another module
    orders.SESSION_KEPT = orders.COMMANDS_SEEN_FOR = REMEMBERS


def empty_caches() -> None:
    """Empty the worker's caches that have a bound; what grows in one without stays to be seen.

    The collector does not show what the worker has told it to pass over: it is told otherwise first.
    """
    gc.unfreeze()
    for found in gc.get_objects():
        if not isinstance(found, _lru_cache_wrapper) or not (found.__module__ or "").startswith("worker."):
            continue
        if found.cache_parameters()["maxsize"] is not None:
            found.cache_clear()


def tell_of(out: Path) -> None:
    """Write once a second what lives in this process."""
    callers: list[Caller] = []
    start = Caller.start

    def known(self: Caller) -> None:
        callers.append(self)
        start(self)

    Caller.start = known  # type: ignore[method-assign]  # to find the loop that its thread runs

    def write() -> None:
        for second in count():
            if second % EMPTIED_EVERY_S == 0:
                empty_caches()
            loops = [caller._loop for caller in callers]  # noqa: SLF001 - nothing else knows the loop
            tasks = sum(len(asyncio.all_tasks(loop)) for loop in loops if loop is not None)
            threads = sorted(thread.name for thread in threading.enumerate())
            draft = out.with_suffix(".draft")
            draft.write_text(json.dumps({"tasks": tasks, "threads": threads}), "utf-8")
            draft.replace(out)
            time.sleep(1)

    threading.Thread(target=write, name="watch", daemon=True).start()


if __name__ == "__main__":
    forget_soon()
    tell_of(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
