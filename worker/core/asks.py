"""What asks for an answer of its own at a target: queries, releases, extensions."""

from worker.core.calls import to_lift
from worker.core.holds import GRAIN, desired, end, in_force
from worker.core.state import Ask
from worker.core.turn import Turn
from worker.words import ErrorClass, Purpose, replace

MOVES: frozenset[Purpose] = frozenset({"move_end", "forbid", "lift"})
"""What moves the end of a ban that is in force; some vendors take it only anew."""


def give_up_queries(turn: Turn) -> None:
    """Answer the queries that have expired."""
    late = [ask for ask in turn.state.asks if end(ask.expires_at) <= turn.now]
    if not late:
        return
    reading = turn.state.reading
    error: ErrorClass = (reading.error if reading is not None else None) or "network"
    for ask in late:
        if turn.state.attempts:
            turn.answer(ask, "failed", "Tried until it expired.", reason="gave_up", error=error)
        else:
            turn.answer(ask, "stale", "It expired before anything was sent.", reason="expired")
    kept = tuple(ask for ask in turn.state.asks if ask not in late)
    asking = reading is not None and reading.why == "ask"
    turn.state = replace(turn.state, asks=kept, reading=None if asking else reading)


def answer_releases(turn: Turn) -> None:
    """Answer releases, clears and withdrawals once what only they asked for is open again."""
    if not any(ask.kind == "release" for ask in turn.state.asks) or turn.changing():
        return
    state = turn.state
    doubtful = state.reading is not None and state.reading.why in ("cut", "forbid")
    if doubtful or _too_wide(turn) or _too_long(turn):
        return
    if any(purpose in turn.serves for purpose in to_lift(state, turn.now)):
        return
    closed = any(in_force(state, hold, turn.now) for hold in state.holds if hold.active)
    left = "nothing is in force any more"
    if closed:
        left = "another demand keeps the target closed"
    elif desired(state.holds, turn.now).leads:
        left = "another demand is still to be met"
    elif state.ban is not None and not state.ban.ours:
        left = "a ban that is not ours keeps the target closed"
    for ask in state.asks:
        if ask.kind != "release":
            continue
        detail = f"Released{_by(ask)}; {left}."
        if not closed and to_lift(state, turn.now):
            detail = "The vendor has no call that lifts what is in force."
            turn.answer(ask, "failed", detail, reason="unsupported", error="unsupported")
        else:
            turn.answer(ask, "released", detail, reason="released")
    turn.state = replace(turn.state, asks=tuple(ask for ask in turn.state.asks if ask.kind != "release"))


def _too_wide(turn: Turn) -> bool:
    """Whether regions are blocked that only the released demand asked for."""
    want, block = desired(turn.state.holds, turn.now), turn.state.block
    return bool(want.regions) and block is not None and not set(block.regions) <= set(want.regions)


def _too_long(turn: Turn) -> bool:
    """Whether a ban of ours ends later than what is left demands, and its end is about to be moved."""
    want, ban = desired(turn.state.holds, turn.now), turn.state.ban
    if not want.forbid or ban is None or not ban.ours or end(ban.until) <= end(want.until) + GRAIN:
        return False
    moves = turn.need()
    return moves is not None and moves.purpose in MOVES


def _by(ask: Ask) -> str:
    return f" by {ask.cause.by}" if ask.cause.by else ""


def answer_extends(turn: Turn) -> None:
    """Answer extensions once the later end is in force."""
    if not any(ask.kind == "extend" for ask in turn.state.asks) or turn.changing():
        return
    waits = turn.need() is not None or turn.ctx.control.paused(turn.state) is not None
    if waits and not all(in_force(turn.state, hold, turn.now) for hold in turn.state.holds if hold.active):
        return
    for ask in turn.state.asks:
        if ask.kind == "extend":
            turn.answer(ask, "applied", f"The end was moved{_by(ask)}.", reason="extended")
    turn.state = replace(turn.state, asks=tuple(ask for ask in turn.state.asks if ask.kind != "extend"))
