"""What a vendor's answer changes at a target (DESIGN: outcomes, ambiguity, verification).

::

    Done, AlreadySo, NotThere   what is applied changes; holds are told by ``Turn.settle``
    Throttled, Unreachable      again, with backoff
    Unknown                     a cut is asked about first; everything else is repeated: its end is absolute
    Refused                     failed; ``auth`` stops the account and keeps the demand waiting
    Observed, NextPage          a reading goes on, and at its end resolves a doubt, a query or a check
"""

from typing import assert_never

from worker.core.asks import MOVES
from worker.core.holds import end, in_force
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
from worker.core.readings import ambiguous, has_another_end, nothing_to_cut, observed, was_cut
from worker.core.state import Ban, Block, Hold, Reading, Tried, UnderWay
from worker.core.turn import BACKOFF_BASE, BACKOFF_CAP, Turn
from worker.words import READS, ErrorClass, Millis, replace

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
    if call.purpose in READS and not _awaited(turn, call):
        return
    match outcome:
        case Done():
            _done(turn, call)
        case AlreadySo():
            _already(turn, call)
        case NotThere():
            _not_there(turn, call, outcome, jitter)
        case Refused():
            _refused(turn, call, outcome)
        case Throttled():
            _again(turn, call, "throttled", jitter, outcome.retry_after or 0)
        case Unreachable():
            _again(turn, call, "network", jitter)
        case Unknown():
            _unknown(turn, call, outcome, jitter)
        case Observed():
            observed(turn, outcome.facts)
        case NextPage():
            if turn.state.reading is not None:
                reading = replace(turn.state.reading, cursor=outcome.cursor, retry_at=0, tries=0)
                turn.state = replace(turn.state, reading=reading)
        case _:
            assert_never(outcome)


def _awaited(turn: Turn, call: UnderWay) -> bool:
    """Whether a read's answer belongs to the reading under way, which may have begun after it was asked."""
    reading = turn.state.reading
    return reading is not None and reading.left[0] == call.purpose and call.seq > reading.seq


def interrupted(turn: Turn) -> None:
    """Treat a call that was under way when its worker ended as one that may have happened."""
    call = turn.state.call
    if call is not None:
        answered(turn, call.id, Unknown(detail="The worker ended before the answer."), call.at, 0.0)


def no_room(turn: Turn) -> None:
    """Give the call under way up before it is sent: the vendor is known to take no more of what it adds."""
    call = turn.state.call
    if call is not None:
        turn.state = replace(turn.state, call=None)
        detail = "The vendor keeps only so many, and all places are taken; nothing was called."
        _fail(turn, call, "quota", detail, reason="quota")


def _record(turn: Turn, call: UnderWay, outcome: Outcome, started_at: Millis) -> None:
    state, wire = turn.state, outcome.wire
    if call.purpose in READS and state.reading is not None and state.reading.why == "drift":
        return  # it was made for no demand
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
    turn.state = replace(state, attempts=(*state.attempts, tried)[-ATTEMPTS_KEPT:], called=True)
    if call.purpose not in READS:
        first = started_at
        turn.each(
            lambda hold: (
                replace(hold, sent=True, called_at=hold.called_at or first, answered_at=turn.now)
                if hold.phase == "waiting" and _asked_by(call, hold)
                else hold
            )
        )


def _asked_by(call: UnderWay, hold: Hold) -> bool:
    """Whether a call was made for a demand; what came after it was granted was not in it."""
    return hold.active and hold.seq < call.seq and _serves(call, hold)


def _serves(call: UnderWay, hold: Hold) -> bool:
    match call.purpose:
        case "forbid" | "move_end":
            return hold.action == "forbid"
        case "block_regions":
            return hold.action == "block_regions"
        case "cut":
            return hold.action in ("cut", "forbid")
        case "lift":
            return hold.action == "forbid"
    return False


