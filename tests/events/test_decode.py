"""Records of the verdict topic: what they mean, and what is wrong with them."""

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from worker.events.codec import MAX_AHEAD, MAX_VALUE, Decoded, Invalid, decode
from worker.events.examples import EXAMPLES, FULL, MINIMAL, NOON
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.events.regions import EU
from worker.events.times import format_rfc3339, parse_rfc3339

Headers = list[tuple[str, bytes | None]]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "01-11111111111111111111111111111111-2222222222222222-00"
STRUCTURED = "application/cloudevents+json"
CANARY = "cAnArY"
VERDICT = "moderation.verdict.v1"
TYPES = {
    "verdict": "moderation.verdict.v1",
    "command": "moderation.command.v1",
    "stream-event": "moderation.stream.v1",
}
EVENTS = {name: example for name, example in EXAMPLES.items() if name.startswith(tuple(TYPES))}
EVENT_TYPES = {name: TYPES[next(filter(name.startswith, TYPES))] for name in EVENTS}


def as_bytes(document: Any) -> bytes:
    return json.dumps(document).encode()


def ce(ce_type: str = VERDICT, **attributes: str | None) -> Headers:
    """The headers of binary mode; None leaves one out."""
    all_of_them = {"specversion": "1.0", "id": "e-1", "source": "/up", "type": ce_type} | attributes
    return [(f"ce_{name}", text.encode()) for name, text in all_of_them.items() if text is not None]


def envelope(data: Any, ce_type: str = VERDICT, **attributes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "e-1", "source": "/up", "type": ce_type, "data": data} | attributes


def structured(document: Any, content_type: str = STRUCTURED) -> tuple[bytes, Headers]:
    return as_bytes(document), [("content-type", content_type.encode())]


def read(value: bytes | None, headers: Headers | None = None, now: int = NOON) -> Decoded:
    decoded = decode(b"any", value, headers or [], now)
    assert isinstance(decoded, Decoded), decoded
    return decoded


def refuse(value: bytes | None, headers: Headers | None = None, now: int = NOON) -> Invalid:
    invalid = decode(None, value, headers or [], now)
    assert isinstance(invalid, Invalid), invalid
    return invalid


@pytest.mark.parametrize("name", EVENTS)
def test_the_three_forms_mean_the_same(name: str) -> None:
    event, ce_type = EVENTS[name], EVENT_TYPES[name]
    plain = read(as_bytes(event))
    assert read(as_bytes(event), ce(ce_type)) == plain
    assert read(*structured(envelope(event, ce_type))) == plain
    assert read(*structured(envelope(event, ce_type), STRUCTURED + "; charset=UTF-8")) == plain
    packed = envelope(event, ce_type) | {"data_base64": base64.b64encode(as_bytes(event)).decode()}
    del packed["data"]
    assert read(*structured(packed)) == plain


def test_a_verdict_says_what_was_written() -> None:
    decoded = read(as_bytes(FULL))
    verdict = decoded.event
    assert isinstance(verdict, Verdict)
    assert decoded.stream_key == verdict.stream.key == "acme/room42"
    assert verdict.detected_at == parse_rfc3339("2026-11-22T10:05:00Z")
    assert verdict.stream.session is not None
    assert verdict.stream.session.started_at == parse_rfc3339("2026-11-22T10:00:00Z")
    assert verdict.stream.targets is not None
    assert [target.push_domain for target in verdict.stream.targets] == ["push.acme.example"]
    assert verdict.requested is not None
    assert (verdict.requested.action, verdict.requested.for_s) == ("forbid", 600)
    assert verdict.confidence == 0.97
    assert verdict.labels == {"model": "nsfw-7"}


def test_what_is_absent_has_its_default() -> None:
    verdict = read(as_bytes(MINIMAL)).event
    assert isinstance(verdict, Verdict)
    assert (verdict.kind, verdict.origin, verdict.mode) == ("violation", "machine", "live")
    assert (verdict.confidence, verdict.regions, verdict.stream.targets) == (1.0, (), None)
    assert verdict.expires_at is None


