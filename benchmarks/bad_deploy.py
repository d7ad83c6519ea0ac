"""A bad deploy upstream: false verdicts of a machine, each about another stream, in one minute.

Two real workers on Apache Kafka; one is killed in the middle and started again. What was called is counted
from the vendor's log, what was held from the results topic. The exit code is 1 if the guard let more
through than it may, a critical verdict waited, or anything was lost.
"""

import json
import subprocess
import sys
import time
from collections import Counter

from benchmarks.accept import wait
from benchmarks.common import ground, report
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess

STREAMS, SECONDS = 10_000, 50
MOST = 50
GUARD = {"name": "blast", "max": f"{MOST}/1h", "actions": ["forbid"], "except": ["critical"]}
CHANGES = {"policy": {"verify": "off", "max_age": "1h", "guards": [GUARD]}}


def deploy(scene: Stage, streams: int, seconds: int) -> None:
    """Publish the verdicts at an even pace, critical ones among them; kill and replace a replica midway."""
    doomed = scene.start_worker("w1")
    with scene.start_worker("w2") as other:
        for worker in (doomed, other):
            ready(worker)
        began, each = time.monotonic(), streams // seconds
        for second in range(seconds):
            first = second * each
            events = [ground.verdict(f"v{n}", f"s{n}", "violence") for n in range(first, first + each)]
            critical = ground.verdict(f"c{second}", f"c{second}", "minors")
            events.append({**critical, "severity": "critical"})
            scene.produce(events)
            if second == seconds // 2:
                doomed.kill()
                ready(scene.start_worker("w1"))
            if sys.stderr.isatty():
                print(f"\r{first + each:,} of {streams:,} verdicts", end="", file=sys.stderr)
            time.sleep(max(0.0, began + second + 1 - time.monotonic()))
        wait(lambda: len(heard(scene)) >= streams, "not every verdict was heard of")
        other.terminate()
        other.wait(60)


def ready(worker: WorkerProcess) -> None:
    """Wait until a worker is."""
    wait(lambda: worker.get("/readyz")[0] == 200, "the worker is not ready")  # noqa: PLR2004 - HTTP's OK


def heard(scene: Stage) -> dict[str, Counter[str]]:
    """Return the outcomes that were published about each false verdict."""
    found: dict[str, Counter[str]] = {}
    for record in scene.records("results"):
        result = json.loads(record.value)
        if (result["verdict_id"] or "").startswith("v"):
            found.setdefault(result["verdict_id"], Counter())[result["outcome"]] += 1
    return found


def called(scene: Stage, prefix: str) -> set[str]:
    """Return the streams that the vendor was asked to block."""
    calls = (line["stream"] for line in scene.vendor_log() if line["operation"] == "block")
    return {stream for stream in calls if stream.startswith(prefix)}


def reject(scene: Stage, held: int) -> float:
    """End with one command what is held; return how long that took, in seconds."""
    words = ["guard", "reject", GUARD["name"], "--config", str(scene.configuration())]
    with scene.start_worker("w2") as worker:
        ready(worker)
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "worker", *map(str, words)], check=True, capture_output=True)  # noqa: S603 - ours
        wait(
            lambda: sum(told["cancelled"] for told in heard(scene).values()) >= held,
            "not everything that was held was ended",
        )
        return time.monotonic() - began


def main() -> int:
    """Run it; 1 if a promise is broken."""
    quick = report.arguments(__doc__).parse_args().quick
    streams, seconds = (400, 4) if quick else (STREAMS, SECONDS)
    with ground.apache_kafka() as (servers, folder):
        kafka = ground.fresh_topics(servers, "deploy")
        with ground.stage(folder / "deploy", kafka, CHANGES) as scene:
            deploy(scene, streams, seconds)
            passed, critical = len(called(scene, "s")), len(called(scene, "c"))
            verdicts = heard(scene)
            held = sum(told["held"] for told in verdicts.values())
            took = reject(scene, held)
            after = len(called(scene, "s"))
            ended = sum(told["cancelled"] == 1 for told in heard(scene).values())
    rows = [
        ("false verdicts, each of another stream", f"{streams // seconds * seconds:,}", ""),
        ("called", f"{passed} ({passed / MOST:.2f} of what the guard allows)", f"at most {MOST}"),
        ("held", f"{held:,}", f"{len(verdicts) - passed:,}"),
        ("critical verdicts called meanwhile", critical, seconds),
        ("ended by one command", f"{ended:,} in {took:.1f} s", f"{held:,}"),
        ("called of these", after - passed, 0),
    ]
    report.show(f"A bad deploy: {streams:,} false verdicts in {seconds} s", ("", "found", "expected"), rows)
    kept = passed <= MOST and held == len(verdicts) - passed and critical == seconds
    return int(not (kept and ended == held and after == passed and len(verdicts) >= streams))


if __name__ == "__main__":
    sys.exit(main())
