"""What was replayed is remembered exactly, and a letter goes back as it came."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.commands.parts import replaying
from worker.commands.parts.replaying import Ranges, Wanted, add, has
from worker.events.codec import Invalid, dead_letter
from worker.events.partition import home_partition
from worker.settings import KafkaSettings

SETTINGS = KafkaSettings(("b",), "g", "i")


@given(st.lists(st.integers(0, 40)))
def test_ranges_hold_what_was_added_and_nothing_else(offsets: list[int]) -> None:
    ranges: Ranges = []
    for offset in offsets:
        add(ranges, offset)
    assert {n for n in range(50) if has(ranges, n)} == set(offsets)
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


def letter(*headers: tuple[str, bytes], source: int = 1, key: bytes | None = b"k") -> replaying.Letter:
    put_aside = dead_letter(
        key,
        b"{oops",
        headers,
        topic="v",
        partition=source,
        offset=7,
        invalid=Invalid("json", "expected JSON"),
        dead_letter_topic="d",
    )
    record = SimpleNamespace(
        partition=3, offset=9, timestamp=1_000, key=key, value=put_aside.value, headers=put_aside.headers
    )
    return replaying._letter(record, 4, SETTINGS)


def test_a_letter_goes_back_where_it_lay_with_its_own_headers_only() -> None:
    own = (("trace", b"\x00"), ("source_topic", b"mine"), ("trace", b"again"))
    found = letter(*own)
    assert (found.key, found.value, found.home, found.reason) == (b"k", b"{oops", 1, "json")
    assert found.headers == [*own, ("replayed_from", b"3@9")]


def test_a_letter_that_was_replayed_before_names_its_last_dead_letter_only() -> None:
    found = letter(("a", b"b"), ("replayed_from", b"0@1"))
    assert found.headers == [("a", b"b"), ("replayed_from", b"3@9")]


def test_a_letter_of_somebody_else_goes_where_its_key_belongs() -> None:
    record: Any = SimpleNamespace(partition=0, offset=2, timestamp=5, key=b"k", value=None, headers=[])
    found = replaying._letter(record, 4, SETTINGS)
    assert (found.reason, found.home) == ("unknown", home_partition(b"k", 4, "murmur2"))


def test_letters_are_chosen_by_reason_and_time() -> None:
    one = letter()
    assert Wanted()(one)
    assert Wanted(reason="json", since=1_000, until=1_001)(one)
    assert not Wanted(reason="schema")(one)
    assert not Wanted(since=1_001)(one)
    assert not Wanted(until=1_000)(one)


def test_a_row_tells_nothing_of_the_content() -> None:
    row = replaying.row(letter(), 61_000)
    assert row == ("json", "3", "9", "1970-01-01T00:00:01Z", "1m ago", "5 bytes")
