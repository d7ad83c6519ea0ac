"""The vendor seam: what an adapter declares, and the two pure functions it gives.

An adapter never sleeps, retries, logs, counts or does I/O. It turns a Call into a Request and a
Response into an Outcome; the caller does everything between. Whatever is fixed about a vendor
(settings, secrets, operations, quotas, links) stands in its ``vendor.toml`` and is read into a
``VendorSpec``; documentation, command line and chart are made from the same file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from worker.core.outcome import Outcome
from worker.words import Call, Millis, Purpose
from worker.words import Quota as Quota  # noqa: PLC0414 - a word of this seam too

BY_GATE: tuple[Purpose, ...] = ("forbid", "move_end", "lift")
"""What a publish gate brings about."""


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
class Operation:
    """One vendor API call. ``serves`` names the purposes it is used for.

    ``charges`` are the quota names a call counts against: its own, and shared ones (``writes``).
    ``max_length`` is the longest ban the vendor takes, in milliseconds (None: no documented limit).
    ``regions``: whether a region block names those that are ``blocked``, or those that stay ``allowed``.
    ``lapses`` False: what it brings about does not go away at its end by itself, so the worker lifts it.
    ``needs`` names Target fields without which the call cannot be made (``push_domain``).
    """

    name: str
    title: str
    serves: tuple[Purpose, ...]
    charges: tuple[str, ...]
    doc: str
    max_length: Millis | None = None
    needs: tuple[str, ...] = ()
    lapses: bool = True
    regions: Literal["blocked", "allowed"] = "blocked"


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many bans, or region blocks, a vendor keeps at most; one more is refused.

    ``takes``: the purpose whose call takes up a place. ``per``: whether the account has so many places,
    or each domain of it. ``domain``: by which domain of a target its lists go. ``shown_by``: the
    operation whose answer tells how many are taken (None: our own are all that is known).
    """

    name: str
    title: str
    takes: Literal["forbid", "block_regions"]
    limit: int
    per: Literal["account", "domain"]
    domain: Literal["push_domain", "play_domain"]
    shown_by: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of an account in the configuration file.

    A name with a dot in it stands in a mapping: ``iam.user`` is ``iam: {user: …}``. Such a one is
    ``required`` where that mapping is given.
    """

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
    broadcast. ``asynchronous``: an acknowledged operation may still be under way. ``capacities``: what
    the vendor keeps at most. ``gate``: a ban needs no call, since the server asks our publish gate, which
    answers from the states that the worker commits.
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
    capacities: Mapping[str, Capacity] = field(default_factory=dict)
    gate: bool = False

    def serving(self, purpose: Purpose) -> Operation | None:
        """Return the operation that serves a purpose, or None where the vendor cannot."""
        for operation in self.operations.values():
            if purpose in operation.serves:
                return operation
        return None

    def can(self, purpose: Purpose) -> bool:
        """Return whether a purpose can be brought about at all: by an operation, or by the publish gate."""
        return self.serving(purpose) is not None or (self.gate and purpose in BY_GATE)

    def endpoint_for(self, account: "Account") -> str:
        """Return where an account's requests go: scheme and host, and the port where it is not the usual.

        The account's own endpoint, else the vendor's, with ``{NAME}`` filled in from the settings.
        Raises ValueError where a setting for it is missing, or where it is not such an address.
        """
        return address(account.endpoint or self.endpoint or "", account, "endpoint")


@dataclass(frozen=True, slots=True)
class Account:
    """Our credentials at one vendor. ``settings`` hold the values of the vendor's own keys.

    ``endpoint`` overrides the vendor's own (scheme and host, no path). ``repr`` shows no setting.
    """

    name: str
    vendor: str
    settings: Mapping[str, str | bool] = field(repr=False)
    endpoint: str | None = None

    def text(self, name: str) -> str:
        """Return a setting as text; ``""`` where it is not given."""
        return str(self.settings.get(name) or "")


def address(template: str, account: Account, key: str) -> str:
    """Return where requests go: scheme and host, and the port where it is not the usual one.

    ``{NAME}`` in a template is filled in from the account's settings; ``key`` is what the address stands
    under. Raises ValueError where a setting for it is missing, or where it is not such an address.
    """
    url = template
    for name in re.findall(r"{(\w+)}", url):
        value = account.text(name)
        if not re.fullmatch(r"[a-z0-9-]+", value):
            raise ValueError(f"{name}: expected lower-case letters, digits and hyphens, or an {key}")
        url = url.replace(f"{{{name}}}", value)
    match = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?/?", url.lower())
    if match is None:
        raise ValueError(f"{key}: expected https://HOST or https://HOST:PORT, without a path")
    scheme, host, port = match.groups()
    usual = {"http": "80", "https": "443"}[scheme]
    return f"{scheme}://{host}" if port in (None, usual) else f"{scheme}://{host}:{port}"


class Vendor(Protocol):
    """An adapter, made for one account: ``VendorClass(spec, account)``.

    The constructor raises ValueError, in a sentence without secrets, when settings contradict.
    """

    code: ClassVar[str]
    """The vendor's name in configuration files, and the folder that holds its ``vendor.toml``."""

    def __init__(self, spec: VendorSpec, account: Account) -> None: ...

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request for a call.

        ``now`` dates the signature; ``nonce`` is new for each request on the wire. Raises ValueError,
        in a sentence without stream names or secrets, for a call that must not be put to this vendor
        (a domain is missing, a name would match more than one stream): that is ``Refused("invalid")``.
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


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """What a login gave: an adapter that makes the account's calls, until then.

    From ``renew_at`` on another one should be fetched, while this one is still taken.
    """

    vendor: Vendor = field(repr=False)
    renew_at: Millis
    until: Millis


@runtime_checkable
class LogsIn(Protocol):
    """A vendor whose calls may have to carry what a login gave, such as a token.

    It asks and reads, as for any call; the caller carries the login out, before the first call and
    whenever it is time again, and then makes calls with the adapter that it gave.
    """

    def login(self, now: Millis) -> Request | None:
        """Return the request that logs in, or None where this account needs none."""
        ...

    def logged_in(self, response: Response, now: Millis) -> LoggedIn | Outcome:
        """Return what an answer to it gave, or why there is nothing: Refused, Unreachable. Never raises."""
        ...

    def logged_out(self, response: Response) -> bool:
        """Return whether an answer to a call says that the login is not, or no longer, taken."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One ban, or one stream's region block, on a vendor's list; ``name`` is ``APP/STREAM``.

    ``until`` None: the list tells no end. ``regions`` are empty for a ban.
    """

    name: str = field(repr=False)
    until: Millis | None = None
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, and where the next one begins (None: it was the last)."""

    entries: tuple[Entry, ...]
    cursor: str | None = None


@runtime_checkable
class Lists(Vendor, Protocol):
    """A vendor whose lists can be read whole, to compare them with what should be in force.

    The calls are those of ``whole_lists``: of a read, for a whole domain. Application and stream of their
    target do not count.
    """

    whole_lists: ClassVar[tuple[str, ...]]
    """The operations that can be asked for all of a domain."""

    def list_all(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request for the page at the call's cursor. Raises ValueError as ``request``."""
        ...

    def read_all(self, call: Call, response: Response, now: Millis) -> Page | Outcome:
        """Return a page of what is in force now, or why there is none. Never raises."""
        ...
