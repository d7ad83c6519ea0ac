"""A world for a real engine: a log, a caller and a clock that do what a test tells them, step by step.

What is committed is kept as bytes, as a broker would; an engine can be started again from it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from queue import SimpleQueue
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from tests.simulation.invariants import known_before_sent, offsets_advance, sent_once
from worker.core.context import AccountView, Context
from worker.core.control import Control
from worker.core.outcome import Outcome
from worker.core.policy import Guard, Policy, Rule, Then, When
from worker.core.state import StreamState, decode
from worker.events.partition import home_partition
from worker.events.result import Result, WorkerRef
from worker.events.times import format_rfc3339
from worker.runtime.accounts import AccountPart, Accounts
from worker.runtime.engine import Engine
from worker.runtime.messages import (
    Answered,
    Batch,
    Committed,
    Controlled,
    Dropped,
    Granted,
    Message,
    PartitionBatch,
    Polled,
    Record,
    Reset,
    Restored,
)
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings, KafkaSettings
from worker.vendors import load_spec
from worker.vendors.base import Account, Quota, VendorSpec
from worker.vendors.memory import Memory
from worker.words import READS, Call, Millis

NOW: Millis = 1_790_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
SPEC = load_spec("memory")
_home = lru_cache(maxsize=1_024)(home_partition)  # a world asks for the same few again and again


def rule(name: str, **then: Any) -> Rule:
    return Rule(name, When(category=(name,)), Then(**then))


POLICY = Policy(
    version="p",
    rules=(
        rule("nudity", action="forbid", length=10 * MINUTE),
        rule("minors", action="forbid", length="permanent", priority="critical"),
        rule("gambling", action="block_regions", length=HOUR, regions=("DE",)),
        rule("spam", action="cut"),
        rule("odd", action="query"),
        rule("doubtful", action="forbid", length=HOUR, approval=True),
        rule("fine", action="none"),
    ),
    verify_after=(),
)


class Sharing(Memory):
    """A vendor whose reads are lists: one request serves every stream."""

    def shared(self, call: Call) -> str | None:
        return "list" if call.purpose in READS else None


@dataclass
class Hands:
    """A clock set by hand; ``ticks`` where time passes as it is asked for."""

    at: Millis = NOW
    ticks: Callable[[], float] | None = None

    def now(self) -> Millis:
        return self.at

    def monotonic(self) -> float:
        return self.ticks() if self.ticks is not None else (self.at - NOW) / 1000


@dataclass
class In:
    """A record of the verdict topic, as the client gives it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


