"""The words every layer shares: plain immutable data, no behaviour beyond what a word means.

Times are whole milliseconds since the Unix epoch, UTC (``Millis``); lengths of time are whole
milliseconds too. ``None`` as an end means "no end" (permanent) unless a field says otherwise.
"""

from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, dataclass_transform

Millis = int
"""A moment (milliseconds since 1970-01-01T00:00:00Z) or a length (milliseconds)."""

Action = Literal["cut", "forbid", "block_regions", "query", "none"]
Severity = Literal["low", "medium", "high", "critical"]
Priority = Literal["critical", "high", "normal", "low"]
Origin = Literal["machine", "human", "order"]
Kind = Literal["violation", "clear", "withdraw"]
CommandName = Literal["release", "approve", "reject", "extend", "query"]
Mode = Literal["live", "shadow"]

Purpose = Literal[
    "cut",
    "forbid",
    "move_end",
    "lift",
    "block_regions",
    "unblock_regions",
    "read_forbid",
    "read_regions",
    "read_live",
]
"""What a call is for; a vendor serves each purpose it can with one of its operations.

``move_end`` changes the end of a ban that is in force, where ``forbid`` again would not;
the three reads answer: is it forbidden (and until when), which regions are blocked, is it live.
"""

READS: frozenset[Purpose] = frozenset({"read_forbid", "read_regions", "read_live"})

ResultOutcome = Literal[
    "applied",
    "verified",
    "already",
    "absorbed",
    "superseded",
    "no_action",
    "shadow",
    "stale",
    "wrong_session",
    "released",
    "cancelled",
    "observed",
    "failed",
    "duplicate",
    "held",
    "reappeared",
    "expired",
    "drifted",
]

ErrorClass = Literal[
    "auth",
    "config",
    "invalid",
    "not_found",
    "quota",
    "throttled",
    "vendor",
    "network",
    "unsupported",
    "ambiguous",
    "internal",
]

PRIORITIES: tuple[Priority, ...] = ("critical", "high", "normal", "low")


Behind = Literal[0, 1, 2]
"""How many kinds of calls go before one at its account."""
ENFORCES: Behind = 0
"""It brings something about, resolves a doubt about that, or answers a query: nothing goes before it."""
VERIFIES: Behind = 1
COMPARES: Behind = 2
"""On schedule; it takes what enforcement and verification leave of a quota's half."""


def digest(*parts: str | None, size: int = 9) -> str:
    """Return a short stable name for some text: ``size`` bytes of BLAKE2b as URL-safe base64.

    Parts are length-prefixed, so ``("a", "bc")`` and ``("ab", "c")`` differ; ``None`` differs from ``""``.
    """
    text = "".join(["-:" if part is None else f"{len(part)}:{part}" for part in parts])
    raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=").decode()


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(*, repr: bool = True, kw_only: bool = False) -> Callable[[type[_T]], type[_T]]:  # noqa: A002 - as in dataclass
    """Make a class of plain immutable data: a dataclass with slots, equality and a hash.

    Immutable to the type checker, which sees all our code. Python's own ``frozen=True`` makes an object
    three to four times slower to build, and a verdict builds dozens.
    """
    return dataclass(slots=True, unsafe_hash=True, repr=repr, kw_only=kw_only)


if TYPE_CHECKING:  # whose arguments the type checker knows
    from dataclasses import replace as replace  # noqa: PLC0414 - to be imported from here
else:

    def replace(of: Any, /, **changes: Any) -> Any:
        """Return a ``value`` like this one but for some fields: as in dataclasses, in a third of the time.

        Not for one made with ``kw_only``. Raises AttributeError for a field that it does not have.
        """
        made = type(of)(*_fields(type(of))(of))
        for name, changed in changes.items():
            setattr(made, name, changed)
        return made


@cache
def _fields(cls: type) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads all fields of a ``value``, in order."""
    names = [one.name for one in fields(cls)]
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda of: (read(of),)


@value()
class Quota:
    """At most ``limit`` calls in any sliding window of ``window`` milliseconds, as the vendor counts."""

    limit: int
    window: Millis


@value()
class Session:
    """One broadcast of a stream. ``started_at`` may be unknown; it then never ends another session."""

    id: str
    started_at: Millis | None = None


@value()
class Target:
    """One place where a stream runs: an account, its domains, the application and the stream name.

    The stream name is often the publish key, so it never appears in ``repr``.
    """

    account: str
    app: str
    stream: str
    push_domain: str | None = None
    play_domain: str | None = None

    @property
    def id(self) -> str:
        """A short stable name, safe for logs."""
        return _target_id(self)

    def __repr__(self) -> str:
        """Name the account and the id only."""
        return f"Target(account={self.account!r}, id={self.id!r})"


@lru_cache(maxsize=10_000)
def _target_id(target: Target) -> str:
    parts = (target.account, target.push_domain, target.play_domain, target.app, target.stream)
    return digest(*parts, size=6)


@value()
class Call:
    """One operation to be made for a target.

    ``until`` is the end to ask for (``None``: permanent, or the operation has none). ``not_after`` is
    the moment after which sending it is no longer useful. ``cursor`` continues a list at a later page;
    its form is the vendor's own. ``attempt`` counts from 1 for one demand.
    """

    id: str
    purpose: Purpose
    operation: str
    target: Target
    priority: Priority = "normal"
    until: Millis | None = None
    regions: tuple[str, ...] = ()
    attempt: int = 1
    not_after: Millis | None = None
    cursor: str | None = None
