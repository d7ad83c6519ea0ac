"""What nobody can understand goes aside as it was, says why, and holds nothing up."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.playing import dumps, now, outcomes, verdict, wait_for
from worker.events.partition import home_partition
from worker.events.times import format_rfc3339
from worker.sandbox.stage import Incoming, Stage

pytestmark = pytest.mark.sandbox

KEY = "hw/broken"
Headers = tuple[tuple[str, bytes], ...]

ENVELOPE: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/test"),
    ("ce_type", b"moderation.verdict.v1"),
)
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


def changed(**changes: Any) -> bytes:
    """A verdict that is right but for some changes; None takes a field away."""
    event = verdict("bad", KEY) | changes
    return dumps({name: value for name, value in event.items() if value is not None})


def envelope(name: str, value: bytes) -> Headers:
    return tuple((key, value if key == name else given) for key, given in ENVELOPE)


def structured(**members: Any) -> bytes:
    inner = {"specversion": "1.0", "id": "1", "source": "/test", "type": "moderation.verdict.v1"}
    return dumps(inner | members)


GOOD = verdict("bad", KEY)
TABLE: list[tuple[str, bytes | None, Headers, str]] = [
    ("garbage", b"\xff\xfe\x00garbage", (), "encoding"),
    ("a byte order mark", b"\xef\xbb\xbf" + dumps(GOOD), (), "encoding"),
    ("UTF-16", json.dumps(GOOD).encode("utf-16-le"), (), "encoding"),
    ("Latin-1", dumps(GOOD).replace(b"nudity", b"nudit\xe9"), (), "encoding"),
    ("nothing", b"", (), "json"),
    ("a tombstone", None, (), "json"),
    ("half an object", dumps(GOOD)[:-9], (), "json"),
    ("a name twice", b'{"verdict_id": "a", "verdict_id": "b"}', (), "json"),
    ("not a number", changed(confidence=float("nan")), (), "json"),
    ("a list", b"[]", (), "schema"),
    ("a number", b"42", (), "schema"),
    ("neither verdict nor command", b"{}", (), "type"),
    ("both", changed(command_id="c"), (), "type"),
    ("an id that is a number", changed(verdict_id=7), (), "schema"),
    ("an empty id", changed(verdict_id=""), (), "schema"),
    ("a very long id", changed(verdict_id="v" * 201), (), "schema"),
    ("a stream that is a text", changed(stream="room"), (), "schema"),
    ("no key", changed(stream={}), (), "schema"),
    ("no category", changed(category=None), (), "schema"),
    ("no severity", changed(severity=None), (), "schema"),
    ("confidence as text", changed(confidence="0.9"), (), "schema"),
    ("more than certain", changed(confidence=1.1), (), "schema"),
    ("an unknown severity", changed(severity="dreadful"), (), "enum"),
    ("an unknown kind", changed(kind="rumour"), (), "enum"),
    ("an unknown origin", changed(origin="oracle"), (), "enum"),
    ("yesterday", changed(detected_at="yesterday"), (), "time"),
    ("a time without an offset", changed(detected_at="2026-11-22T10:05:00"), (), "time"),
    ("a time to come", changed(detected_at=format_rfc3339(now() + 3_600_000)), (), "time"),
    ("300 KiB", changed(reason="x" * 300 * 1024), (), "oversize"),
    ("an envelope without an id", dumps(GOOD), envelope("ce_id", b""), "envelope"),
    ("an old CloudEvent", dumps(GOOD), envelope("ce_specversion", b"0.3"), "envelope"),
    ("an unknown type", dumps(GOOD), envelope("ce_type", b"moderation.verdict.v9"), "type"),
    ("a batch", b"[]", (("content-type", b"application/cloudevents-batch+json"),), "envelope"),
    ("a structured list", b"[]", STRUCTURED, "envelope"),
    ("structured without data", structured(), STRUCTURED, "envelope"),
    ("data that is no base64", structured(data_base64="?"), STRUCTURED, "envelope"),
    (
        "a foreign charset",
        structured(data=GOOD),
        (("content-type", b"application/cloudevents+json; charset=latin-1"),),
        "encoding",
    ),
]


def rooms_by_partition(stage: Stage) -> dict[int, str]:
    """A stream for each partition."""
    rooms = (f"hw/room-{i}" for i in range(100))
    return {home_partition(room.encode(), stage.kafka.partitions, "murmur2"): room for room in rooms}


def test_every_kind_of_bad_record_goes_aside_and_the_partition_goes_on(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(changes={"policy": {"verify": "off"}})
    worker = stage.start_worker(until_idle=1)
    keys: list[bytes | None] = [None, b"\xff\x00", KEY.encode()]
    extra: Headers = (("x-trace", b"\x00\xff"), ("x-trace", b"twice"))
    sent = [
        Incoming(keys[i % 3], value, (*headers, *extra), i % stage.kafka.partitions)
        for i, (_, value, headers, _) in enumerate(TABLE)
    ]
    stage.produce(sent)
    rooms = rooms_by_partition(stage)
    stage.produce([verdict(f"good-{number}", room) for number, room in rooms.items()])
    assert worker.wait(60) == 0

    letters = {
        (int(found["source_partition"]), int(found["source_offset"])): record
        for record in stage.dead_letters()
        for found in [dict(record.headers)]
    }
    assert len(stage.dead_letters()) == len(letters) == len(TABLE)
    offsets = dict.fromkeys(range(stage.kafka.partitions), 0)
    for record, (what, value, headers, reason) in zip(sent, TABLE, strict=True):
        assert record.partition is not None
        letter = letters[record.partition, offsets[record.partition]]
        offsets[record.partition] += 1
        assert (letter.key, letter.value) == (record.key, value), what
        original, why = letter.headers[: len(headers) + 2], dict(letter.headers[len(headers) + 2 :])
        assert tuple(original) == record.headers, what
        assert why["dead_letter_reason"].decode() == reason, what
        assert why["source_topic"].decode() == stage.kafka.topics["verdicts"]
        assert set(why) == {
            "dead_letter_reason",
            "dead_letter_detail",
            "source_topic",
            "source_partition",
            "source_offset",
        }
    assert sorted(rooms) == list(range(stage.kafka.partitions))
    for number in rooms:
        assert outcomes(stage.results(), f"good-{number}") == ["applied*"]


def test_too_many_bad_records_stop_the_partition_and_turn_readiness_red(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(changes={"kafka": {"max_invalid_in_a_row": 5}, "policy": {"verify": "off"}})
    rooms = rooms_by_partition(stage)
    stage.produce([Incoming(None, b"garbage", (), 0) for _ in range(5)])
    worker = stage.start_worker()
    wait_for(lambda: len(stage.dead_letters()) == 5, 30, "five dead letters")
    wait_for(lambda: worker.get("/readyz")[0] == 503, 10, "readiness turns red")
    assert "partition 0 is stopped" in worker.get("/readyz")[1]
    stage.produce(
        [Incoming(None, b"garbage", (), 0), verdict("held-back", rooms[0]), verdict("goes-on", rooms[1])]
    )
    wait_for(lambda: outcomes(stage.results(), "goes-on"), 30, "another partition goes on")
    assert outcomes(stage.results(), "held-back") == []
    assert len(stage.dead_letters()) == 5
    wait_for(lambda: worker.metrics("moderation_parked", reason="invalid_records") == 1, 10, "the gauge")
