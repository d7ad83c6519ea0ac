"""The books find every kind of imbalance: each test doctors books that balance."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from worker.sandbox.books import Books, problems
from worker.sandbox.load import ACTED, Owed

pytestmark = pytest.mark.sandbox

NOW = 1_790_000_000_000
END = NOW + 600_000
Json = dict[str, Any]


def result(event: str, outcome: str, account: str | None = "hw", **fields: Any) -> Json:
    vendor = {"hw": "huawei", "ali": "aliyun"}.get(account or "")
    return {
        "result_id": f"{event}-{account}-{outcome}",
        "verdict_id": event,
        "command_id": None,
        "target": account and {"account": account, "vendor": vendor, "app": "live", "stream": "room"},
        "outcome": outcome,
        "terminal": outcome != "applied",
        "action": "forbid",
        "attempts": [],
        "error": None,
        **fields,
    }


def attempt(n: int, operation: str, outcome: str = "done") -> Json:
    return {"n": n, "operation": operation, "at": f"10:0{n}", "outcome": outcome}


def call(vendor: str, operation: str, **fields: Any) -> Json:
    return {
        "vendor": vendor,
        "operation": operation,
        "app": "live",
        "stream": "room",
        "http_status": 200,
        "code": None,
        "signature_ok": True,
        "fault": None,
        **fields,
    }


def letter(partition: bytes, offset: bytes) -> Any:
    return SimpleNamespace(headers=[("source_partition", partition), ("source_offset", offset)])


def target(account: str, **has: Any) -> Json:
    return {"target": {"account": account, "app": "live", "stream": "room"}, **has}


def window(**fields: Any) -> Json:
    return {"quota": "block", "limit": 10, "window_ms": 60_000, "max_used": 10, "violations": 0, **fields}


BALANCED = Books(
    owed={
        "v1": Owed(ACTED, ("hw",)),
        "v2": Owed(frozenset({"released"}), None),
        "v3": Owed(frozenset({"failed/config"}), (None,)),
        "v4": Owed(ACTED, ("ali",)),
    },
    letters=1,
    results=[
        result("v1", "applied", attempts=[attempt(1, "block", "unknown"), attempt(2, "block")]),
        result(
            "v1",
            "verified",
            attempts=[attempt(1, "block", "unknown"), attempt(2, "block"), attempt(3, "list_blocks")],
        ),
        result("v2", "released"),
        result("v3", "failed", None, error={"class": "config"}),
        result("v4", "verified", "ali", action="block_regions", attempts=[attempt(1, "set_region_block")]),
    ],
    dead_letters=[letter(b"0", b"7")],
    calls=[
        call("huawei", "block", http_status=500, fault="status"),
        call("huawei", "block", http_status=204),
        call("huawei", "list_blocks"),
        call("aliyun", "set_region_block", http_status=None, fault="done_then_hang"),
    ],
    stats={"huawei": {"quotas": [window()], "signatures_refused": 0}},
    states={
        "hw/room": {"targets": {"a": target("hw", ban={"until": END})}},
        "ali/room": {"targets": {"b": target("ali", block={"until": END, "regions": ["DE"]})}},
    },
    vendor_state={
        "huawei": {"bans": [{"app": "live", "stream": "room", "until": END + 900}]},
        "aliyun": {
            "bans": [],
            "region_blocks": [
                {"AppName": "live", "StreamName": "room", "Status": 2, "ReleaseTime": "2026-09-21T14:23:20Z"}
            ],
        },
    },
    vendors={"hw": "huawei", "ali": "aliyun"},
    now=NOW,
)


def doctored(change: Callable[[Any], object]) -> list[str]:
    """What the books say once something was changed in them."""
    books = deepcopy(BALANCED)
    change(books)
    return problems(books)


def test_what_balances_balances() -> None:
    assert problems(BALANCED) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.results.pop(1), "v1 at hw has no terminal result"),
        (lambda b: b.results.pop(2), "v2 has no terminal result"),
        (
            lambda b: b.results.append(result("v1", "already")),
            "v1 at hw has 2 terminal results: verified, already",
        ),
        (
            lambda b: b.results.append(result("v1", "absorbed", "ali")),
            "v1 has a terminal result at ali, where it is owed none",
        ),
        (
            lambda b: b.results.append(result("v9", "absorbed")),
            "a result (absorbed) answers v9, which was never sent",
        ),
        (lambda b: b.results[1].update(outcome="stale"), "v1 at hw became stale; that cannot be"),
        (
            lambda b: b.results[3]["error"].update({"class": "internal"}),
            "v3 at None became failed/internal; that cannot be",
        ),
        (lambda b: b.results.append(b.results[0]), "result v1-hw-applied was published twice"),
        (
            lambda b: b.results[2].update(result_id="v1-hw-verified"),
            "result v1-hw-verified is the id of different results",
        ),
        (lambda b: b.dead_letters.clear(), "1 records should be dead letters; 0 are"),
        (
            lambda b: b.dead_letters.append(letter(b"0", b"8")),
            "1 records should be dead letters; 2 are",
        ),
        (
            lambda b: b.calls[1].update(code="LIVE.100011001", http_status=400),
            "v1 at hw is verified (forbid), but the vendor has carried out no such call",
        ),
        (
            lambda b: b.calls[3].update(fault="hang"),
            "v4 at ali is verified (block_regions), but the vendor has carried out no such call",
        ),
        (
            lambda b: b.calls[1].update(stream="another"),
            "v1 at hw is applied (forbid), but the vendor has carried out no such call",
        ),
        (
            lambda b: b.calls.append(call("huawei", "block", http_status=204)),
            "huawei block of room: results tell of 2 calls (1 answered), the vendor saw 3",
        ),
        (
            lambda b: b.calls.append(call("aliyun", "resume")),
            "aliyun resume of room: results tell of 0 calls (0 answered), the vendor saw 1",
        ),
        (
            lambda b: b.results[0]["attempts"].append(attempt(3, "unblock")),
            "huawei unblock of room: results tell of 1 calls (1 answered), the vendor saw 0",
        ),
        (
            lambda b: b.stats["huawei"]["quotas"].append(window(max_used=11)),
            "huawei block: 11 calls within 60000 ms, 10 are allowed",
        ),
        (
            lambda b: b.stats["huawei"].update(signatures_refused=2),
            "huawei refused 2 signatures",
        ),
        (
            lambda b: b.vendor_state["huawei"]["bans"].clear(),
            "the worker believes in a ban of room at huawei; the vendor does not have it",
        ),
        (
            lambda b: b.vendor_state["aliyun"]["region_blocks"][0].update(Status=5),
            "the worker believes in a block of room at aliyun; the vendor does not have it",
        ),
        (
            lambda b: b.states.pop("hw/room"),
            "the vendor has a ban of room at huawei; the worker does not know of it",
        ),
        (
            lambda b: b.vendor_state["huawei"]["bans"][0].update(until=END + 61_000),
            "the ban of room at huawei ends +61000 ms from what the worker believes",
        ),
    ],
)
def test_what_does_not_balance_is_told(change: Callable[[Any], object], said: str) -> None:
    assert said in doctored(change)


def test_an_answer_that_was_lost_need_not_be_in_the_log() -> None:
    assert doctored(lambda b: b.calls.pop(0)) == []


def test_what_ends_about_now_may_be_over_at_one_side() -> None:
    books = replace(BALANCED, vendor_state={}, now=END - 1_000)
    assert problems(books) == []


def test_after_a_crash_a_result_may_be_there_again_as_it_was() -> None:
    books = deepcopy(BALANCED)
    again = replace(
        books,
        results=[*books.results, books.results[1]],
        dead_letters=[*books.dead_letters, *books.dead_letters],
    )
    assert problems(again, repeats=True) == []
