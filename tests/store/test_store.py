"""The store's script, on a real server: never more than a window allows, never much less."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_quota import most_in_one_window
from tests.store.replicas import LEASE, Clock, Replica, pool
from tests.store.server import RedisServer
from worker.core.permits import LATEST, USED_WITHIN, Permit, Pool, Said, Told
from worker.runtime.store import Store, StoreError

pytestmark = pytest.mark.store
SECOND, MINUTE = 1_000, 60_000


@pytest.fixture
def clock(server: RedisServer) -> Clock:
    return Clock(server)


def told(pools: Sequence[Pool], *partitions: int) -> Said:
    return Said(told=[Told(partition, dict.fromkeys(pools, ())) for partition in partitions])


def replica(
    server: RedisServer, clock: Clock, pools: Sequence[Pool], held: int = 1, of: int = 1, lease: int = LEASE
) -> Replica:
    """Return a replica that has told the first of some partitions."""
    made = Replica(server, clock, "a", of, lease)
    made.store.say(told(pools, *range(held)))
    return made


# What is given


def test_permits_are_given_up_to_the_limit_and_then_a_wait_is_told(server: RedisServer, clock: Clock) -> None:
    pools = [pool(3, MINUTE)]
    ours = replica(server, clock, pools, lease=10 * MINUTE)
    permits, wait = ours.ask(pools, 5)
    assert len(permits) == 3
    assert wait == USED_WITHIN + pools[0].timeout + MINUTE + 1  # should nothing be heard of them
    ours.settle(permits[0])
    assert ours.ask(pools) == ([], MINUTE + 1)
    clock.passes(MINUTE)
    assert ours.ask(pools) == ([], 1)
    clock.passes(1)
    assert len(ours.ask(pools, 2)[0]) == 1


def test_what_was_never_sent_comes_free_at_once(server: RedisServer, clock: Clock) -> None:
    pools = [pool(1, MINUTE)]
    ours = replica(server, clock, pools)
    (permit,), _ = ours.ask(pools)
    ours.give_back(permit)
    assert len(ours.ask(pools)[0]) == 1
    ours.settle(permit)  # too late: it is given back
    ours.give_back(permit)
    assert ours.ask(pools)[0] == []


def test_several_windows_hold_at_once_all_or_nothing(server: RedisServer, clock: Clock) -> None:
    block, writes, day = pool(5, SECOND), pool(3, MINUTE, name="writes"), pool(9, 2 * MINUTE, name="writes")
    ours = replica(server, clock, [block, writes, day])
    assert len(ours.ask([block, writes, day], 4)[0]) == 3
    assert ours.ask([block, writes])[0] == []
    assert len(ours.ask([block], 9)[0]) == 2, "what was refused took nothing"
    used = ours.here([block, writes, day], 0).used
    assert used == {block: (5, 5), writes: (3, 3), day: (3, 9)}


@pytest.mark.parametrize(
    ("limit", "reserve", "open_to_all"), [(100, 0.05, 95), (10, 0.05, 9), (1, 0.05, 1), (100, 0.0, 100)]
)
def test_a_part_is_for_critical_calls_only(
    server: RedisServer, clock: Clock, limit: int, reserve: float, open_to_all: int
) -> None:
    pools = [pool(limit, MINUTE, reserve=reserve)]
    ours = replica(server, clock, pools)
    assert len(ours.ask(pools, limit + 1)[0]) == open_to_all
    assert len(ours.ask(pools, limit + 1, critical=True)[0]) == limit - open_to_all


def test_what_a_replica_took_with_it_comes_free_by_itself(server: RedisServer, clock: Clock) -> None:
    pools = [pool(2, MINUTE)]
    lost, other = replica(server, clock, pools, held=1, of=2), Replica(server, clock, "b", 2)
    other.store.say(told(pools, 1))
    assert len(lost.ask(pools, 2)[0]) == 2
    for _ in range(7):  # its partition is nobody's: its slots neither
        other.here(pools, 1)
        clock.passes(10 * SECOND)
    other.here(pools, 1)
    assert other.ask(pools, partition=1) == ([], SECOND + 1)
    clock.passes(SECOND + 1)
    assert len(other.ask(pools, 2, partition=1)[0]) == 1


# Whose slots there are


def test_a_partition_nobody_speaks_of_has_no_slots(server: RedisServer, clock: Clock) -> None:
    pools = [pool(10, SECOND)]
    one, other = replica(server, clock, pools, 1, 2), Replica(server, clock, "b", 2)
    assert other.here(pools, 1).untold == (1,)
    other.store.say(told(pools, 1))
    assert other.here(pools, 1).untold == ()
    assert len(one.ask(pools, 9)[0]) == 9, "its own and the other's"
    clock.passes(LEASE - 1)
    assert other.here(pools, 1).used == {pools[0]: (0, 10)}
    clock.passes(1)
    assert other.here(pools, 1).used[pools[0]][1] == 5
    assert one.ask(pools)[0] == [], "it is not heard of itself"
    assert one.here(pools, 0).untold == (0,)


def test_only_the_owner_of_a_partition_gets_permits_for_it(server: RedisServer, clock: Clock) -> None:
    pools = [pool(10, SECOND)]
    one = replica(server, clock, pools)
    other = Replica(server, clock, "b")
    assert other.ask(pools)[0] == []
    assert other.here(pools, 0).untold == (), "it goes on where the last one was"
    assert len(other.ask(pools)[0]) == 1
    assert one.ask(pools)[0] == []


def test_what_the_last_owner_had_under_way_was_sent_by_now(server: RedisServer, clock: Clock) -> None:
    pools = [pool(2, SECOND, timeout=500)]
    one, other = replica(server, clock, pools), Replica(server, clock, "b")
    permits, _ = one.ask(pools, 2)
    one.settle(permits[0])
    clock.passes(100)
    other.here(pools, 0)
    assert other.ask(pools) == ([], 900 + 1)
    clock.passes(901)
    assert len(other.ask(pools, 2)[0]) == 1
    assert other.ask(pools) == ([], 500 + 1_000 + 1 - 901)


def test_what_is_told_takes_the_place_of_what_was_known(server: RedisServer, clock: Clock) -> None:
    pools = [pool(10, MINUTE)]
    ours = replica(server, clock, pools)
    ours.ask(pools, 10)
    ours.store.say(Said(told=[Told(0, {pools[0]: [("x", 500), ("y", 9_000), ("z", 9_000)]})]))
    assert ours.here(pools, 0).used == {pools[0]: (3, 10)}
    (under_way,) = [Permit("y", 0, (pools[0],), 0)]
    ours.give_back(under_way)
    assert ours.here(pools, 0).used == {pools[0]: (2, 10)}


# A store that forgets


@pytest.mark.parametrize("how", ["flushed", "one window evicted"])
def test_a_store_that_forgot_gives_nothing_before_it_is_told(
    server: RedisServer, clock: Clock, how: str
) -> None:
    pools = [pool(10, SECOND, timeout=500)]
    one, other = replica(server, clock, pools, 1, 2), Replica(server, clock, "b", 2)
    other.store.say(told(pools, 1))
    assert len(one.ask(pools, 10)[0]) == 10
    if how == "flushed":
        clock.redis.flushall()
        clock.set(clock.now)
    else:
        clock.redis.delete("moderation-quota:{g}:hw/block/1000")
    assert other.ask(pools, 10, partition=1)[0] == []
    assert other.here(pools, 1).untold == (1,)
    other.store.say(told(pools, 1))
    longest = USED_WITHIN + 500 + SECOND + 1
    assert other.ask(pools, 10, partition=1) == ([], longest), "what partition 0 used is not known"
    one.store.say(Said(told=[Told(0, {pools[0]: [("x", 5_000), ("y", 5_000)]})]))
    assert len(other.ask(pools, 10, partition=1)[0]) == 8


def test_after_the_longest_time_what_was_forgotten_counts_no_more(server: RedisServer, clock: Clock) -> None:
    pools = [pool(10, SECOND, timeout=500)]
    ours = replica(server, clock, pools, held=1, of=2)
    assert ours.ask(pools, 10)[0] == []
    clock.passes(USED_WITHIN + 500 + SECOND)
    ours.here(pools, 0)
    assert ours.ask(pools, 10) == ([], 1)
    clock.passes(1)
    assert len(ours.ask(pools, 10)[0]) == 5, "those of its own partition: nobody spoke of the other"


def test_data_of_another_run_of_the_server_does_not_count(tmp_path: Any) -> None:
    with RedisServer(tmp_path, keeps=True) as server:
        pools = [pool(1, MINUTE)]
        ours = replica(server, clock := Clock(server), pools)
        assert len(ours.ask(pools)[0]) == 1
        server.restart()
        assert clock.redis.exists("moderation-quota:{g}:hw/block/60000"), "it kept its data"
        assert ours.here(pools, 0).untold == (0,)
        assert ours.ask(pools)[0] == []


def test_what_is_heard_late_was_never_said(server: RedisServer, clock: Clock) -> None:
    pools = [pool(1, SECOND)]
    ours = replica(server, clock, pools)
    server_behind = clock.now + LATEST + 1
    clock.redis.set("clock", server_behind)  # as if it had been on its way for so long
    with pytest.raises(StoreError, match="late"):
        ours.ask(pools)
    clock.now = server_behind
    ours.store.hello()
    assert ours.here(pools, 0).used == {pools[0]: (0, 1)}


def test_a_server_that_hangs_or_is_away_is_an_error_without_the_password(tmp_path: Any) -> None:
    with RedisServer(tmp_path, password="hush-hush") as server:
        store = Store(server.url, "g", "a", LEASE, lambda: 1)
        store.hello()
        assert store.say(Said(here=(0,), pools=(pool(1, SECOND),))).untold == (0,)
        wrong = Store(server.url.replace("hush", "lush"), "g", "a", LEASE, lambda: 1)
        with pytest.raises(StoreError, match="invalid username-password") as refused:
            wrong.hello()
        server.freeze()
        with pytest.raises(StoreError, match="Timeout"):
            store.say(Said())
        with pytest.raises(StoreError, match="clock"):
            store.say(Said())
        server.thaw()
        store.hello()
        server.kill()
        with pytest.raises(StoreError, match="onnect") as away:
            store.hello()
        for error in (refused, away):
            assert "ush" not in str(error.value)
            assert error.value.__cause__ is None


# Against a plain model


class Model:
    """Sliding windows as one would write them down: when each slot comes free."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.free_at: dict[Pool, dict[str, int]] = {pool: {} for pool in pools}

    def room(self, pools: Sequence[Pool], now: int) -> int:
        used = {pool: sum(at > now for at in self.free_at[pool].values()) for pool in pools}
        return min(pool.quota.limit - used[pool] for pool in pools)

    def take(self, permit: Permit, now: int) -> None:
        for each in permit.pools:
            self.free_at[each][permit.id] = now + USED_WITHIN + each.timeout + each.quota.window + 1

    def settle(self, permit: Permit, now: int) -> None:
        for each in permit.pools:
            self.free_at[each][permit.id] = now + each.quota.window + 1

    def give_back(self, permit: Permit) -> None:
        for each in permit.pools:
            del self.free_at[each][permit.id]


