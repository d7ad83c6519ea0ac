"""What should be in force, held against what the vendors' lists say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from worker.commands.parts.tables import table
from worker.commands.parts.whole_lists import Listing, Place
from worker.core.calls import reach, to_lift
from worker.core.context import Context
from worker.core.holds import GRAIN, desired, end
from worker.core.state import StreamState, TargetState
from worker.events.times import format_rfc3339
from worker.vendors.base import Entry
from worker.words import READS, Millis, Purpose, Target

What = Literal["missing", "another end", "other regions", "not lifted", "unknown to us"]
WHATS: tuple[What, ...] = ("missing", "another end", "other regions", "not lifted", "unknown to us")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is in force otherwise than it should be. ``stream`` None: no stream of ours is there.

    ``name`` is the vendor's own: ``APP/STREAM``.
    """

    place: Place
    what: What
    name: str = field(repr=False)
    stream: str | None = field(repr=False)
    detail: str


@dataclass(frozen=True, slots=True)
class _Has:
    """What one target should have on one list, and what its state believes it has."""

    stream: str
    wanted: bool
    until: Millis | None
    regions: tuple[str, ...]
    ours: bool
    """It is to be lifted: of ours, and nothing demands it."""


def differences(
    states: Iterable[StreamState],
    listings: Sequence[Listing],
    by: Mapping[tuple[str, Purpose], str],
    ctx: Context,
    now: Millis,
) -> list[Difference]:
    """Return where lists that were read differ from what should be in force.

    ``by`` tells by which domain of a target a list goes, for each account and purpose.
    """
    read = {one.place: {entry.name: entry for entry in one.entries} for one in listings if not one.problem}
    known: defaultdict[Place, set[str]] = defaultdict(set)
    found: list[Difference] = []
    for state in states:
        for target in state.targets.values():
            for (account, purpose), side in by.items():
                domain = getattr(target.target, side)
                if account != target.target.account or not domain:
                    continue
                place, name = Place(account, purpose, domain.lower()), _name(target.target)
                if place not in read:
                    continue
                known[place].add(name)
                if target.call is not None and target.call.purpose not in READS:
                    continue  # it is being changed just now
                has = _has(state.key, target, purpose, ctx, now)
                difference = _compare(place, name, has, read[place].get(name), ctx.policy.absorb_slack)
                found += [difference] if difference else []
    for place, entries in read.items():
        for name in entries.keys() - known[place]:
            detail = f"{_told(place.purpose, entries[name].until, entries[name].regions)}; left alone"
            found.append(Difference(place, "unknown to us", name, None, detail))
    return sorted(
        found, key=lambda one: (one.place.account, WHATS.index(one.what), one.place.domain, one.name)
    )


def _name(target: Target) -> str:
    return f"{target.app}/{target.stream}"


def _has(stream: str, target: TargetState, purpose: Purpose, ctx: Context, now: Millis) -> _Has:
    want, view = desired(target.holds, now), ctx.accounts.get(target.target.account)
    forbids = purpose == "read_forbid"
    believed = target.ban if forbids else target.block
    wanted = want.forbid if forbids else bool(want.regions)
    until = want.until
    operation = view.serves.get("forbid" if forbids else "block_regions") if view is not None else None
    if believed is not None and believed.sure:
        until = believed.until
    elif operation is not None:
        until = reach(until, operation, now)[0]
    lifting: Purpose = "lift" if forbids else "unblock_regions"
    return _Has(stream, wanted, until, () if forbids else want.regions, lifting in to_lift(target, now))


def _compare(place: Place, name: str, has: _Has, entry: Entry | None, slack: Millis) -> Difference | None:
    if has.wanted and entry is None:
        detail = f"{_told(place.purpose, has.until, has.regions)}; would be applied again"
        return Difference(place, "missing", name, has.stream, detail)
    if entry is None:
        return None
    shown = _told(place.purpose, entry.until, entry.regions)
    if has.wanted:
        if not set(has.regions) <= set(entry.regions):
            detail = f"the vendor: {shown}; we: {', '.join(has.regions)}"
            return Difference(place, "other regions", name, has.stream, detail)
        if entry.until is not None and abs(end(entry.until) - end(has.until)) > max(GRAIN, slack):
            detail = f"the vendor: {shown}; we: {_until(has.until)}"
            return Difference(place, "another end", name, has.stream, detail)
        return None
    if has.ours:
        return Difference(place, "not lifted", name, has.stream, f"{shown}; would be lifted")
    # A ban beside which a region block is left where it is, or one of somebody else.
    return (
        None
        if place.purpose == "read_regions"
        else Difference(place, "unknown to us", name, has.stream, f"{shown}; left alone")
    )


def _told(purpose: Purpose, until: Millis | None, regions: Sequence[str]) -> str:
    what = "forbidden" if purpose == "read_forbid" else f"blocked in {', '.join(regions)}"
    return f"{what} {_until(until)}"


def _until(until: Millis | None) -> str:
    return "until no end that is told" if until is None else f"until {format_rfc3339(until)}"


def as_text(found: Sequence[Difference], listings: Sequence[Listing], without: Mapping[str, str]) -> str:
    """Return the differences as a table, and a line for each account.

    ``without``: why an account was not compared.
    """
    rows = [
        (one.place.account, one.what, f"{one.place.domain}/{one.name}", one.stream or "-", one.detail)
        for one in found
    ]
    lines = [table(rows)] if rows else []
    for account in dict.fromkeys(one.place.account for one in listings):
        mine = [one for one in listings if one.place.account == account]
        counts = Counter(one.what for one in found if one.place.account == account)
        entries = sum(len(one.entries) for one in mine)
        told = ", ".join(f"{counts[what]} {what}" for what in WHATS if counts[what]) or "no difference"
        lines.append(f"account {account}: {entries} entries of {len(mine)} lists read; {told}")
    lines += [f"account {account}: not compared: {why}" for account, why in without.items()]
    return "\n".join(lines)


def problems(listings: Sequence[Listing]) -> list[str]:
    """Return a sentence for each list that could not be read."""
    return [
        f"account {one.place.account}: the list of {one.place.domain} could not be read: {one.problem}"
        for one in listings
        if one.problem
    ]
