"""Which broadcast runs at a target, as far as reads have shown, and demands that follow a stream to it."""

from collections.abc import Iterable

from worker.core.holds import GRAIN
from worker.core.state import Hold
from worker.core.turn import Turn
from worker.words import Millis, Session, replace


def is_another(turn: Turn, session: Session | None, detected_at: Millis | None) -> bool:
    """Whether a read has shown a broadcast that began after a session and after what was seen of it."""
    began = turn.state.began
    if session is None or session.started_at is None or began is None:
        return False
    return began > max(session.started_at, detected_at or 0) + GRAIN


def is_over(turn: Turn, hold: Hold) -> bool:
    """Whether the broadcast that a demand is bound to is over."""
    return hold.over or is_another(turn, hold.session, hold.cause.detected_at)


def carry(turn: Turn, demands: Iterable[Hold]) -> None:
    """Take demands that another target of the stream has; their terminal results are told there."""
    for hold in demands:
        seq = turn.state.seq + 1
        here = Hold(
            hold.id,
            hold.cause,
            hold.action,
            hold.origin,
            hold.category,
            hold.priority,
            hold.expires_at,
            placed_at=turn.now,
            seq=seq,
            until=hold.until,
            regions=hold.regions,
            rule=hold.rule,
            verify=hold.verify,
            phase="closed",
            moved=True,
            humans=hold.humans,
        )
        turn.state = replace(turn.state, holds=(*turn.state.holds, here), seq=seq)
    turn.take_up()
