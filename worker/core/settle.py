"""Bring a target in order after whatever happened to it.

What has ended is dropped, what was not done in time is given up, what a stronger demand made needless
is superseded, what the vendor has is told; then the next reading starts. The order of the rules in
``settle`` matters and is the order in which a person would decide.
"""

from collections.abc import Callable
from dataclasses import replace

from worker.core.holds import covers, end, in_force, outranks
from worker.core.state import Hold, Reading
from worker.core.turn import CHECK_GRACE, PARKED, Turn
from worker.words import ErrorClass, Purpose

_ALL_READS: tuple[Purpose, ...] = ("read_forbid", "read_regions", "read_live")


def settle(turn: Turn) -> None:
    """Bring the target in order after whatever happened."""
    _vendor_ends(turn)
    _each(turn, _end_with_session)
    _each(turn, _lapse)
    _each(turn, _give_up)
    _give_up_queries(turn)
    _each(turn, _bring_into_force)
    _each(turn, _supersede)
    _each(turn, _stopped_account)
    _answer_releases(turn)
    _answer_extends(turn)
    _drop_checks(turn)
    _start_reading(turn)
    if not turn.state.asks and all(hold.phase == "closed" for hold in turn.state.holds):
        turn.state = replace(turn.state, attempts=())


def _each(turn: Turn, rule: Callable[[Turn, Hold], Hold | None]) -> None:
    if turn.state.holds:
        turn.each(lambda hold: rule(turn, hold))


def _vendor_ends(turn: Turn) -> None:
    state = turn.state
    if state.ban is not None and end(state.ban.until) <= turn.now:
        turn.state = state = replace(state, ban=None)
    if state.block is not None and end(state.block.until) <= turn.now:
        turn.state = replace(state, block=None)


def _end_with_session(turn: Turn, hold: Hold) -> Hold | None:
    if not hold.over or turn.changing():
        return hold
    detail = "The broadcast it names is over."
    if hold.phase == "waiting":
        turn.tell(hold, "wrong_session", detail, reason="session_over")
    elif hold.phase == "applied":
        turn.tell(hold, "applied", detail, reason="session_over", terminal=True)
    else:
        turn.tell(hold, "expired", detail, reason="session_over")
    return None


def _lapse(turn: Turn, hold: Hold) -> Hold | None:
    if end(hold.until) > turn.now or turn.changing():
        return hold
    if hold.phase == "waiting":
        _give_up(turn, replace(hold, expires_at=min(hold.expires_at, turn.now)))
        return None
    if hold.phase == "applied":
        turn.tell(hold, "applied", "It ended before it could be verified.", terminal=True, reason="ended")
    if not hold.covered:
        turn.tell(hold, "expired", "Its time is over.", reason="until")
    return None


def _give_up(turn: Turn, hold: Hold) -> Hold | None:
    if hold.phase != "waiting" or hold.expires_at > turn.now or turn.changing():
        return hold
    if hold.parked == "account":
        turn.tell(hold, "failed", "The vendor refuses the login.", reason="gave_up", error="auth")
        return None
    if not hold.sent:
        turn.tell(hold, "stale", "It expired before anything was sent.", reason="expired")
        return None
    doubt = turn.state.reading is not None and turn.state.reading.why == "cut"
    error: ErrorClass = "ambiguous" if doubt else turn.state.error or "network"
    hold = turn.tell(hold, "failed", "Tried until it expired.", reason="gave_up", error=error)
    if doubt:
        turn.state = replace(turn.state, reading=None)
    turn.retry_at_reconcile()
    return None if hold.action == "cut" else hold


def _give_up_queries(turn: Turn) -> None:
    late = [ask for ask in turn.state.asks if end(ask.expires_at) <= turn.now]
    if not late:
        return
    for ask in late:
        if turn.state.attempts:
            error = turn.state.error or "network"
            turn.answer(ask, "failed", "Tried until it expired.", reason="gave_up", error=error)
        else:
            turn.answer(ask, "stale", "It expired before anything was sent.", reason="expired")
    kept = tuple(ask for ask in turn.state.asks if ask not in late)
    asking = turn.state.reading is not None and turn.state.reading.why == "ask"
    turn.state = replace(turn.state, asks=kept, reading=None if asking else turn.state.reading)


def _supersede(turn: Turn, hold: Hold) -> Hold | None:
    if hold.phase != "waiting" or not hold.active or turn.changing():
        return hold
    for other in turn.state.holds:
        live = other.phase != "closed" or in_force(turn.state, other, turn.now)
        if other.id != hold.id and other.active and live and outranks(other, hold):
            hold = turn.tell(
                hold, "superseded", "A stronger demand took over.", caused_by=other.cause.verdict_id
            )
            return None if hold.action == "cut" else replace(hold, covered=True)
    return hold


