"""The vendors' own SDKs drive the simulators: a simulator that refuses what an SDK sends is wrong."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.sdk.clients import ASK, KEY, TEMPORARY, WAYS, huawei_token
from worker.sandbox.simulators import SIMULATORS, Simulator
from worker.vendors import load_spec
from worker.words import Call, Purpose, Target

pytestmark = pytest.mark.sdk

PUSH, PLAY = "push.sandbox.example", "play.sandbox.example"
NAMES = ("room42", "直播 1+1~100%")

# Operation, purpose, and whether it changes what the vendor has in force. The stream is live at first.
STEPS: Mapping[str, tuple[tuple[str, Purpose, bool], ...]] = {
    "aliyun": (
        ("list_online", "read_live", False),
        ("stream_state", "read_live", False),
        ("forbid", "cut", True),
        ("forbid", "forbid", True),
        ("list_blocked", "read_forbid", False),
        ("resume", "lift", True),
        ("set_region_block", "block_regions", True),
        ("describe_region_block", "read_regions", False),
        ("delete_region_block", "unblock_regions", True),
    ),
    "cdnetworks": (
        ("stop", "cut", True),
        ("forbid", "forbid", True),
        ("forbid", "move_end", True),
        ("forbid_query", "read_forbid", False),
        ("resume", "lift", True),
    ),
    "huawei": (
        ("list_online", "read_live", False),
        ("block_once", "cut", True),
        ("block", "forbid", True),
        ("update_block", "move_end", True),
        ("list_blocks", "read_forbid", False),
        ("unblock", "lift", True),
    ),
}
USER = ("sandbox-user", "sandbox-password", "sandbox-domain")
PROOFS = [(vendor, way) for vendor in sorted(STEPS) for way in WAYS[vendor]]
SUCCESS = {None, "0", "00"}


def ask(
    simulator: Simulator,
    operation: str,
    purpose: Purpose,
    name: str,
    days: int,
    way: str = "keys",
    token: str = "",
) -> None:
    until = (int(time.time()) + days * 86_400) * 1000
    call = Call("c", purpose, operation, Target("a", "live", name, PUSH, PLAY), until=until, regions=("CN",))
    ASK[simulator.vendor](simulator.url, call, way, token)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("vendor", "way"), [(vendor, way) for vendor in sorted(STEPS) for way in WAYS[vendor]]
)
def test_a_simulator_does_what_the_sdk_asks(vendor: str, way: str, name: str) -> None:
    temporary: dict[str, Any] = {"security_tokens": {KEY: TEMPORARY}} if way == "temporary keys" else {}
    with SIMULATORS[vendor](**temporary) as simulator:
        token = huawei_token(simulator.url, *USER) if way == "token" else ""
        simulator.publish(PUSH, "live", name)
        for days, (operation, purpose, changed) in enumerate(STEPS[vendor], 1):
            ask(simulator, operation, purpose, name, days % 6 + 1, way, token)
            line = simulator.lines()[-1]
            assert (line["operation"], line["signature_ok"]) == (operation, True)
            assert line["account"] == ("sandbox-user" if token else KEY)
            assert line["http_status"] < 300
            assert line["code"] in SUCCESS
            assert line["changed"] is changed, operation
            if operation not in {"list_blocked", "forbid_query"}:
                assert line["stream"] == name
        asked = len(STEPS[vendor]) + (way == "token")
        assert len(simulator.lines()) == asked, "an SDK asked more than once"


@pytest.mark.parametrize("vendor", sorted(ASK))
def test_every_operation_is_driven(vendor: str) -> None:
    spec = load_spec(vendor)
    served = {
        (each.name, purpose) for each in spec.operations.values() for purpose in each.serves or ("read_live",)
    }
    assert {step[:2] for step in STEPS[vendor]} == served
