"""What answers mean."""

from typing import Any

import pytest

from tests.vendors.cdnetworks.given import NOW, PURPOSES, answer, call, vendor
from worker.core.outcome import (
    Done,
    Facts,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.vendors.cdnetworks import api
from worker.words import Call, ErrorClass

ID = "39c70980-6df2-4fba-813b-8fcedd4e6337"
URL = "rtmp://push.acme.example/live/room42"
END = NOW // 1000 + 600
WRITES = ["forbid", "stop", "resume"]
BANNED = Facts(forbidden=True, forbidden_until=END * 1000)
NOT_BANNED = Facts(forbidden=False)


def read(asked: Call, body: Any, status: int = 200, **headers: str) -> Outcome:
    return vendor().read(asked, answer(body, status, x_cnc_request_id=ID, **headers), NOW)


def record(url: object = URL, end: object = END, **other: object) -> dict[str, object]:
    return {"channel": "push.acme.example", "url": url, "startTime": 0, "endTime": end, "ip": ""} | other


def facts(*records: object, stream: str = "room42") -> Facts:
    body = {"code": "00", "message": "success", "resultDetail": list(records)}
    outcome = read(call("forbid_query", stream=stream), body)
    assert isinstance(outcome, Observed)
    assert outcome.wire == Wire(200, "00", ID)
    return outcome.facts


# --- successes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("code", ["00", "0", 0, "000"])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_write_is_done_by_its_code_and_any_success(operation: str, code: object, status: int) -> None:
    outcome = read(call(operation), {"code": code, "message": "success"}, status)

    assert outcome == Done(Wire(status, str(code), ID))


def test_the_answer_of_the_vendors_own_page() -> None:
    """A 202, ``chanel`` with one n, times as numbers, and a start that is not known."""
    row = {"chanel": "push.acme.example", "endTime": 1532413615, "ip": "", "startTime": 0, "url": URL}
    body = {"code": "00", "message": "success", "resultDetail": [row]}

    assert read(call("forbid_query"), body, 202) == Observed(NOT_BANNED, Wire(202, "00", ID))
    row["endTime"] = END
    assert read(call("forbid_query"), body, 202) == Observed(BANNED, Wire(202, "00", ID))


@pytest.mark.parametrize("end", [END, str(END)])
def test_an_end_is_seconds_as_number_or_text(end: object) -> None:
    assert facts(record(end=end)) == BANNED


@pytest.mark.parametrize("end", [0, "0", None, "", "soon", [], True, 1.5])
def test_a_ban_without_a_known_end_is_one(end: object) -> None:
    assert facts(record(end=end)) == Facts(forbidden=True)


@pytest.mark.parametrize("end", [NOW // 1000, NOW // 1000 - 1, "1532413615", -5])
def test_a_ban_that_has_ended_is_none(end: object) -> None:
    assert facts(record(end=end)) == NOT_BANNED


def test_of_several_bans_the_last_end_counts() -> None:
    assert facts(record(end=END - 60), record(end=1532413615), record()) == BANNED
    assert facts(record(), record(end=0)) == Facts(forbidden=True)


@pytest.mark.parametrize("ip", ["203.0.113.7", "::1", 7])
def test_a_ban_of_one_viewer_is_none_of_the_stream(ip: object) -> None:
    assert facts(record(ip=ip)) == NOT_BANNED
    assert facts(record(ip=ip), record(ip=None)) == BANNED


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}?auth=1",
        f"{URL}?a=/other",
        "rtmp://push.acme.example:1935/live/room42",
        "rtmps://push.acme.example/live/room42",
        "RTMP://PUSH.acme.example/live/room42",
        "rtmp://push.acme.example/live/room%34%32",
    ],
)
def test_a_url_that_names_the_stream(url: str) -> None:
    assert facts(record(url)) == BANNED


