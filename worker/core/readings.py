"""What facts that were read change at a target: a doubt, a query or a check comes to its end."""

from worker.core.calls import reach
from worker.core.drift import compared, reappeared, vanished
from worker.core.holds import GRAIN, desired, end
from worker.core.outcome import Facts
from worker.core.state import Ban, Block, Check, Cut, Hold, Reading, UnderWay
from worker.core.turn import BACKOFF_BASE, BACKOFF_CAP, FOLLOWED_EVERY, Turn
from worker.words import Millis, replace


def observed(turn: Turn, facts: Facts) -> None:
    """Add what a read showed to the reading under way; conclude it when that was the last read."""
    reading = turn.state.reading
    if reading is None:
        return
    merged, left = _merge(reading.facts, facts), reading.left[1:]
    if facts.live and facts.live_since is not None:
        turn.state = replace(turn.state, began=facts.live_since)
    reading = replace(reading, facts=merged, left=left, cursor=None, retry_at=0, tries=0)
    if reading.left:
        turn.state = replace(turn.state, reading=reading)
        return
    turn.state = replace(turn.state, reading=None)
    if reading.why in ("ask", "check", "drift"):
        turn.state = replace(turn.state, compared=turn.now)
    match reading.why:
        case "cut":
            _was_it_cut(turn, reading)
        case "forbid":
            _was_it_forbidden(turn, reading.facts)
        case "ask":
            ask = next(ask for ask in turn.state.asks if ask.kind == "query")
            turn.answer(ask, "observed", _sentence(reading.facts), reason="query", facts=reading.facts)
            asks = tuple(other for other in turn.state.asks if other is not ask)
            turn.state = replace(turn.state, asks=asks)
            compared(turn, reading, "query")
        case "check":
            _checked(turn, reading.facts)
        case "drift":
            compared(turn, reading, "drift")


def _merge(known: Facts, new: Facts) -> Facts:
    return Facts(
        forbidden=known.forbidden if new.forbidden is None else new.forbidden,
        forbidden_until=known.forbidden_until if new.forbidden is None else new.forbidden_until,
        live=known.live if new.live is None else new.live,
        live_since=known.live_since if new.live is None else new.live_since,
        regions=known.regions if new.regions is None else new.regions,
        regions_until=known.regions_until if new.regions is None else new.regions_until,
        in_progress=known.in_progress or new.in_progress,
        gave_up=known.gave_up or new.gave_up,
    )


def _sentence(facts: Facts) -> str:
    said = {True: "yes", False: "no", None: "unknown"}
    regions = "unknown" if facts.regions is None else ", ".join(facts.regions) or "none"
    sentence = f"Forbidden: {said[facts.forbidden]}. Live: {said[facts.live]}. Regions blocked: {regions}."
    if facts.in_progress:
        return f"{sentence} The vendor is still at work on it."
    return f"{sentence} The vendor could not do what it had acknowledged." if facts.gave_up else sentence


def _was_it_cut(turn: Turn, reading: Reading) -> None:
    """Resolve a doubtful cut: not live, or live since later, means that it happened."""
    facts = reading.facts
    later = facts.live and facts.live_since is not None and facts.live_since > reading.since
    if facts.live is False or later:
        # What has started again meanwhile started after the cut.
        if reading.absent:
            nothing_to_cut(turn, reading, reading.seq)
        else:
            was_cut(turn, reading, reading.since, reading.seq)
    elif facts.live is None:
        ambiguous(turn)


def _was_it_forbidden(turn: Turn, facts: Facts) -> None:
    """Resolve an AlreadySo: whose ban, and until when, decides whether its end must be moved."""
    want, known = desired(turn.state.holds, turn.now), turn.state.ban
    ours, live, seq = known is not None and known.ours, turn.perhaps_live(), turn.state.seq
    if facts.forbidden is False:
        _contradicted(turn)
        return
    turn.calm()
    if not want.forbid and not ours:
        turn.state = replace(turn.state, ban=None)  # someone else's, and no demand rests on it any more
    elif facts.forbidden is None:
        turn.state = replace(turn.state, ban=Ban(want.until, turn.now, ours=ours, live=live, seq=seq))
    elif facts.forbidden_until is None and known and has_another_end(turn, known):
        turn.state = replace(turn.state, ban=replace(known, fixed=True))
    else:
        until = want.until if facts.forbidden_until is None else facts.forbidden_until
        enough = end(until) + GRAIN >= end(want.until)
        clamped = not enough and _as_late_as_can_be(turn, want.until, until)
        ours = ours or not enough
        ban = Ban(until, turn.now, ours=ours, clamped=clamped, shown=True, live=live, seq=seq)
        turn.state = replace(turn.state, ban=ban)


