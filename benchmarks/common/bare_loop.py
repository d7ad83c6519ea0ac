"""The bare loop: poll, JSON, two sends a record, flush, offsets, commit. Nothing else.

What a transactional Kafka program in kafka-python costs before it has decided anything. It checks no
event, makes no ids, keeps no states, and its records are smaller than the worker's.
Usage: ``python -m benchmarks.common.bare_loop SERVERS PREFIX``; it runs until it is terminated.
"""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

from worker.sandbox.stage import topic_names


def main(servers: str, prefix: str) -> None:
    """Turn until the process ends."""
    topics = topic_names(prefix)
    consumer = KafkaConsumer(
        topics["verdicts"],
        bootstrap_servers=servers,
        group_id=f"{prefix}-bare",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
        metrics_enabled=False,
    )
    producer = KafkaProducer(
        bootstrap_servers=servers,
        transactional_id=f"{prefix}-bare",
        retry_backoff_ms=10,
        batch_size=256 * 1024,
        metrics_enabled=False,
    )
    producer.init_transactions()
    greeted = False
    while True:
        polled = consumer.poll(timeout_ms=250, max_records=500)
        if not greeted and consumer.assignment():
            greeted = True
            print("ready", flush=True)
        if not polled:
            continue
        producer.begin_transaction()
        offsets = {}
        for tp, records in polled.items():
            for record in records:
                event = json.loads(record.value)
                result = {"verdict_id": event["verdict_id"], "outcome": "no_action", "stream": event["stream"]}
                producer.send(topics["results"], json.dumps(result).encode(), record.key)
                producer.send(topics["state"], json.dumps(event).encode(), record.key)
            offsets[tp] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        producer.flush()
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
