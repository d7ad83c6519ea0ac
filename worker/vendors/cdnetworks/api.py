"""Stream forbidding of CDNetworks and Wangsu: what is asked, and what an answer means.

All operations are a POST of a JSON object. The answer's ``code`` decides, whatever the HTTP status of a
success is (202 in the vendor's own example). A stream is named by its complete push URL.

Feature page: https://documents.cdnetworks.com/document/media-roadcast/promptstreamforbidden
Fields: https://github.com/cdnetworks-api/cdnetworks-sdk-go (package streamforbid)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from worker.core.outcome import Done, Facts, Observed, Outcome, Refused, Unknown, Wire
from worker.vendors.base import Entry, Page, Response
from worker.words import Call, ErrorClass, Millis

_LONGEST_URL = 1000
_PUSH_URL = re.compile(r"rtmp\w*://([^/?#:]+)(?::\d+)?/([^?#]*)", re.IGNORECASE)
_ON_THE_WAY: Millis = 10_000
"""How far ahead an end has to lie at least. One that passes on the way could become a ban of a day."""

Asked = tuple[str, dict[str, str]]
"""A path, and the JSON object that goes there."""

# --- what is asked ---------------------------------------------------------------------------------


def forbid(call: Call, max_length: Millis | None, now: Millis) -> Asked:
    """ForbidLivestreaming: cuts a stream, and bans it until ``abstimeEnd`` (whole seconds since 1970).

    The end is a moment, so that a repeat asks for the same one: ``reltime`` would slide, and means a
    whole day where it is not above zero. Beyond 30 days the vendor silently takes 30 days.
    https://documents.cdnetworks.com/document/media-roadcast/promptstreamforbidden
    """
    until = now + (max_length or 0) if call.until is None else call.until
    if until <= now:
        raise ValueError("the end asked for has passed")
    end = -(-max(until, now + _ON_THE_WAY) // 1000)
    return "/api/live/forbid", _stream(call) | {"abstimeEnd": str(end)}


def stop(call: Call, _max_length: Millis | None, _now: Millis) -> Asked:
    """StopLivestreaming: cuts a stream, which may come back.

    https://documents.cdnetworks.com/document/media-roadcast/promptstreamforbidden
    """
    return "/api/live/stop", _stream(call)


def resume(call: Call, _max_length: Millis | None, _now: Millis) -> Asked:
    """ResumeLivestreaming: lifts a ban.

    https://documents.cdnetworks.com/document/media-roadcast/promptstreamforbidden
    """
    return "/api/live/resume", _stream(call)


def forbid_query(call: Call, _max_length: Millis | None, _now: Millis) -> Asked:
    """QueryForbidLivestreamRecord: the bans of a domain, all in one answer.

    https://documents.cdnetworks.com/ko/document/api-doc/32326
    """
    return "/cm/stream/forbidQuery", {"channel": _push_domain(call)}


def _push_domain(call: Call) -> str:
    if not call.target.push_domain:
        raise ValueError("the target does not name its push domain")
    return call.target.push_domain


def _stream(call: Call) -> dict[str, str]:
    """Return the parameters that name a stream: its push URL, as an encoder would send it."""
    url = f"rtmp://{_push_domain(call)}/{call.target.app}/{call.target.stream}"
    if re.search(r"[?#]", url):
        raise ValueError('a name with "?" or "#" in it would be cut there, and name another stream')
    if len(url) > _LONGEST_URL:
        raise ValueError("the push URL is over 1000 characters long")
    return {"liveUrl": url, "type": "publish"}


# --- what an answer means --------------------------------------------------------------------------

CODES: Mapping[int, tuple[ErrorClass, str]] = {
    # Body codes, not HTTP statuses: https://documents.cdnetworks.com/ko/document/api-doc/32326
    1: ("auth", "the account is not active"),
    # The login was accepted before; what remains is a right, which may be missing for one operation alone.
    6: ("config", "the account does not exist, or may not forbid streams"),
    28: ("config", "the account has no rights on the domain"),
    403: ("internal", "the vendor could not parse the request"),
    411: ("internal", "the request names no domain"),
}
_SYSTEM_ERROR = 417
_LIMIT = re.compile(rb"limit|frequen|too many", re.IGNORECASE)


def code_of(body: Mapping[str, Any]) -> int | None:
    """Return an answer's code as a number (``"00"`` and 0 are the same), or None where it is none."""
    code = body.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        return code
    return int(code) if isinstance(code, str) and re.fullmatch(r"-?\d{1,9}", code, re.ASCII) else None


