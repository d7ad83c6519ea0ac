"""The published schemas: up to date, true to the codec, and complete."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from pydantic import TypeAdapter
from referencing import Registry, Resource

from worker.events.codec import MARKS, RESULT_TYPE, TYPES, Decoded, InvalidReason, decode
from worker.events.control import read
from worker.events.examples import EXAMPLES, NOON
from worker.events.result import Result
from worker.events.schemas import DIALECT, FILES, asyncapi, cloudevent, generate, schema
from worker.events.times import parse_rfc3339
from worker.settings import Topics

PUBLISHED = Path(__file__).parents[2] / "schemas"
SCHEMAS = {name: schema(name) for name in FILES} | {"cloudevent": cloudevent()}
REGISTRY: Registry[Any] = Registry().with_resources(
    (each["$id"], Resource.from_contents(each)) for each in SCHEMAS.values()
)


def validator(name: str) -> Validator:
    return Draft202012Validator(SCHEMAS[name], registry=REGISTRY, format_checker=FormatChecker())


RESULT = TypeAdapter(Result)
VALIDATORS = {name: validator(name) for name in SCHEMAS}


def schema_of(example: str) -> str:
    return next(name for name in SCHEMAS if example.startswith(name))


def test_the_published_schemas_are_up_to_date(tmp_path: Path) -> None:
    made = {path.relative_to(tmp_path): path.read_bytes() for path in generate(tmp_path)}
    there = {
        path.relative_to(PUBLISHED): path.read_bytes() for path in PUBLISHED.rglob("*") if path.is_file()
    }
    assert made == there, "run: moderation-worker schemas --out schemas"


def test_another_process_writes_the_same(tmp_path: Path) -> None:
    program = "import pathlib, sys, worker.events.schemas as s; s.generate(pathlib.Path(sys.argv[1]))"
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        cwd=PUBLISHED.parent,
        env={"PYTHONHASHSEED": "7"},
    )
    for path in generate(tmp_path / "here"):
        assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "here")).read_bytes()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == DIALECT
    assert SCHEMAS[name]["$id"].startswith("urn:")
    assert SCHEMAS[name]["title"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_object_and_field_is_described(name: str) -> None:
    body = SCHEMAS[name]
    for each in (body, *body.get("$defs", {}).values()):
        assert each["description"], each["title"]
        for field, about in each["properties"].items():
            assert about.get("description"), f"{each['title']}.{field}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_fits_its_schema_and_reads_as_the_codec_reads(name: str) -> None:
    example = EXAMPLES[name]
    VALIDATORS[schema_of(name)].validate(example)
    raw = json.dumps(example)
    if name.startswith("result"):
        assert json.loads(RESULT.dump_json(RESULT.validate_json(_in_millis(example)))) == example
    elif name.startswith("control"):
        key = {"control-pause": b"pause/all", "control-partitions": b"partitions"}.get(name, b"guard/blast")
        found = read(key, raw.encode())
        assert isinstance(found, FILES[schema_of(name)])
        assert found == FILES[schema_of(name)].model_validate_json(raw)
    else:
        structured = name.startswith("cloudevent")
        headers = [("content-type", b"application/cloudevents+json")] if structured else []
        assert isinstance(decode(None, raw.encode(), headers, NOON), Decoded)


def _in_millis(example: dict[str, Any]) -> str:
    """A result as JSON with moments as its model holds them."""

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: inside(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [inside(inner) for inner in value]
        try:
            return parse_rfc3339(value)
        except ValueError:
            return value

    return json.dumps(inside(example))


def test_there_is_an_example_of_everything() -> None:
    assert {schema_of(name) for name in EXAMPLES} == set(SCHEMAS)
    kinds = {
        example.get("kind", "violation") for name, example in EXAMPLES.items() if name.startswith("verdict")
    }
    assert kinds == {"violation", "clear", "withdraw"}
    commands = {example["command"] for name, example in EXAMPLES.items() if name.startswith("command")}
    assert commands == {"release", "approve", "reject", "extend", "query"}


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in inner:
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


PLAIN = {
    name: example
    for name, example in EXAMPLES.items()
    if not schema_of(name).startswith(("result", "cloudevent", "control"))
}
GONE = "gone"
MOMENT = "2026-11-22T10:00:00Z"
PIECES: list[Any] = [
    *(None, True, 0, 0.5, 1, 601, "", "x", "x" * 201, "x" * 513, GONE),
    *("high", "forbid", "withdraw", "clear", "extend", "CN", "XX", MOMENT, "2026-11-22"),
    *([], [None], ["CN"], ["x"], {}, {"id": "s"}, {"a": "b"}, {"key": "k"}),
    *({"for_s": 5}, {"for_s": 5, "until": None}, {"for_s": 5, "until": MOMENT}),
]


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, Any]:
    """An example with one to three of its parts replaced or taken away."""
    name = draw(st.sampled_from(list(PLAIN)))
    document = copy.deepcopy(PLAIN[name])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(document)) or [("verdict_id",)]))
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        piece = draw(st.sampled_from(PIECES))
        if piece is not GONE:
            inner[path[-1]] = copy.deepcopy(piece)
        else:
            del inner[path[-1]]
    return name, document


@settings(max_examples=400, deadline=None)
@given(edited())
def test_the_schemas_allow_exactly_what_the_codec_takes(case: tuple[str, Any]) -> None:
    name, document = case
    (mark,) = (mark for mark in MARKS if mark in PLAIN[name])
    ce_type = next(ce_type for ce_type, model in TYPES.items() if model is MARKS[mark])
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e"),
        ("ce_source", b"/"),
        ("ce_type", ce_type.encode()),
    ]
    taken = decode(None, json.dumps(document).encode(), headers, NOON)
    allowed = VALIDATORS[schema_of(name)].is_valid(document)
    assert allowed == isinstance(taken, Decoded), (document, taken)


DOCUMENT: dict[str, Any] = yaml.safe_load((PUBLISHED / "asyncapi.yaml").read_text())


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 15
    for reference in found:
        if reference.startswith("#/"):
            node = DOCUMENT
            for step in reference.removeprefix("#/").split("/"):
                node = node[step]
        else:
            assert json.loads((PUBLISHED / reference).read_text())["$id"]


def test_the_asyncapi_document_has_the_shape_of_version_3() -> None:
    # The official schema of AsyncAPI comes in no Python package; this checks what it demands of us.
    assert asyncapi() == DOCUMENT
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) <= {
        "asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"
    }  # fmt: skip
    topics = Topics()
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {
        topics.verdicts, topics.results, topics.state, topics.dead_letters, topics.control
    }  # fmt: skip
    for channel in DOCUMENT["channels"].values():
        assert channel["messages"]
        assert channel["bindings"]["kafka"]["topic"] == channel["address"]
    used = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"send", "receive"}
    for message in DOCUMENT["components"]["messages"].values():
        assert {"title", "contentType", "payload", "bindings"} <= set(message)
        assert message["bindings"]["kafka"]["key"]["type"] == "string"


def test_the_asyncapi_document_names_the_headers_we_write_and_read() -> None:
    messages = DOCUMENT["components"]["messages"]
    named = {
        message["headers"]["properties"]["ce_type"]["const"]: message["payload"]["$ref"]
        for message in messages.values()
        if "ce_type" in message.get("headers", {}).get("properties", {})
    }
    files = [f"./{name}.schema.json" for name in FILES if not name.startswith("control")]
    assert named == dict(zip([*TYPES, RESULT_TYPE], files, strict=True))
    reasons = messages["deadLetter"]["headers"]["properties"]["dead_letter_reason"]["enum"]
    assert reasons == list(get_args(InvalidReason))
