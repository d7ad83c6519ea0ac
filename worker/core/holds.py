"""Holds -> what should be in force.

Strength: forbid > block_regions > cut; of two forbids the later end; region sets unite, each region
with its own end. A cut is an event, not a state: it is wanted once, of one broadcast.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from worker.core.state import Hold, TargetState
from worker.words import Action, Millis

STRENGTH: dict[Action, int] = {"forbid": 3, "block_regions": 2, "cut": 1, "query": 0, "none": 0}
FOREVER: Millis = 1 << 62
"""Compares as later than any end; a permanent hold's end."""
GRAIN: Millis = 1_000
"""Ends that differ by no more than this are the same: vendors count in seconds."""


def end(until: Millis | None) -> Millis:
    """Return an end that compares: permanent is later than all others."""
    return FOREVER if until is None else until


def slack(length: Millis, most: Millis) -> Millis:
    """Return by how much a hold may end before another and still cover it: a tenth, at most ``most``."""
    return min(length // 10, most)


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be in force now. ``until`` None: permanent. ``leads`` are the holds that ask for it."""

    forbid: bool
    regions: tuple[str, ...]
    until: Millis | None
    leads: tuple[Hold, ...]
    cuts: tuple[Hold, ...]


def desired(holds: Iterable[Hold], now: Millis) -> Desired:
    """Return what the unexpired, unparked holds ask for together; a last second is not worth a call."""
    active = [hold for hold in holds if hold.active and end(hold.until) > now + GRAIN]
    cuts = tuple(
        hold
        for hold in active
        if hold.action == "cut" and (hold.phase == "waiting" or (hold.phase == "closed" and not hold.covered))
    )
    bans = tuple(hold for hold in active if hold.action == "forbid")
    if bans:
        return Desired(True, (), max(bans, key=lambda hold: end(hold.until)).until, bans, cuts)
    blocks = tuple(hold for hold in active if hold.action == "block_regions")
    if blocks:
        regions = tuple(sorted({region for hold in blocks for region in hold.regions}))
        return Desired(False, regions, max(blocks, key=lambda hold: end(hold.until)).until, blocks, cuts)
    return Desired(False, (), None, (), cuts)


def in_force(state: TargetState, hold: Hold, now: Millis) -> bool:
    """Whether what the vendor has satisfies this hold; a ban satisfies a region block too."""
    ban, block = state.ban, state.block
    if hold.action == "cut":
        return False
    if (
        ban
        and ban.sure
        and end(ban.until) > now
        and (ban.clamped or end(ban.until) + GRAIN >= end(hold.until))
    ):
        return True
    return (
        hold.action == "block_regions"
        and block is not None
        and block.sure
        and end(block.until) > now
        and set(hold.regions) <= set(block.regions)
        and (block.clamped or end(block.until) + GRAIN >= end(hold.until))
    )


def covers(
    hold: Hold, action: Action, until: Millis | None, regions: tuple[str, ...], allowed: Millis
) -> bool:
    """Whether a hold makes another demand needless while it lasts: as strong, as wide, as long."""
    if STRENGTH[hold.action] < STRENGTH[action]:
        return False
    if hold.action == "block_regions" and not set(regions) <= set(hold.regions):
        return False
    return action == "cut" or end(hold.until) >= end(until) - allowed


def outranks(hold: Hold, other: Hold) -> bool:
    """Whether a hold is stronger than another, so that the other need not be brought about itself."""
    if hold.action != other.action:
        return STRENGTH[hold.action] > STRENGTH[other.action]
    if hold.action == "forbid":
        return end(hold.until) > end(other.until)
    return (
        hold.action == "block_regions"
        and set(hold.regions) > set(other.regions)
        and end(hold.until) >= end(other.until)
    )