def _bring_into_force(turn: Turn, hold: Hold) -> Hold | None:
    if not hold.active or hold.action == "cut" or not _is_in_force(turn, hold):
        return hold
    if hold.phase == "waiting":
        return _applied(turn, hold)
    if hold.covered and not any(
        other.id != hold.id and other.active and not other.covered and _stands_before(turn, other, hold)
        for other in turn.state.holds
    ):
        detail = "The stronger demand is over; this one is in force for what is left of it."
        return replace(turn.tell(hold, "applied", detail, terminal=False, reason="uncovered"), covered=False)
    return hold


def _stands_before(turn: Turn, other: Hold, hold: Hold) -> bool:
    return covers(other, hold.action, hold.until, hold.regions, turn.ctx.policy.absorb_slack)


def _is_in_force(turn: Turn, hold: Hold) -> bool:
    state, view = turn.state, turn.view
    if not in_force(state, hold, turn.now):
        return False
    uncut = state.ban is not None and (state.cut is None or state.cut.at < state.ban.since)
    return not (hold.action == "forbid" and view is not None and not view.forbid_cuts and uncut)


def _applied(turn: Turn, hold: Hold) -> Hold:
    ban = turn.state.ban
    if hold.action == "forbid" and ban is not None and not ban.ours:
        return turn.tell(hold, "already", "The vendor had a ban at least as long.", reason="policy")
    return turn.applied(hold, "The vendor acknowledged it.")


def _stopped_account(turn: Turn, hold: Hold) -> Hold:
    stopped = turn.state.target.account in turn.ctx.stopped
    if hold.parked == "account" and not stopped:
        return replace(hold, parked=None)
    if stopped and hold.phase == "waiting" and hold.parked is None:
        hold = replace(hold, parked="account")
        return turn.tell(hold, "held", PARKED["account"], reason="account")
    return hold


def _answer_releases(turn: Turn) -> None:
    if not any(ask.kind == "release" for ask in turn.state.asks) or turn.changing():
        return
    coming = turn.need()
    doubtful = turn.state.reading is not None and turn.state.reading.why in ("cut", "forbid")
    if doubtful or (coming is not None and coming.purpose in ("lift", "unblock_regions")):
        return
    closed = any(in_force(turn.state, hold, turn.now) for hold in turn.state.holds if hold.active)
    stuck = turn.state.ban is not None and turn.state.ban.ours and not closed and coming is None
    for ask in turn.state.asks:
        if ask.kind != "release":
            continue
        if stuck:
            turn.answer(ask, "failed", "The vendor has no call that lifts a ban.", error="unsupported")
        elif closed:
            turn.answer(ask, "released", "Released; another demand keeps the target closed.")
        else:
            turn.answer(ask, "released", "Released; nothing is in force any more.")
    turn.state = replace(turn.state, asks=tuple(ask for ask in turn.state.asks if ask.kind != "release"))


def _answer_extends(turn: Turn) -> None:
    if not any(ask.kind == "extend" for ask in turn.state.asks) or turn.changing():
        return
    if turn.need() is not None and not all(
        in_force(turn.state, hold, turn.now) for hold in turn.state.holds if hold.active
    ):
        return
    for ask in turn.state.asks:
        if ask.kind == "extend":
            turn.answer(ask, "applied", "The end was moved.")
    turn.state = replace(turn.state, asks=tuple(ask for ask in turn.state.asks if ask.kind != "extend"))


def _drop_checks(turn: Turn) -> None:
    check, after = turn.state.check, turn.ctx.policy.verify_after
    if check is None:
        return
    concerned = turn.state.ban is not None or turn.state.block is not None or _unverified(turn)
    if not concerned:
        turn.state = replace(turn.state, check=None)
    elif check.index >= len(after) or turn.now >= check.since + after[-1] + CHECK_GRACE:
        detail = "It could not be verified before the last check."
        turn.each(lambda hold: _conclude_applied(turn, hold, detail))
        turn.state = replace(turn.state, check=None)
    if turn.state.check is None and turn.state.reading is not None and turn.state.reading.why == "check":
        turn.state = replace(turn.state, reading=None)


def _conclude_applied(turn: Turn, hold: Hold, detail: str) -> Hold | None:
    if hold.phase != "applied":
        return hold
    hold = turn.tell(hold, "applied", detail, terminal=True, reason="not_verified")
    return None if hold.action == "cut" else hold


def _unverified(turn: Turn) -> bool:
    return any(hold.phase == "applied" for hold in turn.state.holds)


def _start_reading(turn: Turn) -> None:
    state = turn.state
    urgent = any(ask.kind == "query" for ask in state.asks)
    if state.reading is not None and not (state.reading.why == "check" and urgent):
        return
    serves = turn.view.serves if turn.view is not None else {}
    if urgent:
        left = tuple(purpose for purpose in _ALL_READS if purpose in serves)
        turn.state = replace(state, reading=Reading("ask", left, turn.now))
        return
    if state.check is not None and turn.now >= turn.check_at(state.check):
        left = turn.reads(hold for hold in state.holds if hold.active and hold.verify)
        if left:
            turn.state = replace(state, reading=Reading("check", left, turn.now))
        else:
            turn.state = replace(state, check=None)
