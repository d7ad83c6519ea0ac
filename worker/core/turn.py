"""One turn of one target: the working copy that a step changes and tells results from."""

from collections.abc import Callable, Iterable, Mapping

from worker.core.calls import Need, need
from worker.core.context import AccountView, Context
from worker.core.holds import FOREVER, covers, end, in_force, slack
from worker.core.outcome import Facts
from worker.core.results import result
from worker.core.state import Ask, Cause, Check, Hold, Parked, TargetState
from worker.events.result import Result
from worker.vendors.base import Operation
from worker.words import READS, ErrorClass, Millis, Purpose, ResultOutcome, replace

CHECK_GRACE: Millis = 60_000
"""How long after its last check a verification may still wait for the read quota."""
FOLLOWED_FOR: Millis = 900_000
"""How long after its last check a vendor that is still at work is followed."""
FOLLOWED_EVERY: Millis = 10_000

BACKOFF_BASE: Millis = 500
"""The first retry waits up to this long, each further one up to twice as long."""
BACKOFF_CAP: Millis = 30_000
AFTER_FAILURE: Millis = 5_000
"""How soon a new demand is tried after one before it was given up."""
COVERED_KEPT = 4
"""How many covered demands of one kind a target remembers, each outlasted by the next."""


class Turn:
    """A target while a step works on it. ``state`` is replaced, never changed; ``results`` grow.

    ``placed`` are the new demands that act.
    """

    def __init__(self, ctx: Context, key: str, state: TargetState, now: Millis) -> None:
        self.ctx = ctx
        self.key = key
        self.state = state
        self.now = now
        self.results: list[Result] = []
        self.placed: list[Hold] = []
        self.quiet = False
        """Nothing happened that could change what is needed: there is no order to be brought in."""
        self.went_stale = False
        """A demand was given up before anything was sent for it."""
        self._stirred = False

    @property
    def view(self) -> AccountView | None:
        """What the account's vendor can do; None when the account is no longer configured."""
        return self.ctx.accounts.get(self.state.target.account)

    @property
    def serves(self) -> Mapping[Purpose, Operation]:
        """What the account's vendor has an operation for; nothing when it is no longer configured."""
        return self.view.serves if self.view is not None else {}

    # -- telling -------------------------------------------------------------------------------------

    def tell(
        self,
        hold: Hold,
        outcome: ResultOutcome,
        detail: str,
        *,
        terminal: bool | None = None,
        reason: str | None = None,
        error: ErrorClass | None = None,
        caused_by: str | None = None,
        verified_at: Millis | None = None,
    ) -> Hold:
        """Publish a result about a hold and return the hold as it is afterwards."""
        told = result(
            self.ctx,
            self.key,
            hold.cause,
            outcome,
            self.now,
            target=self.state.target,
            terminal=terminal,
            hold=hold,
            reason=reason,
            detail=f"{detail} {hold.humans}" if hold.humans else detail,
            error=error,
            caused_by=caused_by,
            attempts=self.state.attempts,
            verified_at=verified_at,
            nonce=str(hold.told),
        )
        self.results.append(told)
        if not told.terminal:
            return replace(hold, told=hold.told + 1)
        return replace(hold, phase="closed", gave_up=self.state.seq if outcome == "failed" else None)

    def answer(
        self,
        ask: Ask,
        outcome: ResultOutcome,
        detail: str,
        *,
        reason: str | None = None,
        error: ErrorClass | None = None,
        facts: Facts | None = None,
    ) -> None:
        """Publish the terminal result of a command, clear, withdraw or query."""
        self.results.append(
            result(
                self.ctx,
                self.key,
                ask.cause,
                outcome,
                self.now,
                target=self.state.target,
                action="query" if ask.kind == "query" else None,
                hold_id=ask.hold,
                rule=ask.rule,
                reason=reason,
                detail=detail,
                error=error,
                facts=facts,
                attempts=self.state.attempts,
            )
        )

    def each(self, change: Callable[[Hold], Hold | None]) -> None:
        """Replace every hold by what ``change`` makes of it; None drops it."""
        kept = tuple([after for hold in self.state.holds if (after := change(hold)) is not None])
        if kept != self.state.holds:
            self.state = replace(self.state, holds=kept)

    # -- demands -------------------------------------------------------------------------------------

    def place(self, hold: Hold) -> None:
        """Take a new demand: absorbed if one that covers it stands, parked if it has to wait for a human."""
        standing = self.state.holds
        before = self._covering(hold)
        if before is not None:
            detail = "A demand that covers it is in force or under way."
            caused_by = before if isinstance(before, str) else before.cause.verdict_id
            self.tell(hold, "absorbed", detail, reason="policy", caused_by=caused_by)
            self.quiet = not self._stirred
            if isinstance(before, str):
                return  # the cut it asks for has been made
            hold = replace(hold, phase="closed", covered=True)
            standing = self._few(hold)
        elif hold.parked is not None and (like := self._parked_like(hold)) is not None:
            detail = "A demand that covers it waits for a human in the same way."
            self.tell(hold, "absorbed", detail, reason=hold.parked, caused_by=like.cause.verdict_id)
            hold = replace(hold, phase="closed", covered=True)
            standing = self._few(hold)
        elif hold.parked is not None:
            hold = self.tell(hold, "held", why_parked(hold, hold.parked), reason=hold.parked)
        else:
            self.placed.append(hold)
            self.take_up()
        self.state = replace(self.state, holds=(*standing, hold), seq=hold.seq)

    def _few(self, new: Hold) -> tuple[Hold, ...]:
        """Return the holds less the oldest covered one that a newer one like it outlasts, if there are many.

        A flood of verdicts on one stream must not make its state grow without bound.
        """
        holds = self.state.holds
        if len(holds) < COVERED_KEPT:
            return holds
        like = [hold for hold in holds if hold.covered and _outlasts(new, hold)]
        return holds if len(like) < COVERED_KEPT else tuple(hold for hold in holds if hold is not like[0])

    def _covering(self, new: Hold) -> Hold | str | None:
        """Return the hold (or the verdict of a cut already made) that makes a new demand needless."""
        cut = self.state.cut
        if new.action == "cut" and cut is not None and cut.verdict_id and new.cause.detected_at is not None:
            same = cut.session_id is None or cut.session_id == new.cause.session_id
            if same and new.cause.detected_at <= cut.at:
                return cut.verdict_id
        length = end(new.until) - new.placed_at
        allowed = slack(length, self.ctx.policy.absorb_slack)
        for hold in self.state.holds:
            if not hold.active or end(hold.until) <= self.now:
                continue
            if hold.phase == "closed" and not in_force(self.state, hold, self.now):
                continue
            if hold.action == "cut" and (hold.phase != "waiting" or _session_id(hold) != _session_id(new)):
                continue
            if covers(hold, new.action, new.until, new.regions, allowed):
                return hold
        return None

    def _parked_like(self, new: Hold) -> Hold | None:
        """Return the hold that covers a parked demand and has to be let go in the same way.

        Without it, a verdict for each frame would make the state of a parked stream grow without bound.
        """
        allowed = slack(end(new.until) - new.placed_at, self.ctx.policy.absorb_slack)
        for hold in self.state.holds:
            same = (hold.parked, hold.guard, hold.ruled) == (new.parked, new.guard, new.ruled)
            if (
                same
                and hold.phase == "waiting"
                and _session_id(hold) == _session_id(new)
                and covers(hold, new.action, new.until, new.regions, allowed)
            ):
                return hold
        return None

    def release(
        self, cause: Cause, gone: Callable[[Hold], bool], why: str, reason: str, *, asks: bool = True
    ) -> int:
        """Lift the holds that ``gone`` names; return how many. ``asks``: its cause waits for an answer."""
        count, caused_by = 0, cause.verdict_id or cause.command_id

        def lifted(hold: Hold) -> Hold | None:
            nonlocal count
            if not gone(hold):
                return hold
            count += 1
            if hold.phase == "waiting":
                detail = f"{why} before it was applied."
                self.tell(hold, "cancelled", detail, reason=reason, caused_by=caused_by)
            elif hold.phase == "applied":
                detail = f"{why} before it was verified."
                self.tell(hold, "applied", detail, reason=reason, caused_by=caused_by, terminal=True)
            return None

        self.each(lifted)
        if count and asks:
            self.state = replace(self.state, asks=(*self.state.asks, Ask(cause, "release")))
            self.take_up()
            if cause.command_id is not None and self.state.ban is not None and not self.state.holds:
                # A human's word also ends a ban that was there before us, where no demand is left.
                self.state = replace(self.state, ban=replace(self.state.ban, ours=True))
        return count

    def unpark(self, which: Callable[[Hold], bool], said: str = "") -> int:
        """Let parked demands go; return how many. ``said``: who did it, for the results that follow."""
        count = sum(1 for hold in self.state.holds if hold.parked is not None and which(hold))
        if count:
            seq = self.state.seq + 1  # a call under way is not for them

            def let_go(hold: Hold) -> Hold:
                if hold.parked is None or not which(hold):
                    return hold
                return replace(hold, parked=None, seq=seq, humans=_with(hold.humans, said))

            self.each(let_go)
            self.state = replace(self.state, seq=seq)
            self.take_up()
        return count

    def extend(self, ask: Ask, which: Callable[[Hold], bool], until: Millis | None) -> int:
        """Move the end of the holds that ``which`` names; return how many."""
        said = f"Extended by {ask.cause.by}."

        count = sum(1 for hold in self.state.holds if hold.action != "cut" and which(hold))
        if count:

            def extended(hold: Hold) -> Hold:
                if hold.action == "cut" or not which(hold):
                    return hold
                return replace(hold, until=until, humans=_with(hold.humans, said))

            self.each(extended)
            self.state = replace(self.state, asks=(*self.state.asks, ask))
            self.take_up()
        return count

    def end_session(self, session_id: str) -> None:
        """Mark what is bound to a broadcast that is over; ``settle`` ends it when no call is under way."""
        self._stirred = True
        self.each(
            lambda hold: (
                replace(hold, over=True)
                if hold.session is not None and hold.session.id == session_id
                else hold
            )
        )

    # -- what demands become -------------------------------------------------------------------------

    def calm(self) -> None:
        """Let the next call go at once: the vendor answered."""
        self.state = replace(self.state, tries=0, retry_at=0, error=None)

    def retry_at_reconcile(self) -> None:
        """Try what was given up again at the next reconciliation, or never when that is off."""
        pause = self.ctx.policy.reconcile
        retry_at = FOREVER if pause is None else self.now + pause
        self.state = replace(self.state, retry_at=retry_at, tries=0, gave_up_at=self.now)

    def take_up(self) -> None:
        """Let a new demand go soon although another was given up; a vendor's own wait still counts."""
        state = self.state
        if state.tries == 0:
            self.state = replace(state, retry_at=min(state.retry_at, state.gave_up_at + AFTER_FAILURE))

    def applied(self, hold: Hold, detail: str) -> Hold:
        """Tell that a demand was acknowledged; terminal where no verification follows."""
        if not self._verifies(hold):
            if not self.reads([hold]):
                detail += " The vendor cannot be asked whether that is so."
            return self.tell(hold, "applied", detail, reason="policy", terminal=True)
        hold = self.tell(hold, "applied", detail, reason="policy", terminal=False)
        if self.state.check is None:
            self.restart_check()
        return replace(hold, phase="applied")

    def restart_check(self) -> None:
        """Begin a verification anew, where the policy wants any."""
        check = Check(since=self.now) if self.ctx.policy.verify_after else None
        reading = self.state.reading
        if reading is not None and reading.why in ("check", "drift"):
            reading = None
        self.state = replace(self.state, check=check, reading=reading)

    def _verifies(self, hold: Hold) -> bool:
        return hold.verify and bool(self.ctx.policy.verify_after) and bool(self.reads([hold]))

    def reads(self, holds: Iterable[Hold]) -> tuple[Purpose, ...]:
        """Return the reads that show whether these demands are met, as far as the vendor serves them."""
        wanted = dict.fromkeys(purpose for hold in holds for purpose in _SHOWN_BY.get(hold.action, ()))
        return tuple(purpose for purpose in wanted if purpose in self.serves)

    def check_at(self, check: Check) -> Millis:
        """Return when a verification is due."""
        after = self.ctx.policy.verify_after
        return check.since + after[min(check.index, len(after) - 1)]

    def check_over_at(self, check: Check) -> Millis:
        """Return when a verification that came to no end is given up."""
        grace = FOLLOWED_FOR if check.followed else CHECK_GRACE
        return check.since + self.ctx.policy.verify_after[-1] + grace

    def perhaps_live(self) -> bool:
        """Whether the stream may be live in spite of a ban that is found, or asked for in doubt."""
        ban, view = self.state.ban, self.view
        return ban.live if ban is not None else view is not None and not view.forbid_cuts

    def changing(self) -> bool:
        """Whether a call that changes something is under way: its answer decides first."""
        return self.state.call is not None and self.state.call.purpose not in READS

    # -- afterwards ----------------------------------------------------------------------------------

    def need(self) -> Need | None:
        """Return what the target needs next."""
        return need(self.state, self.now, self.ctx)


def _with(said: str, more: str) -> str:
    """Return what humans did about a demand, each thing once."""
    return said if more in said else f"{said} {more}".strip()


def _session_id(hold: Hold) -> str | None:
    return hold.session.id if hold.session is not None else None


def _outlasts(new: Hold, old: Hold) -> bool:
    return (
        (new.action, new.category, new.origin) == (old.action, old.category, old.origin)
        and _session_id(new) == _session_id(old)
        and end(new.until) >= end(old.until)
        and set(old.regions) <= set(new.regions)
    )


PARKED: dict[Parked, str] = {
    "approval": "It waits for a human's approval.",
    "guard": "A guard parked it: too many actions at once. It waits for a human.",
    "pause": "Enforcement is paused.",
    "account": "The vendor refuses the account's login; it is tried again every 30 s.",
}


def why_parked(hold: Hold, why: Parked) -> str:
    """Return a sentence that tells why a demand is parked, with the name of the guard."""
    return PARKED[why].replace("A guard", f"Guard {hold.guard}" if hold.guard else "A guard")


_SHOWN_BY: dict[str, tuple[Purpose, ...]] = {
    "forbid": ("read_forbid", "read_live"),
    "block_regions": ("read_regions",),
    "cut": ("read_live",),
}