def by_code(call: Call, code: int, wire: Wire) -> Outcome:
    """Return what a code other than 0 means.

    The vendor documents codes for forbid_query alone. A code that is not among them may come from
    something that passes, and to forbid, resume or ask again does no harm, since ends are moments:
    Unknown. A repeated stop could cut the next broadcast, and there is no way to ask first: Refused.
    """
    if code in CODES:
        error, detail = CODES[code]
        return Refused(error, wire, detail)
    if call.operation == "stop" and code != _SYSTEM_ERROR:
        return Refused("vendor", wire, "the vendor refused, for a reason that is not in its documentation")
    return Unknown(wire, "the vendor failed, or refused for a reason that is not in its documentation")


def is_limit(response: Response) -> bool:
    """Return whether a 403 speaks of a limit; how going over one is answered is not documented."""
    return response.status == 403 and bool(_LIMIT.search(response.content))  # noqa: PLR2004 - Forbidden


def acknowledged(_call: Call, _body: Mapping[str, Any], wire: Wire, _now: Millis) -> Outcome:
    """Read a success of ForbidLivestreaming, StopLivestreaming or ResumeLivestreaming."""
    return Done(wire)


def records(call: Call, body: Mapping[str, Any], wire: Wire, now: Millis) -> Outcome:
    """Read QueryForbidLivestreamRecord's success.

    How an empty list looks is not documented, so ``resultDetail`` may be missing. Ends are seconds, as
    number or text; 0 or nothing is an end that is not known. A record with ``ip`` bans one viewer only.
    Records that have ended may still be listed.
    """
    rows = _rows(body)
    if rows is None:
        return Unknown(wire, "the answer is not what the documentation describes")
    ours = [row for row in rows if not row.get("ip") and _names(row.get("url"), call)]
    ends = [_seconds(row.get("endTime")) * 1000 for row in ours]
    ends = [end for end in ends if end == 0 or end > now]
    if not ends:
        return Observed(Facts(forbidden=False), wire)
    return Observed(Facts(forbidden=True, forbidden_until=max(ends) if all(ends) else None), wire)


def all_records(call: Call, body: Mapping[str, Any], wire: Wire, now: Millis) -> Page | Outcome:
    """Read the same answer as the list of a domain's bans, which has one page."""
    rows = _rows(body)
    if rows is None:
        return Unknown(wire, "the answer is not what the documentation describes")
    found: dict[str, Millis | None] = {}
    for row in rows:
        place, end = _place(row.get("url"), call), _seconds(row.get("endTime")) * 1000
        if place is not None and not row.get("ip") and (end == 0 or end > now):
            known = found.get(place, end)
            found[place] = max(known, end) if known and end else None
    return Page(tuple(Entry(name, end) for name, end in found.items()))


def _rows(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    rows = body.get("resultDetail") or []
    rows = [rows] if isinstance(rows, dict) else rows
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def _place(url: Any, call: Call) -> str | None:
    """Return ``APP/STREAM`` of a record's URL; None for one of another domain, or one to play from."""
    match = _PUSH_URL.match(url) if isinstance(url, str) else None
    if match is None or match[1].lower() != (call.target.push_domain or "").lower():
        return None
    return match[2]


def _names(url: Any, call: Call) -> bool:
    """Return whether a record's URL is the stream's push URL; its query part and port do not matter."""
    place = _place(url, call)
    return place is not None and f"{call.target.app}/{call.target.stream}" in (place, unquote(place))


def _seconds(value: Any) -> int:
    """Return a time in seconds, or 0 where it is not known."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


Ask = Callable[[Call, Millis | None, Millis], Asked]
Read = Callable[[Call, Mapping[str, Any], Wire, Millis], Outcome]

OPERATIONS: Mapping[str, tuple[Ask, Read]] = {
    "forbid": (forbid, acknowledged),
    "stop": (stop, acknowledged),
    "resume": (resume, acknowledged),
    "forbid_query": (forbid_query, records),
}
