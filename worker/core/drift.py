"""What the vendor has otherwise than we believe: it vanished, it ends elsewhere, or it lets a stream be live.

A belief is corrected, and what then is missing is brought about like anything else. What the vendor has
and we know nothing of is left alone.

On schedule, once in ``policy.reconcile``, each target with something in force is compared, at moments that
lie in the stream's key: not all streams at once, but those of one moment together, so that they can share
the vendor's lists. What was read for another reason counts.
"""

from typing import Literal, TypeVar
from zlib import crc32

from worker.core.broadcasts import is_over
from worker.core.holds import FOREVER, GRAIN, end, in_force
from worker.core.outcome import Facts
from worker.core.state import Ban, Block, Hold, Reading
from worker.core.turn import Turn
from worker.words import Action, Millis, Purpose, replace

SHOWN_WITHIN: Millis = 120_000
"""A vendor's list has what it acknowledged so long ago, says the usual last check. Sooner it proves nothing
that the list does not have it yet."""

ENDING: Millis = 5_000
"""So shortly before its end a vendor whose clock is ahead of ours may have ended it."""

MOMENTS = 20
"""At how many moments of a period streams are compared."""

FoundBy = Literal["check", "query", "drift"]
"""What has shown it, as the ``reason`` of results says: a verification, a query, a comparison on schedule."""

_Has = TypeVar("_Has", Ban, Block)


def comparable(turn: Turn) -> tuple[Purpose, ...]:
    """Return the reads that would show whether what is believed to be in force still is."""
    believed: tuple[tuple[Purpose, Ban | Block | None], ...] = (
        ("read_forbid", turn.state.ban),
        ("read_regions", turn.state.block),
    )
    return tuple(
        purpose for purpose, has in believed if has is not None and has.sure and purpose in turn.serves
    )


def due_at(turn: Turn) -> Millis:
    """Return when the next comparison is due; FOREVER where nothing can be compared."""
    state, period = turn.state, turn.ctx.policy.reconcile
    if period is None or not comparable(turn):
        return FOREVER
    since = max(has.since for has in (state.ban, state.block) if has is not None)
    return moment(turn, max(state.compared, since) + period // 2)


def moment(turn: Turn, earliest: Millis) -> Millis:
    """Return the stream's first moment from then on; FOREVER where there is no schedule."""
    period = turn.ctx.policy.reconcile
    if not period:
        return FOREVER
    number = crc32(turn.key.encode("utf-8", "surrogatepass")) % MOMENTS
    return earliest + (number * period // MOMENTS - earliest) % period


def compared(turn: Turn, reading: Reading, by: FoundBy) -> None:
    """Hold what was read against what we believe is in force.

    What the vendor has told since the reading began is newer. A belief that is not sure is no belief: the
    call that made it so is repeated, or its effect lifted. None, and what is in progress, says nothing.
    """
    facts, ban, block = reading.facts, turn.state.ban, turn.state.block
    if ban is not None and ban.sure and ban.seq <= reading.seq:
        _compare_ban(turn, facts, ban, by)
    if facts.regions is None or facts.in_progress or block is None:
        return
    if block.sure and block.seq <= reading.seq:
        _compare_block(turn, facts, block, by)


def _compare_ban(turn: Turn, facts: Facts, ban: Ban, by: FoundBy) -> None:
    if facts.forbidden is False:
        if _would_show(turn, ban):
            vanished(turn, "forbid", by)
        return
    if facts.forbidden:
        turn.state = replace(turn.state, ban=replace(_as_told(turn, ban, facts.forbidden_until), shown=True))
    if facts.live and facts.live_since is not None and facts.live_since > ban.since + GRAIN:
        reappeared(turn)


def _compare_block(turn: Turn, facts: Facts, block: Block, by: FoundBy) -> None:
    if not set(block.regions) <= set(facts.regions or ()):
        if _would_show(turn, block):
            vanished(turn, "block_regions", by, left=facts.regions or ())
        return
    block = _as_told(turn, block, facts.regions_until)
    turn.state = replace(turn.state, block=replace(block, shown=True))


def _would_show(turn: Turn, has: Ban | Block) -> bool:
    """Whether the vendor's lists would have it by now, and it is not for a verification to say so."""
    shows = has.shown or (turn.state.check is None and turn.now >= has.since + SHOWN_WITHIN)
    return shows and end(has.until) > turn.now + ENDING


def _as_told(turn: Turn, has: _Has, until: Millis | None) -> _Has:
    """Return it with the end that the vendor tells, if any; the next need then moves that end."""
    if until is None or abs(end(has.until) - until) <= GRAIN:
        return has
    earlier = end(has.until) - until > turn.ctx.policy.absorb_slack
    return replace(has, until=until, clamped=has.clamped and not earlier)


def vanished(turn: Turn, action: Action, by: FoundBy, left: tuple[str, ...] = ()) -> None:
    """Take back what the vendor does not have; tell the demands that had their result and lost it.

    ``left``: the regions that it still blocks.
    """
    # What never took hold is told by the verification that is under way.
    unverified = any(hold.phase == "applied" and hold.action == action for hold in turn.state.holds)
    block = turn.state.block
    if action == "forbid":
        turn.state = replace(turn.state, ban=None)
    elif block is not None:
        still = tuple(region for region in block.regions if region in left)
        turn.state = replace(turn.state, block=replace(block, regions=still) if still else None)

    def change(hold: Hold) -> Hold:
        stood = hold.phase == "closed" and hold.active and hold.gave_up is None
        if hold.action != action or not stood or hold.covered or hold.moved:
            return hold
        if in_force(turn.state, hold, turn.now):
            return hold
        detail = "The vendor no longer had it; it is applied again."
        return replace(turn.tell(hold, "drifted", detail, reason=by), lost=True)

    if not unverified:
        turn.each(change)


def reappeared(turn: Turn) -> None:
    """Live again although forbidden: cut and forbid again, within the policy's limit."""
    state, policy, now = turn.state, turn.ctx.policy, turn.now
    recent = tuple(at for at in state.recuts if at > now - policy.recut_within)
    limited = len(recent) >= policy.recut_limit
    told = False

    def change(hold: Hold) -> Hold:
        nonlocal told
        if told or hold.action != "forbid" or not hold.active or hold.covered or is_over(turn, hold):
            return hold
        told = True
        if limited:
            return turn.tell(hold, "reappeared", "It is live again; the limit is reached.", reason="limit")
        return turn.tell(hold, "reappeared", "It is live again; it is forbidden again.", reason="live")

    turn.each(change)
    if not limited and state.ban is not None:
        ban = replace(state.ban, sure=False, live=True)
        turn.state = replace(turn.state, ban=ban, recuts=(*recent, now))
