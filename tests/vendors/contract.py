"""What every vendor's adapter has to keep: the table of a vendor, and answers no vendor is free to differ in.

Each vendor has a folder beside this file with a ``contract.toml``, written from the vendor's own pages::

    sources = ["https://…"]            # the pages it was written from
    error = '{"code": "@code", "message": "@message"}'   # the body of an error

    # What each documented code means, whatever was asked: HTTP status, code, outcome.
    codes = [
        [400, "InvalidParam", "refused invalid"],
    ]

    [settings]                         # of an account; its login and what else is required are made up
    region = "cn-north-4"

    [success.block]                    # for each operation: its documented success
    status = 204                       # optional, 200
    body = '{"name": "@stream"}'       # optional, empty; @app, @stream, @push and @play are filled in
    outcome = "done"

    [[answers]]                        # any other answer there is something to say about
    name = "already blocked"
    operations = ["block"]             # optional: all
    status = 400
    code = "…"                         # with ``error`` as the body; or ``body``
    message = "…"                      # optional
    headers = {retry-after = "7"}      # optional
    outcome = "already"
    says = "clock"                     # optional: what its sentence has to name
    facts = {forbidden = true, forbidden_until = 2026-11-22T10:15:00Z}   # of an outcome ``observed``

    [login]                            # where an account logs in before its calls: how, and its answers
    with = ["iam.user", "iam.password"]
    endpoint = "iam.endpoint"          # the setting that says where
    path = "/v3/auth/tokens"
    carries = "x-auth-token"           # the header of every call that has what the login gave
    [[login.answers]]                  # as above; the first one is the success
    name = "a token"
    …

An outcome is its word (``done``, ``already``, ``absent``, ``absent perhaps``, ``refused CLASS``,
``throttled``, ``throttled MILLISECONDS``, ``unreachable``, ``unknown``, ``observed``, ``next page``). The
clock of the tests stands at ``NOW``. A vendor in the process has no answers on a wire and needs no table.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from worker.core.outcome import Facts, NextPage, NotThere, Outcome, Refused, Throttled, word
from worker.vendors import load_spec, make
from worker.vendors.base import Account, InProcess, Vendor, VendorSpec
from worker.words import Call, Millis, Target

NOW: Millis = 1_795_341_900_000
"""2026-11-22T10:05:00Z."""

SECRET = "sEkrItVaLuE"
STREAM = "room42-publish-key"
APP, PUSH, PLAY = "live", "push.acme.example", "play.acme.example"

_FILLED = {"@app": APP, "@stream": STREAM, "@push": PUSH, "@play": PLAY}


@dataclass(frozen=True)
class Row:
    """One answer, and what it means.

    ``says``: what the outcome's sentence has to name. ``never``: what it must not say. ``facts``: what a
    read has shown.
    """

    name: str
    status: int
    outcome: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
    never: str = ""
    facts: Facts | None = None

    def on_the_wire(self) -> bytes:
        """Return the whole answer."""
        headers = {"Content-Length": str(len(self.body))} if self.status != 204 else {}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **self.headers}.items())
        return f"HTTP/1.1 {self.status} Status\r\n{head}\r\n".encode() + self.body


class Table:
    """A vendor's ``contract.toml``."""

    def __init__(self, vendor: str, folder: Path = Path(__file__).parent) -> None:
        path = folder / vendor / "contract.toml"
        assert path.exists(), (
            f'vendor "{vendor}" has no table of answers: write tests/vendors/{vendor}/contract.toml'
            " (its form stands in tests/vendors/contract.py)"
        )
        self._file: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        self.settings: dict[str, str] = self._file.get("settings", {})
        assert self._file["sources"], f"the table of {vendor} does not say what it was written from"

    def success(self, operation: str) -> Row:
        """Return the documented success of an operation."""
        rows = self._file["success"]
        assert operation in rows, f"the table has no [success.{operation}]"
        return self._row("success", rows[operation])

    def rows(self, operation: str) -> Iterator[Row]:
        """Yield every answer to an operation that the table speaks of."""
        yield self.success(operation)
        for status, code, outcome in self._file["codes"]:
            yield self._row(f"{status} {code}", {"status": status, "code": code, "outcome": outcome})
        for row in self._file.get("answers", ()):
            if operation in row.get("operations", (operation,)):
                yield self._row(row["name"], row)

    @property
    def login(self) -> Mapping[str, Any]:
        """Return how an account logs in before its calls; empty where none does."""
        found: Mapping[str, Any] = self._file.get("login", {})
        return found

    def login_rows(self) -> list[Row]:
        """Return every answer to a login that the table speaks of, the success first."""
        return [self._row(row["name"], row) for row in self.login["answers"]]

    def _row(self, name: str, row: Mapping[str, Any]) -> Row:
        body = row.get("body", "")
        if "code" in row:
            message = row.get("message", f"of {STREAM} with {SECRET}")
            body = self._file["error"].replace("@code", str(row["code"])).replace("@message", message)
        body = re.sub("@(app|stream|push|play)", lambda found: _FILLED[found[0]], body)
        headers = {key: value.replace("@secret", SECRET) for key, value in row.get("headers", {}).items()}
        given, says, facts = row["outcome"], row.get("says", ""), row.get("facts")
        assert (given == "observed") == (facts is not None), f"{name}: facts belong to what was observed"
        read = None if facts is None else Facts(**{key: _told(value) for key, value in facts.items()})
        return Row(name, row.get("status", 200), given, body.encode(), headers, says, facts=read)


