"""What every adapter needs to write requests and to read answers: small pure functions.

An adapter asks its own table of codes first. ``by_status`` is what stands behind it: what an HTTP
status means where a vendor's documentation is silent.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from worker.core.outcome import Outcome, Refused, Throttled, Unknown, Unreachable, Wire
from worker.events.regions import REGIONS
from worker.vendors.base import Response
from worker.words import Millis

LONGEST_WAIT: Millis = 86_400_000
"""No Retry-After is believed beyond this."""

CLOCKS_APART: Millis = 180_000
"""From here on two clocks are told to differ: the strictest vendor takes what is 5 minutes off."""

_TOKEN = re.compile(r"[A-Za-z0-9._:/+=-]{1,100}")


def percent(text: str) -> str:
    """Return text percent-encoded by RFC 3986: UTF-8, all but ``A-Z a-z 0-9 - . _ ~``, in capitals."""
    return quote(text, safe="", errors="surrogatepass")


def query(pairs: dict[str, str]) -> str:
    """Return a query string, sorted by name, both sides percent-encoded by RFC 3986."""
    encoded = sorted((percent(name), percent(value)) for name, value in pairs.items())
    return "&".join(f"{name}={value}" for name, value in encoded)


def json_object(response: Response) -> dict[str, Any] | None:
    """Return the JSON object an answer holds, or None where it holds none that can be trusted.

    Of an error in another charset the ASCII parts are kept, for its code; a success has to be UTF-8,
    since the names in it are compared.
    """
    errors = "replace" if response.status >= 400 else "strict"  # noqa: PLR2004 - the HTTP error classes
    try:
        value = json.loads(response.content.decode("utf-8-sig", errors))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def token(value: Any) -> str | None:
    """Return a vendor's code or request id as text, or None for what cannot be one (long, spaced, nested)."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def retry_after(response: Response, now: Millis) -> Millis | None:
    """Return the wait a Retry-After header asks for: seconds, or a date of RFC 9110, 5.6.7."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return min(int(text) * 1000, LONGEST_WAIT)
    at = _http_date(text)
    return None if at is None else min(max(at - now, 0), LONGEST_WAIT)


def _http_date(text: str) -> Millis | None:
    try:
        moment = parsedate_to_datetime(text)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def seen_by_the_clock(outcome: Outcome, response: Response, now: Millis) -> Outcome:
    """Return an outcome; a refused login says so where this host's clock is far from the answer's Date.

    Vendors take signatures that are 5 to 15 minutes old, and seldom say that it was this which they refused.
    """
    if not (isinstance(outcome, Refused) and outcome.error == "auth"):
        return outcome
    at = _http_date(response.headers.get("date", ""))
    if at is None or abs(now - at) < CLOCKS_APART:
        return outcome
    minutes, side = abs(now - at) // 60_000, "ahead of" if now > at else "behind"
    detail = f"{outcome.detail}; this host's clock is {minutes} min {side} the vendor's"
    return replace(outcome, detail=detail.removeprefix("; "))


def by_status(response: Response, wire: Wire, now: Millis) -> Outcome:
    """Return what an answer's status means when its body says nothing that is known.

    A refusal is final only where the status leaves no doubt; what may have happened is Unknown.
    """
    match response.status:
        case 429:
            return Throttled(retry_after(response, now), wire, "over the vendor's rate limit")
        case 408 | 503:
            return Unreachable(wire, "the vendor turned the request away before acting on it")
        case 401:
            return Refused("auth", wire, "the vendor does not accept the account's credentials")
        case 403:  # a right, a login or a gateway's rule: no reason to stop the account, nor to forget
            return Refused("vendor", wire, "the vendor does not allow this to the account")
        case 404 | 410:
            return Refused("not_found", wire, "nothing answers under this address")
        case 405 | 406 | 407 | 415 | 501 | 505:
            return Refused("config", wire, "what answers there does not take such requests")
        case 413 | 414 | 422 | 431:
            return Refused("invalid", wire, "the vendor does not take the request as it is")
        case status if 400 <= status < 500:  # noqa: PLR2004 - the HTTP error classes
            return Refused(
                "vendor", wire, "the vendor refused, for a reason that is not in its documentation"
            )
        case _:
            return Unknown(wire, "the answer does not say whether it was done")


def utc_text(at: Millis, *, round_up: bool = True) -> str:
    """Return a moment as ``2026-11-22T10:05:00Z``; up to the next second, so that no ban ends early."""
    seconds = -(-at // 1000) if round_up else at // 1000
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_millis(value: Any) -> Millis | None:
    """Return the moment a date-time with an offset names, or None for anything else."""
    try:
        moment = datetime.fromisoformat(value)
        return round(moment.timestamp() * 1000) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def others(regions: Iterable[str]) -> tuple[str, ...]:
    """Return the regions of ISO 3166-1 that are not among these: allowed ones for blocked ones, and back."""
    return tuple(sorted(REGIONS - set(regions)))


def left_allowed(blocked: Iterable[str]) -> tuple[str, ...]:
    """Return the regions that stay allowed. Raises ValueError where none does: an empty list may mean all."""
    left = others(blocked)
    if not left:
        raise ValueError("no region would stay allowed")
    return left
