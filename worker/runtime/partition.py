"""The streams of one partition in one epoch: states as bytes, the recently used ones decoded too."""

import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from worker.core.capacity import Place
from worker.core.holds import FOREVER
from worker.core.state import LEDGER, SEEN, StreamState, decode, encode, stream_of
from worker.core.stream import Answered, Step
from worker.events.partition import Partitioner, home_partition
from worker.runtime.messages import Headers, Record
from worker.runtime.opens import Opens, earliest
from worker.words import Millis

DUE = "due"
"""Header of a state record: when a restored stream must be looked at, whatever happens; 0 is at once, since
something is open. Behind it, as JSON, the places it takes up at vendors that keep only so many, if any.
One header, not two: each costs a restore more than anything that is done with it."""


def due(headers: Headers) -> tuple[Millis, bytes]:
    """Return what DUE says in a state record's headers: the moment, and the places taken up."""
    for header, text in headers:
        if header == DUE and text is not None:
            wake_at, *taken = text.split(b" ", 1)
            return int(wake_at), taken[0] if taken else b""
    return FOREVER, b""


DECODED_KEPT = 2_000
FOREIGN_SAMPLE = 20


@dataclass(slots=True)
class Partition:
    """One partition that is ours. ``next_offset`` is the input offset to be committed next."""

    number: int
    epoch: int
    next_offset: int
    ledger: bytes | None = None
    """What its slots were used for, as it was restored."""
    seen: bytes | None = None
    """Which streams it had seen, likewise."""
    raw: dict[str, bytes] = field(default_factory=dict)
    decoded: OrderedDict[str, StreamState] = field(default_factory=OrderedDict)
    unsealed: set[str] = field(default_factory=set)
    """The streams that the open batch touches."""
    wakes: dict[str, Millis] = field(default_factory=dict)
    opens: Opens = field(default_factory=Opens)
    invalid_in_a_row: int = 0
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    """What each stream takes up of what vendors keep at most, where it does."""
    to_take_up: dict[str, None] = field(default_factory=dict)
    """The restored streams that had something open, and have not been looked at since."""
    answers: dict[str, Answered] = field(default_factory=dict)
    """What became, by call, of what they had under way."""

    def state(self, key: str) -> StreamState:
        """Return a stream's state; a new one where nothing is remembered."""
        state = self.decoded.get(key)
        if state is not None:
            self.decoded.move_to_end(key)
            return state
        raw = self.raw.get(key)
        state = StreamState(key) if raw is None else decode(raw)
        self.decoded[key] = state
        return state

    def take(self, key: str, step: Step) -> tuple[Place, ...]:
        """Take a step's state as the stream's, written with the open batch; return the places it gives up.

        Those it has afterwards are the step's; a quiet step leaves them as they are.
        """
        if step.state is None:
            self.decoded.pop(key, None)
            self.raw.pop(key, None)
        else:
            self.decoded[key] = step.state
        self.unsealed.add(key)
        if step.quiet:
            return ()
        before = self.places.get(key, ())
        self.opens.put(key, step.open)
        if step.places:
            self.places[key] = step.places
        else:
            self.places.pop(key, None)
        return before

    def seal(self, topic: str) -> dict[str, Record]:
        """Return the records of all states touched since the last time."""
        records = {}
        for key in self.unsealed:
            name, state = key.encode(), self.decoded.get(key)
            if state is None:
                records[key] = Record(topic, name, None, (), self.number)
                continue
            value = self.raw[key] = encode(state)
            records[key] = Record(topic, name, value, self._headers(key), self.number)
        self.unsealed.clear()
        while len(self.decoded) > DECODED_KEPT:
            self.decoded.popitem(last=False)
        return records

    def load(self, states: Sequence[tuple[bytes, bytes, Headers]]) -> Iterator[tuple[str, Millis]]:
        """Take restored states; yield the key and wake time of each stream that need not be taken up."""
        for name, value, headers in states:
            key = stream_of(name)
            if key is None:
                if name == LEDGER:
                    self.ledger = value
                elif name == SEEN:
                    self.seen = value
                continue
            self.raw[key] = value
            wake_at, taken = due(headers)
            if taken:
                self.places[key] = tuple(map(tuple, json.loads(taken)))
            if not wake_at:
                self.to_take_up[key] = None
            elif wake_at < FOREVER:
                yield key, wake_at

    def has_foreign(self, partitions: int, partitioner: Partitioner) -> bool:
        """Tell whether states lie here whose streams' records would come to another partition.

        That is so when verdict and state topic were both enlarged. A few keys tell.
        """
        sample = islice(self.raw, FOREIGN_SAMPLE)
        return any(home_partition(key.encode(), partitions, partitioner) != self.number for key in sample)

    def _headers(self, key: str) -> Headers:
        wake_at = 0 if key in self.opens else self.wakes.get(key, FOREVER)
        taken = self.places.get(key)
        if wake_at == FOREVER and not taken:
            return ()
        text = b"%d" % wake_at
        return ((DUE, text + b" " + json.dumps(taken).encode() if taken else text),)


def oldest_pending(partitions: Mapping[int, Partition]) -> Millis | None:
    """Return when the oldest event came that still waits for its terminal result."""
    return earliest(part.opens.since() for part in partitions.values())


def oldest_end(partitions: Mapping[int, Partition]) -> Millis | None:
    """Return the earliest end of what is over at its vendor and still has to be lifted."""
    return earliest(part.opens.ended() for part in partitions.values())


def parked(partitions: Mapping[int, Partition]) -> Counter[str]:
    """Return how many demands wait for a human, or for their account, by reason."""
    return sum((part.opens.parked for part in partitions.values()), Counter())
