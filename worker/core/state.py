"""What is remembered of a stream: the value of its record in the state topic.

::

    StreamState
    ├── session, past         which broadcast is current, which are over
    ├── seen                  ids of recent verdicts and commands (as digests), and when to forget them
    ├── rests                 categories a human has released: machines rest until then
    ├── withdrawn             verdicts that were taken back before they came
    ├── runs_at               where the platform said that it runs
    └── targets               for each place where the stream runs, a TargetState:
        ├── holds             why something is in force: one demand per verdict
        ├── asks              commands (and clears, queries) that wait for their terminal result
        ├── ban, block        what the vendor last told us is in force
        ├── call              the one call under way: granted, committed, perhaps sent
        ├── reading           facts being gathered: for a doubt, a query or a verification
        ├── check             the verification to come
        └── attempts          requests made for the open demands

All of it is immutable; a step makes a new one. Only what differs from the default is written.
"""

from dataclasses import field
from typing import Literal

from pydantic import TypeAdapter

from worker.core.outcome import Facts, OutcomeWord
from worker.words import (
    Action,
    ErrorClass,
    Millis,
    Origin,
    Priority,
    Purpose,
    Session,
    Severity,
    Target,
    value,
)

Phase = Literal["waiting", "applied", "closed"]
"""Of a hold: not acknowledged yet; acknowledged, its check is to come; its terminal result is out."""

Parked = Literal["approval", "guard", "pause", "account"]


@value()
class Cause:
    """The event that results answer: ids, times, and what each of its results repeats."""

    verdict_id: str | None = None
    command_id: str | None = None
    tenant: str | None = None
    session_id: str | None = None
    severity: Severity | None = None
    policy_version: str | None = None
    traceparent: str | None = None
    by: str | None = None
    detected_at: Millis | None = None
    received_at: Millis | None = None
    decided_at: Millis | None = None


@value()
class Hold:
    """One verdict's demand at one target. ``until`` None is permanent (a cut has no end at all).

    ``session`` is set when the demand is bound to one broadcast. ``expires_at`` bounds how long it is
    tried before it counts as stale or failed. ``covered``: a stronger hold stands before it, and it has
    not come into force itself. ``moved``: the stream came here while it was demanded elsewhere, and it has
    not come into force here. ``over``: the broadcast it is bound to has ended. ``humans``: what humans did
    about it, as sentences. ``told`` counts its non-terminal results. ``seq``: its number at its target.
    ``gave_up``: the target's ``seq`` when it was given up; its next success is told. ``lost``: the vendor
    lost it after its terminal result; its return is told. ``guard`` parked it, and ``ruled`` is the moment of
    the last ruling about that guard then: a later one is about this hold too.
    """

    id: str
    cause: Cause
    action: Action
    origin: Origin
    category: str
    priority: Priority
    expires_at: Millis
    placed_at: Millis
    seq: int = 0
    until: Millis | None = None
    regions: tuple[str, ...] = ()
    rule: str | None = None
    session: Session | None = None
    verify: bool = True
    phase: Phase = "waiting"
    parked: Parked | None = None
    sent: bool = False
    covered: bool = False
    moved: bool = False
    over: bool = False
    humans: str = ""
    called_at: Millis | None = None
    answered_at: Millis | None = None
    gave_up: int | None = None
    lost: bool = False
    told: int = 0
    guard: str | None = None
    ruled: Millis = 0

    @property
    def active(self) -> bool:
        """Whether it counts in what should be in force: only a human's word is missing where it does not.

        A pause or a stopped account changes no demand.
        """
        return self.parked is None or self.parked in ("pause", "account")


@value()
class Ask:
    """A command, clear, withdraw or query that waits for its terminal result at this target."""

    cause: Cause
    kind: Literal["release", "extend", "query"]
    priority: Priority = "high"
    expires_at: Millis | None = None
    hold: str | None = None
    rule: str | None = None


@value()
class Ban:
    """The stream is forbidden at the vendor until then. ``ours``: we asked for it, so we may end it.

    ``clamped``: the vendor takes no later end; it is renewed in time. ``fixed``: the vendor would not
    move its end; to change it, it is lifted and set again. ``sure`` False: we asked, and no answer came;
    it satisfies no demand, and it is lifted if none is left. ``mixed``: we asked so for several ends, and
    nobody knows which of them it has; ``until`` is the latest. ``shown``: a read has shown it since.
    ``live``: the stream was seen live in spite of it, or such a ban ends no broadcast; it is to be cut.
    ``seq``: the target's when the vendor last told of it.
    """

    until: Millis | None
    since: Millis
    ours: bool = True
    clamped: bool = False
    fixed: bool = False
    sure: bool = True
    mixed: bool = False
    shown: bool = False
    live: bool = False
    seq: int = 0


@value()
class Block:
    """These regions are blocked at the vendor until then.

    ``clamped``, ``sure``, ``shown`` and ``seq`` as in Ban.
    """

    regions: tuple[str, ...]
    until: Millis | None
    since: Millis
    clamped: bool = False
    sure: bool = True
    shown: bool = False
    seq: int = 0


