"""What operators and awkward upstreams publish has its effect, at the vendor and in the results."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.playing import verdict, wait_for
from worker.core.state import stream_of
from worker.events.partition import home_partition
from worker.sandbox.process import ROOT
from worker.sandbox.stage import Incoming, Kafka, Stage

pytestmark = pytest.mark.kafka

PARTITIONS = 4


def cli(*arguments: str | Path, stdin: str = "", code: int = 0) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(  # noqa: S603 - our own program, by our own interpreter
        [sys.executable, "-m", "worker", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout


def bans(theatre: Stage, vendor: str) -> set[str]:
    return {ban["stream"] for ban in theatre.vendor_state()[vendor]["bans"]}


def answered(theatre: Stage, event: str) -> list[Mapping[str, Any]]:
    """Return the terminal results of a verdict or a command."""
    return [r for r in theatre.results() if r["terminal"] and event in {r["verdict_id"], r["command_id"]}]


@pytest.fixture
def theatre(stage: Callable[..., Stage], kafka: Kafka) -> Iterator[Stage]:
    """Give a stage whose topics the command line has made, and a worker on it."""
    opened = stage(topics_exist=True, changes={"policy": {"verify": {"after": ["500ms"]}}})
    config = opened.configuration()
    assert cli("topics", "describe", "--config", config, code=1).count("missing") == 5
    made = cli("topics", "create", "--config", config)
    assert [line.split()[1:] for line in made.splitlines()] == [["made"]] * 5
    described = cli("topics", "describe", "--config", config)
    assert f"{kafka.topics['state']}  4 partitions  1 replicas  compact" in " ".join(described.split(" "))
    worker = opened.start_worker()
    play.ready(worker)
    yield opened
    worker.terminate()
    assert worker.wait(30) == 0
    assert not play.complaints(worker)


def test_the_command_line_steers_a_running_worker(theatre: Stage) -> None:
    config = theatre.configuration()
    printed = cli("send", "--config", config, "-", stdin=json.dumps(verdict("v-1", "all/room-1")))
    home = home_partition(b"all/room-1", PARTITIONS, "murmur2")
    assert printed.startswith(f"verdict v-1: sent to {theatre.kafka.topics['verdicts']}, partition {home},")
    wait_for(lambda: len(answered(theatre, "v-1")) == 3, 20, "the verdict is carried out")
    assert {result["outcome"] for result in answered(theatre, "v-1")} == {"verified"}
    for vendor in ("huawei", "aliyun", "cdnetworks"):
        assert bans(theatre, vendor) == {"room-1"}

    asked = cli("query", "--config", config, "all/room-1", "--by", "mod").split()[1].rstrip(":")
    wait_for(lambda: len(answered(theatre, asked)) == 3, 20, "the query is answered")
    for result in answered(theatre, asked):
        assert result["outcome"] == "observed"
        assert result["detail"].startswith("Forbidden: yes.")

    order = cli("release", "--config", config, "all/room-1", "--by", "mod", "--reason", "appeal")
    released = order.split()[1].rstrip(":")
    wait_for(lambda: len(answered(theatre, released)) == 3, 20, "the release is carried out")
    assert {result["outcome"] for result in answered(theatre, released)} == {"released"}
    for vendor in ("huawei", "aliyun", "cdnetworks"):
        assert bans(theatre, vendor) == set()
    assert len(answered(theatre, "v-1")) == 3


@pytest.mark.parametrize("key", [None, b"somebody/else"])
def test_a_stray_record_is_forwarded_home_once_as_it_was(theatre: Stage, key: bytes | None) -> None:
    streams = [f"hw/stray-{n}" for n in range(8)]
    headers = (("trace", b"\x00\xff"), ("trace", b"again"), ("content-type", b"application/json"))
    sent = {}
    for n, stream in enumerate(streams):
        home = home_partition(stream.encode(), PARTITIONS, "murmur2")
        wrong = (home + 1 + n % 3) % PARTITIONS
        value = json.dumps(verdict(f"v-{n}", stream)).encode()
        theatre.produce([Incoming(key, value, headers, wrong)])
        sent[value] = (home, wrong)
    wait_for(lambda: all(answered(theatre, f"v-{n}") for n in range(len(streams))), 20, "all are carried out")
    assert bans(theatre, "huawei") == {stream.partition("/")[2] for stream in streams}
    copies: dict[bytes, list[Any]] = {}
    for record in theatre.records("verdicts"):
        copies.setdefault(record.value, []).append(record)
    assert copies.keys() == sent.keys()
    for value, (home, wrong) in sent.items():
        first, second = sorted(copies[value], key=lambda record: len(record.headers))
        assert (first.partition, second.partition) == (wrong, home)
        assert second.key == key
        assert list(second.headers) == [*headers, ("forwarded_from", f"{wrong}@{first.offset}".encode())]
    states = [record for record in theatre.records("state") if record.value and stream_of(record.key)]
    for record in states:
        assert record.partition == home_partition(record.key, PARTITIONS, "murmur2")
    results = theatre.results()
    assert len(results) == 2 * len(streams)  # applied, verified; no duplicates
