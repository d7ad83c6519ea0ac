"""A stream while a step works on it: the parts that belong to no single target."""

from collections.abc import Iterable
from typing import Unpack

from worker.core.broadcasts import carry
from worker.core.context import Context
from worker.core.holds import end
from worker.core.results import About, result
from worker.core.state import Cause, Hold, StreamState, TargetState
from worker.core.turn import Turn
from worker.events.incoming import StreamRef
from worker.events.result import Result
from worker.words import Action, Millis, ResultOutcome, Session, Target, digest

SEEN_AFTER_EXPIRY: Millis = 3_600_000
"""For how long after its expiry a verdict's id is still remembered."""
SEEN_KEPT = 4_000
"""How many ids a stream remembers at most; beyond it the ones that may be forgotten first go first."""
SEEN_PRUNED_EVERY = 64
WITHDRAWN_FOR: Millis = 86_400_000
"""For how long it is remembered that a verdict was withdrawn which had not come."""
WITHDRAWN_KEPT = 100
PAST_KEPT = 8
LASTING: frozenset[Action] = frozenset({"forbid", "block_regions"})
"""The actions that are in force for a time; a cut is over when it is made."""


class Whole:
    """The working copy of a stream. ``turns`` are the targets that this step has touched."""

    def __init__(self, ctx: Context, state: StreamState, now: Millis) -> None:
        self.ctx = ctx
        self.key = state.key
        self.session = state.session
        self.past = state.past
        self.seen = state.seen
        self.rests = state.rests
        self.targets = state.targets
        self.runs_at = state.runs_at
        self.withdrawn = state.withdrawn
        self.keep_until = state.keep_until
        self.offset = state.offset
        self.now = now
        self.results: list[Result] = []
        self.turns: dict[str, Turn] = {}

    def turn(self, target_id: str) -> Turn | None:
        """Return the working copy of a known target."""
        turn = self.turns.get(target_id)
        if turn is None:
            state = self.targets.get(target_id)
            if state is None:
                return None
            turn = self.turns[target_id] = Turn(self.ctx, self.key, state, self.now)
        return turn

    def turn_at(self, target: Target) -> Turn:
        """Return the working copy of a target, which need not be known yet."""
        target_id = target.id
        turn = self.turn(target_id)
        if turn is None:
            turn = self.turns[target_id] = Turn(self.ctx, self.key, TargetState(target), self.now)
        return turn

    def placed(self) -> list[tuple[str, Hold]]:
        """Return the new demands that act, with their account, for the guards to count."""
        return [(turn.state.target.account, hold) for turn in self.turns.values() for hold in turn.placed]

    def touch_all(self) -> list[Turn]:
        """Return the working copies of all known targets."""
        return [turn for name in self.targets if (turn := self.turn(name)) is not None]

    def tell(self, cause: Cause, outcome: ResultOutcome, detail: str, **about: Unpack[About]) -> None:
        """Publish a result that belongs to no hold."""
        told = result(self.ctx, self.key, cause, outcome, self.now, detail=detail, **about)
        self.results.append(told)

    def first_time(self, event_id: str, forget_at: Millis) -> bool:
        """Remember an id; False when it was seen before."""
        name = digest(event_id, size=8)
        if name in self.seen:
            return False
        seen = self.seen
        if len(seen) % SEEN_PRUNED_EVERY == SEEN_PRUNED_EVERY - 1:
            seen = {known: at for known, at in seen.items() if at > self.now}
        if len(seen) >= SEEN_KEPT:
            seen = dict(sorted(seen.items(), key=lambda item: item[1])[SEEN_KEPT // 10 :])
        self.seen = {**seen, name: forget_at}
        self.keep_until = max(self.keep_until, forget_at)
        return True

    def has_seen(self, event_id: str) -> bool:
        """Whether an id was seen before."""
        return digest(event_id, size=8) in self.seen

    def take_back(self, verdict_id: str, withdrawn_by: str | None) -> None:
        """Remember that a verdict was withdrawn before it came."""
        until = self.now + WITHDRAWN_FOR
        kept = sorted(self.withdrawn.items(), key=lambda item: item[1][1])[-WITHDRAWN_KEPT + 1 :]
        self.withdrawn = {**dict(kept), digest(verdict_id, size=8): (withdrawn_by or "", until)}
        self.keep_until = max(self.keep_until, until)

    def taken_back_by(self, verdict_id: str) -> str | None:
        """Return what withdrew a verdict before it came, or None."""
        if not self.withdrawn:
            return None
        by, until = self.withdrawn.get(digest(verdict_id, size=8), ("", 0))
        return by if until > self.now else None

    # -- where it runs -------------------------------------------------------------------------------

    def carry(self, places: Iterable[Target]) -> None:
        """Demand at these places what is demanded of the stream elsewhere: it runs here now.

        What is bound to a broadcast stays behind, and so does what waits for a human.
        """
        demands = {
            hold.id: hold
            for target in self.targets.values()
            for hold in self._turn_of(target).state.holds
            if hold.action in LASTING and hold.session is None and not hold.over and hold.active
            if end(hold.until) > self.now
        }
        for place in places:
            known = self.targets.get(place.id)
            here = {hold.id for hold in self._turn_of(known).state.holds} if known is not None else set()
            new = [hold for name, hold in demands.items() if name not in here]
            if new:
                carry(self.turn_at(place), new)

    def _turn_of(self, target: TargetState) -> Turn:
        return self.turns.get(target.target.id) or Turn(self.ctx, self.key, target, self.now)

    # -- sessions ------------------------------------------------------------------------------------

    def hear_of(self, stream: StreamRef) -> None:
        """Take note of the session an event names; a later start ends the session before it."""
        if stream.session is None:
            return
        named = Session(stream.session.id, stream.session.started_at)
        current = self.session
        if named.id in self.past:
            return
        if current is None or (current.id == named.id and current.started_at is None):
            self.session = named
        elif (
            named.id != current.id
            and named.started_at is not None
            and (current.started_at is None or named.started_at > current.started_at)
        ):
            self.session = named
            self.end_session(current.id)

    def end_session(self, session_id: str) -> None:
        """Declare a session over: what was bound to it ends with it."""
        past = (known for known in self.past if known != session_id)
        self.past = (*past, session_id)[-PAST_KEPT:]
        for turn in self.touch_all():
            turn.end_session(session_id)

    def is_over(self, stream: StreamRef) -> bool:
        """Whether the session an event names is known to be over."""
        named, current = stream.session, self.session
        if named is None:
            return False
        if named.id in self.past:
            return True
        return (
            current is not None
            and named.id != current.id
            and current.started_at is not None
            and named.started_at is not None
            and named.started_at < current.started_at
        )

    # -- the end of the step -------------------------------------------------------------------------

    def close(self) -> StreamState:
        """Return the state with every touched target put back, and without what need not be remembered."""
        targets = self.targets
        if self.turns:
            targets = {**targets, **{name: turn.state for name, turn in self.turns.items()}}
        rests = self.rests
        if rests:
            rests = tuple(rest for rest in rests if rest.until > self.now)
        withdrawn = self.withdrawn
        if withdrawn:
            withdrawn = {name: each for name, each in withdrawn.items() if each[1] > self.now}
        return StreamState(
            self.key,
            self.session,
            self.past,
            self.seen,
            rests,
            targets,
            self.runs_at,
            withdrawn,
            self.keep_until,
            self.offset,
        )
