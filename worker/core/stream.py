"""The heart: what an event changes for one stream. One pure function, one stream at a time.

::

                     ┌──────────────────────────── seen before ──► duplicate
    verdict ──► id ──┤ expired ──► stale     over ──► wrong_session
                     └► policy ──► no_action | failed | shadow
                           │ for each target
                           ▼
        absorbed ◄── covered?   approval, guard ──► held ──► (approve)
                           │                                   │
                           ▼                                   ▼
                        HOLD waiting ── Grant ─► call under way ── Answered ─┐
                           ▲  ▲                        │                     │
                           │  └── again, with backoff ◄┴── not done          │ done
         superseded ◄──────┤                                                 ▼
         stale, failed ◄───┘ expires_at            applied ──► check ──► verified | failed
                                                      ▲   └──► reappeared, drifted: again
                    release, clear, withdraw ──► lift ┘   until ──► expired ──► lift, if the vendor has no end

A step returns the stream's new state (None: nothing is left to remember), the results to publish, the
call that a grant made, and what each touched target needs next. Quotas, partitions and the wire are none
of its business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from worker.core import answers
from worker.core.accept import accept
from worker.core.calls import Need, need, to_lift
from worker.core.capacity import Place, adds, places
from worker.core.context import Context
from worker.core.due import wake_at
from worker.core.holds import FOREVER, end
from worker.core.orders import command, stream_event
from worker.core.outcome import Outcome
from worker.core.settle import settle
from worker.core.state import Hold, Parked, StreamState, TargetState, UnderWay
from worker.core.turn import Turn
from worker.core.whole import Whole
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.events.result import Result
from worker.words import COMPARES, Call, Millis, Purpose, replace, value


@value()
class Received:
    """A verdict, command or stream event came in. ``place`` names its record: partition@offset.

    ``offset`` is what the state remembers as applied; None leaves that as it was.
    """

    event: Verdict | Command | StreamEvent
    place: str
    traceparent: str | None = None
    offset: int | None = None


@value()
class Grant:
    """The schedule has a slot for an operation that a target needs."""

    target: str
    operation: str


@value()
class Answered:
    """A call was answered. ``started_at`` None: it never left. ``jitter`` in [0, 1)."""

    target: str
    call: str
    outcome: Outcome
    started_at: Millis | None
    jitter: float


@value()
class Woke:
    """Time has passed, or something around the stream has changed."""


@value()
class Restored:
    """The state was read from the state topic. ``in_flight``: calls this very process still has under way."""

    in_flight: frozenset[str] = frozenset()


Event = Received | Grant | Answered | Woke | Restored


@value()
class Open:
    """What is unfinished about a stream.

    ``since``: when the oldest event came that still waits for its terminal result. ``parked``: why others
    wait for a human. ``busy``: a call is under way or needed, other than to compare on schedule.
    ``ended``: the earliest end of what is over and still has to be lifted.
    """

    since: Millis | None = None
    parked: tuple[Parked, ...] = ()
    busy: bool = False
    ended: Millis | None = None


NOTHING_OPEN = Open()


@dataclass(slots=True)
class Step:
    """What one turn of the machine gives.

    ``needs`` has an entry for each touched target. ``placed`` are the new demands that act, with their
    account, for the guards to count.
    ``wake_at`` is when the stream must be looked at again, whatever else happens. ``places``: what it
    takes up of what vendors keep at most. ``quiet``: nothing is owed or needed that was not before, so
    ``open`` and ``places`` are as they were, and so is ``wake_at`` unless it is earlier.
    """

    state: StreamState | None
    results: list[Result]
    needs: dict[str, Need | None] = field(default_factory=dict)
    call: Call | None = None
    placed: list[tuple[str, Hold]] = field(default_factory=list)
    wake_at: Millis = FOREVER
    open: Open = NOTHING_OPEN
    places: tuple[Place, ...] = ()
    quiet: bool = False


def step(state: StreamState, event: Event, now: Millis, ctx: Context) -> Step:
    """Return what an event changes. The same arguments always give the same step."""
    whole = Whole(ctx, state, now)
    call: Call | None = None
    match event:
        case Received():
            _receive(whole, event)
        case Grant():
            call = _grant(whole, event)
        case Answered():
            turn = whole.turn(event.target)
            if turn is not None:
                answers.answered(turn, event.call, event.outcome, event.started_at, event.jitter)
        case Woke():
            whole.touch_all()
        case Restored():
            for turn in whole.touch_all():
                if turn.state.call is not None and turn.state.call.id not in event.in_flight:
                    answers.interrupted(turn)
        case _:
            assert_never(event)
    return _finish(whole, call, received=isinstance(event, Received))


def _receive(whole: Whole, received: Received) -> None:
    if received.offset is not None:
        whole.offset = received.offset
    match received.event:
        case Verdict() as verdict:
            accept(whole, verdict, received.place, received.traceparent)
        case Command() as order:
            command(whole, order, received.place, received.traceparent)
        case StreamEvent() as told:
            stream_event(whole, told)
        case _:
            assert_never(received.event)


def _grant(whole: Whole, event: Grant) -> Call | None:
    """Turn a need into the call under way; None when the target no longer needs any."""
    turn = whole.turn(event.target)
    if turn is None:
        return None
    settle(turn)
    wanted = turn.need()
    if wanted is None or wanted.operation.name != event.operation or wanted.not_before > whole.now:
        return None
    seq = turn.state.seq + 1
    call = wanted.call(whole.key, turn.state, whole.ctx.worker.instance)
    turn.state = replace(
        turn.state,
        seq=seq,
        call=UnderWay(
            call.id,
            call.purpose,
            call.operation,
            whole.now,
            call.until,
            wanted.clamped,
            call.regions,
            seq,
        ),
    )
    if _is_full(turn, call.purpose):
        answers.no_room(turn)
        return None
    return call


def _is_full(turn: Turn, purpose: Purpose) -> bool:
    """Whether the vendor is known to take no more of what a call would add."""
    capacities, before = turn.ctx.capacities, turn.state
    if capacities is None or not adds(before, purpose):
        return False
    left = capacities.left(purpose, before.target, turn.now)
    return left is not None and left < 1


def _finish(whole: Whole, call: Call | None, *, received: bool) -> Step:
    step = Step(None, whole.results, call=call)
    quiet = received
    for name, turn in whole.turns.items():
        if not turn.quiet:
            quiet = False
            settle(turn)
            step.needs[name] = turn.need()
        step.results.extend(turn.results)
    step.placed = whole.placed()
    state = whole.close()
    busy = [target for target in state.targets.values() if not _idle(target)]
    if quiet and busy:
        step.state, step.quiet = state, True
        ends = (end(hold.until) for turn in whole.turns.values() for hold in turn.state.holds[-1:])
        step.wake_at = min(ends, default=FOREVER)
        return step
    if quiet and whole.now < (forget_at := _forget_at(state)):
        step.state, step.quiet, step.wake_at = state, True, forget_at
        return step
    return _look_over(whole, state, busy, step)


def _look_over(whole: Whole, state: StreamState, busy: list[TargetState], step: Step) -> Step:
    """Complete a step that may have changed what the stream owes and when it must be looked at."""
    # One that had calls is kept as long as the stream: what was cut is known, and the next call's id is new.
    targets = {name: target for name, target in state.targets.items() if not _idle(target) or target.called}
    if len(targets) != len(state.targets):
        state = replace(state, targets=targets)
    if not busy and whole.now >= _forget_at(state):
        return step
    step.state = state
    settled = {name for name, turn in whole.turns.items() if not turn.quiet}
    wakes = [
        wake_at(Turn(whole.ctx, state.key, target, whole.now), settled=target.target.id in settled)
        for target in busy
    ]
    step.wake_at = min(wakes) if busy else _forget_at(state)
    step.open = _open(busy, whole)
    step.places = places(busy, whole.ctx)
    return step


def _open(targets: list[TargetState], whole: Whole) -> Open:
    waiting: list[Millis] = []
    parked: list[Parked] = []
    for target in targets:
        for hold in target.holds:
            if hold.phase == "closed":
                continue
            if hold.parked is not None:
                parked.append(hold.parked)
            else:
                waiting.append(hold.placed_at)
        if "pause" not in parked and _paused(target, whole):
            parked.append("pause")
        waiting.extend(ask.cause.decided_at or 0 for ask in target.asks)
    return Open(
        min(waiting, default=None),
        tuple(parked),
        any(_busy(target, whole) for target in targets),
        min(_ended(targets, whole.now), default=None),
    )


def _ended(targets: list[TargetState], now: Millis) -> Iterator[Millis]:
    """Yield the ends of what is over, and is lifted because it does not go away by itself."""
    for target in targets:
        for has in (target.ban, target.block):
            if has is not None and end(has.until) <= now and to_lift(target, now):
                yield end(has.until)


def _busy(target: TargetState, whole: Whole) -> bool:
    """Whether a call is under way or needed. A comparison on schedule may as well be made later."""
    if target.call is not None:
        return True
    wanted = need(target, whole.now, whole.ctx)
    return wanted is not None and wanted.behind < COMPARES


def _paused(target: TargetState, whole: Whole) -> bool:
    """Whether a pause keeps back a call for something that has its terminal result, as to renew a ban."""
    control, now = whole.ctx.control, whole.now
    if control.paused(target) is None or need(target, now, whole.ctx) is not None:
        return False
    if any(ask.kind == "extend" for ask in target.asks):
        return True
    return need(target, now, whole.ctx.unpaused()) is not None


def _idle(target: TargetState) -> bool:
    """Whether nothing is in force, under way, asked or demanded at a target."""
    return not (target.holds or target.asks or target.ban or target.block or target.call or target.reading)


def _forget_at(state: StreamState) -> Millis:
    """Return when an idle stream has nothing recent any more."""
    return max((state.keep_until, *(rest.until for rest in state.rests)))
