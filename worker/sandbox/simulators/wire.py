"""One request and its answer as a simulator sees them, and the arithmetic of signatures."""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote

from worker.words import Millis

SECOND: Millis = 1000
MINUTE: Millis = 60 * SECOND
DAY: Millis = 24 * 60 * MINUTE

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(slots=True)
class Answer:
    """What goes back: ``body`` as JSON, a text as it is, None as nothing. ``code`` is for the log."""

    status: int
    body: Any = None
    code: str | None = None
    changed: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the bytes on the wire."""
        if self.body is None:
            return b""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


class Refusal(Exception):  # noqa: N818 - an answer like any other, not a mistake of ours
    """The vendor says no: carries the answer that says it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


def refuse(answer: Answer) -> NoReturn:
    """End a request with an answer."""
    raise Refusal(answer)


@dataclass(slots=True)
class Exchange:
    """One request: what arrived (``path`` and ``query`` exactly as sent), then what was found out."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at: Millis
    operation: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    domain: str | None = None
    app: str | None = None
    stream: str | None = None
    until: Millis | None = None
    account: str | None = None
    over_quota: bool = False
    refused: Answer | None = None

    def query_params(self) -> dict[str, Any]:
        """Return the decoded query; of a repeated name the last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def json_params(self) -> dict[str, Any]:
        """Return the body's JSON object; anything else is empty."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def names(self, *params: str) -> None:
        """Remember, for the log, which parameters name domain, app and stream."""
        values = (self.params.get(name) for name in params)
        self.domain, self.app, self.stream = (v if isinstance(v, str) else None for v in values)


def sha256_hex(content: bytes) -> str:
    """Return the lower-case hex SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def hmac_sha256_hex(secret: str, text: str) -> str:
    """Return the lower-case hex HMAC-SHA256 of a text."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def percent(text: str) -> str:
    """Return a text in RFC 3986 percent-encoding: all but ``A-Za-z0-9-_.~``."""
    return quote(text, safe="-_.~")


def canonical_query(raw: str) -> str:
    """Decode a query, sort it by name and value, encode it again."""
    pairs = sorted(parse_qsl(raw, keep_blank_values=True))
    return "&".join(f"{percent(name)}={percent(value)}" for name, value in pairs)


def canonical_request(
    exchange: Exchange, path: str, query: str, signed: Sequence[str], payload: str, *, lower: bool = False
) -> str | None:
    """Return the canonical request, the same shape at all three vendors.

    None if a signed header was not sent or their names are not in order. ``lower``: header values
    count in lower case.
    """
    if any(name not in exchange.headers for name in signed) or list(signed) != sorted(signed):
        return None
    lines = "".join(f"{name}:{exchange.headers[name].strip()}\n" for name in signed)
    return "\n".join(
        [exchange.method, path, query, lines.lower() if lower else lines, ";".join(signed), payload]
    )


def parse_utc(text: Any) -> Millis | None:
    """Return the moment ``yyyy-mm-ddThh:mm:ssZ`` names; None for any other text."""
    if not isinstance(text, str) or not _UTC.fullmatch(text):
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp()) * SECOND
    except ValueError:
        return None


def format_utc(at: Millis) -> str:
    """Return a moment as ``yyyy-mm-ddThh:mm:ssZ``."""
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_int(text: Any, default: int) -> int:
    """Return a whole number, the default where nothing is given, -1 for what is no number."""
    if text is None or text == "":
        return default
    return int(text) if str(text).isdecimal() else -1


def new_request_id() -> str:
    """Return a request id in the form the vendors use."""
    return str(uuid.uuid4()).upper()
