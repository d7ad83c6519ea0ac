"""What must be so whatever happens: each promise is one function, and is told by its name when broken.

A function takes plain data and raises Broken. Those of the first group hold at any moment, those of the
second when everything has come to rest.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.core.holds import GRAIN, desired, end
from worker.core.policy import Guard
from worker.core.state import Hold, StreamState, TargetState
from worker.vendors.base import Quota
from worker.words import READS, Call, Millis, Target


class Broken(AssertionError):  # noqa: N818 - it is no error of the program that looks
    """A promise is broken. ``promise`` is the name of its function."""

    def __init__(self, promise: str, said: object) -> None:
        super().__init__(f"{promise}: {said}")
        self.promise = promise


@dataclass
class Made:
    """A request for a change, as the world knows it.

    ``waiting``: the demands that it was made for. ``told``: a good answer lies with the process.
    ``kept``: that answer is committed. ``lost``: it may have happened, and nobody will say. ``asked``: a
    read has gone out since.
    """

    call: Call
    waiting: frozenset[str]
    told: bool = False
    kept: bool = False
    lost: bool = False
    asked: bool = False


# -- at any moment ---------------------------------------------------------------------------------------


def at_most_one_terminal(told: Counter[tuple[str, str | None]]) -> None:
    """No verdict or command has two terminal results at one target."""
    twice = [name for name, number in told.items() if number > 1]
    if twice:
        raise Broken("at_most_one_terminal", twice)


def known_before_sent(committed: StreamState | None, target: str, call: Call) -> None:
    """A call goes out only when the committed state says that it is under way.

    Of a read it says that something is: an action takes a read's place, whose answer then says nothing.
    """
    state = committed.targets.get(target) if committed is not None else None
    under_way = state.call if state is not None else None
    if under_way is None or (call.purpose not in READS and under_way.id != call.id):
        raise Broken("known_before_sent", f"{call.purpose} {call.id}")


def sent_once(sent: set[str], call: Call) -> None:
    """The same call never goes out twice; what is tried again is another call."""
    if call.id in sent:
        raise Broken("sent_once", f"{call.purpose} {call.id}")


def offsets_advance(before: int, after: int) -> None:
    """No committed input offset goes back, so no record is read twice after it was dealt with."""
    if after < before:
        raise Broken("offsets_advance", f"{before} -> {after}")


def within_quota(
    counted: Mapping[tuple[str, str], list[Millis]],
    quotas: Mapping[str, Sequence[Quota]],
    promise: str = "within_quota",
) -> None:
    """No sliding window of the vendor's holds more requests than it allows."""
    for (account, operation), moments in counted.items():
        moments.sort()
        for quota in quotas.get(operation, ()):
            for first, last in zip(moments, moments[quota.limit :], strict=False):
                if last - first < quota.window:
                    said = f"{account}/{operation}: {quota.limit + 1} in {last - first} ms"
                    raise Broken(promise, said)


def within_guard(acting: Mapping[str, list[Millis]], guard: Guard) -> None:
    """No sliding window has more demands that act than a guard lets through at an account."""
    within_quota(
        {(account, guard.name): moments for account, moments in acting.items()},
        {guard.name: (Quota(guard.limit, guard.window),)},
        "within_guard",
    )


def repeated_only_where_lost(previous: Made | None, call: Call, waiting: frozenset[str]) -> None:
    """A change whose good answer is committed is not asked for again; a cut is, for another demand."""
    if previous is None or not previous.kept:
        return
    was = previous.call
    same = (was.purpose, was.until, was.regions) == (call.purpose, call.until, call.regions)
    if same and not (call.purpose == "cut" and not waiting <= previous.waiting):
        raise Broken("repeated_only_where_lost", f"{call.purpose} {call.id} after {was.id}")


