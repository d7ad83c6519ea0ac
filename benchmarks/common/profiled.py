"""The worker with a stopwatch in it: CPU time by part, for ``python -m benchmarks.accept --profile``.

Usage: ``python -m benchmarks.common.profiled CONFIG OUT``. At its start and on SIGUSR1 it writes the CPU
seconds used so far by each part and each thread to OUT, as JSON; the difference of two such moments is a
profile. The time of a part does not contain that of the parts it calls.
"""

import gc
import json
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from worker import app
from worker.core import stream
from worker.runtime import engine, intake, journal
from worker.runtime.partition import Partition
from worker.settings import load

PARTS: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "decode": ((intake, "decode"),),
    "home partition": ((intake, "home_partition"),),
    "step": ((stream, "step"),),
    "encode results": ((engine, "encode_result"),),
    "encode states": ((Partition, "seal"),),
    "count": ((app._Worker, "_observe"),),  # noqa: SLF001 - the stopwatch goes where the work is
    "produce": ((journal, "_send"),),
    "transaction": ((journal.Journal, "_transaction"),),
}
"""Which functions make up a part."""

_used: dict[str, float] = defaultdict(float)
_running: dict[int, list[float]] = defaultdict(list)


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its CPU time, less that of timed functions it calls, added to a part."""

    @wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        inner = _running[threading.get_ident()]
        inner.append(0.0)
        began = time.thread_time()
        try:
            return function(*given, **named)
        finally:
            whole = time.thread_time() - began
            _used[part] += whole - inner.pop()
            if inner:
                inner[-1] += whole

    return wrapper


_collecting_since = 0.0


def collecting(phase: str, _about: object) -> None:
    """Add a garbage collection to a part of its own: it strikes whoever allocates next."""
    global _collecting_since  # noqa: PLW0603 - the interpreter collects in one thread at a time
    if phase == "start":
        _collecting_since = time.thread_time()
        return
    whole = time.thread_time() - _collecting_since
    _used["garbage collection"] += whole
    if inner := _running[threading.get_ident()]:
        inner[-1] += whole


def used() -> dict[str, dict[str, float]]:
    """Return the CPU seconds used so far, by part and by thread; ``process``: all threads, ended ones too."""
    threads = {
        thread.name: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None
    }
    return {"parts": dict(_used), "threads": threads, "process": {"all": time.process_time()}}


def main(config: str, out: str) -> int:
    """Run the worker until it is told to end."""
    for part, places in PARTS.items():
        for owner, name in places:
            setattr(owner, name, timed(part, getattr(owner, name)))

    gc.callbacks.append(collecting)

    def tell(_number: int = 0, _frame: object = None) -> None:
        draft = Path(f"{out}.draft")
        draft.write_text(json.dumps(used()), encoding="utf-8")
        draft.rename(out)

    signal.signal(signal.SIGUSR1, tell)
    tell()
    return app.run(load(config))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
