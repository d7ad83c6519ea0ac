"""Two and three replicas: one dies, one is replaced, one is frozen; nobody does another's work."""

import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from tests.e2e.kafka import play
from worker.events.partition import home_partition
from worker.sandbox import load
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.words import Millis

pytestmark = pytest.mark.kafka
log = logging.getLogger(__name__)


@pytest.mark.parametrize("replicas", [2, 3])
def test_one_dies_for_good_and_one_is_replaced(stage: Callable[..., Stage], replicas: int) -> None:
    theatre = stage(changes=play.CHANGES, simulators=play.SIMULATORS, script=play.FAULTS)
    workers = [theatre.start_worker(f"w{n}") for n in range(replicas)]
    for worker in workers:
        play.ready(worker)
    crashes: list[Millis] = []

    def die() -> None:
        crashes.append(play.now())
        workers.pop(0).kill()

    def replace() -> None:
        old = workers.pop()
        old.terminate()
        assert old.wait(30) == 0
        workers.append(theatre.start_worker(f"w{replicas - 1}"))

    events = load.build(10 + replicas, 600, play.now(), 6_000)
    play.play(theatre, events, [(2_500, die), (4_000, replace)])
    play.balanced(theatre, events, workers, 120)
    assert not play.unexplained(theatre.vendor_log(), crashes)


def restored(worker: WorkerProcess, since: Millis) -> dict[int, Millis]:
    """Return when a worker got each partition for the first time since a moment, from its log."""
    found: dict[int, Millis] = {}
    for line in worker.logged():
        words = str(line.get("message")).split()
        at = round(datetime.fromisoformat(str(line["time"])).timestamp() * 1000)
        if words[:2] == ["restored", "partition"] and at >= since:
            found.setdefault(int(words[2].rstrip(":")), at)
    return found
