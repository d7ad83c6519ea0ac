"""The six operations of Huawei Cloud Live: what is sent for each, and what an answer means.

The paths of drafts follow ``/v1/{project_id}``.

Errors: https://support.huaweicloud.com/api-live/ErrorCode.html (LIVE.*) and
https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-errorcode.html (APIGW.*, APIG.*).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from worker.core.outcome import (
    AlreadySo,
    Done,
    Facts,
    NextPage,
    NotThere,
    Observed,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.vendors.base import Entry, Page, Response
from worker.vendors.huawei.sign import Draft
from worker.vendors.reading import by_status, json_object, query, retry_after, token, utc_millis, utc_text
from worker.words import Call, ErrorClass, Millis

PAGE_SIZE = 100
"""The most either list gives at once."""


def block_once(call: Call) -> Draft:
    """Cut the running broadcast. Nothing is put on the block list.

    https://support.huaweicloud.com/api-live/CreateStreamForbiddenOnce.html
    """
    return Draft("POST", "/stream/block-once", "", _json(_names(call)))


def block(call: Call, end: Millis) -> Draft:
    """Put a stream on the block list until ``end``, which the vendor takes up to 90 days ahead.

    https://support.huaweicloud.com/api-live/live_03_0010.html
    """
    return Draft("POST", "/stream/blocks", "", _json(_names(call) | {"resume_time": utc_text(end)}))


def update_block(call: Call, end: Millis) -> Draft:
    """Move the end of a block. The page's example says POST; its own URI line says PUT.

    https://support.huaweicloud.com/api-live/topic_updateStreamForbidden.html
    """
    return replace(block(call, end), method="PUT")


def unblock(call: Call) -> Draft:
    """Take a stream off the block list. 204 is no proof that it is off; a read is.

    https://support.huaweicloud.com/api-live/live_03_0011.html
    """
    return Draft("DELETE", "/stream/blocks", query(_names(call)))


def list_blocks(call: Call) -> Draft:
    """Ask for this stream's entry of the block list. Pages count from 0.

    https://support.huaweicloud.com/api-live/topic_retrieveStreamForbidden.html
    """
    page = {"page": call.cursor or "0", "size": str(PAGE_SIZE)}
    return Draft("GET", "/stream/blocks", query(_names(call) | page))


def all_blocks(call: Call) -> Draft:
    """Ask for a page of a domain's whole block list, by the same interface."""
    page = {"page": call.cursor or "0", "size": str(PAGE_SIZE)}
    return Draft("GET", "/stream/blocks", query({"domain": _push_domain(call)} | page))


def list_online(call: Call) -> Draft:
    """Ask for this stream's entry among the live ones. This interface has other names for the fields.

    https://support.huaweicloud.com/api-live/ListLiveStreamsOnline.html
    """
    page = {"offset": call.cursor or "0", "limit": str(PAGE_SIZE)}
    return Draft("GET", "/realtime/streams", query(_online_names(call) | page))


def _names(call: Call) -> dict[str, str]:
    target, domain = call.target, _push_domain(call)
    if "*" in (target.app, target.stream):
        raise ValueError(f"{call.operation} acts on one stream: a name that is * is not sent")
    return {"domain": domain, "app_name": target.app, "stream_name": target.stream}


def _push_domain(call: Call) -> str:
    if not call.target.push_domain:
        raise ValueError(f"{call.operation} needs the push_domain of its target")
    return call.target.push_domain


def _online_names(call: Call) -> dict[str, str]:
    names = _names(call)
    return {"publish_domain": names["domain"], "app": names["app_name"], "stream": names["stream_name"]}


def _json(value: dict[str, str]) -> bytes:
    return json.dumps(value).encode("ascii")


def read_done(call: Call, response: Response, now: Millis) -> Outcome:
    """Return what the answer to a change means. 204 and nothing else says that it was done."""
    body = json_object(response)
    wire = _wire(response, body)
    if response.status == 204:  # noqa: PLR2004 - the one documented success
        return Done(wire)
    return _failure(call, response, body, wire, now)


