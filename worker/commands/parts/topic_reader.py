"""Partitions of a topic from some moment to their end as it is now, read without joining any group.

The end is asked for as a reader of everything sees it, since a transaction that was just committed may
still hide behind the other one; what is read is committed. Nothing is written, not even an offset.
"""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

from kafka import TopicPartition

from worker.commands import Failure
from worker.runtime import kafka_client
from worker.settings import KafkaSettings
from worker.words import Millis

POLL_MS = 200
POLL_RECORDS = 5_000
STUCK_S = 90.0
"""After so long without a record or a control record the end is out of reach: by then the brokers have
ended what a dead owner left open."""

Progress = Callable[[str, int, int], None]
"""Told now and then: the topic's name, how many offsets are behind and how many there are in all."""


def silent(_topic: str, _done: int, _total: int) -> None:
    """Tell nobody."""


class TopicReader:
    """Reads topics; a context manager.

    Raises Failure where there is no such topic or its end is not reached, and KafkaError where the brokers
    are away (see ``broker.brokers``).
    """

    def __init__(self, settings: KafkaSettings, progress: Progress = silent) -> None:
        self._progress = progress
        self._committed = kafka_client.reading_consumer(settings, committed_only=True)
        try:
            self._all = kafka_client.reading_consumer(settings, committed_only=False)
        except BaseException:
            self._committed.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()
        self._committed.close()

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has. Raises Failure when it does not exist."""
        found = self._all.partitions_for_topic(topic)
        if not found:
            raise Failure([f"topic {topic} is missing: make it with `moderation-worker topics create`"])
        return len(found)

    def read(
        self, topic: str, partitions: Collection[int] | None = None, since: Millis | None = None
    ) -> Iterator[Any]:
        """Yield the committed records (ConsumerRecord) of some partitions (None: all), each in its order.

        ``since`` leaves out what the brokers have of the time before it. Partitions come side by side.
        """
        count = self.partitions(topic)
        places = [TopicPartition(topic, number) for number in partitions or range(count)]
        ends = self._all.end_offsets(places)
        starts = self._starts(places, ends, since)
        left = {place for place in places if starts[place] < ends[place]}
        self._committed.assign(places)
        for place in places:
            self._committed.seek(place, starts[place])
        total = sum(ends[place] - starts[place] for place in places)
        behind = dict(starts)
        until = time.monotonic() + STUCK_S
        while left:
            for place, records in self._committed.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).items():
                yield from (record for record in records if record.offset < ends[place])
            for place in list(left):
                at = self._committed.position(place)  # passes control records
                if at > behind[place]:
                    behind[place] = at
                    until = time.monotonic() + STUCK_S
                if at >= ends[place]:
                    left.remove(place)
                    self._committed.pause(place)
            self._progress(topic, sum(min(behind[p], ends[p]) - starts[p] for p in places), total)
            if time.monotonic() > until:
                numbers = ", ".join(str(place.partition) for place in sorted(left))
                where = f"topic {topic}: the end of partition {numbers} is not reached"
                raise Failure([f"{where}; is a transaction open on it? (kafka-transactions.sh find-hanging)"])

    def _starts(self, places: list[Any], ends: dict[Any, int], since: Millis | None) -> dict[Any, int]:
        found: dict[Any, int] = self._all.beginning_offsets(places)
        if since is not None:
            for place, at in self._all.offsets_for_times(dict.fromkeys(places, since)).items():
                found[place] = max(found[place], at.offset if at is not None else ends[place])
        return found
