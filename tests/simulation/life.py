"""One life of a replica under one seed: the real engine, over models of journal, vendors, clock, crashes.

A life is a list of events, each with a seed of its own, so that one can be left out and the others stay
what they are. A failing list can therefore be made shorter.
"""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from typing import Any

from tests.runtime.engine_world import HOUR, MINUTE, NOW, POLICY, SECOND, World, rule
from tests.simulation import invariants
from tests.simulation.invariants import Made
from worker.core.outcome import (
    AlreadySo,
    Done,
    NotThere,
    Outcome,
    Refused,
    Throttled,
    Unknown,
    Unreachable,
    Wire,
)
from worker.core.state import StreamState, decode, stream_of
from worker.events.times import format_rfc3339
from worker.runtime.messages import Batch, Committed, Granted, PartitionBatch
from worker.vendors.base import Quota
from worker.words import READS, Millis, digest

Event = tuple[str, int]
"""What happens, and the seed of how."""

PARTITIONS = 3
ACCOUNTS = ("m", "s")
QUOTAS = {"forbid": (Quota(6, 20 * SECOND),), "cut": (Quota(4, 10 * SECOND), Quota(9, MINUTE))}
RULES = (*POLICY.rules, rule("lottery", action="block_regions", length=HOUR, regions=("FR",)))
CATEGORIES = (
    *("nudity", "nudity", "minors", "gambling", "lottery", "spam", "spam", "odd", "doubtful", "fine"),
)
EVENTS = (
    *("verdict",) * 6,
    *("poll",) * 5,
    *("turn",) * 6,
    *("commit",) * 6,
    *("act", "act", "answer", "answer", "answer", "answer", "answer"),
    *("wait",) * 3,
    *("command", "command", "again", "reset", "drop", "assign", "assign", "crash", "jump", "move"),
)
PARKED = "demands parked"
CRASHES = ("before commit", "after commit, before send", "after send", "after answer, before commit")


def events(seed: int, number: int = 300) -> list[Event]:
    """Return the events of a seed."""
    random = Random(seed)
    return [(random.choice(EVENTS), random.getrandbits(32)) for _ in range(number)]


class Watched(World):
    """A world whose every commit and every request is held against the invariants.

    ``real`` is the vendors' time; the worker's clock may differ from it.
    """

    def __init__(self, **settings: Any) -> None:
        self.real: Millis = NOW
        self.told: Counter[tuple[str, str | None]] = Counter()
        self.made: dict[str, Made] = {}
        self.last: dict[tuple[str, str], Made] = {}  # the last change asked for, by stream and target
        self.released: set[str] = set()
        super().__init__(**settings)
        self.clock.ticks = lambda: (self.real - NOW) / 1000

    def _send(self, granted: Granted) -> None:
        super()._send(granted)
        for call, (number, _, key, target) in zip(granted.calls, granted.origins, strict=True):
            last, state = self.last.get((key, target)), self.committed(number, key).targets[target]
            seq = state.call.seq if state.call is not None else 0
            waiting = frozenset(h.id for h in state.holds if h.phase == "waiting" and h.seq < seq)
            if call.purpose in READS:
                if last is not None and call.purpose == "read_live":
                    last.asked = True
                continue
            invariants.repeated_only_where_lost(last, call, waiting)
            invariants.a_lost_cut_is_asked_about(last, call, waiting)
            self.made[call.id] = self.last[key, target] = Made(call, waiting)

    def _write_part(self, p: int, part: PartitionBatch) -> None:
        before = {key: self.remembered(p, key) for key in part.states}
        first = len(self.results)
        super()._write_part(p, part)
        for result in self.results[first:]:
            if result["terminal"]:
                name = result["verdict_id"] or result["command_id"]
                self.told[name, result["target"]["account"] if result["target"] else None] += 1
        invariants.at_most_one_terminal(self.told)
        for key, state in before.items():
            if state is not None:
                self._compare(state, self.remembered(p, key))

    def _compare(self, before: StreamState, after: StreamState | None) -> None:
        for name, target in before.targets.items():
            now = after.targets.get(name) if after is not None else None
            invariants.releasing_spares_the_others(target, now, self.released, self.clock.at)
            made = self.made.get(target.call.id) if target.call is not None else None
            if made is None and target.call is not None and target.call.purpose not in READS:
                self.last.pop((before.key, name), None)  # committed, and perhaps never sent: a doubt
            if made is not None and (now is None or now.call is None or now.call.id != made.call.id):
                made.kept = made.told

    def forget_told(self, partition: int | None = None) -> None:
        """Lose the answers that are not committed: of one partition, or of all."""
        for made in self.made.values():
            if made.told and not made.kept and partition in (None, self.home(made.call.target.stream)):
                made.told, made.lost = False, True


