"""Results: what a step tells the world, with identities that a repetition reproduces."""

from functools import lru_cache
from typing import TypedDict

from worker.core.context import Context
from worker.core.outcome import Facts
from worker.core.state import Cause, Hold, TargetState, Tried
from worker.events.result import (
    Attempt,
    Observation,
    Result,
    ResultError,
    ResultStream,
    ResultTarget,
    Timing,
)
from worker.words import Action, ErrorClass, Millis, Mode, ResultOutcome, Target, digest

_NON_TERMINAL: frozenset[ResultOutcome] = frozenset({"duplicate", "held", "reappeared", "expired", "drifted"})


class About(TypedDict, total=False):
    """What a result that belongs to no hold may say beside its outcome."""

    target: Target | None
    action: Action | None
    until: Millis | None
    regions: tuple[str, ...]
    rule: str | None
    reason: str | None
    error: ErrorClass | None
    caused_by: str | None
    mode: Mode
    nonce: str


def result(
    ctx: Context,
    key: str,
    cause: Cause,
    outcome: ResultOutcome,
    now: Millis,
    *,
    target: Target | None = None,
    terminal: bool | None = None,
    action: Action | None = None,
    until: Millis | None = None,
    regions: tuple[str, ...] = (),
    hold: Hold | None = None,
    hold_id: str | None = None,
    rule: str | None = None,
    reason: str | None = None,
    detail: str = "",
    caused_by: str | None = None,
    attempts: tuple[Tried, ...] = (),
    verified_at: Millis | None = None,
    error: ErrorClass | None = None,
    facts: Facts | None = None,
    mode: Mode = "live",
    nonce: str = "",
) -> Result:
    """Return one result.

    Its id is made of what it answers, the target and, unless it is the one terminal result, the outcome
    and ``nonce``: the same step taken again after a crash gives the same id.
    """
    if terminal is None:
        terminal = outcome not in _NON_TERMINAL
    target_id, shown = (None, None) if target is None else _named(target, _vendor(ctx, target))
    kind = "terminal" if terminal else f"{outcome} {nonce}"
    if hold is not None:
        action, until, regions, rule, hold_id = hold.action, hold.until, hold.regions, hold.rule, hold.id
    return Result(
        result_id=digest(key, cause.verdict_id, cause.command_id, target_id, kind, size=15),
        verdict_id=cause.verdict_id,
        command_id=cause.command_id,
        stream=ResultStream(key=key, session_id=cause.session_id),
        tenant=cause.tenant,
        target=shown,
        outcome=outcome,
        terminal=terminal,
        action=action,
        until=until,
        regions=regions,
        hold=hold_id,
        rule=rule,
        policy_version=cause.policy_version,
        reason=reason,
        detail=detail,
        caused_by=caused_by,
        attempts=tuple([_attempt(tried) for tried in attempts]) if attempts else (),
        timing=Timing(
            detected_at=cause.detected_at,
            received_at=cause.received_at,
            decided_at=cause.decided_at,
            called_at=hold.called_at if hold else None,
            answered_at=hold.answered_at if hold else None,
            verified_at=verified_at,
        ),
        error=None if error is None else ResultError(kind=error, message=detail),
        observed=None if facts is None else _observation(facts),
        mode=mode,
        worker=ctx.worker,
        at=now,
        traceparent=cause.traceparent,
        severity=cause.severity,
    )


def first_call_at(state: TargetState) -> Millis | None:
    """Return when the first request for the open demands went out."""
    return state.attempts[0].at if state.attempts else None


def _vendor(ctx: Context, target: Target) -> str | None:
    account = ctx.accounts.get(target.account)
    return account.vendor if account else None


@lru_cache(maxsize=10_000)
def _named(target: Target, vendor: str | None) -> tuple[str, ResultTarget]:
    """Return a target's id, and the target as results show it."""
    shown = ResultTarget(
        account=target.account,
        vendor=vendor,
        push_domain=target.push_domain,
        play_domain=target.play_domain,
        app=target.app,
        stream=target.stream,
    )
    return target.id, shown


def _attempt(tried: Tried) -> Attempt:
    return Attempt(
        n=tried.n,
        operation=tried.operation,
        at=tried.at,
        duration_ms=tried.duration,
        http_status=tried.http_status,
        vendor_code=tried.vendor_code,
        vendor_request_id=tried.vendor_request_id,
        outcome=tried.outcome,
    )


def _observation(facts: Facts) -> Observation:
    return Observation(
        forbidden=facts.forbidden,
        forbidden_until=facts.forbidden_until,
        live=facts.live,
        live_since=facts.live_since,
        regions=facts.regions,
        regions_until=facts.regions_until,
    )
