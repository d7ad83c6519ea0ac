"""Results, dead letters and forwarded records, as they are written."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from worker.events.codec import Invalid, dead_letter, decode, encode_result, forward
from worker.events.examples import EXAMPLES, FULL, NOON
from worker.events.result import (
    Attempt,
    Observation,
    Result,
    ResultError,
    ResultStream,
    ResultTarget,
    Timing,
    WorkerRef,
)
from worker.events.schemas import schema

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
VALIDATOR = Draft202012Validator(schema("result"), format_checker=FormatChecker())


def result(**more: Any) -> Result:
    """A result with everything in it."""
    fields: dict[str, Any] = {
        "result_id": "r-1",
        "verdict_id": "v-1",
        "command_id": None,
        "stream": ResultStream(key="acme/room42", session_id="s-77"),
        "tenant": "acme",
        "target": ResultTarget(
            account="hw",
            vendor="huawei",
            push_domain="p.example",
            play_domain=None,
            app="live",
            stream="room42",
        ),
        "outcome": "failed",
        "terminal": True,
        "action": "forbid",
        "until": NOON,
        "regions": ("CN",),
        "hold": "h",
        "rule": "nudity-high",
        "policy_version": "2026-11-01",
        "reason": "gave_up",
        "detail": "The vendor could not be reached.",
        "caused_by": None,
        "attempts": (
            Attempt(
                n=1,
                operation="block",
                at=NOON + 1,
                duration_ms=41,
                http_status=None,
                vendor_code=None,
                vendor_request_id=None,
                outcome="unreachable",
            ),
        ),
        "timing": Timing(detected_at=NOON - 5000),
        "error": ResultError(kind="network", message="No answer."),
        "observed": Observation(forbidden=False),
        "mode": "live",
        "worker": WorkerRef(instance="worker-0", version="1"),
        "at": NOON + 999,
    }
    return Result(**(fields | more))


def test_a_result_is_a_cloudevent_in_binary_mode() -> None:
    record = encode_result(result(traceparent=TRACE), "results", "/worker/0")
    assert (record.topic, record.key, record.partition) == ("results", b"acme/room42", None)
    assert record.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"r-1"),
        ("ce_type", b"moderation.result.v1"),
        ("ce_source", b"/worker/0"),
        ("ce_time", b"2026-11-22T12:00:00.999Z"),
        ("ce_subject", b"acme/room42"),
        ("content-type", b"application/json"),
        ("ce_traceparent", TRACE.encode()),
    ]


def test_the_data_of_a_result_are_as_the_contract_says() -> None:
    record = encode_result(result(traceparent=TRACE), "results", "/worker/0")
    assert record.value is not None
    data = json.loads(record.value)
    VALIDATOR.validate(data)
    assert list(data) == list(EXAMPLES["result-failed"])
    assert data["error"] == {"class": "network", "message": "No answer."}
    assert data["until"] == "2026-11-22T12:00:00Z"
    assert data["attempts"][0]["at"] == "2026-11-22T12:00:00.001Z"
    assert data["timing"] == {
        "detected_at": "2026-11-22T11:59:55Z",
        "received_at": None,
        "decided_at": None,
        "called_at": None,
        "answered_at": None,
        "verified_at": None,
    }
    assert data["observed"]["forbidden"] is False


def test_without_a_traceparent_there_is_no_header_for_it() -> None:
    names = [name for name, _ in encode_result(result(), "results", "/w").headers]
    assert "ce_traceparent" not in names


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])),
    until=st.none() | st.integers(0, 10**17),
    detail=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
)
def test_any_key_and_text_goes_out_and_fits_the_schema(key: str, until: int | None, detail: str) -> None:
    made = result(stream=ResultStream(key=key), until=until, detail=detail)
    record = encode_result(made, "results", "/w")
    assert record.value is not None
    data = json.loads(record.value)
    VALIDATOR.validate(data)
    assert record.key == key.encode() == dict(record.headers)["ce_subject"]
    assert (data["stream"]["key"], data["detail"]) == (key, detail)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "maybe"},
        {"terminal": None},
        {"verdict_id": None},
        {"command_id": "c-1"},
        {"outcome": "held"},
        {"until": "tomorrow"},
        {"target": {}},
        {"worker": None},
        {"error": {"kind": "network", "message": ""}},
    ],
)
def test_the_result_schema_tells_right_from_wrong(change: dict[str, Any]) -> None:
    good = EXAMPLES["result-failed"]
    VALIDATOR.validate(good)
    with pytest.raises(ValidationError):
        VALIDATOR.validate(good | change)


@pytest.mark.parametrize("field", EXAMPLES["result-failed"])
def test_every_field_of_a_result_is_always_there(field: str) -> None:
    shortened = {name: value for name, value in EXAMPLES["result-failed"].items() if name != field}
    with pytest.raises(ValidationError, match=f"'{field}' is a required property"):
        VALIDATOR.validate(shortened)


def test_results_show_ids_only() -> None:
    made = result()
    for part in (made, made.stream, made.target, made.attempts, made.observed):
        assert "room42" not in f"{part!r} {part}"
    assert "r-1" in repr(made)


def test_a_dead_letter_is_the_record_and_behind_it_why_and_whence() -> None:
    headers = [("a", b"\x00\xff"), ("dead_letter_reason", b"older"), ("a", b"")]
    letter = dead_letter(
        b"\xff",
        b"\x00not json",
        headers,
        topic="verdicts",
        partition=3,
        offset=4_000_000_000,
        invalid=Invalid("json", "expected JSON"),
        dead_letter_topic="dead",
    )
    assert (letter.topic, letter.key, letter.value, letter.partition) == (
        "dead",
        b"\xff",
        b"\x00not json",
        None,
    )
    assert letter.headers == [
        *headers,
        ("dead_letter_reason", b"json"),
        ("dead_letter_detail", b"expected JSON"),
        ("source_topic", b"verdicts"),
        ("source_partition", b"3"),
        ("source_offset", b"4000000000"),
    ]


def test_a_dead_letter_keeps_a_tombstone_a_tombstone() -> None:
    invalid = decode(None, None, [], NOON)
    assert isinstance(invalid, Invalid)
    letter = dead_letter(
        None, None, [], topic="t", partition=0, offset=0, invalid=invalid, dead_letter_topic="d"
    )
    assert (letter.key, letter.value) == (None, None)


def test_a_forwarded_record_is_the_record_and_behind_it_its_origin() -> None:
    value = json.dumps(FULL).encode()
    headers = [("traceparent", TRACE.encode())]
    record = forward(None, value, headers, topic="verdicts", partition=5, offset=42, home=1)
    assert (record.topic, record.key, record.value, record.partition) == ("verdicts", None, value, 1)
    assert record.headers == [*headers, ("forwarded_from", b"5@42")]
    assert decode(record.key, record.value, record.headers, NOON) == decode(None, value, headers, NOON)
