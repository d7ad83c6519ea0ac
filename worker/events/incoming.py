"""What comes in: verdicts, commands and stream events, as pydantic models of their ``data``.

Unknown fields are ignored; unknown enum values, wrong types and missing fields are errors. Models are
frozen. Their ``repr`` and ``str`` show ids only, since stream keys and names must not reach a log.
The docstrings below the fields are the descriptions in the JSON Schemas.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from worker.events.regions import KNOWN, expand
from worker.events.times import TimeIn
from worker.words import Action, CommandName, Kind, Mode, Origin, Severity

CENTURY_S = 3_155_760_000


def _region(code: str) -> str:
    if code not in KNOWN:
        raise PydanticCustomError("enum", "expected an ISO 3166-1 alpha-2 code in capitals, or EU")
    return code


Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
RegionCode = Annotated[
    str,
    AfterValidator(_region),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(sorted(KNOWN))})$"}),
]


Regions = Annotated[tuple[RegionCode, ...], AfterValidator(expand)]


def _given(name: str) -> dict[str, Any]:
    """Return the JSON Schema that demands a field, where null counts as absent."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _where(name: str, *values: str | None) -> dict[str, Any]:
    """Return the JSON Schema of "this field is given and has one of these values"."""
    return {"required": [name], "properties": {name: {"enum": list(values)}}}


class Model(BaseModel):
    """What all records of people and pipelines are: frozen, tolerant of unknown fields, silent in a log."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show nothing: ``repr``, ``str`` and rich's tracebacks all ask here."""
        return []


class SessionIn(Model):
    """One broadcast of a stream."""

    model_config = ConfigDict(title="Session")

    id: Id
    """The platform's name for this broadcast."""
    started_at: TimeIn | None = None
    """When it began; without it this session never ends another one."""


class TargetIn(Model):
    """One place where the stream runs."""

    model_config = ConfigDict(title="Target")

    account: Id
    """The name of an account in the worker's configuration."""
    app: Name
    """The application (also: app name, publishing point) at the vendor."""
    stream: Name
    """The stream's name at the vendor; often the publish key, so it is never logged."""
    push_domain: Name | None = None
    """The domain the broadcaster pushes to, where the vendor has one."""
    play_domain: Name | None = None
    """The domain the viewers play from, where the vendor has one."""


class StreamRef(Model):
    """A stream by the platform's own name, with what is known about where and since when it runs."""

    model_config = ConfigDict(title="Stream")

    key: Name
    """The platform's name for the stream; also the Kafka key."""
    session: SessionIn | None = None
    """Which broadcast of the stream; without it no session fence is possible."""
    targets: tuple[TargetIn, ...] | None = None
    """Where the stream runs; absent: resolved by ``routes`` in the worker's configuration."""


class Requested(Model):
    """A wish, which the policy may follow, limit or ignore."""

    model_config = ConfigDict(json_schema_extra={"not": {"allOf": [_given("for_s"), _given("until")]}})

    action: Action | None = None
    """What the upstream would like to be done."""
    for_s: Annotated[int, Field(gt=0, le=CENTURY_S, strict=True)] | None = None
    """For how long, in seconds from the decision; not together with ``until``."""
    until: TimeIn | None = None
    """Until when; not together with ``for_s``."""
    regions: Regions = ()
    """Where it should hold, for a block of regions."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.for_s is not None and self.until is not None:
            raise PydanticCustomError("schema", "expected for_s or until, not both")
        return self


class Evidence(Model):
    """Where what was seen can be looked at."""

    uri: str
    """Where it lies."""
    sha256: str | None = None
    """The digest of what lies there."""


class Verdict(Model):
    """What the pipeline says about a stream (``moderation.verdict.v1``)."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": _where("kind", "withdraw"),
                    "then": _given("withdraws"),
                    "else": _given("category"),
                },
                {
                    "if": {"not": _where("kind", "clear", "withdraw")},
                    "then": _given("severity"),
                },
            ]
        }
    )

    verdict_id: Id
    """Identity of the verdict: sent again, it is the same verdict."""
    kind: Kind = "violation"
    """``violation``; ``clear``: what was seen is no longer seen; ``withdraw``: takes one verdict back."""
    tenant: str | None = None
    """Whose stream it is; carried into results."""
    stream: StreamRef
    """The stream it is about."""
    detected_at: TimeIn
    """When the violation was seen; latency is measured from here. Up to 5 minutes ahead counts as now."""
    expires_at: TimeIn | None = None
    """After this moment the verdict is not acted on; default: ``detected_at`` + ``policy.max_age``."""
    category: Name | None = None
    """What was seen: a free word, matched by policy. Required unless ``kind`` is ``withdraw``."""
    severity: Severity | None = None
    """How bad it is. Required when ``kind`` is ``violation``."""
    confidence: Annotated[float, Field(ge=0, le=1, strict=True)] = 1.0
    """How sure the detector is, from 0 to 1."""
    origin: Origin = "machine"
    """Who says so; ``order`` (a legal order) overrules ``human``, which overrules ``machine``."""
    regions: Regions = ()
    """Where it is a violation, for rules that block regions."""
    requested: Requested | None = None
    """What the upstream would like to be done."""
    reason: str | None = None
    """A sentence for people; carried into results."""
    evidence: tuple[Evidence, ...] = ()
    """What the verdict rests on."""
    mode: Mode = "live"
    """``shadow``: decide and report, but call no vendor."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free words, which the policy may match."""
    withdraws: Id | None = None
    """The verdict to take back. Required when ``kind`` is ``withdraw``."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "withdraw":
            if self.withdraws is None:
                raise PydanticCustomError("schema", "withdraws is required when kind is withdraw")
        elif self.category is None:
            raise PydanticCustomError("schema", "category is required unless kind is withdraw")
        elif self.severity is None and self.kind == "violation":
            raise PydanticCustomError("schema", "severity is required when kind is violation")
        return self

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Name the id only."""
        return [("verdict_id", self.verdict_id)]


class Command(Model):
    """What a human tells us to do about a stream (``moderation.command.v1``)."""

    model_config = ConfigDict(json_schema_extra={"if": _where("command", "extend"), "then": _given("until")})

    command_id: Id
    """Identity of the command: sent again, it is the same command."""
    command: CommandName
    """``release`` lifts holds, ``approve`` and ``reject`` settle parked ones, ``extend`` moves their end,
    ``query`` asks every target what it really has in force."""
    stream: StreamRef
    """The stream it is about."""
    holds: tuple[Id, ...] | None = None
    """The holds it is about; null: all of the stream."""
    until: TimeIn | None = None
    """The new end of the holds. Required when ``command`` is ``extend``."""
    by: Id
    """Who commands it."""
    reason: str | None = None
    """A sentence for people; carried into results."""
    issued_at: TimeIn
    """When it was given."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.command == "extend" and self.until is None:
            raise PydanticCustomError("schema", "until is required when command is extend")
        return self

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Name the id and the command only."""
        return [("command_id", self.command_id), ("command", self.command)]


class StreamEvent(Model):
    """That a broadcast started or ended, and where it runs (``moderation.stream.v1``); never required."""

    stream_event: Literal["started", "ended"]
    """What happened to the broadcast."""
    tenant: str | None = None
    """Whose stream it is: a guard may count a tenant's streams."""
    stream: StreamRef
    """The stream, its session and its targets."""
    at: TimeIn
    """When it happened."""

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Name the event only."""
        return [("stream_event", self.stream_event)]


Event = Verdict | Command | StreamEvent

FIELDS = frozenset(name for model in Model.__subclasses__() for name in model.model_fields)
"""Every field name: what a message about a record may show."""
