"""Plays a load on a stage, and waits until the books balance."""

import json
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any

from tests.e2e.playing import books, now, verdict, wait_for
from worker.core.holds import GRAIN
from worker.sandbox.books import Json, answers, problems
from worker.sandbox.load import ACTED, Load, Owed
from worker.sandbox.stage import Stage, plain
from worker.sandbox.worker_process import WorkerProcess
from worker.vendors import load_spec
from worker.words import READS, Millis

log = logging.getLogger(__name__)

FAULTS: Sequence[Mapping[str, Any]] = (
    {"operation": "*", "effect": "throttle", "probability": 0.01, "seed": 1},
    {"operation": "*", "effect": "status", "status": 502, "probability": 0.02, "seed": 2},
    {"operation": "*", "effect": "status", "status": 503, "probability": 0.02, "seed": 3},
    {"operation": "*", "effect": "done_then_hang", "probability": 0.02, "seed": 4},
    {"operation": "*", "effect": "done_then_reset", "probability": 0.015, "seed": 5},
    {"operation": "*", "effect": "truncated", "probability": 0.015, "seed": 6},
)
"""One answer in ten is throttled, failed, or lost after the deed was done."""

TIMEOUT: Millis = 1_000
SHORT = {"writes": (500, 20_000), "all": (300, 20_000), "forbid_query": (100, 10_000)}
"""CDNetworks' quotas of 500 writes a day, 300 calls and 10 queries in five minutes, in windows short enough
to wait for. Huawei's and Alibaba's are the documented ones."""
CHANGES: Mapping[str, Any] = {
    # The brokers end what a dead replica has left open after this; the worker's own 30 s would take longer.
    "kafka": {"client": {"transaction_timeout_ms": 8_000}},
    "policy": {"verify": {"after": ["2s"]}},
    "accounts": {
        **{name: {"timeout_s": TIMEOUT / 1000} for name in ("hw", "ali")},
        "cdn": {
            "timeout_s": TIMEOUT / 1000,
            "quotas": {name: f"{limit}/{window}ms" for name, (limit, window) in SHORT.items()},
        },
    },
}
SIMULATORS: Mapping[str, Any] = {
    "cdnetworks": {
        "quotas": {
            "writes": [SHORT["writes"]],
            "requests": [SHORT["all"]],
            "forbid_query": [SHORT["forbid_query"]],
        }
    }
}


def ready(worker: WorkerProcess, timeout_s: float = 30) -> None:
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_s, "the worker is ready")


def verdicts(number: int, account: str) -> Load:
    """Return a load of verdicts that each forbid a stream of its own."""
    load = Load(0)
    for n in range(number):
        load.records.append((0, plain(verdict(f"v-{n}", f"{account}/room-{n}", "violence"))))
        load.owed[f"v-{n}"] = Owed(ACTED, (account,))
    return load


def logged(worker: WorkerProcess) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a worker's log."""
    for line in worker.log_text().splitlines():
        yield json.loads(line)


def complaints(worker: WorkerProcess) -> list[Mapping[str, Any]]:
    """Return what a worker itself logged as an error."""
    return [
        line
        for line in logged(worker)
        if line["logger"].startswith("worker.") and line["level"] in {"ERROR", "CRITICAL"}
    ]


def play(stage: Stage, load: Load, deeds: Iterable[tuple[Millis, Callable[[], object]]] = ()) -> None:
    """Publish a load at its pace, and do each deed at its moment (milliseconds from the start)."""
    for vendor, stream, reconnects_after in load.live:
        stage.go_live(vendor, stream, reconnects_after)
    began, sent, left = now(), 0, sorted(deeds, key=lambda deed: deed[0])
    while sent < len(load.records) or left:
        at = now() - began
        due = sum(1 for moment, _ in load.records[sent:] if moment <= at)
        stage.produce(record for _, record in load.records[sent : sent + due])
        sent += due
        if left and left[0][0] <= at:
            left.pop(0)[1]()
        time.sleep(0.05)


def balanced(stage: Stage, load: Load, workers: Iterable[WorkerProcess], timeout_s: float) -> None:
    """Wait until the books balance; end the workers, and see that they still do."""
    began = time.monotonic()
    while found := list(answers(load.owed, stage.results())) or problems(books(stage, load)):
        assert time.monotonic() - began < timeout_s, _summary(found)
        time.sleep(1)
    log.info("the books balance %.0f s after the last record", time.monotonic() - began)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        assert worker.wait(30) == 0, worker.log_text()[-2000:]
        assert not complaints(worker)
    found = problems(books(stage, load))
    assert not found, _summary(found)


def _summary(found: Sequence[str]) -> str:
    return "\n".join([f"{len(found)} problems:", *found[:20]])


_spec = cache(load_spec)
DURABLE_AFTER: Millis = 3_000
"""By then an answer is durable. A call so long before a crash, or before its partition moved, is not
repeated because of it."""
_KEY = re.compile(rb'"key": "[^"/]+/([^"]+)"')


def unexplained(stage: Stage, load: Load, losses: Sequence[Millis] = ()) -> list[str]:
    """Return the writes that were repeated although they had been answered, and no answer can be lost.

    ``losses`` are the moments of crashes, and those when a replica took a partition over: it repeats what
    was under way. An answer that came after the account's timeout is lost too; then a result tells of it.
    Of streams with several events cuts are left out: each event may ask for one.
    """
    values = (record.value for _, record in load.records if record.value is not None)
    events = Counter(found[1].decode() for value in values if (found := _KEY.search(value)))
    late = {
        (result["target"]["vendor"], tried["operation"], result["target"]["stream"])
        for result in stage.results()
        for tried in result["attempts"]
        if tried["outcome"] == "unknown" and tried["duration_ms"] >= TIMEOUT
    }
    return [
        f"{after['vendor']} {after['operation']} of {after['stream']} at {after['at_ms']}, "
        f"{after['at_ms'] - before['at_ms']} ms after the same call, which was answered"
        for before, after in _repeats(stage.vendor_log())
        if before["fault"] is None
        and (before["until"] is not None or events[before["stream"]] == 1)
        and (before["vendor"], before["operation"], before["stream"]) not in late
        and not any(
            before["at_ms"] <= loss <= min(after["at_ms"], before["at_ms"] + DURABLE_AFTER) for loss in losses
        )
    ]


def repeats(stage: Stage) -> list[tuple[Json, Json]]:
    """Return each two writes running that a vendor saw for one stream, with the same end."""
    return list(_repeats(stage.vendor_log()))


def _repeats(calls: Iterable[Json]) -> Iterator[tuple[Json, Json]]:
    """Yield each two writes running that a vendor saw for one stream, with the same end."""
    streams: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
    for call in calls:
        serves = _spec(call["vendor"]).operations[call["operation"]].serves
        if not READS.intersection(serves):
            streams[call["vendor"], call["app"], call["stream"]].append(call)
    for made in streams.values():
        for before, after in pairwise(made):
            if before["operation"] == after["operation"] and _same_end(before["until"], after["until"]):
                yield before, after


def _same_end(one: Millis | None, other: Millis | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) <= GRAIN


def restored(worker: WorkerProcess, since: Millis = 0) -> list[tuple[Millis, int]]:
    """Return when a worker got which partition, from its log."""
    found = []
    for line in logged(worker):
        words = str(line["message"]).split()
        if words[:2] == ["restored", "partition"]:
            at = round(datetime.fromisoformat(str(line["time"])).timestamp() * 1000)
            found.append((at, int(words[2].rstrip(":"))))
    return [one for one in found if one[0] >= since]