def _contradicted(turn: Turn) -> None:
    """Try again after the vendor said that it has a ban and then that it has none, ever less often."""
    tries = turn.state.tries
    retry_at = turn.now + min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(tries, 16))
    turn.state = replace(turn.state, ban=None, tries=tries + 1, retry_at=retry_at, error="vendor")


def has_another_end(turn: Turn, known: Ban) -> bool:
    """Whether a ban of ours, of which the vendor does not tell the end, may end elsewhere than is wanted."""
    want, operation = desired(turn.state.holds, turn.now), turn.serves.get("forbid")
    wanted = want.until if operation is None else reach(want.until, operation, turn.now)[0]
    apart = abs(end(known.until) - end(wanted))
    return not known.sure and (known.mixed or apart > turn.ctx.policy.absorb_slack)


def _as_late_as_can_be(turn: Turn, wanted: Millis | None, until: Millis | None) -> bool:
    """Whether a ban ends about where the vendor's maximum does, and the demand goes on beyond."""
    operation = turn.serves.get("forbid")
    if operation is None:
        return False
    latest, clamped = reach(wanted, operation, turn.now)
    return clamped and end(until) + turn.ctx.policy.absorb_slack >= end(latest)


def _checked(turn: Turn, facts: Facts) -> None:
    """Hold what a verification saw against what should be so."""
    check = turn.state.check
    if check is None:
        return
    last = check.index + 1 >= len(turn.ctx.policy.verify_after)
    if last and facts.in_progress and turn.state.block is not None:
        last = False
        _follow(turn, check)
    else:
        turn.state = replace(turn.state, check=replace(check, index=check.index + 1))
    if turn.state.ban is not None:
        _check_ban(turn, facts, turn.state.ban, last=last)
    if turn.state.block is not None and facts.regions is not None and not facts.in_progress:
        _check_block(turn, facts, turn.state.block, last=last)
    turn.each(lambda hold: _check_cut(turn, facts, hold, last=last))
    if last or facts.gave_up:
        turn.each(lambda hold: _check_failed(turn, facts, hold, last=last))


def _follow(turn: Turn, check: Check) -> None:
    """Make the last check again: the vendor is still at work on what it acknowledged."""
    left = turn.reads(hold for hold in turn.state.holds if hold.active and hold.verify)
    reading = (
        Reading("check", left, turn.now, turn.state.seq, retry_at=turn.now + FOLLOWED_EVERY) if left else None
    )
    turn.state = replace(turn.state, check=replace(check, followed=True), reading=reading)


def _check_ban(turn: Turn, facts: Facts, ban: Ban, *, last: bool) -> None:
    if facts.forbidden is False:
        if last or ban.shown:
            vanished(turn, "forbid", "check")
            if not ban.shown:
                turn.retry_at_reconcile()
        return
    if facts.forbidden and not ban.shown:
        turn.state = replace(turn.state, ban=(ban := replace(ban, shown=True)))
    if facts.live:
        began = facts.live_since
        if (began is not None and began > ban.since) or last:
            reappeared(turn)
        return
    if facts.forbidden is None and (facts.live is None or "read_forbid" in turn.serves):
        return
    if (
        facts.forbidden
        and facts.forbidden_until is not None
        and end(ban.until) - GRAIN > facts.forbidden_until
    ):
        if last:
            turn.state = replace(turn.state, ban=replace(ban, until=facts.forbidden_until))
        return
    detail = "The vendor's answer shows it" + (" and the stream is not live." if facts.live is False else ".")
    turn.each(lambda hold: _verified(turn, hold, "forbid", detail))


def _verified(turn: Turn, hold: Hold, action: str, detail: str) -> Hold:
    if hold.action != action or not (hold.phase == "applied" or hold.lost):
        return hold
    if not hold.lost:
        return turn.tell(hold, "verified", detail, reason="policy", verified_at=turn.now)
    hold = turn.tell(hold, "verified", detail, terminal=False, reason="drift", verified_at=turn.now)
    return replace(hold, lost=False)


