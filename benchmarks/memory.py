"""Memory for each live stream and each waiting call, and how fast states come back.

A real Engine in a process of its own, without Kafka: batches count as committed at once, calls as done.
Memory is the growth of the process's resident set. The restore is the real one, from Apache Kafka: from
the moment the partitions are ours until the engine has every stream.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from random import Random
from statistics import median
from types import SimpleNamespace
from typing import Any

from kafka import KafkaProducer
from prometheus_client import CollectorRegistry

from benchmarks.common import ground, report
from worker.app import collect_seldom
from worker.core.context import AccountView, Context
from worker.core.control import Control
from worker.core.outcome import Done
from worker.core.policy import Policy, Rule, Then, When
from worker.core.routes import Route, Routes, TargetTemplate
from worker.events.partition import home_partition
from worker.events.result import WorkerRef
from worker.runtime.accounts import AccountPart, Accounts
from worker.runtime.clock import SystemClock
from worker.runtime.engine import Engine
from worker.runtime.kafka_log import KafkaLog
from worker.runtime.messages import (
    Answered,
    Batch,
    Committed,
    Controlled,
    Granted,
    Message,
    Polled,
    Record,
    Restored,
)
from worker.runtime.metrics import Metrics
from worker.sandbox.process import ROOT
from worker.settings import AccountSettings, KafkaSettings
from worker.vendors import load_spec, make
from worker.vendors.base import Account
from worker.words import Quota

STREAMS, WARM = 100_000, 15_000
LIVE_TARGET, WAITING_TARGET, RESTORE_TARGET = 2_000, 1_500, 25_000
POLICY = Policy("1", (Rule("all", When(), Then("forbid", 3_600_000, verify=False)),), verify_after=())
ROUTES = (Route((TargetTemplate("hw", "live", "{stream.name}", "push.example", "play.example"),)),)


UNLIMITED, NONE = Quota(10_000_000, 1_000), Quota(1, 3_600_000)
"""A quota whose calls soon count no more, so that a restore need not look at them; and next to none."""


def parts(quota: Quota) -> dict[str, AccountPart]:
    """Return one huawei account with that quota for everything."""
    spec = load_spec("huawei")
    keys = {"project_id": "p", "access_key": "a", "secret_key": "s", "region": "cn-north-4"}
    account = Account("hw", "huawei", keys)
    quotas = dict.fromkeys(spec.quotas, (quota,))
    return {"hw": AccountPart(spec, make(spec, account), AccountSettings(account, quotas, concurrency=100))}


def engine(
    inbox: "SimpleQueue[Message]",
    settings: KafkaSettings,
    log: Any,
    send: Callable[[Granted], None],
    accounts: dict[str, AccountPart],
) -> Engine:
    """Return an engine with everything real but what is given."""
    specs = {name: part.spec for name, part in accounts.items()}
    metrics = Metrics(CollectorRegistry(), specs)
    inbox.put(Controlled(Control()))
    views = {name: AccountView.of(part.spec) for name, part in accounts.items()}
    return Engine(
        inbox,
        settings,
        Context(POLICY, views, WorkerRef(instance="w1", version="1"), Routes(ROUTES)),
        Accounts(accounts, metrics),
        log,
        send,
        lambda result: None,  # noqa: ARG005 - nobody counts
        print,
        metrics,
        SystemClock(),
        Random(1),
    )


class NoKafka:
    """A log that commits at once, and keeps the last state of each stream where ``keep`` says so."""

    partitions = ground.PARTITIONS

    def __init__(self, inbox: "SimpleQueue[Message]", *, keep: bool) -> None:
        self._inbox, self._keep = inbox, keep
        self.states: dict[str, Record] = {}

    def submit(self, batch: Batch) -> None:
        """Commit."""
        if self._keep:
            for part in batch.partitions.values():
                self.states.update(part.states)
        self._inbox.put(Committed(batch, 0.0))

    def owned(self) -> dict[int, int]:
        """Own everything."""
        return dict.fromkeys(range(self.partitions), 1)

    def set_back_pressure(self, on: bool) -> None:
        """Nothing flows."""

    def stop_partition(self, partition: int) -> None:
        """Nothing flows."""

    def stopped(self) -> frozenset[int]:
        """Nothing flows."""
        return frozenset()

    def caught_up(self) -> bool:
        """Whether the input is read: it is given whole."""
        return True


def filled(streams: int, quota: Quota, *, keep: bool = False) -> tuple[int, dict[str, Record]]:
    """Give an engine one verdict for each stream; return by how many bytes it grew, and the states."""
    inbox: SimpleQueue[Message] = SimpleQueue()
    log = NoKafka(inbox, keep=keep)
    answered = 0

    def send(granted: Granted) -> None:
        nonlocal answered
        now = ground.now()
        answered += len(granted.calls)
        inbox.put(Answered(granted, (Done(),) * len(granted.calls), now, now))

    def over() -> bool:
        taken = sum(len(part.raw) for part in made.partitions.values())
        return inbox.empty() and taken == given and answered >= (given if quota is UNLIMITED else 1)

    made = engine(inbox, KafkaSettings((), "g", "w1"), log, send, parts(quota))
    for partition in range(log.partitions):
        inbox.put(Restored(partition, 1, (), 0))
    before = given = 0
    while given < WARM + streams:
        if given == WARM:  # caches are full, pools have grown
            before = resident()
        give(inbox, given, 1_000)
        given += 1_000
        made.run(over)
    return resident() - before, log.states


def give(inbox: "SimpleQueue[Message]", first: int, number: int) -> None:
    """Put verdicts into the inbox, each on another stream."""
    polled: dict[int, list[Any]] = {partition: [] for partition in range(ground.PARTITIONS)}
    for i in range(first, first + number):
        event = ground.verdict(f"v{i}", f"s{i}", "frames")
        partition = home_partition(event["stream"]["key"].encode(), ground.PARTITIONS, "murmur2")
        record = SimpleNamespace(offset=i, key=b"", value=json.dumps(event).encode(), headers=(), timestamp=0)
        polled[partition].append(record)
    for partition, records in polled.items():
        inbox.put(Polled(partition, 1, records))


def renamed(state: Record, number: int) -> Record:
    """Return the state of one stream as that of another."""
    name = b"hw/r%d" % number
    value = (state.value or b"").replace(b'"key":"%b"' % (state.key or b""), b'"key":"%b"' % name)
    return Record(state.topic, name, value, state.headers, home_partition(name, ground.PARTITIONS, "murmur2"))


def resident() -> int:
    """Return the resident set of this process, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def grown(part: str, streams: int) -> int:
    """Return by how many bytes a fresh process grows with so many streams."""
    command = [sys.executable, "-m", "benchmarks.memory", "--part", part, "--streams", str(streams)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ourselves


def restore(servers: str, prefix: str, states: list[Record]) -> tuple[float, float]:
    """Return seconds and CPU seconds that reading states back takes, and check that all came."""
    ground.fresh_topics(servers, prefix)
    settings = ground.settings(servers, prefix)
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=20, batch_size=256 * 1024)
    for one in states:
        producer.send(settings.topics.state, one.value, one.key, list(one.headers), one.partition)
    producer.flush(timeout=120)
    producer.close()
    inbox: SimpleQueue[Message] = SimpleQueue()
    log = KafkaLog(
        settings,
        put=inbox.put,
        on_fatal=print,
        observer=SimpleNamespace(on_commit=print, on_reset=print),  # there should be neither
    )
    made = engine(inbox, settings, log, lambda granted: None, parts(UNLIMITED))  # noqa: ARG005 - none comes
    log.start()
    began: tuple[float, float] | None = None
    until = time.monotonic() + 120

    def over() -> bool:
        nonlocal began
        if began is None and log.owned():
            began = time.monotonic(), time.process_time()
        return (
            sum(len(part.raw) for part in made.partitions.values()) >= len(states) or time.monotonic() > until
        )

    watch = threading.Event()

    def note() -> None:
        while not watch.is_set() and began is None:
            over()
            time.sleep(0.002)

    noting = threading.Thread(target=note)
    noting.start()
    made.run(over)
    ended = time.monotonic(), time.process_time()
    watch.set()
    noting.join()
    log.stop(timeout_s=5)
    if began is None or ended[0] > until:
        raise RuntimeError("the states did not come back")
    return ended[0] - began[0], ended[1] - began[1]


