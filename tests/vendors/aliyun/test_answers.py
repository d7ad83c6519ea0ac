"""What answers mean."""

from dataclasses import replace
from typing import Any

import pytest

from tests.vendors.aliyun.given import NOW, PURPOSES, answer, call, vendor
from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.vendors.aliyun import api
from worker.words import Call, ErrorClass

ID = "0D70427D-91E4-4349-AAD3-5511A5BB823B"
OK = Wire(200, None, ID)


def read(asked: Call, body: Any, status: int = 200, **headers: str) -> Outcome:
    return vendor().read(asked, answer(body, status, **headers), NOW)


def error(code: str) -> dict[str, str]:
    return {"RequestId": ID, "HostId": "live.aliyuncs.com", "Code": code, "Message": "about sekrit-name"}


# --- successes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["forbid", "resume"])
def test_a_request_id_alone_acknowledges(operation: str) -> None:
    assert read(call(operation), {"RequestId": ID}) == Done(OK)
    assert read(call("forbid", purpose="cut"), {"RequestId": ID}) == Done(OK)


@pytest.mark.parametrize("operation", ["set_region_block", "delete_region_block"])
def test_a_region_rule_is_acknowledged_by_its_status(operation: str) -> None:
    assert read(call(operation), {"RequestId": ID, "Status": "ok", "Description": "ok"}) == Done(OK)


@pytest.mark.parametrize("operation", ["set_region_block", "delete_region_block"])
@pytest.mark.parametrize("status", ["fail", "", None, 1, ["ok"]])
def test_success_with_any_other_status_is_not_done(operation: str, status: object) -> None:
    outcome = read(call(operation), {"RequestId": ID, "Status": status, "Description": "about sekrit-name"})

    assert isinstance(outcome, Unknown)
    assert outcome.wire == OK


def rule(status: object = 2, **other: object) -> dict[str, object]:
    return {
        "DomainName": "play.acme.example",
        "AppName": "live",
        "StreamName": "room42",
        "BlockType": "blacklist",
        "LocationList": "KR, CN",
        "Status": status,
        "ReleaseTime": "2026-11-22T10:15:01Z",
    } | other


def rules(*rows: object, count: int | None = None, **other: object) -> dict[str, object]:
    total = len(rows) if count is None else count
    return {"RequestId": ID, "Count": total, "StreamBlockList": {"StreamBlock": list(rows)}} | other


IN_FORCE = Facts(regions=("CN", "KR"), regions_until=NOW + 601_000)
MOVING = Facts(regions=("CN", "KR"), regions_until=NOW + 601_000, in_progress=True)
NO_RULE = Facts(regions=())
GAVE_UP = Facts(regions=(), gave_up=True)


@pytest.mark.parametrize(
    ("status", "facts"),
    [(0, MOVING), (1, MOVING), (2, IN_FORCE), (3, GAVE_UP), (4, NO_RULE), (5, MOVING), ("2", IN_FORCE)],
)
def test_what_the_status_of_a_rule_means(status: object, facts: Facts) -> None:
    assert read(call("describe_region_block"), rules(rule(status))) == Observed(facts, OK)


@pytest.mark.parametrize("status", [6, -1, None, "done", 2.5, True])
def test_a_rule_of_no_known_status_says_nothing(status: object) -> None:
    assert isinstance(read(call("describe_region_block"), rules(rule(status))), Unknown)


def test_only_the_streams_own_blacklist_counts() -> None:
    others = (
        rule(StreamName="room4"),
        rule(StreamName="ROOM42"),
        rule(AppName="live2"),
        rule(BlockType="whitelist"),
        rule(4, LocationList=None),
    )
    assert read(call("describe_region_block"), rules(*others)) == Observed(NO_RULE, OK)
    assert read(call("describe_region_block"), rules(*others, rule())) == Observed(IN_FORCE, OK)


def test_a_rule_without_an_end_or_type_is_still_one() -> None:
    lean = {"AppName": "live", "StreamName": "room42", "LocationList": "CN", "Status": 2}

    assert read(call("describe_region_block"), rules(lean)) == Observed(Facts(regions=("CN",)), OK)
    assert isinstance(read(call("describe_region_block"), rules(rule(LocationList=None))), Unknown)


def test_the_answer_of_the_vendors_own_page() -> None:
    """It leaves out all page fields, and both of its rules are whitelists."""
    body = {
        "RequestId": ID,
        "Count": 2,
        "StreamBlockList": {
            "StreamBlock": [
                rule(DomainName="example.com", AppName="test", StreamName=name, BlockType="whitelist")
                for name in ("test", "test1")
            ]
        },
    }
    assert read(call("describe_region_block", app="test", stream="test"), body) == Observed(NO_RULE, OK)


