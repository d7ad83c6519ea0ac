"""Order changes nothing: whatever order events come in, the same is in force when all have been dealt with.

Random verdicts, clears, withdrawals, commands and ends on one stream come in two orders that keep each after
what it refers to, with calls made, answers lost and time passing in between as it falls. What humans mean to
depend on order is left out: a rest after a release, and two commands that contradict each other.
Of covered demands alike a target keeps four, so there are not more verdicts than that allows.
``MW_CASES=10000`` tries more of them.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.machine import DAY, FULL, KEY, MINUTE, NOW, POLICY, SECOND, Machine, Vendor, rule, serving
from worker.core.context import AccountView
from worker.core.outcome import Outcome, Unknown, Unreachable
from worker.core.state import StreamState
from worker.core.stream import Event as Happens
from worker.core.stream import Step, Woke, step
from worker.events.times import format_rfc3339
from worker.words import READS, Call, Millis, digest

CASES = int(os.environ.get("MW_CASES", "1000"))
ENDS = tuple(NOW + minutes * MINUTE for minutes in (3, 20, 40, 60))
LATER = format_rfc3339(NOW + 1_000 * MINUTE)
WISH: dict[str, Any] = {"length": "requested"}
RULES = (
    POLICY.rules[0],
    rule("ban", "ban", action="forbid", **WISH),
    rule("block", "block", action="block_regions", regions="verdict", **WISH),
    rule("park", "park", action="forbid", approval=True, **WISH),
    rule("once", "once", action="forbid", scope="session", **WISH),
)
CATEGORIES = ("ban", "block", "park", "once", "minors")
VIEWS = (
    AccountView("test", FULL),
    serving("forbid", "cut", "lift", "block_regions", "unblock_regions", "read_forbid"),
    serving("forbid", "cut", "lift", "block_regions", "unblock_regions", "read_live", forbid_cuts=False),
)


@dataclass(frozen=True)
class Event:
    """Something that comes in, and the numbers of the events it refers to."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()
    after: frozenset[int] = frozenset()


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """Draw some events, each after those it refers to."""
    events: list[Event] = []
    for number in range(draw(st.integers(1, 5))):
        category = draw(st.sampled_from(CATEGORIES))
        fields: dict[str, Any] = {
            "verdict_id": f"v{number}",
            "category": category,
            "origin": draw(st.sampled_from(("machine", "human", "order"))),
            "regions": sorted(draw(st.sets(st.sampled_from(("DE", "FR", "IT")), min_size=1))),
            "requested": {"until": format_rfc3339(draw(st.sampled_from(ENDS)))},
        }
        if category == "once" or draw(st.booleans()):
            # A verdict of the first broadcast that comes after the second has begun is fenced: that is no
            # matter of order alone, so only what is bound to its broadcast names the first.
            first = category == "once" and draw(st.booleans())
            started = format_rfc3339(NOW - (60 if first else 30) * MINUTE)
            fields["stream"] = {"session": {"id": "s1" if first else "s2", "started_at": started}}
        events.append(Event("verdict", tuple(fields.items())))
    verdicts = range(len(events))
    touched: set[int] = set()
    for number in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(("clear", "withdraw", "release", "extend", "approve", "reject")))
        if name == "clear":
            about = dict(events[draw(st.sampled_from(verdicts))].fields)
            same = {"category": about["category"], "origin": about["origin"], "verdict_id": f"c{number}"}
            alike = {
                n for n in verdicts if same.items() - {("verdict_id", f"c{number}")} <= _plain(events[n])
            }
            # What is approved before a clear or after it ends alike, but an extension needs its hold.
            events.append(Event("verdict", (*same.items(), ("kind", "clear")), frozenset(alike)))
            continue
        one = draw(st.sampled_from(verdicts))
        if name == "withdraw":
            event = (("verdict_id", f"c{number}"), ("kind", "withdraw"), ("withdraws", f"v{one}"))
            events.append(Event("verdict", event, frozenset({one})))
            continue
        if name in ("extend", "approve", "reject"):
            if one in touched:
                continue  # two words about one demand contradict each other: the later one counts
            touched.add(one)
        more = (("until", format_rfc3339(draw(st.sampled_from(ENDS)))),) if name == "extend" else ()
        holds = ("holds", [digest("hold", KEY, f"v{one}")])
        events.append(Event(name, (holds, ("command_id", f"c{number}"), *more), frozenset({one})))
    return events