def test_eu_stands_for_its_members() -> None:
    verdict = read(as_bytes(FULL | {"regions": ["CH", "EU", "DE"], "requested": {"regions": ["EU"]}})).event
    assert isinstance(verdict, Verdict)
    assert (len(verdict.regions), verdict.regions[0], len(set(verdict.regions))) == (28, "CH", 28)
    assert {"DE", "FR", "MT", "HR"} < set(verdict.regions)
    assert not {"GB", "NO", "EU", "GF"} & set(verdict.regions)
    assert verdict.requested is not None
    assert set(verdict.requested.regions) == EU


def test_null_means_absent() -> None:
    optional = set(Verdict.model_fields) - set(MINIMAL)
    padded = MINIMAL | dict.fromkeys(optional)
    padded["stream"] = MINIMAL["stream"] | {"session": None, "targets": None}
    assert read(as_bytes(padded)) == read(as_bytes(MINIMAL))


def test_unknown_fields_are_ignored_everywhere() -> None:
    event = copy.deepcopy(FULL)
    for part in (
        event,
        event["stream"],
        event["stream"]["session"],
        event["requested"],
        event["evidence"][0],
    ):
        part["from_the_future"] = {"x": [1, None]}
    assert read(as_bytes(event)) == read(as_bytes(FULL))
    assert read(*structured(envelope(event, comingfromafar="yes"))) == read(as_bytes(FULL))


def test_the_mark_tells_what_a_plain_record_is() -> None:
    assert isinstance(read(as_bytes(EXAMPLES["command-query"])).event, Command)
    assert isinstance(read(as_bytes(EXAMPLES["stream-event-ended"])).event, StreamEvent)
    escaped = as_bytes(MINIMAL).replace(b"verdict_id", rb"verdict\u005fid")
    assert read(escaped) == read(as_bytes(MINIMAL))


def test_repetition_is_fine_where_names_differ_in_place_only() -> None:
    target = FULL["stream"]["targets"][0]
    event = FULL | {"stream": {"key": "k", "targets": [target, target]}, "labels": {"stream": "k"}}
    assert read(as_bytes(event)).stream_key == "k"
    quoted = FULL | {"reason": 'He said "verdict_id": and "\\" again'}
    verdict = read(json.dumps(quoted, indent=1).encode()).event
    assert isinstance(verdict, Verdict)
    assert verdict.reason == quoted["reason"]


def test_header_names_ignore_case_and_the_last_of_several_counts() -> None:
    upper: Headers = [(name.upper(), raw) for name, raw in ce(traceparent=TRACE)]
    assert read(as_bytes(MINIMAL), upper).traceparent == TRACE
    value, _ = structured(envelope(MINIMAL))
    assert read(value, [("Content-Type", b"Application/CloudEvents+JSON")]) == read(as_bytes(MINIMAL))
    assert read(as_bytes(MINIMAL), [("ce_type", b"other"), *ce()]) == read(as_bytes(MINIMAL))
    assert refuse(as_bytes(MINIMAL), [*ce(), ("ce_type", b"other")]).reason == "type"
    assert read(as_bytes(MINIMAL), [("other", None), ("traceparent", None)]) == read(as_bytes(MINIMAL))


@pytest.mark.parametrize(
    ("headers", "attribute", "expected"),
    [
        ([("ce_traceparent", TRACE), ("traceparent", OTHER_TRACE)], None, TRACE),
        ([("traceparent", OTHER_TRACE)], TRACE, OTHER_TRACE),
        ([], TRACE, TRACE),
        ([("ce_traceparent", "garbage"), ("traceparent", OTHER_TRACE)], None, OTHER_TRACE),
        ([("traceparent", TRACE.upper())], None, None),
        ([("traceparent", TRACE + "-more")], None, None),
        ([("traceparent", TRACE + "\n")], None, None),
        ([("traceparent", "ff" + TRACE[2:])], None, None),
        ([("traceparent", "00-" + "0" * 32 + TRACE[35:])], None, None),
        ([("traceparent", TRACE[:36] + "0" * 16 + "-01")], None, None),
        ([], 5, None),
        ([], "\ud800", None),
        ([], None, None),
    ],
)
def test_traceparent_is_the_first_that_is_well_formed(
    headers: list[tuple[str, str]], attribute: Any, expected: str | None
) -> None:
    if attribute == "\ud800":  # not even JSON text; the record says so itself
        assert refuse(*structured(envelope(FULL, traceparent=attribute))).reason == "json"
        return
    raw: Headers = [(name, text.encode()) for name, text in headers]
    value, mode = structured(envelope(FULL, traceparent=attribute))
    assert read(value, mode + raw).traceparent == expected
    if attribute is None:
        assert read(as_bytes(FULL), ce() + raw).traceparent == expected
    if attribute is None and "ce_traceparent" not in dict(headers):
        assert read(as_bytes(FULL), raw).traceparent == expected


