from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.sandbox.signing import PLAY, PUSH, START, Clock, Signer
from worker.sandbox.simulators import CdnetworksSimulator

pytestmark = pytest.mark.sandbox

DAY = 86_400_000
ROOM = f"rtmp://{PUSH}/live/room"
QUERY = "/cm/stream/forbidQuery"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cdn(clock: Clock) -> Iterator[CdnetworksSimulator]:
    with CdnetworksSimulator(clock=clock, quotas={"forbid_query": []}) as simulator:
        yield simulator


@pytest.fixture
def signer(http: httpx.Client, cdn: CdnetworksSimulator, clock: Clock) -> Signer:
    return Signer(http, cdn.url, clock)


def test_forbid_cuts_is_listed_lapses_and_is_lifted(
    signer: Signer, cdn: CdnetworksSimulator, clock: Clock
) -> None:
    cdn.publish(PUSH, "live", "room", reconnects_after_ms=1000)
    answer = signer.cdn("/api/live/forbid", {"liveUrl": ROOM, "reltime": "60", "type": "publish"})
    assert (answer.status_code, answer.json()) == (200, {"code": "0", "message": "success"})
    assert answer.headers["x-cnc-request-id"]
    assert cdn.state()["live"] == []
    found = signer.cdn(QUERY, {"channel": PUSH})
    assert (found.status_code, found.json()["code"]) == (202, "00")
    entry = {"chanel": PUSH, "url": ROOM, "startTime": START // 1000, "endTime": START // 1000 + 60, "ip": ""}
    assert found.json()["resultDetail"] == [entry]
    assert signer.cdn(QUERY, {"channel": PUSH, "url": ROOM + "2"}).json()["resultDetail"] == []
    assert signer.cdn(QUERY, {"channel": PLAY}).json()["resultDetail"] == []
    clock.now += 60_000
    assert signer.cdn(QUERY, {"channel": PUSH}).json()["resultDetail"] == []
    assert cdn.state()["live"][0]["started_at"] == START + 60_000
    signer.cdn("/api/live/forbid", {"liveUrl": ROOM})
    assert signer.cdn("/api/live/resume", {"liveUrl": ROOM}).json()["code"] == "0"
    assert cdn.state()["bans"] == []


def test_stop_cuts_without_a_ban_and_a_play_url_means_the_same_stream(
    signer: Signer, cdn: CdnetworksSimulator
) -> None:
    cdn.publish(PUSH, "live", "room")
    signer.cdn("/api/live/stop", {"liveUrl": f"https://{PLAY}/live/room.flv"})
    signer.cdn("/api/live/stop", {"liveUrl": ROOM})
    assert [line["changed"] for line in cdn.lines()] == [True, False]
    assert [(line["domain"], line["stream"]) for line in cdn.lines()] == [(PLAY, "room"), (PUSH, "room")]
    assert cdn.state()["bans"] == []


@pytest.mark.parametrize(
    ("ends", "length"),
    [
        ({}, DAY),
        ({"reltime": "300"}, 300_000),
        ({"reltime": "0"}, DAY),
        ({"reltime": "-5"}, DAY),
        ({"reltime": str(31 * DAY // 1000)}, 30 * DAY),
        ({"abstimeEnd": str(START // 1000 + 90)}, 90_000),
        ({"abstimeEnd": str(START // 1000 + 31 * 86_400)}, 30 * DAY),
        ({"abstimeEnd": str(START // 1000 + 90), "reltime": "7"}, 7000),
        ({"abstimeStart": str(START // 1000 - 9), "abstimeEnd": str(START // 1000 + 90)}, 90_000),
    ],
)
def test_lengths(signer: Signer, cdn: CdnetworksSimulator, ends: dict[str, str], length: int) -> None:
    assert signer.cdn("/api/live/forbid", {"liveUrl": ROOM, **ends}).json()["code"] == "0"
    assert cdn.state()["bans"][0]["until"] == START + length
    assert cdn.lines()[0]["until"] == START + length


def test_a_written_end_is_chinese_time(signer: Signer, cdn: CdnetworksSimulator) -> None:
    end = datetime.fromtimestamp(START // 1000 + 600, UTC) + timedelta(hours=8)
    signer.cdn("/api/live/forbid", {"liveUrl": ROOM, "abstimeEnd": end.strftime("%Y%m%d%H%M%S")})
    assert cdn.state()["bans"][0]["until"] == START + 600_000


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/api/live/forbid", {"type": "publish"}, "411"),
        ("/api/live/forbid", {"liveUrl": f"{ROOM}?key=1"}, "400"),
        ("/api/live/forbid", {"liveUrl": f"srt://{PUSH}/live/room"}, "400"),
        ("/api/live/forbid", {"liveUrl": f"rtmp://{PUSH}/room"}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM + "x" * 1000}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM, "type": "both"}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM, "reltime": "soon"}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM, "abstimeEnd": str(START // 1000 - 1)}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM, "abstimeEnd": "2027-01-01"}, "400"),
        ("/api/live/forbid", {"liveUrl": ROOM, "abstimeStart": str(START // 1000 + 60)}, "400"),
        ("/api/live/stop", {"liveUrl": "rtmp://other.example/live/room"}, "28"),
        ("/api/live/resume", {}, "403"),
        (QUERY, {"url": ROOM}, "411"),
        (QUERY, {"channel": "other.example"}, "28"),
    ],
)
def test_wrong_calls_are_told_in_the_body(
    signer: Signer, cdn: CdnetworksSimulator, path: str, params: dict[str, str], code: str
) -> None:
    answer = signer.cdn(path, params)
    assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert cdn.stats()["changed"] == 0


def test_the_query_can_answer_as_its_table_says(http: httpx.Client, clock: Clock) -> None:
    with CdnetworksSimulator(clock=clock, as_sample=False) as cdn:
        signer = Signer(http, cdn.url, clock)
        signer.cdn_keys("/api/live/forbid", {"liveUrl": ROOM, "reltime": "60"})
        answer = signer.cdn_keys(QUERY, {"channel": PUSH})
    assert (answer.status_code, answer.json()["code"]) == (200, 0)
    assert answer.json()["resultDetail"][0]["channel"] == PUSH
    assert answer.json()["resultDetail"][0]["endTime"] == str(START // 1000 + 60)
