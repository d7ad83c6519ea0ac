"""What a stream waits for, what would let it go, and how long the queue before it is.

The queue is that of the stream's own partition: its states tell what else waits at the account, and its
ledger which calls of late still count. A replica has the slots of a quota that belong to its partitions, so
one partition's queue for one partition's slots gives about the same wait where the queues are equally long.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from worker.commands.parts.control import scope_options
from worker.core.calls import Need, need
from worker.core.context import Context
from worker.core.control import sentence
from worker.core.holds import FOREVER
from worker.core.ledger import Ledger
from worker.core.quota import Kept
from worker.core.schedule import Schedule, Want
from worker.core.state import Hold, StreamState, TargetState
from worker.core.turn import Turn, why_parked
from worker.durations import format_duration
from worker.events.times import TimeOut, format_rfc3339
from worker.vendors.base import Quota, Vendor, VendorSpec
from worker.words import COMPARES, Millis, Purpose, value

PURPOSES: Mapping[Purpose, str] = {
    "cut": "cut",
    "forbid": "ban",
    "move_end": "ban's new end",
    "lift": "lifting of the ban",
    "block_regions": "region block",
    "unblock_regions": "lifting of the region block",
    "read_forbid": "question whether it is forbidden",
    "read_regions": "question which regions are blocked",
    "read_live": "question whether it is live",
}
"""What each call is for, in words."""


@value()
class Waiting:
    """Something that has not happened yet.

    ``why``: ``approval``, ``guard``, ``pause``, ``account``, ``answer``, ``backoff``, ``quota`` or
    ``verification``. ``until``: when it goes on by itself, where that is known. ``ahead`` and ``about_ms``
    belong to ``quota``. ``lets_go``: command lines that end the wait.
    """

    account: str
    target: str
    why: str
    detail: str
    hold: str | None = None
    until: TimeOut | None = None
    quota: str | None = None
    ahead: int | None = None
    about_ms: Millis | None = None
    lets_go: tuple[str, ...] = ()


@value()
class Around:
    """What a stream's waiting depends on besides its state.

    ``streams``: it and the others of its partition (one of ``partitions``) that have something open, in the
    order of the topic; ``ledger`` is that partition's. ``quotas`` and ``specs`` are by account.
    """

    ctx: Context
    vendors: Mapping[str, Vendor]
    specs: Mapping[str, VendorSpec]
    quotas: Mapping[str, Mapping[str, tuple[Quota, ...]]]
    streams: Sequence[StreamState] = ()
    partitions: int = 1
    ledger: Ledger = field(default_factory=lambda: Ledger({}))


class Lines:
    """Command lines, ready to be pasted into a shell."""

    def __init__(self, config: str | None) -> None:
        self._config = () if config is None else ("--config", config)

    def line(self, *words: str) -> str:
        """Return a command line with this configuration."""
        return shlex.join(["moderation-worker", *words, *self._config])


def waiting(state: StreamState, around: Around, now: Millis, lines: Lines) -> Iterator[Waiting]:
    """Yield what a stream waits for."""
    for name, target in state.targets.items():
        for hold in target.holds:
            if hold.parked is not None:
                yield _parked(name, target, hold, around.ctx, lines, state.key)
        yield from _calls(name, target, state, around, now)


def _parked(name: str, target: TargetState, hold: Hold, ctx: Context, lines: Lines, key: str) -> Waiting:
    account, why = target.target.account, hold.parked or "approval"
    lets_go: list[str] = []
    if why in ("approval", "guard"):
        lets_go = [lines.line(word, key, "--hold", hold.id) for word in ("approve", "reject")]
    detail = why_parked(hold, why)
    if why == "guard" and hold.guard is not None:
        lets_go += [lines.line("guard", word, hold.guard) for word in ("release", "reject")]
    if why == "pause":
        paused = ctx.control.paused(target)
        detail = sentence(*paused) if paused is not None else "The pause is over; it is about to be decided."
        lets_go = [lines.line("resume", *scope_options(paused[0]))] if paused is not None else []
    if why == "account":
        lets_go = [lines.line("check", "--connect")]
    return Waiting(account, name, why, detail, hold.id, lets_go=tuple(lets_go))


def _calls(
    name: str, target: TargetState, state: StreamState, around: Around, now: Millis
) -> Iterator[Waiting]:
    account, under_way = target.target.account, target.call
    if under_way is not None:
        what = PURPOSES[under_way.purpose]
        detail = f"The {what} ({under_way.operation}) went to the vendor at {format_rfc3339(under_way.at)}; "
        yield Waiting(account, name, "answer", f"{detail}its answer has not come.")
    wanted = need(target, now, around.ctx)
    if wanted is not None and wanted.behind < COMPARES:
        if wanted.not_before > now:
            yield _backed_off(name, target, wanted)
        else:
            yield _queued(name, target, wanted, state, around, now)
    if target.check is not None and target.reading is None and around.ctx.policy.verify_after:
        at = Turn(around.ctx, state.key, target, now).check_at(target.check)
        detail = f"The vendor will be asked at {format_rfc3339(at)} whether it is so."
        yield Waiting(account, name, "verification", detail, until=at)


def _backed_off(name: str, target: TargetState, wanted: Need) -> Waiting:
    what = f"The {PURPOSES[wanted.purpose]} ({wanted.operation.name})"
    last = target.attempts[-1] if target.attempts else None
    why = f" after its answer was: {last.outcome}" if last is not None else ""
    if wanted.not_before >= FOREVER:
        detail = f"{what} was given up{why}, and policy.reconcile is off: only a new verdict tries it again."
        return Waiting(target.target.account, name, "backoff", detail)
    detail = f"{what} is tried again at {format_rfc3339(wanted.not_before)}{why}."
    return Waiting(target.target.account, name, "backoff", detail, until=wanted.not_before)


# The queue.


def _queued(
    name: str, target: TargetState, wanted: Need, state: StreamState, around: Around, now: Millis
) -> Waiting:
    account = target.target.account
    charges = [each for each in wanted.operation.charges if around.quotas.get(account, {}).get(each)]
    waits = [(*_wait(each, name, state, account, around, now), each) for each in charges]
    what = f"The {PURPOSES[wanted.purpose]} ({wanted.operation.name})"
    if not waits:
        return Waiting(account, name, "quota", f"{what} goes next: no quota counts it.", ahead=0, about_ms=0)
    about, ahead, quota = max(waits)
    when = f"about {_roughly(about)}" if about else "any moment now"
    detail = f"{what} waits for quota of {account}/{quota}, {ahead} ahead, {when}."
    return Waiting(account, name, "quota", detail, quota=quota, ahead=ahead, about_ms=about)


def _wait(
    quota: str, name: str, state: StreamState, account: str, around: Around, now: Millis
) -> tuple[Millis, int]:
    """Return about how long a call waits for a quota, and how many requests are before it."""
    ahead = _ahead(quota, (state.key, name), _wants(around.streams, account, around, now), now)
    share, windows = 1 / around.partitions, around.ledger.uses.get(account, {}).get(quota, {})
    return max(
        turn_comes(each, _used(windows.get(each.window)), ahead, share, now)
        for each in around.quotas[account][quota]
    ), ahead


def _used(kept: Kept | None) -> list[Millis]:
    return [] if kept is None else [*kept.answers, *(use.granted_at for use in kept.under_way)]


def _wants(streams: Iterable[StreamState], account: str, around: Around, now: Millis) -> Iterator[Want]:
    for stream in streams:
        for name, target in stream.targets.items():
            wanted = need(target, now, around.ctx) if target.target.account == account else None
            if wanted is not None:
                yield Want(
                    stream.key,
                    name,
                    0,
                    wanted.operation.name,
                    wanted.operation.charges,
                    wanted.priority,
                    wanted.behind,
                    wanted.since,
                    wanted.not_before,
                    around.vendors[account].shared(wanted.call(stream.key, target)),
                )


def _ahead(quota: str, place: tuple[str, str], wants: Iterable[Want], now: Millis) -> int:
    """Return how many requests that count against a quota go before a stream's own."""
    schedule = Schedule({}, concurrency=1 << 30, reserve=0)
    for want in wants:
        schedule.offer(want)
    before = 0
    for grant in schedule.take(now):
        if any((want.stream, want.target) == place for want in grant.wants):
            break
        before += quota in grant.charges
    return before


def turn_comes(quota: Quota, used: Iterable[Millis], ahead: int, share: float, now: Millis) -> Millis:
    """Return about how long until a window takes one more call, with ``ahead`` of them before it.

    ``used`` are the answers that may count in it. Each slot comes free one window after its last answer, and
    is taken again at once. A share of less than one call is one call in a window as much longer.
    """
    slots = quota.limit * share
    window = round(quota.window / min(1.0, slots))
    count = max(1, int(slots))
    recent = sorted(at for at in used if at > now - window)[-count:]
    free = [now] * (count - len(recent)) + [at + window for at in recent]
    rounds, slot = divmod(ahead, count)
    return max(0, free[slot] + rounds * window - now)


def _roughly(length: Millis) -> str:
    """Return a length in the unit a person would say."""
    for unit, size in (("h", 3_600_000), ("m", 60_000)):
        if length >= 2 * size:
            return f"{round(length / size)} {unit}"
    return f"{max(1, round(length / 1000))} s" if length >= 1000 else format_duration(length)  # noqa: PLR2004 - a second
