"""A soak: what a worker needs after a long time is what it needed after a short one.

The real worker on the embedded broker, with simulated vendors that answer one request in ten badly.
Broadcasts begin, are judged, cut, banned, released and end, always at the same pace, and the worker's pages
are read as Prometheus would. Its memory, file descriptors, threads and asyncio tasks are sampled; the figure
is the line of least squares through the second half. The worker forgets what is over after a minute
(``common/watched.py``), so that what it remembers is level. The exit code is 1 if something grows, or a
verdict has not exactly one terminal result.
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import report
from benchmarks.common.trend import Trend, trend
from benchmarks.common.troubles import CHANGES, SIMULATORS
from tests.e2e.kafka import play
from tests.e2e.playing import now
from worker.events.times import format_rfc3339
from worker.sandbox.stage import ACCOUNTS, Stage, embedded_kafka
from worker.sandbox.worker_process import WorkerProcess

RATE = 4.0
SAMPLED_EVERY_S = 5.0
BAN_S = 15
POLICY = {"max_age": "30s", "verify": {"after": ["1s"]}, "release_cooloff": "30s"}

LIMITS: Mapping[str, tuple[str, Callable[[Trend], float]]] = {
    "memory": ("MB", lambda found: found.mean / 100),
    "file descriptors": ("", lambda _: 3.0),
    "threads": ("", lambda _: 1.0),
    "asyncio tasks": ("", lambda _: 3.0),
    "streams remembered": ("", lambda found: found.mean / 10),
}
"""What is sampled: its unit, and how much of growth within the second half is still none. Descriptors and
tasks come and go with the calls under way. If the streams were not level, memory would say nothing."""


@dataclass
class Soaked:
    """What was found: each series as (seconds, value), what is amiss, and how much was done."""

    samples: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    broadcasts: int = 0
    verdicts: int = 0
    calls: int = 0

    def growing(self) -> list[str]:
        """Return a sentence for each series that grows."""
        found = []
        for name, (unit, limit) in LIMITS.items():
            line = trend(self.samples[name])
            if line.growth > limit(line):
                found.append(f"{name}: {line.per_hour:+,.1f} {unit} an hour".replace("  ", " "))
        return found


# -- the load ------------------------------------------------------------------------------------------


def account(number: int) -> str:
    """Return the account at which a broadcast runs."""
    return list(ACCOUNTS)[number % len(ACCOUNTS)]


def stream(number: int, moment: int) -> dict[str, Any]:
    """Return a broadcast's stream and session; it began at that moment."""
    session = {"id": f"s-{number}", "started_at": format_rfc3339(moment)}
    return {"key": f"{account(number)}/b-{number}", "session": session}


def events(beat: int, rate: float, began: int) -> list[dict[str, Any]]:
    """Return what is published at one beat: broadcasts that begin, are judged, released and end.

    A broadcast begins with each beat; the rest of its life is a number of seconds later.
    """
    at, found = now(), []
    for number, what in lives(beat, rate):
        about = {"stream": stream(number, began + round(1000 * number / rate))}
        if what in {"started", "ended"}:
            found.append({"stream_event": what, **about, "at": format_rfc3339(at)})
        elif what == "release":
            command = {"command_id": f"c-{number}", "command": what, "by": "soak"}
            found.append({**command, **about, "issued_at": format_rfc3339(at)})
        else:
            category = ("asked", "spam", "look", "weather")[number % 4]
            wish = {"requested": {"action": "forbid", "for_s": BAN_S}} if category == "asked" else {}
            seen = {"detected_at": format_rfc3339(at), "severity": "high", "category": category}
            found.append({"verdict_id": f"v-{number}-{what}", **about, **seen, **wish})
    return found


def lives(beat: int, rate: float) -> list[tuple[int, str]]:
    """Return for one beat which broadcast goes through what."""
    later = {"started": 0, "first": 1, "second": 3, "release": 8, "ended": 12}
    found = ((beat - round(seconds * rate), what) for what, seconds in later.items())
    return [
        (number, what) for number, what in found if number >= 0 and (what != "release" or number % 8 == 0)
    ]


# -- the run -------------------------------------------------------------------------------------------