def read_blocks(call: Call, response: Response, now: Millis) -> Outcome:
    """Return whether the block list has this very stream. A block whose end has passed is none."""
    page = int(call.cursor or 0)
    names = {"app_name": call.target.app, "stream_name": call.target.stream}

    def facts(entry: dict[str, Any] | None) -> Facts | None:
        if entry is None:
            return Facts(forbidden=False)
        text = entry.get("resume_time")
        end = utc_millis(text)
        if end is None and text not in (None, ""):
            return None
        in_force = end is None or end > now
        return Facts(forbidden=in_force, forbidden_until=end if in_force else None)

    keys, offset, cursor = ("blocks", "total"), page * PAGE_SIZE, str(page + 1)
    return _read_list(call, response, now, facts, keys=keys, names=names, offset=offset, cursor=cursor)


def read_online(call: Call, response: Response, now: Millis) -> Outcome:
    """Return whether this very stream is live, and since when."""
    offset = int(call.cursor or 0)
    names = {"app": call.target.app, "stream": call.target.stream}

    def facts(entry: dict[str, Any] | None) -> Facts:
        if entry is None:
            return Facts(live=False)
        return Facts(live=True, live_since=utc_millis(entry.get("start_time")))

    keys, cursor = ("streams", "total_num"), str(offset + PAGE_SIZE)
    return _read_list(call, response, now, facts, keys=keys, names=names, offset=offset, cursor=cursor)


def _read_list(
    call: Call,
    response: Response,
    now: Millis,
    facts: Callable[[dict[str, Any] | None], Facts | None],
    *,
    keys: tuple[str, str],
    names: dict[str, str],
    offset: int,
    cursor: str,
) -> Outcome:
    """Find the entry with exactly these names, or say at which cursor to go on.

    The filters are sent, but how exactly the vendor compares is not documented; so it is done here too.
    """
    read = _page(call, response, now, keys, offset)
    if not isinstance(read, _Rows):
        return read
    unreadable = Unknown(read.wire, "the vendor's list cannot be read")
    for entry in read.rows:
        if all(entry.get(key) == name for key, name in names.items()):
            found = facts(entry)
            return unreadable if found is None else Observed(found, read.wire)
    if read.more:
        return NextPage(cursor, read.wire)
    absent = facts(None)
    return unreadable if absent is None else Observed(absent, read.wire)


def read_all_blocks(call: Call, response: Response, now: Millis) -> Page | Outcome:
    """Return a page of a domain's blocks, less those whose end has passed."""
    page = int(call.cursor or 0)
    read = _page(call, response, now, ("blocks", "total"), page * PAGE_SIZE)
    if not isinstance(read, _Rows):
        return read
    found: list[Entry] = []
    for row in read.rows:
        app, stream, text = (row.get(key) for key in ("app_name", "stream_name", "resume_time"))
        end = utc_millis(text)
        told = end is not None or text in (None, "")
        if not isinstance(app, str) or not isinstance(stream, str) or not told:
            return Unknown(read.wire, "the vendor's list cannot be read")
        if end is None or end > now:
            found.append(Entry(f"{app}/{stream}", end))
    return Page(tuple(found), str(page + 1) if read.more else None)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A page of a list; ``more``: it has another one."""

    rows: list[dict[str, Any]] = field(repr=False)
    more: bool
    wire: Wire


def _page(call: Call, response: Response, now: Millis, keys: tuple[str, str], offset: int) -> _Rows | Outcome:
    """Return the entries of a page of either list, which stand under the first of ``keys``."""
    body = json_object(response)
    wire = _wire(response, body)
    if response.status != 200 or wire.vendor_code:  # noqa: PLR2004 - the one documented success
        return _failure(call, response, body, wire, now)
    entries, total = ((body or {}).get(key) for key in keys)
    if entries is None and total == 0:
        entries = []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return Unknown(wire, "the vendor's list cannot be read")
    more = len(entries) >= PAGE_SIZE or (isinstance(total, int) and offset + len(entries) < total)
    return _Rows(entries, bool(entries) and more, wire)


def _wire(response: Response, body: dict[str, Any] | None) -> Wire:
    code, request_id = ((body or {}).get(key) for key in ("error_code", "request_id"))
    return Wire(
        response.status, token(code), token(response.headers.get("x-request-id")) or token(request_id)
    )


def is_gateways(response: Response) -> bool:
    """Return whether an error is the gateway's own, which stands before the service."""
    return str((json_object(response) or {}).get("error_code")).startswith(("APIGW.", "APIG."))


