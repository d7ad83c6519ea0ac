"""How many streams of a tenant were seen: few exactly, many nearly, never remembered beyond the hour."""

import pytest

from tests.core.machine import MINUTE, NOW, SECOND
from worker.core.seen import KEPT, SPAN, SPANS, TENANTS, WRITTEN_EVERY, SeenStreams

BEGIN = NOW // SPAN * SPAN
"""Where a third of an hour begins."""


def seeing(number: int, tenant: str = "acme", at: int = BEGIN) -> SeenStreams:
    seen = SeenStreams()
    for n in range(number):
        seen.add(tenant, f"{tenant}/room-{n}", at)
    return seen


def test_few_are_counted_exactly_and_once_however_often_they_are_seen() -> None:
    seen = seeing(KEPT - 1)
    for n in range(0, KEPT - 1, 3):
        seen.add("acme", f"acme/room-{n}", BEGIN + SPAN)
    assert seen.number("acme", BEGIN + SPAN) == KEPT - 1
    assert seen.number("another", BEGIN) == 0


@pytest.mark.parametrize("number", [300, 1_000, 10_000])
def test_many_are_rather_too_few_than_too_many(number: int) -> None:
    for tenant in ("a", "b", "c", "d"):
        found = seeing(number, tenant).number(tenant, BEGIN)
        assert 0.68 * number < found <= 1.06 * number


def test_what_was_seen_an_hour_ago_no_longer_counts() -> None:
    seen = seeing(10)
    assert seen.number("acme", BEGIN + SPANS * SPAN - 1) == 10
    assert seen.number("acme", BEGIN + SPANS * SPAN) == 0
    seen.add("acme", "acme/room-1", BEGIN + 5 * SPAN)
    assert seen.number("acme", BEGIN + 5 * SPAN) == 1


def test_a_restored_record_tells_the_same() -> None:
    seen = seeing(2_000)
    seen.add("umläut", "x", BEGIN)
    again = SeenStreams(seen.record(BEGIN))
    assert again.number("acme", BEGIN) == seen.number("acme", BEGIN)
    assert again.number("umläut", BEGIN) == 1


def test_the_record_is_written_once_a_minute_where_it_has_changed() -> None:
    seen = seeing(1)
    assert seen.record(BEGIN) is not None
    seen.add("acme", "another", BEGIN + SECOND)
    assert seen.record(BEGIN + SECOND) is None
    assert seen.record(BEGIN + WRITTEN_EVERY) is not None
    seen.add("acme", "another", BEGIN + 2 * MINUTE)
    assert seen.record(BEGIN + 5 * MINUTE) is None, "it has not changed"


def test_of_many_tenants_the_largest_are_counted_and_the_record_stays_short() -> None:
    seen = SeenStreams()
    for span in range(SPANS):
        at = BEGIN + span * SPAN
        for n in range(2 * KEPT):
            seen.add("large", f"l{n}", at)
        for tenant in range(5 * TENANTS):
            seen.add(f"small-{tenant}" * 100, f"s{tenant}", at)
    record = seen.record(BEGIN + (SPANS - 1) * SPAN)
    assert record is not None
    assert len(record) < 30_000
    assert SeenStreams(record).number("large", BEGIN + 2 * SPAN) > KEPT