@pytest.mark.parametrize(
    "url",
    [
        f"{URL}1",
        "rtmp://push.acme.example/live/room4",
        "rtmp://push.acme.example/live/ROOM42",
        "rtmp://push.acme.example/live2/room42",
        "rtmp://push.acme.example/x/live/room42",
        "rtmp://push.acme.example/live/room42/x",
        "rtmp://push.acme.example.evil/live/room42",
        "rtmp://play.acme.example/live/room42",
        "rtmp://user@push.acme.example/live/room42",
        "https://push.acme.example/live/room42",
        "http://push.acme.example/live/room42.flv",
        "xrtmp://push.acme.example/live/room42",
        "push.acme.example/live/room42",
        "rtmp://push.acme.example/?/live/room42",
        "",
        None,
        7,
        ["rtmp://push.acme.example/live/room42"],
    ],
)
def test_a_url_that_names_another_stream(url: object) -> None:
    assert facts(record(url)) == NOT_BANNED


@pytest.mark.parametrize("stream", ["直播间", "a b", "a+b", "a*b", "a~b", "a%b", "a%2Fb", "a/b"])
def test_odd_names_are_found(stream: str) -> None:
    assert facts(record(f"rtmp://push.acme.example/live/{stream}"), stream=stream) == BANNED


def test_a_plus_is_no_space_and_an_escape_no_other_name() -> None:
    assert facts(record("rtmp://push.acme.example/live/a+b"), stream="a b") == NOT_BANNED
    assert facts(record("rtmp://push.acme.example/live/a%20b"), stream="a b") == BANNED
    assert facts(record("rtmp://push.acme.example/live/a/b"), stream="a%2Fb") == NOT_BANNED


@pytest.mark.parametrize("detail", [None, [], {}, ""])
def test_no_bans_look_many_ways(detail: object) -> None:
    expected = Observed(NOT_BANNED, Wire(200, "0", ID))

    assert read(call("forbid_query"), {"code": 0, "resultDetail": detail}) == expected
    assert read(call("forbid_query"), {"code": 0}) == expected


def test_a_single_ban_may_stand_alone() -> None:
    outcome = read(call("forbid_query"), {"code": "00", "resultDetail": record()})

    assert outcome == Observed(BANNED, Wire(200, "00", ID))


@pytest.mark.parametrize("detail", ["many", 7, True, [None], ["x"], [record(), 7]])
def test_a_list_that_is_not_to_be_believed_says_nothing(detail: object) -> None:
    assert isinstance(read(call("forbid_query"), {"code": "00", "resultDetail": detail}), Unknown)


# --- errors ----------------------------------------------------------------------------------------

CODES: dict[int, tuple[str, ErrorClass | None]] = {
    1: ("username is lack", "auth"),
    6: ("user[sekrit-name] apiCustomer not exist or not allowed push!", "config"),
    28: ("Username[%s] and Channel[sekrit-name] does not match.", "config"),
    403: ("parse request body error", "internal"),
    411: ("channel is require", "internal"),
    417: ("query failed", None),
}


@pytest.mark.parametrize("operation", sorted(PURPOSES))
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 202])
def test_what_a_documented_code_means(operation: str, code: int, status: int) -> None:
    message, expected = CODES[code]
    for text in (code, str(code)):
        outcome = read(call(operation), {"code": text, "message": message}, status)

        assert outcome.wire == Wire(status, str(code), ID)
        assert "sekrit-name" not in repr(outcome)
        if expected:
            assert isinstance(outcome, Refused)
            assert outcome.error == expected
        else:
            assert isinstance(outcome, Unknown)


def test_every_line_of_the_table_is_tested() -> None:
    assert api.CODES.keys() == {code for code, (_, expected) in CODES.items() if expected}


