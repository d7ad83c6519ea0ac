"""Whatever the vendors and the machine do, the books balance: one terminal result for each debt."""

from collections.abc import Callable

import pytest

from tests.e2e.kafka import play
from tests.e2e.playing import now
from worker.sandbox import load
from worker.sandbox.stage import Stage
from worker.words import Millis

pytestmark = pytest.mark.kafka


def test_two_thousand_verdicts_while_one_answer_in_ten_goes_wrong(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes=play.CHANGES, simulators=play.SIMULATORS, script=play.FAULTS)
    worker = theatre.start_worker()
    play.ready(worker)
    events = load.build(1, 2000, now())
    play.play(theatre, events)
    play.balanced(theatre, events, [worker], 150)
    assert not play.unexplained(theatre, events)


def test_a_worker_that_is_killed_twice(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes=play.CHANGES, simulators=play.SIMULATORS, script=play.FAULTS)
    workers = [theatre.start_worker()]
    play.ready(workers[0])
    crashes: list[Millis] = []

    def crash() -> None:
        crashes.append(now())
        workers[-1].kill()
        workers.append(theatre.start_worker())

    events = load.build(2, 2000, now(), 8_000)
    play.play(theatre, events, [(4_000, crash), (10_000, crash)])
    play.balanced(theatre, events, workers[-1:], 150)
    assert not play.unexplained(theatre, events, crashes)
