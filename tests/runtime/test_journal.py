"""The order of a transaction's calls and the answer to each failure, with a producer of our own."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    FencedInstanceIdError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
)
from kafka.structs import MemberState

from worker.runtime import kafka_client, kafka_records
from worker.runtime.journal import Journal
from worker.runtime.messages import Batch, Committed, Dropped, Granted, Message, PartitionBatch, Record, Reset
from worker.runtime.ownership import Ownership
from worker.settings import KafkaSettings
from worker.words import Call, Target


class FakeProducer:
    """Writes down its calls. ``world.trouble`` maps a call's name to what happens in it."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: list[str] = []
        self.buried = False
        world.producers.append(self)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        trouble = self.world.trouble.pop(name, None)
        if trouble is not None:
            trouble()

    def begin_transaction(self) -> None:
        self._call("begin")

    def write(self, records: Sequence[Record]) -> dict[int, Exception]:
        self._call(" ".join(["write", *(record.topic for record in records)]))
        return self.world.failures.pop(0) if self.world.failures else {}

    def send_offsets_to_transaction(self, offsets: Mapping[Any, Any], member: Any) -> None:
        self.world.generations.append(member.generation_id)
        self.world.offsets.append({tp.partition: at.offset for tp, at in offsets.items()})
        self._call("offsets")

    def commit_transaction(self) -> None:
        self._call("commit")

    def close(self, timeout: float) -> None:
        assert timeout > 0
        self._call("close")


class World:
    """A journal among fakes: one partition 0 of ours, restored as soon as it may be."""

    def __init__(self, delivery: Any = "exactly_once", watchdog_s: float = 5.0) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.producers: list[FakeProducer] = []
        self.trouble: dict[str, Callable[[], None]] = {}
        self.failures: list[dict[int, Exception]] = []
        self.offsets: list[dict[int, int]] = []
        self.committed: list[dict[int, int]] = []
        self.generations: list[int] = []
        self.wake = threading.Event()
        self.member = SimpleNamespace(generation_id=3, member_id="m", state=MemberState.STABLE)
        self.fatal: list[str] = []
        self.resets: list[str] = []
        self.settled: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self.ownership = Ownership(
            self.inbox.put, lambda partition, epoch: self.settled.put((partition, epoch)), 10_000
        )
        self.ownership.assign([0])
        settings = KafkaSettings(("nowhere:1",), "group", "a", delivery=delivery)
        self.journal = Journal(
            settings,
            self.ownership,
            self,
            put=self.inbox.put,
            observer=self,
            on_fatal=self.fatal.append,
            watchdog_s=watchdog_s,
        )

    def membership(self) -> Any:
        return self.member

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.committed.append(dict(offsets))

    def on_commit(self, seconds: float) -> None:
        assert seconds >= 0

    def on_reset(self, reason: str) -> None:
        self.resets.append(reason)

    def batch(self, partition: int = 0) -> Batch:
        epoch = self.settled.get(timeout=5)[1] if partition == 0 else 1
        part = PartitionBatch(partition, epoch, 7)
        part.records.append(Record("results", b"k", b"r"))
        part.states["s"] = Record("state", b"k", b"s", (), partition)
        call = Call("c", "cut", "stop", Target("hw", "live", "s"))
        return Batch({partition: part}, [Granted("hw", (call,), ((partition, epoch, "s", "t"),))])

    def answer(self) -> Message:
        return self.inbox.get(timeout=5)

    def run(self, batch: Batch) -> Message:
        self.journal.submit(batch)
        return self.answer()

    def stuck(self) -> None:
        self.wake.wait(5)

    def fail(self, error: Exception) -> Callable[[], None]:
        def trouble() -> None:
            raise error

        return trouble


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from start(World(), monkeypatch)


