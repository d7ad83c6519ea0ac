"""What all adapters share: encoding, lenient JSON, and what a bare HTTP status means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.outcome import Outcome, Refused, Throttled, Unknown, Unreachable, Wire, word
from worker.vendors.base import Response
from worker.vendors.reading import (
    LONGEST_WAIT,
    by_status,
    json_object,
    percent,
    query,
    retry_after,
    seen_by_the_clock,
    token,
    utc_millis,
    utc_text,
)

NOW = 1_795_342_500_000  # Sun, 22 Nov 2026 10:15:00 GMT


def waiting(text: str) -> Response:
    return Response(429, {"retry-after": text}, b"")


def test_only_what_rfc_3986_reserves_is_escaped() -> None:
    assert percent("AZaz09-._~") == "AZaz09-._~"
    assert percent(" +*%/?&=:é房\n") == "%20%2B%2A%25%2F%3F%26%3D%3A%C3%A9%E6%88%BF%0A"
    assert percent("\ud800") == "%ED%A0%80"


def test_a_query_is_sorted_after_it_is_escaped() -> None:
    assert query({"b": "2", "a": "", "é": "/", "B": "1"}) == "%C3%A9=%2F&B=1&a=&b=2"
    assert query({}) == ""


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"\xef\xbb\xbf{}", {}),
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'"a"', None),
        (b'{"a": 1', None),
        (b"<html>", None),
        (b"[" * 100_000, None),
        (b'{"a": ' + b"1" * 5_000 + b"}", None),
    ],
)
def test_a_json_object_or_nothing(content: bytes, value: dict[str, Any] | None) -> None:
    assert json_object(Response(200, {}, content)) == value
    assert json_object(Response(400, {}, content)) == value


def test_names_in_another_charset_are_not_guessed_but_an_errors_code_is_read() -> None:
    content = '{"code": "X", "name": "房"}'.encode("gbk")
    assert json_object(Response(200, {}, content)) is None
    error = json_object(Response(500, {}, content))
    assert error is not None
    assert error["code"] == "X"


@given(st.binary(max_size=300), st.integers(100, 599))
def test_reading_json_never_raises(content: bytes, status: int) -> None:
    assert isinstance(json_object(Response(status, {}, content)), dict | None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("LIVE.100011001", "LIVE.100011001"),
        (0, "0"),
        (-7, "-7"),
        ("a" * 100, "a" * 100),
        ("a" * 101, None),
        ("", None),
        ("two words", None),
        ("line\n", None),
        ("房间", None),
        (True, None),
        (1.5, None),
        (None, None),
        (["a"], None),
    ],
)
def test_a_token_is_short_and_without_spaces(value: Any, text: str | None) -> None:
    assert token(value) == text


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("0", 0),
        (" 120 ", 120_000),
        ("86401", LONGEST_WAIT),
        ("Sun, 22 Nov 2026 10:15:30 GMT", 30_000),
        ("Sunday, 22-Nov-26 10:15:30 GMT", 30_000),
        ("Sun Nov 22 10:15:30 2026", 30_000),
        ("Sun, 22 Nov 2026 10:00:00 GMT", 0),
        ("Wed, 22 Nov 2056 10:15:30 GMT", LONGEST_WAIT),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\uff19", None),
        ("99999999999999999999", None),
        ("Sun, 99 Nov 2026 10:15:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, wait: int | None) -> None:
    assert retry_after(waiting(text), NOW) == wait


@given(st.text(max_size=60))
def test_retry_after_never_raises(text: str) -> None:
    wait = retry_after(waiting(text), NOW)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("statuses", "kind", "error"),
    [
        ((100, 200, 204, 206, 301, 302, 304, 307, 308), Unknown, None),
        ((500, 502, 504, 507, 520, 599), Unknown, None),
        ((408, 503), Unreachable, None),
        ((401,), Refused, "auth"),
        ((403,), Refused, "vendor"),
        ((404, 410), Refused, "not_found"),
        ((405, 406, 407, 415, 501, 505), Refused, "config"),
        ((413, 414, 422, 431), Refused, "invalid"),
        ((400, 402, 409, 418, 494), Refused, "vendor"),
    ],
)
def test_what_a_status_alone_means(statuses: tuple[int, ...], kind: type[Outcome], error: str | None) -> None:
    for status in statuses:
        outcome = by_status(Response(status, {}, b""), Wire(status), NOW)
        assert (type(outcome), getattr(outcome, "error", None)) == (kind, error)
        assert outcome.wire == Wire(status)
        assert outcome.detail


def test_429_is_throttled_and_never_permanent() -> None:
    outcome = by_status(waiting("7"), Wire(429), NOW)
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 7_000


@given(st.integers(0, 999))
def test_every_status_has_a_meaning_and_none_is_success(status: int) -> None:
    outcome = by_status(Response(status, {}, b""), Wire(status), NOW)
    assert word(outcome) in {"refused", "throttled", "unreachable", "unknown"}


def test_moments_are_written_in_utc_and_rounded_up() -> None:
    assert utc_text(NOW) == "2026-11-22T10:15:00Z"
    assert utc_text(NOW + 1) == "2026-11-22T10:15:01Z"
    assert utc_text(NOW + 999, round_up=False) == "2026-11-22T10:15:00Z"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22T10:15:00Z", NOW),
        ("2026-11-22T18:15:00+08:00", NOW),
        ("2026-11-22T10:15:00.250Z", NOW + 250),
        ("2026-11-22T10:15:00", None),
        ("2026-11-22", None),
        ("", None),
        ("soon", None),
        (None, None),
        (NOW, None),
        (["2026-11-22T10:15:00Z"], None),
    ],
)
def test_a_moment_is_read_only_with_an_offset(text: Any, at: int | None) -> None:
    assert utc_millis(text) == at


@given(st.integers(0, 4_000_000_000_000))
def test_a_written_moment_is_read_back(at: int) -> None:
    read = utc_millis(utc_text(at))
    assert read is not None
    assert 0 <= read - at < 1000


REFUSED = Refused("auth", Wire(401), "not accepted")


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Sun, 22 Nov 2026 10:05:00 GMT", None),
        ("Sun, 22 Nov 2026 10:07:59 GMT", None),
        ("Sun, 22 Nov 2026 10:08:00 GMT", "3 min behind the vendor's"),
        ("Sun, 22 Nov 2026 10:01:30 GMT", "3 min ahead of the vendor's"),
        ("Mon, 23 Nov 2026 10:05:00 GMT", "1440 min behind the vendor's"),
        ("yesterday", None),
        ("Sun, 99 Nov 2026 10:05:00 GMT", None),
        ("", None),
    ],
)
def test_a_refused_login_names_a_clock_that_is_far_off(date: str, said: str | None) -> None:
    now = 1_795_341_900_000  # 2026-11-22T10:05:00Z
    answer = Response(401, {"date": date} if date else {}, b"")
    outcome = seen_by_the_clock(REFUSED, answer, now)
    if said is None:
        assert outcome == REFUSED
    else:
        assert outcome.detail == f"not accepted; this host's clock is {said}"


@pytest.mark.parametrize("outcome", [Refused("config"), Throttled(), Unknown()])
def test_other_outcomes_say_nothing_of_the_clock(outcome: Outcome) -> None:
    answer = Response(401, {"date": "Sun, 22 Nov 2026 12:05:00 GMT"}, b"")
    assert seen_by_the_clock(outcome, answer, 1_795_341_900_000) == outcome
