"""Durations and quotas as text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.durations import format_duration, parse_duration, parse_quota
from worker.words import Quota


@pytest.mark.parametrize(
    ("text", "length"),
    [("500ms", 500), ("0s", 0), ("30s", 30_000), ("10m", 600_000), ("24h", 86_400_000), ("7d", 604_800_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: int) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text",
    ["soon", "", "10", "m", "-1s", "1.5h", "1 h", "1h30m", "10M", " 1s", "1s\n", "\uff11s", "9" * 10 + "d"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f'"{text}" is not a duration (10m, 7d)')):
        parse_duration(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [(0, "0s"), (1, "1ms"), (90_000, "90s"), (600_000, "10m"), (86_400_000, "1d"), (90_000_000, "25h")],
)
def test_the_largest_unit_that_loses_nothing_is_written(length: int, text: str) -> None:
    assert format_duration(length) == text


@given(st.integers(0, 999_999_999))
def test_what_is_written_can_be_read(length: int) -> None:
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "quota"),
    [("300/60s", Quota(300, 60_000)), ("500/1d", Quota(500, 86_400_000)), ("1/500ms", Quota(1, 500))],
)
def test_a_quota_is_a_number_and_a_window(text: str, quota: Quota) -> None:
    assert parse_quota(text) == quota


@pytest.mark.parametrize(
    "text", ["", "300", "300/", "/60s", "0/60s", "300/0s", "-1/60s", "300/soon", "a/60s"]
)
def test_anything_else_is_no_quota(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f'"{text}" is not a quota (300/60s, 500/1d)')):
        parse_quota(text)
