"""The vendor seam: what an adapter declares, and the two pure functions it gives.

An adapter never sleeps, retries, logs, counts or does I/O. It turns a Call into a Request and a
Response into an Outcome; the caller does everything between. Whatever is fixed about a vendor
(settings, secrets, operations, quotas, links) stands in its ``vendor.toml`` and is read into a
``VendorSpec``; documentation, command line and chart are made from the same file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from worker.core.outcome import Outcome
from worker.words import Call, Millis, Purpose


@dataclass(frozen=True, slots=True)
class Request:
    """One signed HTTP request. ``url`` is complete and already percent-encoded; nothing may re-encode it.

    ``repr`` shows the method only: url, headers and body hold stream names and signatures.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(default=b"", repr=False)

    def __repr__(self) -> str:
        """Name the method only."""
        return f"Request({self.method})"


@dataclass(frozen=True, slots=True)
class Response:
    """One complete HTTP answer; header names are lower case. ``content`` is at most 1 MiB."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``limit`` calls in any sliding window of ``window`` milliseconds, as the vendor counts."""

    limit: int
    window: Millis


@dataclass(frozen=True, slots=True)
class Operation:
    """One vendor API call. ``serves`` names the purposes it is used for.

    ``charges`` are the quota names a call counts against: its own, and shared ones (``writes``).
    ``max_length`` is the longest ban the vendor takes, in milliseconds (None: no documented limit).
    ``needs`` names Target fields without which the call cannot be made (``push_domain``).
    """

    name: str
    title: str
    serves: tuple[Purpose, ...]
    charges: tuple[str, ...]
    doc: str
    max_length: Millis | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of an account in the configuration file."""

    name: str
    help: str
    required: bool = False
    secret: bool = False
    type: Literal["string", "boolean"] = "string"
    default: str | bool | None = None


@dataclass(frozen=True, slots=True)
class VendorSpec:
    """What ``vendor.toml`` says.

    ``one_of``: groups of settings of which exactly one group must be given in full, for example
    ``(("username", "api_key"), ("access_key", "secret_key"))``. ``quotas`` maps a quota name (an
    operation's, or a shared one) to its windows. ``forbid_cuts``: a ban also ends the running
    broadcast. ``asynchronous``: an acknowledged operation may still be under way.
    """

    name: str
    title: str
    summary: str
    links: Mapping[str, str]
    settings: tuple[Setting, ...]
    operations: Mapping[str, Operation]
    quotas: Mapping[str, tuple[Quota, ...]]
    one_of: tuple[tuple[str, ...], ...] = ()
    endpoint: str | None = None
    forbid_cuts: bool = True
    asynchronous: tuple[Purpose, ...] = ()

    def serving(self, purpose: Purpose) -> Operation | None:
        """Return the operation that serves a purpose, or None where the vendor cannot."""
        for operation in self.operations.values():
            if purpose in operation.serves:
                return operation
        return None


@dataclass(frozen=True, slots=True)
class Account:
    """Our credentials at one vendor. ``settings`` hold the values of the vendor's own keys.

    ``endpoint`` overrides the vendor's own (scheme and host, no path). ``repr`` shows no setting.
    """

    name: str
    vendor: str
    settings: Mapping[str, str | bool] = field(repr=False)
    endpoint: str | None = None


class Vendor(Protocol):
    """An adapter, made for one account: ``VendorClass(spec, account)``.

    The constructor raises ValueError, in a sentence without secrets, when settings contradict.
    """

    code: ClassVar[str]
    """The vendor's name in configuration files, and the folder that holds its ``vendor.toml``."""

    def __init__(self, spec: VendorSpec, account: Account) -> None: ...

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request for a call.

        ``now`` dates the signature; ``nonce`` is new for each request on the wire.
        """
        ...

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means for a call. Never raises, whatever the bytes are."""
        ...

    def shared(self, call: Call) -> str | None:
        """Return a name under which calls can share one request, or None.

        Two calls of one account and operation with the same name have the same request, and its
        answer is read once for each: a list of a domain's bans serves every stream of that domain.
        """
        ...


@runtime_checkable
class InProcess(Protocol):
    """A vendor that needs no wire: the caller asks it directly instead of sending a request."""

    def perform(self, call: Call, now: Millis) -> Outcome:
        """Carry out a call and return its outcome, at once and without I/O."""
        ...
