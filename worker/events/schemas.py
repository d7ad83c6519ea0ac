"""Generated descriptions of the wire: JSON Schemas (2020-12), an AsyncAPI document, and examples.

The schemas come from the models, so they say what the worker does. Output is deterministic.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from worker.events.codec import MAX_VALUE, RESULT_TYPE, TYPES, InvalidReason
from worker.events.control import LetGo, Pause, Ruling
from worker.events.examples import EXAMPLES
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.events.result import Result
from worker.settings import Topics

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILES: Mapping[str, type[Any]] = {
    "verdict": Verdict,
    "command": Command,
    "stream-event": StreamEvent,
    "result": Result,
    "control-pause": Pause,
    "control-guard": Ruling,
    "control-partitions": LetGo,
}
"""The schema files' names, and the models they come from."""

Json = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without the titles it makes up for fields."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the answer is always the same
        """Say no: a field's name is title enough."""
        return False


def generate(out: Path) -> list[Path]:
    """Write everything below ``out`` (made where missing) and return the files, in order."""
    texts = {f"{name}.schema.json": _json(schema(name)) for name in FILES}
    texts["cloudevent.schema.json"] = _json(cloudevent())
    texts["asyncapi.yaml"] = yaml.safe_dump(asyncapi(), sort_keys=False, width=100, allow_unicode=True)
    texts |= {f"examples/{name}.json": _json(example) for name, example in EXAMPLES.items()}
    (out / "examples").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def schema(name: str) -> Json:
    """Return the JSON Schema of one of ``FILES``."""
    model = FILES[name]
    mode: JsonSchemaMode = "serialization" if model is Result else "validation"
    body = TypeAdapter(model).json_schema(schema_generator=_Generator, mode=mode)
    if mode == "validation":
        for each in (body, *body.get("$defs", {}).values()):
            _allow_null(each)
    return {"$schema": DIALECT, "$id": urn(name)} | body


def urn(name: str) -> str:
    """Return the ``$id`` of a schema."""
    return f"urn:moderation-worker:schema:{name}:v1"


def cloudevent() -> Json:
    """Return the JSON Schema of an incoming event in CloudEvents structured mode."""
    text = {"type": "string", "minLength": 1}
    return {
        "$schema": DIALECT,
        "$id": urn("cloudevent"),
        "title": "CloudEvent",
        "description": "An incoming event in CloudEvents 1.0 structured mode.",
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0", "description": "The version of CloudEvents."},
            "id": text | {"description": "Identity of the message; the event's own id is in the data."},
            "source": text | {"description": "A URI reference that names the upstream."},
            "type": {"enum": list(TYPES), "description": "What the data is."},
            "traceparent": {"type": "string", "description": "W3C Trace Context, copied into results."},
            "data": {"description": "The event."},
            "data_base64": {
                "type": "string",
                "contentEncoding": "base64",
                "description": "The event as the base64 of its JSON text; instead of data.",
            },
        },
        "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        "allOf": [
            {
                "if": {"properties": {"type": {"const": ce_type}}},
                "then": {"properties": {"data": {"$ref": urn(name)}}},
            }
            for ce_type, name in zip(TYPES, FILES, strict=False)
        ],
    }


def _allow_null(body: Json) -> None:
    """Let every field that may be absent be null too, as the codec does."""
    properties: Json = body.get("properties", {})
    for name, field in properties.items():
        if name in body.get("required", ()) or {"type": "null"} in field.get("anyOf", ()):
            continue
        said = {word: field.pop(word) for word in ("default", "description") if word in field}
        properties[name] = {"anyOf": [field, {"type": "null"}]} | said


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("``", "`") + "\n"


