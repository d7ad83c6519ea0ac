"""What another policy would have decided on verdicts that were recorded, each as of when it came in.

Each verdict is taken as the first word about its stream: what holds, releases and a stream's history made
of it is left out, since another policy would have had another history.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from worker.commands.parts import planning
from worker.commands.parts.planning import Planned
from worker.commands.parts.tables import table
from worker.core.context import Context
from worker.core.policy import Policy
from worker.durations import format_duration
from worker.events import codec
from worker.events.incoming import Verdict
from worker.events.result import ResultTarget
from worker.events.times import TimeOut, format_rfc3339
from worker.settings import Settings
from worker.words import Action, Millis, Priority, ResultOutcome, digest, value

EXAMPLES = 5
"""How many verdicts each change names."""


@value()
class Deed:
    """What a policy does about a verdict at one target. ``length`` is the rule's, as people write it.

    ``priority`` is given where it makes a difference.
    """

    outcome: ResultOutcome | Literal["not_reached"]
    action: Action | None
    length: str | None
    rule: str | None
    priority: Priority | None

    def __str__(self) -> str:
        words: list[str] = [] if self.outcome == "applied" and self.action else [self.outcome]
        words += [word for word in (self.action, self.length) if word and word != "none"]
        rule = f" ({self.rule})" if self.rule else ""
        return f"{' '.join(words)}{rule}"


@value()
class Example:
    """A verdict of which a change is made; ``stream`` only where streams may be shown."""

    verdict_id: str
    stream: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Change:
    """So many times, at one target each, one thing would have been done instead of another."""

    before: Deed
    after: Deed
    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Backtest:
    """What was compared. Counts of ``same`` and ``different`` are of verdicts and targets."""

    policy_before: str
    policy_after: str
    since: TimeOut | None = None
    until: TimeOut | None = None
    verdicts: int = 0
    repeated: int = 0
    takes_back: int = 0
    unreadable: int = 0
    same: int = 0
    different: int = 0
    changes: list[Change] = field(default_factory=list)


_JSON = TypeAdapter(Backtest)


class Comparison:
    """Runs both policies on verdicts, one after the other."""

    def __init__(self, before: Settings, after: Settings, *, show_streams: bool = False) -> None:
        self._before, self._after = planning.context(before), planning.context(after)
        self._show_streams = show_streams
        self._seen: set[str] = set()
        self._changes: dict[tuple[Deed, Deed], Change] = {}
        self.found = Backtest(before.policy.version, after.policy.version)

    def take(self, found: codec.Decoded | codec.Invalid, at: Millis) -> None:
        """Take one record of the verdict topic, which came in at ``at``."""
        if isinstance(found, codec.Invalid):
            self.found.unreadable += 1
            return
        verdict = found.event
        if not isinstance(verdict, Verdict):
            return
        name = digest(found.stream_key, verdict.verdict_id)
        if name in self._seen:
            self.found.repeated += 1
            return
        self._seen.add(name)
        if verdict.kind != "violation":
            self.found.takes_back += 1
            return
        self.found.verdicts += 1
        self.found.since = at if self.found.since is None else min(self.found.since, at)
        self.found.until = at if self.found.until is None else max(self.found.until, at)
        before = _by_target(self._before, verdict, at)
        after = _by_target(self._after, verdict, at)
        for target in dict.fromkeys((*before, *after)):
            self._compare(verdict, before.get(target), after.get(target), at)

    def _compare(self, verdict: Verdict, before: Planned | None, after: Planned | None, at: Millis) -> None:
        if _gist(before) == _gist(after):
            self.found.same += 1
            return
        self.found.different += 1
        alike = before is not None and after is not None and before.priority == after.priority
        deeds = (
            _deed(before, self._before.policy, at, alike=alike),
            _deed(after, self._after.policy, at, alike=alike),
        )
        change = self._changes.get(deeds)
        if change is None:
            change = self._changes[deeds] = Change(*deeds)
            self.found.changes.append(change)
        change.count += 1
        if len(change.examples) < EXAMPLES:
            stream = verdict.stream.key if self._show_streams else None
            change.examples.append(Example(verdict.verdict_id, stream))

    def finish(self) -> Backtest:
        """Return what was found, the most frequent change first."""
        self.found.changes.sort(key=lambda change: -change.count)
        return self.found


def _by_target(ctx: Context, verdict: Verdict, at: Millis) -> dict[ResultTarget | None, Planned]:
    return {planned.target: planned for planned in planning.plan(ctx, verdict, at)}


def _gist(planned: Planned | None) -> tuple[object, ...]:
    """Return what makes a difference: another rule that does the same makes none."""
    if planned is None:
        return ()
    return planned.outcome, planned.action, planned.until, planned.regions, planned.priority


def _deed(planned: Planned | None, policy: Policy, at: Millis, *, alike: bool) -> Deed:
    if planned is None:
        return Deed("not_reached", None, None, None, None)
    priority = None if alike else planned.priority
    return Deed(planned.outcome, planned.action, _length(planned, policy, at), planned.rule, priority)


def _length(planned: Planned, policy: Policy, at: Millis) -> str | None:
    """Return for how long, as the rule says it: verdicts that ask for lengths of their own are one kind."""
    if planned.action not in ("forbid", "block_regions") or planned.outcome in ("failed", "stale"):
        return None
    then = next((rule.then for rule in policy.rules if rule.name == planned.rule), None)
    if then is not None and then.length == "requested":
        return "as asked" if then.max_length is None else f"at most {format_duration(then.max_length)}"
    return "for good" if planned.until is None else format_duration(planned.until - at)


def as_json(found: Backtest) -> str:
    """Return it as JSON."""
    return _JSON.dump_json(found, indent=2).decode()


def as_text(found: Backtest) -> str:
    """Return it for people."""
    return "\n".join(_lines(found))


def _lines(found: Backtest) -> Iterator[str]:
    yield f"policy {found.policy_before} -> {found.policy_after}"
    if found.since is None or found.until is None:
        yield "no verdicts were recorded in that time"
        return
    between = f"from {format_rfc3339(found.since)} to {format_rfc3339(found.until)}"
    yield f"{found.verdicts:,} verdicts {between}, each taken as the first word about its stream"
    left_out = {
        "sent again": found.repeated,
        "clears and withdrawals": found.takes_back,
        "unreadable": found.unreadable,
    }
    told = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count)
    if told:
        yield f"left out: {told}"
    yield f"decisions (one for each target): {found.same:,} as before, {found.different:,} different"
    if found.changes:
        rows = [("", "count", "before", "after", "for example")]
        rows += [
            ("", f"{change.count:,}", str(change.before), str(change.after), _examples(change))
            for change in found.changes
        ]
        yield table(rows)


def _examples(change: Change) -> str:
    shown = (
        each.verdict_id if each.stream is None else f"{each.verdict_id} ({each.stream})"
        for each in change.examples[:3]
    )
    return ", ".join(shown)
