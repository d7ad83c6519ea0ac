"""RFC 3339 on the wire, whole milliseconds inside.

Moments lie between 1970 and the end of the year 9999, which is what both sides can hold.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from worker.words import Millis

_SHAPE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST: Millis = 253_402_300_799_999
"""The last moment RFC 3339 can write: 9999-12-31T23:59:59.999Z."""


def parse_rfc3339(text: Any) -> Millis:
    """Return the moment a date-time with an offset names (RFC 3339 section 5.6), rounded to milliseconds.

    Raises ValueError (never with the text in it) for anything else: a number, a missing offset, another
    ISO 8601 form, a leap second, a moment before 1970.
    """
    if not isinstance(text, str) or _SHAPE(text) is None:
        raise PydanticCustomError(
            "time", "expected an RFC 3339 date-time with an offset, such as 2026-11-22T10:05:00Z"
        )
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise PydanticCustomError("time", "expected a date and a time of day that exist") from None
    millis = ((moment - _EPOCH) // _MICROSECOND + 500) // 1000
    if not 0 <= millis <= LAST:
        raise PydanticCustomError("time", "expected a moment between the years 1970 and 9999")
    return millis


@lru_cache(maxsize=4096)
def format_rfc3339(at: Millis) -> str:
    """Return a moment as ``2026-11-22T10:05:00Z``, with milliseconds where there are any.

    What lies beyond the end of the year 9999 is written as its last millisecond. Cached, since a result
    names the same moment several times, and so do those around it.
    """
    seconds, millis = divmod(min(at, LAST), 1000)
    text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{text}.{millis:03d}Z" if millis else f"{text}Z"


_SCHEMA = WithJsonSchema({"type": "string", "format": "date-time"})

TimeIn = Annotated[Millis, BeforeValidator(parse_rfc3339), _SCHEMA]
"""A moment in an incoming event: an RFC 3339 string and nothing else."""

TimeOut = Annotated[Millis, PlainSerializer(format_rfc3339, return_type=str, when_used="json"), _SCHEMA]
"""A moment in an outgoing event: milliseconds inside, RFC 3339 in JSON."""
