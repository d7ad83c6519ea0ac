"""A long queue: how fast a critical verdict gets through when 100,000 ordinary ones wait at its account.

The real worker on Apache Kafka; one account, whose vendor takes its time for each answer, so that the queue
is there and is worked off all the while. The same trickle of critical verdicts is sent three times: to an
idle worker, beside the queue, and, after a restart with a quota, beside the queue once that quota is used up.
When a request came is what the simulated vendor's log says. The exit code is 1 if a critical verdict was not
called, or if the vendor saw more calls in a window than the quota allows.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.accept import wait
from benchmarks.common import ground, report
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.words import Millis

RATE = 3.0
ANSWER: Millis = 150
CONCURRENCY = 10
"""Ten calls of 150 ms at once are 66 a second: as many as the documented quota gives, 4,000 a minute."""
RESERVE = 0.05
AIM = 2.0


@dataclass(frozen=True)
class Plan:
    """``queued`` verdicts wait and ``criticals`` are sent each time; ``limit`` calls in a ``window`` (ms)."""

    queued: int = 100_000
    criticals: int = 180
    limit: int = 4_000
    window: Millis = 60_000

    @property
    def reserved(self) -> int:
        """How many slots of a window are for critical calls alone."""
        return int(self.limit * RESERVE)


QUICK = Plan(queued=1_000, criticals=15, limit=400, window=10_000)
WARMING = Plan(criticals=5)
"""Before anything is measured: a worker's first calls open connections."""


def ordinary(number: int) -> dict[str, Any]:
    """Return a verdict that may wait."""
    return {**ground.verdict(f"v{number}", f"s{number}", "violence"), "severity": "medium"}


def critical(phase: str, number: int) -> dict[str, Any]:
    """Return a verdict that must not."""
    return {**ground.verdict(f"{phase}{number}", f"{phase}{number}", "minors"), "severity": "critical"}


def settings(quota: str) -> Mapping[str, Any]:
    """Return what is changed of the stage's configuration."""
    return {
        "policy": {"verify": "off", "max_age": "6h"},
        "accounts": {
            "hw": {
                "quotas": {"block": quota},
                "concurrency": CONCURRENCY,
                "reserve": f"{RESERVE:.0%}",
                "timeout_s": 10,
            }
        },
    }


def waiting(worker: WorkerProcess) -> int:
    """Return how many calls wait."""
    return int(worker.metrics("moderation_calls_waiting", account="hw"))


def exhausted(worker: WorkerProcess) -> bool:
    """Tell whether only the reserve of the quota is left."""
    return worker.metrics("moderation_quota_used_ratio", account="hw", operation="block") >= 1 - RESERVE


def show_progress(text: str) -> None:
    """Say how far it is, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="", file=sys.stderr)


def fill(scene: Stage, worker: WorkerProcess, plan: Plan) -> None:
    """Queue verdicts, and a sixth more, as some are called meanwhile; return once all are accepted."""
    number = plan.queued * 7 // 6
    for first in range(0, number, 5_000):
        scene.produce(ordinary(each) for each in range(first, min(number, first + 5_000)))
    until = time.monotonic() + ground.PATIENCE_S
    while (read := worker.metrics("moderation_events_consumed_total", type="verdict")) < number:
        if time.monotonic() > until:
            raise RuntimeError("the queue does not fill")
        show_progress(f"{read:,.0f} of {number:,} verdicts accepted")
        time.sleep(1)


@dataclass(frozen=True)
class Phase:
    """How long critical verdicts took (ms), and how many calls waited, at first and at last."""

    name: str
    took: Sequence[float]
    waited: tuple[int, int]

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return report.percentile(self.took, 0.99)


def phase(name: str, letter: str, scene: Stage, worker: WorkerProcess, plan: Plan) -> Phase:
    """Send critical verdicts, and see when the vendor hears of them."""
    show_progress(f"{name}: {plan.criticals} critical verdicts, {RATE:g} a second")
    before = waiting(worker)
    events = (critical(letter, number) for number in range(plan.criticals))
    sent = ground.send_evenly(scene.kafka, events, RATE)
    after = waiting(worker)
    log = ground.VendorLog(scene.request_log)
    wait(lambda: sent.keys() <= called(log).keys(), "the vendor was not called for each")
    arrived = called(log)
    return Phase(name, [float(arrived[name] - at) for name, at in sent.items()], (before, after))


def called(log: ground.VendorLog) -> Mapping[str, Millis]:
    """Return when the vendor first heard of each stream."""
    found: dict[str, Millis] = {}
    for line in log.read():
        if line["operation"] == "block":
            found.setdefault(line["stream"], line["at_ms"])
    return found


def most_in_a_window(moments: Sequence[Millis], window: Millis) -> int:
    """Return how many calls the fullest sliding window had."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure(scene: Stage, plan: Plan) -> tuple[list[Phase], int]:
    """Run the three phases; return them, and the most calls that a window of the quota had."""
    scene.play_script("huawei", [{"operation": "block", "effect": "delay_ms", "ms": ANSWER}])
    with ready(scene) as worker:
        phase("warming up", "w", scene, worker, WARMING)
        phases = [phase("idle", "i", scene, worker, plan)]
        fill(scene, worker, plan)
        phases.append(phase("beside the queue", "b", scene, worker, plan))
        worker.terminate()
        worker.wait(60)
    scene.play_script("huawei", [])  # so that the quota is used up soon
    scene.change(settings(f"{plan.limit}/{plan.window}ms"))
    began = ground.now()
    with ready(scene) as worker:
        wait(lambda: waiting(worker) > plan.queued // 2, "the queue is not taken up", ground.PATIENCE_S)
        phase("warming up", "x", scene, worker, WARMING)
        wait(lambda: exhausted(worker), "the quota is not used up", ground.PATIENCE_S)
        phases.append(phase("and the quota used up", "q", scene, worker, plan))
    log = ground.VendorLog(scene.request_log).read()
    return phases, most_in_a_window([line["at_ms"] for line in log if line["at_ms"] >= began], plan.window)


def ready(scene: Stage) -> WorkerProcess:
    """Start a worker and return it once it is ready."""
    worker = scene.start_worker()
    wait(lambda: worker.get("/readyz")[0] == 200, "the worker is not ready")  # noqa: PLR2004 - HTTP's OK
    return worker


def main() -> int:
    """Run it; 1 if a promise is broken."""
    plan = QUICK if report.arguments(__doc__).parse_args().quick else Plan()
    with ground.apache_kafka() as (servers, folder):
        kafka = ground.fresh_topics(servers, "backlog")
        with ground.stage(folder / "backlog", kafka, settings("1000000/1s")) as scene:
            phases, most = measure(scene, plan)
    rows = [
        (
            each.name,
            f"{each.waited[0]:,} to {each.waited[1]:,}",
            f"{median(each.took):.0f}",
            f"{each.p99:.0f}",
            f"{max(each.took):.0f}",
            f"{each.p99 / phases[0].p99:.2f} x",
            f"{AIM:g} x" if each is not phases[0] else "",
        )
        for each in phases
    ]
    header = ("", "calls waiting", "p50 ms", "p99 ms", "longest ms", "p99 to idle", "aim")
    title = (
        f"A long queue: {plan.criticals} critical verdicts each time, {RATE:g} a second, verdict to request"
    )
    report.show(title, header, rows)
    print(
        f"{most:,} calls in the fullest window of {plan.window // 1000} s; {plan.limit:,} allowed, "
        f"{plan.reserved} of them for critical calls alone"
    )
    return int(most > plan.limit)


if __name__ == "__main__":
    sys.exit(main())
