"""What a vendor's answer changes at a target (DESIGN: outcomes, ambiguity, verification).

::

    Done, AlreadySo, NotThere   what is applied changes; holds are told by ``Turn.settle``
    Throttled, Unreachable      again, with backoff
    Unknown                     a cut is asked about first; everything else is repeated: its end is absolute
    Refused                     failed; ``auth`` stops the account and keeps the demand waiting
    Observed, NextPage          a reading goes on, and at its end resolves a doubt, a query or a check
"""

from dataclasses import replace
from typing import assert_never

from worker.core.holds import FOREVER, end
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
    word,
)
from worker.core.readings import ambiguous, observed, was_cut
from worker.core.state import Ban, Block, Cut, Hold, Reading, Tried, UnderWay
from worker.core.turn import BACKOFF_BASE, Turn
from worker.words import READS, ErrorClass, Millis

BACKOFF_CAP: Millis = 30_000
BACKOFF_FLOOR: Millis = 100
ATTEMPTS_KEPT = 20
_GONE: frozenset[ErrorClass] = frozenset({"config", "invalid", "unsupported"})


def answered(
    turn: Turn,
    call_id: str,
    outcome: Outcome,
    started_at: Millis | None,
    jitter: float,
) -> None:
    """Take an answer into account. One to a call that is no longer under way changes nothing.

    ``started_at`` None: the request never left. ``jitter`` in [0, 1) spreads the retries.
    """
    call = turn.state.call
    if call is None or call.id != call_id:
        return
    turn.state = replace(turn.state, call=None)
    if started_at is not None:
        _record(turn, call, outcome, started_at)
    match outcome:
        case Done():
            _done(turn, call)
        case AlreadySo():
            _already(turn, call)
        case NotThere():
            _not_there(turn, call)
        case Refused():
            _refused(turn, call, outcome)
        case Throttled():
            _again(turn, "throttled", jitter, outcome.retry_after or 0)
        case Unreachable():
            _again(turn, "network", jitter)
        case Unknown():
            _unknown(turn, call, outcome, jitter)
        case Observed():
            observed(turn, outcome.facts)
        case NextPage():
            turn.calm()
            if turn.state.reading is not None:
                turn.state = replace(turn.state, reading=replace(turn.state.reading, cursor=outcome.cursor))
        case _:
            assert_never(outcome)


def interrupted(turn: Turn) -> None:
    """Treat a call that was under way when its worker ended as one that may have happened."""
    call = turn.state.call
    if call is not None:
        answered(turn, call.id, Unknown(detail="The worker ended before the answer."), call.at, 0.0)


def _record(turn: Turn, call: UnderWay, outcome: Outcome, started_at: Millis) -> None:
    state, wire = turn.state, outcome.wire
    n = state.attempts[-1].n + 1 if state.attempts else 1
    tried = Tried(
        n,
        call.operation,
        started_at,
        turn.now - started_at,
        word(outcome),
        wire.http_status,
        wire.vendor_code,
        wire.vendor_request_id,
    )
    spent = (*state.spent, (call.operation, turn.now)) if call.pays else state.spent
    turn.state = replace(state, attempts=(*state.attempts, tried)[-ATTEMPTS_KEPT:], spent=spent)
    if call.purpose not in READS:
        first = started_at
        turn.each(
            lambda hold: (
                replace(hold, sent=True, called_at=hold.called_at or first, answered_at=turn.now)
                if hold.phase == "waiting" and hold.active and _serves(call, hold)
                else hold
            )
        )


def _serves(call: UnderWay, hold: Hold) -> bool:
    match call.purpose:
        case "forbid" | "move_end":
            return hold.action in ("forbid", "block_regions")
        case "block_regions":
            return hold.action == "block_regions"
        case "cut":
            return hold.action in ("cut", "forbid")
        case "lift":
            return hold.action == "forbid"
    return False


def _again(turn: Turn, error: ErrorClass, jitter: float, wait: Millis = 0) -> None:
    """Exponential backoff with full jitter, never before the vendor's own wait is over."""
    state = turn.state
    delay = int(jitter * min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(state.tries, 16)))
    retry_at = turn.now + wait + max(BACKOFF_FLOOR, delay)
    turn.state = replace(state, tries=state.tries + 1, retry_at=retry_at, error=error)


def _done(turn: Turn, call: UnderWay) -> None:
    turn.calm()
    state, now = turn.state, turn.now
    match call.purpose:
        case "forbid" | "move_end":
            turn.state = replace(state, ban=Ban(call.until, now, clamped=call.clamped))
            turn.restart_check()
        case "block_regions":
            turn.state = replace(state, block=Block(call.regions, call.until, now, call.clamped))
            turn.restart_check()
        case "cut":
            was_cut(turn, now)
        case "lift":
            turn.state = replace(state, ban=None)
        case "unblock_regions":
            turn.state = replace(state, block=None)


