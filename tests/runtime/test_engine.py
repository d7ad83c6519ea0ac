"""The engine under everything that can happen around it: lost partitions, failed batches, floods."""

from dataclasses import replace
from typing import Any

import pytest

from tests.runtime.engine_world import HOUR, MINUTE, NOW, POLICY, SECOND, SPEC, World, guarded
from worker.core import ledger
from worker.core.outcome import Facts, Observed, Refused, Unreachable
from worker.core.policy import Guard
from worker.core.state import LEDGER
from worker.core.stream import Step
from worker.runtime.messages import Committed
from worker.runtime.partition import Partition
from worker.runtime.wakes import Wakes
from worker.vendors.base import Capacity, Quota


def begun(key: str = "a", category: str = "nudity", **world: Any) -> tuple[World, int, str]:
    """A world in which a verdict's call was granted and submitted, and is not committed yet."""
    w = World(**world)
    w.assign()
    name = w.verdict(key, category)
    w.poll()
    w.turn(3)
    assert w.submitted is not None
    assert w.submitted.granted
    return w, w.home(key), name


def test_a_verdict_is_carried_out_and_told() -> None:
    w, _, name = begun()
    w.settle(5)
    assert w.outcomes(name) == ["applied"]
    assert w.calls() == ["forbid"]
    assert w.engine.idle()
    assert w.slots_taken() == w.accounts.under_way() == 0


# -- a partition that goes while its call is being committed -----------------------------------------


def test_a_call_committed_while_its_partition_left_and_came_back_is_made_again() -> None:
    """It was restored with the call under way before the engine heard of the commit: nobody sent it."""
    w, p, name = begun()
    batch = w.make_durable()
    w.drop(p)
    w.assign(p)
    w.turn()
    w.inbox.put(Committed(batch, 0.0))
    w.settle(200)
    assert w.outcomes(name) == ["applied"]
    assert w.slots_taken() == w.accounts.under_way() == 0


def test_a_cut_that_was_committed_and_never_sent_is_no_doubt() -> None:
    """The commit's answer got lost: it was durable after all. No call went out, so none may have happened."""
    w, _, name = begun(category="spam")
    w.reset(durable=True)
    w.assign()
    w.settle(200)
    assert w.calls() == ["cut"], "it is made, and nobody has to be asked first"
    assert w.outcomes(name) == ["applied"]


def test_a_call_granted_again_before_the_lost_one_is_heard_of_keeps_its_slot() -> None:
    """Another partition's commit takes its time; the same call is granted anew under a new epoch."""
    w, p, name = begun()
    other = next(key for key in "bcdefgh" if w.home(key) != p)
    w.commit()
    w.settle(3)
    again = w.verdict("a2" if w.home("a2") == p else next(f"a{n}" for n in range(9) if w.home(f"a{n}") == p))
    w.verdict(other)
    w.poll()
    w.turn(2)
    assert w.submitted is not None
    assert len(w.submitted.granted) == 2
    w.drop(p)  # before the journal looks: it leaves the partition out
    w.assign(p)
    w.turn()
    w.poll()
    w.turn(2)
    w.commit()
    w.settle(100)
    assert w.outcomes(name) == w.outcomes(again) == ["applied"]
    assert w.slots_taken() == w.accounts.under_way() == 0


# -- quotas over restores ----------------------------------------------------------------------------


def test_restores_do_not_count_a_call_twice() -> None:
    quota = {"forbid": (Quota(10, HOUR),)}
    w, _, _ = begun(quotas=quota, partitions=1)
    w.settle(5)
    for _ in range(12):
        w.clock.at += SECOND
        w.reset()
        w.assign()
        w.settle(3)
    used = dict(w.accounts._schedules["m"].used_ratio(w.clock.at))
    assert used["forbid"] == 0.1


