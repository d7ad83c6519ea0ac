"""ApsaraVideo Live, version 2016-11-01: what is asked, and what an answer means.

All operations are RPC style: a POST to ``/`` with an empty body and everything in the query. Bans and
cuts name the *push* domain; region blocks and lists the *play* domain (the main one, for lists). Lengths
the vendor would fill in (six months, seven days) are always sent.

Pages: https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-overview
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.vendors.base import Entry, Operation, Page, Response
from worker.vendors.reading import LONGEST_WAIT, retry_after, utc_millis, utc_text
from worker.words import Call, ErrorClass, Millis

VERSION = "2016-11-01"

BLOCKED_PAGE = 1000
"""Entries of a page of banned streams. 3000 are allowed, but need not fit into one answer (1 MiB)."""

RULES_PAGE = 100
ONLINE_PAGE = 500


Asked = tuple[str, dict[str, str]]
"""An operation by the vendor's own name (``Action``), and its parameters."""

# --- what is asked ---------------------------------------------------------------------------------


def forbid(call: Call, operation: Operation, now: Millis) -> Asked:
    """ForbidLiveStream: ``cut`` only interrupts (``Oneshot=yes``); ``forbid`` also bans until a time.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-forbidlivestream
    """
    parameters = _stream(call, call.target.push_domain) | {"LiveStreamType": "publisher"}
    if call.purpose == "cut":
        return "ForbidLiveStream", parameters | {"Oneshot": "yes"}
    return "ForbidLiveStream", parameters | {"Oneshot": "no", "ResumeTime": _end(call, operation, now)}


