"""What goes out: the result, one for each change (``moderation.result.v1``)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from worker.core.outcome import OutcomeWord
from worker.events.times import TimeOut
from worker.words import Action, ErrorClass, Millis, Mode, ResultOutcome


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ResultStream(_Model):
    """The stream, and the broadcast the answered event named."""

    key: str
    session_id: str | None = None


class ResultTarget(_Model):
    """The target a result is about; ``vendor`` is null when its account is not configured."""

    account: str
    vendor: str | None
    push_domain: str | None
    play_domain: str | None
    app: str
    stream: str


class Attempt(_Model):
    """One request on the wire."""

    n: int
    operation: str
    at: TimeOut
    duration_ms: Millis | None
    http_status: int | None
    vendor_code: str | None
    vendor_request_id: str | None
    outcome: OutcomeWord


class Timing(_Model):
    """When what happened; null where it did not, or not yet."""

    detected_at: TimeOut | None = None
    received_at: TimeOut | None = None
    decided_at: TimeOut | None = None
    called_at: TimeOut | None = None
    answered_at: TimeOut | None = None
    verified_at: TimeOut | None = None


class ResultError(_Model):
    """Why it was given up. ``class`` on the wire, ``kind`` in code."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, validate_by_name=True)

    kind: Annotated[ErrorClass, Field(alias="class")]
    message: str


class WorkerRef(_Model):
    """Who says so."""

    instance: str
    version: str


class Observation(_Model):
    """What a query found at a target; null where the vendor cannot tell."""

    forbidden: bool | None = None
    forbidden_until: TimeOut | None = None
    live: bool | None = None
    live_since: TimeOut | None = None
    regions: tuple[str, ...] | None = None
    regions_until: TimeOut | None = None


class Result(_Model):
    """What became of one event at one target. Exactly one for each event and target is terminal."""

    result_id: str
    verdict_id: str | None
    command_id: str | None
    stream: ResultStream
    tenant: str | None
    target: ResultTarget | None
    outcome: ResultOutcome
    terminal: bool
    action: Action | None
    until: TimeOut | None
    regions: tuple[str, ...]
    hold: str | None
    rule: str | None
    policy_version: str | None
    reason: str | None
    detail: str
    caused_by: str | None
    attempts: tuple[Attempt, ...]
    timing: Timing
    error: ResultError | None
    observed: Observation | None
    mode: Mode
    worker: WorkerRef
    at: TimeOut
    traceparent: Annotated[str | None, Field(exclude=True)] = None
    """Goes out as the ``ce_traceparent`` header, not in the data."""
