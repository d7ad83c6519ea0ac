"""What would be done for a verdict, and why: one turn of the machine for a stream without history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from worker import __version__, vendors
from worker.core.context import AccountView, Context
from worker.core.policy import Decision, decide
from worker.core.reasons import Look, looks
from worker.core.routes import Routes
from worker.core.state import StreamState
from worker.core.stream import Received, step
from worker.events.incoming import Verdict
from worker.events.result import Result, ResultTarget, WorkerRef
from worker.events.times import TimeOut, format_rfc3339
from worker.settings import Settings
from worker.words import Action, Millis, Priority, ResultOutcome


@dataclass(frozen=True, slots=True)
class Planned:
    """What a verdict would come to at one target; ``target`` None: it would reach none.

    ``looked_at``: the rules up to the one that decides, with what kept the others from it.
    """

    verdict_id: str
    target: ResultTarget | None
    outcome: ResultOutcome
    action: Action | None
    until: TimeOut | None
    regions: tuple[str, ...]
    rule: str | None
    priority: Priority
    reason: str | None
    detail: str
    looked_at: tuple[Look, ...] = ()


def context(settings: Settings) -> Context:
    """Return what the machine needs to know, offline: no guard is open and no account is stopped."""
    views = {
        name: AccountView.of(vendors.load_spec(account.account.vendor))
        for name, account in settings.accounts.items()
    }
    worker = WorkerRef(instance=settings.kafka.instance_id, version=__version__)
    return Context(settings.policy, views, worker, Routes(settings.routes))


def plan(ctx: Context, verdict: Verdict, now: Millis, *, explain: bool = False) -> tuple[Planned, ...]:
    """Return what a verdict would come to at each target, if it were the first word about its stream.

    ``applied`` (for a query ``observed``) stands for: the call would be made. ``explain``: with the rules
    that were looked at.
    """
    stepped = step(StreamState(verdict.stream.key), Received(verdict, "plan"), now, ctx)
    decision = decide(ctx.policy, verdict, now)
    looked_at = looks(ctx.policy, verdict) if explain and verdict.kind == "violation" else ()
    told = (
        Planned(
            verdict_id=verdict.verdict_id,
            target=result.target,
            outcome=result.outcome,
            action=result.action,
            until=result.until,
            regions=result.regions,
            rule=result.rule,
            priority=decision.priority,
            reason=result.reason,
            detail=_why(result, decision),
            looked_at=looked_at,
        )
        for result in stepped.results
    )
    wanted = (
        Planned(
            verdict_id=verdict.verdict_id,
            target=target,
            outcome="observed" if action == "query" else "applied",
            action=action,
            until=until,
            regions=regions,
            rule=decision.rule,
            priority=decision.priority,
            reason=decision.reason,
            detail=decision.detail,
            looked_at=looked_at,
        )
        for target, action, until, regions in _calls_for(ctx, stepped.state)
    )
    return (*told, *wanted)


def _why(result: Result, decision: Decision) -> str:
    if result.rule is None or decision.detail in result.detail:
        return result.detail
    return f"{decision.detail} {result.detail}"


def _calls_for(
    ctx: Context, state: StreamState | None
) -> Iterator[tuple[ResultTarget, Action, Millis | None, tuple[str, ...]]]:
    """Yield the demands that wait for a call."""
    for at in state.targets.values() if state else ():
        target = ResultTarget(
            account=at.target.account,
            vendor=ctx.accounts[at.target.account].vendor,
            push_domain=at.target.push_domain,
            play_domain=at.target.play_domain,
            app=at.target.app,
            stream=at.target.stream,
        )
        for hold in at.holds:
            if hold.parked is None:
                yield target, hold.action, hold.until, hold.regions
        for _ in at.asks:
            yield target, "query", None, ()


_JSON = TypeAdapter(tuple[Planned, ...])


def as_json(planned: Sequence[Planned]) -> str:
    """Return a plan as a JSON array."""
    return _JSON.dump_json(tuple(planned), indent=2, exclude={"__all__": {"detail", "looked_at"}}).decode()


def as_text(planned: Sequence[Planned]) -> str:
    """Return a plan for people: a line for each verdict and target, and the reason below it.

    The rules that were looked at in vain follow once for each verdict.
    """
    lines: list[str] = []
    for index, one in enumerate(planned):
        lines += [_headline(one), f"    {one.detail}"]
        if index + 1 == len(planned) or planned[index + 1].verdict_id != one.verdict_id:
            lines += [f"      not {look.rule}: {look.why}" for look in one.looked_at if not look.matches]
    return "\n".join(lines)


def _headline(one: Planned) -> str:
    words = [one.verdict_id, one.outcome]
    if one.action not in {None, "none"}:
        words.append(str(one.action))
    if one.action in {"forbid", "block_regions"} and one.outcome in {"applied", "held", "shadow"}:
        words.append(f"until {format_rfc3339(one.until)}" if one.until is not None else "for good")
    if one.regions:
        words.append(f"in {', '.join(one.regions)}")
    if one.target is not None:
        where = "/".join(
            (one.target.push_domain or one.target.play_domain or "", one.target.app, one.target.stream)
        )
        words.append(f"at {one.target.account} {where.lstrip('/')}")
    return "  ".join([*words, f"priority {one.priority}"])