class Soak:
    """One run: a worker on a stage, and what it is asked and sampled for."""

    def __init__(self, stage: Stage, rate: float, say: Callable[[str], None]) -> None:
        self._stage, self._rate, self._say = stage, rate, say
        self._inside = stage.folder / "inside.json"
        self._answered: dict[str, set[str]] = defaultdict(set)
        self._owed: set[str] = set()
        self._read = 0
        self.found = Soaked()

    def run(self, seconds: float) -> Soaked:
        """Publish and sample for so long; wait for what is owed, end the worker, and say what was found."""
        config, log = self._stage.configuration(), self._stage.folder / "w1.log"
        program = ("-m", "benchmarks.common.watched", str(self._inside))
        with WorkerProcess(config, log, program=program) as worker:
            play.ready(worker)
            self._go(worker, seconds)
            until = time.monotonic() + 60
            while not self._settled() and time.monotonic() < until:
                time.sleep(0.5)
            worker.terminate()
            if (code := worker.wait(60)) != 0:
                self.found.wrong.append(f"the worker ended with {code}")
            self.found.wrong += [f"it complained: {line['message']}" for line in play.complaints(worker)]
        self._settled()
        self._balance()
        self.found.calls = len(self._stage.vendor_log())
        return self.found

    def _go(self, worker: WorkerProcess, seconds: float) -> None:
        began, start = time.monotonic(), now()
        beat, sample_at, say_at = 0, 0.0, 0.0
        while (at := time.monotonic() - began) < seconds:
            if beat <= at * self._rate:
                self._beat(beat, start)
                beat += 1
            if at >= sample_at:
                self._sample(worker, at)
                sample_at = at + SAMPLED_EVERY_S
            if at >= say_at:
                last = {name: series[-1][1] for name, series in self.found.samples.items()}
                told = ", ".join(f"{name} {value:,.1f}" for name, value in last.items())
                self._say(f"{at / 60:5.1f} of {seconds / 60:.1f} min: {len(self._owed):,} verdicts; {told}")
                say_at = at + max(10.0, seconds / 30)
            time.sleep(max(0.0, began + min(beat / self._rate, sample_at) - time.monotonic()))
        self.found.broadcasts = beat

    def _beat(self, beat: int, start: int) -> None:
        for number, what in lives(beat, self._rate):
            vendor, name = ACCOUNTS[account(number)], f"b-{number}"
            if what == "started":
                self._stage.go_live(vendor, name)
            elif what == "ended":
                self._stage.go_off(vendor, name)
        published = events(beat, self._rate, start)
        self._stage.produce(published)
        self._owed |= {event["verdict_id"] for event in published if "verdict_id" in event}

    def _sample(self, worker: WorkerProcess, at: float) -> None:
        status = Path(f"/proc/{worker.pid}/status").read_text("ascii", errors="replace")
        inside = json.loads(self._inside.read_text("utf-8")) if self._inside.exists() else {"tasks": 0}
        sampled = {
            "memory": int(status.partition("VmRSS:")[2].split()[0]) / 1024,
            "file descriptors": sum(1 for _ in Path(f"/proc/{worker.pid}/fd").iterdir()),
            "threads": int(status.partition("Threads:")[2].split()[0]),
            "asyncio tasks": inside["tasks"],
            "streams remembered": worker.metrics("moderation_streams"),
        }
        worker.get("/readyz")
        for name, value in sampled.items():
            self.found.samples[name].append((at, value))
        self._settled()

    def _settled(self) -> bool:
        """Read the results that are new; return whether each verdict has a terminal one."""
        records = self._stage.records("results")
        for record in records[self._read :]:
            result = json.loads(record.value)
            if result["terminal"] and result["verdict_id"] is not None:
                self._answered[result["verdict_id"]].add(result["result_id"])
        self._read = len(records)
        return self._owed <= self._answered.keys()

    def _balance(self) -> None:
        self.found.verdicts = len(self._owed)
        lost = sorted(self._owed - self._answered.keys())
        twice = sorted(name for name, ids in self._answered.items() if len(ids) > 1)
        for names, what in ((lost, "no terminal result"), (twice, "several terminal results")):
            if names:
                self.found.wrong.append(f"{len(names)} verdicts have {what}: {', '.join(names[:3])}")


def soak(folder: Path, seconds: float, rate: float, say: Callable[[str], None]) -> Soaked:
    """Run it on a broker and vendors of its own."""
    changes = {**CHANGES, "policy": POLICY}
    with (
        embedded_kafka() as kafka,
        Stage(folder, kafka, changes=changes, simulators=SIMULATORS, script=play.FAULTS) as stage,
    ):
        return Soak(stage, rate, say).run(seconds)


def tell(found: Soaked, minutes: float) -> None:
    """Print what was found."""
    rows = []
    for name, (unit, limit) in LIMITS.items():
        line = trend(found.samples[name])
        rows.append(
            (
                f"{name} {unit}".strip(),
                f"{found.samples[name][0][1]:,.1f}",
                f"{line.mean:,.1f}",
                f"{line.per_hour:+,.2f}",
                f"{limit(line) / line.hours:,.1f}",
                "grows" if line.growth > limit(line) else "level",
            )
        )
    done = f"{found.verdicts:,} verdicts on {found.broadcasts:,} broadcasts, {found.calls:,} calls"
    header = ("", "at first", "mean of the second half", "growth an hour", "noticed from", "")
    report.show(f"Soak: {minutes:g} minutes, {done}", header, rows)


def main(given: Sequence[str] | None = None) -> int:
    """Run it, and tell; 1 if something grows or is lost."""
    parser = report.arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=RATE, help="broadcasts that begin each second")
    told = parser.parse_args(given)
    minutes = 2.0 if told.quick else told.minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        found = soak(Path(scratch), minutes * 60, told.rate, lambda text: print(text, flush=True))
    tell(found, minutes)
    wrong = found.wrong if told.quick else [*found.wrong, *found.growing()]
    print(*(f"WRONG: {one}" for one in wrong), sep="\n", end="\n" if wrong else "")
    if told.quick:
        print("Too short for a judgement about growth: a start and its caches are in it.")
    elif not wrong:
        print("Nothing grows; each verdict has exactly one terminal result.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