def test_an_answer_that_came_while_the_partition_was_away_counts_once() -> None:
    quota = {"forbid": (Quota(10, HOUR),)}
    w, _, name = begun(quotas=quota, partitions=1)
    w.commit()
    w.turn()
    w.drop(0)
    w.turn()
    w.answer(w.under_way[0])
    w.turn()
    w.clock.at += SECOND
    w.assign(0)
    w.settle(5)
    assert w.outcomes(name) == ["applied"]
    assert w.calls() == ["forbid"]
    assert dict(w.accounts._schedules["m"].used_ratio(w.clock.at))["forbid"] == 0.1


def test_what_a_slot_was_used_for_moves_with_its_partition() -> None:
    """The stream's own partition has no slot left: another's is used, and its record says so."""
    w = World(partitions=2, quotas={"forbid": (Quota(4, HOUR),)})
    w.assign()
    w.settle(2)
    for key in [key for key in map(str, range(40)) if w.home(key) == 0][:3]:
        w.verdict(key, "minors")  # the reserve is for them too
    w.settle(20)
    assert len(w.sent) == 3
    own, other = (ledger.decode(w.own[p][LEDGER].value).uses["m"]["forbid"][HOUR] for p in (0, 1))
    assert (len(own.answers), len(other.answers)) == (2, 1)
    assert not own.under_way
    w.start()
    w.assign(1)
    for key in [key for key in map(str, range(40)) if w.home(key) == 1][:3]:
        w.verdict(key, "minors")  # the reserve is for them too
    w.settle(20)
    assert len(w.sent) == 4, "one of its two slots was used before"


def test_a_request_waits_with_the_partition_whose_slot_it_has() -> None:
    """The slot's partition is lost before the commit: the call is not sent, and is made again."""
    w = World(partitions=2, quotas={"forbid": (Quota(2, HOUR),)})
    w.assign()
    first, second = [key for key in map(str, range(40)) if w.home(key) == 0][:2]
    w.verdict(first, "minors")
    w.settle(5)
    name = w.verdict(second, "minors")
    w.poll()
    w.turn(3)
    assert w.submitted is not None
    assert [granted.charged for granted in w.submitted.granted] == [((1, w.epochs[1]),)]
    w.drop(1)
    w.commit()
    w.settle(20)
    assert w.outcomes(name) == []
    assert len(w.sent) == 1
    w.assign(1)
    w.settle(20)
    assert w.outcomes(name) == ["applied"]
    assert w.slots_taken() == w.accounts.under_way() == 0


def test_an_answer_that_was_lost_counts_as_late_as_it_can_have_come() -> None:
    w, _, _ = begun(quotas={"forbid": (Quota(1, MINUTE),)}, partitions=1)
    w.commit()
    w.turn()

    def wait_after(length: int) -> int | None:
        w.start()
        w.clock.at += length
        w.assign()
        w.turn()
        return w.accounts._schedules["m"]._allowances["forbid"].wait(w.clock.at, critical=True)

    assert wait_after(SECOND) == w.account_settings["m"].timeout + MINUTE + 1
    assert wait_after(HOUR) == 0, "an hour later it cannot count any more"


def test_a_vendor_that_is_away_holds_up_its_own_calls_only() -> None:
    """What waits there is kept, nothing hammers on it, and it goes on once a probe is answered."""
    w = World(partitions=1, accounts=("m", "n"))
    w.assign()
    names = [w.verdict(f"s{n}", accounts=("m",)) for n in range(40)]
    for _ in range(60):
        w.settle(1, answering=False)
        for granted in list(w.under_way):
            w.answer(granted, Unreachable())
        w.clock.at += SECOND
    assert dict(w.accounts.open()) == {"m": True, "n": False}
    assert 10 < len(w.sent) < 25, "ten at once, and then probes"
    other = w.verdict("other", accounts=("n",))
    w.settle(5, answering=False)
    w.answer(next(granted for granted in w.under_way if granted.account == "n"))
    w.settle(5, answering=False)
    assert w.outcomes(other) == ["applied"]
    w.settle(8_000)
    assert not any(is_open for _, is_open in w.accounts.open())
    assert [w.outcomes(name) for name in names] == [["applied"]] * len(names)


