"""What goes out: the result, one for each change (``moderation.result.v1``).

Plain dataclasses: they are made by our own code, once or more for each verdict, and need no validation.
The docstrings below the fields are the descriptions in the JSON Schema.
"""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from worker.core.outcome import OutcomeWord
from worker.events.times import TimeOut
from worker.words import Action, ErrorClass, Millis, Mode, ResultOutcome, Severity, value


class _Quiet:
    """Shows nothing of itself: stream keys and names must not reach a log."""

    __slots__ = ()
    __pydantic_config__: ClassVar = ConfigDict(
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
        serialize_by_alias=True,
        validate_by_name=True,
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@value(repr=False, kw_only=True)
class ResultStream(_Quiet):
    """The stream, and the broadcast the answered event named."""

    key: str
    """The platform's name for the stream."""
    session_id: str | None = None
    """The session the answered event named; null where it named none."""


@value(repr=False, kw_only=True)
class ResultTarget(_Quiet):
    """The target a result is about."""

    account: str
    """The account in the worker's configuration."""
    vendor: str | None
    """The account's vendor; null when the account is not configured."""
    push_domain: str | None
    """The domain the broadcaster pushes to."""
    play_domain: str | None
    """The domain the viewers play from."""
    app: str
    """The application at the vendor."""
    stream: str
    """The stream's name at the vendor."""


@value(repr=False, kw_only=True)
class Attempt(_Quiet):
    """One request on the wire."""

    n: int
    """Counts from 1."""
    operation: str
    """The vendor's operation, such as ``block_once``."""
    at: TimeOut
    """When it was sent."""
    duration_ms: Millis | None
    """How long the answer took, in milliseconds; null where none came."""
    http_status: int | None
    """The answer's HTTP status; null where none came."""
    vendor_code: str | None
    """The vendor's own code in the answer."""
    vendor_request_id: str | None
    """The vendor's own name for the request: what its support asks for."""
    outcome: OutcomeWord
    """What the answer means."""


@value(repr=False, kw_only=True)
class Timing(_Quiet):
    """When what happened; null where it did not, or not yet."""

    detected_at: TimeOut | None = None
    """When the violation was seen, as the verdict says."""
    received_at: TimeOut | None = None
    """When the worker read the event."""
    decided_at: TimeOut | None = None
    """When the policy decided."""
    called_at: TimeOut | None = None
    """When the call was sent that settled it."""
    answered_at: TimeOut | None = None
    """When the vendor answered it."""
    verified_at: TimeOut | None = None
    """When a read-back showed it."""


@value(repr=False, kw_only=True)
class ResultError(_Quiet):
    """Why it was given up. ``class`` on the wire, ``kind`` in code."""

    kind: Annotated[ErrorClass, Field(alias="class")]
    """What kind of failure it is."""
    message: str
    """A sentence for people."""


@value(repr=False, kw_only=True)
class WorkerRef(_Quiet):
    """Who says so."""

    instance: str
    """The replica's stable name."""
    version: str
    """The worker's version."""


@value(repr=False, kw_only=True)
class Observation(_Quiet):
    """What a query found at a target; null where the vendor cannot tell."""

    forbidden: bool | None = None
    """Whether pushing the stream is forbidden."""
    forbidden_until: TimeOut | None = None
    """Until when; null also where the vendor names no end."""
    live: bool | None = None
    """Whether the stream is live."""
    live_since: TimeOut | None = None
    """Since when."""
    regions: tuple[str, ...] | None = None
    """The regions in which it is blocked."""
    regions_until: TimeOut | None = None
    """Until when; null also where the vendor names no end."""


@value(repr=False, kw_only=True)
class Result(_Quiet):
    """What became of one event at one target. Exactly one for each event and target is terminal."""

    __pydantic_config__: ClassVar = _Quiet.__pydantic_config__ | ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"verdict_id": {"type": "string"}, "command_id": {"type": "null"}}},
                {"properties": {"verdict_id": {"type": "null"}, "command_id": {"type": "string"}}},
            ],
            "if": {
                "required": ["outcome"],
                "properties": {
                    "outcome": {"enum": ["duplicate", "held", "reappeared", "expired", "drifted"]}
                },
            },
            "then": {"properties": {"terminal": {"const": False}}},
        }
    )

    result_id: str
    """Identity of the result: published again after a crash, it has the same one. Also ``ce_id``."""
    verdict_id: str | None
    """The verdict it answers; null where it answers a command."""
    command_id: str | None
    """The command it answers; null where it answers a verdict."""
    stream: ResultStream
    """The stream it is about."""
    tenant: str | None
    """The verdict's tenant."""
    target: ResultTarget | None
    """Where; null where no target is known, or where it is about the event as a whole."""
    outcome: ResultOutcome
    """What became of it."""
    terminal: bool
    """Whether this is the one final answer for this event and target."""
    action: Action | None
    """What was to be done, after the policy; null where nothing was decided."""
    until: TimeOut | None
    """The end of what is in force; null: permanent, or the action has no end."""
    regions: tuple[str, ...]
    """The regions of the action, as ISO 3166-1 alpha-2 codes."""
    hold: str | None
    """The hold that keeps it in force: what ``release``, ``approve`` and ``extend`` name."""
    rule: str | None
    """The rule that decided; null where none did."""
    policy_version: str | None
    """The version of the policy that decided."""
    reason: str | None
    """A short word that says why, such as ``policy``, ``no_rule``, ``approval`` or ``gave_up``."""
    detail: str
    """The same as a sentence for people."""
    caused_by: str | None
    """The verdict or command behind it, for ``absorbed``, ``superseded`` and the like."""
    attempts: tuple[Attempt, ...]
    """The requests that were made, oldest first."""
    timing: Timing
    """When what happened."""
    error: ResultError | None
    """Why it was given up; null unless it was."""
    observed: Observation | None
    """What a query found; null for other results."""
    mode: Mode
    """``shadow``: decided, but nothing was called."""
    worker: WorkerRef
    """The replica that says so."""
    at: TimeOut
    """When the result was made. Also ``ce_time``."""
    traceparent: Annotated[str | None, Field(exclude=True)] = None
    """Goes out as the ``ce_traceparent`` header, not in the data."""
    severity: Annotated[Severity | None, Field(exclude=True)] = None
    """The answered verdict's, for the latency metrics; not in the data."""

    def __repr__(self) -> str:
        """Name the id and the outcome only."""
        return f"Result({self.result_id}, {self.outcome})"