def start(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    def build(_settings: KafkaSettings) -> FakeProducer:
        return FakeProducer(world)

    def bury(producer: FakeProducer) -> None:
        producer.buried = True

    def write(producer: FakeProducer, records: Sequence[Record], patience_s: float) -> dict[int, Exception]:
        assert patience_s > 0
        return producer.write(records)

    monkeypatch.setattr(kafka_client, "transactional_producer", build)
    monkeypatch.setattr(kafka_client, "plain_producer", build)
    monkeypatch.setattr(kafka_client, "bury", bury)
    monkeypatch.setattr(kafka_records, "write", write)
    world.journal.start()
    yield world
    world.journal.stop(5)
    assert not world.journal.alive()


def test_records_are_written_before_the_offsets_and_the_offsets_before_the_commit(world: World) -> None:
    answer = world.run(world.batch())
    assert isinstance(answer, Committed)
    assert len(answer.batch.granted) == 1
    assert world.producers[0].calls == ["begin", "write results state", "offsets", "commit"]
    assert world.offsets == [{0: 7}]
    assert world.generations == [3]


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        ({1: KafkaTimeoutError("expired")}, "timeout"),
        ({0: ProducerFencedError()}, "fenced"),
        ({0: KafkaError("because of the other one"), 1: MessageSizeTooLargeError()}, "too_large"),
        ({1: PolicyViolationError()}, "refused"),
        (dict.fromkeys((0, 1), TopicAuthorizationFailedError({"state"})), "refused"),
    ],
)
def test_a_record_that_is_not_written_fails_the_batch(
    world: World, failures: dict[int, Exception], reason: str
) -> None:
    batch = world.batch()
    world.failures = [failures]
    assert world.run(batch) == Reset(reason)
    assert world.producers[0].calls == ["begin", "write results state"]
    assert world.producers[0].buried
    troubles = world.journal.troubles()
    if reason in {"too_large", "refused"}:
        (sentence,) = troubles
        assert sentence.startswith("partition 0 stands still: topic state refuses a record of 1 bytes (")
    else:
        assert troubles == []
        assert world.settled.get(timeout=5) == (0, 2), "the partition is read again"


@pytest.mark.parametrize("call", ["begin", "write results state", "offsets", "commit"])
def test_any_failure_releases_nothing_and_starts_over(world: World, call: str) -> None:
    batch = world.batch()
    world.trouble[call] = world.fail(KafkaError("no"))
    assert world.run(batch) == Reset("error")
    assert world.producers[0].buried
    assert isinstance(world.run(world.batch()), Committed)
    assert "commit" in world.producers[1].calls
    assert world.resets == ["error"]


@pytest.mark.parametrize(
    "member",
    [None, SimpleNamespace(generation_id=-1, member_id=""), SimpleNamespace(generation_id=3, member_id="")],
)
def test_offsets_are_never_sent_by_one_who_is_not_a_member(world: World, member: Any) -> None:
    batch = world.batch()
    world.member = member
    assert world.run(batch) == Reset("membership")
    assert world.producers[0].calls == []


def test_a_partition_that_was_lost_is_left_out_with_its_calls(world: World) -> None:
    batch = world.batch()
    world.ownership.assign([1])
    other = world.batch(1)
    batch.partitions |= other.partitions
    batch.granted += other.granted
    world.ownership.drop([1], "revoked")
    world.answer()  # Dropped
    answer = world.run(batch)
    assert isinstance(answer, Committed)
    assert list(answer.batch.partitions) == [0]
    assert [grant.origins[0][0] for grant in answer.batch.granted] == [0]
    assert world.offsets == [{0: 7}]


def test_nothing_is_written_that_took_a_guards_slot_of_a_partition_that_was_lost(world: World) -> None:
    batch = world.batch()
    world.ownership.assign([1])
    other = world.batch(1)
    batch.partitions |= other.partitions
    batch.partitions[0].leans = {0: batch.partitions[0].epoch, 1: other.partitions[1].epoch}
    world.ownership.drop([1], "revoked")
    world.answer()  # Dropped
    world.journal.submit(batch)
    while not isinstance(answer := world.answer(), Reset):
        assert isinstance(answer, Dropped)
    assert world.offsets == []
    assert world.producers[0].calls == []