# -- floods ------------------------------------------------------------------------------------------


def test_calls_go_out_while_there_is_more_to_read_than_one_batch_takes() -> None:
    w = World(partitions=1)
    w.assign()
    for n in range(6_000):
        w.verdict(f"s{n}")
    for _ in range(4):
        w.poll(most=2_000)
    w.turn()
    w.commit()
    w.turn()
    assert w.engine._backlog, "there is more to read"
    assert w.sent


def test_a_stopped_account_does_not_make_one_batch_of_all_that_waits_there() -> None:
    w = World(partitions=1, concurrency=1)
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(3_000)]
    for _ in range(20):
        w.poll()
        w.turn()
        if w.submitted is not None:
            w.commit()
    w.answer(w.under_way[0], Refused("auth"))
    w.settle(20, answering=False)
    assert all("held" in w.outcomes(name) for name in names)
    assert max(sum(len(part.states) for part in batch.partitions.values()) for batch in w.batches) <= 2_000


def test_a_login_that_is_refused_before_anything_is_sent_stops_the_account_too() -> None:
    w = World(partitions=1, concurrency=1)
    w.assign()
    name = w.verdict("a")
    w.settle(5, answering=False)
    w.answer(w.under_way[0], Refused("auth"), sent=False)
    w.settle(5, answering=False)
    assert w.accounts.stopped == {"m"}
    assert w.outcomes(name) == ["held"]
    assert w.slots_taken() == 0
    w.clock.at += MINUTE
    w.settle()
    assert w.outcomes(name) == ["held", "applied"]


def test_an_account_that_works_again_lets_all_that_it_held_go() -> None:
    w = World(partitions=1, concurrency=1)
    w.assign()
    for n in range(20):
        w.verdict(f"s{n}")
    w.settle(5, answering=False)
    w.answer(w.under_way[0], Refused("auth"))
    w.settle(5, answering=False)
    assert w.accounts.stopped == {"m"}
    w.clock.at += MINUTE
    w.settle(3, answering=False)
    w.answer(w.under_way[0])
    w.settle(2, answering=False)
    assert not w.accounts.stopped
    assert not w.engine.idle(), "they are not held any more, and wait for their turn"


def test_a_partition_with_much_unfinished_is_taken_up_in_batches() -> None:
    w = World(partitions=1, concurrency=1, quotas={"forbid": (Quota(1, HOUR),)})
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(5_000)]
    w.settle(20, answering=False)
    w.start()
    w.batches.clear()
    w.assign()
    w.turn()
    assert not w.engine.idle()
    w.settle(20, answering=False)
    assert max(sum(len(part.states) for part in batch.partitions.values()) for batch in w.batches) <= 2_000
    assert sum(w.accounts._schedules["m"].waiting().values()) == len(names) - 0, "each waits for its slot"


def test_what_was_planned_and_planned_anew_is_forgotten() -> None:
    """A stream whose next look moves with each verdict must not leave an entry for each behind."""
    wakes, part = Wakes(), Partition(0, 1, 0)
    for n in range(50_000):
        wakes.plan(part, "s", Step(None, [], wake_at=NOW + HOUR + n))
        wakes.pop(NOW, {0: part})
    assert len(wakes._heap) < 5_000
    assert wakes.pop(NOW + 2 * HOUR, {0: part}) == (part, "s")


# -- unreadable records ------------------------------------------------------------------------------


def test_a_partition_stops_at_the_last_unreadable_record_that_is_allowed() -> None:
    w = World(partitions=1, max_invalid_in_a_row=10)
    w.assign()
    for _ in range(30):
        w.write(0, b"{")
    name = w.verdict("a")
    w.settle(5)
    assert len(w.dead) == 10
    assert w.offsets[0] == 10
    assert w.outcomes(name) == []
    assert not w.engine.idle()
    w.stopped_.clear()
    w.reset()
    w.assign()
    w.settle(5)
    assert len(w.dead) == 20, "it goes on from where it stopped, and stops again"


