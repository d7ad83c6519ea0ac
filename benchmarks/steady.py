"""The cost of a steady trickle: the worker's CPU and the time to a result, by ``kafka.gather``.

Verdicts come evenly, on many streams; the policy does nothing about them, so each costs a result, a state
and its share of a transaction. Latency: from before the verdict is sent to when its result is read.
"""

import json
import time
from statistics import median
from threading import Thread

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.accept import real_worker
from benchmarks.common import ground, report
from worker.sandbox.stage import Stage

GATHERS = (0, 5, 10, 20, 50)
RATES = (10, 100)


def run(scene: Stage, rate: int, seconds: float) -> tuple[float, list[float]]:
    """Return the worker's CPU share of one core, and the latencies in milliseconds."""
    number = int(rate * seconds)
    sent: dict[str, float] = {}
    latencies: list[float] = []
    topics = scene.kafka.topics
    results = KafkaConsumer(
        bootstrap_servers=scene.kafka.bootstrap_servers,
        isolation_level="read_committed",
        fetch_max_wait_ms=500,
    )
    results.assign([TopicPartition(topics["results"], number) for number in range(scene.kafka.partitions)])
    results.seek_to_end()
    for tp in results.assignment():
        results.position(tp)

    def read() -> None:
        until = time.monotonic() + seconds + 30
        while len(latencies) < number and time.monotonic() < until:
            for records in results.poll(timeout_ms=200).values():
                at = time.monotonic()
                latencies.extend((at - sent[json.loads(one.value)["verdict_id"]]) * 1000 for one in records)

    producer = KafkaProducer(bootstrap_servers=scene.kafka.bootstrap_servers, linger_ms=0)
    producer.partitions_for(topics["verdicts"])
    with real_worker(scene) as reader:
        listening = Thread(target=read)
        listening.start()
        cpu, began = report.cpu_seconds(reader.pid), time.monotonic()
        for i in range(number):
            time.sleep(max(0.0, began + i / rate - time.monotonic()))
            event = ground.verdict(f"v{i}", f"s{i % 1000}", "fine")
            sent[f"v{i}"] = time.monotonic()
            producer.send(topics["verdicts"], json.dumps(event).encode(), event["stream"]["key"].encode())
        listening.join()
        share = (report.cpu_seconds(reader.pid) - cpu) / (time.monotonic() - began)
    producer.close()
    results.close()
    if len(latencies) < number:
        raise RuntimeError(f"{number - len(latencies)} verdicts have no result")
    return share, latencies


def main() -> None:
    """Run it."""
    quick = report.arguments(__doc__).parse_args().quick
    gathers, seconds, repetitions = ((0, 10), 5.0, 1) if quick else (GATHERS, 12.0, 2)
    shares: dict[tuple[int, int], list[float]] = {}
    latencies: dict[tuple[int, int], list[float]] = {}
    with ground.apache_kafka() as (servers, folder):
        for repetition in range(repetitions):
            for rate in RATES:
                for gather in gathers:
                    prefix = f"steady-{rate}-{gather}-{repetition}"
                    kafka = ground.fresh_topics(servers, prefix)
                    changes = {"kafka": {"gather": f"{gather}ms"}}
                    with ground.stage(folder / prefix, kafka, changes) as scene:
                        share, found = run(scene, rate, seconds)
                    shares.setdefault((rate, gather), []).append(share)
                    latencies.setdefault((rate, gather), []).extend(found)
    rows = [
        (
            f"{rate}/s",
            f"{gather} ms",
            report.spread([100 * share for share in found], 1),
            f"{median(found) * 1000 / rate:.1f}",
            f"{report.percentile(latencies[rate, gather], 0.5):.0f}",
            f"{report.percentile(latencies[rate, gather], 0.99):.0f}",
        )
        for (rate, gather), found in shares.items()
    ]
    header = ("verdicts", "gather", "CPU, % of a core", "CPU ms a verdict", "p50 ms", "p99 ms")
    report.show(f"Steady input: {seconds:.0f} s each, medians of {repetitions} rounds", header, rows)


if __name__ == "__main__":
    main()
