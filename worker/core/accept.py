"""A verdict comes in: what is said at once, and what becomes a demand at a target.

The checks come in the contract's order: duplicate, stale, wrong_session, policy, unsupported, shadow,
absorbed, approval, guard; a pause is seen to when the target is settled.
"""

from worker.core.broadcasts import is_another
from worker.core.context import AccountView
from worker.core.policy import Decision, decide, is_protected
from worker.core.state import Ask, Cause, Hold
from worker.core.whole import SEEN_AFTER_EXPIRY, Whole
from worker.events.incoming import StreamRef, Verdict
from worker.events.regions import REGIONS
from worker.words import READS, Action, ErrorClass, Millis, Purpose, Session, Target, digest, replace

_PURPOSE: dict[Action, Purpose] = {"cut": "cut", "forbid": "forbid", "block_regions": "block_regions"}

WAITING_MOST = 500
"""With so many demands at a target, one more that would wait for a human, or only asks, is refused: the
stream's record must stay below what brokers take, or its whole partition waits for it."""


def accept(whole: Whole, verdict: Verdict, place: str, traceparent: str | None) -> None:
    """Take a verdict into account."""
    now, policy = whole.now, whole.ctx.policy
    expires_at = verdict.expires_at
    if expires_at is None:
        expires_at = verdict.detected_at + policy.max_age
    cause = Cause(
        verdict_id=verdict.verdict_id,
        tenant=verdict.tenant,
        session_id=verdict.stream.session.id if verdict.stream.session else None,
        severity=verdict.severity,
        policy_version=policy.version,
        traceparent=traceparent,
        detected_at=verdict.detected_at,
        received_at=now,
        decided_at=now,
    )
    if not whole.first_time(verdict.verdict_id, max(expires_at, now) + SEEN_AFTER_EXPIRY):
        detail = "This verdict was seen before; its terminal result is or will be elsewhere."
        whole.tell(cause, "duplicate", detail, reason="seen", nonce=place)
        return
    whole.hear_of(verdict.stream)
    if verdict.kind == "violation":
        withdrawn_by = whole.taken_back_by(verdict.verdict_id)
        if withdrawn_by is None:
            _violation(whole, verdict, cause, expires_at)
        else:
            _withdrawn(whole, verdict, cause, withdrawn_by)
    else:
        _take_back(whole, verdict, cause)


def targets_of(whole: Whole, named: tuple[Target, ...], tenant: str | None) -> tuple[Target, ...]:
    """Return where a stream runs: as the event says, else the platform, the routes, or what was before."""
    known = named or whole.runs_at or whole.ctx.routes.resolve(whole.key, tenant)
    return known or tuple(target.target for target in whole.targets.values())


def named_targets(stream: StreamRef) -> tuple[Target, ...]:
    """Return the targets an event names, each once."""
    if not stream.targets:
        return ()
    targets = (
        Target(target.account, target.app, target.stream, target.push_domain, target.play_domain)
        for target in stream.targets
    )
    return tuple(dict.fromkeys(targets))


def _violation(whole: Whole, verdict: Verdict, cause: Cause, expires_at: Millis) -> None:
    targets: tuple[Target | None, ...] = targets_of(whole, named_targets(verdict.stream), verdict.tenant)
    if expires_at <= whole.now:
        for target in targets or (None,):
            detail = "It expired before it could be acted on."
            whole.tell(cause, "stale", detail, target=target, reason="expired", mode=verdict.mode)
        return
    if whole.is_over(verdict.stream):
        for target in targets or (None,):
            detail = "It names a broadcast that is over."
            reason = "session_over"
            whole.tell(cause, "wrong_session", detail, target=target, reason=reason, mode=verdict.mode)
        return
    decision = _decide(whole, verdict)
    for target in targets or (None,):
        _decided(whole, verdict, cause, expires_at, decision, target)


