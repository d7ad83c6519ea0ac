"""What is known of a stream, as a story in plain text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.commands.parts.explaining import Entry, Explained, InForce, ShownHold
from worker.commands.parts.waiting import Lines, Waiting
from worker.core.reasons import Look
from worker.events.times import format_rfc3339
from worker.words import Millis

_DATE, _TIME = slice(0, 10), slice(11, 23)
_STANDINGS: Mapping[str, str] = {
    "in_force": "in force",
    "waiting": "not in force yet",
    "parked": "held",
    "behind": "kept behind",
    "failed": "given up, tried again at the next reconciliation",
    "over": "its broadcast is over",
    "done": "done",
}


def as_text(explained: Explained, since: Millis, lines: Lines) -> str:
    """Return it for people. ``since``: from when on the history was read."""
    if not (explained.in_force or explained.holds or explained.history):
        return (
            f"Nothing is known of {explained.stream}: no state, and nothing was published about it since "
            f"{format_rfc3339(since)}."
        )
    session = explained.session
    head = explained.stream
    if session is not None:
        began = f", since {format_rfc3339(session.started_at)}" if session.started_at is not None else ""
        head += f"   (broadcast {session.id}{began})"
    parts = [
        ("In force", [_in_force(one, explained.holds) for one in explained.in_force] or ["nothing"]),
        ("Demands", [line for hold in explained.holds for line in _hold(hold)]),
        ("Waits", [line for one in explained.waiting for line in _waiting(one)]),
        ("Would lift it", _lifts(explained, lines)),
        (f"What happened, since {format_rfc3339(since)}", list(_story(explained.history))),
    ]
    text = [head]
    for title, body in parts:
        if body:
            text += ["", title, *(f"  {line}" for line in body)]
    return "\n".join(text)


def _in_force(one: InForce, holds: Sequence[ShownHold]) -> str:
    where = _where(one.target.account, one.target.push_domain or one.target.play_domain, one.target.app)
    vendor = f" ({one.target.vendor})" if one.target.vendor else ""
    if one.action == "none":
        cut = f"; last cut at {format_rfc3339(one.cut_at)}" if one.cut_at is not None else ""
        return f"{where}{vendor}: nothing of ours{cut}"
    what = "forbidden" if one.action == "forbid" else f"blocked in {', '.join(one.regions)}"
    what = what if one.sure else f"perhaps {what} (asked for, and no answer came)"
    said = "; the vendor shows it" if one.shown else ""
    renewed = " (the latest end it takes, moved on in time)" if one.renewed else ""
    whose = "" if one.ours else ", by somebody else"
    verdicts = dict.fromkeys(hold.verdict_id for hold in holds if hold.id in one.because)
    because = f", because of {', '.join(map(str, verdicts))}" if verdicts else ""
    return f"{where}{vendor}: {what} {_until(one.until)}{renewed}{whose}{because}{said}"


def _hold(hold: ShownHold) -> Iterator[str]:
    what = hold.action if hold.action == "cut" else f"{hold.action} {_until(hold.until)}"
    where = f" in {', '.join(hold.regions)}" if hold.regions else ""
    standing = _STANDINGS[hold.standing]
    if hold.standing == "behind":
        standing += f" {', '.join(hold.covered_by)}: it comes into force when that ends first"
    if hold.parked is not None:
        standing += f" ({hold.parked})"
    yield f"{hold.id} at {hold.account}: {what}{where}; {standing}"
    rule = f", rule {hold.rule} of policy {hold.policy_version}" if hold.rule else ""
    bound = f", bound to broadcast {hold.session_id}" if hold.session_id else ""
    yield f"    by verdict {hold.verdict_id} ({hold.category}, {hold.origin}){rule}{bound}"


def _waiting(one: Waiting) -> Iterator[str]:
    which = f" {one.hold}" if one.hold else ""
    yield f"{one.account}{which}: {one.detail}"
    for line in one.lets_go:
        yield f"    {line}"


def _lifts(explained: Explained, lines: Lines) -> list[str]:
    commands: dict[str, list[str]] = {}
    for hold in explained.holds:
        commands.setdefault(hold.released_by, []).append(str(hold.verdict_id))
    if not commands:
        return []
    if len(commands) == 1:
        return [*commands]
    everything = lines.line("release", explained.stream)
    return [f"{everything}   # everything", *(f"{line}   # {ids[0]} only" for line, ids in commands.items())]


# The story.


def _story(history: Sequence[Entry]) -> Iterator[str]:
    day = ""
    told: set[tuple[Any, ...]] = set()
    for entry in history:
        at = format_rfc3339(entry.at)
        if at[_DATE] != day:
            day = at[_DATE]
            yield day
        clock = at[_TIME].rstrip("Z")
        first, *more = _RENDER[entry.kind](entry, told)
        yield f"  {clock:<12}  {first}"
        yield from (f"  {'':<12}  {line}" for line in more)


def _verdict(entry: Entry, _told: set[tuple[Any, ...]]) -> Iterator[str]:
    data = entry.data
    kind = data.get("kind") or "violation"
    words = [str(data["category"])] if data.get("category") else []
    if kind == "withdraw":
        words.append(f"takes {data.get('withdraws')} back")
    if kind == "clear":
        words.append("is no longer seen")
    if data.get("severity"):
        words.append(str(data["severity"]))
    if data.get("confidence") is not None:
        words.append(f"confidence {data['confidence']:g}")
    words.append(str(data.get("origin") or "machine"))
    if data.get("mode") == "shadow":
        words.append("shadow")
    said = f': "{data["reason"]}"' if data.get("reason") else ""
    session = (data.get("stream") or {}).get("session") or {}
    broadcast = f" of broadcast {session['id']}" if session.get("id") else ""
    yield f"verdict {data['verdict_id']}{broadcast} ({', '.join(words)}){said}"
    yield from decision(entry.looked_at)


def decision(looked_at: Sequence[Look] | None) -> Iterator[str]:
    """Yield which rule decides, and why those before it do not."""
    if not looked_at:
        return
    *losers, last = looked_at
    if not last.matches:
        losers.append(last)
        yield "    no rule matches"
    else:
        yield f"    rule {last.rule} matches"
    yield from (f"      not {look.rule}: {look.why}" for look in losers)


def _command(entry: Entry, _told: set[tuple[Any, ...]]) -> Iterator[str]:
    data = entry.data
    holds = f" of {', '.join(data['holds'])}" if data.get("holds") else ""
    until = f" until {data['until']}" if data.get("until") else ""
    said = f': "{data["reason"]}"' if data.get("reason") else ""
    yield f"{data.get('command')}{holds}{until} by {data.get('by')} ({data['command_id']}){said}"


def _stream_event(entry: Entry, _told: set[tuple[Any, ...]]) -> Iterator[str]:
    session = (entry.data.get("stream") or {}).get("session") or {}
    yield f"broadcast {session.get('id', 'without a name')} {entry.data['stream_event']}"


def _result(entry: Entry, told: set[tuple[Any, ...]]) -> Iterator[str]:
    data = entry.data
    target = data.get("target") or {}
    where = f"{target['account']}: " if target else ""
    requests = [line for tried in data.get("attempts") or () if (line := _tried(tried, target, told))]
    action = data.get("action")
    what = f" {action}" if action not in {None, "none"} else ""
    if action in {"forbid", "block_regions"} and data["outcome"] not in {"failed", "released", "duplicate"}:
        what += f" until {data['until']}" if data.get("until") else " for good"
    regions = f" in {', '.join(data['regions'])}" if data.get("regions") else ""
    because = f", because of {data['caused_by']}" if data.get("caused_by") else ""
    error = f" [{data['error']['class']}]" if data.get("error") else ""
    answer = data.get("verdict_id") or data.get("command_id")
    yield f"{where}{answer} {data['outcome']}{what}{regions}{because}{error}"
    yield from (f"    {line}" for line in requests)
    rule = f" (rule {data['rule']}, policy {data['policy_version']})" if data.get("rule") else ""
    if data.get("detail"):
        yield f"    {data['detail']}{rule}"


def _tried(tried: Mapping[str, Any], target: Mapping[str, Any], told: set[tuple[Any, ...]]) -> str:
    """Return a request in a line; nothing where it was told already, as results repeat it."""
    name = (tuple(target.values()), tried["operation"], tried["at"], tried["n"])
    if name in told:
        return ""
    told.add(name)
    status = f" {tried['http_status']}" if tried.get("http_status") is not None else ""
    code = f" {tried['vendor_code']}" if tried.get("vendor_code") else ""
    length = f" in {tried['duration_ms']} ms" if tried.get("duration_ms") is not None else ""
    clock = tried["at"][_TIME].rstrip("Z")
    return (
        f"request {tried['n']} at {clock}: {tried['operation']} ->{status}{code} {tried['outcome']}{length}"
    )


_RENDER = {"verdict": _verdict, "command": _command, "stream_event": _stream_event, "result": _result}


def _where(account: str, domain: str | None, app: str) -> str:
    return f"{account} {domain}/{app}" if domain else f"{account} {app}"


def _until(until: Millis | None) -> str:
    return "for good" if until is None else f"until {format_rfc3339(until)}"