def bans(*entries: object, **counts: object) -> dict[str, object]:
    return {
        "RequestId": ID,
        "DomainName": "play.acme.example",
        "StreamUrls": {"StreamUrl": list(entries)},
    } | counts


def listed(asked: Call, body: dict[str, object]) -> Outcome:
    """Read a list of bans, whatever it says about their number."""
    outcome = read(asked, body)
    return replace(outcome, total=None) if isinstance(outcome, Observed | NextPage) else outcome


@pytest.mark.parametrize(
    ("number", "total"), [(7, 7), ("7", 7), (0, 0), (None, None), (-1, None), (True, None), ("many", None)]
)
@pytest.mark.parametrize(
    "entries", [("x/live/room42",), ("x/live/other",), ("x/live/other",) * api.BLOCKED_PAGE]
)
def test_a_list_says_how_many_bans_there_are(entries: list[str], number: object, total: int | None) -> None:
    outcome = read(call("list_blocked"), bans(*entries, TotalNum=number))
    assert isinstance(outcome, Observed | NextPage)
    assert outcome.total == total


BANNED, NOT_BANNED = Observed(Facts(forbidden=True), OK), Observed(Facts(forbidden=False), OK)


@pytest.mark.parametrize("domain", ["push.acme.example", "play.acme.example", "other.example"])
@pytest.mark.parametrize("stream", ["room42", "a/b/c", "直播 间", "a%2Fb", "a*b"])
def test_an_entry_names_a_stream_by_app_and_name(domain: str, stream: str) -> None:
    body = bans("x/live/other", f"{domain}/live/{stream}", TotalNum=2, TotalPage=1)

    assert listed(call("list_blocked", stream=stream), body) == BANNED


@pytest.mark.parametrize(
    "entry",
    [
        "x/live/room421",
        "x/live/room4",
        "x/live2/room42",
        "x/y/live/room42",
        "live/room42",
        "x/live/Room42",
        "",
    ],
)
def test_entries_that_are_like_it_are_not_it(entry: str) -> None:
    assert listed(call("list_blocked"), bans(entry, TotalNum=1, TotalPage=1)) == NOT_BANNED


@pytest.mark.parametrize(
    "body",
    [
        bans(TotalNum=0, TotalPage=0),
        {"RequestId": ID, "TotalNum": 0},
        {"RequestId": ID, "TotalNum": "0", "StreamUrls": None},
        {"RequestId": ID, "StreamUrls": {}},
        {"RequestId": ID, "StreamUrls": []},
        {"RequestId": ID, "StreamUrls": {"StreamUrl": "x/live/other"}},
    ],
)
def test_no_bans_look_many_ways(body: dict[str, object]) -> None:
    assert listed(call("list_blocked"), body) == NOT_BANNED


@pytest.mark.parametrize("urls", [["x/live/room42"], {"StreamUrl": "x/live/room42"}, "x/live/room42"])
def test_the_list_may_be_bare_or_single(urls: object) -> None:
    assert listed(call("list_blocked"), {"RequestId": ID, "StreamUrls": urls}) == BANNED


@pytest.mark.parametrize(
    "body",
    [
        {"RequestId": ID},
        {"RequestId": ID, "TotalNum": 7},
        bans(TotalNum=7),
        bans(None),
        bans(["x"]),
        bans({"a": 1}),
    ],
)
def test_a_list_that_is_not_to_be_believed_says_nothing(body: dict[str, object]) -> None:
    assert isinstance(listed(call("list_blocked"), body), Unknown)


@pytest.mark.parametrize(
    ("cursor", "counts", "following"),
    [
        (None, {"TotalPage": 3, "TotalNum": 2500}, "2"),
        ("2", {"TotalPage": 3}, "3"),
        ("3", {"TotalPage": 3}, None),
        (None, {"TotalNum": 1001}, "2"),
        (None, {"TotalNum": 1000}, None),
        (None, {"TotalNum": "30", "PageSize": "10"}, "2"),
        ("3", {"TotalNum": 30, "PageSize": 10}, None),
        (None, {}, None),
        (None, {"PageSize": 2}, "2"),
        (None, {"TotalPage": -1, "TotalNum": True, "PageSize": -5}, None),
    ],
)
def test_a_list_goes_on_while_there_are_pages(
    cursor: str | None, counts: dict[str, object], following: str | None
) -> None:
    outcome = listed(call("list_blocked", cursor=cursor), bans("x/live/a", "x/live/b", **counts))

    assert outcome == (NextPage(following, OK) if following else NOT_BANNED)


