"""What a vendor loses is found by the real process, and brought back; what is not ours is left alone."""

import json
from collections.abc import Callable

import pytest

from tests.e2e.playing import outcomes, verdict, wait_for
from worker.sandbox.stage import Stage

pytestmark = pytest.mark.sandbox

NEVER_SOON = 4_000_000_000_000
ROOMS = {
    "v-hw": ("hw", "nudity"),
    "v-cdn": ("cdn", "nudity"),
    "v-ban": ("ali", "nudity"),
    "v-geo": ("ali", "gambling"),
}


def in_force(stage: Stage) -> set[tuple[str, str]]:
    """Return (what, stream) of all that the vendors have in force, a region block once it is rolled out."""
    states = stage.vendor_state().values()
    bans = {("ban", ban["stream"]) for state in states for ban in state["bans"]}
    rules = (rule for state in states for rule in state.get("region_blocks", []))
    return bans | {(rule["LocationList"], rule["StreamName"]) for rule in rules if rule["Status"] == 2}


def test_what_was_deleted_by_hand_is_applied_again(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(changes={"policy": {"verify": {"after": ["300ms", "2s"]}, "reconcile": "2s"}})
    worker = stage.start_worker()
    stage.produce(
        verdict(name, f"{account}/{name}", category, regions=["DE", "FR"])
        for name, (account, category) in ROOMS.items()
    )
    wait_for(
        lambda: all(outcomes(stage.results(), name) == ["applied", "verified*"] for name in ROOMS),
        30,
        "all is verified",
    )
    enforced = in_force(stage)
    assert enforced == {("DE,FR" if name == "v-geo" else "ban", name) for name in ROOMS}

    stage.meddle("huawei", "ban", "stranger", until=NEVER_SOON)
    for name, (account, category) in ROOMS.items():
        vendor = {"hw": "huawei", "ali": "aliyun", "cdn": "cdnetworks"}[account]
        stage.meddle(vendor, "unblock" if category == "gambling" else "lift", name)
    assert in_force(stage) == {("ban", "stranger")}

    wait_for(
        lambda: all(
            outcomes(stage.results(), name) == ["applied", "verified*", "drifted", "verified"]
            for name in ROOMS
        ),
        30,
        "all was missed, applied again and verified",
    )
    assert in_force(stage) == enforced | {("ban", "stranger")}
    found_by = [told["reason"] for told in stage.results() if told["outcome"] == "drifted"]
    assert found_by == ["drift"] * len(ROOMS)
    assert "stranger" not in json.dumps(stage.vendor_log())
    worker.terminate()
    assert worker.wait(30) == 0
