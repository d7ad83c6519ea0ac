"""Two and three replicas: one dies, one is replaced, one is frozen; nobody does another's work."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.e2e.kafka import play
from tests.e2e.playing import now, wait_for
from worker.events.partition import home_partition
from worker.sandbox import load
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess

pytestmark = pytest.mark.kafka
log = logging.getLogger(__name__)


@pytest.mark.parametrize("replicas", [2, 3])
def test_one_dies_for_good_and_one_is_replaced(stage: Callable[..., Stage], replicas: int) -> None:
    theatre = stage(changes=play.CHANGES, simulators=play.SIMULATORS, script=play.FAULTS)
    workers = [theatre.start_worker(f"w{n}") for n in range(replicas)]
    for worker in workers:
        play.ready(worker)
    everyone, crashes = list(workers), []

    def die() -> None:
        crashes.append(now())
        workers.pop(0).kill()

    def replace() -> None:
        old = workers.pop()
        old.terminate()
        assert old.wait(30) == 0
        workers.append(theatre.start_worker(f"w{replicas - 1}"))
        everyone.append(workers[-1])

    events = load.build(10 + replicas, 600, now(), 6_000)
    play.play(theatre, events, [(2_500, die), (4_000, replace)])
    play.balanced(theatre, events, workers, 120)
    moves = [at for worker in everyone for at, _ in play.restored(worker)]
    assert not play.unexplained(theatre, events, [*crashes, *moves])


@contextmanager
def signing_as(theatre: Stage, instance: str, key: str) -> Iterator[WorkerProcess]:
    """Start a replica whose requests to Huawei can be told from the others'."""
    path = theatre.configuration(instance)
    settings = yaml.safe_load(path.read_text("utf-8"))
    settings["accounts"]["hw"]["access_key"] = key
    path.write_text(yaml.safe_dump(settings), "utf-8")
    with WorkerProcess(path, theatre.folder / f"{instance}.log") as worker:
        yield worker


def test_a_frozen_replica_makes_no_call_for_what_it_has_lost(stage: Callable[..., Stage]) -> None:
    keys = {"sandbox-key": "sandbox-secret", "frozen-key": "sandbox-secret"}
    theatre = stage(
        simulators={"huawei": {"accounts": keys}},
        script=[{"vendor": "huawei", "operation": "*", "effect": "delay_ms", "ms": 400}],
        changes={"policy": {"verify": "off"}, "kafka": play.CHANGES["kafka"]},
    )
    with signing_as(theatre, "w1", "frozen-key") as frozen:
        other = theatre.start_worker("w2")
        play.ready(frozen)
        play.ready(other)
        wait_for(lambda: len(play.restored(other)) == 2, 20, "the partitions are shared")
        events = play.verdicts(600, "hw")
        play.play(theatre, events)
        time.sleep(3)
        os.kill(frozen.pid, signal.SIGSTOP)
        stopped = now()
        lost = set(range(4)) - {number for _, number in play.restored(other)}
        assert len(lost) == 2
        # A transaction that it left open holds up its partition until the brokers end it.
        wait_for(
            lambda: lost <= {number for _, number in play.restored(other, stopped)},
            90,
            "the other replica takes over",
        )
        time.sleep(2)
        os.kill(frozen.pid, signal.SIGCONT)
        thawed = now()
        play.balanced(theatre, events, [other, frozen], 60)
        again = {number: at for at, number in reversed(play.restored(frozen, thawed))}
        moves = [at for worker in (other, frozen) for at, _ in play.restored(worker)]
    calls = [call for call in theatre.vendor_log() if call["account"] == "frozen-key"]
    before = [call for call in calls if call["at_ms"] < stopped]
    after = [call for call in calls if call["at_ms"] > thawed]
    log.info("frozen for %d ms; calls before %d, after %d", thawed - stopped, len(before), len(after))
    assert before
    for call in after:
        home = home_partition(f"hw/{call['stream']}".encode(), 4, "murmur2")
        assert home in again, "it never got this partition again"
        assert call["at_ms"] >= again[home]
    assert not play.unexplained(theatre, events, [stopped, *moves])