def test_an_empty_page_ends_a_list() -> None:
    assert listed(call("list_blocked", cursor="2"), bans(TotalPage=9, TotalNum=9000)) == NOT_BANNED


def test_rules_and_broadcasts_are_paged_too() -> None:
    other = rule(StreamName="other")
    assert read(call("describe_region_block"), rules(other, count=101)) == NextPage("2", OK)
    assert read(call("describe_region_block", cursor="2"), rules(other, count=101)) == Observed(NO_RULE, OK)
    body = broadcasts({"AppName": "live", "StreamName": "other"}, TotalPage=2)
    assert read(call("list_online"), body) == NextPage("2", OK)


def broadcasts(*rows: object, **counts: object) -> dict[str, object]:
    return (
        {"RequestId": ID, "OnlineInfo": {"LiveStreamOnlineInfo": list(rows)}}
        | {"TotalNum": len(rows)}
        | counts
    )


def test_a_live_stream_tells_since_when() -> None:
    row = {"AppName": "live", "StreamName": "room42", "PublishTime": "2026-11-22T10:00:00Z"}
    body = broadcasts(row, row | {"PublishTime": "2026-11-22T10:04:00Z"}, row | {"PublishTime": "soon"})

    assert read(call("list_online"), body) == Observed(Facts(live=True, live_since=NOW - 60_000), OK)
    assert read(call("list_online"), broadcasts(row | {"PublishTime": None})) == Observed(
        Facts(live=True), OK
    )


def test_a_stream_of_a_name_like_it_is_not_it() -> None:
    rows = [
        {"AppName": "live", "StreamName": name, "PublishTime": "2026-11-22T10:00:00Z"}
        for name in ("room421", "room4")
    ]

    assert read(call("list_online"), broadcasts(*rows)) == Observed(Facts(live=False), OK)
    assert read(call("list_online"), broadcasts()) == Observed(Facts(live=False), OK)


@pytest.mark.parametrize(("word", "live"), [("online", True), ("offline", False)])
def test_the_state_of_a_stream(word: str, live: bool) -> None:
    body = {"RequestId": ID, "Type": "push", "StreamState": word}

    assert read(call("stream_state"), body) == Observed(Facts(live=live), OK)


@pytest.mark.parametrize("word", ["forbidden", None, 1])
def test_a_state_that_is_not_documented_says_nothing(word: object) -> None:
    assert isinstance(read(call("stream_state"), {"RequestId": ID, "StreamState": word}), Unknown)


# --- errors ----------------------------------------------------------------------------------------

CODES: list[tuple[int, str, type[Outcome] | ErrorClass]] = [
    (400, "Throttling", Throttled),
    (400, "Throttling.User", Throttled),
    (503, "Throttling.Api", Throttled),
    (429, "Throttling.User.Flow", Throttled),
    (503, "ServiceUnavailable", Unreachable),
    (500, "InternalError", Unknown),
    (400, "SignatureNonceUsed", Unreachable),
    (400, "ConfigAlreadyExists", AlreadySo),
    (400, "QuotaExceeded.Blacklist", "quota"),
    (400, "InvalidTimeStamp.Expired", "auth"),
    (400, "InvalidTimeStamp.Format", "internal"),
    (400, "IllegalTimestamp", "internal"),
    (400, "IncompleteSignature", "internal"),
    (400, "SignatureDoesNotMatch", "auth"),
    (403, "SignatureDoesNotMatch", "auth"),
    (404, "InvalidAccessKeyId.NotFound", "auth"),
    (400, "InvalidAccessKeyId.Inactive", "auth"),
    (400, "InvalidSecurityToken.Expired", "auth"),
    (400, "MissingSecurityToken", "auth"),
    (400, "InvalidIdentity.ServiceDisabled", "auth"),
    (401, "Forbidden", "config"),
    (403, "Forbidden.RAM", "config"),
    (403, "NoPermission", "config"),
    (403, "IllegalOperation", "config"),
    (400, "InvalidProtocol.NeedSsl", "config"),
    (404, "InvalidDomain.NotFound", "not_found"),
    (404, "InvalidApi.NotFound", "unsupported"),
    (400, "InvalidAction.NotFound", "unsupported"),
    (400, "InvalidVersion", "unsupported"),
    (403, "UnsupportedOperation", "unsupported"),
    (400, "InvalidParam", "invalid"),
    (400, "InvalidParameter", "invalid"),
    (400, "InvalidResumeTime.Malformed", "invalid"),
    (400, "InvalidReleaseTime.Malformed", "invalid"),
    (400, "MissingParameter", "invalid"),
    (400, "MissingStreamName", "invalid"),
]


