"""All that is known of one stream, put together from its state and from what was published about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from pydantic import TypeAdapter

from worker.commands.parts.waiting import Around, Lines, Waiting, waiting
from worker.core.holds import covers, end, in_force, outranks, slack
from worker.core.policy import Policy
from worker.core.reasons import Look, looks
from worker.core.state import Hold, StreamState, TargetState
from worker.events.incoming import Command, Event, StreamEvent, Verdict
from worker.events.result import ResultTarget
from worker.events.times import TimeOut, parse_rfc3339
from worker.words import Action, Millis, Origin, value

Json = Mapping[str, Any]


@value()
class ShownSession:
    """The current broadcast, as far as any record told."""

    id: str
    started_at: TimeOut | None


@value()
class InForce:
    """What the vendor last told us is in force at one target; nothing of it may be.

    ``sure`` False: it was asked for, and no answer came. ``ours`` False: somebody else's ban. ``shown``: a
    read has shown it. ``renewed``: its end is the vendor's latest, and is moved on in time. ``because``: the
    holds that ask for it.
    """

    target: ResultTarget
    id: str
    action: Literal["forbid", "block_regions", "none"]
    until: TimeOut | None = None
    since: TimeOut | None = None
    regions: tuple[str, ...] = ()
    sure: bool = True
    ours: bool = True
    shown: bool = False
    renewed: bool = False
    cut_at: TimeOut | None = None
    because: tuple[str, ...] = ()


@value()
class ShownHold:
    """One verdict's demand at one target, and how it stands.

    ``standing``: ``in_force``, ``waiting``, ``parked``, ``behind`` (others cover it, ``covered_by``),
    ``failed``, ``over`` (its broadcast has ended) or ``done``. ``released_by``: the command line.
    """

    id: str
    account: str
    target: str
    verdict_id: str | None
    category: str
    origin: Origin
    action: Action
    until: TimeOut | None
    regions: tuple[str, ...]
    rule: str | None
    policy_version: str | None
    session_id: str | None
    placed_at: TimeOut
    expires_at: TimeOut
    standing: str
    parked: str | None
    covered_by: tuple[str, ...]
    released_by: str


@value()
class Entry:
    """Something that happened: ``data`` is the event or the result as it was published.

    ``looked_at``: the rules a verdict met, where the policy that decided is the configured one.
    """

    at: TimeOut
    kind: Literal["verdict", "command", "stream_event", "result"]
    data: Json = field(repr=False)
    looked_at: tuple[Look, ...] | None = None


@value()
class Explained:
    """What is known of a stream."""

    stream: str = field(repr=False)
    session: ShownSession | None
    in_force: tuple[InForce, ...]
    holds: tuple[ShownHold, ...]
    waiting: tuple[Waiting, ...]
    history: tuple[Entry, ...]


_JSON = TypeAdapter(Explained)


def as_json(explained: Explained) -> str:
    """Return it as JSON."""
    return _JSON.dump_json(explained, indent=2).decode()


def explain(
    state: StreamState,
    history: Sequence[Entry],
    around: Around,
    now: Millis,
    lines: Lines,
) -> Explained:
    """Put it together. ``history``: what was published, in any order."""
    session = state.session
    return Explained(
        stream=state.key,
        session=ShownSession(session.id, session.started_at) if session else None,
        in_force=tuple(_in_force(target, around, now) for target in state.targets.values()),
        holds=tuple(
            _hold(hold, target, around, state.key, now, lines)
            for target in state.targets.values()
            for hold in target.holds
        ),
        waiting=tuple(waiting(state, around, now, lines)),
        history=tuple(sorted(history, key=lambda entry: (entry.at, entry.kind == "result"))),
    )


def _in_force(state: TargetState, around: Around, now: Millis) -> InForce:
    target = state.target
    spec = around.specs.get(target.account)
    where = ResultTarget(
        account=target.account,
        vendor=spec.name if spec else None,
        push_domain=target.push_domain,
        play_domain=target.play_domain,
        app=target.app,
        stream=target.stream,
    )
    cut_at = state.cut.at if state.cut is not None else None
    because = tuple(hold.id for hold in state.holds if in_force(state, hold, now))
    ban, block = state.ban, state.block
    if ban is not None and end(ban.until) > now:
        return InForce(
            where,
            target.id,
            "forbid",
            ban.until,
            ban.since,
            sure=ban.sure,
            ours=ban.ours,
            shown=ban.shown,
            renewed=ban.clamped,
            cut_at=cut_at,
            because=because,
        )
    if block is not None and end(block.until) > now:
        return InForce(
            where,
            target.id,
            "block_regions",
            block.until,
            block.since,
            block.regions,
            sure=block.sure,
            renewed=block.clamped,
            cut_at=cut_at,
            because=because,
        )
    return InForce(where, target.id, "none", cut_at=cut_at)


def _hold(hold: Hold, state: TargetState, around: Around, key: str, now: Millis, lines: Lines) -> ShownHold:
    covered_by = tuple(_before(hold, state, around.ctx.policy, now))
    return ShownHold(
        id=hold.id,
        account=state.target.account,
        target=state.target.id,
        verdict_id=hold.cause.verdict_id,
        category=hold.category,
        origin=hold.origin,
        action=hold.action,
        until=hold.until,
        regions=hold.regions,
        rule=hold.rule,
        policy_version=hold.cause.policy_version,
        session_id=hold.session.id if hold.session else None,
        placed_at=hold.placed_at,
        expires_at=hold.expires_at,
        standing=_standing(hold, state, covered_by, now),
        parked=hold.parked,
        covered_by=covered_by,
        released_by=lines.line("release", key, "--hold", hold.id),
    )


def _before(hold: Hold, state: TargetState, policy: Policy, now: Millis) -> Iterator[str]:
    """Yield the holds because of which this one need not be brought about itself."""
    allowed = slack(end(hold.until) - hold.placed_at, policy.absorb_slack)
    for other in state.holds:
        if other.id == hold.id or not other.active or end(other.until) <= now:
            continue
        covering = covers(other, hold.action, hold.until, hold.regions, allowed)
        if outranks(other, hold) or (hold.covered and not other.covered and covering):
            yield other.id


def _standing(hold: Hold, state: TargetState, covered_by: Sequence[str], now: Millis) -> str:
    if hold.parked is not None:
        return "parked"
    if hold.over:
        return "over"
    if covered_by:
        return "behind"
    if in_force(state, hold, now):
        return "in_force"
    if hold.gave_up is not None:
        return "failed"
    return "done" if hold.action == "cut" and hold.phase != "waiting" else "waiting"


# What was published.


def event_entry(event: Event, data: Json, at: Millis) -> Entry:
    """Return the entry of an event that came in."""
    match event:
        case Verdict():
            return Entry(at, "verdict", data)
        case Command():
            return Entry(at, "command", data)
        case StreamEvent():
            return Entry(at, "stream_event", data)


def result_entry(data: Json) -> Entry:
    """Return the entry of a result. Raises ValueError for data that is not a result's."""
    return Entry(parse_rfc3339(data.get("at")), "result", data)


def with_looks(
    entries: Iterable[Entry], state: StreamState, policy: Policy, verdicts: Mapping[str, Verdict]
) -> Iterator[Entry]:
    """Add to each verdict the rules it met, where the policy that decided it is the configured one.

    Whether a policy did, its demands and results tell: a verdict that is stale, or of a broadcast that is
    over, meets no rule.
    """
    kept = list(entries)
    holds = (hold for target in state.targets.values() for hold in target.holds)
    versions: dict[str | None, str | None] = {
        hold.cause.verdict_id: hold.cause.policy_version for hold in holds
    }
    versions |= {
        entry.data["verdict_id"]: entry.data.get("policy_version")
        for entry in kept
        if entry.kind == "result" and entry.data.get("verdict_id")
        if entry.data.get("rule") or entry.data["outcome"] == "no_action"
    }
    for entry in kept:
        name = entry.data.get("verdict_id")
        verdict = verdicts.get(name) if entry.kind == "verdict" and name is not None else None
        if verdict is None or verdict.kind != "violation" or versions.get(name) != policy.version:
            yield entry
        else:
            yield Entry(entry.at, entry.kind, entry.data, looks(policy, verdict))