def resume(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """ResumeLiveStream: lifts a ban.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-resumelivestream
    """
    return "ResumeLiveStream", _stream(call, call.target.push_domain) | {"LiveStreamType": "publisher"}


def set_region_block(call: Call, operation: Operation, now: Millis) -> Asked:
    """SetLiveStreamBlock: no playback in these regions until a time. The last rule of a stream counts.

    Region codes go out as they are. The vendor names only two examples (``CN,AS``) and no list: a
    sibling product's list is of ISO 3166-1 codes, as a verdict's are.
    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-setlivestreamblock
    """
    if not call.regions:
        raise ValueError("a region block needs at least one region")
    rule = {
        "BlockType": "blacklist",
        "LocationList": ",".join(sorted(set(call.regions))),
        "ReleaseTime": _end(call, operation, now),
    }
    return "SetLiveStreamBlock", _stream(call, call.target.play_domain) | rule


def delete_region_block(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DeleteLiveStreamBlock: lifts a stream's region block.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-deletelivestreamblock
    """
    return "DeleteLiveStreamBlock", _stream(call, call.target.play_domain)


def describe_region_block(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DescribeStreamLocationBlock: a stream's region block, and how far its roll-out is.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-describestreamlocationblock
    """
    parameters = _stream(call, call.target.play_domain) | {"BlockType": "blacklist"}
    return "DescribeStreamLocationBlock", parameters | _page(call, RULES_PAGE)


def list_blocked(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DescribeLiveStreamsBlockList: all banned streams of a main play domain.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-describelivestreamsblocklist
    """
    domain = _domain(call.target.play_domain)
    return "DescribeLiveStreamsBlockList", domain | _page(call, BLOCKED_PAGE)


def all_region_blocks(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DescribeStreamLocationBlock: the region blocks of a whole play domain."""
    domain = _domain(call.target.play_domain)
    return "DescribeStreamLocationBlock", domain | {"BlockType": "blacklist"} | _page(call, RULES_PAGE)


def list_online(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DescribeLiveStreamsOnlineList: a stream's broadcasts. Names match in part unless asked for strictly.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-describelivestreamsonlinelist
    """
    parameters = _stream(call, call.target.play_domain) | {"QueryType": "strict"}
    return "DescribeLiveStreamsOnlineList", parameters | _page(call, ONLINE_PAGE)


def stream_state(call: Call, _operation: Operation, _now: Millis) -> Asked:
    """DescribeLiveStreamState: whether a stream is live. It takes either domain, and is given the push one.

    https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-describelivestreamstate
    """
    return "DescribeLiveStreamState", _stream(call, call.target.push_domain)


def _domain(domain: str | None) -> dict[str, str]:
    if not domain:
        raise ValueError("the target does not name the domain that this operation needs")
    return {"DomainName": domain}


def _stream(call: Call, domain: str | None) -> dict[str, str]:
    """Return the parameters that name a stream. ``*`` is a wildcard here, and would name many."""
    if "*" in (call.target.app, call.target.stream):
        raise ValueError('an application or stream called "*" would name every one of the domain')
    return _domain(domain) | {"AppName": call.target.app, "StreamName": call.target.stream}


def _end(call: Call, operation: Operation, now: Millis) -> str:
    """Return the end to ask for; a past one has no documented meaning and is not asked for."""
    end = now + (operation.max_length or 0) if call.until is None else call.until
    if end <= now:
        raise ValueError("the end asked for has passed")
    return utc_text(end)


def _page(call: Call, size: int) -> dict[str, str]:
    return {"PageNum": call.cursor or "1", "PageSize": str(size)}


# --- what an answer means --------------------------------------------------------------------------


def acknowledged(_call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read ForbidLiveStream's and ResumeLiveStream's success: it holds a RequestId and nothing else."""
    return Done(wire) if body.get("RequestId") else _unreadable(wire)


def created(_call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read SetLiveStreamBlock's and DeleteLiveStreamBlock's success, where ``Status`` decides.

    ``fail`` says that at least one of several parts could not be set up: some may have been.
    """
    if body.get("Status") == "ok":
        return Done(wire)
    return Unknown(wire, "the vendor answered with success, but not with Status ok")


_STATES, _MOVING, _FAILED, _NOT_IN_FORCE = range(6), (0, 1, 5), 3, (3, 4)


def region_block(call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read DescribeStreamLocationBlock.

    ``Status`` of a rule: 0 not started, 1 under way, 2 in force, 3 failed, 4 expired, 5 being deleted.
    """
    rows = _rows(call, body, "StreamBlockList", "StreamBlock", "Count")
    if rows is None:
        return _unreadable(wire)
    ours = [row for row in rows if _is_ours(call, row) and row.get("BlockType") in (None, "blacklist")]
    states = [_number(row.get("Status")) for row in ours]
    there = [row for row, state in zip(ours, states, strict=True) if state not in _NOT_IN_FORCE]
    if any(state not in _STATES for state in states) or not all(
        isinstance(row.get("LocationList"), str) for row in there
    ):
        return _unreadable(wire)
    if not there and (cursor := _next(call, body, len(rows), RULES_PAGE, "Count")):
        return NextPage(cursor, wire)
    codes = {code.strip() for row in there for code in row["LocationList"].split(",")}
    ends = [end for row in there if (end := utc_millis(row.get("ReleaseTime"))) is not None]
    facts = Facts(
        regions=tuple(sorted(codes - {""})),
        regions_until=min(ends, default=None),
        in_progress=any(state in _MOVING for state in states),
        gave_up=_FAILED in states and not there,
    )
    return Observed(facts, wire)


def all_rules(call: Call, body: Mapping[str, Any], wire: Wire) -> Page | Outcome:
    """Read a page of a domain's region blocks, less those that failed or have expired."""
    rows = _rows(call, body, "StreamBlockList", "StreamBlock", "Count")
    if rows is None:
        return _unreadable(wire)
    there = [row for row in rows if _number(row.get("Status")) not in _NOT_IN_FORCE]
    if any(_number(row.get("Status")) not in _STATES for row in rows) or not all(
        isinstance(row.get(key), str) for row in there for key in ("AppName", "StreamName", "LocationList")
    ):
        return _unreadable(wire)
    entries = (
        Entry(
            f"{row['AppName']}/{row['StreamName']}",
            utc_millis(row.get("ReleaseTime")),
            tuple(sorted({code.strip() for code in row["LocationList"].split(",")} - {""})),
        )
        for row in there
        if row.get("BlockType") in (None, "blacklist")
    )
    return Page(tuple(entries), _next(call, body, len(rows), RULES_PAGE, "Count"))


def all_blocked(call: Call, body: Mapping[str, Any], wire: Wire) -> Page | Outcome:
    """Read a page of a domain's banned streams."""
    rows = _rows(call, body, "StreamUrls", "StreamUrl", "TotalNum", of=str)
    if rows is None:
        return _unreadable(wire)
    entries = tuple(Entry(row.partition("/")[2]) for row in rows)
    return Page(entries, _next(call, body, len(rows), BLOCKED_PAGE, "TotalNum"))


def blocked(call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read DescribeLiveStreamsBlockList: texts ``domain/app/stream``, without an end.

    The documentation does not say which domain stands there, so any will do: app and stream decide.
    """
    rows = _rows(call, body, "StreamUrls", "StreamUrl", "TotalNum", of=str)
    if rows is None:
        return _unreadable(wire)
    name, total = f"{call.target.app}/{call.target.stream}", _number(body.get("TotalNum"))
    if any(row.partition("/")[2] == name for row in rows):
        return Observed(Facts(forbidden=True), wire, total=total)
    if cursor := _next(call, body, len(rows), BLOCKED_PAGE, "TotalNum"):
        return NextPage(cursor, wire, total=total)
    return Observed(Facts(forbidden=False), wire, total=total)


def online(call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read DescribeLiveStreamsOnlineList; of several broadcasts the latest start counts."""
    rows = _rows(call, body, "OnlineInfo", "LiveStreamOnlineInfo", "TotalNum")
    if rows is None:
        return _unreadable(wire)
    ours = [row for row in rows if _is_ours(call, row)]
    if ours:
        starts = [at for row in ours if (at := utc_millis(row.get("PublishTime"))) is not None]
        return Observed(Facts(live=True, live_since=max(starts, default=None)), wire)
    if cursor := _next(call, body, len(rows), ONLINE_PAGE, "TotalNum"):
        return NextPage(cursor, wire)
    return Observed(Facts(live=False), wire)


def state(_call: Call, body: Mapping[str, Any], wire: Wire) -> Outcome:
    """Read DescribeLiveStreamState."""
    match body.get("StreamState"):
        case "online":
            return Observed(Facts(live=True), wire)
        case "offline":
            return Observed(Facts(live=False), wire)
        case _:
            return _unreadable(wire)


def _unreadable(wire: Wire) -> Unknown:
    return Unknown(wire, "the answer is not what the documentation describes")


def _is_ours(call: Call, row: Mapping[str, Any]) -> bool:
    return (row.get("AppName"), row.get("StreamName")) == (call.target.app, call.target.stream)


def _number(value: Any) -> int | None:
    """Return a count, which may come as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _rows(
    call: Call, body: Mapping[str, Any], outer: str, inner: str, total: str, *, of: type = dict
) -> list[Any] | None:
    """Return a list's entries, which may be wrapped or single; None where they are not to be believed."""
    rows = body.get(outer)
    rows = rows.get(inner) if isinstance(rows, dict) else rows
    if rows is None:
        rows = []
    rows = rows if isinstance(rows, list) else [rows]
    announced = _number(body.get(total))
    missing = not rows and not call.cursor and (announced or (announced is None and outer not in body))
    return None if missing or any(not isinstance(row, of) for row in rows) else rows


def _next(call: Call, body: Mapping[str, Any], rows: int, size: int, total: str) -> str | None:
    """Return the cursor of the next page, or None behind the last. Of the counts, any may be missing."""
    page = int(call.cursor or 1)
    pages, count = _number(body.get("TotalPage")), _number(body.get(total))
    size = _number(body.get("PageSize")) or size
    if pages is None:
        pages = page + (rows >= size) if count is None else -(-count // size)
    return str(page + 1) if rows and page < pages else None


_CODES: tuple[tuple[str, type[AlreadySo | Throttled | Unknown | Unreachable] | ErrorClass, str], ...] = (
    # The code begins so; the first line that fits decides. Live's own codes stand on
    # https://www.alibabacloud.com/help/en/live/developer-reference/api-live-2016-11-01-errorcodes,
    # the gateway's on the pages of many products, which disagree about the HTTP status.
    ("Throttling", Throttled, "over the account's rate limit"),
    ("ServiceUnavailable", Unreachable, "the service is not available"),
    ("InternalError", Unknown, "the vendor failed inside"),
    ("SignatureNonceUsed", Unreachable, "the nonce was used before; the next request has another"),
    ("ConfigAlreadyExists", AlreadySo, "the vendor has this ban already, perhaps with another end"),
    ("QuotaExceeded", "quota", "the vendor's list is full"),
    ("InvalidTimeStamp.Expired", "auth", "clock skew: over 15 minutes off the vendor's time"),
    ("InvalidTimeStamp", "internal", "the date is not in the vendor's form"),
    ("IllegalTimestamp", "internal", "the date is not in the vendor's form"),
    ("IncompleteSignature", "internal", "the signature is not complete"),
    ("SignatureDoesNotMatch", "auth", "the signature does not match: is the secret right?"),
    ("InvalidAccessKeyId", "auth", "the AccessKey does not exist or is not active"),
    ("InvalidSecurityToken", "auth", "the security token is not valid, or no longer"),
    ("MissingSecurityToken", "auth", "a temporary AccessKey needs its security token"),
    ("InvalidIdentity", "auth", "the account may not use the service"),
    # A right that is missing for one operation stops no other.
    ("Forbidden", "config", "a RAM policy does not allow it"),
    ("NoPermission", "config", "a RAM policy does not allow it"),
    ("IllegalOperation", "config", "the account may not operate this domain"),
    ("InvalidProtocol", "config", "the vendor takes https only"),
    # Not config: a domain may be added to the account later, and the demand is then tried again.
    ("InvalidDomain.NotFound", "not_found", "the account has no such domain"),
    ("InvalidApi", "unsupported", "the vendor has no such operation here"),
    ("InvalidAction", "unsupported", "the vendor has no such operation here"),
    ("InvalidVersion", "unsupported", "the vendor has no such operation here"),
    ("UnsupportedOperation", "unsupported", "the vendor does not support it here"),
    ("Invalid", "invalid", "the vendor does not take a parameter"),
    ("Missing", "invalid", "the vendor misses a parameter"),
)  # fmt: skip


def by_code(call: Call, code: str, response: Response, wire: Wire, now: Millis) -> Outcome | None:
    """Return what an error code means, or None for one that is not known."""
    found = next((entry for entry in _CODES if code.startswith(entry[0])), None)
    if found is None:
        return None
    _, meaning, detail = found
    if isinstance(meaning, str):
        return Refused(meaning, wire, detail)
    if meaning is Throttled:
        wait = _number(response.headers.get("x-acs-retry-after", ""))  # milliseconds; Retry-After: seconds
        return Throttled(min(wait, LONGEST_WAIT) if wait else retry_after(response, now), wire, detail)
    if meaning is AlreadySo and call.operation != "forbid":
        return Unknown(wire, "the vendor says that it exists, which does not answer this call")
    return meaning(wire=wire, detail=detail)


Ask = Callable[[Call, Operation, Millis], Asked]
Read = Callable[[Call, Mapping[str, Any], Wire], Outcome]

OPERATIONS: Mapping[str, tuple[Ask, Read]] = {
    "forbid": (forbid, acknowledged),
    "resume": (resume, acknowledged),
    "set_region_block": (set_region_block, created),
    "delete_region_block": (delete_region_block, created),
    "describe_region_block": (describe_region_block, region_block),
    "list_blocked": (list_blocked, blocked),
    "list_online": (list_online, online),
    "stream_state": (stream_state, state),
}

ReadAll = Callable[[Call, Mapping[str, Any], Wire], Page | Outcome]

WHOLE: Mapping[str, tuple[Ask, ReadAll]] = {
    "list_blocked": (list_blocked, all_blocked),
    "describe_region_block": (all_region_blocks, all_rules),
}
"""How the lists of a whole domain are asked for and read."""
