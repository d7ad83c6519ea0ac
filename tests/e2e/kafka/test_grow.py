"""The verdict topic grows, and what is in force is not forgotten: states move to their new homes."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import answered, bans, cli
from tests.e2e.playing import now, verdict, wait_for
from worker.commands import Failure
from worker.commands.parts import growing
from worker.core import ledger
from worker.core.state import LEDGER
from worker.events.partition import home_partition
from worker.events.times import format_rfc3339
from worker.runtime import topics
from worker.sandbox.reading import TopicReader
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.settings import load

pytestmark = pytest.mark.kafka

KEYS = [f"hw/room-{n}" for n in range(12)]
BEFORE, AFTER = 4, 7


def places(theatre: Stage) -> dict[str, list[int]]:
    """Return the partitions in which each stream has a state."""
    reader = TopicReader(theatre.kafka.topics["state"], theatre.kafka.options())
    last = {(r.key.decode(errors="replace"), r.partition): r.value for r in reader.read()}
    reader.close()
    found: dict[str, list[int]] = {}
    for (key, partition), value in last.items():
        if value is not None and key in KEYS:
            found.setdefault(key, []).append(partition)
    return found


def homes(partitions: int) -> dict[str, list[int]]:
    return {key: [home_partition(key.encode(), partitions, "murmur2")] for key in KEYS}


def release(key: str) -> dict[str, Any]:
    given = {"command_id": f"c-{key}", "command": "release", "by": "mod", "issued_at": format_rfc3339(now())}
    return {**given, "stream": {"key": key}}


class Crash(Exception):  # noqa: N818 - what happens
    """The power fails."""


def crash_when_moving(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    """Grow, and fail after one transaction, in the middle of the second."""
    carry_out, settle = growing._carry_out, growing._settle
    done: list[Any] = []

    def once(settings: Any, moves: Any) -> None:
        carry_out(settings, moves)
        done.append(moves)

    def fails(producer: Any, futures: Any) -> None:
        settle(producer, futures)
        if done:
            raise Crash  # the new homes are written, the old ones not emptied

    settings = load(str(config)).kafka
    with monkeypatch.context() as patched:
        patched.setattr(growing, "_carry_out", once)
        patched.setattr(growing, "_settle", fails)
        with pytest.raises(Crash):
            growing.grow(settings, lambda _: None, at_once=2)


def test_streams_keep_what_is_in_force_when_the_topics_grow(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    theatre = stage(changes={"policy": {"verify": "off"}, "kafka": {"session_timeout": "3s"}})
    config = theatre.configuration()
    settings = load(str(config)).kafka
    with WorkerProcess(config, theatre.folder / "before.log") as worker:
        play.ready(worker)
        theatre.produce(verdict(f"v-{key}", key, "violence") for key in KEYS)
        wait_for(lambda: all(answered(theatre, f"v-{key}") for key in KEYS), 30, "all are in force")
        topics.enlarge(settings, settings.topics.verdicts, AFTER)
        with pytest.raises(Failure, match=r"workers are running \(w1\): stop them all"):
            growing.grow(settings, lambda _: None)
        worker.terminate()
        assert worker.wait(30) == 0
    assert places(theatre) == homes(BEFORE)

    crash_when_moving(monkeypatch, config)
    in_two = [key for key, found in places(theatre).items() if len(found) != 1]
    assert in_two == []
    assert homes(BEFORE) != places(theatre) != homes(AFTER)
    with WorkerProcess(config, theatre.folder / "between.log") as worker:
        assert worker.wait(30) == 1
        (complaint,) = play.complaints(worker)
        assert "`moderation-worker topics grow`" in complaint["message"]

    told = cli("topics", "grow", "--config", config)
    assert f"{settings.topics.results}: {BEFORE} -> {AFTER} partitions" in told
    assert places(theatre) == homes(AFTER)
    full = {
        r.partition for r in theatre.records("state") if r.key == LEDGER and ledger.decode(r.value).full_at
    }
    assert full == set(range(BEFORE, AFTER)), "their slots were others' until now"
    again = cli("topics", "grow", "--config", config)
    assert f"{settings.topics.state}: 0 states moved" in again

    with WorkerProcess(config, theatre.folder / "after.log") as worker:
        play.ready(worker)
        assert bans(theatre, "huawei") == {key.partition("/")[2] for key in KEYS}
        theatre.produce(release(key) for key in KEYS)
        wait_for(lambda: not bans(theatre, "huawei"), 30, "all are released")
        worker.terminate()
        assert worker.wait(30) == 0
        assert not play.complaints(worker)


def test_what_comes_while_the_topic_grows_and_a_replica_crashes_is_not_lost(
    stage: Callable[..., Stage],
) -> None:
    theatre = stage(changes={"policy": {"verify": "off"}, "kafka": {"session_timeout": "3s"}})
    workers = [theatre.start_worker(f"w{n}") for n in (1, 2)]
    for worker in workers:
        play.ready(worker)
    settings = load(str(theatre.configuration())).kafka
    given = play.verdicts(300, "hw")
    given.records[:] = [(20 * n, record) for n, (_, record) in enumerate(given.records)]
    grows = (1_500, lambda: topics.enlarge(settings, settings.topics.verdicts, AFTER))
    play.play(theatre, given, [grows, (2_500, workers[0].kill)])
    workers[1].terminate()
    # 1 where it has noticed that the topic has grown; by the signal where it was about to end for that.
    assert workers[1].wait(60) in (0, 1, -signal.SIGTERM)

    cli("topics", "grow", "--config", theatre.configuration())
    theatre.kafka = replace(theatre.kafka, partitions=AFTER)
    # One that has them all: the slots of the new partitions count as used for a while.
    play.balanced(theatre, given, [theatre.start_worker("w1")], 90)
    assert {result["verdict_id"] for result in theatre.results()} == set(given.owed)
    assert {r.partition for r in theatre.records("verdicts")} == set(range(AFTER))