def _check_block(turn: Turn, facts: Facts, block: Block, *, last: bool) -> None:
    if set(block.regions) <= set(facts.regions or ()):
        turn.state = replace(turn.state, block=replace(block, shown=True))
        turn.each(lambda hold: _verified(turn, hold, "block_regions", "The vendor's answer shows it."))
    elif last or facts.gave_up or block.shown:
        vanished(turn, "block_regions", "check", facts.regions or ())
        if facts.gave_up or not block.shown:
            turn.retry_at_reconcile()


def _check_cut(turn: Turn, facts: Facts, hold: Hold, *, last: bool) -> Hold | None:
    if hold.action != "cut" or hold.phase != "applied" or facts.live is None:
        return hold
    cut = turn.state.cut
    if facts.live is False:
        turn.tell(hold, "verified", "The stream is not live.", reason="policy", verified_at=turn.now)
        return None
    if last and cut is not None and facts.live_since is not None and facts.live_since > cut.asked_at:
        detail = "The broadcast was ended; the stream has started again since."
        turn.tell(hold, "applied", detail, reason="live_again", terminal=True)
        return None
    return hold


def _check_failed(turn: Turn, facts: Facts, hold: Hold, *, last: bool) -> Hold | None:
    """After the last check, or the vendor's own word: what was looked at and not seen has failed."""
    if not last and hold.action != "block_regions":
        return hold
    forbid = facts.forbidden is not None or (facts.live is not None and "read_forbid" not in turn.serves)
    seen = {"forbid": forbid or bool(facts.live), "cut": facts.live is not None}
    if hold.phase != "applied" or not seen.get(hold.action, facts.regions is not None):
        return hold
    detail = "The vendor acknowledged it, but the last check still does not show it."
    if facts.gave_up:
        detail = "The vendor acknowledged it, and then could not do it."
    hold = turn.tell(hold, "failed", detail, reason="not_verified", error="vendor")
    return None if hold.action == "cut" else hold


def was_cut(turn: Turn, made: UnderWay | Reading, at: Millis, seq: int) -> None:
    """Note that the vendor ended the broadcast, not before ``at``; tell the demands it was cut for.

    ``made``: the call that did it, or the reading that resolved the doubt about it; ``seq`` as in Cut.
    """
    asked_at = made.at if isinstance(made, UnderWay) else made.since
    turn.calm()
    wanted = desired(turn.state.holds, turn.now).cuts
    made_for = {hold.id: hold.cause for hold in wanted if hold.seq < made.seq}
    cause = next(iter(made_for.values()), None)
    session = cause.session_id if cause else None
    verdict = cause.verdict_id if cause else None
    ban = turn.state.ban and replace(turn.state.ban, live=False)
    turn.state = replace(turn.state, ban=ban, cut=Cut(at, session, verdict, asked_at, seq))
    turn.restart_check()

    def told(hold: Hold) -> Hold | None:
        if hold.id not in made_for:
            return hold
        detail = "The vendor ended the broadcast."
        if hold.phase == "closed":
            turn.tell(hold, "applied", detail, terminal=False, reason="uncovered")
            return None
        hold = turn.applied(hold, detail)
        return None if hold.phase == "closed" else hold

    turn.each(told)


def nothing_to_cut(turn: Turn, made: UnderWay | Reading, seq: int) -> None:
    """Note that the stream was not live when a cut was asked for; tell the demands it was asked for.

    ``made`` and ``seq`` as in ``was_cut``.
    """
    turn.calm()
    asked_at = made.at if isinstance(made, UnderWay) else made.since
    ban = turn.state.ban and replace(turn.state.ban, live=False)
    turn.state = replace(turn.state, ban=ban, cut=Cut(turn.now, None, None, asked_at, seq))

    def told(hold: Hold) -> Hold | None:
        asked = hold.active and hold.seq < made.seq
        if hold.action != "cut" or hold.phase != "waiting" or not asked:
            return hold
        turn.tell(hold, "no_action", "The stream was not live: there was nothing to cut.", reason="not_live")
        return None

    turn.each(told)


def ambiguous(turn: Turn) -> None:
    """Give up on cuts of which nobody can say whether they happened."""
    detail = "The cut may have happened, and the vendor cannot tell."

    def failed(hold: Hold) -> Hold | None:
        if hold.action != "cut" or hold.phase == "applied" or hold.covered:
            return hold
        if hold.phase == "waiting":
            turn.tell(hold, "failed", detail, reason="gave_up", error="ambiguous")
        return None

    turn.each(failed)