def _failure(call: Call, response: Response, body: dict[str, Any] | None, wire: Wire, now: Millis) -> Outcome:
    """Return what an answer other than the documented success means: by its code, else by its status."""
    code = (wire.vendor_code or "").replace("APIG.", "APIGW.", 1)
    meaning = _CODES.get(f"{code} {response.status}") or _CODES.get(code)
    match by_status(response, wire, now) if meaning is None else meaning(wire):
        case Throttled() as throttled:
            return replace(throttled, retry_after=retry_after(response, now))
        case Refused(error="auth") as refused if code != "APIGW.0307" and "expired" in _message(body):
            return replace(
                refused, detail="signed too long ago, or with expired keys: check this host's clock"
            )
        case AlreadySo() if call.operation not in ("block", "update_block"):
            return Unknown(wire, "the vendor says that it exists, which does not answer this call")
        case outcome:
            return outcome


def _message(body: dict[str, Any] | None) -> str:
    return str((body or {}).get("error_msg")).lower()


def _refused(error: ErrorClass, detail: str) -> Callable[[Wire], Outcome]:
    return lambda wire: Refused(error, wire, detail)


def _unreachable(detail: str) -> Callable[[Wire], Outcome]:
    return lambda wire: Unreachable(wire, detail)


def _unknown(detail: str) -> Callable[[Wire], Outcome]:
    return lambda wire: Unknown(wire, detail)


def _gateway(numbers: str, meaning: Callable[[Wire], Outcome]) -> dict[str, Callable[[Wire], Outcome]]:
    return {f"APIGW.{number}": meaning for number in numbers.split()}


_CODES: dict[str, Callable[[Wire], Outcome]] = {
    "LIVE.100011001": _refused("invalid", "a parameter is not accepted, or the domain is unknown"),
    "LIVE.100011001 403": _refused("not_found", "the domain is not one of this account's"),
    "LIVE.100011003": _refused("config", "the user may not call this operation"),
    "LIVE.100011004": _refused("config", "the interface speaks HTTPS only"),
    "LIVE.100011005": _unknown("internal error of the vendor"),
    "LIVE.100011006": _unreachable("the interface is in maintenance, or not in this version"),
    "LIVE.100011008": _unreachable("the interface is in maintenance"),
    "LIVE.100011009": _refused("config", "the user does not exist"),
    "LIVE.100011011": _refused("internal", "the vendor does not know this method here"),
    "LIVE.100011012": _refused("internal", "the vendor does not know this media type"),
    "LIVE.100011013": _refused("config", "the account has no real-name authentication"),
    "LIVE.100011014": _refused("config", "the account may not use the service"),
    "LIVE.103011018": lambda wire: AlreadySo(wire, "the vendor has this entry already"),
    "LIVE.103011019": lambda wire: NotThere(wire, "the vendor has no such entry"),
    "LIVE.103011020": _refused("quota", "the account has used up its number of domains"),
    "LIVE.103011021": _unknown("the vendor's database failed, which it reports with 400"),
    "LIVE.103011022": _refused("config", "not allowed in the state the domain is in"),
    "APIGW.0201": _refused("invalid", "the gateway does not take the request as it is"),
    "APIGW.0201 502": _unknown("the service behind the gateway was not available"),
    "APIGW.0201 504": _unknown("the service behind the gateway did not answer in time"),
    "APIGW.0307": _refused("auth", "the token must be renewed, or belongs to another region"),
    "APIGW.0308": lambda wire: Throttled(None, wire, "over the gateway's rate limit"),
    "APIGW.0501": _refused("quota", "the application's quota is used up"),
    "APIGW.0502": _refused("config", "the account is frozen or in arrears"),
    "APIGW.0601": _unknown("internal error of the gateway"),
    "APIGW.0602": _refused("invalid", "the gateway does not take the request as it is"),
    "APIGW.0613": _unreachable("the vendor's login service is not available"),
    **_gateway("0301 0303 0305 0311", _refused("auth", "the access key or the signature is not accepted")),
    **_gateway("0302 0304 0306", _refused("config", "the user may not call this operation")),
    **_gateway("0310 0801 0802", _refused("config", "the project or the user has no access in this region")),
    **_gateway("0401 0402 0404", _refused("config", "the gateway does not let this address through")),
    **_gateway("0101 0607 0612", _refused("config", "the endpoint has no such interface")),
    **_gateway(
        "0103 0104 0105 0106 0605 0606 0608 0609 0610 0611 0705",
        _unreachable("the gateway could not pass the request on"),
    ),
}
"""What each documented code means; with a status behind it, what it means under that status."""