def _plain(event: Event) -> set[tuple[str, Any]]:
    return {(name, value) for name, value in event.fields if name in ("category", "origin")}


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Event], list[int], list[int]]:
    """Draw a story and two orders of it."""
    events = draw(stories())

    def order() -> list[int]:
        left, done = set(range(len(events))), list[int]()
        while left:
            ready = sorted(n for n in left if events[n].after <= set(done))
            done.append(draw(st.sampled_from(ready)))
            left.remove(done[-1])
        return done

    return events, order(), order()


class Quick(Machine):
    """A machine that takes each step once: other tests see that a step is a function of its arguments."""

    def do(self, event: Happens) -> Step:
        done = step(self.state if self.state is not None else StreamState(KEY), event, self.now, self.ctx)
        self.state, self.last = done.state, done
        self.results += done.results
        return done


class Told:
    """A vendor that sometimes gives no answer, or is not reached."""

    def __init__(self, machine: Machine, fates: list[int]) -> None:
        self.vendor = Vendor(machine)
        self.fates = list(fates)
        machine.answer = self

    def __call__(self, call: Call) -> Outcome:
        fate = self.fates.pop() if self.fates and call.purpose not in READS else 0
        if fate == 1:
            return Unreachable()
        answer = self.vendor(call)
        return Unknown() if fate == 2 else answer


def in_force(
    view: AccountView,
    events: list[Event],
    order: list[int],
    pauses: list[int],
    fates: list[int],
    slack: Millis,
) -> list[tuple[Any, ...]]:
    """Let events come in this order; return what the vendor has after the last, and after each end."""
    m = Quick({"hw": view}, replace(POLICY, rules=RULES, release_cooloff=0, absorb_slack=slack))
    told = Told(m, fates)
    for n, pause in zip(order, pauses, strict=False):
        event = events[n]
        fields = {"expires_at": LATER, **dict(event.fields)}
        if event.name == "verdict":
            m.verdict(**fields)
        else:
            del fields["expires_at"]
            m.command(event.name, **fields)
        if pause:
            m.run()
            m.now += pause * SECOND
            m.do(Woke())
    told.fates = []
    seen = []
    for moment in (NOW + 2 * MINUTE, *(at + 2 * MINUTE for at in ENDS)):
        m.wait(moment - m.now)
        banned = told.vendor.banned_until if (told.vendor.banned_until or 0) > m.now else None
        seen.append((banned, frozenset() if banned else frozenset(told.vendor.blocked)))
    return seen


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    orders(),
    st.sampled_from(range(len(VIEWS))),
    st.lists(st.integers(0, 3), min_size=20, max_size=20),
    st.lists(st.integers(0, 2), max_size=8),
)
def test_the_same_is_in_force_in_whatever_order_things_come(
    told: tuple[list[Event], list[int], list[int]], view: int, pauses: list[int], fates: list[int]
) -> None:
    events, one, other = told
    first = in_force(VIEWS[view], events, one, pauses, fates, 0)
    second = in_force(VIEWS[view], events, other, pauses[::-1], [], 0)
    assert all(_near(a, b) for a, b in zip(first, second, strict=True)), (first, second)


def _near(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two states in force are the same; what is permanent ends at the vendor's maximum."""
    ends = {min(end, NOW + DAY) if end else None for end in (one[0], other[0])}
    return len(ends) == 1 and one[1] == other[1]
