"""The bare loop: poll, JSON, two sends a record, flush, offsets, commit. Nothing else.

What a transactional Kafka program in kafka-python costs before it has decided anything: it checks no
event, makes no ids, keeps no states. Its results are a few fields without headers, or (``full``) have the
fields and headers of the worker's.
Usage: ``python -m benchmarks.common.bare_loop SERVERS PREFIX small|full``; it runs until it is terminated.
"""

import json
import sys
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

from worker.sandbox.stage import topic_names

HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"Cq3nJ0dGk8vY4uQ2xLwZ"),
    ("ce_type", b"moderation.result.v1"),
    ("ce_source", b"urn:moderation-worker:accept-worker"),
    ("ce_time", b"2026-11-22T10:05:00.123Z"),
    ("ce_subject", b"hw/s1234"),
    ("content-type", b"application/json"),
]
NULL = ("command_id", "tenant", "until", "hold", "caused_by", "error", "observed")
UNSET = ("called_at", "answered_at", "verified_at")


def small(event: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """Return the least result there could be, and its headers."""
    return {"verdict_id": event["verdict_id"], "outcome": "no_action", "stream": event["stream"]}, []


def full(event: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """Return a result with the fields of the worker's, and its headers."""
    at = event["detected_at"]
    result = {
        **small(event)[0],
        **dict.fromkeys(NULL),
        "result_id": "Cq3nJ0dGk8vY4uQ2xLwZ",
        "target": {"account": "hw", "vendor": "huawei", "push_domain": "push.sandbox.example"}
        | {"play_domain": "play.sandbox.example", "app": "live", "stream": "s1234"},
        "terminal": True,
        "action": "none",
        "regions": [],
        "rule": "rest",
        "policy_version": "sandbox-1",
        "reason": "policy",
        "detail": "Rule rest: nothing is to be done.",
        "attempts": [],
        "timing": dict.fromkeys(UNSET) | {"detected_at": at, "received_at": at, "decided_at": at},
        "mode": "live",
        "worker": {"instance": "w1", "version": "0.1.0"},
        "at": at,
    }
    return result, HEADERS


def main(servers: str, prefix: str, size: str) -> None:
    """Turn until the process ends."""
    answer = {"small": small, "full": full}[size]
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
                result, headers = answer(event)
                producer.send(topics["results"], json.dumps(result).encode(), record.key, headers)
                producer.send(topics["state"], json.dumps(event).encode(), record.key)
            offsets[tp] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        producer.flush()
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
