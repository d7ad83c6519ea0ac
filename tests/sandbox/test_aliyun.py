from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.sandbox.signing import PLAY, PUSH, START, Clock, Signer, utc
from worker.sandbox.simulators import AliyunSimulator

pytestmark = pytest.mark.sandbox

DAY = 86_400_000
ROOM = {"AppName": "live", "StreamName": "room"}
PUSHED = {**ROOM, "DomainName": PUSH, "LiveStreamType": "publisher"}
PLAYED = {**ROOM, "DomainName": PLAY}
BLOCK = {**PLAYED, "BlockType": "blacklist", "LocationList": "CN,AS"}

Make = Callable[..., tuple[AliyunSimulator, Signer]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(http: httpx.Client, clock: Clock) -> Iterator[Make]:
    made = []

    def make(**options: Any) -> tuple[AliyunSimulator, Signer]:
        simulator = AliyunSimulator(clock=clock, **options)
        made.append(simulator)
        return simulator, Signer(http, simulator.start(), clock)

    yield make
    for simulator in made:
        simulator.stop()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["Code"]


def rules(signer: Signer, **filters: Any) -> list[dict[str, Any]]:
    answer = signer.aliyun("DescribeStreamLocationBlock", {"DomainName": PLAY, **filters}).json()
    listed: list[dict[str, Any]] = answer["StreamBlockList"]["StreamBlock"]
    return listed


def test_oneshot_cuts_and_forbid_keeps_out_until_its_end(make: Make, clock: Clock) -> None:
    aliyun, signer = make()
    aliyun.publish(PUSH, "live", "room", reconnects_after_ms=1000)
    assert signer.aliyun("ForbidLiveStream", {**PUSHED, "Oneshot": "yes"}).status_code == 200
    assert signer.aliyun("DescribeLiveStreamState", PLAYED).json()["StreamState"] == "offline"
    clock.now += 1000
    assert signer.aliyun("DescribeLiveStreamState", PLAYED).json()["StreamState"] == "online"
    end = START + 30_000
    assert signer.aliyun("ForbidLiveStream", {**PUSHED, "ResumeTime": utc(end)}).status_code == 200
    clock.now = end - 1
    listed = signer.aliyun("DescribeLiveStreamsBlockList", {"DomainName": PLAY}).json()
    assert listed["StreamUrls"] == {"StreamUrl": [f"{PLAY}/live/room"]}
    assert aliyun.state()["live"] == []
    clock.now = end + 1000
    assert aliyun.state()["bans"] == []
    assert aliyun.state()["live"][0]["started_at"] == end
    assert aliyun.stats()["cuts"] == 2


def test_forbid_without_an_end_lasts_six_months_and_is_lifted_for_any_app(make: Make) -> None:
    aliyun, signer = make()
    signer.aliyun("ForbidLiveStream", PUSHED)
    assert aliyun.state()["bans"][0]["until"] == START + 183 * DAY
    assert signer.aliyun("ResumeLiveStream", {**PUSHED, "StreamName": "other", "AppName": "*"}).is_success
    assert len(aliyun.state()["bans"]) == 1
    assert signer.aliyun("ResumeLiveStream", {**PUSHED, "AppName": "*"}).is_success
    assert aliyun.state()["bans"] == []
    assert [line["changed"] for line in aliyun.lines()] == [True, False, True]


def test_a_second_forbid_exists_or_moves_the_end(make: Make) -> None:
    later = {**PUSHED, "ResumeTime": utc(START + 60_000)}
    aliyun, signer = make()
    signer.aliyun("ForbidLiveStream", PUSHED)
    assert code(signer.aliyun("ForbidLiveStream", later)) == (400, "ConfigAlreadyExists")
    assert aliyun.state()["bans"][0]["until"] == START + 183 * DAY
    aliyun, signer = make(reforbid="updates")
    signer.aliyun("ForbidLiveStream", PUSHED)
    assert signer.aliyun("ForbidLiveStream", later).status_code == 200
    assert aliyun.state()["bans"][0]["until"] == START + 60_000


def test_a_region_block_takes_its_time_and_expires_and_goes(make: Make, clock: Clock) -> None:
    _, signer = make(region_delay_ms=1000)
    answer = signer.aliyun("SetLiveStreamBlock", {**BLOCK, "ReleaseTime": utc(START + 60_000)})
    assert (answer.status_code, answer.json()["Status"]) == (200, "ok")
    seen = []
    for at in (0, 500, 1000, 60_000):
        clock.now = START + at
        seen.append(rules(signer)[0]["Status"])
    assert seen == [0, 1, 2, 4]
    signer.aliyun("DeleteLiveStreamBlock", PLAYED)
    assert rules(signer)[0]["Status"] == 5
    clock.now += 1000
    assert rules(signer) == []
    assert signer.aliyun("DeleteLiveStreamBlock", PLAYED).json()["Status"] == "ok"


def test_a_region_block_can_fail_and_is_replaced_by_a_newer_one(make: Make, clock: Clock) -> None:
    _, signer = make(region_delay_ms=0, region_result=3)
    signer.aliyun("SetLiveStreamBlock", BLOCK)
    signer.aliyun("SetLiveStreamBlock", {**BLOCK, "LocationList": "US", "BlockType": "whitelist"})
    assert [(rule["LocationList"], rule["Status"]) for rule in rules(signer)] == [("US", 3)]
    assert rules(signer)[0]["ReleaseTime"] == utc(clock.now + 7 * DAY)
    assert rules(signer, BlockType="blacklist") == []
    assert rules(signer, StreamName="other") == []


@pytest.mark.parametrize(
    ("action", "params", "expected"),
    [
        ("ForbidLiveStream", {**PUSHED, "DomainName": PLAY}, (404, "InvalidDomain.NotFound")),
        ("ForbidLiveStream", {**PUSHED, "LiveStreamType": ""}, (400, "MissingLiveStreamType")),
        ("ForbidLiveStream", {**PUSHED, "LiveStreamType": "viewer"}, (400, "InvalidParam")),
        ("ForbidLiveStream", {**PUSHED, "Oneshot": "maybe"}, (400, "InvalidParam")),
        ("ForbidLiveStream", {**PUSHED, "ResumeTime": "soon"}, (400, "InvalidResumeTime.Malformed")),
        ("ForbidLiveStream", {**PUSHED, "ResumeTime": utc(START)}, (400, "InvalidResumeTime.Malformed")),
        ("ResumeLiveStream", {**PUSHED, "DomainName": "x.example"}, (404, "InvalidDomain.NotFound")),
        ("SetLiveStreamBlock", {**BLOCK, "DomainName": PUSH}, (404, "InvalidDomain.NotFound")),
        ("SetLiveStreamBlock", {**BLOCK, "LocationList": "China"}, (400, "InvalidParam")),
        ("SetLiveStreamBlock", {**BLOCK, "BlockType": "grey"}, (400, "InvalidParam")),
        ("SetLiveStreamBlock", {**BLOCK, "ReleaseTime": "x"}, (400, "InvalidReleaseTime.Malformed")),
        ("SetLiveStreamBlock", PLAYED, (400, "MissingBlockType")),
        ("DescribeStreamLocationBlock", {"DomainName": PLAY, "PageSize": 101}, (400, "InvalidParam")),
        ("DescribeLiveStreamsBlockList", {"DomainName": PUSH}, (404, "InvalidDomain.NotFound")),
        ("DescribeLiveStreamsOnlineList", {"DomainName": PLAY, "PageNum": 0}, (400, "InvalidParam")),
        ("DescribeLiveStreamState", {"DomainName": PLAY}, (400, "MissingAppName")),
        ("StopLiveDomain", {"DomainName": PLAY}, (404, "InvalidApi.NotFound")),
    ],
)
def test_wrong_calls_get_the_documented_code(
    make: Make, action: str, params: dict[str, str], expected: tuple[int, str]
) -> None:
    aliyun, signer = make()
    assert code(signer.aliyun(action, params)) == expected
    assert aliyun.stats()["changed"] == 0


def test_lists_are_limited_and_come_in_pages(make: Make, clock: Clock) -> None:
    aliyun, signer = make(max_forbidden=3, max_rules=3, quotas={"forbid": [], "set_region_block": []})
    for number in range(3):
        signer.aliyun("ForbidLiveStream", {**PUSHED, "StreamName": f"s{number}"})
        signer.aliyun("SetLiveStreamBlock", {**BLOCK, "StreamName": f"s{number}"})
        aliyun.publish(PUSH, "live", f"online-{number}")
    assert code(signer.aliyun("ForbidLiveStream", PUSHED)) == (400, "QuotaExceeded.Blacklist")
    assert code(signer.aliyun("SetLiveStreamBlock", BLOCK)) == (400, "QuotaExceeded.Block")
    second = {"DomainName": PLAY, "PageNum": 2, "PageSize": 2}
    blocked = signer.aliyun("DescribeLiveStreamsBlockList", second).json()
    assert (blocked["StreamUrls"]["StreamUrl"], blocked["TotalNum"]) == ([f"{PLAY}/live/s2"], 3)
    assert blocked["TotalPage"] == 2
    assert [rule["StreamName"] for rule in rules(signer, PageNum=2, PageSize=2)] == ["s2"]
    online = signer.aliyun("DescribeLiveStreamsOnlineList", second).json()["OnlineInfo"]
    assert [row["StreamName"] for row in online["LiveStreamOnlineInfo"]] == ["online-2"]
    clock.now += 183 * DAY
    assert signer.aliyun("ForbidLiveStream", PUSHED).status_code == 200


def test_the_online_list_matches_fuzzily_unless_told_otherwise(make: Make) -> None:
    aliyun, signer = make()
    for name in ("room", "room-2"):
        aliyun.publish(PUSH, "live", name)
    wanted = {"DomainName": PLAY, "StreamName": "room"}
    fuzzy = signer.aliyun("DescribeLiveStreamsOnlineList", wanted).json()
    strict = signer.aliyun("DescribeLiveStreamsOnlineList", {**wanted, "QueryType": "strict"}).json()
    assert (fuzzy["TotalNum"], strict["TotalNum"]) == (2, 1)
    assert strict["OnlineInfo"]["LiveStreamOnlineInfo"][0]["PublishTime"] == utc(START)