def _already(turn: Turn, call: UnderWay) -> None:
    """Something was so before us. Of a ban the end is asked for where the vendor can tell it."""
    state = turn.state
    turn.calm()
    if call.purpose not in ("forbid", "move_end"):
        _done(turn, call)
        return
    if state.ban is not None and state.ban.ours and state.ban.sure:
        turn.state = replace(turn.state, ban=replace(state.ban, fixed=True))
    elif turn.view is not None and "read_forbid" in turn.view.serves:
        turn.state = replace(turn.state, reading=Reading("forbid", ("read_forbid",), turn.now))
    else:
        ours = state.ban is not None
        turn.state = replace(turn.state, ban=Ban(call.until, turn.now, ours=ours, clamped=call.clamped))


def _not_there(turn: Turn, call: UnderWay) -> None:
    turn.calm()
    match call.purpose:
        case "lift":
            turn.state = replace(turn.state, ban=None)
        case "unblock_regions":
            turn.state = replace(turn.state, block=None)
        case "cut":
            turn.state = replace(turn.state, cut=Cut(turn.now, None, None))
            turn.each(lambda hold: _nothing_to_cut(turn, hold))
        case "move_end":
            turn.state = replace(turn.state, ban=None)
        case "read_forbid" | "read_regions" | "read_live":
            observed(turn, Facts())
        case _:
            _fail(turn, call, "not_found", "The vendor does not know this stream or domain.")


def _nothing_to_cut(turn: Turn, hold: Hold) -> Hold | None:
    if hold.action != "cut" or hold.phase != "waiting":
        return hold
    turn.tell(hold, "no_action", "The stream was not live: there was nothing to cut.", reason="not_live")
    return None


def _perhaps(turn: Turn, call: UnderWay) -> None:
    """Doubt what is in force: it satisfies nothing now, and is lifted when no demand is left."""
    state, ban, block = turn.state, turn.state.ban, turn.state.block
    match call.purpose:
        case "forbid" | "move_end":
            until = call.until
            if ban is not None and end(ban.until) > end(until):
                until = ban.until
            turn.state = replace(state, ban=Ban(until, turn.now, clamped=call.clamped, sure=False))
        case "lift" if ban is not None:
            turn.state = replace(state, ban=replace(ban, sure=False))
        case "block_regions":
            doubtful = Block(call.regions, call.until, turn.now, call.clamped, sure=False)
            turn.state = replace(state, block=doubtful)
        case "unblock_regions" if block is not None:
            turn.state = replace(state, block=replace(block, sure=False))


def _refused(turn: Turn, call: UnderWay, outcome: Refused) -> None:
    if outcome.error == "auth":
        turn.state = replace(turn.state, error="auth", retry_at=turn.now)
        return
    if call.purpose in READS:
        _unreadable(turn, outcome)
        return
    _fail(turn, call, outcome.error, outcome.detail or "The vendor refused it.")


def _fail(turn: Turn, call: UnderWay, error: ErrorClass, detail: str) -> None:
    turn.state = replace(turn.state, error=error)
    turn.retry_at_reconcile()
    if error in _GONE:
        turn.state = replace(turn.state, retry_at=0)

    def failed(hold: Hold) -> Hold | None:
        if not hold.active or not _serves(call, hold):
            return hold
        if hold.phase == "waiting":
            hold = turn.tell(hold, "failed", detail, reason="refused", error=error)
        return None if error in _GONE or hold.action == "cut" else hold

    turn.each(failed)
    if call.purpose in ("lift", "unblock_regions"):
        for ask in turn.state.asks:
            if ask.kind == "release":
                turn.answer(ask, "failed", detail, reason="refused", error=error)
        kept = tuple(ask for ask in turn.state.asks if ask.kind != "release")
        pause = turn.ctx.policy.reconcile
        retry_at = FOREVER if pause is None else turn.now + pause
        turn.state = replace(turn.state, asks=kept, retry_at=retry_at)


def _unknown(turn: Turn, call: UnderWay, outcome: Unknown, jitter: float) -> None:
    error: ErrorClass = "network" if outcome.wire.http_status is None else "vendor"
    _again(turn, error, jitter)
    if call.purpose != "cut":
        _perhaps(turn, call)
        return
    if turn.view is not None and "read_live" in turn.view.serves:
        turn.state = replace(turn.state, reading=Reading("cut", ("read_live",), call.at))
        return
    ambiguous(turn)


def _unreadable(turn: Turn, outcome: Refused) -> None:
    reading = turn.state.reading
    if reading is None:
        return
    turn.calm()
    if reading.why == "ask":
        ask = next(ask for ask in turn.state.asks if ask.kind == "query")
        detail = outcome.detail or "The vendor refused to say."
        turn.answer(ask, "failed", detail, reason="refused", error=outcome.error)
        asks = tuple(other for other in turn.state.asks if other is not ask)
        turn.state = replace(turn.state, asks=asks, reading=None)
        return
    observed(turn, Facts())
