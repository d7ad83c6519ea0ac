from collections.abc import Iterator

import httpx
import pytest

from tests.sandbox.signing import PUSH, START, Clock, Signer, utc
from worker.sandbox.simulators import HuaweiSimulator

pytestmark = pytest.mark.sandbox

DAY = 86_400_000
ROOM = {"domain": PUSH, "app_name": "live", "stream_name": "room"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def huawei(clock: Clock) -> Iterator[HuaweiSimulator]:
    with HuaweiSimulator(clock=clock) as simulator:
        yield simulator


@pytest.fixture
def signer(http: httpx.Client, huawei: HuaweiSimulator, clock: Clock) -> Signer:
    return Signer(http, huawei.url, clock)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def test_a_block_cuts_keeps_out_moves_lapses_and_is_lifted(
    signer: Signer, huawei: HuaweiSimulator, clock: Clock
) -> None:
    assert huawei.publish(PUSH, "live", "room", reconnects_after_ms=3000)
    until = START + 60_000
    answer = signer.huawei("POST", "stream/blocks", {**ROOM, "resume_time": utc(until)})
    assert (answer.status_code, answer.content) == (204, b"")
    assert huawei.state()["live"] == []
    assert code(signer.huawei("POST", "stream/blocks", ROOM)) == (400, "LIVE.103011018")
    assert signer.huawei("PUT", "stream/blocks", {**ROOM, "resume_time": utc(until + 5000)}).is_success
    listed = signer.huawei("GET", "stream/blocks", {"domain": PUSH}).json()
    assert listed == {
        "total": 1,
        "blocks": [{"app_name": "live", "stream_name": "room", "resume_time": utc(until + 5000)}],
    }
    clock.now = until + 5000
    assert huawei.state()["bans"] == []
    clock.now += 3000
    assert [live["started_at"] for live in huawei.state()["live"]] == [until + 6000]
    assert code(signer.huawei("DELETE", "stream/blocks", ROOM)) == (404, "LIVE.103011019")
    assert signer.huawei("POST", "stream/blocks", ROOM).is_success
    assert huawei.state()["bans"][0]["until"] == clock.now + 7 * DAY
    assert signer.huawei("DELETE", "stream/blocks", ROOM).status_code == 204
    assert huawei.state()["bans"] == []


def test_block_once_cuts_and_the_encoder_comes_back(
    signer: Signer, huawei: HuaweiSimulator, clock: Clock
) -> None:
    huawei.publish(PUSH, "live", "room", started_at=START - 1000, reconnects_after_ms=3000)
    assert signer.huawei("POST", "stream/block-once", ROOM).status_code == 204
    clock.now += 2999
    assert huawei.state()["live"] == []
    clock.now += 1
    assert huawei.state()["live"][0]["started_at"] == START + 3000
    assert huawei.state()["cuts"][0]["cuts"] == 1
    clock.now += 1
    huawei.unpublish(PUSH, "live", "room")
    assert signer.huawei("POST", "stream/block-once", ROOM).status_code == 204
    assert [line["changed"] for line in huawei.lines()] == [True, False]


@pytest.mark.parametrize(
    ("method", "path", "change", "expected"),
    [
        ("POST", "stream/blocks", {"domain": "other.example"}, (400, "LIVE.100011001")),
        ("DELETE", "stream/blocks", {"domain": "other.example"}, (403, "LIVE.100011001")),
        ("GET", "stream/blocks", {"domain": "other.example"}, (400, "LIVE.100011001")),
        ("POST", "stream/blocks", {"stream_name": "*"}, (400, "LIVE.100011001")),
        ("POST", "stream/blocks", {"stream_name": "s" * 513}, (400, "LIVE.100011001")),
        ("POST", "stream/block-once", {"app_name": ""}, (400, "LIVE.100011001")),
        ("POST", "stream/blocks", {"resume_time": utc(START + 91 * DAY)}, (400, "LIVE.100011001")),
        ("POST", "stream/blocks", {"resume_time": utc(START - 1000)}, (400, "LIVE.100011001")),
        ("POST", "stream/blocks", {"resume_time": "2027-01-01T00:00:00+08:00"}, (400, "LIVE.100011001")),
        ("PUT", "stream/blocks", {"resume_time": utc(START)}, (400, "LIVE.100011001")),
        ("PUT", "stream/blocks", {"resume_time": utc(START + 1000)}, (404, "LIVE.103011019")),
        ("GET", "stream/blocks", {"size": 101}, (400, "LIVE.100011001")),
        ("GET", "stream/blocks", {"page": -1}, (400, "LIVE.100011001")),
        ("GET", "realtime/streams", {"publish_domain": PUSH, "stream": "room"}, (400, "LIVE.100011001")),
        ("PUT", "stream/block-once", {}, (400, "LIVE.100011011")),
        ("GET", "stream/other", {}, (404, "APIGW.0101")),
    ],
)
def test_wrong_calls_get_the_documented_code(
    signer: Signer,
    huawei: HuaweiSimulator,
    method: str,
    path: str,
    change: dict[str, object],
    expected: tuple[int, str],
) -> None:
    assert code(signer.huawei(method, path, {**ROOM, **change})) == expected
    assert huawei.stats()["changed"] == 0


def test_this_very_second_is_no_past_for_a_new_block(signer: Signer, clock: Clock) -> None:
    clock.now += 900
    assert signer.huawei("POST", "stream/blocks", {**ROOM, "resume_time": utc(START)}).status_code == 204


def test_json_must_be_called_json(signer: Signer) -> None:
    answer = signer.huawei("POST", "stream/block-once", ROOM, {"content-type": "text/plain"})
    assert code(answer) == (400, "LIVE.100011012")


def test_lists_come_in_pages(signer: Signer, huawei: HuaweiSimulator) -> None:
    for number in range(12):
        huawei.publish(PUSH, "live", f"online-{number}")
        signer.huawei("POST", "stream/blocks", {**ROOM, "stream_name": f"s{number}"})
    pages = [signer.huawei("GET", "stream/blocks", {"domain": PUSH, "page": n}).json() for n in (0, 1, 2)]
    assert [len(page["blocks"]) for page in pages] == [10, 2, 0]
    assert {page["total"] for page in pages} == {12}
    one = signer.huawei("GET", "stream/blocks", {**ROOM, "stream_name": "s7"}).json()
    assert [block["stream_name"] for block in one["blocks"]] == ["s7"]
    online = signer.huawei("GET", "realtime/streams", {"publish_domain": PUSH, "offset": 11, "limit": 5})
    assert [stream["stream"] for stream in online.json()["streams"]] == ["online-11"]
    assert (online.json()["total_num"], online.json()["total_page"]) == (12, 3)
    assert online.json()["streams"][0]["start_time"] == utc(START)


def ask_for_token(
    http: httpx.Client, huawei: HuaweiSimulator, project: str = "sandbox-project", **user: object
) -> httpx.Response:
    named = {"name": "sandbox-user", "password": "sandbox-password", "domain": {"name": "sandbox-domain"}}
    identity = {"methods": ["password"], "password": {"user": {**named, **user}}}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": project}}}}
    return http.post(f"{huawei.url}/v3/auth/tokens", json=body)


def with_token(http: httpx.Client, huawei: HuaweiSimulator, token: str) -> httpx.Response:
    url = f"{huawei.url}/v1/sandbox-project/stream/blocks"
    return http.get(url, params={"domain": PUSH}, headers={"X-Auth-Token": token})


def test_a_token_takes_the_place_of_a_signature_until_it_ends(
    http: httpx.Client, huawei: HuaweiSimulator, clock: Clock
) -> None:
    given = ask_for_token(http, huawei)
    assert given.status_code == 201
    assert given.json()["token"]["expires_at"] == utc(START + DAY).replace("Z", ".000000Z")
    token = given.headers["X-Subject-Token"]
    assert with_token(http, huawei, token).json() == {"total": 0, "blocks": []}
    assert huawei.lines()[-1]["account"] == "sandbox-user"
    other = ask_for_token(http, huawei).headers["X-Subject-Token"]
    assert other != token
    assert with_token(http, huawei, token).is_success, "a new one does not end the old one"
    clock.now += DAY
    assert code(with_token(http, huawei, token)) == (401, "APIGW.0307")
    assert code(with_token(http, huawei, "MIInobody")) == (401, "APIGW.0307")


def test_revoked_tokens_are_no_longer_taken(http: httpx.Client, huawei: HuaweiSimulator) -> None:
    token = ask_for_token(http, huawei).headers["X-Subject-Token"]
    huawei.revoke_tokens()
    assert code(with_token(http, huawei, token)) == (401, "APIGW.0307")


@pytest.mark.parametrize(
    ("user", "project", "status"),
    [
        ({"password": "wrong"}, "sandbox-project", 401),
        ({"name": "nobody"}, "sandbox-project", 401),
        ({"domain": {"name": "another"}}, "sandbox-project", 401),
        ({"domain": None}, "sandbox-project", 400),
        ({}, "another", 401),
    ],
)
def test_iam_gives_no_token_for_what_does_not_fit(
    http: httpx.Client, huawei: HuaweiSimulator, user: dict[str, object], project: str, status: int
) -> None:
    answer = ask_for_token(http, huawei, project, **user)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert "X-Subject-Token" not in answer.headers
    assert huawei.lines()[-1]["operation"] == "login"
