"""Whole topics, read from their beginning; what is committed only."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

STUCK_S = 20.0
"""After so long without a record the end of a topic counts as out of reach."""


class TopicReader:
    """All records of a topic so far, as kafka-python's ConsumerRecords, each partition in its order.

    ``options`` are those of a KafkaConsumer, its brokers among them. Each call of ``read`` fetches what
    is new. To be used by one thread.
    """

    def __init__(self, topic: str, options: Mapping[str, Any]) -> None:
        self._topic = topic
        self._consumer = KafkaConsumer(
            **{
                **{name: value for name, value in options.items() if name in KafkaConsumer.DEFAULT_CONFIG},
                "group_id": None,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "allow_auto_create_topics": False,
            }
        )
        self._partitions: list[TopicPartition] = []
        self._records: list[Any] = []

    def read(self) -> list[Any]:
        """Return everything up to the end as it is now; nothing while there is no such topic.

        Raises KafkaTimeoutError when the end is not reached.
        """
        if not self._partitions:
            numbers = self._consumer.partitions_for_topic(self._topic) or ()
            self._partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
            if not self._partitions:
                return []
            self._consumer.assign(self._partitions)
            self._consumer.seek_to_beginning(*self._partitions)
        ends = self._consumer.end_offsets(self._partitions)
        until = time.monotonic() + STUCK_S
        while any(self._consumer.position(each) < ends[each] for each in self._partitions):
            for records in self._consumer.poll(timeout_ms=100).values():
                self._records += records
                until = time.monotonic() + STUCK_S
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"the end of {self._topic} is not reached")
        return list(self._records)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()