@pytest.mark.parametrize(
    ("ahead", "counts_as"), [(-1, NOON - 1), (0, NOON), (1, NOON), (MAX_AHEAD, NOON), (MAX_AHEAD + 1, None)]
)
def test_a_detection_ahead_of_the_clock(ahead: int, counts_as: int | None) -> None:
    value = as_bytes(MINIMAL | {"detected_at": format_rfc3339(NOON + ahead)})
    if counts_as is None:
        assert refuse(value) == Invalid("time", "detected_at: expected at most 5 minutes ahead of now")
    else:
        verdict = read(value).event
        assert isinstance(verdict, Verdict)
        assert verdict.detected_at == counts_as


@pytest.mark.parametrize(("ahead", "believed"), [(0, True), (MAX_AHEAD, True), (MAX_AHEAD + 1, False)])
def test_a_broadcast_that_starts_in_the_future_is_not_believed(ahead: int, believed: bool) -> None:
    session = {"id": "s-1", "started_at": format_rfc3339(NOON + ahead)}
    value = as_bytes(MINIMAL | {"stream": MINIMAL["stream"] | {"session": session}})
    if believed:
        assert read(value).event.stream.session is not None
    else:
        detail = "stream.session.started_at: expected at most 5 minutes ahead of now"
        assert refuse(value) == Invalid("time", detail)


def test_a_value_may_be_as_long_as_the_limit() -> None:
    padding = b" " * (MAX_VALUE - len(as_bytes(FULL)))
    assert read(as_bytes(FULL) + padding) == read(as_bytes(FULL))
    assert refuse(as_bytes(FULL) + padding + b" ").reason == "oversize"


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