@settings(max_examples=40, deadline=None)
@given(
    quotas=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2_000)), min_size=1, max_size=3),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("passes"), st.integers(1, 900)),
            st.tuples(st.just("ask"), st.integers(1, 4), st.integers(1, 7), st.integers(0, 1)),
            st.tuples(st.just("settle"), st.integers(0, 50), st.floats(0, 1)),
            st.tuples(st.just("give_back"), st.integers(0, 50)),
        ),
        max_size=60,
    ),
)
def test_it_gives_exactly_what_a_plain_model_gives(
    server: RedisServer, quotas: list[tuple[int, int]], steps: list[tuple[Any, ...]]
) -> None:
    clock = Clock(server)
    pools = [pool(*quota, name=f"q{n}") for n, quota in enumerate(quotas)]
    model, counted = Model(pools), {pool: list[float]() for pool in pools}
    replicas = [Replica(server, clock, name, 2) for name in "ab"]
    for partition, one in enumerate(replicas):
        one.store.say(told(pools, partition))
    under_way: list[tuple[int, Permit]] = []

    def here() -> None:
        for partition, one in enumerate(replicas):
            assert one.here(pools, partition).untold == ()

    for what, *how in steps:
        here()
        match what, how:
            case "passes", [length]:
                clock.passes(length)
            case "ask", [number, which, who]:
                some = [one for n, one in enumerate(pools) if which >> n & 1] or pools[:1]
                permits, wait = replicas[who].ask(some, number, partition=who)
                assert len(permits) == min(number, model.room(some, clock.now))
                for permit in permits:
                    model.take(permit, clock.now)
                assert (wait == 0) == (model.room(some, clock.now) > 0)
                assert wait == 0 or model.room(some, clock.now + wait - 1) < 1 <= model.room(
                    some, clock.now + wait
                )
                under_way += [(clock.now, permit) for permit in permits]
            case "settle", [which, moment] if under_way:
                sent, permit = under_way.pop(which % len(under_way))
                replicas[which % 2].settle(permit)
                if clock.now - sent <= USED_WITHIN + permit.pools[0].timeout:
                    model.settle(permit, clock.now)
                    for each in permit.pools:
                        counted[each].append(sent + moment * (clock.now - sent))
            case "give_back", [which] if under_way:
                _, permit = under_way.pop(which % len(under_way))
                replicas[which % 2].give_back(permit)
                model.give_back(permit)
    for each in pools:
        pending = [float(sent) for sent, permit in under_way if each in permit.pools]
        assert most_in_one_window(counted[each] + pending, each.quota.window) <= each.quota.limit
