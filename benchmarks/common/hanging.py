"""Transactions that Kafka leaves open for ever after a broker was killed, ended as an operator would.

The coordinator no longer knows of such a transaction (KIP-664 calls it hanging), so its timeout does not end
it, and readers of committed records wait before it. A worker says so in its log; it does not end what may be
another's.
"""

import time
from collections.abc import Iterable
from contextlib import closing

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec

from worker.words import Millis

HANGS_AFTER: Millis = 30_000
"""Well after the transaction timeout on the stage (8 s) and the pause between two of the brokers' looks for
transactions that are over it (10 s)."""


def end_hanging(servers: str, topics: Iterable[str], hangs_after: Millis = HANGS_AFTER) -> list[str]:
    """Abort what hangs on some topics; return a sentence for each. Raises KafkaError if the brokers are away.

    ``hangs_after``: how long nothing has been written in a transaction that counts as hanging.
    """
    ended = []
    with closing(KafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=5_000)) as admin:
        places = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in admin.describe_topics(list(topics))
            for partition in topic["partitions"]
        ]
        for place, described in admin.describe_producers(places).items():
            for producer in described.active_producers:
                age = time.time() * 1000 - producer.last_timestamp
                if producer.current_transaction_start_offset < 0 or age < hangs_after:
                    continue
                epoch = max(0, producer.coordinator_epoch)
                named = (place, producer.producer_id, producer.producer_epoch, epoch)
                admin.abort_transaction(AbortTransactionSpec(*named))
                ended.append(
                    f"{place.topic}/{place.partition}: producer {producer.producer_id}, after {age:.0f} ms"
                )
    return ended