class World:
    """One replica and all that surrounds it. Its promises are checked as it goes.

    ``sent`` are the requests on the wire, in order, ``under_way`` those without an answer. ``informed``: a
    process that starts hears at once what operators have decided.
    """

    def __init__(
        self,
        partitions: int = 2,
        quotas: dict[str, tuple[Quota, ...]] | None = None,
        policy: Policy = POLICY,
        concurrency: int = 10,
        accounts: tuple[str, ...] = ("m",),
        spec: VendorSpec = SPEC,
        **settings: Any,
    ) -> None:
        self.spec = spec
        self.partitions, self.policy = partitions, policy
        self.clock = Hands()
        self.settings = KafkaSettings(("b",), "g", "i", **settings)
        self.vendors = {
            name: (Sharing if name.startswith("s") else Memory)(
                SPEC, Account(name, "memory", {"assume_live": True})
            )
            for name in accounts
        }
        self.account_settings = {
            name: AccountSettings(Account(name, "memory", {}), quotas or {}, concurrency=concurrency)
            for name in accounts
        }
        self.input: dict[int, list[In]] = {p: [] for p in range(partitions)}
        self.states: dict[int, dict[str, Record]] = {p: {} for p in range(partitions)}
        self.own: dict[int, dict[bytes | None, Record]] = {}
        self.offsets: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.results: list[dict[str, Any]] = []
        self._told: defaultdict[str, list[str]] = defaultdict(list)
        self.dead: list[Record] = []
        self.epochs: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.ids: set[str] = set()
        self.instance = "i"
        self.sent: list[Granted] = []
        self.batches: list[Batch] = []
        self.control, self.informed = Control(), True
        self._n = 0
        self.start()

    def start(self) -> None:
        """Start a new process: nothing is left of the one before but what was committed."""
        self.inbox: SimpleQueue[Message] = SimpleQueue()
        self.owned_: set[int] = set()
        self.flowing: dict[int, tuple[int, int]] = {}  # partition -> (epoch, position)
        self.submitted: Batch | None = None
        self.stopped_: set[int] = set()
        self.held = False
        self.under_way: list[Granted] = []
        self.observed: list[Result] = []
        self.fatal: list[str] = []
        self.metrics = self.make_metrics()
        parts = {
            name: AccountPart(self.spec, vendor, self.account_settings[name])
            for name, vendor in self.vendors.items()
        }
        self.accounts = Accounts(parts, self.metrics)
        views = {name: AccountView.of(self.spec) for name in self.vendors}
        self.engine = Engine(
            self.inbox,
            self.settings,
            Context(self.policy, views, WorkerRef(instance=self.instance, version="1")),
            self.accounts,
            self,
            self._send,
            self.observed.extend,
            self.fatal.append,
            self.metrics,
            self.clock,
            Random(1),
        )
        if self.informed:
            self.decide(self.control)

    def decide(self, control: Control) -> None:
        """Let operators decide; every process hears of it, also one that starts later."""
        self.control = control
        self.inbox.put(Controlled(control))

    def make_metrics(self) -> Metrics:
        """Return a new process's metrics."""
        specs = dict.fromkeys(self.vendors, self.spec)
        return Metrics(CollectorRegistry(), specs, [guard.name for guard in self.policy.guards])

    # -- what the engine asks of its log ---------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        assert self.submitted is None, "one batch at a time"
        self.submitted = batch
        self.batches.append(batch)

    def owned(self) -> dict[int, int]:
        return {p: self.epochs[p] for p in self.owned_}

    def set_back_pressure(self, on: bool) -> None:
        self.held = on

    def stop_partition(self, partition: int) -> None:
        self.stopped_.add(partition)

    def stopped(self) -> frozenset[int]:
        return frozenset(self.stopped_)

    def caught_up(self) -> bool:
        return not self.held and all(
            p in self.flowing and p not in self.stopped_ and self.flowing[p][1] >= len(self.input[p])
            for p in self.owned_
        )

    def _send(self, granted: Granted) -> None:
        """Put a request on the wire; its calls were committed before, and were never sent before."""
        for call, (number, _, key, target) in zip(granted.calls, granted.origins, strict=True):
            sent_once(self.ids, call)
            known_before_sent(self.remembered(number, key), target, call)
            self.ids.add(call.id)
        self.sent.append(granted)
        self.under_way.append(granted)

    # -- input -----------------------------------------------------------------------------------------

    def home(self, key: str) -> int:
        return _home(key.encode(), self.partitions, "murmur2")

    def verdict(self, key: str, category: str = "nudity", partition: int | None = None, **data: Any) -> str:
        """Write a verdict to the topic and return its id."""
        self._n += 1
        name = f"v{self._n}"
        accounts = data.pop("accounts", tuple(self.vendors)[:1])
        targets = [{"account": account, "app": "live", "stream": key} for account in accounts]
        about = data.pop("about", {})
        value = {
            "verdict_id": name,
            "stream": {"key": key, "targets": targets, **about},
            "detected_at": format_rfc3339(self.clock.at),
            "category": category,
            "severity": "high",
            **data,
        }
        self.write(self.home(key) if partition is None else partition, json.dumps(value).encode(), key)
        return name

    def write(self, partition: int, value: bytes, key: str = "k") -> None:
        records = self.input[partition]
        records.append(In(len(records), key.encode(), value))

    def poll(self, most: int = 500) -> None:
        """Let the poll thread turn: it gives what flows to the engine."""
        for p, (epoch, position) in list(self.flowing.items()):
            records = self.input[p][position : position + most]
            if records and not self.held and p not in self.stopped_:
                self.flowing[p] = (epoch, position + len(records))
                self.inbox.put(Polled(p, epoch, records))

    # -- assignment ------------------------------------------------------------------------------------

    def assign(self, *partitions: int) -> None:
        """Take partitions (all, where none is named) and restore them."""
        for p in partitions or range(self.partitions):
            self.owned_.add(p)
            self.epochs[p] += 1
            self.restore(p)

    def drop(self, partition: int) -> None:
        """Lose a partition."""
        self.owned_.discard(partition)
        self.stopped_.discard(partition)
        self.epochs[partition] += 1
        self.flowing.pop(partition, None)
        self.inbox.put(Dropped(partition, "revoked"))

    def restore(self, partition: int) -> None:
        """Give the engine the committed states of a partition."""
        records = [*self.states[partition].values(), *self.own.get(partition, {}).values()]
        states = [(r.key, r.value, list(r.headers)) for r in records]
        given = [(key, value, headers) for key, value, headers in states if key is not None and value]
        epoch, offset = self.epochs[partition], self.offsets[partition]
        self.inbox.put(Restored(partition, epoch, given, offset))
        self.flowing[partition] = (epoch, offset)

    # -- the journal -----------------------------------------------------------------------------------

    def make_durable(self) -> Batch:
        """Write the submitted batch, less what was lost meanwhile; the engine does not know yet."""
        batch, self.submitted = self.submitted, None
        assert batch is not None
        owned = self.owned()
        parts = {p: part for p, part in batch.partitions.items() if owned.get(p) == part.epoch}
        for p, part in parts.items():
            self._write_part(p, part)
        return Batch(parts, [])

    def _write_part(self, p: int, part: PartitionBatch) -> None:
        offsets_advance(self.offsets[p], part.next_offset)
        self.offsets[p] = part.next_offset
        self.own.setdefault(p, {}).update({record.key: record for record in part.own})
        for key, state in part.states.items():
            if state.value is None:
                self.states[p].pop(key, None)
            else:
                self.states[p][key] = state
        for record in part.records:
            if record.topic == self.settings.topics.results:
                result = json.loads(record.value or b"{}")
                self.results.append({**result, "partition": record.partition})
                self._told[result["verdict_id"]].append(result["outcome"])
            elif record.topic == self.settings.topics.dead_letters:
                self.dead.append(record)
            else:
                home = self.input[record.partition or 0]
                home.append(In(len(home), record.key, record.value, list(record.headers)))

    def commit(self) -> None:
        assert self.submitted is not None
        if self.submitted.leans_on_lost(lambda p, epoch: self.owned().get(p) == epoch):
            self.reset()
            return
        self.inbox.put(Committed(self.make_durable(), 0.0))

    def reset(self, *, durable: bool = False) -> None:
        """Let the submitted batch fail (or its answer be lost); every partition of ours is read again."""
        if self.submitted is not None and durable:
            self.make_durable()
        self.submitted = None
        self.flowing.clear()
        for p in self.owned_:
            self.epochs[p] += 1
        self.inbox.put(Reset("timeout"))

    # -- the wire --------------------------------------------------------------------------------------

    def answer(
        self, granted: Granted, *outcomes: Outcome, sent: bool = True, started_at: Millis | None = None
    ) -> None:
        """Answer a request: as told, or as its vendor does. It left at ``started_at``, or just now."""
        self.under_way.remove(granted)
        now = self.clock.at
        vendor = self.vendors[granted.account]
        if not sent:
            self.ids.difference_update(call.id for call in granted.calls)
        said = outcomes or tuple(vendor.perform(call, now) for call in granted.calls)
        if len(said) < len(granted.calls):
            said = said * len(granted.calls)
        started = now if started_at is None else started_at
        self.inbox.put(Answered(granted, said, started if sent else None, now))

    # -- turning ---------------------------------------------------------------------------------------

    def turn(self, times: int = 1) -> None:
        """Let the engine turn, with all that is in its inbox."""
        for _ in range(times):
            self.engine._turn(0)

    def settle(self, turns: int = 40, *, answering: bool = True) -> None:
        """Let everything go well for a while."""
        for _ in range(turns):
            self.poll()
            self.turn()
            if self.submitted is not None:
                self.commit()
            if answering:
                for granted in list(self.under_way):
                    self.answer(granted)
            self.clock.at += 10
        self.turn()

    # -- the books -------------------------------------------------------------------------------------

    def remembered(self, partition: int, key: str) -> StreamState | None:
        """Return a stream's committed state, if there is one."""
        record = self.states[partition].get(key)
        return decode(record.value) if record is not None and record.value is not None else None

    def committed(self, partition: int, key: str) -> StreamState:
        """Return a stream's committed state, which there is."""
        state = self.remembered(partition, key)
        assert state is not None
        return state

    def outcomes(self, verdict: str) -> list[str]:
        """Return what was published about a verdict."""
        return list(self._told[verdict])

    def terminal(self) -> Counter[str]:
        """Return how many terminal results each verdict has."""
        return Counter(r["verdict_id"] for r in self.results if r["terminal"])

    def slots_taken(self) -> int:
        """Return how many requests the schedules believe under way."""
        return sum(len(schedule._under_way) for schedule in self.accounts._schedules.values())

    def calls(self) -> list[str]:
        """Return the purposes of the calls that were sent."""
        return [call.purpose for granted in self.sent for call in granted.calls]


def guarded(limit: int) -> Policy:
    """Return the policy with one guard over forbids of an account."""
    return replace(POLICY, guards=(Guard("blast", limit, 10 * MINUTE, "account", ("forbid",), ()),))
