"""Bring a target in order after whatever happened to it.

What has ended is dropped, what was not done in time is given up, what a stronger demand made needless
is superseded, what the vendor has is told; then the next reading starts. The order of the rules in
``settle`` matters and is the order in which a person would decide.
"""

from collections.abc import Callable
from typing import Literal

from worker.core.asks import answer_extends, answer_releases, give_up_queries
from worker.core.broadcasts import is_another
from worker.core.calls import need
from worker.core.control import sentence
from worker.core.drift import comparable, due_at
from worker.core.holds import FOREVER, covers, desired, end, in_force, outranks
from worker.core.state import Ban, Hold, Parked, Reading
from worker.core.turn import PARKED, Turn
from worker.words import ErrorClass, Purpose, replace

_MATTERS = {"drift": 0, "check": 1, "ask": 2, "cut": 3, "forbid": 3}
"""Which reading takes the place of another: one that matters more."""
_ALL_READS: tuple[Purpose, ...] = ("read_forbid", "read_regions", "read_live")


def settle(turn: Turn) -> None:
    """Bring the target in order after whatever happened."""
    _vendor_ends(turn)
    _each(turn, _end_with_session)
    _each(turn, _ruled)
    _each(turn, _lapse)
    _each(turn, _give_up)
    if turn.went_stale:
        _each(turn, _goes_with_it)
    give_up_queries(turn)
    _ban_by_gate(turn)
    _each(turn, _bring_into_force)
    _each(turn, _supersede)
    _each(turn, _keep_cuts)
    _drop_doubt(turn)
    _each(turn, _kept_waiting)
    answer_releases(turn)
    answer_extends(turn)
    _forget_others(turn)
    _drop_checks(turn)
    _drop_comparison(turn)
    _start_reading(turn)
    if (
        turn.state.attempts
        and not turn.state.asks
        and all(hold.phase == "closed" for hold in turn.state.holds)
    ):
        turn.state = replace(turn.state, attempts=())


def _each(turn: Turn, rule: Callable[[Turn, Hold], Hold | None]) -> None:
    if turn.state.holds:
        turn.each(lambda hold: rule(turn, hold))


def _vendor_ends(turn: Turn) -> None:
    """Drop what has ended by itself; what has not is there until it is lifted."""
    state = turn.state
    if state.ban is not None and end(state.ban.until) <= turn.now and _lapses(turn, "forbid", state.ban.ours):
        turn.state = state = replace(state, ban=None)
    if state.block is not None and end(state.block.until) <= turn.now and _lapses(turn, "block_regions"):
        turn.state = replace(state, block=None)


def _lapses(turn: Turn, purpose: Purpose, ours: bool = True) -> bool:
    operation = turn.serves.get(purpose)
    return operation is None or operation.lapses or not ours


def _end_with_session(turn: Turn, hold: Hold) -> Hold | None:
    another = not hold.over and is_another(turn, hold.session, hold.cause.detected_at)
    if not (hold.over or another) or turn.changing():
        return hold
    detail = "The broadcast it names is over."
    if another:
        detail = "The vendor shows a broadcast that began later than the one it names."
    if hold.phase == "waiting":
        turn.tell(hold, "wrong_session", detail, reason="session_over")
    elif hold.phase == "applied":
        turn.tell(hold, "applied", detail, reason="session_over", terminal=True)
    elif not hold.covered and hold.action != "cut":
        turn.tell(hold, "expired", detail, reason="session_over")
    return None


def _ruled(turn: Turn, hold: Hold) -> Hold | None:
    """Carry out what a human has decided about all that a guard had parked."""
    ruling = turn.ctx.control.rulings.get(hold.guard) if hold.parked == "guard" and hold.guard else None
    if ruling is None or ruling.at <= hold.ruled:
        return hold
    if ruling.decision == "release":
        turn.take_up()
        return replace(hold, parked=None)
    if hold.phase == "waiting":
        because = f": {ruling.reason}" if ruling.reason else ""
        detail = f"Rejected by {ruling.by} with all that guard {hold.guard} had parked{because.rstrip('.')}."
        turn.tell(hold, "cancelled", detail, reason="rejected")
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
    if hold.expires_at > turn.now or turn.changing():
        return hold
    if hold.phase != "waiting":
        # What a parked demand has absorbed is not let go after its time.
        return hold if hold.active else None
    if hold.parked == "account":
        hold = turn.tell(hold, "failed", "The vendor refuses the login.", reason="gave_up", error="auth")
        return _left_for_later(turn, replace(hold, parked=None))
    if not hold.sent:
        paused = hold.parked == "pause"
        detail = f"It expired {'while enforcement was paused' if paused else 'before anything was sent'}."
        turn.tell(hold, "stale", detail, reason="expired")
        turn.went_stale = True
        return None
    reading = turn.state.reading
    error: ErrorClass = turn.state.error or (reading.error if reading is not None else None) or "network"
    if reading is not None and reading.why == "cut" and not reading.absent:
        error = "ambiguous"
    hold = turn.tell(hold, "failed", "Tried until it expired.", reason="gave_up", error=error)
    return _left_for_later(turn, replace(hold, parked=None))