TEXT = as_bytes(FULL)
KEY_TWICE = b'{"verdict_id":"a",' + TEXT[1:]
COMMAND = EXAMPLES["command-extend"]
PLAIN_INVALID: dict[str, list[tuple[bytes | None, str]]] = {
    "oversize": [(b"\xff" * (MAX_VALUE + 1), "262144")],
    "encoding": [
        (TEXT.replace(b"nudity", b"nud\xffty"), "UTF-8"),
        (TEXT.decode().encode("utf-16"), "UTF-8"),
        (TEXT.decode().encode("utf-16-le"), "UTF-16"),
        (TEXT.decode().encode("utf-32-be"), "UTF-16"),
        (b"\xef\xbb\xbf" + TEXT, "byte order mark"),
        (TEXT.replace(b"nudity", "café".encode("latin-1")), "UTF-8"),
        (TEXT.replace(b"nudity", b"\xed\xa0\x80"), "UTF-8"),
    ],
    "json": [
        (None, "tombstone"),
        (b"", "JSON"),
        (b"stop it", "JSON"),
        (TEXT[:-1], "JSON"),
        (TEXT + b"}", "JSON"),
        (TEXT.replace(b'"', b"'"), "JSON"),
        (TEXT.replace(b"0.97", b"NaN"), "JSON"),
        (TEXT.replace(b"0.97", b"-Infinity"), "JSON"),
        (TEXT.replace(b"0.97", b"9" * 5000), "JSON"),
        (TEXT.replace(b"nudity", rb"\ud800"), "JSON"),
        (TEXT.replace(b"nudity", b"\x01"), "JSON"),
        (b"[" * 200_000, "JSON"),
        (b'{"verdict_id":' * 10_000, "JSON"),
        (b'{"verdict_id":' * 500 + b"1" + b"}" * 500, "JSON"),
        (KEY_TWICE, "once"),
        (KEY_TWICE.replace(b":", b" :"), "once"),
        (TEXT.replace(b'"model"', b'"model": "x", "model"'), "once"),
        (TEXT.replace(b'"model"', rb'"model": "\"", "model"'), "once"),
        (b'{"from_the_future":[{"a":1,"a":1}],' + TEXT[1:], "once"),
    ],
    "type": [
        (b"{}", "verdict_id, command_id, stream_event"),
        (as_bytes(without(FULL, "verdict_id")), "exactly one"),
        (as_bytes(FULL | {"command_id": "c-1"}), "exactly one"),
        (as_bytes(FULL | {"verdict_id": None}), "exactly one"),
        (as_bytes(envelope(FULL)), "exactly one"),
    ],
    "schema": [
        (as_bytes([FULL]), "object"),
        (b"null", "object"),
        (b'"verdict_id"', "object"),
        (as_bytes(without(FULL, "stream")), "stream: required"),
        (as_bytes(without(FULL, "detected_at")), "detected_at: required"),
        (as_bytes(FULL | {"stream": "acme/room42"}), "stream: expected an object"),
        (as_bytes(FULL | {"stream": {"key": ""}}), "stream.key"),
        (
            as_bytes(FULL | {"stream": {"key": "k", "targets": [{"app": "a", "stream": "s"}]}}),
            "targets[0].account",
        ),
        (as_bytes(FULL | {"stream": {"key": "k", "targets": {}}}), "stream.targets: expected an array"),
        (as_bytes(FULL | {"verdict_id": "v" * 201}), "verdict_id: String should have at most 200"),
        (as_bytes(FULL | {"verdict_id": 7}), "verdict_id: expected a valid string"),
        (as_bytes(FULL | {"verdict_id": []}), "verdict_id"),
        (as_bytes(FULL | {"confidence": 1.01}), "confidence: expected less than or equal to 1"),
        (as_bytes(FULL | {"confidence": "0.5"}), "confidence"),
        (as_bytes(FULL | {"confidence": True}), "confidence"),
        (TEXT.replace(b"0.97", b"1e999"), "confidence"),
        (as_bytes(FULL | {"requested": {"for_s": True}}), "requested.for_s"),
        (as_bytes(FULL | {"requested": {"for_s": 0}}), "requested.for_s"),
        (as_bytes(FULL | {"requested": {"for_s": 10**300}}), "requested.for_s"),
        (as_bytes(FULL | {"requested": {"for_s": 1, "until": "2026-11-23T00:00:00Z"}}), "for_s or until"),
        (as_bytes(FULL | {"labels": {"model": 7}}), "labels.*: expected a valid string"),
        (as_bytes(FULL | {"regions": "CN"}), "regions: expected an array"),
        (as_bytes(without(FULL, "category")), "category is required"),
        (as_bytes(without(FULL, "severity")), "severity is required"),
        (as_bytes(FULL | {"severity": None}), "severity is required"),
        (as_bytes(FULL | {"kind": "withdraw"}), "withdraws is required"),
        (as_bytes(without(FULL, "category") | {"kind": "clear"}), "category is required"),
        (as_bytes(without(COMMAND, "by")), "by: required"),
        (as_bytes(without(COMMAND, "until")), "until is required"),
        (as_bytes(COMMAND | {"holds": [7]}), "holds[0]"),
        (as_bytes(without(EXAMPLES["stream-event-ended"], "at")), "at: required"),
    ],
    "enum": [
        (as_bytes(FULL | {"severity": "urgent"}), "severity: expected 'low', 'medium', 'high' or 'critical'"),
        (as_bytes(FULL | {"kind": "warning"}), "kind: expected 'violation'"),
        (as_bytes(FULL | {"origin": "Machine"}), "origin"),
        (as_bytes(FULL | {"mode": 1}), "mode"),
        (as_bytes(FULL | {"regions": ["CN", "XX"]}), "regions[1]: expected an ISO 3166-1"),
        (as_bytes(FULL | {"regions": ["cn"]}), "regions[0]"),
        (as_bytes(FULL | {"regions": ["UK"]}), "regions[0]"),
        (as_bytes(FULL | {"requested": {"action": "ban"}}), "requested.action"),
        (as_bytes(FULL | {"requested": {"regions": [""]}}), "requested.regions[0]"),
        (as_bytes(COMMAND | {"command": "stop"}), "command"),
        (as_bytes(EXAMPLES["stream-event-ended"] | {"stream_event": "paused"}), "stream_event"),
    ],
    "time": [
        (as_bytes(FULL | {"detected_at": "2026-11-22T10:05:00"}), "detected_at: expected an RFC 3339"),
        (as_bytes(FULL | {"detected_at": 1_795_341_900_000}), "detected_at"),
        (as_bytes(FULL | {"detected_at": "2026-02-30T10:05:00Z"}), "detected_at: expected a date"),
        (as_bytes(FULL | {"detected_at": "2026-11-22T12:05:00.001Z"}), "5 minutes"),
        (as_bytes(FULL | {"expires_at": "soon"}), "expires_at"),
        (as_bytes(FULL | {"expires_at": "1969-12-31T23:59:59Z"}), "1970"),
        (
            as_bytes(FULL | {"stream": {"key": "k", "session": {"id": "s", "started_at": ""}}}),
            "session.started_at",
        ),
        (as_bytes(FULL | {"requested": {"until": "2026-W48-1T00:00:00Z"}}), "requested.until"),
        (as_bytes(COMMAND | {"until": 5}), "until"),
        (as_bytes(COMMAND | {"issued_at": "yesterday"}), "issued_at"),
    ],
}
PLAIN_CASES = [
    pytest.param(reason, value, part, id=f"{reason}-{number}")
    for reason, cases in PLAIN_INVALID.items()
    for number, (value, part) in enumerate(cases)
]


