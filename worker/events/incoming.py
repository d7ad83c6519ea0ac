"""What comes in: verdicts, commands and stream events, as pydantic models of their ``data``.

Unknown fields are ignored; unknown enum values, wrong types and missing fields are errors. Models are
frozen. Their ``repr`` shows ids only, since stream keys and names must not reach a log.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.events.times import TimeIn
from worker.words import Action, CommandName, Kind, Mode, Origin, Severity

Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
RegionCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class SessionIn(_Model):
    """One broadcast of a stream."""

    id: Id
    started_at: TimeIn | None = None


class TargetIn(_Model):
    """One place where the stream runs."""

    account: Id
    app: Name
    stream: Name
    push_domain: Name | None = None
    play_domain: Name | None = None


class StreamRef(_Model):
    """A stream by the platform's own name, with what is known about where and since when it runs."""

    key: Name
    session: SessionIn | None = None
    targets: tuple[TargetIn, ...] | None = None


class Requested(_Model):
    """A wish, which the policy may follow, limit or ignore: ``for_s`` (seconds) or ``until``, not both."""

    action: Action | None = None
    for_s: Annotated[int, Field(gt=0)] | None = None
    until: TimeIn | None = None
    regions: tuple[RegionCode, ...] = ()


class Evidence(_Model):
    """Where what was seen can be looked at."""

    uri: str
    sha256: str | None = None


class Verdict(_Model):
    """What the pipeline says about a stream (``moderation.verdict.v1``)."""

    verdict_id: Id
    kind: Kind = "violation"
    tenant: str | None = None
    stream: StreamRef
    detected_at: TimeIn
    expires_at: TimeIn | None = None
    category: Name | None = None
    severity: Severity | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    origin: Origin = "machine"
    regions: tuple[RegionCode, ...] = ()
    requested: Requested | None = None
    reason: str | None = None
    evidence: tuple[Evidence, ...] = ()
    mode: Mode = "live"
    labels: dict[str, str] = Field(default_factory=dict)
    withdraws: Id | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Verdict":
        if self.kind != "withdraw" and self.category is None:
            raise ValueError("category is required unless kind is withdraw")
        if self.kind == "violation" and self.severity is None:
            raise ValueError("severity is required when kind is violation")
        if self.kind == "withdraw" and self.withdraws is None:
            raise ValueError("withdraws is required when kind is withdraw")
        return self

    def __repr__(self) -> str:
        """Name the id only."""
        return f"Verdict({self.verdict_id!r})"


class Command(_Model):
    """What a human tells us to do about a stream (``moderation.command.v1``)."""

    command_id: Id
    command: CommandName
    stream: StreamRef
    holds: tuple[Id, ...] | None = None
    until: TimeIn | None = None
    by: Id
    reason: str | None = None
    issued_at: TimeIn

    @model_validator(mode="after")
    def _complete(self) -> "Command":
        if self.command == "extend" and self.until is None:
            raise ValueError("until is required when command is extend")
        return self

    def __repr__(self) -> str:
        """Name the id only."""
        return f"Command({self.command_id!r}, {self.command!r})"


class StreamEvent(_Model):
    """That a broadcast started or ended, and where it runs (``moderation.stream.v1``); never required."""

    stream_event: Literal["started", "ended"]
    stream: StreamRef
    at: TimeIn

    def __repr__(self) -> str:
        """Name the event only."""
        return f"StreamEvent({self.stream_event!r})"


Event = Verdict | Command | StreamEvent