def _goes_with_it(turn: Turn, hold: Hold) -> Hold | None:
    """Drop what was covered by a demand that came to nothing, and has expired itself."""
    if not hold.covered or hold.phase != "closed" or hold.expires_at > turn.now:
        return hold
    stands = any(
        other.id != hold.id and other.active and not other.covered and _stands_before(turn, other, hold)
        for other in turn.state.holds
    )
    return hold if stands else None


def _left_for_later(turn: Turn, hold: Hold) -> Hold | None:
    """Keep the demand of a verdict that was given up, unless others still have the time to be tried."""
    waiting = (other for other in turn.state.holds if other.phase == "waiting" and other.active)
    if all(other.expires_at <= turn.now for other in waiting):
        turn.retry_at_reconcile()
    return None if hold.action == "cut" else hold


def _ban_by_gate(turn: Turn) -> None:
    """Note, move or drop the ban where our publish gate answers from this state: that is all it takes.

    It is in force once the step is committed. Only then is the running broadcast cut, by a call.
    """
    state, view, now = turn.state, turn.view, turn.now
    if view is None or not view.gate:
        return
    if not any(hold.active and hold.action == "forbid" for hold in state.holds):
        turn.state = replace(state, ban=None)
        return
    if turn.ctx.control.paused(state) is not None:
        return
    want, ban = desired(state.holds, now), state.ban
    if not want.forbid:
        return  # the last second of a ban is left to it
    if ban is None or not ban.sure:
        ban = Ban(want.until, now, live=turn.perhaps_live(), seq=state.seq)
    turn.state = replace(state, ban=replace(ban, until=want.until))
    turn.each(
        lambda hold: (
            replace(hold, sent=True, called_at=hold.called_at or now)
            if hold.active and hold.action == "forbid" and hold.phase == "waiting"
            else hold
        )
    )


def _supersede(turn: Turn, hold: Hold) -> Hold | None:
    if hold.phase != "waiting" or not hold.active or turn.changing():
        return hold
    for other in turn.state.holds:
        live = other.phase != "closed" or in_force(turn.state, other, turn.now)
        if other.id != hold.id and other.active and live and outranks(other, hold):
            caused_by, detail = other.cause.verdict_id, "A stronger demand took over."
            hold = turn.tell(hold, "superseded", detail, reason="stronger", caused_by=caused_by)
            return None if hold.action == "cut" and hold.sent else replace(hold, covered=True)
    return hold


def _keep_cuts(turn: Turn, hold: Hold) -> Hold | None:
    """Keep a covered cut until it is needless or too late: what covers it may come to nothing."""
    state, now = turn.state, turn.now
    if hold.action != "cut" or hold.phase != "closed" or turn.changing():
        return hold
    cut = state.cut is not None and state.cut.seq >= hold.seq
    banned = state.ban is not None and state.ban.sure and end(state.ban.until) > now
    if hold.expires_at <= now or cut or banned:
        return None
    covered = any(
        other.phase == "waiting"
        if other.action == "cut"
        else other.gave_up is None or in_force(state, other, now)
        for other in state.holds
        if other.id != hold.id and other.active
    )
    if covered == hold.covered:
        return hold
    turn.take_up()
    return replace(hold, covered=covered)


def _bring_into_force(turn: Turn, hold: Hold) -> Hold | None:
    if not hold.active or hold.action == "cut" or not _is_in_force(turn, hold):
        return hold
    if hold.phase == "waiting":
        return _applied(turn, hold)
    if hold.moved:
        detail = "The stream runs here now; it is in force here too."
        return replace(turn.tell(hold, "applied", detail, terminal=False, reason="moved"), moved=False)
    if hold.gave_up is not None and _last_told(turn) > hold.gave_up:
        detail = "It failed before; now the vendor acknowledged it."
        hold = turn.tell(hold, "applied", detail, terminal=False, reason="reconcile")
        return replace(hold, gave_up=None)
    if hold.lost and turn.state.check is None:
        detail = "The vendor had lost it; it is in force again."
        return replace(turn.tell(hold, "applied", detail, terminal=False, reason="drift"), lost=False)
    if hold.covered and not any(
        other.id != hold.id and other.active and not other.covered and _stands_before(turn, other, hold)
        for other in turn.state.holds
    ):
        detail = "The stronger demand is over; this one is in force for what is left of it."
        return replace(turn.tell(hold, "applied", detail, terminal=False, reason="uncovered"), covered=False)
    return hold