@pytest.mark.parametrize(("reason", "value", "part"), PLAIN_CASES)
def test_an_invalid_plain_record_says_why(reason: str, value: bytes | None, part: str) -> None:
    invalid = refuse(value)
    assert invalid.reason == reason
    assert part in invalid.detail


@pytest.mark.parametrize("reason", [reason for reason in PLAIN_INVALID if reason != "type"])
def test_an_invalid_event_is_as_invalid_in_binary_mode(reason: str) -> None:
    for value, part in PLAIN_INVALID[reason]:
        is_command = value is not None and b'"command_id"' in value
        is_stream = value is not None and b'"stream_event"' in value
        kind = "command" if is_command else "stream-event" if is_stream else "verdict"
        invalid = refuse(value, ce(TYPES[kind]))
        assert (invalid.reason, part in invalid.detail) == (reason, True)


@pytest.mark.parametrize(
    ("reason", "value", "headers"),
    [
        ("envelope", TEXT, ce(specversion=None)),
        ("envelope", TEXT, ce(specversion="0.3")),
        ("envelope", TEXT, ce(id=None)),
        ("envelope", TEXT, ce(id="")),
        ("envelope", TEXT, ce(source=None)),
        ("envelope", TEXT, [("ce_id", b"only")]),
        ("envelope", TEXT, [*ce(), ("ce_source", b"\xff")]),
        ("envelope", TEXT, [*ce(), ("ce_type", None)]),
        ("envelope", *structured(FULL)),
        ("envelope", *structured([envelope(FULL)])),
        ("envelope", *structured(envelope(FULL, specversion=1.0))),
        ("envelope", *structured(envelope(FULL, source=""))),
        ("envelope", *structured(envelope(FULL, id=None))),
        ("envelope", *structured(without(envelope(FULL), "data"))),
        ("envelope", *structured(envelope(FULL, data_base64="e30="))),
        ("envelope", *structured(envelope(None, data_base64="not base64"))),
        ("envelope", *structured(envelope(None, data_base64=[1]))),
        ("envelope", *structured(envelope(None, data_base64="\u00e9"))),
        ("envelope", *structured([envelope(FULL)], "application/cloudevents-batch+json")),
        ("envelope", *structured(envelope(FULL), "application/cloudevents+avro")),
        ("encoding", *structured(envelope(FULL), STRUCTURED + "; charset=utf-16")),
        ("encoding", *structured(envelope(None, data_base64="gICA"))),
        ("json", *structured(envelope(None, data_base64="e30" + "gfQ=="))),
        ("json", None, structured(FULL)[1]),
        ("json", b'{"id":"1","id":"1",' + as_bytes(envelope(FULL))[1:], structured(FULL)[1]),
        ("type", TEXT, ce("moderation.verdict.v2")),
        ("type", TEXT, ce("moderation.result.v1")),
        ("type", *structured(envelope(FULL, type="Moderation.Verdict.V1"))),
        ("schema", as_bytes(COMMAND), ce()),
        ("schema", b"[]", ce()),
        ("schema", *structured(envelope("text"))),
        ("schema", *structured(envelope([FULL]))),
        ("enum", *structured(envelope(FULL | {"severity": "urgent"}))),
        ("time", *structured(envelope(FULL | {"detected_at": "now"}))),
    ],
)
def test_an_invalid_envelope_says_why(reason: str, value: bytes | None, headers: Headers) -> None:
    assert refuse(value, headers).reason == reason


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, its root left out."""
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in inner:
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", EVENTS)
def test_no_detail_ever_shows_what_a_record_holds(name: str) -> None:
    event = json.loads(json.dumps(EVENTS[name]).replace("acme", CANARY).replace("room42", CANARY))
    seen = set()
    for path in places(event):
        for wrong in (
            CANARY,
            "",
            [CANARY],
            {CANARY: CANARY},
            {CANARY: [CANARY]},
            10**400,
            CANARY * 200,
            [[CANARY]],
        ):
            value = as_bytes(replaced(event, path, wrong))
            for record, headers in (
                (value, []),
                (value, ce(EVENT_TYPES[name])),
                (value.replace(b"}", CANARY.encode(), 1), []),
                (value.replace(b'"', b"\xff", 1), []),
                (value[:-1] + f',"{CANARY}":1,"{CANARY}":2}}'.encode(), []),
            ):
                found = decode(CANARY.encode(), record, headers, NOON)
                if isinstance(found, Invalid):
                    seen.add(found.reason)
                    assert CANARY.lower() not in found.detail.lower()
                else:
                    assert CANARY not in f"{found!r} {found}".replace(f"_id='{CANARY}", "")
    assert seen >= {"json", "encoding", "schema", "time"}


def test_no_detail_ever_shows_what_an_envelope_holds() -> None:
    for name in ("specversion", "id", "source", "type", "data", "data_base64", "traceparent"):
        for wrong in (CANARY, [CANARY], {CANARY: CANARY}):
            found = decode(None, *structured(envelope(FULL) | {name: wrong}), NOON)
            assert not isinstance(found, Invalid) or CANARY not in found.detail
    for name in ("specversion", "id", "source", "type"):
        for text in (CANARY, CANARY + "\udcff"):
            raw = text.encode(errors="surrogateescape")
            found = decode(None, TEXT, [*ce(), (f"ce_{name}", raw)], NOON)
            assert not isinstance(found, Invalid) or CANARY not in found.detail
    for media in (f"{STRUCTURED}; charset={CANARY}", f"application/cloudevents+{CANARY}"):
        assert CANARY.lower() not in refuse(*structured(envelope(FULL), media)).detail.lower()


def test_models_show_ids_only() -> None:
    verdict = read(as_bytes(FULL)).event
    for part in (verdict, verdict.stream, verdict.stream.session, verdict.stream.targets):
        for text in (repr(part), str(part), f"{part}"):
            assert "room42" not in text
            assert "acme" not in text
    assert "v-20261122-0001" in repr(verdict)
