import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.sandbox.signing import PLAY, PUSH, START, Clock, Signer
from worker.sandbox.simulators import AliyunSimulator, CdnetworksSimulator, HuaweiSimulator
from worker.sandbox.simulators.faults import Script

pytestmark = pytest.mark.sandbox

ROOM = {"domain": PUSH, "app_name": "live", "stream_name": "room"}


@pytest.fixture
def huawei() -> Iterator[HuaweiSimulator]:
    with HuaweiSimulator() as simulator:
        simulator.publish(PUSH, "live", "room")
        yield simulator


def block(http: httpx.Client, huawei: HuaweiSimulator) -> httpx.Response:
    return Signer(http, huawei.url, Clock(int(time.time() * 1000))).huawei("POST", "stream/blocks", ROOM)


def only_line(huawei: HuaweiSimulator) -> dict[str, Any]:
    (line,) = huawei.lines()
    return line


def test_a_delay_comes_before_the_deed(http: httpx.Client, huawei: HuaweiSimulator) -> None:
    huawei.play_script([{"operation": "block", "effect": "delay_ms", "ms": 300}])
    threading.Timer(0.1, lambda: before.extend(huawei.state()["bans"])).start()
    before: list[Any] = []
    started = time.monotonic()
    assert block(http, huawei).status_code == 204
    assert time.monotonic() - started >= 0.3
    assert before == []
    assert only_line(huawei)["answered_ms"] - only_line(huawei)["at_ms"] >= 300


@pytest.mark.parametrize(
    ("rule", "status", "content"),
    [
        ({"effect": "throttle"}, 429, "APIGW.0308"),
        ({"effect": "status", "status": 502, "body": "<html>Bad Gateway</html>"}, 502, "<html>"),
        ({"effect": "status", "status": 200, "body": {"odd": 1}}, 200, '{"odd": 1}'),
        ({"effect": "status", "status": 204}, 204, ""),
        ({"effect": "error_code", "code": "LIVE.103011021"}, 400, "LIVE.103011021"),
        ({"effect": "error_code", "code": "APIGW.0613", "status": 503}, 503, "request_id"),
    ],
)
def test_false_answers_do_nothing(
    http: httpx.Client, huawei: HuaweiSimulator, rule: dict[str, Any], status: int, content: str
) -> None:
    huawei.play_script([{**rule, "operation": "block"}])
    answer = block(http, huawei)
    assert answer.status_code == status
    assert content in answer.text
    assert len(huawei.state()["live"]) == 1
    assert (only_line(huawei)["fault"], only_line(huawei)["changed"]) == (rule["effect"], False)
    assert only_line(huawei)["throttled"] is (status == 429)


@pytest.mark.parametrize(
    ("effect", "error", "done"),
    [
        ("hang", httpx.ReadTimeout, False),
        ("reset_before", httpx.ReadError, False),
        ("done_then_hang", httpx.ReadTimeout, True),
        ("done_then_reset", httpx.ReadError, True),
    ],
)
def test_no_answer_comes_and_the_deed_is_done_or_not(
    http: httpx.Client, huawei: HuaweiSimulator, effect: str, error: type[Exception], done: bool
) -> None:
    huawei.play_script([{"operation": "block", "effect": effect}])
    http.timeout = httpx.Timeout(0.5)
    with pytest.raises(error):
        block(http, huawei)
    line = only_line(huawei)
    assert (line["fault"], line["changed"], line["http_status"]) == (effect, done, None)
    assert line["answered_ms"] is None
    assert len(huawei.state()["bans"]) == done
    huawei.play_script([])
    assert block(http, huawei).status_code == (400 if done else 204)


def test_a_truncated_answer_breaks_off_and_the_deed_is_done(
    http: httpx.Client, huawei: HuaweiSimulator
) -> None:
    huawei.play_script([{"effect": "truncated"}])
    with pytest.raises(httpx.RemoteProtocolError):
        block(http, huawei)
    assert len(huawei.state()["bans"]) == 1
    clock = Clock(int(time.time() * 1000))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        Signer(http, huawei.url, clock).huawei("GET", "stream/blocks", {"domain": PUSH})


def test_garbage_is_no_json_and_the_deed_is_done(http: httpx.Client, huawei: HuaweiSimulator) -> None:
    huawei.play_script([{"effect": "garbage"}])
    answer = block(http, huawei)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    assert len(huawei.state()["bans"]) == 1


