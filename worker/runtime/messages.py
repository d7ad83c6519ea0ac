"""What the threads say to each other, and the batch of steps that becomes one transaction.

One thread owns the stream states: the engine. The poll thread, the restore thread, the journal and
the caller only put messages into its inbox; it answers with a Batch for the journal. An *epoch*
numbers one assignment of one partition: whatever carries an epoch that is no longer current is void.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.core.control import Control
from worker.core.outcome import Outcome
from worker.core.policy import Policy
from worker.core.routes import Routes
from worker.events.result import Result
from worker.words import Call, Millis, value

Headers = Sequence[tuple[str, bytes | None]]


@value()
class Record:
    """One record to be written. ``partition`` None leaves the choice to the key's hash."""

    topic: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = ()
    partition: int | None = None


@value()
class Polled:
    """Records of one input partition, in offset order, as kafka-python gave them.

    Each record has ``offset, key, value, headers, timestamp`` (ConsumerRecord).
    """

    partition: int
    epoch: int
    records: Sequence[Any] = field(repr=False)


@value()
class Restored:
    """The states of one partition, still raw, and the offset from which its records will come.

    ``states`` holds (key, value, headers) for each stream that has a state.
    """

    partition: int
    epoch: int
    states: Sequence[tuple[bytes, bytes, Headers]] = field(repr=False)
    next_offset: int


@value()
class Dropped:
    """A partition is no longer ours, or must be read again: forget its states and its open batch."""

    partition: int
    reason: str


@value()
class Granted:
    """One request that may go out: all its calls share it. ``origins`` says whose calls they are.

    ``origins[i]`` is (partition, epoch, stream key, target id) of ``calls[i]``. ``charged`` are the
    (partition, epoch) whose ledgers know of it: it goes out only while all are ours, and not after
    ``not_after``, since whoever holds their slots next counts on that.
    """

    account: str
    calls: tuple[Call, ...]
    origins: tuple[tuple[int, int, str, str], ...] = field(repr=False)
    charged: tuple[tuple[int, int], ...] = ()
    not_after: Millis | None = None

    def only(self, keep: Callable[[int, int], bool]) -> "Granted":
        """Return the request with those calls only whose (partition, epoch) is to be kept."""
        pairs = zip(self.calls, self.origins, strict=True)
        kept = [(call, origin) for call, origin in pairs if keep(origin[0], origin[1])]
        calls, origins = tuple(call for call, _ in kept), tuple(origin for _, origin in kept)
        return Granted(self.account, calls, origins, self.charged, self.not_after)

    def concerns(self, partition: int) -> bool:
        """Tell whether a partition's streams or slots are in it."""
        numbers = [number for number, *_ in self.origins] + [number for number, _ in self.charged]
        return partition in numbers


@value()
class Answered:
    """What became of a granted request: one outcome for each of its calls.

    ``started_at`` None: nothing was sent (no fresh lease, or shutting down).
    """

    granted: Granted
    outcomes: tuple[Outcome, ...]
    started_at: Millis | None
    finished_at: Millis


@dataclass(slots=True)
class PartitionBatch:
    """What one transaction writes for one partition.

    ``states`` holds the last state of each touched stream, already encoded as records; ``own`` the
    partition's own records, where they have changed: what its slots are used for, which streams it has seen.
    ``next_offset`` is committed in any case, even where it did not move: that is the fence. ``results``
    are those among ``records``, to be counted once they are published. ``leans``: the partitions, with
    their epochs, whose guards' slots its demands took.
    """

    partition: int
    epoch: int
    next_offset: int
    states: dict[str, Record] = field(default_factory=dict, repr=False)
    own: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    results: list[Result] = field(default_factory=list, repr=False)
    leans: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Some steps, on their way into one transaction. The journal drops partitions that were lost.

    ``granted`` are the requests that go out once it is committed, and not before.
    """

    partitions: dict[int, PartitionBatch] = field(default_factory=dict)
    granted: list[Granted] = field(default_factory=list)

    def leans_on_lost(self, current: Callable[[int, int], bool]) -> bool:
        """Tell whether a demand took a guard's slot of a partition of which that is not written with it."""
        leans = [lean for part in self.partitions.values() for lean in part.leans.items()]
        return not all(current(*lean) for lean in leans)


@value()
class Committed:
    """The journal made a batch durable, less the partitions that were lost meanwhile."""

    batch: Batch
    duration: float


@value()
class Reset:
    """A transaction failed. Every epoch is void; each partition that is still ours is restored again."""

    reason: str


@value()
class PolicyChanged:
    """Policy and routes are others from now on; what is in force already stays as it is."""

    policy: Policy
    routes: Routes = field(repr=False)


@value()
class Controlled:
    """What operators have decided, all of it: the control topic was read to its end, or has changed."""

    control: Control


class Log(Protocol):
    """What the engine needs of the Kafka side."""

    partitions: int

    def submit(self, batch: Batch) -> None:
        """Make a batch durable."""
        ...

    def owned(self) -> dict[int, int]:
        """Return our partitions and their epochs."""
        ...

    def set_back_pressure(self, on: bool) -> None:
        """Hold the input back, or no longer."""
        ...

    def stop_partition(self, partition: int) -> None:
        """Hold one partition back."""
        ...

    def stopped(self) -> frozenset[int]:
        """Return the partitions that are held back one by one."""
        ...

    def caught_up(self) -> bool:
        """Whether the input is read to its end."""
        ...


Message = Polled | Restored | Dropped | Answered | Committed | Reset | PolicyChanged | Controlled