def _again(turn: Turn, call: UnderWay, error: ErrorClass, jitter: float, wait: Millis = 0) -> None:
    """Exponential backoff with full jitter, never before the vendor's own wait is over."""
    state, reading = turn.state, turn.state.reading
    tries = reading.tries if call.purpose in READS and reading is not None else state.tries
    delay = int(jitter * min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(tries, 16)))
    retry_at = turn.now + wait + max(BACKOFF_FLOOR, delay)
    if call.purpose not in READS:
        turn.state = replace(state, tries=tries + 1, retry_at=retry_at, error=error)
    elif reading is not None and reading.why == "drift":
        turn.state = replace(state, reading=None, compared=turn.now)  # the next one will do
    elif reading is not None:
        reading = replace(reading, tries=tries + 1, retry_at=retry_at, error=error)
        turn.state = replace(state, reading=reading)


def _done(turn: Turn, call: UnderWay) -> None:
    turn.calm()
    state, now = turn.state, turn.now
    match call.purpose:
        case "forbid" | "move_end":
            ban = Ban(call.until, now, clamped=call.clamped, live=_live(turn, call), seq=call.seq)
            turn.state = replace(state, ban=ban)
            turn.restart_check()
        case "block_regions":
            block = Block(call.regions, call.until, now, call.clamped, seq=call.seq)
            turn.state = replace(state, block=block)
            turn.restart_check()
        case "cut":
            was_cut(turn, call, now, state.seq)
        case "lift":
            turn.state = replace(state, ban=None)
        case "unblock_regions":
            turn.state = replace(state, block=None)


def _live(turn: Turn, call: UnderWay) -> bool:
    """Whether the stream may be live in spite of a ban that the vendor has just taken."""
    cuts = turn.view is None or turn.view.forbid_cuts
    return turn.perhaps_live() and not (call.purpose == "forbid" and cuts)


def _already(turn: Turn, call: UnderWay) -> None:
    """Something was so before us. Of a ban the end is asked for where the vendor can tell it."""
    if call.purpose not in ("forbid", "move_end"):
        _done(turn, call)
        return
    ban = turn.state.ban
    if "read_forbid" in turn.serves and not (ban and ban.ours and ban.sure):
        # Its tries are counted on: the read may contradict it.
        reading = Reading("forbid", ("read_forbid",), turn.now, call.seq)
        turn.state = replace(turn.state, retry_at=0, reading=reading)
        return
    turn.calm()
    if ban is not None and ban.ours and (ban.sure or has_another_end(turn, ban)):
        turn.state = replace(turn.state, ban=replace(ban, fixed=True))
    else:
        ours, live = ban is not None and ban.ours, turn.perhaps_live()
        ban = Ban(call.until, turn.now, ours=ours, clamped=call.clamped, live=live, seq=call.seq)
        turn.state = replace(turn.state, ban=ban)


def _not_there(turn: Turn, call: UnderWay, outcome: NotThere, jitter: float) -> None:
    if call.purpose == "cut" and not outcome.sure and "read_live" in turn.serves:
        _again(turn, call, "vendor", jitter)
        reading = Reading("cut", ("read_live",), call.at, call.seq, absent=True)
        turn.state = replace(turn.state, reading=reading)
        return
    if call.purpose not in READS:
        turn.calm()
    match call.purpose:
        case "lift":
            turn.state = replace(turn.state, ban=None)
        case "unblock_regions":
            turn.state = replace(turn.state, block=None)
        case "cut":
            nothing_to_cut(turn, call, turn.state.seq)
        case "move_end":
            turn.state = replace(turn.state, ban=None)
        case "read_forbid" | "read_regions" | "read_live":
            observed(turn, Facts())
        case _:
            _fail(turn, call, "not_found", "The vendor does not know this stream or domain.")


