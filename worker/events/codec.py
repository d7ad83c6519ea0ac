"""Bytes -> events, results -> bytes, and the two records that carry a foreign record on.

A record is read in three forms, and means the same in each (CloudEvents 1.0.2, Kafka protocol binding):

- content type ``application/cloudevents+json``: the value is an envelope with the event in ``data``;
- any ``ce_*`` header: the headers are the envelope, the value is the event;
- neither: the value is the event, and ``verdict_id``, ``command_id`` or ``stream_event`` says which.

Header names are compared without regard to case; of several equal ones the last counts, as in Kafka's own
clients. In an event, null means absent. Whatever is wrong with a record becomes an Invalid, no exception.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, NoReturn

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from worker.events.incoming import FIELDS, Command, Event, StreamEvent, Verdict
from worker.events.result import Result
from worker.events.times import format_rfc3339
from worker.runtime.messages import Headers, Record
from worker.words import Millis, value

InvalidReason = Literal["oversize", "encoding", "json", "envelope", "type", "schema", "enum", "time"]

MAX_VALUE = 262_144
"""The longest value that is looked at, in bytes."""
MAX_AHEAD: Millis = 300_000
"""How far ahead of our clock a ``detected_at`` may be."""
RESULT_TYPE = "moderation.result.v1"
_RESULT_TYPE = RESULT_TYPE.encode()
TYPES: Mapping[str, type[Event]] = {
    "moderation.verdict.v1": Verdict,
    "moderation.command.v1": Command,
    "moderation.stream.v1": StreamEvent,
}
"""The CloudEvents types that are understood."""
MARKS: Mapping[str, type[Event]] = {
    "verdict_id": Verdict,
    "command_id": Command,
    "stream_event": StreamEvent,
}
"""The field that tells what a plain record is."""
FORWARDED_FROM = "forwarded_from"

_ENVELOPE = ("specversion", "id", "source", "type")
_STRUCTURED = b"application/cloudevents+json"
_UTF8_BOM = b"\xef\xbb\xbf"
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch
_REASONS: Mapping[str, InvalidReason] = {"time": "time", "enum": "enum", "literal_error": "enum"}
_EXPECTED = {
    "missing": "required",
    "model_type": "expected an object",
    "dict_type": "expected an object",
    "tuple_type": "expected an array",
}
_PROBLEMS_SHOWN = 5
_RESULT = TypeAdapter(Result).serializer


@value()
class Decoded:
    """An event that is understood. ``traceparent`` is a well-formed W3C one, or None."""

    event: Event
    stream_key: str = field(repr=False)
    traceparent: str | None


@value()
class Invalid:
    """Why a record is not understood. ``detail`` names fields and what was expected, never their content."""

    reason: InvalidReason
    detail: str


class _UnfitError(Exception):
    """Carries an Invalid out of the depths of decoding; never leaves this module."""

    def __init__(self, reason: InvalidReason, detail: str) -> None:
        super().__init__(detail)
        self.invalid = Invalid(reason, detail)


def decode(
    key: bytes | None,  # noqa: ARG001 - the stream's key in the event counts, whatever the record's key is
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    now: Millis,
) -> Decoded | Invalid:
    """Return what a record of the verdict topic says, or why it says nothing. Never raises."""
    try:
        return _decode(value, headers, now)
    except _UnfitError as unfit:
        return unfit.invalid


def _decode(value: bytes | None, headers: Sequence[tuple[str, bytes | None]], now: Millis) -> Decoded:
    if value is None:
        raise _UnfitError("json", "expected a JSON object, found no value (a tombstone)")
    if len(value) > MAX_VALUE:
        raise _UnfitError("oversize", f"expected at most {MAX_VALUE} bytes")
    if not headers:
        data = _parse(value)
        event = _in_time(_validate(_marked(data), data), now)
        return Decoded(event, event.stream.key, None)
    named = {name.lower(): raw or b"" for name, raw in headers}
    content_type = named.get("content-type", b"").lower()
    inner_trace = None
    if content_type.startswith(b"application/cloudevents"):
        envelope = _structured(value, content_type)
        model, data = _model(envelope), _data(envelope)
        inner_trace = envelope.get("traceparent")
    elif any(name.startswith("ce_") for name in named):
        model, data = _model(_binary(named)), _parse(value)
    else:
        data = _parse(value)
        model = _marked(data)
    event = _in_time(_validate(model, data), now)
    return Decoded(
        event,
        event.stream.key,
        _traceparent(named.get("ce_traceparent"), named.get("traceparent"), inner_trace),
    )


def _structured(value: bytes, content_type: bytes) -> dict[str, Any]:
    """Return the envelope of a record in structured mode."""
    media, *parameters = (part.strip() for part in content_type.split(b";"))
    if media != _STRUCTURED:
        raise _UnfitError("envelope", f"content-type: expected {_STRUCTURED.decode()}")
    for parameter in parameters:
        name, _, charset = parameter.partition(b"=")
        if name.strip() == b"charset" and charset.strip(b' "') not in {b"utf-8", b"utf8", b"us-ascii"}:
            raise _UnfitError("encoding", "content-type: expected charset utf-8")
    envelope = _parse(value)
    if not isinstance(envelope, dict):
        raise _UnfitError("envelope", "expected a CloudEvents object")
    return envelope


def _binary(named: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the envelope that the headers make; what is missing is empty."""
    envelope = {}
    for name in _ENVELOPE:
        try:
            envelope[name] = named.get(f"ce_{name}", b"").decode()
        except UnicodeDecodeError:
            raise _UnfitError("envelope", f"ce_{name}: expected UTF-8") from None
    return envelope


