"""The accept path: verdicts that need no call, against a bare kafka-python loop over the same topics.

The real worker (a process) and two bare loops (processes) in turns, on Apache Kafka. Each starts on empty
topics; then all verdicts appear at once, and the clock runs until their offsets are committed.
``--profile`` says instead where the worker's CPU time goes.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from os import kill
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import ground, report
from worker.sandbox.process import ROOT
from worker.sandbox.stage import Stage


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of input. ``seed``: each stream gets a hold first, which is not measured."""

    name: str
    streams: int | None
    category: str
    seed: bool = False
    target: float | None = None

    def events(self, number: int) -> list[dict[str, Any]]:
        """Return that many verdicts, of its streams in turn."""
        streams = self.streams or number
        return [ground.verdict(f"v{i}", f"s{i % streams}", self.category) for i in range(number)]


JOINING_S = 5.0
"""How long the worker with a stopwatch in it, whose ops port is not looked for, has to join its group."""

CASES: tuple[Case, ...] = (
    Case("no_action, 500 streams", 500, "fine", target=1.0),
    Case("no_action, each another stream", None, "fine", target=0.6),
    Case("absorbed, 500 streams", 500, "nudity", seed=True),
)


@dataclass(frozen=True, slots=True)
class Reader:
    """A process that reads verdicts and is ready for them."""

    pid: int
    group: str
    running: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Run:
    """What some verdicts took: the rate, and CPU microseconds for each."""

    rate: float
    cpu_us: float


@contextmanager
def real_worker(scene: Stage) -> Iterator[Reader]:
    """Run the worker as a user would."""
    with scene.start_worker() as worker:
        wait(lambda: worker.get("/readyz")[0] == 200, "the worker is not ready")  # noqa: PLR2004 - HTTP's OK
        yield Reader(worker.pid, f"{scene.kafka.prefix}-worker", lambda: worker.running)


@contextmanager
def bare_loop(scene: Stage, size: str = "small") -> Iterator[Reader]:
    """Run the bare loop; its results are ``small``, or ``full`` as the worker's."""
    kafka = scene.kafka
    with python("benchmarks.common.bare_loop", kafka.bootstrap_servers, kafka.prefix, size) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        process.stdout.readline()
        yield Reader(process.pid, f"{kafka.prefix}-bare", lambda: process.poll() is None)


@contextmanager
def profiled_worker(scene: Stage, out: Path) -> Iterator[Reader]:
    """Run the worker with a stopwatch in it; SIGUSR1 makes it write to ``out``."""
    group = f"{scene.kafka.prefix}-worker"
    with python("benchmarks.common.profiled", str(scene.configuration()), str(out)) as process:
        wait(out.exists, "the worker does not start")
        time.sleep(JOINING_S)
        yield Reader(process.pid, group, lambda: process.poll() is None)


