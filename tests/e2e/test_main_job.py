"""Verdicts in, actions at the vendors, results out: by the real process, with everything going wrong."""

import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.playing import BRISK, books, now, outcomes, pour, records, set_up, under_way, verdict, wait_for
from worker.events.times import parse_rfc3339
from worker.sandbox.books import problems
from worker.sandbox.stage import Stage
from worker.sandbox.summary import answered

pytestmark = pytest.mark.sandbox

MakeStage = Callable[..., Stage]

FAULTS = [
    {"vendor": "aliyun", "operation": "forbid", "effect": "throttle", "retry_after_ms": 400, "every": 8},
    {"vendor": "huawei", "operation": "block", "effect": "throttle", "every": 12},
    {
        "operation": ["block", "block_once", "forbid", "stop", "resume", "unblock"],
        "effect": "status",
        "status": 500,
        "body": "Internal Server Error",
        "probability": 0.06,
        "seed": 1,
    },
    {
        "operation": ["block", "block_once", "forbid", "stop", "set_region_block"],
        "effect": "done_then_hang",
        "probability": 0.05,
        "seed": 2,
    },
    {"operation": ["list_blocks", "list_online"], "effect": "garbage", "probability": 0.05, "seed": 3},
]
DRAIN_S = 15.0


def test_the_books_balance_whatever_the_vendors_do(make_stage: MakeStage) -> None:
    stage = make_stage(changes=BRISK, script=FAULTS)
    load = set_up(stage, seed=7, events=300)
    worker = stage.start_worker(until_idle=2)
    pour(stage, records(load), seconds=4)
    assert worker.wait(90) == 0
    found = books(stage, load)
    assert problems(found) == []
    faults = Counter(call["fault"] for call in found.calls)
    assert {"throttle", "status", "done_then_hang", "garbage"} <= set(faults), faults
    terminal = Counter(result["outcome"] for result in found.results if result["terminal"])
    assert {
        "verified",
        "absorbed",
        "shadow",
        "stale",
        "wrong_session",
        "released",
        "cancelled",
        "observed",
        "failed",
    } <= set(terminal), terminal


def test_a_quota_is_used_up_and_never_exceeded(make_stage: MakeStage) -> None:
    limit, window = 10, 2_000
    stage = make_stage(
        changes={
            "accounts": {"hw": {"quotas": {"block": f"{limit}/{window}ms"}}},
            "policy": {"verify": "off"},
        },
        simulators={"huawei": {"quotas": {"block": [[limit, window]]}}},
    )
    worker = stage.start_worker(until_idle=2)
    stage.produce([verdict(f"v{i}", f"hw/room-{i}") for i in range(3 * limit)])
    assert worker.wait(60) == 0
    (block,) = (found for found in stage.vendor_stats()["huawei"]["quotas"] if found["quota"] == "block")
    assert block["violations"] == 0
    assert block["max_used"] >= limit - 1  # one slot is reserved for what is critical
    assert Counter(result["outcome"] for result in stage.results()) == {"applied": 3 * limit}


def test_a_worker_that_was_killed_loses_nothing(make_stage: MakeStage) -> None:
    slow = {"operation": ["block", "forbid"], "effect": "delay_ms", "ms": 700}
    stage = make_stage(changes=BRISK, script=[*FAULTS, slow])
    load = set_up(stage, seed=8, events=150)
    given = records(load)
    worker = stage.start_worker()
    pour(stage, given[: len(given) // 2], seconds=1)
    wait_for(lambda: under_way(stage) and stage.results(), 30, "calls under way and some results")
    worker.kill()
    interrupted = under_way(stage)
    assert interrupted
    again = stage.start_worker(until_idle=2)
    pour(stage, given[len(given) // 2 :], seconds=1)
    assert again.wait(90) == 0
    assert problems(books(stage, load), repeats=True) == []
    assert not under_way(stage)


def test_sigterm_lets_a_call_under_way_end_and_tells_its_result(make_stage: MakeStage) -> None:
    stage = make_stage(
        changes={"accounts": {"hw": {"timeout_s": 10}}, "policy": {"verify": "off"}},
        script=[{"operation": "block", "effect": "delay_ms", "ms": 2000}],
    )
    worker = stage.start_worker()
    stage.produce([verdict("v1", "hw/room")])
    wait_for(lambda: under_way(stage), 30, "the call is under way")
    assert outcomes(stage.results(), "v1") == []
    asked = time.monotonic()
    worker.terminate()
    stage.produce([verdict("v2", "hw/another-room")])
    assert worker.wait(DRAIN_S + 10) == 0
    assert time.monotonic() - asked < DRAIN_S
    assert outcomes(stage.results(), "v1") == ["applied*"]
    assert stage.start_worker(until_idle=1).wait(60) == 0
    assert outcomes(stage.results(), "v1") == ["applied*"]
    assert outcomes(stage.results(), "v2") == ["applied*"]
    assert Counter(call["stream"] for call in stage.vendor_log()) == {"room": 1, "another-room": 1}


def test_two_workers_share_the_work_and_the_books_balance_when_one_is_killed(make_stage: MakeStage) -> None:
    stage = make_stage(changes=BRISK, script=FAULTS)
    load = set_up(stage, seed=9, events=150)
    given = records(load)
    workers = {name: stage.start_worker(name) for name in ("w1", "w2")}
    wait_for(lambda: all(w.get("/readyz")[0] == 200 for w in workers.values()), 60, "both are ready")
    half = len(given) // 2
    pour(stage, given[:half], seconds=2)
    wait_for(
        lambda: {result["worker"]["instance"] for result in stage.results()} == set(workers),
        60,
        "both publish results",
    )
    workers["w1"].kill()
    killed_at = now()
    pour(stage, given[half:], seconds=2)
    owed = {event for event, debt in load.owed.items() if debt.accounts}
    wait_for(
        lambda: owed <= {event for event, _ in answered(stage.results())}, 90, "w2 answers the rest", 0.5
    )
    wait_for(lambda: workers["w2"].metrics("moderation_oldest_pending_seconds") == 0, 90, "w2 is done", 0.5)
    assert problems(books(stage, load), repeats=True) == []
    heirs = {result["worker"]["instance"] for result in stage.results() if _at(result) > killed_at + 6_000}
    assert heirs == {"w2"}
    workers["w2"].terminate()
    assert workers["w2"].wait(DRAIN_S + 10) == 0


def _at(result: dict[str, str]) -> int:
    return parse_rfc3339(result["at"])