class Life:
    """What is done to one replica, event by event, and how it ends."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.random = random
        policy = replace(POLICY, rules=RULES, verify_after=random.choice(((), (5 * SECOND, 30 * SECOND))))
        self.w = Watched(
            partitions=PARTITIONS,
            accounts=ACCOUNTS,
            quotas=QUOTAS,
            concurrency=random.choice((1, 3, 10)),
            policy=policy,
            gather=random.choice((0, 20)),
        )
        self.jumps = random.choice(("none", "none", "back", "forward"))
        self.jumped = False
        self.due: set[tuple[str, str]] = set()
        self.commands: set[str] = set()
        self.verdicts: list[tuple[str, str]] = []  # stream, id
        self.untold: Batch | None = None  # durable, and the engine does not know yet
        self.sent_at: dict[str, Millis] = {}
        self.acted: dict[str, tuple[Outcome, ...]] = {}
        self.counted: dict[tuple[str, str], list[Millis]] = defaultdict(list)  # as the vendor counts
        self.seen: Counter[str] = Counter()
        self.w.assign()

    def play(self, happens: list[Event]) -> None:
        """Let it all happen, then come to rest; raises Broken."""
        for name, seed in happens:
            self.random = Random(seed)
            getattr(self, f"_{name}")()
            self._note_sent()
            self.seen[name] += 1
        self.random = Random(0)
        self._rest()

    def _note_sent(self) -> None:
        for granted in self.w.under_way:
            self.sent_at.setdefault(granted.calls[0].id, self.w.clock.at)

    def _pass(self, length: Millis) -> None:
        self.w.clock.at += length
        self.w.real += length

    # -- input -----------------------------------------------------------------------------------------

    def _verdict(self) -> None:
        key = f"k{self.random.randrange(12)}"
        accounts = tuple(self.random.sample(ACCOUNTS, self.random.choice((1, 1, 2))))
        partition = self.random.choice((None, None, None, self.random.randrange(PARTITIONS)))
        name = self.w.verdict(key, self.random.choice(CATEGORIES), partition, accounts=accounts)
        self.verdicts.append((key, name))
        self.due.update((name, account) for account in accounts)

    def _again(self) -> None:
        """Deliver a record once more."""
        records = [record for part in self.w.input.values() for record in part]
        if records:
            record = self.random.choice(records)
            key = (record.key or b"").decode()
            self.w.write(self.w.home(key), record.value or b"", key)

    def _command(self) -> None:
        name = self.random.choice(("release", "release", "release", "approve", "extend", "query"))
        key, verdict = self.random.choice(self.verdicts) if self.verdicts else ("k0", "v0")
        hold = digest("hold", key, verdict)
        fields: dict[str, Any] = {"holds": [hold]} if self.random.random() < 0.7 else {}
        if name == "release":
            ids = [digest("hold", key, other) for stream, other in self.verdicts if stream == key]
            self.w.released.update([hold] if fields else ids)
        if name == "extend":
            fields["until"] = format_rfc3339(self.w.clock.at + 2 * HOUR)
        self._give(key, name, **fields)

    def _give(self, key: str, name: str, **fields: Any) -> None:
        number = f"c{len(self.commands) + 1}"
        self.commands.add(number)
        at = format_rfc3339(self.w.clock.at)
        command = {"command_id": number, "command": name, "stream": {"key": key}, "by": "m", "issued_at": at}
        self.w.write(self.w.home(key), json.dumps({**command, **fields}).encode(), key)

    def _poll(self) -> None:
        self.w.poll(self.random.choice((1, 3, 500)))

    def _turn(self) -> None:
        self.w.turn(self.random.choice((1, 2)))

    def _wait(self) -> None:
        self._pass(self.random.choice((1, 30, SECOND, 3 * SECOND, 10 * SECOND)))

    def _jump(self) -> None:
        """Set the worker's clock; the vendors' goes on as it did."""
        if self.jumps != "none":
            length = self.random.choice((500, 5 * SECOND, 20 * SECOND))
            self.w.clock.at += length if self.jumps == "forward" else -length
            self.jumped = True

    # -- the journal, partitions, crashes --------------------------------------------------------------

    def _commit(self) -> None:
        """Make a batch durable, or tell of one that is."""
        if self.untold is not None:
            self.w.inbox.put(Committed(self.untold, 0.0))
            self.untold = None
        elif self.w.submitted is not None:
            self.untold = self.w.make_durable()
            if self.random.random() < 0.6:
                self._commit()

    def _reset(self) -> None:
        if self.w.submitted is not None:
            self.w.reset(durable=self.random.random() < 0.5)
            self.w.forget_told()
            if self.random.random() < 0.5:
                self.w.turn()
            for p in self.w.owned_:
                self.w.restore(p)

    def _drop(self) -> None:
        if self.w.owned_:
            partition = self.random.choice(sorted(self.w.owned_))
            self.w.drop(partition)
            self.w.forget_told(partition)

    def _move(self) -> None:
        """Lose a partition and have it back at once, while its records lie in the inbox."""
        self.w.poll()
        self._drop()
        self._assign()

    def _assign(self) -> None:
        away = sorted(set(range(PARTITIONS)) - self.w.owned_)
        if away:
            self.w.assign(self.random.choice(away))

    def _crash(self) -> None:
        """End the process. What is under way may have happened."""
        w = self.w
        told = any(made.told and not made.kept for made in w.made.values())
        now = (w.submitted is not None, self.untold is not None, bool(w.under_way), told)
        self.seen.update(point for point, so in zip(CRASHES, now, strict=True) if so)
        for granted in list(w.under_way):
            if self.random.random() < 0.5:
                self._act_on(granted)
            self._lose(granted)
        w.forget_told()
        self.untold = None
        w.start()
        self._pass(self.random.choice((0, SECOND)))
        for p in self.random.sample(range(PARTITIONS), self.random.choice((1, 3))):
            w.assign(p)

    # -- the vendors -----------------------------------------------------------------------------------

    def _act(self) -> None:
        """Let a vendor act on a request, and keep its answer on the way."""
        if self.w.under_way:
            self._act_on(self.random.choice(self.w.under_way))

    def _act_on(self, granted: Granted) -> tuple[Outcome, ...]:
        name = granted.calls[0].id
        if name not in self.acted:
            vendor = self.w.vendors[granted.account]
            self.acted[name] = tuple(vendor.perform(call, self.w.real) for call in granted.calls)
            self._count(granted)
        return self.acted[name]

    def _count(self, granted: Granted) -> None:
        self.counted[granted.account, granted.calls[0].operation].append(self.w.real)

    def _lose(self, granted: Granted) -> None:
        for call in granted.calls:
            if call.id in self.w.made:
                self.w.made[call.id].lost = True

    def _answer(self) -> None:
        if not self.w.under_way:
            return
        granted, fate = self.random.choice(self.w.under_way), self.random.random()
        acted = granted.calls[0].id in self.acted
        if fate < 0.08 and not acted:
            self._say(granted, Unreachable(), sent=False)
        elif fate < 0.25 and not acted:
            self._count(granted)
            refusals = (Throttled(SECOND), Unreachable(), Unknown(Wire(502)), Refused("auth"))
            self._say(granted, self.random.choice(refusals))
        elif fate < 0.4:
            self._act_on(granted)
            self._say(granted, Unknown())  # a timeout after success
        else:
            self._say(granted, *self._act_on(granted))

    def _say(self, granted: Granted, *outcomes: Outcome, sent: bool = True) -> None:
        said = outcomes if len(outcomes) == len(granted.calls) else outcomes * len(granted.calls)
        for call, outcome in zip(granted.calls, said, strict=True):
            made = self.w.made.get(call.id)
            if made is not None and sent:
                made.told = isinstance(outcome, Done | AlreadySo | NotThere)
                made.lost = isinstance(outcome, Unknown)
            elif made is not None:
                del self.w.made[call.id]
        self.w.answer(granted, *said, sent=sent, started_at=self.sent_at[granted.calls[0].id])

    # -- the end ---------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Let everything go well until nothing is left to do; then look at everything."""
        w = self.w
        for p in range(PARTITIONS):
            if p not in w.owned_:
                w.assign(p)
        self._work_off()
        for key in sorted({key for key, _ in self.verdicts}):
            self._give(key, "approve")
        self._work_off()
        self.check()

    def _work_off(self) -> None:
        w = self.w
        for _ in range(1_000):
            w.poll()
            w.turn()
            self._note_sent()
            self._commit()
            for granted in list(w.under_way):
                self._say(granted, *self._act_on(granted))
            self._pass(300)
            pending = self.pending()
            if not any(number for name, number in pending.items() if name != PARKED):
                break

    def pending(self) -> dict[str, int]:
        """Return how much of each kind is unfinished."""
        w = self.w
        opens = [found for part in w.engine.partitions.values() for found in part.opens.values()]
        return {
            "not idle": not w.engine.idle(),
            "calls under way": w.accounts.under_way(),
            "slots taken": w.slots_taken(),
            "streams busy": sum(found.busy for found in opens),
            PARKED: sum(len(found.parked) for found in opens),
            "states away from home": sum(
                key is not None and w.home(key) != p
                for p in w.states
                for key in (stream_of(record.key) for record in w.states[p].values())
            ),
            "records unread": sum(len(w.input[p]) - w.offsets[p] for p in range(PARTITIONS)),
        }

    def check(self) -> None:
        """Hold the end against the invariants."""
        w = self.w
        invariants.nothing_pending(self.pending())
        invariants.one_terminal_each(w.told, self.due, self.commands)
        if not (self.jumped and self.jumps == "forward"):  # it frees slots early by as much
            invariants.within_quota(self.counted, QUOTAS)
        self._check_vendors()

    def _check_vendors(self) -> None:
        w = self.w
        records = [record for part in w.states.values() for record in part.values()]
        states = [decode(r.value) for r in records if r.value and stream_of(r.key) is not None]
        known = {(t.target.account, t.target): t for state in states for t in state.targets.values()}
        for account, vendor in w.vendors.items():
            touched = {target for name, target in known if name == account}
            for target in sorted(touched | set(vendor._bans) | set(vendor._regions), key=repr):
                invariants.strongest_in_force(
                    known.get((account, target)),
                    vendor._bans.get(target, 0),
                    vendor._blocked(target, w.real)[0],
                    w.clock.at,
                    abs(w.real - w.clock.at),
                    w.policy.absorb_slack,
                )