def test_a_partition_lost_in_the_middle_fails_the_batch(world: World) -> None:
    batch = world.batch()
    world.trouble["write results state"] = lambda: world.ownership.drop([0], "revoked")
    world.journal.submit(batch)
    assert isinstance(world.answer(), Dropped)
    assert world.answer() == Reset("membership")
    assert world.offsets == []


def test_a_rebalance_in_the_middle_is_waited_for_and_its_generation_used(world: World) -> None:
    batch = world.batch()

    def settle() -> None:
        world.member = SimpleNamespace(generation_id=4, member_id="m", state=MemberState.STABLE)

    def rebalance() -> None:
        world.member = SimpleNamespace(generation_id=3, member_id="m", state=MemberState.REBALANCING)
        threading.Timer(0.1, settle).start()

    world.trouble["write results state"] = rebalance
    assert isinstance(world.run(batch), Committed)
    assert world.generations == [4]


def test_a_batch_of_lost_partitions_writes_nothing(world: World) -> None:
    batch = world.batch()
    world.ownership.drop([0], "revoked")
    world.answer()  # Dropped
    answer = world.run(batch)
    assert isinstance(answer, Committed)
    assert answer.batch == Batch()
    assert world.producers[0].calls == []


def test_a_stuck_transaction_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(watchdog_s=0.1)
    for _ in start(world, monkeypatch):
        batch = world.batch()
        world.trouble["offsets"] = world.stuck
        assert world.run(batch) == Reset("timeout")
        world.wake.set()
        assert isinstance(world.run(world.batch()), Committed)
        assert "commit" not in world.producers[0].calls, "the one left behind committed after all"


def test_the_second_fencing_within_a_minute_is_the_end(world: World) -> None:
    for _ in range(2):
        batch = world.batch()
        world.trouble["offsets"] = world.fail(ProducerFencedError())
        assert world.run(batch) == Reset("fenced")
    world.journal._thread.join(5)
    assert len(world.fatal) == 1
    assert "instance_id 'a'" in world.fatal[0]


def test_a_fenced_static_member_is_the_end(world: World) -> None:
    batch = world.batch()
    world.trouble["offsets"] = world.fail(FencedInstanceIdError())
    assert isinstance(world.run(batch), Reset)
    world.journal._thread.join(5)
    assert len(world.fatal) == 1


def test_a_member_that_joined_again_meanwhile_has_fenced_only_itself(world: World) -> None:
    def join_again() -> None:
        world.member = SimpleNamespace(generation_id=4, member_id="n", state=MemberState.STABLE)
        raise FencedInstanceIdError

    batch = world.batch()
    world.trouble["offsets"] = join_again
    assert world.run(batch) == Reset("membership")
    assert isinstance(world.run(world.batch()), Committed)
    assert world.fatal == []


def test_at_least_once_writes_results_then_states_then_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("at_least_once")
    for _ in start(world, monkeypatch):
        world.ownership.heard(10**9)
        batch = world.batch()
        assert isinstance(world.run(batch), Committed)
        assert isinstance(world.run(batch), Committed)
        world.journal.stop(5)
        calls = world.producers[0].calls
        assert calls[:2] == ["write results", "write state"]
        assert world.committed == [{0: 7}], "offsets are committed only when they move"


def test_at_least_once_writes_nothing_without_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("at_least_once")
    for _ in start(world, monkeypatch):
        assert world.run(world.batch()) == Reset("membership")
        assert world.producers[0].calls == []


def test_stopping_finishes_the_submitted_batch(world: World) -> None:
    world.journal.submit(world.batch())
    world.journal.stop(5)
    assert isinstance(world.answer(), Committed)
    assert world.producers[0].calls[-2:] == ["commit", "close"]