# -- what is told ------------------------------------------------------------------------------------


def test_results_are_counted_once_they_are_published() -> None:
    w = World()
    w.assign()
    name = w.verdict("a", "fine")
    w.poll()
    w.turn(2)
    assert w.submitted is not None
    assert w.observed == []
    w.reset()
    w.assign()
    w.settle(5)
    assert [result.verdict_id for result in w.observed] == [name]


def test_a_guard_does_not_count_a_verdict_again_that_is_read_again() -> None:
    w = World(policy=guarded(3))
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(2)]
    for _ in range(4):
        w.poll()
        w.turn(2)
        w.clock.at += SECOND
        w.reset()
        w.assign()
    w.settle(10)
    names.append(w.verdict("s9"))
    w.settle(10)
    assert [w.outcomes(name) for name in names] == [["applied"]] * 3
    names.append(w.verdict("s10"))
    w.settle(10)
    assert w.outcomes(names[-1]) == ["held"]


def test_what_waits_for_a_human_is_known_after_a_restart() -> None:
    w = World()
    w.assign()
    w.verdict("a", "doubtful")
    w.settle(5)
    w.start()
    w.assign()
    w.settle(5)
    opens = [found for part in w.engine.partitions.values() for found in part.opens.values()]
    assert [found.parked for found in opens] == [("approval",)]


def test_it_is_not_idle_while_records_are_on_their_way_to_it() -> None:
    w = World()
    w.assign()
    w.settle(3)
    assert w.engine.idle()
    w.verdict("a")
    w.poll()
    assert w.caught_up()
    assert not w.engine.idle()


def test_states_of_another_partition_end_it_with_a_sentence_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    w = World(partitions=1)
    w.assign()
    w.verdict("a", "doubtful")
    w.settle(5)
    w.partitions = 64
    w.input |= {p: [] for p in range(1, 64)}
    w.reset()
    w.turn()
    w.assign(0)
    w.turn()
    assert len(w.fatal) == 1
    assert w.fatal[0] in caplog.text


# -- the end -----------------------------------------------------------------------------------------


def test_a_drain_waits_for_answers_and_starts_nothing() -> None:
    w = World(partitions=1, concurrency=1)
    w.assign()
    first, second = w.verdict("a"), w.verdict("b")
    w.settle(3, answering=False)
    assert len(w.under_way) == 1
    steps = iter(range(1000))

    def monotonic() -> float:
        step = next(steps)
        if step == 5:
            w.answer(w.under_way[0])
        if w.submitted is not None:
            w.commit()
        return float(step)

    w.clock.ticks = monotonic
    w.engine.drain(900.0)
    assert next(steps) < 100
    assert w.outcomes(first) + w.outcomes(second) == ["applied"]
    assert len(w.sent) == 1


def test_a_drain_does_not_begin_what_is_due() -> None:
    w = World(partitions=1, policy=replace(POLICY, verify_after=(SECOND,)))
    w.assign()
    for n in range(700):
        w.verdict(f"s{n}", "doubtful")
    w.settle(5)
    w.clock.at += 24 * HOUR
    before = len(w.batches)
    ticks = iter(range(1000))
    w.clock.ticks = lambda: float(next(ticks))
    w.engine.drain(100.0)
    assert len(w.batches) == before


# -- what a vendor keeps at most -----------------------------------------------------------------------

FEW = replace(
    SPEC,
    capacities={"bans": Capacity("bans", "Bans", "forbid", 8, "account", "push_domain", "read_forbid")},
)


def full(w: World) -> float:
    ((_, _, ratio),) = w.accounts.capacities.used_ratios()
    return ratio