def _model(envelope: Mapping[str, Any]) -> type[Event]:
    """Return the model an envelope asks for; refuse an envelope that is none."""
    for name in _ENVELOPE:
        attribute = envelope.get(name)
        if not isinstance(attribute, str) or not attribute:
            raise _UnfitError("envelope", f"{name}: expected a CloudEvents attribute, a string")
    if envelope["specversion"] != "1.0":
        raise _UnfitError("envelope", "specversion: expected 1.0")
    model = TYPES.get(envelope["type"])
    if model is None:
        raise _UnfitError("type", f"type: expected {' or '.join(TYPES)}")
    return model


def _data(envelope: Mapping[str, Any]) -> Any:
    """Return the event in an envelope, from ``data`` or ``data_base64``."""
    data, encoded = envelope.get("data"), envelope.get("data_base64")
    if (data is None) == (encoded is None):
        raise _UnfitError("envelope", "expected either data or data_base64")
    if encoded is None:
        return data
    try:
        return _parse(b64decode(encoded, validate=True))
    except (TypeError, ValueError):
        raise _UnfitError("envelope", "data_base64: expected base64") from None


def _marked(data: Any) -> type[Event]:
    """Return the model of a plain record."""
    if not isinstance(data, dict):
        raise _UnfitError("schema", "expected an object")
    found = [model for mark, model in MARKS.items() if data.get(mark) is not None]
    if len(found) != 1:
        raise _UnfitError("type", f"expected exactly one of {', '.join(MARKS)}")
    return found[0]


def _parse(raw: bytes) -> Any:
    """Return the JSON document in some bytes: UTF-8, finite numbers, no name twice in an object."""
    try:
        document = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        _refuse_text(raw)
        raise _UnfitError("json", f"expected JSON: {error}") from None
    # Of members with one name the parser keeps the last. Every string takes two quotes, so if the quotes
    # just suffice for the strings it kept, it dropped no member. Otherwise (or with \" inside) look closely.
    if raw.count(b'"') != 2 * _strings(document):
        json.loads(raw, object_pairs_hook=_refuse_repeated)
    return document


def _refuse_text(raw: bytes) -> None:
    """Say so if what could not be parsed is not UTF-8 text in the first place."""
    if raw.startswith(_UTF8_BOM):
        raise _UnfitError("encoding", "expected UTF-8 without a byte order mark")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise _UnfitError("encoding", f"expected UTF-8, fails at byte {error.start}") from None
    if b"\0" in raw:
        raise _UnfitError("encoding", "expected UTF-8, found zero bytes as in UTF-16 or UTF-32")


def _strings(document: Any) -> int:
    """Return how many strings a document has, names of members included."""
    count, inner = 0, [document]
    for each in inner:  # grows under way
        kind = type(each)
        if kind is str:
            count += 1
        elif kind is dict:
            count += len(each)
            inner += each.values()
        elif kind is list:
            inner += each
    return count