@pytest.mark.parametrize(("status", "code", "expected"), CODES)
def test_what_a_code_means(status: int, code: str, expected: type[Outcome] | ErrorClass) -> None:
    for answered in (status, 400, 200):
        outcome = read(call("forbid"), error(code), answered)

        assert outcome.wire == Wire(answered, code, ID)
        assert outcome.detail
        if isinstance(expected, str):
            assert isinstance(outcome, Refused)
            assert outcome.error == expected
        else:
            assert isinstance(outcome, expected)


def test_every_line_of_the_table_is_tested() -> None:
    lines = {next(line[0] for line in api._CODES if code.startswith(line[0])) for _, code, _ in CODES}

    assert lines == {line[0] for line in api._CODES}


def test_clock_skew_is_called_by_its_name() -> None:
    assert "clock skew" in read(call("forbid"), error("InvalidTimeStamp.Expired"), 400).detail


@pytest.mark.parametrize("operation", sorted(PURPOSES.keys() - {"forbid"}))
def test_only_a_ban_may_exist_already(operation: str) -> None:
    assert isinstance(read(call(operation), error("ConfigAlreadyExists"), 400), Unknown)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x_acs_retry_after": "1500"}, 1500),
        ({"x_acs_retry_after": "1500", "retry_after": "9"}, 1500),
        ({"retry_after": "9"}, 9000),
        ({"x_acs_retry_after": "0", "retry_after": "9"}, 9000),
        ({"x_acs_retry_after": "soon"}, None),
        ({"x_acs_retry_after": "-5"}, None),
        ({"x_acs_retry_after": "999999999"}, 86_400_000),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait: int | None) -> None:
    outcome = read(call("forbid"), error("Throttling.User"), 400, **headers)

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == wait


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Refused),
        (429, Throttled),
        (500, Unknown),
        (502, Unknown),
        (503, Unreachable),
        (504, Unknown),
        (200, Unknown),
    ],
)
def test_behind_an_unknown_code_the_status_decides(status: int, expected: type[Outcome]) -> None:
    outcome = read(call("forbid"), error("Something.New"), status)

    assert isinstance(outcome, expected)
    assert outcome.wire == Wire(status, "Something.New", ID)


# --- odd answers -----------------------------------------------------------------------------------

ODD = [
    b"",
    b"{",
    b'{"RequestId": "0D70427D',
    b"<html><body>Welcome to the captive portal</body></html>",
    b"<?xml version='1.0'?><ForbidLiveStreamResponse><RequestId>x</RequestId></ForbidLiveStreamResponse>",
    b"[]",
    b'[{"RequestId": "x"}]',
    b"null",
    b"true",
    b"{}",
    b'"ok"',
    b"\xff\xfe{}",
    '{"RequestId": "é", "StreamUrls": [], "Status": "ok"}'.encode("latin-1"),
    b'{"Code": 7}',
    b'{"Code": {"a": []}, "RequestId": 5}',
    b'{"Code": ["Throttling"], "RequestId": "x"}',
    b'{"Code": "", "RequestId": "x"}',
    b"[" * 100_000,
    b'{"a": ' * 50_000,
    b"x" * 1_048_576,
    b'{"TotalNum": 1e999, "Status": NaN}',
    b'{"StreamUrls": 1, "OnlineInfo": 1, "StreamBlockList": 1, "StreamState": {}}',
]


@pytest.mark.parametrize("operation", sorted(PURPOSES))
@pytest.mark.parametrize("content", ODD, ids=range(len(ODD)))
def test_an_odd_answer_never_counts_as_success(operation: str, content: bytes) -> None:
    for status in (200, 204, 301, 302, 307, 500, 502, 504):
        assert isinstance(read(call(operation), content, status), Unknown)
    assert isinstance(read(call(operation), content, 503), Unreachable)
    assert isinstance(read(call(operation), content, 429), Throttled)
    assert isinstance(read(call(operation), content, 404), Refused)


def test_an_error_in_another_charset_keeps_its_code() -> None:
    content = '{"Code": "Throttling.User", "Message": "é"}'.encode("latin-1")

    assert isinstance(read(call("forbid"), content, 400), Throttled)


def test_the_request_id_may_stand_in_a_header() -> None:
    assert read(call("forbid"), b"", 502, x_acs_request_id=ID).wire == Wire(502, None, ID)


def test_no_outcome_shows_a_stream_name() -> None:
    asked = call("forbid", stream="sekrit-name")
    bodies = [error(code) for _, code, _ in CODES] + [
        {"RequestId": "about sekrit-name"},
        {"Code": "about sekrit-name"},
    ]
    for body in bodies:
        for status in (200, 400, 500):
            assert "sekrit-name" not in repr(read(asked, body, status))
