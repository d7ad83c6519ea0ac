"""A bad deploy upstream: no more acts than the guard allows, whatever happens to the replicas."""

from collections.abc import Callable

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import cli
from tests.e2e.kafka.test_control import blocks, held
from tests.e2e.playing import verdict, wait_for
from worker.sandbox.load import ACTED, Load, Owed
from worker.sandbox.stage import Stage, plain

pytestmark = pytest.mark.kafka

MOST = 30
GUARD = {"name": "blast", "max": f"{MOST}/10m", "actions": ["forbid"], "except": ["critical"]}
CHANGES = {"policy": {"verify": "off", "guards": [GUARD]}}


def minors(load: Load, *names: str) -> None:
    """Add critical verdicts, each about a stream of its own, to a load."""
    for name in names:
        event = verdict(name, f"hw/{name}", "minors", severity="critical")
        load.records.append((0, plain(event)))
        load.owed[name] = Owed(ACTED, ("hw",))


def test_a_bad_deploy_is_held_over_a_crash_until_a_human_decides(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes=CHANGES)
    workers = [theatre.start_worker(name) for name in ("w1", "w2")]
    for worker in workers:
        play.ready(worker)
    config = theatre.configuration()
    load = play.verdicts(200, "hw")
    first, load.records = load.records[:50], load.records[50:]
    theatre.produce(record for _, record in first)
    wait_for(lambda: len(blocks(theatre)) >= MOST // 3, 30, "some are carried out")
    workers.pop(0).kill()
    minors(load, "a", "b", "c")
    play.play(theatre, load)
    workers.append(theatre.start_worker("w1"))
    play.ready(workers[-1])

    rooms, critical = {f"hw/room-{n}" for n in range(200)}, {"hw/a", "hw/b", "hw/c"}
    wait_for(
        lambda: rooms | critical == blocks(theatre).keys() | held(theatre).keys(), 60, "the others are held"
    )
    called = blocks(theatre).keys()
    assert called & held(theatre).keys() == set()
    assert critical <= called
    assert MOST // 3 <= len(called - critical) <= MOST
    wait_for(
        lambda: (
            sum(worker.metrics("moderation_parked", reason="guard") for worker in workers)
            == len(rooms - called)
        ),
        20,
        "the metric shows what waits",
    )
    assert any(worker.metrics("moderation_guard_open", guard="blast") for worker in workers)

    assert cli("guard", "release", "blast", "--config", config, "--by", "op") == (
        "guard blast: all that it has parked so far is let go: each is decided anew.\n"
    )
    wait_for(lambda: rooms <= blocks(theatre).keys(), 60, "what was held is carried out")

    theatre.produce(plain(verdict(f"late-{n}", f"hw/late-{n}", "violence")) for n in range(50))
    late = {f"hw/late-{n}" for n in range(50)}
    wait_for(lambda: late <= blocks(theatre).keys() | held(theatre).keys(), 30, "the rest is held again")
    waiting = late - blocks(theatre).keys()
    assert len(blocks(theatre).keys() - critical - rooms) + len(called - critical) <= MOST
    cli("guard", "reject", "blast", "--config", config, "--by", "op")
    for n in range(50):
        outcomes = frozenset({"cancelled"}) if f"hw/late-{n}" in waiting else ACTED
        load.owed[f"late-{n}"] = Owed(outcomes, ("hw",))
    play.balanced(theatre, load, workers, 60)
    assert not waiting & blocks(theatre).keys()
