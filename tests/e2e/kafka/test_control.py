"""What operators decide reaches every replica: those that run, and those that start afterwards."""

import logging
from collections.abc import Callable

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import bans, cli
from tests.e2e.playing import now, verdict, wait_for
from worker.events.partition import home_partition
from worker.events.times import parse_rfc3339
from worker.sandbox.load import Owed
from worker.sandbox.stage import Incoming, Stage, plain
from worker.words import Millis

pytestmark = pytest.mark.kafka
log = logging.getLogger(__name__)

CHANGES = {
    "policy": {"verify": "off"},
    "accounts": {"hw": {"quotas": {"block": "40/4s"}, "reserve": "0%"}},
}


def held(theatre: Stage) -> dict[str, Millis]:
    """Return when each stream was told to be held."""
    return {r["stream"]["key"]: parse_rfc3339(r["at"]) for r in theatre.results() if r["outcome"] == "held"}


def blocks(theatre: Stage) -> dict[str, Millis]:
    """Return when each stream was blocked at the vendor."""
    return {
        f"hw/{call['stream']}": call["at_ms"] for call in theatre.vendor_log() if call["operation"] == "block"
    }


def test_a_pause_stops_every_replica_and_its_end_lets_all_go_on(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes=CHANGES)
    workers = [theatre.start_worker(name) for name in ("w1", "w2")]
    for worker in workers:
        play.ready(worker)
    config = theatre.configuration()
    events = play.verdicts(100, "hw")
    play.play(theatre, events)
    wait_for(lambda: len(blocks(theatre)) >= 20, 30, "some are carried out")

    printed = cli("pause", "--config", config, "--by", "op", "--reason", "a model gone wrong")
    paused = now()
    assert printed.startswith("paused: everything.")
    keys = {f"hw/room-{n}" for n in range(100)}
    wait_for(lambda: keys == blocks(theatre).keys() | held(theatre).keys(), 30, "the others are held")
    log.info("the last call came %d ms after the pause", max(blocks(theatre).values()) - paused)

    workers.append(theatre.start_worker("w3"))
    play.ready(workers[-1])
    more = play.verdicts(110, "hw")
    del more.records[:100]
    play.play(theatre, more)
    wait_for(lambda: len(blocks(theatre).keys() | held(theatre).keys()) == 110, 30, "the new ones are held")
    done = min(blocks(theatre), key=lambda key: blocks(theatre)[key])
    order = cli("release", "--config", config, done, "--by", "op").split()[1].rstrip(":")
    more.owed[order] = Owed(frozenset({"released"}), ("hw",))
    wait_for(lambda: done.removeprefix("hw/") not in bans(theatre, "huawei"), 20, "lifting goes on")
    calls, told = blocks(theatre), held(theatre)
    assert all(calls[key] < told[key] for key in calls.keys() & told.keys()), "nothing after it was held"
    for worker in workers:
        assert worker.get("/readyz")[0] == 200
    waiting = len(told.keys() - calls.keys())
    wait_for(
        lambda: sum(worker.metrics("moderation_parked", reason="pause") for worker in workers) == waiting,
        10,
        "the metric shows what waits",
    )

    assert cli("resume", "--config", config, "--account", "hw") == (
        "was not paused: account hw\nstill paused: everything (resume)\n"
    )
    assert cli("resume", "--config", config).startswith("resumed: everything\n")
    play.balanced(theatre, more, workers, 60)
    assert blocks(theatre).keys() == {f"hw/room-{n}" for n in range(110)}
    assert not play.unexplained(theatre, more)


def test_dead_letters_are_replayed_once_and_a_stopped_partition_goes_on(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes={"kafka": {"max_invalid_in_a_row": 3}, "policy": {"verify": "off"}})
    worker = theatre.start_worker()
    play.ready(worker)
    config = theatre.configuration()
    garbage = [Incoming(b"k", b"{oops %d" % n, (("trace", b"\x00"),), 1) for n in range(5)]
    theatre.produce(garbage)
    wait_for(lambda: worker.get("/readyz")[0] == 503, 20, "the partition is stopped")
    wait_for(theatre.dead_letters, 20, "what was read is put aside")
    assert len(theatre.dead_letters()) == 3
    key = next(
        f"hw/room-{n}" for n in range(99) if home_partition(f"hw/room-{n}".encode(), 4, "murmur2") == 1
    )
    theatre.produce([plain(verdict("v-1", key, "drastic"))])
    assert "partitions stopped" in cli("resume", "--config", config, "--by", "op")
    wait_for(lambda: any(r["reason"] == "approval" for r in theatre.results()), 20, "it goes on")
    assert worker.get("/readyz")[0] == 200
    assert [record.value for record in theatre.dead_letters()] == [one.value for one in garbage]

    cli("approve", "--config", config, key, "--by", "op")
    wait_for(lambda: blocks(theatre), 20, "what was approved is carried out")
    moved = cli("extend", "--config", config, key, "--by", "op", "--until", "2030-01-01T00:00:00Z").split()[1]
    wait_for(
        lambda: any(r["command_id"] == moved.rstrip(":") for r in theatre.results()), 20, "it is extended"
    )

    worker.terminate()
    assert worker.wait(30) == 0
    dry = cli("replay", "--config", config, "--dry-run")
    assert dry.splitlines()[-1] == "5 dead letters would be replayed"
    assert "oops" not in dry
    assert cli("replay", "--config", config, "--reason", "schema") == "0 dead letters replayed\n"
    assert cli("replay", "--config", config, "--reason", "json") == "5 dead letters replayed\n"
    assert cli("replay", "--config", config) == "0 dead letters replayed\n"
    back = [record for record in theatre.records("verdicts") if record.value.startswith(b"{oops")]
    assert [record.value for record in back] == 2 * [one.value for one in garbage]
    for number, record in enumerate(back[5:]):
        assert (record.partition, record.key) == (1, b"k")
        (letter,) = [each for each in theatre.dead_letters() if each.value == record.value]
        assert list(record.headers) == [
            ("trace", b"\x00"),
            ("replayed_from", f"{letter.partition}@{letter.offset}".encode()),
        ], number