def a_lost_cut_is_asked_about(previous: Made | None, call: Call, waiting: frozenset[str]) -> None:
    """A cut that may have happened is not repeated before the vendor was asked whether the stream is live."""
    if previous is None or not call.purpose == previous.call.purpose == "cut":
        return
    if previous.lost and not previous.asked and waiting <= previous.waiting:
        raise Broken("a_lost_cut_is_asked_about", f"{call.id} after {previous.call.id}")


def told_as_lost_where_it_is(result: Mapping[str, Any], forgotten: Collection[Target]) -> None:
    """Nothing is told as lost at a vendor that has lost nothing of it."""
    where = result["target"]
    if not any((lost.account, lost.stream) == (where["account"], where["stream"]) for lost in forgotten):
        raise Broken("told_as_lost_where_it_is", result["verdict_id"])


def cuts_what_is_demanded(call: Call, state: TargetState, past: Collection[str]) -> None:
    """A broadcast is cut only for a demand on it: none that is over, and none of another broadcast."""
    if call.purpose != "cut":
        return
    forbidden = state.ban is not None and state.ban.live
    holds = (hold for hold in state.holds if hold.active and not hold.over)
    if not forbidden and not any(hold.session is None or hold.session.id not in past for hold in holds):
        raise Broken("cuts_what_is_demanded", call.id)


def standing(state: TargetState, now: Millis) -> list[Hold]:
    """Return the demands that are in force themselves: told, not covered, not over."""
    lasting = [hold for hold in state.holds if hold.action in ("forbid", "block_regions")]
    return [
        hold
        for hold in lasting
        if hold.phase != "waiting" and hold.active and not hold.covered and end(hold.until) > now + GRAIN
    ]


def releasing_spares_the_others(
    before: TargetState, after: TargetState | None, released: set[str], now: Millis
) -> None:
    """A demand that stands stays until its end, unless it was released itself."""
    left = {hold.id for hold in after.holds} if after is not None else set()
    gone = [hold.id for hold in standing(before, now) if hold.id not in left | released]
    if gone:
        raise Broken("releasing_spares_the_others", gone)


# -- at rest ---------------------------------------------------------------------------------------------


def one_terminal_each(
    told: Counter[tuple[str, str | None]], due: Iterable[tuple[str, str]], commands: set[str]
) -> None:
    """Every verdict has its terminal result at each of its targets, and every command has one."""
    due = set(due)
    verdicts = {name for name in told if name[0] not in commands}
    if verdicts != due:
        raise Broken("one_terminal_each", verdicts ^ due)
    unanswered = commands - {name for name, _ in told}
    if unanswered:
        raise Broken("one_terminal_each", f"no answer to {unanswered}")


def nothing_pending(pending: Mapping[str, Any]) -> None:
    """Nothing waits, is under way or keeps a slot; every record was read."""
    left = {name: number for name, number in pending.items() if number}
    if left:
        raise Broken("nothing_pending", left)


def strongest_in_force(
    state: TargetState | None,
    banned_until: Millis,
    blocked: frozenset[str],
    now: Millis,
    apart: Millis,
    slack: Millis,
) -> None:
    """What the vendor has is what the strongest demand asks for; without a demand it has nothing.

    ``now`` is the worker's clock, from which the vendor's is ``apart``; an end nearer than that is
    passed over. A ban may end ``slack`` too early, never late.
    """
    holds = state.holds if state is not None else ()
    near = apart + 2 * GRAIN
    if any(abs(end(hold.until) - now) <= near for hold in holds) or abs(banned_until - now) <= near:
        return
    want = desired(holds, now)
    banned = banned_until > now
    said = f"banned until {banned_until if banned else None}, blocked in {sorted(blocked)}; wanted: {want}"
    if banned != want.forbid:
        raise Broken("strongest_in_force", said)
    if want.forbid and not -GRAIN <= end(want.until) - banned_until <= slack:
        raise Broken("strongest_in_force", said)
    if not want.forbid and set(want.regions) != blocked:
        raise Broken("strongest_in_force", said)
