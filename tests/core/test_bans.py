"""The index that the publish gate answers from."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.machine import GATED, HOUR, KEY, MINUTE, NOW, Machine, Vendor, target
from worker.core.bans import Bans
from worker.core.state import LEDGER, Ban, StreamState, TargetState, encode
from worker.words import Millis, Target

ROOM = ("edge", "live", "room42")


def state(until: Millis | None = NOW + MINUTE, *, account: str = "edge", stream: str = "room42") -> bytes:
    place = Target(account, "live", stream)
    return encode(StreamState(KEY, targets={place.id: TargetState(place, ban=Ban(until, NOW))}))


def bans(*records: tuple[int, bytes | None, bytes | None]) -> Bans:
    found = Bans(["edge", "other"])
    for record in records:
        found.take(*record)
    return found


def test_a_ban_holds_until_its_end_and_needs_no_event_to_end() -> None:
    found = bans((0, b"k", state()))
    assert found.forbidden(ROOM, NOW + MINUTE - 1)
    assert not found.forbidden(ROOM, NOW + MINUTE)


def test_a_permanent_one_never_ends() -> None:
    assert bans((0, b"k", state(None))).forbidden(ROOM, NOW + 10**12)


@pytest.mark.parametrize("door", [("other", *ROOM[1:]), ("edge", "vod", "room42"), ("edge", "live", "room4")])
def test_it_is_of_one_account_application_and_stream(door: tuple[str, str, str]) -> None:
    assert not bans((0, b"k", state())).forbidden(door, NOW)


@pytest.mark.parametrize("value", [None, state(NOW), state(account="hw"), encode(StreamState(KEY))])
def test_the_last_state_counts(value: bytes | None) -> None:
    found = bans((0, b"k", state()), (0, b"k", value))
    assert not found.forbidden(ROOM, NOW)


def test_what_is_over_takes_no_room() -> None:
    found = bans((0, b"k", state()), (0, b"k", state(stream="room43")), (1, b"k", state(stream="room44")))
    assert len(found) == 2
    found.take(0, b"k", None)
    found.take(1, b"k", None)
    assert len(found) == 0
    assert not vars(found)["_doors"]


def test_two_streams_of_the_platform_at_one_door_both_count() -> None:
    found = bans((0, b"a", state()), (0, b"b", state(NOW + HOUR)))
    found.take(0, b"a", None)
    assert found.forbidden(ROOM, NOW + MINUTE)
    found.take(0, b"b", None)
    assert not found.forbidden(ROOM, NOW)


def test_a_state_that_is_moved_to_another_partition_counts_once_it_is_there() -> None:
    found = bans((0, b"k", state()), (3, b"k", state()), (0, b"k", None))
    assert found.forbidden(ROOM, NOW)


def test_other_records_of_the_topic_are_no_states() -> None:
    assert len(bans((0, LEDGER, b'{"account":"edge"}'), (0, None, b'{"account":"edge"}'))) == 0


def test_a_state_that_names_no_gated_account_is_not_even_read() -> None:
    assert len(bans((0, b"k", b'not a state: "account":"hw"'))) == 0
    with pytest.raises(ValueError, match="JSON"):
        bans((0, b"k", b'not a state: "account":"edge"'))


@pytest.mark.parametrize("account", ["edge", "Kante-Süd", 'a"b', "直播"])
def test_an_account_of_any_name_is_found_in_a_state(account: str) -> None:
    found = Bans([account])
    found.take(0, b"k", state(account=account))
    assert found.forbidden((account, "live", "room42"), NOW)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", None]), st.integers(1, 9))))
def test_it_agrees_with_a_plain_model(changes: list[tuple[str, str | None, int]]) -> None:
    found, model = Bans(["edge"]), dict[str, tuple[str, int]]()
    for key, stream, minutes in changes:
        model.pop(key, None)
        if stream is None:
            found.take(0, key.encode(), None)
        else:
            model[key] = (stream, minutes)
            found.take(0, key.encode(), state(NOW + minutes * MINUTE, stream=stream))
    for name in "xy":
        for minutes in range(10):
            expected = any(stream == name and until > minutes for stream, until in model.values())
            assert found.forbidden(("edge", "live", name), NOW + minutes * MINUTE) == expected


def test_it_knows_what_the_machine_has_decided() -> None:
    m = Machine({"hw": GATED})
    Vendor(m)
    found = Bans(["hw"])
    door = ("hw", "live", "room42")

    def forbidden() -> bool:
        found.take(0, KEY.encode(), None if m.state is None else encode(m.state))
        return found.forbidden(door, m.now)

    assert target("hw")["stream"] == door[2]
    m.verdict("nudity")
    assert forbidden(), "from the step that takes the verdict"
    m.run()
    assert forbidden()
    m.command("release")
    assert not forbidden()
    m.verdict("nudity")
    m.wait(10 * MINUTE + 1)
    assert not forbidden()
    assert "ban" not in json.dumps(json.loads(encode(m.state)) if m.state else {})
