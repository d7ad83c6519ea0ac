from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.signing import PLAY, PUSH, Clock, Signer
from worker.sandbox.simulators import AliyunSimulator, CdnetworksSimulator, HuaweiSimulator
from worker.sandbox.simulators.quotas import Quotas

pytestmark = pytest.mark.sandbox

Calls = Callable[[Signer], httpx.Response]


def huawei_call(signer: Signer) -> httpx.Response:
    room = {"domain": PUSH, "app_name": "live", "stream_name": "room"}
    return signer.huawei("POST", "stream/block-once", room)


def aliyun_call(signer: Signer) -> httpx.Response:
    return signer.aliyun("DescribeLiveStreamsBlockList", {"DomainName": PLAY})


def cdn_call(signer: Signer) -> httpx.Response:
    return signer.cdn("/cm/stream/forbidQuery", {"channel": PUSH})


@pytest.mark.parametrize(
    ("vendor", "call", "quota", "limit", "window", "status", "field", "code"),
    [
        (HuaweiSimulator, huawei_call, "block_once", 300, 60_000, 429, "error_code", "APIGW.0308"),
        (AliyunSimulator, aliyun_call, "list_blocked", 50, 1000, 400, "Code", "Throttling.User"),
        (CdnetworksSimulator, cdn_call, "forbid_query", 10, 300_000, 429, "code", "429"),
    ],
)
def test_the_documented_quota_holds_in_any_window(
    http: httpx.Client,
    vendor: Any,
    call: Calls,
    quota: str,
    limit: int,
    window: int,
    status: int,
    field: str,
    code: str,
) -> None:
    clock = Clock()
    with vendor(clock=clock, accounts={"sandbox-key": "sandbox-secret", "other": "o"}) as simulator:
        signer = Signer(http, simulator.url, clock)
        for _ in range(limit - 1):
            assert call(signer).is_success
        clock.now += window - 1
        assert call(signer).is_success
        refused = call(signer)
        assert (refused.status_code, refused.json()[field]) == (status, code)
        assert call(Signer(http, simulator.url, clock, "other", "o")).is_success
        clock.now += 1
        assert call(signer).is_success
        stats = simulator.stats()
    (window_used,) = [
        row for row in stats["quotas"] if row["quota"] == quota and row["account"] == "sandbox-key"
    ]
    assert window_used["max_used"] == limit + 1
    assert (window_used["limit"], window_used["window_ms"]) == (limit, window)
    assert (stats["violations"], stats["throttled"]) == (1, 1)
    assert [(line["throttled"], line["over_quota"]) for line in stats["violating_calls"]] == [(True, True)]


def test_the_writes_of_cdnetworks_share_a_day(http: httpx.Client) -> None:
    clock = Clock()
    with CdnetworksSimulator(clock=clock, quotas={"writes": [(3, 86_400_000)], "stop": [(1, 1000)]}) as cdn:
        signer, body = Signer(http, cdn.url, clock), {"liveUrl": f"rtmp://{PUSH}/live/room"}
        paths = ["forbid", "stop", "stop", "resume", "forbid"]
        answers = [signer.cdn(f"/api/live/{path}", body).status_code for path in paths]
        query = signer.cdn("/cm/stream/forbidQuery", {"channel": PUSH}).status_code
    assert answers == [200, 200, 429, 200, 429]  # the third by its own window, and it took no slot of the day
    assert query == 202
    assert len(cdn.state()["bans"]) == 0


def test_a_quota_nobody_has_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="huawei has no quota blokc"):
        HuaweiSimulator(quotas={"blokc": [(1, 1000)]})


def test_a_call_too_many_in_two_windows_is_a_violation_of_both() -> None:
    quotas = Quotas({"a": [(1, 10), (1, 100)]})
    assert quotas.arrive("x", ["a"], 0) is None
    assert quotas.arrive("x", ["a"], 9) is not None
    assert [row["violations"] for row in quotas.report()] == [1, 1]
    assert quotas.arrive("x", ["a"], 10) is not None
    assert [row["violations"] for row in quotas.report()] == [1, 2]
    assert quotas.arrive("y", ["a"], 10) is None
    assert quotas.arrive("x", ["a"], 100) is None
