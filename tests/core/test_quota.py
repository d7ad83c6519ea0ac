"""Sliding windows: never more than the vendor allows, never much less."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import ledger
from worker.core.quota import AHEAD, Allowance, Kept, Use, slots_of
from worker.vendors.base import Quota


class Ours(Allowance):
    """An allowance and its uses under way, the first of which is the one that is answered."""

    def __init__(self, quotas: list[Quota], reserve: float) -> None:
        super().__init__(quotas, reserve)
        self.uses: list[Use] = []

    def use(self, name: str = "", at: int = 0, prefer: int = 0) -> Use:
        self.uses.append(Use(name, at))
        self.take(self.uses[-1], prefer)
        return self.uses[-1]

    def answered(self, at: int | None, which: int = 0) -> None:
        self.uses.pop(which).settle(at)


def allowance(*quotas: tuple[int, int], reserve: float = 0.0, held: int = 1, of: int = 1) -> Ours:
    """Our slots, holding the first partitions of some."""
    ours = Ours([Quota(limit, window) for limit, window in quotas], reserve)
    for partition in range(held):
        ours.hold(partition, of, {})
    return ours


def known(window: int, *answers: int) -> dict[int, Kept]:
    return {window: Kept(window, answers)}


def most_in_one_window(counted: list[float], window: int) -> int:
    """The fullest closed window of a vendor that counted calls at these moments."""
    counted = sorted(counted)
    first = fullest = 0
    for last, moment in enumerate(counted):
        while moment - counted[first] > window:
            first += 1
        fullest = max(fullest, last - first + 1)
    return fullest


class Vendor:
    """True time in fractions of a millisecond; our wall clock rounds down and may be set back."""

    def __init__(self, ours: Ours, partitions: int) -> None:
        self.ours, self.partitions = ours, partitions
        self.time = 10_000.0
        self.offset = 0
        self.counted: list[float] = []
        self.under_way: list[float] = []

    @property
    def now(self) -> int:
        return int(self.time) + self.offset

    def time_passes(self, length: float) -> None:
        self.time += length

    def clock_set_back(self, length: int) -> None:
        self.offset -= length

    def move(self, partition: int) -> None:
        """Lose a partition and have it back; what was under way is still known."""
        partition %= self.partitions
        windows = {kept.window: kept for kept in self.ours.kept(partition)}
        self.ours.release(partition)
        self.ours.hold(partition, self.partitions, windows)

    def call(self, critical: bool) -> None:
        if self.ours.wait(self.now, critical=critical) == 0:
            self.ours.use(prefer=len(self.counted) % 5)
            self.under_way.append(self.time)

    def answer(self, which: int, counted: float, in_the_inbox: int) -> None:
        if self.under_way:
            which %= len(self.under_way)
            sent = self.under_way.pop(which)
            self.counted.append(sent + counted * (self.time - sent))
            answered_at = self.now
            self.time += in_the_inbox
            self.ours.answered(answered_at, which)

    def give_back(self, which: int) -> None:
        if self.under_way:
            which %= len(self.under_way)
            self.under_way.pop(which)
            self.ours.answered(None, which)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Vendor.time_passes), st.floats(0, 700)),
        st.tuples(st.just(Vendor.call), st.booleans()),
        st.tuples(st.just(Vendor.answer), st.integers(0, 50), st.floats(0, 1), st.integers(0, 5)),
        st.tuples(st.just(Vendor.give_back), st.integers(0, 50)),
        st.tuples(st.just(Vendor.clock_set_back), st.integers(1, 100_000)),
        st.tuples(st.just(Vendor.move), st.integers(0, 3)),
    ),
    max_size=150,
)


@pytest.mark.parametrize("quotas", [[(1, 60_000), (2, 60_000)], [(2, 60_000), (1, 60_000)]])
def test_of_two_limits_on_one_length_the_lower_holds(quotas: list[tuple[int, int]]) -> None:
    limited = allowance(*quotas)
    limited.take(Use(), 0)
    assert limited.wait(0, critical=True) != 0


@settings(max_examples=200, deadline=None)
@given(
    quotas=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2_000)), min_size=1, max_size=3),
    reserve=st.sampled_from([0.0, 0.05, 0.5]),
    partitions=st.integers(1, 4),
    steps=STEPS,
)
def test_no_window_is_exceeded_whenever_the_vendor_counts(
    quotas: list[tuple[int, int]], reserve: float, partitions: int, steps: list[tuple[Any, ...]]
) -> None:
    """However calls, answers, moves and a clock set back interleave."""
    vendor = Vendor(allowance(*quotas, reserve=reserve, held=partitions, of=partitions), partitions)
    for what, *how in steps:
        what(vendor, *how)
    for limit, window in quotas:
        assert most_in_one_window(vendor.counted + vendor.under_way, window) <= limit


@given(
    window=st.integers(1, 100_000),
    limit=st.integers(1, 20),
    latencies=st.lists(st.integers(0, 500), min_size=20, max_size=20),
)
def test_a_wait_is_exact(window: int, limit: int, latencies: list[int]) -> None:
    """Not one millisecond too early or too late."""
    ours = allowance((limit, window))
    now = 50_000
    for latency in latencies[:limit]:
        ours.use()
        now += latency
        ours.answered(now)
    wait = ours.wait(now, critical=True)
    assert wait is not None
    assert wait == 0 or ours.wait(now + wait - 1, critical=True) == 1
    assert ours.wait(now + wait, critical=True) == 0


def test_without_answers_there_is_nothing_to_wait_for() -> None:
    ours = allowance((1, 1000))
    ours.use()
    assert ours.wait(10**9, critical=True) is None
    ours.answered(None)
    assert ours.wait(10**9, critical=True) == 0


def test_a_slot_comes_free_one_window_after_the_answer_not_after_the_call() -> None:
    ours = allowance((1, 1000))
    ours.use()  # at 0
    ours.answered(5_000)
    assert ours.wait(5_500, critical=True) == 501
    assert ours.wait(6_000, critical=True) == 1
    assert ours.wait(6_001, critical=True) == 0


def test_several_windows_hold_at_once() -> None:
    ours = allowance((2, 1000), (3, 60_000))
    for at in (0, 0, 2_000):
        assert ours.wait(at, critical=True) == 0
        ours.use()
        ours.answered(at)
    assert ours.wait(4_000, critical=True) == 56_001


@pytest.mark.parametrize(
    ("limit", "window", "reserve", "open_to_all"),
    [
        (100, 60_000, 0.05, 95),
        (10, 60_000, 0.05, 9),  # at least one slot
        (1, 60_000, 0.05, 1),  # the only slot is open to all
        (20, 1_000, 0.05, 20),  # none for windows up to 1 s
        (20, 1_001, 0.05, 19),
        (100, 60_000, 0.0, 100),
    ],
)
def test_a_part_is_for_critical_calls_only(limit: int, window: int, reserve: float, open_to_all: int) -> None:
    ours = allowance((limit, window), reserve=reserve)
    normal = 0
    while ours.wait(0, critical=False) == 0:
        ours.use()
        normal += 1
    critical = 0
    while ours.wait(0, critical=True) == 0:
        ours.use()
        critical += 1
    assert (normal, critical) == (open_to_all, limit - open_to_all)


@pytest.mark.parametrize(
    ("limit", "window", "reserve", "taken"),
    [(100, 60_000, 0.05, 50), (5, 1_000, 0.05, 3), (1, 60_000, 0.05, 1), (100, 60_000, 0.8, 20)],
)
def test_half_is_left_to_what_cannot_wait(limit: int, window: int, reserve: float, taken: int) -> None:
    ours = allowance((limit, window), reserve=reserve)
    number = 0
    while ours.wait(0, critical=False, half=True) == 0:
        ours.use()
        number += 1
    assert number == taken
    for at in range(number):
        ours.answered(at)
    assert ours.wait(number, critical=False, half=True) == window + 1 - number


def test_a_push_gives_nothing_before_its_end_and_is_never_shortened() -> None:
    ours = allowance((10, 1000))
    ours.push(until=5_000, now=1_000)
    ours.push(until=2_000, now=1_000)
    assert ours.wait(1_000, critical=True) == 4_000
    assert ours.used_ratio(1_000) == 1.0
    assert ours.wait(5_000, critical=True) == 0
    assert ours.used_ratio(5_000) == 0.0


def test_a_push_lasts_no_longer_when_the_clock_is_set_back() -> None:
    ours = allowance((10, 1000))
    ours.push(until=1_002_000, now=1_000_000)
    assert ours.wait(5_000, critical=True) == 2_000


def test_a_quota_without_windows_limits_nothing_but_can_be_pushed() -> None:
    ours = allowance()
    for _ in range(100):
        assert ours.wait(0, critical=False) == 0
        ours.use()
    ours.push(until=10, now=0)
    assert ours.wait(0, critical=False) == 10


def test_what_was_used_before_counts_in_any_order() -> None:
    ours = allowance((3, 10_000), held=0)
    ours.hold(0, 1, known(10_000, 9_000, 1_000, 5_000))
    assert ours.wait(9_500, critical=True) == 1_501
    assert ours.wait(11_001, critical=True) == 0


def test_what_was_used_before_counts_though_the_window_is_another_now() -> None:
    ours = allowance((3, 60_000), held=0)
    ours.hold(0, 1, known(10_000, 1_000, 5_000, 9_000) | known(5_000, 9_000))
    assert ours.wait(9_500, critical=True) == 1_000 + 60_001 - 9_500


def test_a_clock_set_back_keeps_slots_no_longer_than_a_window() -> None:
    ours = allowance((1, 60_000))
    ours.use()
    ours.answered(10_000_000)
    assert ours.wait(1_000, critical=True) == 60_001 + AHEAD


@given(limit=st.integers(0, 1000), partitions=st.integers(1, 24))
def test_the_slots_of_all_partitions_are_the_limit(limit: int, partitions: int) -> None:
    slots = [slots_of(partition, partitions, limit) for partition in range(partitions)]
    assert sum(slots) == limit
    assert max(slots) - min(slots) <= 1


def test_a_slot_of_the_streams_own_partition_is_taken_first() -> None:
    ours = allowance((6, 1_000), held=2, of=3)
    assert [ours.use(prefer=1).partitions() for _ in range(4)] == [{1}, {1}, {0}, {0}]
    assert ours.wait(0, critical=True) is None


def test_each_window_takes_a_slot_where_it_has_one() -> None:
    """Ten in 5 minutes are less than one for most partitions; the day's slots of all can be used."""
    ours = allowance((1, 1_000), (12, 60_000), held=12, of=12)
    for at in range(12):
        assert ours.wait(2_000 * at, critical=True) == 0
        ours.use(prefer=at)
        ours.answered(2_000 * at)
    assert ours.wait(24_000, critical=True) == 60_001 - 24_000


