"""When time alone will change something at a target."""

from worker.core.calls import renew_at
from worker.core.drift import due_at, moment
from worker.core.holds import FOREVER, end
from worker.core.turn import Turn
from worker.words import Millis


def wake_at(turn: Turn, *, settled: bool) -> Millis:
    """Return when time alone will change something here; FOREVER if it will not.

    ``settled``: this step has looked at it, so what is due by now has been seen to.
    """
    state, times = turn.state, [FOREVER]
    for hold in state.holds:
        times.append(end(hold.until))
        if hold.phase == "waiting" or (hold.action == "cut" and hold.phase == "closed"):
            times.append(hold.expires_at)
    times.extend(end(ask.expires_at) for ask in state.asks)
    for has in (state.ban, state.block):
        if has is not None:
            times.append(end(has.until))
            if any(hold.active and end(hold.until) > end(has.until) for hold in state.holds):
                times.append(renew_at(has.since, has.until))
    if state.check is not None and turn.ctx.policy.verify_after:
        times.append(turn.check_at(state.check))
        times.append(turn.check_over_at(state.check))
    at = due_at(turn)
    times.append(at if at > turn.now or not settled else moment(turn, turn.now + 1))
    return min(at for at in times if at > turn.now or not settled)
