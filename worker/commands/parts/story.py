"""What is known of a stream, as a story in plain text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.commands.parts.explaining import Entry, Explained, InForce, Json, ShownHold
from worker.commands.parts.waiting import PURPOSES, Lines, Waiting
from worker.core.reasons import Look
from worker.events.times import format_rfc3339, parse_rfc3339
from worker.vendors import load_spec, vendor_names
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
    text = [head, *_glance(explained)]
    for title, body in parts:
        if body:
            text += ["", title, *(f"  {line}" for line in body)]
    return "\n".join(text)


_Place = tuple[Any, ...]
_WORST = ("failed", "parked", "waiting")
"""What is not as it was demanded, the worst first."""


def _glance(explained: Explained) -> Iterator[str]:
    """Yield at how many of a stream's places it is as demanded, and where it is not, the worst first."""
    bad: dict[_Place, tuple[int, str]] = {}
    told = {
        _place(entry.data["target"]): entry.data for entry in explained.history if entry.data.get("target")
    }
    for place, data in told.items():
        if data["outcome"] == "failed":
            bad[place] = (0, f"failed [{data['error']['class']}]")
    for one in explained.in_force:
        standings = {hold.standing for hold in explained.holds if hold.target == one.id}
        place = _place({name: getattr(one.target, name) for name in _PLACE})
        told.setdefault(place, {})
        found = next((each for each in _WORST if each in standings), None)
        if found is not None:
            bad[place] = (_WORST.index(found), _STANDINGS[found])
        elif standings:
            bad.pop(place, None)
    if len(told) > 1 and (bad or explained.holds):
        yield f"As demanded at {len(told) - len(bad)} of {len(told)} places{'; not at:' if bad else '.'}"
        for (account, push, play, app, _), (_, why) in sorted(bad.items(), key=lambda item: item[1]):
            yield f"  {_where(account, push or play, app)}: {why}"


_PLACE = ("account", "push_domain", "play_domain", "app", "stream")


def _place(target: Json) -> _Place:
    return tuple(target.get(name) for name in _PLACE)


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
    """Yield what happened, in its order: a request that a result tells of stands where it was made."""
    told: set[tuple[Any, ...]] = set()
    moments = [moment for entry in history for moment in _moments(entry, told)]
    day = ""
    for at, _, (first, *more) in sorted(moments, key=lambda moment: moment[:2]):
        stamp = format_rfc3339(at)
        if stamp[_DATE] != day:
            day = stamp[_DATE]
            yield day
        yield f"  {stamp[_TIME].rstrip('Z'):<12}  {first}"
        yield from (f"  {'':<12}  {line}" for line in more)


_Moment = tuple[Millis, int, list[str]]
"""When, what comes first of several at one time, and the lines that tell it."""


def _moments(entry: Entry, told: set[tuple[Any, ...]]) -> Iterator[_Moment]:
    if entry.kind != "result":
        yield entry.at, 0, list(_RENDER[entry.kind](entry.data, entry.looked_at))
        return
    target = entry.data.get("target") or {}
    for tried in entry.data.get("attempts") or ():
        name = (tuple(target.values()), tried["operation"], tried["at"], tried["n"])
        if name not in told:  # results repeat what those before them told
            told.add(name)
            yield parse_rfc3339(tried["at"]), 1, [_request(tried, target)]
    yield entry.at, 2, list(_result(entry.data, target))


def _verdict(data: Json, looked_at: Sequence[Look] | None) -> Iterator[str]:
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
    yield from decision(looked_at)


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


def _command(data: Json, _: object) -> Iterator[str]:
    holds = f" of {', '.join(data['holds'])}" if data.get("holds") else ""
    until = f" until {data['until']}" if data.get("until") else ""
    said = f': "{data["reason"]}"' if data.get("reason") else ""
    yield f"{data.get('command')}{holds}{until} by {data.get('by')} ({data['command_id']}){said}"


def _stream_event(data: Json, _: object) -> Iterator[str]:
    session = (data.get("stream") or {}).get("session") or {}
    yield f"broadcast {session.get('id', 'without a name')} {data['stream_event']}"


def _request(tried: Json, target: Json) -> str:
    """Return a request, what it was for and what came of it in a line."""
    account, operation, outcome = target["account"], tried["operation"], tried["outcome"]
    length = f"{tried['duration_ms']} ms" if tried.get("duration_ms") is not None else None
    if tried.get("http_status") is None and outcome == "unknown":
        answer = f"unknown: no answer{f' after {length}' if length else ''}, it may have happened"
    elif tried.get("http_status") is None and outcome == "unreachable":
        answer = "unreachable: nothing was sent"
    else:
        code = (str(tried[name]) for name in ("http_status", "vendor_code") if tried.get(name))
        answer = " ".join([*code, outcome, *([f"in {length}"] if length else [])])
    return f"{account}: {operation}{_purpose(operation, target.get('vendor'))} -> {answer}"


def _purpose(operation: str, vendor: str | None) -> str:
    """Return what an operation is for, as far as this installation knows the vendor."""
    spec = load_spec(vendor) if vendor in vendor_names() else None
    serves = spec.operations[operation].serves if spec and operation in spec.operations else ()
    return f" ({' or '.join(PURPOSES[each] for each in serves)})" if serves else ""


def _result(data: Json, target: Json) -> Iterator[str]:
    where = f"{target['account']}: " if target else ""
    action = data.get("action")
    what = f" {action}" if action not in {None, "none"} else ""
    if action in {"forbid", "block_regions"} and data["outcome"] not in {"failed", "released", "duplicate"}:
        what += f" until {data['until']}" if data.get("until") else " for good"
    regions = f" in {', '.join(data['regions'])}" if data.get("regions") else ""
    because = f", because of {data['caused_by']}" if data.get("caused_by") else ""
    error = f" [{data['error']['class']}]" if data.get("error") else ""
    answer = data.get("verdict_id") or data.get("command_id")
    yield f"{where}{answer} {data['outcome']}{what}{regions}{because}{error}"
    rule = f" (rule {data['rule']}, policy {data['policy_version']})" if data.get("rule") else ""
    if data.get("detail"):
        detail = data["detail"]
        yield f"    {detail[0].upper()}{detail[1:]}{rule}"


_RENDER = {"verdict": _verdict, "command": _command, "stream_event": _stream_event}


def _where(account: str, domain: str | None, app: str) -> str:
    return f"{account} {domain}/{app}" if domain else f"{account} {app}"


def _until(until: Millis | None) -> str:
    return "for good" if until is None else f"until {format_rfc3339(until)}"