def test_a_replica_without_a_slot_says_so() -> None:
    assert allowance((3, 1_000), held=1, of=4).below_one()
    assert not allowance((3, 1_000), held=2, of=4).below_one()
    without = allowance((10, 1_000), held=0)
    assert not without.below_one()
    assert without.wait(0, critical=True) is None


def test_an_answer_for_a_partition_that_is_gone_frees_nothing_here() -> None:
    ours = allowance((2, 1_000), held=2, of=2)
    ours.use(prefer=0)
    ours.use(prefer=1)
    ours.release(0)
    ours.answered(None)
    assert ours.wait(0, critical=True) is None
    ours.answered(None)
    assert ours.wait(0, critical=True) == 0


def test_fewer_slots_than_were_used_wait_until_enough_has_come_free() -> None:
    """The topic was enlarged: five partitions instead of one."""
    ours = allowance((10, 1_000), held=0)
    ours.hold(0, 5, known(1_000, *range(10)))  # 2 slots: nine of the ten have to come free
    assert ours.wait(10, critical=True) == 8 + 1_001 - 10
    assert ours.used_ratio(10) == 5.0


def test_a_new_partition_of_a_topic_in_use_waits_for_what_others_did_with_its_slots() -> None:
    ours = allowance((10, 1_000), held=0)
    new = ledger.decode(ledger.encode_full(500))
    ours.hold(4, 5, {}, new.full_at)
    assert ours.used_ratio(500) == 1.0
    assert ours.wait(500, critical=True) == 1_001


