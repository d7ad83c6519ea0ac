"""Sliding windows: never more than the vendor allows, never much less."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.quota import AHEAD, Allowance
from worker.vendors.base import Quota


def allowance(*quotas: tuple[int, int], reserve: float = 0.0) -> Allowance:
    return Allowance([Quota(limit, window) for limit, window in quotas], reserve)


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

    def __init__(self, ours: Allowance) -> None:
        self.ours = ours
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

    def share(self, held: int) -> None:
        self.ours.set_share(held, 4)

    def call(self, critical: bool) -> None:
        if self.ours.wait(self.now, critical=critical) == 0:
            self.ours.take()
            self.under_way.append(self.time)

    def answer(self, which: int, counted: float, in_the_inbox: int) -> None:
        if self.under_way:
            sent = self.under_way.pop(which % len(self.under_way))
            self.counted.append(sent + counted * (self.time - sent))
            answered_at = self.now
            self.time += in_the_inbox
            self.ours.answered(answered_at)

    def give_back(self, which: int) -> None:
        if self.under_way:
            self.under_way.pop(which % len(self.under_way))
            self.ours.give_back()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Vendor.time_passes), st.floats(0, 700)),
        st.tuples(st.just(Vendor.call), st.booleans()),
        st.tuples(st.just(Vendor.answer), st.integers(0, 50), st.floats(0, 1), st.integers(0, 5)),
        st.tuples(st.just(Vendor.give_back), st.integers(0, 50)),
        st.tuples(st.just(Vendor.clock_set_back), st.integers(1, 100_000)),
        st.tuples(st.just(Vendor.share), st.integers(0, 4)),
    ),
    max_size=150,
)


@settings(max_examples=200, deadline=None)
@given(
    quotas=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2_000)), min_size=1, max_size=3),
    reserve=st.sampled_from([0.0, 0.05, 0.5]),
    steps=STEPS,
)
def test_no_window_is_exceeded_whenever_the_vendor_counts(
    quotas: list[tuple[int, int]], reserve: float, steps: list[tuple[Any, ...]]
) -> None:
    """However calls, answers, shares and a clock set back interleave."""
    vendor = Vendor(allowance(*quotas, reserve=reserve))
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
        ours.take()
        now += latency
        ours.answered(now)
    wait = ours.wait(now, critical=True)
    assert wait is not None
    assert wait == 0 or ours.wait(now + wait - 1, critical=True) == 1
    assert ours.wait(now + wait, critical=True) == 0


def test_without_answers_there_is_nothing_to_wait_for() -> None:
    ours = allowance((1, 1000))
    ours.take()
    assert ours.wait(10**9, critical=True) is None
    ours.give_back()
    assert ours.wait(10**9, critical=True) == 0


def test_a_slot_comes_free_one_window_after_the_answer_not_after_the_call() -> None:
    ours = allowance((1, 1000))
    ours.take()  # at 0
    ours.answered(5_000)
    assert ours.wait(5_500, critical=True) == 501
    assert ours.wait(6_000, critical=True) == 1
    assert ours.wait(6_001, critical=True) == 0


def test_several_windows_hold_at_once() -> None:
    ours = allowance((2, 1000), (3, 60_000))
    for at in (0, 0, 2_000):
        assert ours.wait(at, critical=True) == 0
        ours.take()
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
        ours.take()
        normal += 1
    critical = 0
    while ours.wait(0, critical=True) == 0:
        ours.take()
        critical += 1
    assert (normal, critical) == (open_to_all, limit - open_to_all)


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
        ours.take()
    ours.push(until=10, now=0)
    assert ours.wait(0, critical=False) == 10


def test_seeds_count_in_any_order() -> None:
    ours = allowance((3, 10_000))
    for at in (9_000, 1_000, 5_000):
        ours.seed(at)
    assert ours.wait(9_500, critical=True) == 1_501
    assert ours.wait(11_001, critical=True) == 0


def test_every_seed_counts_though_many_are_of_one_moment() -> None:
    """What was under way at a crash is seeded as of the restore."""
    ours = allowance((5, 10_000))
    ours.take()
    ours.answered(4_000)
    for _ in range(4):
        ours.seed(4_000)
    assert ours.used_ratio(4_000) == 1.0
    assert ours.wait(4_000, critical=True) == 10_001


def test_a_clock_set_back_keeps_slots_no_longer_than_a_window() -> None:
    ours = allowance((1, 60_000))
    ours.take()
    ours.answered(10_000_000)
    assert ours.wait(1_000, critical=True) == 60_001 + AHEAD


@given(limit=st.integers(0, 1000), parts=st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_shares_of_a_group_never_add_up_to_more(limit: int, parts: list[int]) -> None:
    total = sum(parts)
    if total == 0:
        return
    given_out = 0
    for held in parts:
        ours = allowance((limit, 1_000_000))
        ours.set_share(held, total)
        mine = 0
        while ours.wait(0, critical=True) == 0:
            ours.take()
            mine += 1
        assert ours.below_one() == (held > 0 and mine == 0)
        given_out += mine
    assert limit - len(parts) < given_out <= limit


def test_a_share_that_shrinks_waits_until_enough_has_come_free() -> None:
    ours = allowance((10, 1_000))
    for at in range(10):
        ours.take()
        ours.answered(at)
    ours.set_share(1, 5)  # 2 slots: nine of the ten have to come free
    assert ours.wait(10, critical=True) == 8 + 1_001 - 10
    assert ours.used_ratio(10) == 5.0


def test_without_partitions_nothing_goes_and_nothing_is_wrong() -> None:
    ours = allowance((10, 1_000))
    ours.set_share(0, 12)
    assert ours.wait(0, critical=True) is None
    assert not ours.below_one()


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
            ours.take()
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
