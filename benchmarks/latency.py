"""Idle to first action: from a verdict's sending to the vendor's receiving the request, at a low rate.

The real worker on Apache Kafka; when a request came is what the simulated vendor's log says. Beside it,
the broker's own time from produce to consume, of the same verdicts, as a plain consumer sees it.
"""

import json
from collections.abc import Mapping
from statistics import median
from threading import Event, Thread

from kafka import KafkaConsumer, TopicPartition

from benchmarks.accept import real_worker, wait
from benchmarks.common import ground, report
from worker.sandbox.stage import Stage
from worker.words import Millis

RATE = 2.0


def run(scene: Stage, number: int) -> tuple[list[float], list[float]]:
    """Return milliseconds to the vendor, and milliseconds to a plain consumer."""
    kafka = scene.kafka
    verdicts = kafka.topics["verdicts"]
    read: dict[str, Millis] = {}
    ended = Event()
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed")
    consumer.assign([TopicPartition(verdicts, number) for number in range(kafka.partitions)])
    consumer.seek_to_end()
    for tp in consumer.assignment():
        consumer.position(tp)

    def listen() -> None:
        while not ended.is_set():
            for records in consumer.poll(timeout_ms=200).values():
                at = ground.now()
                read.update({json.loads(one.value)["verdict_id"]: at for one in records})

    listening = Thread(target=listen)
    listening.start()
    with real_worker(scene):
        events = (ground.verdict(f"v{i}", f"s{i}", "nudity") for i in range(number))
        sent = ground.send_evenly(kafka, events, RATE)
        wait(lambda: len(received(scene)) == number, "the vendor was not called for every verdict")
    ended.set()
    listening.join()
    consumer.close()
    arrived = received(scene)
    return (
        [float(arrived[f"s{i}"] - sent[f"v{i}"]) for i in range(number)],
        [float(read[name] - at) for name, at in sent.items()],
    )


def received(scene: Stage) -> Mapping[str, Millis]:
    """Return when the vendor first heard of each stream."""
    found: dict[str, Millis] = {}
    for line in scene.vendor_log():
        if line["operation"] == "block":
            found.setdefault(line["stream"], line["at_ms"])
    return found


def main() -> None:
    """Run it."""
    quick = report.arguments(__doc__).parse_args().quick
    number = 10 if quick else 200
    with ground.apache_kafka() as (servers, folder):
        kafka = ground.fresh_topics(servers, "latency")
        with ground.stage(folder / "latency", kafka) as scene:
            to_vendor, to_consumer = run(scene, number)
    rows = [
        (name, *(f"{value:.0f}" for value in (median(found), report.percentile(found, 0.99), max(found))))
        for name, found in (("verdict to vendor", to_vendor), ("verdict to a plain consumer", to_consumer))
    ]
    title = f"Idle to first action: {number} verdicts, {RATE:g} a second, each another stream"
    report.show(title, ("", "p50 ms", "p99 ms", "longest ms"), rows)


if __name__ == "__main__":
    main()