@pytest.mark.parametrize("code", [2, "7", -1, "-1", 500, 99999])
def test_what_an_undocumented_code_means(code: object) -> None:
    """Asking again for a ban or its end does no harm; a second cut might hit the next broadcast."""
    for operation in ("forbid", "resume", "forbid_query"):
        assert isinstance(read(call(operation), {"code": code, "message": "?"}), Unknown)
    outcome = read(call("stop"), {"code": code, "message": "?"})
    assert isinstance(outcome, Refused)
    assert outcome.error == "vendor"


@pytest.mark.parametrize("code", [None, "", "ok", "success", [], {}, 0.0, True, False, "0x0", "\u0660", " 0"])
def test_a_code_that_is_no_number_is_no_success(code: object) -> None:
    for operation in PURPOSES:
        assert isinstance(read(call(operation), {"code": code, "message": "success"}), Unknown)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Unknown),
        (302, Unknown),
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, Refused),
        (429, Throttled),
        (500, Unknown),
        (502, Unknown),
        (503, Unreachable),
        (504, Unknown),
    ],
)
@pytest.mark.parametrize("operation", sorted(PURPOSES))
def test_a_success_in_the_body_of_a_failure_is_none(
    operation: str, status: int, expected: type[Outcome]
) -> None:
    assert isinstance(read(call(operation), {"code": "00", "message": "success"}, status), expected)
    assert isinstance(read(call(operation), {"code": "12345"}, status), expected)


def test_a_gateways_own_status_in_the_body_is_not_the_vendors_code() -> None:
    outcome = read(call("forbid"), {"code": 403, "message": "denied"}, 403)
    assert isinstance(outcome, Refused)
    assert outcome.error == "vendor"
    outcome = read(call("forbid"), {"code": 28, "message": "?"}, 400)
    assert isinstance(outcome, Refused)
    assert outcome.error == "config"


@pytest.mark.parametrize("text", [b"API call frequency exceeded", b"Rate LIMIT", b"too many requests"])
def test_a_403_that_speaks_of_a_limit_is_throttling(text: bytes) -> None:
    assert read(call("forbid"), text, 403, retry_after="7") == Throttled(
        7000, Wire(403, None, ID), "over a limit of the account"
    )
    assert isinstance(read(call("forbid"), text, 401), Refused)
    assert isinstance(read(call("forbid"), text, 200), Unknown)


def test_how_long_to_wait() -> None:
    outcome = read(call("forbid"), b"", 429, retry_after="30")

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 30_000


# --- odd answers -----------------------------------------------------------------------------------

ODD = [
    b"",
    b"{",
    b'{"code": "00"',
    b"<html><body>Welcome to the captive portal</body></html>",
    b"<?xml version='1.0'?><result><code>00</code></result>",
    b"[]",
    b'[{"code": "00"}]',
    b"null",
    b"0",
    b"{}",
    b'"00"',
    b"\xff\xfe{}",
    '{"code": "00", "message": "é"}'.encode("latin-1"),
    b'{"CODE": "00"}',
    b'{"code": {"code": "00"}}',
    b"[" * 100_000,
    b'{"a": ' * 50_000,
    b"x" * 1_048_576,
    b'{"code": NaN}',
    b'{"code": 1e999}',
]


@pytest.mark.parametrize("operation", sorted(PURPOSES))
@pytest.mark.parametrize("content", ODD, ids=range(len(ODD)))
def test_an_odd_answer_never_counts_as_success(operation: str, content: bytes) -> None:
    for status in (200, 202, 204, 301, 302, 307, 500, 502, 504):
        assert isinstance(read(call(operation), content, status), Unknown)
    assert isinstance(read(call(operation), content, 503), Unreachable)
    assert isinstance(read(call(operation), content, 429), Throttled)
    assert isinstance(read(call(operation), content, 404), Refused)


def test_an_answer_is_read_for_whom_it_cannot_name() -> None:
    body = {"code": "00", "resultDetail": [record()]}

    assert read(call("forbid_query", push=None), body) == Observed(NOT_BANNED, Wire(200, "00", ID))