@value()
class Cut:
    """The last broadcast we ended, and because of what.

    ``at``: when we knew. ``asked_at``: when the call was granted; what began since is another broadcast.
    ``seq``: the target's at that moment; demands up to it came before this end of the broadcast.
    """

    at: Millis
    session_id: str | None
    verdict_id: str | None
    asked_at: Millis
    seq: int = 0


@value()
class UnderWay:
    """The call under way. ``at`` is when it was granted; ``clamped`` as in Ban.

    ``seq`` is its number at its target: it was made for demands with a smaller one.
    """

    id: str
    purpose: Purpose
    operation: str
    at: Millis
    until: Millis | None = None
    clamped: bool = False
    regions: tuple[str, ...] = ()
    seq: int = 0


@value()
class Reading:
    """Facts being gathered, one read after the other. Answers to calls up to ``seq`` do not count.

    ``why``: ``cut`` or ``forbid`` resolve a doubt about that call, ``ask`` answers the first query,
    ``check`` is a verification, ``drift`` a comparison on schedule. ``absent``: the cut was answered
    that there was nothing to cut, by one that may not know. ``since``: when it began, or the call in doubt
    was granted. ``retry_at``, ``tries`` and ``error`` are its own: a read that has to wait holds no
    enforcement back.
    """

    why: Literal["cut", "forbid", "ask", "check", "drift"]
    left: tuple[Purpose, ...]
    since: Millis
    seq: int
    facts: Facts = field(default_factory=Facts)
    cursor: str | None = None
    retry_at: Millis = 0
    tries: int = 0
    error: ErrorClass | None = None
    absent: bool = False


@value()
class Check:
    """The verification to come: the ``index``-th since ``since``.

    ``followed``: the vendor was still at work at the last one, which is made again until it has ended.
    """

    since: Millis
    index: int = 0
    followed: bool = False


@value()
class Tried:
    """One request on the wire, as results tell it."""

    n: int
    operation: str
    at: Millis
    duration: Millis | None
    outcome: OutcomeWord
    http_status: int | None = None
    vendor_code: str | None = None
    vendor_request_id: str | None = None


@value()
class TargetState:
    """What is so, what should be so and what is being done about it at one target.

    ``retry_at``, ``tries`` and ``error`` are of the calls that change something; ``gave_up_at`` is when the
    last of them was left for the next reconciliation. ``called``: it had a request. ``began``: the latest
    start of a broadcast that a read has shown. ``compared``: when what is in force was last read, or asked
    for in vain. ``seq`` numbers its demands and calls: what was there when a
    call was made is told by it, and not by a clock, which may be set back.
    """

    target: Target
    holds: tuple[Hold, ...] = ()
    asks: tuple[Ask, ...] = ()
    ban: Ban | None = None
    block: Block | None = None
    cut: Cut | None = None
    call: UnderWay | None = None
    reading: Reading | None = None
    check: Check | None = None
    retry_at: Millis = 0
    tries: int = 0
    error: ErrorClass | None = None
    gave_up_at: Millis = 0
    began: Millis | None = None
    recuts: tuple[Millis, ...] = ()
    attempts: tuple[Tried, ...] = ()
    called: bool = False
    compared: Millis = 0
    seq: int = 0


@value()
class Rest:
    """After a human release: machine verdicts of this category (on this session) rest until then."""

    category: str
    session_id: str | None
    until: Millis


@value()
class StreamState:
    """Everything the worker knows about one stream. ``offset`` is the last input offset applied.

    ``keep_until``: until when it is remembered although nothing else asks for it; no id in ``seen`` is to
    be known for longer. ``runs_at``: where the platform said that it runs. ``withdrawn``: digests of verdicts
    that were taken back before they came, by which event, and until when to remember it.
    """

    key: str
    session: Session | None = None
    past: tuple[str, ...] = ()
    seen: dict[str, Millis] = field(default_factory=dict)
    rests: tuple[Rest, ...] = ()
    targets: dict[str, TargetState] = field(default_factory=dict)
    runs_at: tuple[Target, ...] = ()
    withdrawn: dict[str, tuple[str, Millis]] = field(default_factory=dict)
    keep_until: Millis = 0
    offset: int = -1


LEDGER = b"\xffledger"
SEEN = b"\xffseen"
"""The keys of a partition's own records in the state topic: which of its slots are in use, of quotas and of
guards (``core/ledger.py``), and how many streams it has seen (``core/seen.py``)."""


def stream_of(key: bytes | None) -> str | None:
    """Return whose state a record of the state topic is; None for a record that is no stream's.

    A stream's key is text, so no stream can ever have a key that begins with the byte 0xFF. Whoever reads
    the state topic asks here first.
    """
    return None if key is None or key.startswith(b"\xff") else key.decode()


_CODEC = TypeAdapter(StreamState)


def encode(state: StreamState) -> bytes:
    """Return the state's JSON."""
    return _CODEC.dump_json(state, exclude_defaults=True)


def decode(value: bytes) -> StreamState:
    """Return the state of some JSON; ValueError (pydantic's) when it is not ours."""
    return _CODEC.validate_json(value)