# -- replicas, and partitions that move between them --------------------------------------------------


class Group:
    """Replicas over one log: grants are committed before they are sent, a partition takes its ledger along.

    A replica that is killed loses what it did not commit; a request that it sent may still be counted.
    """

    TIMEOUT = 400

    def __init__(self, quotas: list[tuple[int, int]], partitions: int) -> None:
        self.quotas, self.partitions = quotas, partitions
        self.now = 100_000
        self.records: dict[int, bytes] = {}
        self.owners = dict.fromkeys(range(partitions), 0)
        self.replicas = [self._new() for _ in range(3)]
        self.sent: list[tuple[int, int, int]] = []  # (replica, when, deadline) of what has no answer
        self.uses: list[Use] = []
        self.counted: list[float] = []
        self.n = 0
        for partition in range(partitions):
            self.replicas[0].hold(partition, partitions, {})

    def _new(self) -> Allowance:
        return Allowance([Quota(*quota) for quota in self.quotas], 0.0, AHEAD + self.TIMEOUT)

    def _write(self, partition: int) -> None:
        ours = self.replicas[self.owners[partition]]
        self.records[partition] = ledger.encode({"hw": {"block": ours.kept(partition)}})

    def time_passes(self, length: int) -> None:
        self.now += length
        for which in [i for i, (_, _, deadline) in enumerate(self.sent) if deadline <= self.now][::-1]:
            self.answer(which, 1.0)

    def call(self, replica: int, prefer: int) -> None:
        """Wait for a slot, and make all the calls that may be made."""
        replica %= 3
        self.time_passes(self.replicas[replica].wait(self.now, critical=True) or 0)
        while self.replicas[replica].wait(self.now, critical=True) == 0:
            self.n += 1
            use = Use(str(self.n), self.now)
            self.replicas[replica].take(use, prefer % self.partitions)
            for partition in use.partitions():
                self._write(partition)
            self.uses.append(use)
            self.sent.append((replica, self.now, self.now + self.TIMEOUT))

    def answer(self, which: int, counted: float) -> None:
        if self.sent:
            which %= len(self.sent)
            _, sent, deadline = self.sent.pop(which)
            self.counted.append(sent + counted * (min(self.now, deadline) - sent))
            use = self.uses.pop(which)
            partitions = use.partitions()
            use.settle(self.now)
            for partition in partitions & {p for p in self.owners if self.now % 2}:  # not all is committed
                self._write(partition)

    def move(self, partition: int, replica: int) -> None:
        partition, replica = partition % self.partitions, replica % 3
        self.replicas[self.owners[partition]].release(partition)
        self.owners[partition] = replica
        self._take(partition)

    def kill(self, replica: int) -> None:
        """Start it anew with the partitions it had."""
        replica %= 3
        self.replicas[replica] = self._new()
        for partition, owner in self.owners.items():
            if owner == replica:
                self._take(partition)

    def _take(self, partition: int) -> None:
        said = ledger.decode(self.records.get(partition)).uses.get("hw", {}).get("block", {})
        kept = {
            window: Kept(
                window,
                [*one.answers, *(min(self.now, use.granted_at) + self.TIMEOUT for use in one.under_way)],
            )
            for window, one in said.items()
        }
        self.replicas[self.owners[partition]].hold(partition, self.partitions, kept)


