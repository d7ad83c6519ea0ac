"""Order changes nothing at the vendors either: real adapters over real sockets, against the simulators.

The stories are those of ``tests/core/test_order.py``. Each is told to an engine twice, in two orders, and
what the vendor itself has in force is compared, after the last event and after each end. The clock is one
for engine and simulator, and set by hand. In the first telling the vendor loses answers.
``MW_CASES=5000 python -m pytest tests/sandbox/test_order.py`` tries more of them.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.machine import KEY
from tests.core.test_order import ENDS, LATER, RULES, Event, orders
from tests.runtime.engine_world import MINUTE, NOW, POLICY, World
from worker.core.outcome import Outcome, Unknown
from worker.events.times import format_rfc3339
from worker.runtime.messages import Answered, Granted
from worker.sandbox.simulators import SIMULATORS
from worker.sandbox.simulators.common import DOMAINS, Simulator
from worker.sandbox.stage import ACCOUNTS, KEYS
from worker.settings import AccountSettings
from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response
from worker.words import Call, Millis

CASES = int(os.environ.get("MW_CASES", "12"))
((PUSH, PLAY),) = DOMAINS.items()
STREAM = "room42"
LOST: Mapping[str, Any] = {"operation": "*", "effect": "done_then_reset"}
HTTP = httpx.Client(timeout=10, trust_env=False)


@pytest.fixture(scope="module", autouse=True)
def connections() -> Iterator[None]:
    yield
    HTTP.close()


class Wired(World):
    """One replica whose vendor is an adapter that speaks to a simulator; both go by the replica's clock."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator, self.calls_made = simulator, 0
        name = next(name for name, vendor in ACCOUNTS.items() if vendor == simulator.vendor)
        spec = load_spec(simulator.vendor)
        policy = replace(POLICY, rules=RULES, release_cooloff=0, absorb_slack=0)
        super().__init__(1, policy=policy, accounts=(name,), spec=spec)
        self.account = name
        account = Account(name, spec.name, KEYS[name], simulator.url)
        self.vendors = {name: make(spec, account)}  # type: ignore[dict-item]  # in place of those in memory
        self.account_settings = {name: AccountSettings(account, spec.quotas, concurrency=10)}
        simulator.clock = lambda: self.clock.at
        self.start()
        self.assign()

    def tell(self, event: Event, number: int) -> None:
        """Write an event to the topic, as its pipeline or operator would."""
        target = {"account": self.account, "push_domain": PUSH, "play_domain": PLAY}
        stream = {"key": KEY, "targets": [{**target, "app": "live", "stream": STREAM}]}
        fields = dict(event.fields)
        about: dict[str, Any] = {
            "detected_at": format_rfc3339(self.clock.at),
            "severity": "high",
            "expires_at": LATER,
        }
        if event.name != "verdict":
            about = {"command": event.name, "by": "mod", "issued_at": format_rfc3339(self.clock.at)}
            fields.setdefault("command_id", f"c{number}")
        given_ = {**about, **fields, "stream": {**stream, **fields.get("stream", {})}}
        self.write(0, json.dumps(given_).encode(), KEY)

    def answer(
        self, granted: Granted, *outcomes: Outcome, sent: bool = True, started_at: Millis | None = None
    ) -> None:
        """Put a request on a real wire, and hand back what the adapter makes of the answer."""
        assert (outcomes, sent, started_at) == ((), True, None)
        self.under_way.remove(granted)
        began = self.clock.at
        said = tuple(self._ask(call) for call in granted.calls)
        self.inbox.put(Answered(granted, said, began, self.clock.at))

    def _ask(self, call: Call) -> Outcome:
        self.calls_made += 1
        vendor = self.vendors[self.account]
        request = vendor.request(call, self.clock.at, f"{id(self)}-{self.calls_made}")
        try:
            answer = HTTP.request(
                request.method, request.url, headers=dict(request.headers), content=request.content
            )
        except httpx.TransportError:
            return Unknown(detail="no answer came")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return vendor.read(call, Response(answer.status_code, headers, answer.content), self.clock.at)

    def until(self, moment: Millis) -> None:
        """Let everything go its way until a moment; between two events only the clock moves."""
        while self.clock.at < moment:
            self.settle(4)
            due = min(
                (at for part in self.engine.partitions.values() for at in part.wakes.values()), default=moment
            )
            quiet = not self.under_way and self.submitted is None
            if quiet:
                self.clock.at = min(moment, max(self.clock.at + 500, min(due, self.clock.at + 30_000)))

    def in_force(self) -> tuple[Millis | None, frozenset[str]]:
        """Return when the vendor's ban ends, and which regions it blocks where there is none."""
        has = self.simulator.state()
        bans = [ban["until"] for ban in has["bans"] if ban["stream"] == STREAM]
        if bans:
            return bans[0], frozenset()
        rules = [row for row in has.get("region_blocks", ()) if row["Status"] in {0, 1, 2}]
        return None, frozenset(code for row in rules for code in row["LocationList"].split(","))


def told(
    vendor: str, events: Sequence[Event], order: Sequence[int], pauses: Sequence[int], lost: Sequence[int]
) -> list[tuple[Millis | None, frozenset[str]]]:
    """Tell a story in one order; return what the vendor has in force after it, and after each end."""
    script = [{**LOST, "every": every} for every in lost]
    with SIMULATORS[vendor](script=script) as simulator:
        simulator.publish(PUSH, "live", STREAM, NOW - 60 * MINUTE)
        world = Wired(simulator)
        for number, pause in zip(order, pauses, strict=False):
            world.tell(events[number], number)
            world.settle(2)
            world.until(world.clock.at + pause * 1_000)
        simulator.play_script([])
        seen = []
        for moment in (NOW + 2 * MINUTE, *(at + 2 * MINUTE for at in ENDS)):
            world.until(moment)
            seen.append(world.in_force())
        assert not simulator.stats()["violations"]
        assert not simulator.stats()["signatures_refused"]
        return seen


@pytest.mark.parametrize("vendor", SIMULATORS)
@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(
    orders(),
    st.lists(st.integers(0, 3), min_size=20, max_size=20),
    st.lists(st.integers(2, 4), max_size=1),
)
def test_a_vendor_has_the_same_in_force_in_whatever_order_things_come(
    vendor: str, drawn: tuple[list[Event], list[int], list[int]], pauses: list[int], lost: list[int]
) -> None:
    events, one, other = drawn
    first, second = told(vendor, events, one, pauses, lost), told(vendor, events, other, pauses[::-1], [])
    assert all(_near(a, b) for a, b in zip(first, second, strict=True)), (first, second)


def _near(one: tuple[Millis | None, frozenset[str]], other: tuple[Millis | None, frozenset[str]]) -> bool:
    """Whether two states are the same: vendors count in seconds, and take what is permanent for a time."""
    (end, regions), (other_end, other_regions) = one, other
    if end is None or other_end is None:
        return (end, regions) == (other_end, other_regions)
    return abs(end - other_end) <= (1_000 if min(end, other_end) <= max(ENDS) + 1_000 else 10 * MINUTE)
