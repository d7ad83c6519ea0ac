"""Guards over several replicas: never more than the limit, and the same count after a restart."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.core.machine import HOUR, MINUTE, NOW, SECOND, Machine
from worker.core import ledger
from worker.core.guard import GuardLedger
from worker.core.policy import Guard
from worker.core.state import Hold
from worker.events.incoming import StreamEvent
from worker.events.times import format_rfc3339
from worker.words import Millis

BLAST = Guard("blast", 10, MINUTE, "account", ("forbid",), ("critical",))


def made_by_a_machine() -> Hold:
    one = Machine()
    one.verdict("violence")
    assert one.last is not None
    ((_, hold),) = one.last.placed
    return replace(hold, placed_at=NOW)


HOLD = made_by_a_machine()


def demand(at: Millis) -> Hold:
    return replace(HOLD, placed_at=at)


def holding(guard: Guard = BLAST, *held: int, of: int = 1) -> GuardLedger:
    guards = GuardLedger((guard,))
    for partition in held or (0,):
        guards.hold(partition, of, {})
    return guards


def passes(guards: GuardLedger, partition: int, hold: Hold, account: str = "hw") -> bool:
    if guards.parks(account, hold) is not None:
        return False
    guards.count(partition, [(account, hold)])
    return True


def record(guards: GuardLedger, partition: int, now: Millis = NOW) -> bytes:
    return ledger.encode({}, guards.counted(partition, now), guards.full_at(partition))


def restored(guard: Guard, of: int, records: dict[int, bytes | None]) -> GuardLedger:
    guards = GuardLedger((guard,))
    for partition, said in records.items():
        known = ledger.decode(said)
        guards.hold(partition, of, known.guards, known.guards_full_at)
    return guards


def test_one_replica_lets_exactly_the_limit_through_however_few_partitions_are_hot() -> None:
    guards = holding(BLAST, *range(12), of=12)
    assert [passes(guards, 3, HOLD) for _ in range(12)] == [True] * 10 + [False] * 2
    assert guards.unwritten() - {3}, "slots of others were taken, and their ledgers have to say so"


def test_a_restart_in_the_middle_changes_nothing() -> None:
    guards = holding(BLAST, *range(3), of=3)
    assert all(passes(guards, 1, HOLD) for _ in range(7))
    again = restored(BLAST, 3, {p: record(guards, p) for p in range(3)})
    assert [passes(again, 1, HOLD) for _ in range(5)] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("per", "of_one", "of_another"),
    [
        ("account", ("hw", HOLD), ("ali", HOLD)),
        ("rule", ("hw", replace(HOLD, rule="a")), ("hw", replace(HOLD, rule="b"))),
        (
            "tenant",
            ("hw", replace(HOLD, cause=replace(HOLD.cause, tenant="a"))),
            ("hw", replace(HOLD, cause=replace(HOLD.cause, tenant="b"))),
        ),
    ],
)
def test_each_account_tenant_or_rule_has_a_count_of_its_own(
    per: Any, of_one: tuple[str, Hold], of_another: tuple[str, Hold]
) -> None:
    guard = replace(BLAST, per=per, limit=1)
    guards = holding(guard)
    guards.count(0, [of_one])
    again = restored(guard, 1, {0: record(guards, 0)})
    assert again.parks(*of_one) == "blast"
    assert again.parks(*of_another) is None


def test_what_is_excepted_or_of_another_action_passes_and_does_not_count() -> None:
    guards = holding(replace(BLAST, limit=1))
    for other in (replace(HOLD, priority="critical"), replace(HOLD, action="cut")):
        assert all(passes(guards, 0, other) for _ in range(3))
    assert passes(guards, 0, HOLD)
    assert not passes(guards, 0, HOLD)


def test_a_verdict_at_two_targets_takes_two_slots() -> None:
    guards = holding(replace(BLAST, limit=2))
    guards.count(0, [("hw", HOLD)])
    assert guards.parks("hw", HOLD) is None
    assert guards.parks("hw", HOLD, [("hw", HOLD)]) == "blast"
    assert guards.parks("hw", HOLD, [("ali", HOLD), ("hw", replace(HOLD, priority="critical"))]) is None


def test_a_new_partition_of_a_topic_in_use_waits_a_window_also_after_a_restart() -> None:
    records = {0: ledger.encode_full(NOW)}
    guards = restored(BLAST, 1, dict(records))
    assert not passes(guards, 0, demand(NOW + SECOND))
    records[0] = record(guards, 0, NOW + SECOND)
    again = restored(BLAST, 1, dict(records))
    assert not passes(again, 0, demand(NOW + MINUTE), "whoever")
    assert passes(again, 0, demand(NOW + MINUTE + MINUTE // 1000 + 1))


def test_a_limit_below_the_number_of_replicas_is_named() -> None:
    few = replace(BLAST, limit=1)
    assert holding(few, 1, of=2).below_one() == []
    (sentence,) = holding(few, 0, of=2).below_one()
    assert sentence.startswith("no slot of guard blast belongs to our partitions")
    assert GuardLedger((few,)).below_one() == [], "it holds nothing yet"


def test_what_no_longer_counts_is_forgotten() -> None:
    guards = holding()
    guards.count(0, [("hw", HOLD)])
    assert record(guards, 0) != b"{}"
    assert record(guards, 0, NOW + 2 * MINUTE) == b"{}"


def test_another_limit_or_window_keeps_the_count_and_another_per_does_not() -> None:
    guards = holding(replace(BLAST, limit=2))
    guards.count(0, [("hw", HOLD)])
    guards.change((replace(BLAST, limit=1, window=HOUR),))
    assert guards.parks("hw", demand(NOW + 2 * MINUTE)) == "blast"
    guards.change((replace(BLAST, limit=1, window=HOUR, per="rule"),))
    assert guards.parks("hw", demand(NOW + 2 * MINUTE)) is None


# A share of a tenant's streams.

SHARE = Guard("mass", 4, HOUR, "tenant", ("forbid",), ("critical",), share=1_000)
"""A tenth, and four in any case."""
AT = format_rfc3339(NOW)


def seen(guards: GuardLedger, partition: int, streams: int, tenant: str | None = None) -> None:
    """Have verdicts seen about streams of a tenant."""
    for n in range(streams):
        said = {"stream_event": "started", "tenant": tenant, "stream": {"key": f"{partition}/{n}"}, "at": AT}
        guards.saw(partition, StreamEvent.model_validate_json(json.dumps(said)), NOW)


def passing(guards: GuardLedger, partition: int, hold: Hold = HOLD, most: int = 200) -> int:
    """Return how many demands pass before one is parked."""
    return next(n for n in range(most) if not passes(guards, partition, hold))


def test_a_share_of_the_streams_seen_passes_and_at_least_the_minimum() -> None:
    guards = holding(SHARE)
    assert passing(guards, 0) == 4
    seen(guards, 0, 60)
    assert passing(guards, 0) == 2, "six of sixty"
    assert guards.parking(NOW) == {"mass": True}
    seen(guards, 0, 10, "another")
    assert passing(guards, 0) == 0, "another tenant's streams are its own"
    other = replace(HOLD, cause=replace(HOLD.cause, tenant="another"))
    assert passing(guards, 0, other) == 4


def test_shares_and_minimum_add_up_over_partitions_and_replicas() -> None:
    one, two = holding(SHARE, *range(6), of=12), holding(SHARE, *range(6, 12), of=12)
    assert passing(one, 0) + passing(two, 7) == 4
    for partition in range(12):
        seen(one if partition < 6 else two, partition, 45)
    assert passing(one, 0) + passing(two, 7) == 540 // 10 - 4


def test_a_verdict_at_two_targets_counts_once_in_a_share() -> None:
    guards = holding(replace(SHARE, limit=1))
    assert guards.parks("ali", HOLD, [("hw", HOLD)]) is None
    guards.count(0, [("hw", HOLD), ("ali", HOLD)])
    assert guards.parks("hw", HOLD) == "mass"
    again = holding(replace(SHARE, limit=2))
    again.count(0, [("hw", HOLD), ("ali", HOLD)])
    assert passing(again, 0) == 1


def test_a_share_is_the_same_after_a_restart() -> None:
    guards = holding(SHARE, 0, 1, of=2)
    for partition in (0, 1):
        seen(guards, partition, 100)
    assert all(passes(guards, 0, HOLD) for _ in range(12))
    again = GuardLedger((SHARE,))
    for partition in (0, 1):
        known = ledger.decode(record(guards, partition))
        again.hold(partition, 2, known.guards, known.guards_full_at, guards.seen(partition, NOW))
    assert passing(again, 1) == 8
    unseen = restored(SHARE, 2, {p: record(guards, p) for p in (0, 1)})
    assert not passes(unseen, 0, HOLD), "what was used counts, and there is no more than the minimum"


def test_a_new_partition_has_no_share_until_an_hour_has_passed() -> None:
    guards = restored(SHARE, 1, {0: ledger.encode_full(NOW)})
    seen(guards, 0, 100)
    assert passing(guards, 0) == 0
    assert passes(guards, 0, demand(NOW + HOUR + HOUR // 1000 + 1))


def test_nothing_is_counted_without_a_guard_that_has_a_share() -> None:
    guards = holding()
    seen(guards, 0, 10)
    assert guards.seen(0, NOW) is None


@pytest.mark.parametrize("seed", range(20))
def test_no_window_holds_more_than_the_limit_whatever_moves_and_fails(seed: int) -> None:
    """Replicas take verdicts, lose what was not committed, and hand partitions over; some restart."""
    random = Random(seed)
    partitions, replicas = random.choice([1, 3, 12]), random.choice([1, 2, 4])
    guard = replace(BLAST, limit=random.choice([1, 5, 13]))
    records: dict[int, bytes | None] = dict.fromkeys(range(partitions))
    owner = {p: random.randrange(replicas) for p in records}
    passed: list[Millis] = []
    now = NOW

    def begin(replica: int) -> GuardLedger:
        return restored(guard, partitions, {p: records[p] for p in records if owner[p] == replica})

    guards = {replica: begin(replica) for replica in range(replicas)}
    for _ in range(400):
        now += random.randrange(3_000)
        one = random.randrange(partitions)
        ours = guards[owner[one]]
        said = [now for _ in range(random.randrange(4)) if passes(ours, one, demand(now))]
        what = random.random()
        if what < 0.1:  # the transaction failed: all of that replica is read again
            guards[owner[one]] = begin(owner[one])
            continue
        passed += said
        for changed in ours.unwritten():
            records[changed] = record(ours, changed, now)
        ours.written()
        if what < 0.3:
            before, owner[one] = owner[one], random.randrange(replicas)
            guards[before].release(one)
            known = ledger.decode(records[one])
            guards[owner[one]].hold(one, partitions, known.guards, known.guards_full_at)
    assert len(passed) >= guard.limit, "something was let through"
    for begins in passed:
        assert sum(begins <= at <= begins + MINUTE for at in passed) <= guard.limit
    if replicas == 1:
        assert passed[guard.limit - 1] - passed[0] <= MINUTE, "nothing was parked too early"