def _withdrawn(whole: Whole, verdict: Verdict, cause: Cause, by: str) -> None:
    for target in targets_of(whole, named_targets(verdict.stream), verdict.tenant) or (None,):
        detail = "It was withdrawn before it came."
        whole.tell(
            cause, "cancelled", detail, target=target, reason="withdrawn", caused_by=by, mode=verdict.mode
        )


def _decide(whole: Whole, verdict: Verdict) -> Decision:
    decision = decide(whole.ctx.policy, verdict, whole.now)
    if verdict.origin != "machine" or decision.action == "none":
        return decision
    session = verdict.stream.session or whole.session
    for rest in whole.rests:
        same = rest.session_id is None or session is None or session.id == rest.session_id
        if rest.category == verdict.category and same and rest.until > whole.now:
            detail = "A human released this category on this broadcast; machine verdicts rest for a while."
            return replace(decision, action="none", reason="cooloff", detail=detail, error=None)
    return decision


def _decided(
    whole: Whole,
    verdict: Verdict,
    cause: Cause,
    expires_at: Millis,
    decision: Decision,
    target: Target | None,
) -> None:
    if decision.action == "none":
        _say(whole, cause, decision, target)
        return
    view = whole.ctx.accounts.get(target.account) if target else None
    trouble = _trouble(decision, target, view) or _leaves_none(whole, decision, target, view)
    if trouble is not None and decision.otherwise and trouble[0] == "unsupported":
        decision = replace(decision, action=decision.otherwise, otherwise=None)
        if decision.action == "none":
            detail = "The vendor cannot do what the rule asks; the rule says to do nothing then."
            _say(whole, cause, replace(decision, reason="otherwise", detail=detail), target)
            return
        trouble = _trouble(decision, target, view)
    if trouble is not None or target is None:
        error, detail = trouble or ("config", "")
        whole.tell(
            cause,
            "failed",
            detail,
            target=target,
            action=decision.action,
            rule=decision.rule,
            reason=error,
            error=error,
            mode=decision.mode,
        )
        return
    if decision.mode == "shadow":
        whole.tell(
            cause,
            "shadow",
            f"Decided in shadow; nothing is called. {decision.detail}",
            target=target,
            action=decision.action,
            until=decision.until,
            regions=decision.regions,
            rule=decision.rule,
            reason=decision.reason,
            mode="shadow",
        )
        return
    turn = whole.turn_at(target)
    hold = None
    if decision.action != "query":
        hold = _hold(whole, verdict, cause, expires_at, decision, turn.state.seq + 1)
        if is_another(turn, hold.session, cause.detected_at):
            detail = "The vendor shows a broadcast that began after this violation was seen."
            whole.tell(cause, "wrong_session", detail, target=target, reason="session_over")
            return
        hold = _parked(whole, verdict, decision, target, hold)
    if hold is not None and hold.parked is None:
        turn.place(hold)
    elif len(turn.state.holds) + len(turn.state.asks) >= WAITING_MOST:
        whole.tell(
            cause,
            "failed",
            f"{WAITING_MOST} demands of this stream wait here already.",
            target=target,
            action=decision.action,
            rule=decision.rule,
            reason="too_many_waiting",
            error="internal",
            mode=decision.mode,
        )
    elif hold is not None:
        turn.place(hold)
    else:
        ask = Ask(cause, "query", decision.priority, expires_at, rule=decision.rule)
        turn.state = replace(turn.state, asks=(*turn.state.asks, ask))


def _say(whole: Whole, cause: Cause, decision: Decision, target: Target | None) -> None:
    whole.tell(
        cause,
        "no_action",
        decision.detail,
        target=target,
        action="none",
        rule=decision.rule,
        reason=decision.reason,
        mode=decision.mode,
    )


