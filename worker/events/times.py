"""RFC 3339 on the wire, whole milliseconds inside."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from worker.words import Millis


def parse_rfc3339(text: Any) -> Millis:
    """Return the moment a date-time with an offset names.

    Raises ValueError (never with the text in it) for anything else, a number or a missing offset included.
    """
    if not isinstance(text, str) or len(text) < 20 or text[10] not in "Tt ":  # noqa: PLR2004 - shortest form
        raise ValueError("expected an RFC 3339 date-time with an offset, such as 2026-11-22T10:05:00Z")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("expected an RFC 3339 date-time with an offset") from None
    if moment.tzinfo is None:
        raise ValueError("expected an offset (Z or +08:00) behind the time")
    return round(moment.timestamp() * 1000)


def format_rfc3339(at: Millis) -> str:
    """Return a moment as ``2026-11-22T10:05:00Z``, with milliseconds where there are any."""
    seconds, millis = divmod(at, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{millis:03d}Z" if millis else f"{text}Z"


_SCHEMA = WithJsonSchema({"type": "string", "format": "date-time"})

TimeIn = Annotated[Millis, BeforeValidator(parse_rfc3339), _SCHEMA]
"""A moment in an incoming event: an RFC 3339 string and nothing else."""

TimeOut = Annotated[Millis, PlainSerializer(format_rfc3339, return_type=str, when_used="json"), _SCHEMA]
"""A moment in an outgoing event: milliseconds inside, RFC 3339 in JSON."""
