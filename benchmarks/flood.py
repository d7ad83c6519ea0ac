"""A flood: per-frame verdicts become one vendor call for each stream, and one result for each verdict.

The real worker on Apache Kafka, with a simulated vendor that counts its calls. All verdicts appear at once.
The ban is for good: one with an end would be moved on, rightly, as later frames ask for a later end.
What came out is counted from the results topic and from the vendor's log, not from the worker.
"""

import json
import time
from collections import Counter

from benchmarks.accept import real_worker, wait
from benchmarks.common import ground, report
from worker.sandbox.stage import Stage

STREAMS, FRAMES = 2_000, 100
CHANGES = {
    "policy": {
        "rules": [{"name": "frames", "then": {"action": "forbid", "for": "permanent", "verify": "off"}}],
        "verify": "off",
    }
}


def run(scene: Stage, streams: int, frames: int) -> list[tuple[object, ...]]:
    """Let the flood come, and return what became of it."""
    # Frames of many streams come mixed; the verdicts of one stream keep their order.
    events = [
        ground.verdict(f"v{stream}-{frame}", f"s{stream}", "frames")
        for frame in range(frames)
        for stream in range(streams)
    ]
    with real_worker(scene) as reader:
        hidden = ground.Appearing(scene.kafka, events)
        progress = ground.Progress(scene.kafka.bootstrap_servers, reader.group)
        cpu, began = report.cpu_seconds(reader.pid), time.monotonic()
        hidden.appear()
        progress.wait(hidden.ends, reader.running)
        accepted = time.monotonic() - began
        wait(lambda: calls(scene)["block"] >= streams, "the vendor was not called for every stream")
        seconds, cpu = time.monotonic() - began, report.cpu_seconds(reader.pid) - cpu
        progress.close()
        time.sleep(2)  # a call or a result too many would come now
        terminal: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        for record in scene.records("results"):
            result = json.loads(record.value)
            terminal[result["verdict_id"]] += result["terminal"]
            outcomes[result["outcome"]] += 1
    one_each = sum(terminal[event["verdict_id"]] == 1 for event in events)
    return [
        ("verdicts", f"{len(events):,}", ""),
        ("vendor calls", f"{sum(calls(scene).values()):,}", f"{streams:,}"),
        ("verdicts with exactly one terminal result", f"{one_each:,}", f"{len(events):,}"),
        ("outcomes", ", ".join(f"{word} {number:,}" for word, number in outcomes.most_common()), ""),
        ("all accepted after", f"{accepted:.1f} s ({len(events) / accepted:,.0f}/s)", ""),
        ("all called after", f"{seconds:.1f} s", ""),
        ("worker CPU a verdict", f"{cpu / len(events) * 1e6:.0f} us", ""),
    ]


def calls(scene: Stage) -> Counter[str]:
    """Return how many calls the vendor has had, by operation."""
    return Counter(line["operation"] for line in scene.vendor_log())


def main() -> None:
    """Run it."""
    quick = report.arguments(__doc__).parse_args().quick
    streams, frames = (50, 20) if quick else (STREAMS, FRAMES)
    with ground.apache_kafka() as (servers, folder):
        kafka = ground.fresh_topics(servers, "flood")
        with ground.stage(folder / "flood", kafka, CHANGES) as scene:
            rows = run(scene, streams, frames)
    report.show(f"Flood: {frames} frames of each of {streams:,} streams", ("", "found", "expected"), rows)


if __name__ == "__main__":
    main()