def _trouble(
    decision: Decision, target: Target | None, view: AccountView | None
) -> tuple[ErrorClass, str] | None:
    """Return why a decision cannot be carried out at a target, or None."""
    if target is None:
        return "config", "The verdict names no target, and no route matches the stream."
    if view is None:
        return "config", f'The account "{target.account}" is not configured.'
    if decision.error is not None:
        return decision.error, decision.detail
    if decision.action == "query":
        if not READS & set(view.serves):
            return "unsupported", f"{view.vendor} has no call that reads what is in force."
        return None
    if view.gate and decision.action == "forbid":
        return None
    operation = view.serves.get(_PURPOSE[decision.action])
    if operation is None:
        return "unsupported", f"{view.vendor} has no call for {decision.action}."
    missing = [name for name in operation.needs if getattr(target, name, None) is None]
    if missing:
        return (
            "config",
            f"{view.vendor} needs {', '.join(missing)} for {decision.action}; the target has none.",
        )
    return None


def _leaves_none(
    whole: Whole, decision: Decision, target: Target | None, view: AccountView | None
) -> tuple[ErrorClass, str] | None:
    """Return why regions cannot be blocked where the vendor is told those that stay allowed, or None.

    An empty list may well mean "everywhere", so it is never sent.
    """
    operation = view.serves.get("block_regions") if view is not None else None
    if target is None or operation is None or operation.regions == "blocked":
        return None
    if decision.action != "block_regions":
        return None
    known = whole.targets.get(target.id)
    blocked = {code for hold in known.holds for code in hold.regions} if known is not None else set()
    if set(decision.regions) | blocked >= REGIONS:
        vendor = "" if view is None else view.vendor
        return "unsupported", f"{vendor} is told which regions stay allowed, and none would be left."
    return None


def _hold(
    whole: Whole, verdict: Verdict, cause: Cause, expires_at: Millis, decision: Decision, seq: int
) -> Hold:
    session: Session | None = None
    if verdict.stream.session and (decision.action == "cut" or decision.scope == "session"):
        session = Session(verdict.stream.session.id, verdict.stream.session.started_at)
    return Hold(
        id=digest("hold", whole.key, verdict.verdict_id),
        cause=cause,
        action=decision.action,
        origin=verdict.origin,
        category=verdict.category or "",
        priority=decision.priority,
        expires_at=expires_at,
        placed_at=whole.now,
        seq=seq,
        until=None if decision.action == "cut" else decision.until,
        regions=tuple(sorted(set(decision.regions))) if decision.action == "block_regions" else (),
        rule=decision.rule,
        session=session,
        verify=decision.verify,
    )


def _parked(whole: Whole, verdict: Verdict, decision: Decision, target: Target, hold: Hold) -> Hold:
    """Park a demand that has to wait for a human: by its rule, its stream, or a guard."""
    protected = verdict.origin != "order" and is_protected(whole.ctx.policy, whole.key)
    if decision.approval or protected:
        return replace(hold, parked="approval")
    guards = whole.ctx.guards
    guard = guards.parks(target.account, hold, whole.placed()) if guards is not None else None
    if guard is None:
        return hold
    ruling = whole.ctx.control.rulings.get(guard)
    return replace(hold, parked="guard", guard=guard, ruled=ruling.at if ruling is not None else 0)


def _take_back(whole: Whole, verdict: Verdict, cause: Cause) -> None:
    """Release what a clear or withdraw names; nothing else's end is touched."""
    if verdict.kind == "clear":
        why, reason = "The upstream no longer sees it", "cleared"

        def gone(hold: Hold) -> bool:
            return hold.category == verdict.category and hold.origin == verdict.origin
    else:
        why, reason = "The verdict was withdrawn", "withdrawn"

        def gone(hold: Hold) -> bool:
            return hold.cause.verdict_id == verdict.withdraws

    found = sum(turn.release(cause, gone, why, reason) for turn in whole.touch_all())
    if found:
        return
    detail = "There was no such hold."
    if verdict.withdraws is not None and not whole.has_seen(verdict.withdraws):
        whole.take_back(verdict.withdraws, verdict.verdict_id)
        detail = "There was no such hold; if its verdict is still to come, it is not acted on."
    whole.tell(cause, "no_action", detail, reason="no_hold")
