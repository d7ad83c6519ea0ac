"""What a target needs next: desired against applied gives at most one call at a time.

A need is not yet a call: it waits in the account's schedule until a quota slot is free. The order:
settle a doubt, bring about what should be in force, lift what nothing demands any more, then read.
"""

from collections.abc import Iterable, Mapping

from worker.core.context import AccountView, Context
from worker.core.control import Control
from worker.core.holds import FOREVER, GRAIN, Desired, desired, end, slack
from worker.core.state import Ban, Block, Hold, TargetState
from worker.vendors.base import Operation
from worker.words import (
    COMPARES,
    ENFORCES,
    PRIORITIES,
    READS,
    VERIFIES,
    Behind,
    Call,
    Millis,
    Priority,
    Purpose,
    digest,
    value,
)

_BEHIND: Mapping[str, tuple[Behind, Priority]] = {
    "check": (VERIFIES, "normal"),
    "drift": (COMPARES, "low"),
}
"""Of the readings that enforcement does not wait for: what goes before them, and their priority."""
_SECOND: Millis = 1_000
_DAY: Millis = 86_400_000


@value()
class Need:
    """A call that a target wants to be made. ``behind``: what goes before it at its account, as in Want."""

    purpose: Purpose
    operation: Operation
    priority: Priority
    since: Millis
    not_before: Millis = 0
    until: Millis | None = None
    clamped: bool = False
    regions: tuple[str, ...] = ()
    not_after: Millis | None = None
    cursor: str | None = None
    behind: Behind = ENFORCES

    def call(self, key: str, state: TargetState, worker: str = "") -> Call:
        """Return the call; its id is new for each one of a target, and of each replica that would make it.

        What a replica that lost the partition knows of a call it never sent is nothing about its heir's.
        """
        return Call(
            id=digest(key, state.target.id, str(state.seq + 1), worker),
            purpose=self.purpose,
            operation=self.operation.name,
            target=state.target,
            priority=self.priority,
            until=self.until,
            regions=self.regions,
            attempt=len(state.attempts) + 1,
            not_after=self.not_after,
            cursor=self.cursor,
        )


def need(state: TargetState, now: Millis, ctx: Context) -> Need | None:
    """Return what the target needs next, or None. A read under way does not hold back enforcement."""
    view = ctx.accounts.get(state.target.account)
    if view is None:
        return None
    doubtful = state.reading is not None and state.reading.why in ("cut", "forbid")
    if state.call is not None:
        if state.call.purpose not in READS or doubtful:
            return None
        return _enforcement(state, view, now, ctx)
    if not doubtful:
        enforcement = _enforcement(state, view, now, ctx)
        if enforcement is not None:
            return enforcement
    return _read(state, view)


def reach(until: Millis | None, operation: Operation, now: Millis) -> tuple[Millis | None, bool]:
    """Return the end to ask for, and whether it is the vendor's maximum rather than the wanted one."""
    if operation.max_length is None:
        return until, False
    latest = now + operation.max_length
    return (latest, True) if end(until) > latest else (until, False)


