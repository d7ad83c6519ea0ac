"""One verdict at several CDNs, a list that is full, an end that passed while nobody looked.

A real worker, Kafka, vendors over HTTP. Nothing is verified here: what is told is the acknowledgement.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_stories import Theatre, in_order, story
from tests.e2e.playing import verdict, wait_for
from worker.sandbox.stage import ACCOUNTS, POLICY, Kafka, Stage
from worker.vendors import load_spec

pytestmark = pytest.mark.kafka

TIMEOUT_S = 2
REGIONS = {"action": "block_regions", "regions": "verdict", "for": "requested", "max": "7d"}
CHANGES = {
    "accounts": {name: {"timeout_s": TIMEOUT_S} for name in ACCOUNTS},
    "policy": {
        "verify": "off",
        "reconcile": "3s",
        "rules": [{"name": "geo", "when": {"category": "geo"}, "then": REGIONS}, *POLICY["rules"]],
    },
}
ROOM = load_spec("aliyun").capacities["region_rules"].limit


@pytest.fixture(scope="module")
def theatre(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    kafka = Kafka(broker.plain, prefix="several")
    with Stage(tmp_path_factory.mktemp("stage"), kafka, changes=CHANGES) as stage:
        worker = stage.start_worker()
        play.ready(worker)
        opened = Theatre(stage, worker)
        yield opened
        opened.worker.terminate()
        assert opened.worker.wait(30) == 0
        assert not play.complaints(opened.worker)


def outcomes_by_account(theatre: Theatre, event: str) -> dict[str, list[str]]:
    """Return what an event has come to at each account, in order; a star marks a terminal result."""
    found: dict[str, list[str]] = {}
    for one in theatre.stage.results():
        if event in (one["verdict_id"], one["command_id"]):
            told = found.setdefault(one["target"]["account"], [])
            told.append(one["outcome"] + ("*" if one["terminal"] else ""))
    return found


def asked(theatre: Theatre, vendor: str, operation: str, stream: str) -> int:
    calls = theatre.stage.vendor_log()
    named = [(one["vendor"], one["operation"], one["stream"]) for one in calls]
    return named.count((vendor, operation, stream))


def test_a_vendor_that_hangs_holds_back_no_other(theatre: Theatre) -> None:
    theatre.stage.play_script("huawei", [{"operation": "block", "effect": "hang"}])
    theatre.send(verdict("v-hangs", "all/hangs", "violence"))
    others = {"ali": ["applied*"], "cdn": ["applied*"]}
    wait_for(lambda: asked(theatre, "huawei", "block", "hangs"), 30, "the one that hangs was asked")
    wait_for(lambda: outcomes_by_account(theatre, "v-hangs") == others, 30, "the others are done")
    told = theatre.explain("all/hangs")
    in_order(told, "As demanded at 2 of 3 places; not at:", "hw push.sandbox.example/live: not in force yet")
    assert outcomes_by_account(theatre, "v-hangs") == others, "the one that hangs has not come to anything"

    theatre.stage.play_script("huawei", [])
    everywhere = {**others, "hw": ["applied*"]}
    wait_for(lambda: outcomes_by_account(theatre, "v-hangs") == everywhere, 30, "it is asked again")
    assert all(theatre.ban(name, "hangs") for name in ACCOUNTS)
    assert "As demanded at 3 of 3 places." in theatre.explain("all/hangs")


def test_a_vendor_that_refuses_fails_alone_and_is_seen_at_a_glance(theatre: Theatre) -> None:
    theatre.stage.play_script("huawei", [{"operation": "block", "effect": "status", "status": 403}])
    theatre.send(verdict("v-refused", "all/refused", "violence"))
    everywhere = {"ali": ["applied*"], "cdn": ["applied*"], "hw": ["failed*"]}
    wait_for(lambda: outcomes_by_account(theatre, "v-refused") == everywhere, 30, "each has its own result")
    assert theatre.result("v-refused", "failed")["error"]["class"] == "vendor"
    in_order(
        theatre.explain("all/refused"),
        "As demanded at 2 of 3 places; not at:",
        "hw push.sandbox.example/live: given up",
    )
    theatre.stage.play_script("huawei", [])
    wait_for(lambda: theatre.ban("hw", "refused") is not None, 30, "it was tried again")


def test_an_end_that_passed_while_every_replica_was_down_is_lifted_on_start_and_overdue_until_then(
    theatre: Theatre,
) -> None:
    def rules() -> list[int]:
        blocks = theatre.stage.vendor_state()["aliyun"]["region_blocks"]
        return [block["Status"] for block in blocks if block["StreamName"] == "down"]

    def overdue() -> float:
        return theatre.worker.metrics("moderation_oldest_overdue_expiry_seconds")

    # Long enough that a busy machine sees it in force before it ends.
    asks = {"action": "block_regions", "for_s": 20}
    theatre.send(verdict("v-down", "ali/down", "geo", regions=["CN"], requested=asks))
    theatre.told("v-down", "applied*")
    theatre.worker.terminate()
    assert theatre.worker.wait(30) == 0
    wait_for(lambda: rules() == [4], 60, "its end has passed; the vendor still lists it")
    theatre.stage.play_script("aliyun", [{"operation": "delete_region_block", "effect": "hang", "first": 1}])
    theatre.worker = theatre.stage.start_worker()
    wait_for(lambda: overdue() >= 1, 30, "the gauge shows what is overdue")
    wait_for(lambda: not rules(), 30, "it was lifted")
    wait_for(lambda: overdue() == 0, 30, "nothing is overdue any more")
    in_order(story(theatre.explain("ali/down")), "verdict v-down", "v-down expired")


def test_what_finds_no_room_fails_before_the_call_and_goes_when_there_is_room(theatre: Theatre) -> None:
    """The last one here: all these streams are compared with the vendor's rules from now on."""
    asks = {"action": "block_regions", "for_s": 86_400}
    names = [f"ali/geo-{n}" for n in range(ROOM)]
    theatre.send(*(verdict(f"v-{name}", name, "geo", regions=["CN"], requested=asks) for name in names))
    rules = {"account": "ali", "capacity": "region_rules"}
    wait_for(
        lambda: theatre.worker.metrics("moderation_vendor_capacity_used_ratio", **rules) == 1,
        60,
        "all places are taken",
    )
    theatre.send(verdict("v-no-room", "ali/no-room", "geo", regions=["CN"], requested=asks))
    theatre.told("v-no-room", "failed*")
    told = theatre.result("v-no-room", "failed")
    assert (told["error"]["class"], told["reason"], told["attempts"]) == ("quota", "quota", [])
    assert theatre.calls("no-room") == [], "nothing was called"
    in_order(
        story(theatre.explain("ali/no-room")), "v-no-room failed", "all places are taken; nothing was called"
    )

    for name in names[:2]:
        theatre.told(theatre.release(name, theatre.result(f"v-{name}", "applied")["hold"]), "released*")
    theatre.told("v-no-room", "failed*", "applied")
    # More than one where the vendor takes its time to delete: until then it says that all places are taken.
    assert set(theatre.calls("no-room")) == {"set_region_block"}
    assert not theatre.stage.vendor_stats()["aliyun"]["violations"]
