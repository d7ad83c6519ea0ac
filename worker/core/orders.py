"""Commands of humans, and what the platform tells about broadcasts."""

from worker.core.accept import named_targets, targets_of
from worker.core.state import Ask, Cause, Hold, Parked, Rest
from worker.core.whole import Whole
from worker.events.incoming import Command, StreamEvent
from worker.words import READS, Millis, replace

SESSION_KEPT: Millis = 86_400_000
"""For how long a broadcast is remembered of which nothing but its start or end is known."""
COMMANDS_SEEN_FOR: Millis = 86_400_000
"""For how long a command's id is remembered."""
APPROVED: tuple[Parked, ...] = ("approval", "guard")
"""What a human's approval lets go. A pause ends for its whole scope at once, by ``resume``."""
REJECTED: tuple[Parked, ...] = (*APPROVED, "pause")
"""What a human may end; a stopped account is not among it."""


def command(whole: Whole, order: Command, place: str, traceparent: str | None) -> None:
    """Take a command into account; it gets one terminal result for each target it touches."""
    cause = Cause(
        command_id=order.command_id,
        session_id=order.stream.session.id if order.stream.session else None,
        policy_version=whole.ctx.policy.version,
        traceparent=traceparent,
        by=order.by,
        received_at=whole.now,
        decided_at=whole.now,
    )
    if not whole.first_time(f"command {order.command_id}", whole.now + COMMANDS_SEEN_FOR):
        detail = "This command was seen before; its terminal result is or will be elsewhere."
        whole.tell(cause, "duplicate", detail, reason="seen", nonce=place)
        return
    match order.command:
        case "release":
            _release(whole, order, cause)
        case "approve":
            said, named = f"Approved by {order.by}.", _named(order, *APPROVED)
            count = sum(turn.unpark(named, said) for turn in whole.touch_all())
            if count:
                whole.carry(whole.runs_at)
            _let_go(whole, cause, count, said)
        case "reject":
            _reject(whole, order, cause)
        case "extend":
            ask = Ask(cause, "extend")
            if not sum(turn.extend(ask, _named(order), order.until) for turn in whole.touch_all()):
                whole.tell(cause, "no_action", "There was no such hold.", reason="no_hold")
        case "query":
            _query(whole, order, cause)


def stream_event(whole: Whole, told: StreamEvent) -> None:
    """Take note of a broadcast that started or ended, and of where the stream runs now."""
    whole.keep_until = max(whole.keep_until, whole.now + SESSION_KEPT)
    late = whole.is_over(told.stream)
    whole.hear_of(told.stream)
    if told.stream_event == "ended":
        if told.stream.session is not None:
            whole.end_session(told.stream.session.id)
    elif not late:
        whole.runs_at = named_targets(told.stream) or whole.runs_at
        whole.carry(whole.runs_at)


def _named(order: Command, *parked: str) -> "_Named":
    return _Named(order.holds, parked)


class _Named:
    """Whether a command means a hold: those it names, or all; only parked ones where ``parked`` is given."""

    def __init__(self, ids: tuple[str, ...] | None, parked: tuple[str, ...]) -> None:
        self._ids = None if ids is None else frozenset(ids)
        self._parked = parked

    def __call__(self, hold: Hold) -> bool:
        if self._parked and hold.parked not in self._parked:
            return False
        return self._ids is None or hold.id in self._ids


def _release(whole: Whole, order: Command, cause: Cause) -> None:
    named = _named(order)
    categories = {
        hold.category
        for turn in whole.touch_all()
        for hold in turn.state.holds
        if named(hold) and hold.category
    }
    why = f"Released by {order.by}"
    found = sum(turn.release(cause, named, why, "released") for turn in whole.touch_all())
    if not found:
        whole.tell(cause, "no_action", "There was no such hold.", reason="no_hold")
        return
    session = whole.session
    until = whole.now + whole.ctx.policy.release_cooloff
    rests = (Rest(category, session.id if session else None, until) for category in sorted(categories))
    whole.rests = (*whole.rests, *rests)


def _reject(whole: Whole, order: Command, cause: Cause) -> None:
    named = _named(order, *REJECTED)
    why = f"Rejected by {order.by}"
    count = sum(turn.release(cause, named, why, "rejected", asks=False) for turn in whole.touch_all())
    _let_go(whole, cause, count, f"{why}.")


def _let_go(whole: Whole, cause: Cause, count: int, detail: str) -> None:
    if count:
        whole.tell(cause, "applied", detail, reason="command")
    else:
        whole.tell(cause, "no_action", "There was nothing parked.", reason="no_hold")


def _query(whole: Whole, order: Command, cause: Cause) -> None:
    known = tuple(target.target for target in whole.targets.values())
    named = named_targets(order.stream)
    targets = named or tuple(dict.fromkeys((*known, *targets_of(whole, (), None))))
    if not targets:
        whole.tell(
            cause, "no_action", "The stream has no known target, and no route matches.", reason="no_target"
        )
    for target in targets:
        view = whole.ctx.accounts.get(target.account)
        if view is None:
            detail = f'The account "{target.account}" is not configured.'
            whole.tell(
                cause, "failed", detail, target=target, action="query", reason="config", error="config"
            )
        elif not READS & set(view.serves):
            detail = f"{view.vendor} has no call that reads what is in force."
            whole.tell(
                cause,
                "failed",
                detail,
                target=target,
                action="query",
                reason="unsupported",
                error="unsupported",
            )
        else:
            turn = whole.turn_at(target)
            turn.state = replace(turn.state, asks=(*turn.state.asks, Ask(cause, "query")))