def renew_at(since: Millis, until: Millis | None) -> Millis:
    """Return when something that must go on beyond its end is extended: a tenth before, 5 s to a day."""
    if until is None:
        return FOREVER
    return until - max(5 * _SECOND, min((until - since) // 10, _DAY))


def _enforcement(state: TargetState, view: AccountView, now: Millis, ctx: Context) -> Need | None:
    if ctx.control.paused(state) is not None:
        return _lifting(state, view, now)
    want = desired(state.holds, now)
    # A cut is wanted beside a ban only where that ban has failed: the cut would be superseded otherwise.
    cut = _need(view, state, "cut", want.cuts) if want.cuts else None
    if cut is not None:
        return cut
    found = None
    if want.forbid:
        found = _forbid(state, view, want, now, ctx)
    elif want.regions:
        found = _block(state, view, want, now, ctx)
    if found is not None:
        return found
    return _lifting(state, view, now)


def still_goes(state: TargetState, purpose: Purpose, control: Control, now: Millis) -> bool:
    """Whether a granted call may be sent: a pause that has begun since lets reads and lifts pass."""
    return purpose in READS or purpose in to_lift(state, now) or control.paused(state) is None


def _lifting(state: TargetState, view: AccountView, now: Millis) -> Need | None:
    lifts = (_need(view, state, purpose, ()) for purpose in to_lift(state, now))
    return next((lift for lift in lifts if lift is not None), None)


def to_lift(state: TargetState, now: Millis) -> tuple[Purpose, ...]:
    """Return what would take back what no demand is left for; a last second is not worth a call.

    What is still noted after its end has not ended by itself.
    """
    demanded = {hold.action for hold in state.holds if hold.active}
    found: list[Purpose] = []
    banned = state.ban is not None and state.ban.ours and not _about_to_end(state.ban, now)
    if banned and "forbid" not in demanded:
        found.append("lift")
    if state.block is not None and "block_regions" not in demanded and not _about_to_end(state.block, now):
        found.append("unblock_regions")
    return tuple(found)


def _about_to_end(has: Ban | Block, now: Millis) -> bool:
    return now < end(has.until) <= now + GRAIN


def _forbid(state: TargetState, view: AccountView, want: Desired, now: Millis, ctx: Context) -> Need | None:
    ban, operation = state.ban, view.serves.get("forbid")
    if view.gate:  # the ban is in force by being noted: what is left is to end the running broadcast
        return _need(view, state, "cut", want.leads) if ban is not None and ban.live else None
    if operation is None:
        return None
    until, clamped = reach(want.until, operation, now)
    if ban is not None and ban.sure:
        if not _must_move(ban, want, until, clamped, now, ctx):
            return _need(view, state, "cut", want.leads) if ban.live else None
        if ban.fixed:
            return _need(view, state, "lift", want.leads)
        if "move_end" in view.serves:
            return _need(view, state, "move_end", want.leads, until, clamped=clamped)
    elif ban is not None and ban.fixed:
        return _need(view, state, "lift", want.leads)
    return _need(view, state, "forbid", want.leads, until, clamped=clamped)


def _block(state: TargetState, view: AccountView, want: Desired, now: Millis, ctx: Context) -> Need | None:
    operation = view.serves.get("block_regions")
    if operation is None:
        return None
    until, clamped = reach(want.until, operation, now)
    block = state.block
    if (
        block is not None
        and block.sure
        and set(block.regions) == set(want.regions)
        and not _must_move(block, want, until, clamped, now, ctx)
    ):
        return None
    return _need(view, state, "block_regions", want.leads, until, want.regions, clamped=clamped)


def _must_move(
    has: Ban | Block, want: Desired, until: Millis | None, clamped: bool, now: Millis, ctx: Context
) -> bool:
    """Whether an end in force is wrong by more than may be: too early by its slack, or ours and too late.

    What a verdict's slack left open is made up for shortly before the end, and so is a vendor's maximum.
    """
    gap = end(until) - end(has.until)
    if gap > GRAIN:
        if now >= renew_at(has.since, has.until):
            return True
        longest = max((end(hold.until) - hold.placed_at for hold in want.leads), default=0)
        renewed = clamped and has.clamped
        waits = any(hold.phase == "waiting" for hold in want.leads)  # slack is for what has its answer
        return not renewed and (waits or gap > slack(longest, ctx.policy.absorb_slack))
    ours = not isinstance(has, Ban) or has.ours
    return ours and gap < -GRAIN and not clamped


def _read(state: TargetState, view: AccountView) -> Need | None:
    reading = state.reading
    if reading is None:
        return None
    operation = view.serves.get(reading.left[0])
    if operation is None:
        return None
    behind, priority = _BEHIND.get(reading.why, (ENFORCES, _urgency(state.holds)))
    if reading.why == "ask":
        priority = state.asks[0].priority if state.asks else "high"
    return Need(
        reading.left[0],
        operation,
        priority,
        since=reading.since,
        not_before=reading.retry_at,
        cursor=reading.cursor,
        behind=behind,
    )


def _need(
    view: AccountView,
    state: TargetState,
    purpose: Purpose,
    holds: tuple[Hold, ...],
    until: Millis | None = None,
    regions: tuple[str, ...] = (),
    *,
    clamped: bool = False,
) -> Need | None:
    operation = view.serves.get(purpose)
    if operation is None:
        return None
    waiting = [hold for hold in holds if hold.phase == "waiting"]
    return Need(
        purpose,
        operation,
        _urgency(waiting or holds),
        since=min((hold.placed_at for hold in waiting), default=state.retry_at),
        not_before=state.retry_at,
        until=until,
        clamped=clamped,
        regions=regions,
        not_after=until,
    )


def _urgency(holds: Iterable[Hold]) -> Priority:
    return min((hold.priority for hold in holds), key=PRIORITIES.index, default="high")
