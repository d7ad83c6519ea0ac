"""What each answer means: every documented code, and every odd answer there can be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response
from worker.vendors.huawei import api
from worker.words import READS, Call, Target

SPEC = load_spec("huawei")
VENDOR = make(
    SPEC,
    Account(
        "hw", "huawei", {"region": "cn-north-4", "project_id": "p", "access_key": "a", "secret_key": "s"}
    ),
)
NOW = 1_795_342_500_000  # 2026-11-22T10:15:00Z
STREAM = "房间42"
OPERATIONS = tuple(SPEC.operations)
CHANGES = tuple(name for name in OPERATIONS if SPEC.operations[name].serves[0] not in READS)
LISTS = ("list_blocks", "list_online")


def read(operation: str, response: Response, cursor: str | None = None) -> Outcome:
    target = Target("hw", "live", STREAM, "push.acme.example")
    call = Call("c", SPEC.operations[operation].serves[0], operation, target, cursor=cursor)
    return VENDOR.read(call, response, NOW)


def answer(status: int, body: Any = b"", **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, names, content)


def failure(code: str, message: str = "…") -> dict[str, str]:
    return {"error_code": code, "error_msg": message, "request_id": "r-1"}


# --- changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", CHANGES)
def test_204_is_done(operation: str) -> None:
    assert read(operation, answer(204, x_request_id="r-7")) == Done(Wire(204, None, "r-7"))


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("status", [200, 201, 202, 206, 301, 302, 304, 307, 308])
@pytest.mark.parametrize("body", [b"", b"{}", b"<html>moved</html>"])
def test_no_other_success_and_no_redirect_is_taken_for_done(operation: str, status: int, body: bytes) -> None:
    outcome = read(operation, answer(status, body, location="https://elsewhere.example/"))
    assert isinstance(outcome, Unknown)
    assert outcome.wire == Wire(status)


# --- codes -------------------------------------------------------------------------------------

CODES: list[tuple[int, str, type[Outcome], str | None]] = [
    (400, "LIVE.100011001", Refused, "invalid"),
    (403, "LIVE.100011001", Refused, "not_found"),
    (401, "LIVE.100011003", Refused, "config"),
    (400, "LIVE.100011004", Refused, "config"),
    (500, "LIVE.100011005", Unknown, None),
    (400, "LIVE.100011006", Unreachable, None),
    (400, "LIVE.100011008", Unreachable, None),
    (400, "LIVE.100011009", Refused, "config"),
    (400, "LIVE.100011011", Refused, "internal"),
    (400, "LIVE.100011012", Refused, "internal"),
    (400, "LIVE.100011013", Refused, "config"),
    (401, "LIVE.100011014", Refused, "config"),
    (400, "LIVE.103011018", AlreadySo, None),
    (404, "LIVE.103011019", NotThere, None),
    (400, "LIVE.103011019", NotThere, None),
    (400, "LIVE.103011020", Refused, "quota"),
    (400, "LIVE.103011021", Unknown, None),
    (400, "LIVE.103011022", Refused, "config"),
    (404, "APIGW.0101", Refused, "config"),
    (404, "APIGW.0103", Unreachable, None),
    (400, "APIGW.0104", Unreachable, None),
    (400, "APIGW.0105", Unreachable, None),
    (400, "APIGW.0106", Unreachable, None),
    (400, "APIGW.0201", Refused, "invalid"),
    (413, "APIGW.0201", Refused, "invalid"),
    (414, "APIGW.0201", Refused, "invalid"),
    (494, "APIGW.0201", Refused, "invalid"),
    (502, "APIGW.0201", Unknown, None),
    (504, "APIGW.0201", Unknown, None),
    (401, "APIGW.0301", Refused, "auth"),
    (403, "APIGW.0302", Refused, "config"),
    (401, "APIGW.0303", Refused, "auth"),
    (403, "APIGW.0304", Refused, "config"),
    (401, "APIGW.0305", Refused, "auth"),
    (403, "APIGW.0306", Refused, "config"),
    (401, "APIGW.0307", Refused, "auth"),
    (429, "APIGW.0308", Throttled, None),
    (403, "APIGW.0310", Refused, "config"),
    (401, "APIGW.0311", Refused, "auth"),
    (403, "APIGW.0401", Refused, "config"),
    (403, "APIGW.0402", Refused, "config"),
    (403, "APIGW.0404", Refused, "config"),
    (405, "APIGW.0501", Refused, "quota"),
    (405, "APIGW.0502", Refused, "config"),
    (500, "APIGW.0601", Unknown, None),
    (400, "APIGW.0602", Refused, "invalid"),
    (500, "APIGW.0605", Unreachable, None),
    (500, "APIGW.0606", Unreachable, None),
    (400, "APIGW.0607", Refused, "config"),
    (500, "APIGW.0608", Unreachable, None),
    (500, "APIGW.0609", Unreachable, None),
    (502, "APIGW.0610", Unreachable, None),
    (500, "APIGW.0611", Unreachable, None),
    (500, "APIGW.0612", Refused, "config"),
    (503, "APIGW.0613", Unreachable, None),
    (500, "APIGW.0705", Unreachable, None),
    (403, "APIGW.0801", Refused, "config"),
    (403, "APIGW.0802", Refused, "config"),
]


def test_the_table_below_has_every_row_of_the_adapters() -> None:
    tested = {code for _, code, _, _ in CODES} | {f"{code} {status}" for status, code, _, _ in CODES}
    assert api._CODES.keys() <= tested


@pytest.mark.parametrize(("status", "code", "kind", "error"), CODES)
def test_a_code_means_what_the_vendors_page_says(
    status: int, code: str, kind: type[Outcome], error: str | None
) -> None:
    for operation in OPERATIONS:
        outcome = read(operation, answer(status, failure(code)))
        # That something exists answers only who wanted to make it so.
        answers = kind is not AlreadySo or operation in ("block", "update_block")
        assert (type(outcome), getattr(outcome, "error", None)) == (kind if answers else Unknown, error)
        assert outcome.wire == Wire(status, code, "r-1")
        assert outcome.detail


@pytest.mark.parametrize(("status", "code", "kind", "error"), [row for row in CODES if row[1][0] == "A"])
def test_both_prefixes_of_the_gateway_mean_the_same(
    status: int, code: str, kind: type[Outcome], error: str | None
) -> None:
    other = code.replace("APIGW.", "APIG.")
    outcome = read("block", answer(status, failure(other)))
    assert (type(outcome), getattr(outcome, "error", None)) == (kind, error)
    assert outcome.wire.vendor_code == other


@pytest.mark.parametrize("code", ["APIGW.0301", "APIG.0301", "APIGW.0303"])
def test_an_expired_signature_points_at_the_clock(code: str) -> None:
    message = "signature expired, signature time:20261122T101500Z,server time:20261122T110000Z"
    outcome = read("block", answer(401, failure(code, message)))
    assert isinstance(outcome, Refused)
    assert outcome.error == "auth"
    assert "clock" in outcome.detail


def test_a_wrong_signature_does_not_repeat_what_the_gateway_says() -> None:
    """Its message holds the canonical request: the stream name, and headers."""
    message = f"verify aksk signature fail, canonicalRequest:GET|/v1/p/stream/blocks/|stream_name={STREAM}|"
    outcome = read("block", answer(401, failure("APIGW.0301", message)))
    assert "clock" not in outcome.detail
    assert STREAM not in repr(outcome)
    assert "canonicalRequest" not in repr(outcome)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({}, None), ({"retry_after": "5"}, 5_000), ({"retry_after": "Sun, 22 Nov 2026 10:15:30 GMT"}, 30_000)],
)
def test_throttling_waits_as_long_as_it_is_told(headers: dict[str, str], wait: int | None) -> None:
    body = failure("APIGW.0308", "policy user over ratelimit,limit:300,time:1 minute")
    outcome = read("block_once", answer(429, body, **headers))
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == wait


# --- odd answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (301, Unknown, None),
        (302, Unknown, None),
        (400, Refused, "vendor"),
        (401, Refused, "auth"),
        (403, Refused, "vendor"),
        (404, Refused, "not_found"),
        (408, Unreachable, None),
        (429, Throttled, None),
        (500, Unknown, None),
        (502, Unknown, None),
        (503, Unreachable, None),
        (504, Unknown, None),
        (520, Unknown, None),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Bad gateway</body></html>",
        b'{"error_code": "LIVE.1030',
        b'["LIVE.103011018"]',
        b'"LIVE.103011018"',
        b"null",
        b"\xff\xfe\x00",
        b'{"error_code": {"nested": "LIVE.103011018"}}',
        b'{"error_code": "LIVE.999999999"}',
        b'{"error_code": "not a code, but a sentence"}',
        b"[" * 100_000,
        b"x" * (1 << 20),
        b'{"error_msg": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda body: f"{len(body)}B-{body[:12]!r}",
)
def test_an_answer_without_a_known_code_means_what_its_status_says(
    status: int, kind: type[Outcome], error: str | None, body: bytes
) -> None:
    for operation in OPERATIONS:
        outcome = read(operation, answer(status, body))
        assert (type(outcome), getattr(outcome, "error", None)) == (kind, error)
        assert outcome.wire.http_status == status


def test_the_code_is_found_in_another_charset() -> None:
    body = json.dumps(failure("LIVE.103011018", "资源已存在"), ensure_ascii=False).encode("gbk")
    assert isinstance(read("block", answer(400, body)), AlreadySo)


def test_a_code_in_a_200_is_believed() -> None:
    for operation in OPERATIONS:
        outcome = read(operation, answer(200, failure("LIVE.100011001")))
        assert isinstance(outcome, Refused)


def test_a_code_or_request_id_that_is_none_is_not_passed_on() -> None:
    body = {"error_code": "room42 of someone", "request_id": "x" * 101}
    assert read("block", answer(400, body)).wire == Wire(400)


@given(st.integers(100, 599), st.binary(max_size=200), st.dictionaries(st.text(), st.text(), max_size=3))
def test_reading_never_raises(status: int, content: bytes, headers: dict[str, str]) -> None:
    for operation in OPERATIONS:
        read(operation, Response(status, headers, content))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["blocks", "total", "streams", "total_num", "error_code", "app_name", "stream_name"]
                ),
                inner,
                max_size=5,
            )
        ),
    )
)
def test_reading_never_raises_on_json_of_another_shape(value: Any) -> None:
    for operation in OPERATIONS:
        read(operation, answer(200, value))
        read(operation, answer(400, value))


# --- lists -----------------------------------------------------------------------------------------


def blocks(*entries: tuple[str, str, Any], total: Any = None) -> dict[str, Any]:
    named = [{"app_name": app, "stream_name": name, "resume_time": end} for app, name, end in entries]
    return {"total": len(named) if total is None else total, "blocks": named}


def online(*entries: tuple[str, str, Any], total: Any = None) -> dict[str, Any]:
    named = [
        {"publish_domain": "push.acme.example", "app": app, "stream": name, "start_time": since}
        for app, name, since in entries
    ]
    return {"total_num": len(named) if total is None else total, "streams": named, "request_id": "r-2"}


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (
            blocks(("live", STREAM, "2026-11-22T12:00:00Z")),
            Facts(forbidden=True, forbidden_until=1_795_348_800_000),
        ),
        (
            blocks(("live", STREAM, "2026-11-22T20:00:00+08:00")),
            Facts(forbidden=True, forbidden_until=1_795_348_800_000),
        ),
        (
            blocks(("live", STREAM, "2026-11-22T10:15:00Z")),
            Facts(forbidden=False),
        ),
        (blocks(("live", STREAM, "")), Facts(forbidden=True)),
        (blocks(("live", STREAM, None)), Facts(forbidden=True)),
        (
            blocks(("live", STREAM + "1", "2026-11-23T00:00:00Z"), ("other", STREAM, "2026-11-23T00:00:00Z")),
            Facts(forbidden=False),
        ),
        (blocks(), Facts(forbidden=False)),
        ({"total": 0, "blocks": None}, Facts(forbidden=False)),
        ({"total": 0}, Facts(forbidden=False)),
    ],
)
def test_the_block_list_tells_of_this_very_stream(body: dict[str, Any], facts: Facts) -> None:
    assert read("list_blocks", answer(200, body, x_request_id="r-9")) == Observed(
        facts, Wire(200, None, "r-9")
    )


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (
            online(("live", STREAM, "2026-11-22T10:00:00Z")),
            Facts(live=True, live_since=1_795_341_600_000),
        ),
        (online(("live", STREAM, "yesterday")), Facts(live=True)),
        (online(("live", STREAM.upper() + "x", "2026-11-22T10:00:00Z")), Facts(live=False)),
        (online(("LIVE", STREAM, "2026-11-22T10:00:00Z")), Facts(live=False)),
        (online(), Facts(live=False)),
        ({"total_num": 0, "streams": None, "request_id": "r-2"}, Facts(live=False)),
    ],
)
def test_the_list_of_live_streams_tells_of_this_very_stream(body: dict[str, Any], facts: Facts) -> None:
    outcome = read("list_online", answer(200, body))
    assert outcome == Observed(facts, Wire(200, None, body["request_id"]))


def test_the_lists_field_names_are_not_mixed_up() -> None:
    assert isinstance(read("list_online", answer(200, blocks(("live", STREAM, None)))), Unknown)
    assert isinstance(read("list_blocks", answer(200, online(("live", STREAM, None)))), Unknown)


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_goes_on_where_the_stream_is_not_on_the_first_page(operation: str) -> None:
    make_list = blocks if operation == "list_blocks" else online
    others = [("live", f"other{n}", "2026-11-23T00:00:00Z") for n in range(100)]
    cursors = ("1", "2") if operation == "list_blocks" else ("100", "200")
    wire = Wire(200, None, None if operation == "list_blocks" else "r-2")
    assert read(operation, answer(200, make_list(*others, total=201))) == NextPage(cursors[0], wire)
    assert read(operation, answer(200, make_list(*others, total=201)), cursors[0]) == NextPage(
        cursors[1], wire
    )
    last = read(operation, answer(200, make_list(("live", STREAM, None), total=201)), cursors[1])
    assert isinstance(last, Observed)
    assert last.facts.forbidden or last.facts.live


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_ends_at_its_total_or_at_an_empty_page(operation: str) -> None:
    make_list = blocks if operation == "list_blocks" else online
    cursor = "1" if operation == "list_blocks" else "100"
    for response in (
        answer(200, make_list(("live", "other", None), total=101)),
        answer(200, make_list(total=500)),
    ):
        outcome = read(operation, response, cursor)
        assert isinstance(outcome, Observed)
        assert not outcome.facts.forbidden
        assert not outcome.facts.live


def test_a_full_page_goes_on_even_where_the_total_says_otherwise() -> None:
    others = [("live", f"other{n}", None) for n in range(100)]
    assert isinstance(read("list_blocks", answer(200, blocks(*others, total=100))), NextPage)


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"<html></html>",
        b'{"total": 1, "blocks": [{"app_name": "live", "stre',
        b'{"total": 1, "blocks": null, "total_num": 1, "streams": null}',
        b'{"total": 1, "blocks": {}, "total_num": 1, "streams": {}}',
        b'{"total": 1, "blocks": [1], "total_num": 1, "streams": ["a"]}',
        json.dumps(
            {"total": 1, "blocks": [{"app_name": "live", "stream_name": STREAM}]}, ensure_ascii=False
        ).encode("gbk"),
    ],
)
def test_a_list_that_cannot_be_read_tells_nothing(operation: str, body: bytes) -> None:
    assert read(operation, answer(200, body)) == Unknown(Wire(200), "the vendor's list cannot be read")


def test_a_block_whose_end_cannot_be_read_is_not_taken_for_one_without_end() -> None:
    for end in ("soon", "2026-11-22 10:15", 7, 0, ["x"]):
        outcome = read("list_blocks", answer(200, blocks(("live", STREAM, end))))
        assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("status", [202, 204, 302])
def test_a_list_is_believed_with_200_only(operation: str, status: int) -> None:
    body = blocks(("live", STREAM, None)) | online(("live", STREAM, None))
    assert isinstance(read(operation, answer(status, body)), Unknown)


def test_no_outcome_shows_the_stream_name() -> None:
    for operation in OPERATIONS:
        for body in (blocks(("live", STREAM, None)), failure("APIGW.0301", STREAM), failure(STREAM)):
            for status in (200, 204, 400, 401):
                assert STREAM not in repr(read(operation, answer(status, body)))
