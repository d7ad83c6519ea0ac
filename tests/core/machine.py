"""A driver for the pure machine: one stream, a clock set by hand, a vendor that answers as told."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from worker.core.context import AccountView, Context
from worker.core.outcome import Done, Facts, NotThere, Observed, Outcome
from worker.core.policy import Policy, Rule, Then, When
from worker.core.state import StreamState, decode, encode
from worker.core.stream import Answered, Event, Grant, Received, Restored, Step, Woke, step
from worker.events.incoming import Command, StreamEvent, Verdict
from worker.events.result import Result, WorkerRef
from worker.events.times import format_rfc3339
from worker.vendors.base import Operation
from worker.words import COMPARES, READS, Call, Millis, Purpose

NOW: Millis = 1_790_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
KEY = "acme/room42"


def operation(name: str, purpose: Purpose, max_length: Millis | None = None) -> Operation:
    return Operation(name, name, (purpose,), (name,), "urn:none", max_length)


FULL: Mapping[Purpose, Operation] = {
    "cut": operation("cut", "cut"),
    "forbid": operation("forbid", "forbid", 90 * DAY),
    "move_end": operation("move", "move_end", 90 * DAY),
    "lift": operation("lift", "lift"),
    "block_regions": operation("block", "block_regions"),
    "unblock_regions": operation("unblock", "unblock_regions"),
    "read_forbid": operation("bans", "read_forbid"),
    "read_regions": operation("blocks", "read_regions"),
    "read_live": operation("live", "read_live"),
}


def serving(*purposes: Purpose, forbid_cuts: bool = True) -> AccountView:
    return AccountView("test", {purpose: FULL[purpose] for purpose in purposes}, forbid_cuts)


GATED = AccountView("gated", {p: FULL[p] for p in ("cut", "read_live")}, forbid_cuts=False, gate=True)
"""A server that asks our publish gate."""


def rule(name: str, category: str, **then: Any) -> Rule:
    return Rule(name, When(category=(category,)), Then(**then))


POLICY = Policy(
    version="p1",
    rules=(
        rule("minors", "minors", action="forbid", length="permanent", priority="critical"),
        rule("nudity", "nudity", action="forbid", length=10 * MINUTE),
        rule("hour", "violence", action="forbid", length=HOUR),
        rule("geo", "gambling", action="block_regions", length=7 * DAY, regions="verdict"),
        rule("spam", "spam", action="cut"),
        rule("look", "odd", action="query"),
        rule("ask", "doubtful", action="forbid", length=HOUR, approval=True),
        rule("once", "brief", action="forbid", length=HOUR, scope="session"),
        rule("quiet", "quiet", action="forbid", length=HOUR, verify=False),
        rule("none", "fine", action="none"),
    ),
    verify_after=(),
)


class Machine:
    """One stream and its vendor. ``answer`` says what becomes of a call; ``calls`` lists those made.

    Those that compare on schedule are ``comparisons``.
    """

    def __init__(
        self,
        accounts: Mapping[str, AccountView] | None = None,
        policy: Policy = POLICY,
        answer: Callable[[Call], Outcome] | None = None,
        **context: Any,
    ) -> None:
        self.accounts = {"hw": AccountView("test", FULL)} if accounts is None else accounts
        self.ctx = Context(policy, self.accounts, WorkerRef(instance="i", version="v"), **context)
        self.state: StreamState | None = StreamState(KEY)
        self.now = NOW
        self.answer = answer or (lambda call: Observed(Facts()) if call.purpose in READS else Done())
        self.calls: list[Call] = []
        self.comparisons: list[Call] = []
        self.results: list[Result] = []
        self.last: Step | None = None
        self._n = 0

    # -- events ----------------------------------------------------------------------------------------

    def do(self, event: Event) -> Step:
        before = self.state if self.state is not None else StreamState(KEY)
        done = step(before, event, self.now, self.ctx)
        assert done == step(before, event, self.now, self.ctx), "a step must be a function of its arguments"
        if done.state is not None:
            assert decode(encode(done.state)) == done.state
        self.state, self.last = done.state, done
        self.results += done.results
        return done

    def verdict(self, category: str = "nudity", **fields: Any) -> list[Result]:
        """Send a verdict without making calls; return the results it gave at once."""
        self._n += 1
        data: dict[str, Any] = {
            "verdict_id": f"v{self._n}",
            "stream": {"key": KEY, "targets": [target("hw")]},
            "detected_at": format_rfc3339(self.now),
            "category": category,
            "severity": "high",
        }
        stream = fields.pop("stream", {})
        data.update(fields)
        data["stream"] = {**data["stream"], **stream}

        event = Verdict.model_validate_json(json.dumps(data))
        return self.do(Received(event, f"0@{self._n}")).results

    def command(self, name: str, **fields: Any) -> list[Result]:
        self._n += 1

        data = {
            "command_id": f"c{self._n}",
            "command": name,
            "stream": {"key": KEY},
            "by": "mod",
            "issued_at": format_rfc3339(self.now),
            **fields,
        }
        event = Command.model_validate_json(json.dumps(data))
        return self.do(Received(event, f"0@{self._n}")).results

    def stream_event(
        self, what: str, session: str, started_at: Millis | None = None, **stream: Any
    ) -> list[Result]:
        named = {"id": session, **({"started_at": format_rfc3339(started_at)} if started_at else {})}
        data = {
            "stream_event": what,
            "stream": {"key": KEY, "session": named, **stream},
            "at": format_rfc3339(self.now),
        }
        return self.do(Received(StreamEvent.model_validate_json(json.dumps(data)), "0@0")).results

    # -- calls -----------------------------------------------------------------------------------------

    def needs(self) -> dict[str, str]:
        """What each target needs now, by account: its purpose. A comparison on schedule is none."""
        if self.state is None:
            return {}
        probe = step(self.state, Woke(), self.now, self.ctx)
        targets = probe.state.targets if probe.state else {}
        return {
            targets[name].target.account: need.purpose
            for name, need in probe.needs.items()
            if need is not None and need.not_before <= self.now and need.behind < COMPARES
        }

    def grant(self) -> list[Call]:
        """Grant what every target needs; the calls are then under way."""
        made = []
        if self.state is None:
            return []
        for name, need in step(self.state, Woke(), self.now, self.ctx).needs.items():
            if need is None or need.not_before > self.now:
                continue
            call = self.do(Grant(name, need.operation.name)).call
            if call is not None:
                made.append(call)
                (self.comparisons if need.behind == COMPARES else self.calls).append(call)
        return made

    def answered(
        self, call: Call, outcome: Outcome, *, sent: bool = True, jitter: float = 0.5
    ) -> list[Result]:
        started = self.now if sent else None
        return self.do(Answered(call.target.id, call.id, outcome, started, jitter)).results

    def run(self, limit: int = 20) -> list[Result]:
        """Make calls and answer them until nothing is needed now; return the results."""
        start = len(self.results)
        for _ in range(limit):
            made = self.grant()
            if not made:
                return self.results[start:]
            for call in made:
                self.now += 10
                self.answered(call, self.answer(call))
        raise AssertionError("the machine does not come to rest")

    def wait(self, length: Millis) -> list[Result]:
        """Let time pass, waking whenever the machine asks to, and make the calls it needs."""
        start, until = len(self.results), self.now + length
        while self.last is not None and self.last.wake_at <= until:
            self.now = max(self.now, self.last.wake_at)
            self.do(Woke())
            self.run()
        self.now = until
        self.do(Woke())
        self.run()
        return self.results[start:]

    def restore(self) -> list[Result]:
        assert self.state is not None
        self.state = decode(encode(self.state))
        return self.do(Restored()).results


def target(account: str, **fields: Any) -> dict[str, Any]:
    return {
        "account": account,
        "push_domain": "push.example",
        "play_domain": "play.example",
        "app": "live",
        "stream": "room42",
        **fields,
    }


def said(results: list[Result]) -> list[tuple[str | None, str]]:
    """The gist of some results: whose, and what; a star marks a terminal one."""
    return [(r.verdict_id or r.command_id, r.outcome + ("*" if r.terminal else "")) for r in results]


def purposes(calls: list[Call]) -> list[str]:
    return [call.purpose for call in calls]


class Vendor:
    """A small model of one CDN: bans, blocks, whether the stream is live; reads answer truly."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.banned_until: Millis | None = None
        self.regions: tuple[str, ...] = ()
        self.regions_until: Millis | None = None
        self.live_since: Millis | None = NOW - HOUR
        machine.answer = self

    @property
    def blocked(self) -> tuple[str, ...]:
        """The regions that are blocked now: a block ends by itself."""
        ended = self.regions_until is not None and self.regions_until <= self.machine.now
        return () if ended else self.regions

    def __call__(self, call: Call) -> Outcome:
        now = self.machine.now
        banned = self.banned_until is not None and self.banned_until > now
        match call.purpose:
            case "cut":
                if self.live_since is None:
                    return NotThere()
                self.live_since = None
            case "forbid" | "move_end":
                self.banned_until, self.live_since = call.until, None
            case "lift":
                self.banned_until = None
                return Done() if banned else NotThere()
            case "block_regions":
                self.regions, self.regions_until = call.regions, call.until
            case "unblock_regions":
                self.regions = ()
            case "read_forbid":
                return Observed(
                    Facts(forbidden=banned, forbidden_until=self.banned_until if banned else None)
                )
            case "read_regions":
                return Observed(Facts(regions=self.blocked))
            case "read_live":
                live = self.live_since is not None
                return Observed(Facts(live=live, live_since=self.live_since))
        return Done()