def test_throttling_has_a_wait_where_the_vendor_knows_one(http: httpx.Client) -> None:
    clock = Clock()
    with AliyunSimulator(clock=clock, script=[{"effect": "throttle", "retry_after_ms": 250}]) as aliyun:
        answer = Signer(http, aliyun.url, clock).aliyun("DescribeLiveStreamsBlockList", {"DomainName": PLAY})
    assert (answer.status_code, answer.headers["x-acs-retry-after"]) == (400, "250")
    with CdnetworksSimulator(
        clock=clock, script=[{"effect": "error_code", "code": "417", "status": 200}]
    ) as cdn:
        answer = Signer(http, cdn.url, clock).cdn("/cm/stream/forbidQuery", {"channel": PUSH})
    assert (answer.status_code, answer.json()["code"]) == (200, "417")


def test_rules_select_calls_and_the_same_seed_selects_the_same() -> None:
    def hits(rule: dict[str, Any], operations: str) -> list[int]:
        script = Script([{"effect": "hang", **rule}])
        return [n for n, name in enumerate(operations) if script.pick(name)[1]]

    assert hits({"operation": "a", "first": 2}, "baaab") == [1, 2]
    assert hits({"operation": ["a", "b"], "every": 2}, "acbab") == [2, 4]
    assert hits({}, "ab") == [0, 1]
    often = hits({"probability": 0.3, "seed": 1}, "a" * 1000)
    assert 250 < len(often) < 350
    assert hits({"probability": 0.3, "seed": 1}, "a" * 1000) == often
    assert hits({"probability": 0.3, "seed": 2}, "a" * 1000) != often


def test_delays_add_up_and_the_first_other_effect_decides() -> None:
    delay = {"effect": "delay_ms", "ms": 5}
    waited, rule = Script([delay, {"effect": "hang"}, delay, {"effect": "garbage"}]).pick("a")
    assert (waited, rule.effect if rule else None) == (10, "hang")


@pytest.mark.parametrize(
    "rule",
    [
        {"effect": "explode"},
        {"effect": "hang", "oeration": "block"},
        {"effect": "delay_ms"},
        {"effect": "hang", "first": 1, "every": 2},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    http: httpx.Client, huawei: HuaweiSimulator, rule: dict[str, Any]
) -> None:
    answer = http.post(f"{huawei.url}/_sim/script", json=[rule])
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_control_endpoints(http: httpx.Client, huawei: HuaweiSimulator) -> None:
    sim = f"{huawei.url}/_sim"
    room = {"domain": PUSH, "app": "live", "stream": "other"}
    started = http.post(f"{sim}/publish", json={**room, "started_at": START, "reconnects_after_ms": 50})
    assert started.json() == {"changed": True}
    live = http.get(f"{sim}/state").json()["live"]
    assert {**room, "started_at": START} in live
    assert http.post(f"{sim}/publish", json={**room, "domain": "x.example"}).status_code == 400
    assert http.post(f"{sim}/unpublish", json=room).json() == {"changed": True}
    assert http.post(f"{sim}/script", json=[{"effect": "throttle", "first": 1}]).json() == {"rules": 1}
    assert block(http, huawei).status_code == 429
    assert block(http, huawei).status_code == 204
    assert [line["http_status"] for line in http.get(f"{sim}/log").json()] == [429, 204]
    stats = http.get(f"{sim}/stats").json()
    assert (stats["calls"], stats["faults"], stats["changed"], stats["cuts"]) == ({"block": 2}, 1, 1, 1)
    assert http.get(f"{sim}/nothing").status_code == 404


def test_stopping_ends_hanging_connections_at_once(huawei: HuaweiSimulator) -> None:
    huawei.play_script([{"effect": "hang"}])
    address = urlsplit(huawei.url)
    with socket.create_connection((address.hostname, address.port)) as hanging:
        hanging.sendall(b"GET /v1/x/stream/blocks HTTP/1.1\r\nHost: x\r\n\r\n")
        while not huawei.lines():
            time.sleep(0.01)
        started = time.monotonic()
        huawei.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(ConnectionResetError):
            hanging.recv(1)
    assert json.dumps(huawei.stats())
