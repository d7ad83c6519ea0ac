"""Epochs, the order of messages, and the lease."""

from hypothesis import given
from hypothesis import strategies as st

from worker.runtime.messages import Dropped, Message, Polled, Reset, Restored
from worker.runtime.ownership import Ownership


class World:
    """An Ownership with a clock of our own and everything it says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.inbox: list[Message] = []
        self.restores: list[tuple[int, int]] = []
        self.ownership = Ownership(
            self.inbox.append, lambda *request: self.restores.append(request), 10_000, lambda: self.now
        )


def restored(partition: int, epoch: int) -> Restored:
    return Restored(partition, epoch, (), 0)


def test_partitions_are_restored_once_the_journal_is_settled() -> None:
    world = World()
    world.ownership.assign([0, 1])
    assert world.restores == []
    world.ownership.settle()
    assert world.restores == [(0, 1), (1, 1)]
    world.ownership.assign([2])
    assert world.restores[2:] == [(2, 1)]


def test_a_dropped_partition_is_void_and_comes_back_under_a_new_epoch() -> None:
    world = World()
    world.ownership.settle()
    world.ownership.assign([0])
    assert world.ownership.publish(restored(0, 1))
    world.ownership.drop([0, 7], "revoked")
    assert not world.ownership.is_current(0, 1)
    assert not world.ownership.publish(Polled(0, 1, ()))
    world.ownership.assign([0])
    assert world.ownership.owned() == {0: 3}
    assert world.inbox == [restored(0, 1), Dropped(0, "revoked")]


def test_a_partition_that_is_read_again_is_void_until_it_is_restored() -> None:
    world = World()
    world.ownership.settle()
    world.ownership.assign([0])
    world.ownership.read_again(0)
    world.ownership.read_again(7)
    assert world.inbox == [Dropped(0, "read again")]
    assert world.ownership.owned() == {0: 2}
    assert world.restores == [(0, 1), (0, 2)]


def test_a_failed_transaction_makes_every_epoch_void_but_keeps_the_partitions() -> None:
    world = World()
    world.ownership.settle()
    world.ownership.assign([0, 1])
    world.ownership.void("timeout")
    assert world.inbox == [Reset("timeout")]
    assert world.ownership.owned() == {0: 2, 1: 2}
    assert not world.ownership.settled
    world.ownership.assign([2])
    assert (2, 1) not in world.restores, "nothing is read before the journal is settled again"
    world.ownership.settle()
    assert world.restores[2:] == [(0, 2), (1, 2), (2, 1)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["assign", "drop", "void", "settle", "restored", "polled"]),
        st.integers(0, 2),
        st.integers(1, 12),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_engine_never_hears_of_an_old_epoch_after_it_was_void(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    for what, partition, epoch in steps:
        match what:
            case "assign":
                world.ownership.assign([partition])
            case "drop":
                world.ownership.drop([partition], "revoked")
            case "void":
                world.ownership.void("timeout")
            case "settle":
                world.ownership.settle()
            case "restored":
                world.ownership.publish(restored(partition, epoch))
            case _:
                world.ownership.publish(Polled(partition, epoch, ()))
    believed: dict[int, int] = {}
    for message in world.inbox:
        match message:
            case Dropped(partition=partition):
                believed.pop(partition, None)
            case Reset():
                believed.clear()
            case Restored(partition=partition, epoch=epoch) | Polled(partition=partition, epoch=epoch):
                assert believed.setdefault(partition, epoch) == epoch


def test_there_is_no_lease_before_the_brokers_have_answered() -> None:
    assert not World().ownership.lease_fresh()


def test_the_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    world = World()
    world.ownership.heard(world.now)
    world.now += 9.9
    assert world.ownership.lease_fresh()
    world.now += 0.2
    assert not world.ownership.lease_fresh()


def test_a_frozen_process_has_no_lease_when_it_wakes_up_and_reads_an_old_answer() -> None:
    world = World()
    sent_at = world.now
    world.now += 60  # SIGSTOP between the request and its answer
    world.ownership.heard(sent_at)
    assert not world.ownership.lease_fresh()
    world.ownership.heard(world.now)
    assert world.ownership.lease_fresh()


def test_a_late_answer_does_not_take_the_lease_back() -> None:
    world = World()
    world.ownership.heard(world.now)
    world.ownership.heard(world.now - 60)
    assert world.ownership.lease_fresh()