@settings(max_examples=200, deadline=None)
@given(
    quotas=st.lists(
        st.tuples(st.integers(1, 8), st.integers(300, 3_000)),
        min_size=1,
        max_size=2,
        unique_by=lambda quota: quota[1],
    ),
    partitions=st.integers(1, 5),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just(Group.time_passes), st.integers(1, 900)),
            st.tuples(st.just(Group.call), st.integers(0, 2), st.integers(0, 4)),
            st.tuples(st.just(Group.answer), st.integers(0, 50), st.sampled_from([0.0, 0.5, 1.0])),
            st.tuples(st.just(Group.move), st.integers(0, 4), st.integers(0, 2)),
            st.tuples(st.just(Group.kill), st.integers(0, 2)),
        ),
        max_size=120,
    ),
)
def test_a_group_exceeds_no_window_whoever_has_which_partition(
    quotas: list[tuple[int, int]], partitions: int, steps: list[tuple[Any, ...]]
) -> None:
    group = Group(quotas, partitions)
    for what, *how in steps:
        what(group, *how)
    for limit, window in quotas:
        assert most_in_one_window(group.counted + [float(sent) for _, sent, _ in group.sent], window) <= limit


def test_a_ledger_stays_short() -> None:
    """A record holds a thousandth of a window at most once more: moments are rounded up to it."""
    moments = sorted(random.Random(1).choices(range(1_790_000_000_000, 1_790_000_060_000), k=4_000))
    record = ledger.encode({"hw": {"block": [Kept(60_000, moments, [Use("id", moments[-1])])]}})
    (kept,) = ledger.decode(record).uses["hw"]["block"].values()
    assert len(kept.answers) == 4_000
    assert all(0 <= later - at < 60 for at, later in zip(moments, kept.answers, strict=True))
    assert [(use.id, use.granted_at) for use in kept.under_way] == [("id", moments[-1])]
    assert len(record) < 12_000
    assert ledger.encode({"hw": {"block": [Kept(60_000)]}}) == b"{}"
    assert ledger.decode(None).uses == {}


@pytest.mark.parametrize(("limit", "window"), [(300, 60_000), (10, 300_000), (500, 86_400_000)])
def test_a_long_window_is_used_up_when_there_is_work(limit: int, window: int) -> None:
    """At least 98 % in the long run, with answers after 50 to 1000 ms."""
    ours = allowance((limit, window))
    luck = random.Random(limit)
    answers: list[int] = []
    now, calls, windows = 0, 0, 10
    while now < windows * window:
        while answers and answers[0] <= now:
            ours.answered(answers.pop(0))
        wait = ours.wait(now, critical=True)
        if wait == 0:
            ours.use()
            calls += 1
            answers.append(now + luck.randint(50, 1000))
            answers.sort()
            continue
        moments = [*answers[:1], *([] if wait is None else [now + wait])]
        now = min(moments)
    assert calls >= 0.98 * limit * windows


def test_the_fullest_window_is_found() -> None:
    """The measure of these tests itself."""
    moments = [30.0, 10.1, 4.0, 10.0, 0.0]
    assert most_in_one_window(moments, 10) == 3
    assert most_in_one_window(moments, 5) == 2
    assert most_in_one_window(moments, 31) == 5