def _perhaps(turn: Turn, call: UnderWay) -> None:
    """Doubt what is in force: it satisfies nothing now, and is lifted when no demand is left."""
    state, ban, block = turn.state, turn.state.ban, turn.state.block
    match call.purpose:
        case "forbid" | "move_end":
            until, mixed = call.until, False
            if ban is not None:
                apart = abs(end(ban.until) - end(until))
                mixed = ban.mixed or apart > turn.ctx.policy.absorb_slack
                until = max(until, ban.until, key=end)
            doubted = Ban(
                until,
                turn.now,
                clamped=call.clamped,
                sure=False,
                mixed=mixed,
                live=turn.perhaps_live(),
                seq=call.seq,
            )
            turn.state = replace(state, ban=doubted)
        case "lift" if ban is not None:
            live = ban.live or (turn.view is not None and not turn.view.forbid_cuts)
            turn.state = replace(state, ban=replace(ban, sure=False, live=live))
        case "block_regions":
            doubtful = Block(call.regions, call.until, turn.now, call.clamped, sure=False, seq=call.seq)
            turn.state = replace(state, block=doubtful)
        case "unblock_regions" if block is not None:
            turn.state = replace(state, block=replace(block, sure=False))


def _refused(turn: Turn, call: UnderWay, outcome: Refused) -> None:
    if outcome.error == "auth":
        if call.purpose not in READS:
            turn.state = replace(turn.state, error="auth", retry_at=turn.now)
        elif turn.state.reading is not None:
            turn.state = replace(turn.state, reading=replace(turn.state.reading, error="auth"))
        return
    if call.purpose in READS:
        _unreadable(turn, outcome)
        return
    _fail(turn, call, outcome.error, outcome.detail or "The vendor refused it.")


def _fail(turn: Turn, call: UnderWay, error: ErrorClass, detail: str, reason: str = "refused") -> None:
    turn.state = replace(turn.state, error=error)

    def failed(hold: Hold) -> Hold | None:
        if not _asked_by(call, hold):
            return hold
        if hold.phase == "waiting":
            hold = turn.tell(hold, "failed", detail, reason=reason, error=error)
            return None if error in _GONE or hold.action == "cut" else hold
        if hold.action == "cut":
            return None
        if error not in _GONE or in_force(turn.state, hold, turn.now):
            return hold
        return _as_it_is(turn, hold)

    turn.each(failed)
    turn.retry_at_reconcile()
    if any(hold.phase == "waiting" and hold.active for hold in turn.state.holds):
        turn.state = replace(turn.state, retry_at=turn.now)  # what came later is still to be tried
    if call.purpose == "cut":
        return
    moves = call.purpose in MOVES and turn.state.ban is not None
    opens = moves or call.purpose in ("unblock_regions", "block_regions")
    refused = ("release", "extend") if opens else ("extend",)
    for ask in turn.state.asks:
        if ask.kind in refused:
            turn.answer(ask, "failed", detail, reason=reason, error=error)
    turn.state = replace(turn.state, asks=tuple(ask for ask in turn.state.asks if ask.kind not in refused))


def _as_it_is(turn: Turn, hold: Hold) -> Hold | None:
    """Return a demand whose end cannot be moved, with the end that is in force; None where nothing is."""
    has = turn.state.ban if hold.action == "forbid" else turn.state.block
    if hold.covered or hold.gave_up is not None or has is None or not has.sure:
        return None
    return replace(hold, until=has.until)


def _unknown(turn: Turn, call: UnderWay, outcome: Unknown, jitter: float) -> None:
    error: ErrorClass = "network" if outcome.wire.http_status is None else "vendor"
    _again(turn, call, error, jitter)
    if call.purpose != "cut":
        _perhaps(turn, call)
        return
    if "read_live" in turn.serves:
        reading = Reading("cut", ("read_live",), call.at, call.seq, retry_at=turn.state.retry_at)
        turn.state = replace(turn.state, reading=reading)
        return
    ambiguous(turn)


def _unreadable(turn: Turn, outcome: Refused) -> None:
    reading = turn.state.reading
    if reading is None:
        return
    if reading.why == "ask":
        ask = next(ask for ask in turn.state.asks if ask.kind == "query")
        detail = outcome.detail or "The vendor refused to say."
        turn.answer(ask, "failed", detail, reason="refused", error=outcome.error)
        asks = tuple(other for other in turn.state.asks if other is not ask)
        turn.state = replace(turn.state, asks=asks, reading=None)
        return
    observed(turn, Facts())