def test_what_is_in_force_is_counted_wherever_its_partition_goes() -> None:
    w = World(spec=FEW)
    w.assign()
    for key in ("a", "b", "c"):
        w.verdict(key, "minors")
    w.verdict("d", "spam")
    w.settle()
    assert full(w) == 3 / 8
    number = w.home("a")
    w.drop(number)
    w.turn()
    assert full(w) == sum(w.home(key) != number for key in ("b", "c")) / 8
    w.assign(number)
    w.settle()
    assert full(w) == 3 / 8
    w.start()
    w.assign()
    w.settle()
    assert full(w) == 3 / 8, "a new process knows it from the states alone"


def test_a_ban_that_is_over_gives_its_place_back() -> None:
    w = World(spec=FEW)
    w.assign()
    w.verdict("a")
    w.settle()
    assert full(w) == 1 / 8
    w.clock.at += HOUR
    w.settle()
    assert full(w) == 0


def test_a_list_that_is_read_tells_of_the_bans_of_others() -> None:
    w = World(spec=FEW)
    w.assign()
    w.verdict("a")
    w.settle()
    w.verdict("b", "odd")
    w.settle(5, answering=False)
    (asked,) = w.under_way
    w.answer(asked, Observed(Facts(forbidden=False), total=5))
    w.settle()
    assert full(w) == 5 / 8


# -- reads that serve many streams ---------------------------------------------------------------------


def test_one_list_serves_every_verification_that_waits() -> None:
    w = World(accounts=("s",), policy=replace(POLICY, verify_after=(5 * SECOND,)))
    w.assign()
    names = [w.verdict(f"room{number}") for number in range(30)]
    w.settle()
    assert all(w.outcomes(name) == ["applied"] for name in names)
    w.clock.at += 10 * SECOND
    w.settle()
    assert all(w.outcomes(name) == ["applied", "verified"] for name in names)
    reads = [granted for granted in w.sent if granted.calls[0].purpose == "read_forbid"]
    assert [len(granted.calls) for granted in reads] == [30]


def test_what_a_guard_has_counted_is_known_after_a_restart_and_goes_with_its_partition() -> None:
    w = World(policy=guarded(5), partitions=3)
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(4)]
    w.settle()
    assert [w.outcomes(name) for name in names] == [["applied"]] * 4
    w.start()
    w.assign()
    names = [w.verdict(f"t{n}") for n in range(10)]
    w.settle()
    assert sorted(w.outcomes(name)[0] for name in names) == ["applied"] + ["held"] * 9


def test_a_share_of_a_tenants_streams_passes_and_a_restart_forgets_none_of_them() -> None:
    guard = Guard("mass", 1, HOUR, "tenant", ("forbid",), (), share=1_000)
    w = World(policy=replace(POLICY, guards=(guard,)), partitions=2)
    w.assign()
    keys = [f"s{n}" for n in range(60)]
    for key in keys:
        w.verdict(key, "fine", tenant="acme")
    w.settle(10)
    here = [sum(w.home(key) == partition for key in keys) for partition in (0, 1)]
    allowed = here[0] // 10 + (here[1] + 5) // 10
    before = [w.verdict(key, tenant="acme") for key in keys[:2]]
    w.settle(20)
    w.start()
    w.assign()
    after = [w.verdict(key, tenant="acme") for key in keys[2:20]]
    w.settle(40)
    said = [w.outcomes(name) for name in before + after]
    assert said.count(["held"]) == 20 - allowed
    assert said.count(["applied"]) == allowed > 2


def test_what_leans_on_a_partition_that_is_lost_is_decided_again() -> None:
    """Its slot may be used by whoever has the partition now."""
    w = World(policy=guarded(2), partitions=2)
    w.assign()
    w.settle(2)
    here = [key for key in map(str, range(40)) if w.home(key) == 0][:2]
    names = [w.verdict(key) for key in here]
    w.poll()
    w.turn()
    assert w.submitted is not None
    assert w.submitted.partitions[0].leans.keys() == {0, 1}
    w.drop(1)
    w.commit()
    assert w.submitted is None
    assert not w.results
    w.assign(0)
    w.settle()
    assert [w.outcomes(name) for name in names] == [["applied"], ["held"]]
