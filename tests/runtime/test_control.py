"""What operators decide, as the engine carries it out: before anything else, at once, and a bit at a time."""

from dataclasses import replace

from tests.runtime.engine_world import NOW, World, guarded
from worker.core.control import Control
from worker.events.control import Pause, Ruling

EVERYTHING = Control(everything=Pause(by="op"))


def test_nothing_is_begun_before_it_is_known_what_operators_have_decided() -> None:
    w = World()
    w.informed = False
    w.start()
    w.assign()
    name = w.verdict("a")
    w.settle()
    assert w.batches == []
    assert w.outcomes(name) == []
    assert not w.engine.idle()
    w.decide(EVERYTHING)
    w.settle()
    assert w.outcomes(name) == ["held"]
    assert w.calls() == []
    assert w.engine.idle()


def test_a_replica_that_starts_while_paused_stays_paused() -> None:
    w = World(concurrency=1)
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(20)]
    w.poll()
    w.turn(2)
    w.commit()
    w.decide(EVERYTHING)
    w.start()
    w.assign()
    w.settle()
    assert [w.outcomes(name) for name in names] == [["held"]] * 20
    assert w.calls() == []
    w.decide(Control())
    w.settle(200)
    assert [w.outcomes(name) for name in names] == [["held", "applied"]] * 20


def test_a_call_granted_before_the_pause_is_not_sent_after_it() -> None:
    w = World()
    w.assign()
    name = w.verdict("a")
    w.poll()
    w.turn(3)
    assert w.submitted is not None
    assert w.submitted.granted
    w.decide(EVERYTHING)
    w.turn()
    w.commit()
    w.settle()
    assert w.calls() == []
    assert w.outcomes(name) == ["held"]
    assert w.slots_taken() == w.accounts.under_way() == 0
    w.decide(Control())
    w.settle(200)
    assert w.calls() == ["forbid"]
    assert w.outcomes(name) == ["held", "applied"]


def test_a_pause_of_many_waiting_streams_is_told_a_bit_at_a_time_and_each_once() -> None:
    w = World(partitions=1, concurrency=1)
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(3_000)]
    for _ in range(8):
        w.poll()
        w.turn()
        if w.submitted is not None:
            w.commit()
    w.decide(EVERYTHING)
    w.settle(30)
    steps = max(len(part.states) for batch in w.batches for part in batch.partitions.values())
    assert steps <= 1_600, "no batch holds it all"
    held = [name for name in names if "held" in w.outcomes(name)]
    assert len(held) == len(names) - len([name for name in names if w.outcomes(name) == ["applied"]])
    sent = len(w.sent)
    w.settle(20)
    assert len(w.sent) == sent
    w.decide(replace(EVERYTHING, accounts={"m": Pause(by="other")}))
    w.settle(30)
    assert max(w.outcomes(name).count("held") for name in names) == 1


def test_a_pause_of_one_account_leaves_the_others_alone() -> None:
    w = World(accounts=("m", "n"))
    w.assign()
    w.decide(Control(accounts={"m": Pause(by="op")}))
    paused, other = w.verdict("a"), w.verdict("b", accounts=("n",))
    w.settle()
    assert (w.outcomes(paused), w.outcomes(other)) == (["held"], ["applied"])


def test_a_guards_release_reaches_what_is_parked_and_what_is_restored_later() -> None:
    w = World(policy=guarded(1))
    w.assign()
    names = [w.verdict(f"s{n}") for n in range(10)]
    w.settle()
    parked = [name for name in names if w.outcomes(name) == ["held"]]
    assert len(parked) == 9
    w.drop(0)
    w.turn()
    w.decide(
        Control(rulings={"blast": Ruling.model_construct(decision="release", by="o", reason=None, at=NOW)})
    )
    w.settle(100)
    there = [name for name in parked if w.outcomes(name) == ["held", "applied"]]
    assert 0 < len(there) < 9
    w.assign(0)
    w.settle(100)
    assert all(w.outcomes(name) == ["held", "applied"] for name in parked)