@contextmanager
def python(module: str, *given: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module in a process of its own, and end it."""
    command = [sys.executable, "-m", module, *given]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait(condition: Callable[[], bool], trouble: str, within_s: float = 60.0) -> None:
    """Wait for something. Raises RuntimeError."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(trouble)
        time.sleep(0.1)


def place_holds(scene: Stage, case: Case) -> None:
    """Have every stream of a case forbidden, where it is to begin so."""
    if not case.seed or case.streams is None:
        return
    number = case.streams
    scene.produce(ground.verdict(f"seed{i}", f"s{i}", case.category) for i in range(number))
    wait(lambda: sum(one["terminal"] for one in scene.results()) == number, "the holds are not placed")


READERS: dict[str, Callable[[Stage], AbstractContextManager[Reader]]] = {
    "worker": real_worker,
    "bare loop": bare_loop,
    "bare loop, full results": partial(bare_loop, size="full"),
}


def measure(scene: Stage, reader: Reader, events: list[dict[str, Any]]) -> Run:
    """Let verdicts appear, and wait until their offsets are committed."""
    hidden = ground.Appearing(scene.kafka, events)
    progress = ground.Progress(scene.kafka.bootstrap_servers, reader.group)
    cpu, began = report.cpu_seconds(reader.pid), time.monotonic()
    hidden.appear()
    progress.wait(hidden.ends, reader.running)
    seconds, cpu = time.monotonic() - began, report.cpu_seconds(reader.pid) - cpu
    progress.close()
    return Run(len(events) / seconds, cpu / len(events) * 1e6)


def compare(servers: str, folder: Path, number: int, repetitions: int, cases: tuple[Case, ...]) -> None:
    """Print worker against bare loops, in turns."""
    rows = []
    for c, case in enumerate(cases):
        runs: dict[str, list[Run]] = {name: [] for name in READERS}
        for repetition in range(repetitions):
            for r, (name, start) in enumerate(READERS.items()):
                prefix = f"accept-{c}-{repetition}-{r}"
                kafka = ground.fresh_topics(servers, prefix)
                with ground.stage(folder / prefix, kafka) as scene, start(scene) as reader:
                    if start is real_worker:
                        place_holds(scene, case)
                    runs[name].append(measure(scene, reader, case.events(number)))
        for name, found in runs.items():
            pairs = list(zip(runs["worker"], found, strict=True))
            target = f">= {case.target}" if case.target is not None and name == "bare loop" else ""
            rows.append(
                (
                    case.name if name == "worker" else "",
                    name,
                    f"{median(run.rate for run in found):,.0f}",
                    f"{median(run.cpu_us for run in found):,.0f}",
                    report.spread([ours.rate / other.rate for ours, other in pairs]),
                    report.spread([other.cpu_us / ours.cpu_us for ours, other in pairs]),
                    target,
                )
            )
    header = ("case", "", "verdicts/s", "CPU us each", "worker's rate to it", "by CPU time", "target")
    report.show(f"Accept path: {number:,} verdicts, medians of {repetitions} rounds", header, rows)


def profile(servers: str, folder: Path, number: int, cases: tuple[Case, ...]) -> None:
    """Print the worker's CPU time by part."""
    for c, case in enumerate(cases):
        kafka, out = ground.fresh_topics(servers, f"profile-{c}"), folder / f"parts-{c}.json"
        with ground.stage(folder / f"profile-{c}", kafka) as scene, profiled_worker(scene, out) as reader:
            place_holds(scene, case)
            before = _parts(reader, out)
            run = measure(scene, reader, case.events(number))
            after = _parts(reader, out)
        used = {
            kind: {name: after[kind][name] - before[kind].get(name, 0) for name in after[kind]}
            for kind in after
        }
        whole = used["process"]["all"]
        rows = [
            (kind, name, f"{seconds / number * 1e6:.1f}", f"{seconds / whole:.0%}")
            for kind in ("parts", "threads", "process")
            for name, seconds in sorted(used[kind].items(), key=lambda item: -item[1])
            if seconds / whole >= 0.005  # noqa: PLR2004 - less is noise
        ]
        title = f"CPU by part, {case.name}: {number:,} verdicts, {run.rate:,.0f}/s with the stopwatch in it"
        report.show(title, ("", "part", "us per verdict", "share"), rows)


def _parts(reader: Reader, out: Path) -> dict[str, dict[str, float]]:
    out.unlink(missing_ok=True)
    kill(reader.pid, signal.SIGUSR1)
    wait(out.exists, "no profile was written")
    found: dict[str, dict[str, float]] = json.loads(out.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Run it."""
    parser = report.arguments(__doc__)
    parser.add_argument("--profile", action="store_true", help="CPU time by part instead of the comparison")
    parser.add_argument("--case", type=int, choices=range(len(CASES)), help="one case only")
    chosen = parser.parse_args()
    cases = CASES if chosen.case is None else (CASES[chosen.case],)
    with ground.apache_kafka() as (servers, folder):
        if chosen.profile:
            profile(servers, folder, 3_000 if chosen.quick else 20_000, cases)
        elif chosen.quick:
            compare(servers, folder, 2_000, 1, cases)
        else:
            compare(servers, folder, 12_000, 3, cases)


if __name__ == "__main__":
    main()