def _refuse_repeated(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise _UnfitError("json", "expected every name once in an object")


def _validate(model: type[Event], data: Any) -> Event:
    try:
        return model.model_validate(data)
    except ValidationError:
        try:
            return model.model_validate(_without_nulls(data))
        except ValidationError as error:
            _refuse(error.errors(include_url=False, include_input=False))


def _without_nulls(data: Any) -> Any:
    """Return a document without the members that are null: many serialisers write absent fields so."""
    if isinstance(data, dict):
        return {name: _without_nulls(inner) for name, inner in data.items() if inner is not None}
    if isinstance(data, list):
        return [_without_nulls(inner) for inner in data]
    return data


def _refuse(errors: Sequence[ErrorDetails]) -> NoReturn:
    """Raise the first problem's reason, with a detail that lists the first few."""
    raise _UnfitError(
        _REASONS.get(errors[0]["type"], "schema"), "; ".join(map(_problem, errors[:_PROBLEMS_SHOWN]))
    )


def _problem(error: ErrorDetails) -> str:
    """Return one problem as ``stream.targets[0].app: required``, without a word of the record."""
    kind = error["type"]
    if kind == "literal_error":
        expected = f"expected {error['ctx']['expected']}"
    else:
        expected = _EXPECTED.get(kind) or error["msg"].replace("Input should be", "expected")
    path = _path(error["loc"])
    return f"{path}: {expected}" if path else expected


def _path(parts: Iterable[str | int]) -> str:
    """Return where a problem is. A name that is not ours (a label's) is content, and shown as ``*``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part if part in FIELDS else '*'}"
    return text.removeprefix(".")


def _in_time(event: Event, now: Millis) -> Event:
    """Return the event with a ``detected_at`` that is not in the future.

    A broadcast that starts later than that would end every real one, so it is not believed either.
    """
    session = event.stream.session
    if session is not None and session.started_at is not None and session.started_at > now + MAX_AHEAD:
        raise _UnfitError("time", "stream.session.started_at: expected at most 5 minutes ahead of now")
    if not isinstance(event, Verdict) or event.detected_at <= now:
        return event
    if event.detected_at > now + MAX_AHEAD:
        raise _UnfitError("time", "detected_at: expected at most 5 minutes ahead of now")
    return event.model_copy(update={"detected_at": now})


def _traceparent(*candidates: Any) -> str | None:
    """Return the first well-formed traceparent (W3C Trace Context level 1), or None."""
    for candidate in candidates:
        raw = candidate.encode(errors="replace") if isinstance(candidate, str) else candidate
        if isinstance(raw, bytes) and _TRACEPARENT(raw):
            return raw.decode()
    return None


def encode_result(result: Result, topic: str, source: str, partition: int | None = None) -> Record:
    """Return a result as a CloudEvent in binary mode; ``source`` is a URI reference that names the worker."""
    key = result.stream.key.encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", result.result_id.encode()),
        ("ce_type", _RESULT_TYPE),
        ("ce_source", source.encode()),
        ("ce_time", format_rfc3339(result.at).encode()),
        ("ce_subject", key),
        ("content-type", b"application/json"),
    ]
    if result.traceparent is not None:
        headers.append(("ce_traceparent", result.traceparent.encode()))
    return Record(topic, key, _RESULT.to_json(result), headers, partition)


def dead_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    topic: str,
    partition: int,
    offset: int,
    invalid: Invalid,
    dead_letter_topic: str,
) -> Record:
    """Return an invalid record as it goes aside: as it was, with headers behind that say why and whence."""
    why = [
        ("dead_letter_reason", invalid.reason),
        ("dead_letter_detail", invalid.detail),
        ("source_topic", topic),
        ("source_partition", str(partition)),
        ("source_offset", str(offset)),
    ]
    return Record(dead_letter_topic, key, value, [*headers, *((name, text.encode()) for name, text in why)])


def forward(
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    topic: str,
    partition: int,
    offset: int,
    home: int,
) -> Record:
    """Return a record as it goes to its home partition: as it was, with its origin behind."""
    origin = (FORWARDED_FROM, f"{partition}@{offset}".encode())
    return Record(topic, key, value, [*headers, origin], partition=home)
