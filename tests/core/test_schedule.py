"""Which call goes next: checked against a slow and obvious schedule, and by what it promises."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.core.breaker import FAILURES, RAMP, SHORTEST
from worker.core.quota import Kept
from worker.core.schedule import HEAD_START, PROBE, TOGETHER, Grant, Schedule, Want
from worker.vendors.base import Quota
from worker.words import COMPARES, ENFORCES, PRIORITIES, VERIFIES, Behind, Priority

MINUTE = 60_000
BEHIND: dict[str, Behind] = {"list": VERIFIES, "compare": COMPARES}


def want(
    stream: str = "s",
    operation: str = "forbid",
    priority: Priority = "normal",
    *,
    since: int = 0,
    not_before: int = 0,
    target: str = "t",
    partition: int = 0,
    shared: str | None = None,
    charges: tuple[str, ...] | None = None,
) -> Want:
    return Want(
        stream=stream,
        target=target,
        partition=partition,
        operation=operation,
        charges=(operation,) if charges is None else charges,
        priority=priority,
        behind=BEHIND.get(operation, ENFORCES),
        since=since,
        not_before=not_before,
        shared=shared,
    )


def holding(ours: Schedule, held: int = 1, of: int = 1) -> Schedule:
    for partition in range(held):
        ours.hold(partition, of, {})
    return ours


def schedule(concurrency: int = 100, reserve: float = 0.0, **quotas: tuple[int, int]) -> Schedule:
    windows = {name: (Quota(limit, window),) for name, (limit, window) in quotas.items()}
    return holding(Schedule(windows, concurrency, reserve))


def streams(grants: Iterable[Grant]) -> list[list[str]]:
    return [[each.stream for each in grant.wants] for grant in grants]


# The order


def test_the_most_urgent_goes_first() -> None:
    ours = schedule()
    for waiting in (
        want("low", priority="low", since=0),
        want("read", "list", "high", since=0),
        want("young", priority="high", since=9),
        want("old", priority="high", since=3),
        want("critical", priority="critical", since=9),
        want("critical read", "list", "critical", since=1),
    ):
        ours.offer(waiting)
    assert streams(ours.take(10)) == [["critical"], ["critical read"], ["old"], ["young"], ["low"], ["read"]]


def test_equals_go_in_the_order_they_came() -> None:
    ours = schedule()
    for name in "cab":
        ours.offer(want(name))
    ours.offer(want("c"))  # the same again changes nothing
    assert streams(ours.take(0)) == [["c"], ["a"], ["b"]]


def test_an_operation_whose_quota_is_used_up_stands_aside() -> None:
    ours = schedule(forbid=(1, MINUTE), resume=(1, MINUTE))
    ours.offer(want("a", "forbid", "high", since=1))
    ours.offer(want("b", "forbid", "high", since=2))
    ours.offer(want("c", "resume", "low", since=3))
    first = ours.take(0)
    assert streams(first) == [["a"], ["c"]]
    for grant in first:
        ours.answered(grant, 100)
    assert ours.next_at(100) == 100 + MINUTE + 1
    assert ours.take(100 + MINUTE) == []
    assert streams(ours.take(101 + MINUTE)) == [["b"]]


def test_a_call_needs_a_slot_of_everything_it_charges() -> None:
    ours = schedule(forbid=(5, MINUTE), resume=(5, MINUTE), writes=(2, MINUTE))
    for name, operation in (("a", "forbid"), ("b", "resume"), ("c", "forbid")):
        ours.offer(want(name, operation, charges=(operation, "writes")))
    assert streams(ours.take(0)) == [["a"], ["b"]]
    assert ours.used_ratio(0) == {"forbid": 0.2, "resume": 0.2, "writes": 1.0}


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_the_reserve_is_left_to_critical_calls(priority: Priority) -> None:
    ours = schedule(reserve=0.2, forbid=(5, MINUTE))
    for number in range(6):
        ours.offer(want(f"n{number}", priority=priority, since=number))
    assert len(ours.take(0)) == 4
    ours.offer(want("worst", priority="critical", since=99))
    assert streams(ours.take(99)) == [["worst"]]


def test_a_comparison_comes_last_and_leaves_half_of_every_quota() -> None:
    ours = schedule(list=(5, MINUTE), all=(4, MINUTE))
    for number in range(4):
        ours.offer(want(f"c{number}", "compare", "low", charges=("list", "all")))
    ours.offer(want("check", "list", since=9, charges=("list", "all")))
    assert streams(ours.take(10)) == [["check"], ["c0"]]
    ours.offer(want("check", "list", since=10, charges=("list", "all")))
    ours.offer(want("check again", "list", since=11, charges=("list", "all")))
    assert streams(ours.take(11)) == [["check"], ["check again"]]


def test_the_only_slot_of_a_quota_is_open_to_a_comparison_too() -> None:
    ours = schedule(list=(1, MINUTE))
    ours.offer(want("c", "compare", charges=("list",)))
    assert streams(ours.take(0)) == [["c"]]


@pytest.mark.parametrize(("concurrency", "reads"), [(1, 1), (2, 1), (4, 3), (5, 3), (10, 7)])
def test_reads_leave_enforcement_a_part_of_the_concurrency(concurrency: int, reads: int) -> None:
    ours = schedule(concurrency=concurrency)
    for number in range(20):
        ours.offer(want(f"r{number}", "list" if number % 2 else "compare"))
    taken = ours.take(0)
    assert len(taken) == reads
    assert ours.next_at(0) is None
    for number in range(20):
        ours.offer(want(f"w{number}", "forbid"))
    assert len(ours.take(0)) == concurrency - reads
    ours.answered(taken[0], 0)
    assert streams(ours.take(0)) == [[f"w{concurrency - reads}"]]


@pytest.mark.parametrize(
    ("concurrency", "reserve", "ordinary"),
    [(3, 0.05, 3), (4, 0.05, 3), (10, 0.05, 9), (10, 0.3, 8), (40, 0.05, 38), (10, 0.0, 10)],
)
def test_what_is_critical_finds_a_place_beside_calls_under_way(
    concurrency: int, reserve: float, ordinary: int
) -> None:
    ours = schedule(concurrency=concurrency, reserve=reserve)
    for number in range(50):
        ours.offer(want(f"o{number}", priority="high"))
    assert len(ours.take(0)) == ordinary
    assert ours.next_at(0) is None
    for number in range(50):
        ours.offer(want(f"c{number}", priority="critical"))
    assert [key[:1] for (key,) in streams(ours.take(0))] == ["c"] * (concurrency - ordinary)
    assert ours.next_at(0) is None


def test_concurrency_bounds_what_is_under_way() -> None:
    ours = schedule(concurrency=2)
    for name in "abc":
        ours.offer(want(name))
    first, second = ours.take(0)
    assert ours.take(0) == []
    assert ours.next_at(0) is None
    ours.answered(first, 1)
    assert streams(ours.take(1)) == [["c"]]
    ours.give_back(second)
    assert ours.next_at(1) is None  # nothing waits


def test_nothing_goes_before_its_time() -> None:
    ours = schedule()
    ours.offer(want("later", priority="critical", not_before=50))
    ours.offer(want("now", priority="low"))
    assert streams(ours.take(49)) == [["now"]]
    assert ours.next_at(49) == 50
    assert streams(ours.take(50)) == [["later"]]


def test_a_grant_says_how_long_it_was_kept_back() -> None:
    ours = schedule()
    ours.offer(want("a", since=10, not_before=30))
    assert [grant.waited for grant in ours.take(100)] == [70]
    ours.offer(want("b", since=200))  # another replica's clock was ahead
    assert [grant.waited for grant in ours.take(100)] == [0]


def test_nothing_waits_for_ever_behind_what_is_only_more_urgent_than_it() -> None:
    """High goes before what is normal and up to a minute older; critical before all."""
    ours = schedule(concurrency=1)
    head_start = HEAD_START["normal"]
    for name, priority, since in [
        ("old", "normal", 0),
        ("young", "normal", 1_000),
        ("a", "high", head_start - 1),
        ("b", "high", head_start + 1),
        ("critical", "critical", 2 * head_start),
    ]:
        ours.offer(want(name, "forbid", cast("Priority", priority), since=since))
    order = []
    while taken := ours.take(3 * head_start):
        order += [each.stream for each in taken[0].wants]
        ours.answered(taken[0], 3 * head_start)
    assert order == ["critical", "a", "old", "b", "young"]


def test_enforcement_goes_before_verification() -> None:
    ours = schedule(concurrency=1)
    ours.offer(want("check", "list", "high", since=0))
    ours.offer(want("ban", "forbid", "low", since=10))
    assert streams(ours.take(20)) == [["ban"]]


# A vendor that is away


def test_a_vendor_that_is_away_is_probed_and_then_met_at_its_quotas_pace() -> None:
    ours = schedule(forbid=(300, MINUTE))
    for number in range(400):
        ours.offer(want(str(number), since=number))
    for _ in range(FAILURES):
        ours.breaker.failed(0)
    assert ours.take(0) == []
    assert ours.next_at(0) == SHORTEST
    (probe,) = ours.take(SHORTEST)
    assert ours.next_at(SHORTEST) is None
    ours.answered(probe, SHORTEST)
    ours.breaker.answered(SHORTEST)
    now, went = SHORTEST, 0
    while now < SHORTEST + RAMP:
        went += len(ours.take(now))
        now = ours.next_at(now) or now + 1
    assert 49 <= went <= 51, "300 a minute are 5 a second"


def test_a_probe_that_is_given_back_makes_room_for_the_next() -> None:
    ours = schedule()
    for _ in range(FAILURES):
        ours.breaker.failed(0)
    ours.offer(want("lost"))
    (probe,) = ours.take(SHORTEST)
    ours.offer(want("next"))
    assert ours.take(SHORTEST) == []
    ours.give_back(probe)
    assert streams(ours.take(SHORTEST)) == [["next"]]


# What waits


def test_an_offer_replaces_the_earlier_one_of_its_stream_and_target() -> None:
    ours = schedule()
    ours.offer(want("a", "forbid", "low"))
    ours.offer(want("a", "resume", "high"))
    ours.offer(want("a", "forbid", target="other"))
    assert ours.waiting() == {"critical": 0, "high": 1, "normal": 1, "low": 0}
    assert [grant.operation for grant in ours.take(0)] == ["resume", "forbid"]
    assert ours.take(0) == []


def test_what_is_withdrawn_or_of_a_dropped_partition_does_not_go() -> None:
    ours = schedule()
    for name, partition in (("a", 1), ("b", 2), ("c", 2), ("d", 1)):
        ours.offer(want(name, partition=partition))
    ours.withdraw("a", "t")
    ours.withdraw("unknown", "t")
    ours.release(2)
    assert ours.waiting()["normal"] == 1
    assert streams(ours.take(0)) == [["d"]]


def test_a_grant_is_closed_once() -> None:
    ours = schedule()
    ours.offer(want("a"))
    (grant,) = ours.take(0)
    ours.answered(grant, 1)
    with pytest.raises(KeyError):
        ours.answered(grant, 1)
    with pytest.raises(KeyError):
        ours.give_back(grant)


def test_what_was_never_sent_uses_nothing_up() -> None:
    ours = schedule(forbid=(1, MINUTE))
    ours.offer(want("a"))
    (grant,) = ours.take(0)
    ours.give_back(grant)
    ours.offer(want("a"))
    assert len(ours.take(1)) == 1


# Shared requests


def test_wants_that_can_share_a_request_go_together() -> None:
    ours = schedule(list=(1, MINUTE))
    ours.offer(want("a", "list", "low", shared="domain"))
    ours.offer(want("b", "list", "high", shared="domain"))
    ours.offer(want("c", "list", "high", shared="another"))
    ours.offer(want("not yet", "list", "high", shared="domain", not_before=10))
    ours.offer(want("d", "list", "normal", shared="domain"))
    assert streams(ours.take(0)) == [["b", "a", "d"]]
    assert ours.waiting() == {"critical": 0, "high": 2, "normal": 0, "low": 0}


def test_a_request_is_shared_by_a_bounded_number() -> None:
    ours = schedule()
    for number in range(TOGETHER + 1):
        ours.offer(want(str(number), "list", shared="domain"))
    assert [len(grant.wants) for grant in ours.take(0)] == [TOGETHER, 1]


# What the vendor and the group say


def test_throttled_holds_back_what_charges_the_same_and_nothing_else() -> None:
    ours = schedule(forbid=(10, MINUTE))
    ours.throttled(("forbid", "unheard of"), until=5_000, now=1_000)
    ours.offer(want("a", "forbid"))
    ours.offer(want("b", "resume"))
    ours.offer(want("c", "unheard of"))
    assert streams(ours.take(1_000)) == [["b"]]
    assert ours.next_at(1_000) == 5_000
    assert streams(ours.take(5_000)) == [["a"], ["c"]]


def test_a_stopped_account_lets_one_call_through_now_and_then() -> None:
    ours = schedule()
    for name in "abc":
        ours.offer(want(name))
    ours.stop(1_000)
    ours.stop(20_000)  # another answer says so too: no further delay
    assert ours.stopped
    assert ours.take(1_000 + PROBE - 1) == []
    assert ours.next_at(2_000) == 1_000 + PROBE
    assert streams(ours.take(1_000 + PROBE)) == [["a"]]
    assert ours.take(1_000 + PROBE) == []
    assert ours.next_at(1_000 + PROBE) == 1_000 + 2 * PROBE
    ours.go()
    assert not ours.stopped
    assert streams(ours.take(1_000 + PROBE)) == [["b"], ["c"]]


def test_a_clock_set_back_does_not_stop_an_account_for_longer() -> None:
    ours = schedule()
    ours.offer(want("a"))
    ours.stop(10**9)
    assert ours.next_at(5_000) == 5_000 + PROBE


def test_slots_and_what_they_were_used_for_reach_the_quotas() -> None:
    ours = Schedule({"forbid": (Quota(12, MINUTE),), "list": (Quota(3, MINUTE),)}, 10, 0.0)
    ours.hold(0, 4, {"forbid": {MINUTE: Kept(MINUTE, (500, 600))}})
    assert ours.below_one() == ("list",)
    for name in "abc":
        ours.offer(want(name))
    ours.offer(want("r", "list"))
    assert streams(ours.take(1_000)) == [["a"]]
    assert ours.next_at(1_000) == 501 + MINUTE
    (use,) = ours.kept(0)["forbid"][0].under_way
    assert use.granted_at == 1_000


def test_a_want_does_not_show_its_stream() -> None:
    ours = schedule()
    ours.offer(want("sekret", shared="sekret"))
    (grant,) = ours.take(0)
    assert "sekret" not in repr(grant) + repr(grant.wants)


# In the large


def test_offering_again_and_again_does_not_grow() -> None:
    """A blocked stream is offered anew with every verdict; what it replaces has to go."""
    ours = schedule(forbid=(0, MINUTE))
    tracemalloc.start()
    for number in range(30_000):
        ours.offer(want("a", since=-number))
        ours.take(number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1_000_000


def test_a_waiting_want_takes_less_than_a_kilobyte() -> None:
    number = 5_000
    ours = schedule(forbid=(0, MINUTE))
    tracemalloc.start()
    for index in range(number):
        ours.offer(want(f"tenant/stream-{index:032}", since=index, shared=f"domain-{index}"))
    ours.take(number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(ours.waiting().values()) == number
    assert size / number < 1024


# Against the obvious

CHARGES: dict[str, tuple[str, ...]] = {
    "forbid": ("forbid", "writes"),
    "resume": ("resume", "writes"),
    "list": ("list",),
    "compare": ("list", "writes"),
    "drop": ("drop",),
}
QUOTAS = {
    "forbid": (Quota(3, 1_000), Quota(6, 9_000)),
    "resume": (Quota(2, 2_000),),
    "writes": (Quota(4, 3_000), Quota(20, 30_000)),
    "list": (Quota(2, 5_000),),
}
RESERVE = 0.3
CONCURRENCY = 4
KEPT = 1
OFFERS = st.tuples(
    st.integers(0, 19),  # stream
    st.sampled_from(sorted(CHARGES)),
    st.sampled_from(PRIORITIES),
    st.integers(0, 2),  # age
    st.sampled_from([0, 0, 0, 10, 2_000]),  # delay
    st.sampled_from([None, "x", "y"]),  # shared
)


@dataclass
class Obvious:
    """One call that went out, as the vendor may count it."""

    grant: Grant
    sent: int
    behind: Behind = ENFORCES
    answered: int | None = None
    looked_at: bool = False


class AgainstTheObvious(RuleBasedStateMachine):
    """The same rules, written down as slowly and plainly as possible."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = holding(Schedule(QUOTAS, CONCURRENCY, RESERVE), 4, 4)
        self.now = 1_000_000
        self.waiting: list[Want] = []
        self.calls: list[Obvious] = []
        self.pushed: dict[str, int] = {}
        self.probe_at: int | None = None

    # Plain answers to the same questions

    def free(self, name: str, *, critical: bool, half: bool, now: int) -> bool:
        for quota in QUOTAS.get(name, ()):
            used = sum(
                1
                for call in self.calls
                if name in call.grant.charges
                and (call.answered is None or call.answered + quota.window >= now)
            )
            kept = max(1, int(quota.limit * RESERVE)) if quota.window > 1_000 and not critical else 0
            if half and not critical:
                kept = max(kept, quota.limit // 2)
            if used >= quota.limit - kept:
                return False
        return self.pushed.get(name, 0) <= now

    def allowed(self, waiting: Want, now: int) -> bool:
        critical, half = waiting.priority == "critical", waiting.behind == COMPARES
        under_way = [call for call in self.calls if call.answered is None]
        return (
            waiting.not_before <= now
            and len(under_way) < (CONCURRENCY if critical else CONCURRENCY - KEPT)
            and not (waiting.behind and sum(call.behind > 0 for call in under_way) >= CONCURRENCY - 1)
            and (self.probe_at is None or self.probe_at <= now)
            and all(self.free(name, critical=critical, half=half, now=now) for name in waiting.charges)
        )

    def grants(self) -> list[list[Want]]:
        """What should be granted now, and let it be so."""
        granted = []
        while may := [waiting for waiting in self.waiting if self.allowed(waiting, self.now)]:
            first = min(
                may,
                key=lambda w: (
                    w.priority != "critical",
                    w.behind,
                    w.since + HEAD_START[w.priority],
                    PRIORITIES.index(w.priority),
                ),
            )
            together = [
                other
                for other in self.waiting
                if other is not first
                and first.shared is not None
                and (other.operation, other.shared) == (first.operation, first.shared)
                and other.not_before <= self.now
            ]
            granted.append([first, *together])
            self.waiting = [w for w in self.waiting if w not in granted[-1]]
            grant = Grant((), first.operation, first.charges, 0)
            self.calls.append(Obvious(grant, self.now, first.behind))
            if self.probe_at is not None:
                self.probe_at = self.now + PROBE
        return granted

    # What happens

    @rule(offers=st.lists(OFFERS, min_size=1, max_size=6))
    def offer(self, offers: list[tuple[int, str, Priority, int, int, str | None]]) -> None:
        for name, operation, priority, age, delay, shared in offers:
            offered = want(
                str(name),
                operation,
                priority,
                since=self.now - age,
                not_before=self.now + delay if delay else 0,
                partition=name % 3,
                shared=shared if operation == "list" else None,
                charges=CHARGES[operation],
            )
            self.ours.offer(offered)
            if offered not in self.waiting:
                self.waiting = [w for w in self.waiting if w.stream != offered.stream]
                self.waiting.append(offered)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def offer_the_same(self, data: st.DataObject) -> None:
        self.ours.offer(replace(data.draw(st.sampled_from(self.waiting))))

    @rule(name=st.integers(0, 19))
    def withdraw(self, name: int) -> None:
        self.ours.withdraw(str(name), "t")
        self.waiting = [w for w in self.waiting if w.stream != str(name)]

    @rule(partition=st.integers(0, 2))
    def drop(self, partition: int) -> None:
        kept = {
            name: {one.window: one for one in windows} for name, windows in self.ours.kept(partition).items()
        }
        self.ours.release(partition)
        self.ours.hold(partition, 4, kept)
        self.waiting = [w for w in self.waiting if w.partition != partition]

    @rule(length=st.one_of(st.integers(0, 300), st.integers(0, 12_000)))
    def time_passes(self, length: int) -> None:
        self.now += length

    @rule()
    def take(self) -> None:
        expected = self.grants()
        granted = self.ours.take(self.now)
        assert [list(grant.wants) for grant in granted] == expected
        if granted:
            for call, grant in zip(self.calls[-len(granted) :], granted, strict=True):
                call.grant = grant

    @precondition(lambda self: any(call.answered is None for call in self.calls))
    @rule(data=st.data(), sent=st.booleans())
    def answer(self, data: st.DataObject, sent: bool) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.answered is None]))
        if sent:
            call.answered = self.now
            self.ours.answered(call.grant, self.now)
        else:
            self.calls.remove(call)
            self.ours.give_back(call.grant)

    @rule(operation=st.sampled_from(sorted(CHARGES)), length=st.integers(1, 4_000))
    def throttled(self, operation: str, length: int) -> None:
        self.ours.throttled(CHARGES[operation], self.now + length, self.now)
        for name in CHARGES[operation]:
            self.pushed[name] = max(self.pushed.get(name, 0), self.now + length)

    @rule()
    def stop(self) -> None:
        self.ours.stop(self.now)
        if self.probe_at is None:
            self.probe_at = self.now + PROBE

    @rule()
    def go(self) -> None:
        self.ours.go()
        self.probe_at = None

    @rule()
    def sleep_until_something_can_go(self) -> None:
        moment = self.ours.next_at(self.now)
        assert moment is None or moment >= self.now
        for between in {self.now, self.now + 1, self.now + 500, (moment or 10**9) - 1}:
            if moment is None or self.now <= between < moment:
                assert not any(self.allowed(waiting, between) for waiting in self.waiting)
        self.now = moment or self.now

    # What always holds

    @invariant()
    def the_same_wait(self) -> None:
        expected = {p: sum(w.priority == p for w in self.waiting) for p in PRIORITIES}
        assert self.ours.waiting() == expected

    @invariant()
    def no_vendor_could_complain(self) -> None:
        """Counting each call at its worst moment: the first of a window as late, the rest as early.

        Only the new calls are asked about: an answer later makes those before them count for less.
        """
        new = [call for call in self.calls if not call.looked_at]
        for name, windows in QUOTAS.items():
            mine = [call for call in self.calls if name in call.grant.charges]
            for quota in windows:
                for last in (call for call in new if name in call.grant.charges):
                    within = [
                        call
                        for call in mine
                        if call.sent <= last.sent
                        and (call.answered is None or call.answered >= last.sent - quota.window)
                    ]
                    assert len(within) <= quota.limit
        for call in new:
            call.looked_at = True


TestAgainstTheObvious = AgainstTheObvious.TestCase
TestAgainstTheObvious.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