def _last_told(turn: Turn) -> int:
    """Return the target's number when the vendor last told us of what is in force."""
    state, view = turn.state, turn.view
    cut = state.cut.seq if state.cut is not None and view is not None and not view.forbid_cuts else 0
    return max(cut, *(has.seq for has in (state.ban, state.block) if has is not None))


def _stands_before(turn: Turn, other: Hold, hold: Hold) -> bool:
    return covers(other, hold.action, hold.until, hold.regions, turn.ctx.policy.absorb_slack)


def _is_in_force(turn: Turn, hold: Hold) -> bool:
    state, view = turn.state, turn.view
    if not in_force(state, hold, turn.now):
        return False
    uncut = state.ban is not None and state.ban.live
    return not (hold.action == "forbid" and view is not None and not view.forbid_cuts and uncut)


def _applied(turn: Turn, hold: Hold) -> Hold:
    ban = turn.state.ban
    if hold.action == "forbid" and ban is not None and not ban.ours:
        return turn.tell(hold, "already", "The vendor had a ban at least as long.", reason="policy")
    return turn.applied(hold, "The vendor acknowledged it.")


def _drop_doubt(turn: Turn) -> None:
    """Ask no more whether a cut happened once it is not what comes next: a ban need not wait for that."""
    reading = turn.state.reading
    if reading is None or reading.why != "cut":
        return
    without = replace(turn.state, reading=None)
    wanted = need(without, turn.now, turn.ctx.unpaused())
    if wanted is None or wanted.purpose != "cut":
        turn.state = without


def _forget_others(turn: Turn) -> None:
    """Forget a ban that is not ours once no demand rests on it."""
    state = turn.state
    if state.ban is not None and not state.ban.ours and not state.holds and not state.asks:
        turn.state = replace(state, ban=None)


def _kept_waiting(turn: Turn, hold: Hold) -> Hold:
    """Tell once what keeps a demand from being tried, other than the want of a human's word for it."""
    if not hold.active or turn.changing():
        return hold
    why: Parked | None = None
    detail = ""
    if hold.phase == "waiting":
        paused = turn.ctx.control.paused(turn.state)
        if paused is not None:
            why, detail = "pause", sentence(*paused)
        elif turn.state.target.account in turn.ctx.stopped:
            why, detail = "account", PARKED["account"]
    if hold.parked == why:
        return hold
    hold = replace(hold, parked=why)
    return hold if why is None else turn.tell(hold, "held", detail, reason=why)


def _drop_checks(turn: Turn) -> None:
    check, after = turn.state.check, turn.ctx.policy.verify_after
    if check is None:
        return
    concerned = turn.state.ban is not None or turn.state.block is not None or _unverified(turn)
    if not concerned:
        turn.state = replace(turn.state, check=None)
    elif check.index >= len(after) or turn.now >= turn.check_over_at(check):
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


def _drop_comparison(turn: Turn) -> None:
    """Ask no more what is in force where nothing is that can be asked about."""
    reading = turn.state.reading
    if reading is not None and reading.why == "drift" and due_at(turn) == FOREVER:
        turn.state = replace(turn.state, reading=None)


def _start_reading(turn: Turn) -> None:
    """Begin the reading that is due, in place of one that matters less."""
    state = turn.state
    why, left = _due_reading(turn)
    if why is None or (state.reading is not None and _MATTERS[state.reading.why] >= _MATTERS[why]):
        return
    if left:
        turn.state = replace(state, reading=Reading(why, left, turn.now, state.seq))
    elif why == "check":
        turn.state = replace(state, check=None)


def _due_reading(turn: Turn) -> tuple[Literal["ask", "check", "drift"] | None, tuple[Purpose, ...]]:
    """Return which reading is due and its reads; what verifies something compares it too."""
    state = turn.state
    if any(ask.kind == "query" for ask in state.asks):
        return "ask", tuple(purpose for purpose in _ALL_READS if purpose in turn.serves)
    if state.check is not None:
        due = turn.now >= turn.check_at(state.check)
        left = turn.reads(hold for hold in state.holds if hold.active and hold.verify) if due else ()
        return ("check" if due else None), left
    return ("drift", comparable(turn)) if turn.now >= due_at(turn) else (None, ())