def asyncapi() -> Json:
    """Return the AsyncAPI 3.0.0 document: the five topics as the worker uses them."""
    topics = Topics()
    return {
        "asyncapi": "3.0.0",
        "id": "urn:moderation-worker",
        "info": {
            "title": "moderation-worker",
            "version": "1.0.0",
            "description": (
                "Reads moderation verdicts and commands, makes live streams stop at their CDN, and "
                "publishes what became of each.\n\nAn incoming event is accepted in CloudEvents 1.0 "
                "binary mode, in structured mode (`cloudevent.schema.json`), or as its data alone. "
                f"Values are at most {MAX_VALUE} bytes of UTF-8 JSON. Topic names are the defaults."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "verdicts": _channel(
                topics.verdicts,
                "Verdicts, commands and stream events, keyed by stream.",
                "verdict",
                "command",
                "streamEvent",
            ),
            "results": _channel(
                topics.results,
                "One result per change; exactly one is terminal per verdict or command and target.",
                "result",
            ),
            "streamState": _channel(
                topics.state, "The worker's own state of each stream; compacted.", "streamState", compact=True
            ),
            "deadLetters": _channel(
                topics.dead_letters, "Records that could not be understood, as they were.", "deadLetter"
            ),
            "control": _channel(
                topics.control,
                "Pauses, and rulings about guards, read by every replica. A tombstone (null) ends a scope.",
                "pause",
                "ruling",
                "letGo",
                compact=True,
            ),
        },
        "operations": {
            "receiveEvents": _operation("receive", "verdicts", "Take in verdicts, commands, stream events."),
            "forwardEvents": _operation("send", "verdicts", "Forward a record to its home partition."),
            "sendResults": _operation("send", "results", "Tell what became of an event."),
            "sendStreamState": _operation("send", "streamState", "Remember a stream."),
            "receiveStreamState": _operation("receive", "streamState", "Restore a partition's streams."),
            "sendDeadLetters": _operation("send", "deadLetters", "Put aside what cannot be understood."),
            "receiveControl": _operation("receive", "control", "Obey pauses and guard releases."),
        },
        "components": {"messages": _messages()},
    }


def _channel(address: str, description: str, *messages: str, compact: bool = False) -> Json:
    kafka: Json = {"topic": address, "bindingVersion": "0.5.0"}
    if compact:
        kafka["topicConfiguration"] = {"cleanup.policy": ["compact"]}
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": kafka},
    }


def _operation(action: Literal["send", "receive"], channel: str, summary: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _messages() -> Json:
    verdict, command, stream = TYPES
    own = "The worker's own; not an interface. A tombstone (null) removes it."
    reasons = {"type": "string", "enum": list(get_args(InvalidReason))}
    return {
        "verdict": _message("Verdict", "verdict", _incoming_headers(verdict)),
        "command": _message("Command", "command", _incoming_headers(command)),
        "streamEvent": _message("Stream event", "stream-event", _incoming_headers(stream)),
        "result": _message("Result", "result", _result_headers()),
        "streamState": _message("Stream state", {"description": own}),
        "deadLetter": _message(
            "Dead letter",
            {"description": "The original value, byte for byte: anything, or null."},
            _headers(
                "The original headers, and behind them these.",
                {
                    "dead_letter_reason": reasons | {"description": "What is wrong."},
                    "dead_letter_detail": _text("Names the field and what was expected, no content."),
                    "source_topic": _text("Where the record lay."),
                    "source_partition": _text("Its partition, as decimal text."),
                    "source_offset": _text("Its offset, as decimal text."),
                },
                required=True,
            ),
            key="The original key, or null.",
        ),
        "pause": _message(
            "Control: pause", "control-pause", key="pause/all, pause/account/NAME or pause/tenant/NAME."
        ),
        "ruling": _message("Control: guard", "control-guard", key="guard/NAME."),
        "letGo": _message("Control: partitions", "control-partitions", key="partitions."),
    }


def _message(
    title: str, payload: str | Json, headers: Json | None = None, key: str = "The stream's key, in UTF-8."
) -> Json:
    if isinstance(payload, str):
        payload = {"$ref": f"./{payload}.schema.json"}
    message: Json = {"title": title, "contentType": "application/json", "payload": payload}
    if headers:
        message["headers"] = headers
    message["bindings"] = {"kafka": {"key": _text(key), "bindingVersion": "0.5.0"}}
    return message


def _incoming_headers(ce_type: str) -> Json:
    properties = _envelope(ce_type) | {
        "traceparent": _text("W3C Trace Context; also as ce_traceparent."),
        "forwarded_from": _text("Where the record lay before it was forwarded: partition@offset."),
    }
    return _headers(
        "CloudEvents binary mode; without any ce_ header the data speak for themselves.", properties
    )


def _result_headers() -> Json:
    subject = {
        "ce_time": {"type": "string", "format": "date-time", "description": "When the result was made."},
        "ce_subject": _text("The stream's key."),
        "content-type": {"const": "application/json", "description": "What the value is."},
    }
    body = _headers("CloudEvents binary mode.", _envelope(RESULT_TYPE) | subject, required=True)
    body["properties"]["ce_traceparent"] = _text("W3C Trace Context of the answered event, if it had one.")
    return body


def _envelope(ce_type: str) -> Json:
    return {
        "ce_specversion": {"const": "1.0", "description": "The version of CloudEvents."},
        "ce_id": _text("Identity of the message."),
        "ce_source": _text("A URI reference that names the sender."),
        "ce_type": {"const": ce_type, "description": "What the value is."},
    }


def _headers(description: str, properties: Json, *, required: bool = False) -> Json:
    body: Json = {"type": "object", "description": description, "properties": properties}
    return body | {"required": list(properties)} if required else body


def _text(description: str) -> Json:
    return {"type": "string", "description": description}
