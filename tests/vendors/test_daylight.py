"""Daylight saving changes nothing: no request and no answer hangs on the time zone of the machine."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.vendors.contract import Table, adapter, call, in_process
from worker.events.times import format_rfc3339, parse_rfc3339
from worker.vendors import load_spec, vendor_names
from worker.vendors.base import Response, Vendor
from worker.words import Millis

SET_BACK: Millis = 1_792_890_000_000
"""2026-10-25T01:00:00Z: where Berlin's clocks go from three to two; an end an hour on has its hour again."""
ZONES = ("UTC", "Europe/Berlin", "Asia/Shanghai", "America/St_Johns")
WIRED = [
    (name, operation)
    for name in vendor_names()
    if not in_process(load_spec(name))
    for operation in load_spec(name).operations
]


@pytest.fixture(autouse=True)
def zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def move_to(zone: str) -> None:
    os.environ["TZ"] = zone
    time.tzset()


def test_the_zones_differ_here() -> None:
    seen = set()
    for zone in ZONES:
        move_to(zone)
        seen.add(time.localtime(SET_BACK / 1000)[:5])
    assert len(seen) == len(ZONES), "the time zones are not installed, so nothing would be noticed"


@pytest.mark.parametrize(("name", "operation"), WIRED)
def test_a_request_and_its_answer_are_the_same_in_every_zone(name: str, operation: str) -> None:
    spec = load_spec(name)
    asked, read = set(), set()
    for zone in ZONES:
        move_to(zone)
        vendor: Vendor = adapter(name, "http://127.0.0.1:1")
        for shift in (-1_800_000, 1_800_000):  # the same local time, twice
            now = SET_BACK + shift
            made = call(spec, operation)
            request = vendor.request(made, now, "nonce")
            asked.add((shift, request.method, request.url, tuple(request.headers.items()), request.content))
            for row in Table(name).rows(operation):
                headers = {key.lower(): value for key, value in row.headers.items()}
                answer = Response(row.status, headers, row.body)
                read.add((shift, row.name, repr(vendor.read(made, answer, now))))
    assert len(asked) == 2
    assert len(read) == 2 * len({row for _, row, _ in read})


def test_a_day_is_as_long_as_ever() -> None:
    for zone in ZONES:
        move_to(zone)
        before, after = SET_BACK - 43_200_000, SET_BACK + 43_200_000
        assert parse_rfc3339(format_rfc3339(after)) - parse_rfc3339(format_rfc3339(before)) == 86_400_000
        assert parse_rfc3339("2026-10-25T02:30:00+02:00") + 3_600_000 == parse_rfc3339(
            "2026-10-25T02:30:00+01:00"
        )
