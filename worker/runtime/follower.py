"""Follows the state topic from its beginning, outside the group: what the publish gate answers from.

All partitions, committed records only, and live from then on. About once a second the brokers are asked
where the partitions end: when all of that has been read, what is known was complete at the moment of the
question. When that lies too far back, nothing is known any more, and everything is read anew: a tombstone
may have come and gone meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from worker.core.bans import Bans
from worker.runtime import kafka_client
from worker.settings import KafkaSettings
from worker.words import Millis

log = logging.getLogger(__name__)

POLL_MS = 250
POLL_RECORDS = 5_000
ASK_S = 1.0
RETRY_S = 0.5
ANOTHER = "the state topic is another one now"
PATIENCE_S = 30.0
"""A reading that gets nowhere for so long is begun anew: the topic forgets deletions after a while."""


class Follower:
    """Keeps the bans of some accounts; a thread of its own.

    ``away`` is how old its knowledge may become, in milliseconds. ``clock`` counts seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        accounts: Iterable[str],
        away: Millis,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._accounts, self._clock = settings, tuple(accounts), clock
        self._away_s = away / 1000
        self._known: tuple[Bans, float] | None = None  # one reference: read by other threads
        self._trouble = "the states have not been read to their end yet"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Return whether the thread lives."""
        return self._thread.is_alive()

    def bans(self) -> Bans | None:
        """Return what is forbidden, or None while that is not known."""
        known = self._known
        return known[0] if known is not None and self._clock() - known[1] <= self._away_s else None

    def age_s(self) -> float | None:
        """Return how long ago what is known was complete, or None if it never was."""
        known = self._known
        return self._clock() - known[1] if known is not None else None

    def reasons_not_known(self) -> list[str]:
        """Return why nothing is known."""
        return [] if self.bans() is not None else [self._trouble]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it was, the gate must come to know again
                # Of what is unforeseen the type only: the text could show what was read.
                foreseen = isinstance(error, KafkaError | Unreadable)
                self._trouble = str(error) if foreseen else type(error).__name__
                log.warning("following the states failed: %s", self._trouble)
                self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        """Read everything, then what comes, until that gets nowhere."""
        consumer = kafka_client.reading_consumer(self._settings, committed_only=True)
        try:
            reading = _Reading(consumer, self._settings.topics.state, Bans(self._accounts), self._clock)
            answering = True
            while not self._stopping.is_set():
                try:
                    self._note(reading, reading.turn())
                    answering = True
                except KafkaError as error:
                    self._trouble = f"the brokers do not answer ({type(error).__name__})"
                    if answering:
                        log.warning("%s", self._trouble)
                    answering = False
                    self._stopping.wait(RETRY_S)
                if self._clock() - reading.progress_at > PATIENCE_S:
                    raise Unreadable(f"the brokers have said nothing for {PATIENCE_S:.0f} s")
        finally:
            consumer.close(timeout_ms=200)

    def _note(self, reading: "_Reading", complete_at: float | None) -> None:
        if complete_at is None:
            return
        if reading.unreadable:
            trouble = f"the state at {min(reading.unreadable.values())} is not one of this version's"
            if trouble != self._trouble:
                log.error("%s", trouble)
            self._trouble = trouble
            return
        if self._known is None or self._known[0] is not reading.bans:
            log.info("the states are read to their end", extra={"bans": len(reading.bans)})
        self._known = (reading.bans, complete_at)


class Unreadable(Exception):  # noqa: N818 - a finding, in a sentence that may be shown
    """A reading of the topic leads nowhere; the next one begins anew."""


class _Reading:
    """One passage through the topic, from its beginning.

    ``unreadable`` says where states stand that are none of this version's.
    """

    def __init__(self, consumer: Any, topic: str, bans: Bans, clock: Callable[[], float]) -> None:
        self.bans = bans
        self.progress_at = clock()
        self._consumer, self._topic, self._clock = consumer, topic, clock
        self._places: list[TopicPartition] = []
        self._asked_at = -ASK_S
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self.unreadable: dict[tuple[int, bytes], str] = {}

    def turn(self) -> float | None:
        """Read what there is; return as of when everything is known, if that has moved on."""
        if not self._ends and self._clock() - self._asked_at >= ASK_S:
            self._ask()
        for place, records in self._consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).items():
            for record in records:
                self._take(place.partition, record)
            self.progress_at = self._clock()
        # position() passes control records, so it gets there even if the last record is one.
        positions = {place: self._consumer.position(place) for place in self._places}
        if any(positions[place] < at for place, at in self._positions.items()):
            raise Unreadable(ANOTHER)  # the client has gone back to the beginning by itself
        self._positions = positions
        if not self._ends or any(positions[place] < at for place, at in self._ends.items()):
            return None
        self._ends, self.progress_at = {}, self._clock()
        return self._asked_at

    def _take(self, partition: int, record: Any) -> None:
        self.unreadable.pop((partition, record.key), None)
        try:
            self.bans.take(partition, record.key, record.value)
        except ValueError:
            self.unreadable[partition, record.key] = f"partition {partition}, offset {record.offset}"

    def _ask(self) -> None:
        """Find out where the partitions end now; the first time also where they begin."""
        numbers = sorted(self._consumer.partitions_for_topic(self._topic) or ())
        places = [TopicPartition(self._topic, number) for number in numbers]
        if not places:
            raise Unreadable(
                f"topic {self._topic} is missing: make it with `moderation-worker topics create`"
            )
        if not self._places:
            starts = self._consumer.beginning_offsets(places)
            self._consumer.assign(places)
            for place in places:
                self._consumer.seek(place, starts[place])
            self._places = places
        asked_at = self._clock()
        ends = self._consumer.end_offsets(places)
        if places != self._places or any(self._consumer.position(place) > ends[place] for place in places):
            raise Unreadable(ANOTHER)
        self._asked_at, self._ends = asked_at, ends