def main() -> None:
    """Run it."""
    parser = report.arguments(__doc__)
    parser.add_argument("--part", choices=("live", "waiting"), help="one measurement, for a fresh process")
    parser.add_argument("--streams", type=int, default=STREAMS)
    chosen = parser.parse_args()
    collect_seldom()  # as the worker does
    if chosen.part:
        print(filled(chosen.streams, UNLIMITED if chosen.part == "live" else NONE)[0])
        return
    streams, repetitions = (5_000, 1) if chosen.quick else (chosen.streams, 3)
    live, waiting = (grown(part, streams) / streams for part in ("live", "waiting"))
    some = list(filled(1_000, UNLIMITED, keep=True)[1].values())
    states = [renamed(some[i % len(some)], i) for i in range(streams)]
    with ground.apache_kafka() as (servers, _):
        times = [restore(servers, f"restore-{repetition}", states) for repetition in range(repetitions)]
    size = median(len(one.value or b"") for one in states)
    rows = [
        ("a live stream with one hold", f"{live:,.0f} bytes", f"<= {LIVE_TARGET:,}"),
        (
            "a stream whose call waits, all of it",
            f"{waiting:,.0f} bytes",
            f"<= {LIVE_TARGET + WAITING_TARGET:,}",
        ),
        ("a state record", f"{size:.0f} bytes", ""),
        (
            "restore",
            f"{report.spread([len(states) / wall for wall, _ in times], 0)} streams/s",
            f">= {RESTORE_TARGET:,}",
        ),
        (
            "restore, by CPU time",
            f"{report.spread([len(states) / cpu for _, cpu in times], 0)} streams/s",
            "",
        ),
    ]
    report.show(f"Memory and restore: {streams:,} streams", ("", "found", "target"), rows)


if __name__ == "__main__":
    main()
