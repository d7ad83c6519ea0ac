"""What became of a call: a closed sum type, and what each member means for the next attempt.

::

    Outcome
    ├── Done          the vendor did it                                -> in force
    ├── AlreadySo     it was so before, at least as strong             -> in force, `already`
    ├── NotThere      there is nothing to act on (no ban, not live)    -> nothing left to do
    ├── Refused       the vendor will not, whoever asks again          -> failed; `auth` stops the account
    ├── Throttled     over a quota                                     -> again, after its wait
    ├── Unreachable   never left, or refused before the vendor acted   -> again, with backoff
    ├── Unknown       it may have happened                             -> ask first, or repeat where harmless
    ├── Observed      a read's facts
    └── NextPage      a read that has to go on at `cursor`

Each vendor maps its codes to these in one table. Errors cross the vendor seam as these, never as
exceptions. No member carries a stream name or a secret: ``detail`` is a sentence of ours.
"""

from dataclasses import field
from typing import Literal

from worker.words import ErrorClass, Millis, value

OutcomeWord = Literal[
    "done", "already", "absent", "refused", "throttled", "unreachable", "unknown", "observed"
]
"""The words of ``attempts[].outcome`` and of ``moderation_vendor_requests_total{outcome}``."""


@value()
class Wire:
    """What the answer looked like on the wire, for ``attempts[]``. All empty when none came."""

    http_status: int | None = None
    vendor_code: str | None = None
    vendor_request_id: str | None = None


@value()
class Facts:
    """What a read showed of one stream. A field is None where this read cannot tell.

    ``forbidden_until`` and ``regions_until``: None also when the vendor names no end.
    ``in_progress``: an asynchronous vendor is still working on what the other fields describe.
    ``gave_up``: it could not do what it had acknowledged.
    """

    forbidden: bool | None = None
    forbidden_until: Millis | None = None
    live: bool | None = None
    live_since: Millis | None = None
    regions: tuple[str, ...] | None = None
    regions_until: Millis | None = None
    in_progress: bool = False
    gave_up: bool = False


@value()
class Done:
    """The vendor acknowledged the operation."""

    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class AlreadySo:
    """The vendor says that it was so before. Its end may differ from the one asked for."""

    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class NotThere:
    """What the operation would act on does not exist: no ban to lift, no live stream to cut.

    ``sure`` False: whoever answered does not know of every stream, so a read has to confirm it.
    """

    wire: Wire = field(default_factory=Wire)
    detail: str = ""
    sure: bool = True


@value()
class Refused:
    """The vendor refuses, and would refuse again: ``error`` says of what kind."""

    error: ErrorClass
    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class Throttled:
    """A quota is used up. ``retry_after`` is the wait in milliseconds, if the vendor gave one."""

    retry_after: Millis | None = None
    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class Unreachable:
    """The vendor did not act: the request never left, or was turned away before (503, maintenance)."""

    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class Unknown:
    """It may have happened: no answer after sending, a reset, an unreadable answer, 500, 502, 504."""

    wire: Wire = field(default_factory=Wire)
    detail: str = ""


@value()
class Observed:
    """A read succeeded. ``total``: how many entries the list that was read has in all, if it says so."""

    facts: Facts
    wire: Wire = field(default_factory=Wire)
    detail: str = ""
    total: int | None = None


@value()
class NextPage:
    """A list did not name the stream yet and has more: call again with ``cursor``. ``total`` as above."""

    cursor: str
    wire: Wire = field(default_factory=Wire)
    detail: str = ""
    total: int | None = None


Outcome = Done | AlreadySo | NotThere | Refused | Throttled | Unreachable | Unknown | Observed | NextPage

_WORDS: dict[type[Outcome], OutcomeWord] = {
    Done: "done",
    AlreadySo: "already",
    NotThere: "absent",
    Refused: "refused",
    Throttled: "throttled",
    Unreachable: "unreachable",
    Unknown: "unknown",
    Observed: "observed",
    NextPage: "observed",
}


def word(outcome: Outcome) -> OutcomeWord:
    """Return the outcome's word in results and metrics."""
    return _WORDS[type(outcome)]