def _told(value: Any) -> Any:
    """Return a fact as an adapter gives it: moments in milliseconds, lists as tuples."""
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return tuple(value) if isinstance(value, list) else value


def everywhere(success: Row) -> Iterator[Row]:
    """Yield the answers that mean the same at every vendor, whatever was asked."""
    page = f"<html><body>Something went wrong: {STREAM}, {SECRET}</body></html>".encode()
    yield Row("429", 429, "throttled", page)
    yield Row("429 with seconds", 429, "throttled 7000", page, {"Retry-After": "7"})
    date = {"Retry-After": "Sun, 22 Nov 2026 10:05:30 GMT"}
    yield Row("429 with a date", 429, "throttled 30000", page, date)
    for status in (500, 502, 504, 520):
        yield Row(f"{status}", status, "unknown", page)
        yield Row(f"{status}, empty", status, "unknown")
    yield Row("503", 503, "unreachable", page)
    for status in (301, 302, 303, 307, 308):
        yield Row(f"{status}", status, "unknown", b"", {"Location": "/elsewhere"})
    yield Row("401", 401, "refused auth", page)
    for name, moment, says in (
        ("401 of a clock that is an hour behind", "Sun, 22 Nov 2026 11:05:00 GMT", "60 min behind"),
        ("401 of a clock that is four minutes ahead", "Sun, 22 Nov 2026 10:01:00 GMT", "4 min ahead of"),
        ("401 of two clocks that agree", "Sun, 22 Nov 2026 10:04:00 GMT", ""),
    ):
        sent = {"Date": moment}
        yield Row(name, 401, "refused auth", page, sent, says, never="" if says else "the vendor's")
    yield Row("403", 403, "refused vendor", page)
    yield Row("404", 404, "refused not_found", page)
    yield Row("a page in place of an answer", 200, "unknown", page)
    yield Row("another JSON value", 200, "unknown", f'["{STREAM}", "{SECRET}"]'.encode())
    yield Row("endless nesting", 200, "unknown", b"[" * 100_000)
    if success.body:
        yield Row("nothing", success.status, "unknown")
        yield Row("truncated", success.status, "unknown", success.body[: len(success.body) // 2])
        yield Row("another charset", success.status, "unknown", success.body.decode().encode("utf-16"))
    yield Row("the success, as a failure", 500, "unknown", success.body)
    yield Row("too long", success.status if success.body else 200, "unknown", b" " * (1 << 20) + b"{}")


def said(outcome: Outcome) -> str:
    """Return an outcome as a table writes it."""
    match outcome:
        case Refused(error=error):
            return f"refused {error}"
        case Throttled(retry_after=int(wait)):
            return f"throttled {wait}"
        case NextPage():
            return "next page"
        case NotThere(sure=False):
            return "absent perhaps"
        case _:
            return word(outcome)


def logins(spec: VendorSpec) -> tuple[tuple[str, ...], ...]:
    """Return the groups of settings of which an account needs one; an empty one where there are none."""
    return spec.one_of or ((),)


def adapter(name: str, endpoint: str, login: tuple[str, ...] | None = None, **more: str) -> Vendor:
    """Return a vendor's adapter, all of whose secrets are ``SECRET``; the first login unless told."""
    spec = load_spec(name)
    settings: dict[str, str] = {}
    wanted = logins(spec)[0] if login is None else login
    for setting in spec.settings:
        if setting.name in wanted or (setting.required and "." not in setting.name):
            settings[setting.name] = SECRET
    if not in_process(spec):
        settings |= Table(name).settings
    return make(spec, Account("acc", name, settings | more, endpoint))


def in_process(spec: VendorSpec) -> bool:
    """Return whether a vendor needs no wire; it has then no settings without a default."""
    if any(setting.required for setting in spec.settings) or spec.one_of or spec.endpoint:
        return False
    return isinstance(make(spec, Account("acc", spec.name, {})), InProcess)


def call(spec: VendorSpec, operation: str, cursor: str | None = None) -> Call:
    """Return a call of an operation, for the first purpose it serves."""
    serves = spec.operations[operation].serves
    return Call(
        "call-1",
        serves[0] if serves else "read_live",
        operation,
        Target("acc", APP, STREAM, PUSH, PLAY),
        until=NOW + 600_000,
        regions=("CN",),
        cursor=cursor,
    )
