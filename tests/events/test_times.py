"""RFC 3339 in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events.times import LAST, format_rfc3339, parse_rfc3339

TEN = 1_795_341_600_000  # 2026-11-22T10:00:00Z


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T10:00:00Z", TEN),
        ("2026-11-22t10:00:00z", TEN),
        ("2026-11-22 10:00:00Z", TEN),
        ("2026-11-22T18:00:00+08:00", TEN),
        ("2026-11-22T04:30:00-05:30", TEN),
        ("2026-11-22T10:00:00-00:00", TEN),
        ("2026-11-22T10:00:00.5Z", TEN + 500),
        ("2026-11-22T10:00:00.0004Z", TEN),
        ("2026-11-22T10:00:00.0005Z", TEN + 1),
        ("2026-11-22T10:00:00.123456789Z", TEN + 123),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", LAST),
    ],
)
def test_moments_with_an_offset(text: str, moment: int) -> None:
    assert parse_rfc3339(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00",
        "2026-12-24",
        "2026-11-22T10:00Z",
        "2026-11-22T10:00:00+0800",
        "2026-11-22T10:00:00+08",
        "2026-11-22T10:00:00+08:00:00",
        "2026-11-22T10:00:00,5Z",
        "2026-11-22T100000.0000Z",
        "20261122T10:00:00+00:00",
        "2026-W47-7T10:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T23:59:60Z",
        "2026-02-29T10:00:00Z",
        "2026-11-22T10:00:00+24:00",
        "2026-11-22T10:00:00Z\n",
        " 2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00.Z",
        "\uff12026-11-22T10:00:00Z",
        "0000-11-22T10:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59-23:59",
        "now",
        "",
        1_795_341_600,
        1.5,
        True,
        None,
        [],
    ],
)
def test_anything_else_is_refused_without_repeating_it(text: object) -> None:
    with pytest.raises(ValueError, match="expected") as refusal:
        parse_rfc3339(text)
    assert not text or str(text) not in str(refusal.value)


@given(st.integers(0, LAST))
def test_what_is_written_reads_back(moment: int) -> None:
    assert parse_rfc3339(format_rfc3339(moment)) == moment


def test_what_no_date_can_hold_is_written_as_the_last_moment() -> None:
    assert format_rfc3339(LAST + 1) == format_rfc3339(10**30) == "9999-12-31T23:59:59.999Z"
