"""A record of the verdict topic -> an event, a dead letter, or a record that belongs elsewhere."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from worker.events.codec import Decoded, Invalid, dead_letter, decode, forward
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.events.partition import home_partition
from worker.runtime.messages import Record
from worker.runtime.metrics import Metrics
from worker.runtime.partition import Partition
from worker.settings import KafkaSettings
from worker.words import Millis

log = logging.getLogger(__name__)

_TYPES = {Verdict: "verdict", Command: "command", StreamEvent: "stream"}


class Intake:
    """Reads records and guards against a flood of unreadable ones.

    ``stop_partition`` holds a partition back whose last ``kafka.max_invalid_in_a_row`` records were
    unreadable: a bad deploy upstream should stop here, not fill the dead letters.
    """

    def __init__(
        self, settings: KafkaSettings, metrics: Metrics, stop_partition: Callable[[int], None]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stop_partition = stop_partition
        self._consumed = cache(metrics.events_consumed_total.labels)

    def read(self, part: Partition, record: Any, partitions: int, now: Millis) -> Decoded | Record:
        """Return the event of a record, or the record to be written instead of handling it here."""
        place = {"topic": self._settings.topics.verdicts, "partition": part.number, "offset": record.offset}
        found = decode(record.key, record.value, record.headers, now)
        if isinstance(found, Invalid):
            self._metrics.dead_letters_total.labels(found.reason).inc()
            self._count_invalid(part)
            letters = self._settings.topics.dead_letters
            raw = (record.key, record.value, record.headers)
            return dead_letter(*raw, invalid=found, dead_letter_topic=letters, **place)
        part.invalid_in_a_row = 0
        home = home_partition(found.stream_key.encode(), partitions, self._settings.partitioner)
        if home != part.number:
            return forward(record.key, record.value, record.headers, home=home, **place)
        self._consumed(_TYPES[type(found.event)]).inc()
        return found

    def _count_invalid(self, part: Partition) -> None:
        part.invalid_in_a_row += 1
        if part.invalid_in_a_row == self._settings.max_invalid_in_a_row:
            log.error(
                "partition %d is stopped: %d records in a row could not be read",
                part.number,
                part.invalid_in_a_row,
            )
            self._stop_partition(part.number)
