"""One life of a group of replicas under one seed: real engines; journal, vendors, clocks, crashes are models.

A life is a list of events, each with a seed of its own, so that one can be left out and the others stay
what they are. A failing list can therefore be made shorter.
"""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from typing import Any

from tests.runtime.engine_world import HOUR, MINUTE, NOW, POLICY, SECOND, rule
from tests.simulation import invariants
from tests.simulation.replica import Replica, decoded
from tests.simulation.vendors import Copies
from worker.core.holds import FOREVER
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
from worker.core.policy import Guard
from worker.core.state import stream_of
from worker.events.times import format_rfc3339
from worker.runtime.messages import Batch, Committed, Granted
from worker.vendors.base import Quota
from worker.words import READS, Call, Millis, digest

Event = tuple[str, int]
"""What happens, and the seed of how."""

PARTITIONS = 3
ACCOUNTS = ("m", "s")
QUOTAS = {"forbid": (Quota(6, 20 * SECOND),), "cut": (Quota(4, 10 * SECOND), Quota(9, MINUTE))}
TIGHT = {"forbid": (Quota(3, 4 * SECOND),), "cut": (Quota(3, 3 * SECOND), Quota(5, 12 * SECOND))}
"""Quotas that even a short life fills."""
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
    *("broadcast", "hand_over", "zombie", "freeze", "flood", "both", "both"),
)
LENGTHS = (10, 15, 20, 20, 30, 30, 50, 150)
"""How many events a life has: short ones are cheap, and long ones reach what needs many."""
PARKED = "demands parked"
CRASHES = ("before commit", "after commit, before send", "after send", "after answer, before commit")
LATER = (
    *("a zombie's commit refused", "a zombie's call not sent", "read from an old copy"),
    *("a vendor lost a ban", "a vendor lost a region block"),
)
"""What may happen beside that: of several replicas, and of vendors with copies, or that forget."""
LEANT = "a batch leaned on a lost partition"
GUARD = Guard("blast", 4, 30 * SECOND, "account", ("forbid",), ("critical",))
PERIOD = MINUTE
"""How often is compared what vendors that forget have."""


def forgets(seed: int) -> bool:
    """Whether vendors lose what they acknowledged in this seed's life: in one of eight."""
    return seed % 8 == 7


def guarded(seed: int) -> bool:
    """Whether a guard parks what exceeds it in this seed's life: in one of eight."""
    return seed % 8 == 3


def events(seed: int, number: int | None = None) -> list[Event]:
    """Return the events of a seed: ``number`` of them, or as many as the seed says."""
    random = Random(seed)
    length = random.choice(LENGTHS) if number is None else number
    happens = [(random.choice(EVENTS), random.getrandbits(32)) for _ in range(length)]
    for _ in range(random.choice((0, 1, 2)) if forgets(seed) else 0):
        happens.insert(random.randrange(length // 3, length + 1), ("forget", random.getrandbits(32)))
    return happens


class Life:
    """What is done to a group of replicas, event by event, and how it ends."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.random = random
        policy = replace(POLICY, rules=RULES, verify_after=random.choice(((), (5 * SECOND, 30 * SECOND))))
        self.forgets = forgets(seed)
        """Vendors lose bans and region blocks, and what is in force is compared every minute."""
        if self.forgets:
            policy = replace(policy, verify_after=(5 * SECOND, 30 * SECOND), reconcile=PERIOD)
        self.guarded = guarded(seed)
        if self.guarded:
            policy = replace(policy, guards=(GUARD,))
        self.late = random.random() < 0.5
        """At the end vendors act a while after they were asked, and answer a while after that."""
        self.quotas = random.choice((QUOTAS, TIGHT))
        self.streams = random.choice((2, 4, 12))
        settings: dict[str, Any] = {
            "partitions": PARTITIONS,
            "accounts": ACCOUNTS,
            "quotas": self.quotas,
            "concurrency": random.choice((1, 3, 10)),
            "policy": policy,
            "gather": random.choice((0, 20)),
        }
        self.jumps = random.choice(("none", "none", "back", "forward"))
        self.jumped = False
        self.w = Replica(0, None, **settings)
        """The first replica, through which what all share is looked at."""
        others = random.choice((0, 0, 1, 2))
        self.replicas = [self.w, *(Replica(n, self.w, **settings) for n in range(1, others + 1))]
        self.r = self.w
        """The replica to which the event of the moment happens."""
        copies = random.random() < 0.1 and not self.forgets
        self.copies = Copies(self.w.vendors) if copies else None
        for r in self.replicas:
            r.old_copies, r.steady = self.copies is not None, self.jumps == "none"
        self.due: set[tuple[str, str]] = set()
        self.commands: set[str] = set()
        self.verdicts: list[tuple[str, str]] = []  # stream, id
        self.untold: dict[int, Batch] = {}  # by replica: durable, and its engine does not know yet
        self.sent_at: dict[str, Millis] = {}
        self.acted: dict[str, tuple[Outcome, ...]] = {}
        self.counted: dict[tuple[str, str], list[Millis]] = defaultdict(list)  # as the vendor counts
        self.seen: Counter[str] = Counter()
        for p in range(PARTITIONS):
            self.replicas[p % len(self.replicas)].assign(p)

    def play(self, happens: list[Event]) -> None:
        """Let it all happen, then come to rest; raises Broken."""
        for name, seed in happens:
            self.random = Random(seed)
            self.r = self.random.choice(self.replicas)
            getattr(self, f"_{name}")()
            self._note_sent()
            self.seen[name] += 1
        self.random = Random(0)
        self._rest()
        self.seen["a zombie's call not sent"] += sum(r.unsent for r in self.replicas)

    def _note_sent(self) -> None:
        for r in self.replicas:
            for granted in r.under_way:
                self.sent_at.setdefault(granted.calls[0].id, r.clock.at)

    def _pass(self, length: Millis) -> None:
        self.w.real.at += length
        for r in self.replicas:
            r.clock.at += length

    # -- input -----------------------------------------------------------------------------------------

    def _verdict(self) -> None:
        key = f"k{self.random.randrange(self.streams)}"
        accounts = tuple(self.random.sample(ACCOUNTS, self.random.choice((1, 1, 2))))
        partition = self.random.choice((None, None, None, self.random.randrange(PARTITIONS)))
        stream = {"session": self._session(key)} if self.random.random() < 0.3 else {}
        name = self.w.verdict(key, self.random.choice(CATEGORIES), partition, accounts=accounts, about=stream)
        self.verdicts.append((key, name))
        self.due.update((name, account) for account in accounts)

    def _flood(self) -> None:
        """Publish verdicts for more streams at one account than its quotas take at once."""
        account, category = self.random.choice(ACCOUNTS), self.random.choice(("nudity", "spam"))
        for number in range(6):
            key = f"k{number}"
            name = self.w.verdict(key, category, accounts=(account,))
            self.verdicts.append((key, name))
            self.due.add((name, account))

    def _both(self) -> None:
        """Publish two verdicts about one stream of which neither covers the other."""
        key, account = f"k{self.random.randrange(self.streams)}", self.random.choice(ACCOUNTS)
        for category in ("gambling", "lottery"):
            name = self.w.verdict(key, category, accounts=(account,))
            self.verdicts.append((key, name))
            self.due.add((name, account))

    def _session(self, key: str) -> dict[str, Any]:
        """Return one of a stream's broadcasts: each began a minute after the one before."""
        number = self.random.randrange(4)
        return {"id": f"{key}-{number}", "started_at": format_rfc3339(NOW - HOUR + number * MINUTE)}

    def _broadcast(self) -> None:
        """Tell that a broadcast started or ended."""
        key = f"k{self.random.randrange(self.streams)}"
        event = {
            "stream_event": self.random.choice(("started", "ended")),
            "stream": {"key": key, "session": self._session(key)},
            "at": format_rfc3339(self.w.real.at),
        }
        self.w.write(self.w.home(key), json.dumps(event).encode(), key)

    def _again(self) -> None:
        """Deliver a record once more."""
        records = [record for part in self.w.input.values() for record in part]
        if records:
            record = self.random.choice(records)
            key = (record.key or b"").decode()
            self.w.write(self.w.home(key), record.value or b"", key)

    def _command(self) -> None:
        name = self.random.choice(("release", "release", "release", "approve", "extend", "query"))
        recent = self.verdicts[-2:] if self.random.random() < 0.5 else self.verdicts
        key, verdict = self.random.choice(recent) if recent else ("k0", "v0")
        hold = digest("hold", key, verdict)
        fields: dict[str, Any] = {"holds": [hold]} if self.random.random() < 0.7 else {}
        if name == "release":
            ids = [digest("hold", key, other) for stream, other in self.verdicts if stream == key]
            self.w.released.update([hold] if fields else ids)
        if name == "extend":
            fields["until"] = format_rfc3339(self.w.real.at + 2 * HOUR)
        self._give(key, name, **fields)

    def _give(self, key: str, name: str, **fields: Any) -> None:
        number = f"c{len(self.commands) + 1}"
        self.commands.add(number)
        at = format_rfc3339(self.w.real.at)
        command = {"command_id": number, "command": name, "stream": {"key": key}, "by": "m", "issued_at": at}
        self.w.write(self.w.home(key), json.dumps({**command, **fields}).encode(), key)

    def _poll(self) -> None:
        self.r.poll(self.random.choice((1, 3, 500)))

    def _turn(self) -> None:
        self.r.turn(self.random.choice((1, 2)))

    def _wait(self) -> None:
        self._pass(self.random.choice((1, 30, SECOND, 3 * SECOND, 10 * SECOND)))

    def _jump(self) -> None:
        """Set the worker's clock; the vendors' goes on as it did."""
        if self.jumps != "none":
            length = self.random.choice((500, 5 * SECOND, 20 * SECOND))
            self.r.clock.at += length if self.jumps == "forward" else -length
            self.jumped = True

    # -- the journal, partitions, crashes --------------------------------------------------------------

    def _commit(self) -> None:
        """Make a batch durable, or tell of one that is. The group refuses a zombie's."""
        r = self.r
        untold = self.untold.pop(r.number, None)
        if untold is not None:
            r.inbox.put(Committed(untold, 0.0))
        elif r.submitted is not None and self._is_refused(r.submitted):
            self.seen["a zombie's commit refused"] += 1
            self._lose_batch(durable=False)
        elif r.submitted is not None and self._leans_on_lost(r.submitted):
            self.seen[LEANT] += 1
            self._lose_batch(durable=False)
        elif r.submitted is not None:
            self.untold[r.number] = r.make_durable()
            if self.random.random() < 0.6:
                self._commit()

    def _is_refused(self, batch: Batch) -> bool:
        owned = self.r.owned()
        alive = (p for p, part in batch.partitions.items() if owned.get(p) == part.epoch)
        return any(self.w.owner.get(p) != self.r.number for p in alive)

    def _leans_on_lost(self, batch: Batch) -> bool:
        owned = self.r.owned()
        return batch.leans_on_lost(lambda p, epoch: owned.get(p) == epoch)

    def _lose_batch(self, *, durable: bool) -> None:
        """Let a transaction fail, or its answer be lost; everything is read again."""
        self.r.reset(durable=durable)
        self.r.forget_told()
        if self.random.random() < 0.5:
            self.r.turn()
        self.r.hear_of_loss()
        for p in sorted(self.r.owned_):
            self.r.restore(p)

    def _reset(self) -> None:
        if self.r.submitted is not None:
            batch = self.r.submitted
            durable = self.random.random() < 0.5 and not (
                self._is_refused(batch) or self._leans_on_lost(batch)
            )
            self._lose_batch(durable=durable)

    def _drop(self) -> None:
        if self.r.owned_:
            partition = self.random.choice(sorted(self.r.owned_))
            self.r.drop(partition)
            self.r.forget_told(lambda p: p == partition)

    def _move(self) -> None:
        """Lose a partition and have it back at once, while its records lie in the inbox."""
        self.r.poll()
        self._drop()
        self._assign()

    def _hand_over(self) -> None:
        """Lose a partition to another replica."""
        self._drop()
        self.r = self.random.choice(self.replicas)
        self._assign()

    def _zombie(self) -> None:
        """Give a partition to another replica; the one that had it does not hear of it, or does at last."""
        r = self.r
        if r.lost():
            r.hear_of_loss()
        elif r.owned_ and len(self.replicas) > 1:
            partition = self.random.choice(sorted(r.owned_))
            r.forget_told(lambda p: p == partition)
            self._take(self.random.choice([other for other in self.replicas if other is not r]), partition)

    def _freeze(self) -> None:
        """Stand still with records in the inbox, while another replica has a partition for a while."""
        frozen, others = self.r, [r for r in self.replicas if r is not self.r]
        if not (frozen.owned_ and others):
            return
        partition = self.random.choice(sorted(frozen.owned_))
        frozen.poll(self.random.choice((1, 3, 500)))
        frozen.forget_told(lambda p: p == partition)
        self.r = self.random.choice(others)
        self._take(self.r, partition)
        for _ in range(self.random.choice((2, 5))):
            self.r.poll(self.random.choice((1, 3, 500)))
            self.r.turn()
            self._note_sent()
            self._commit()
        if partition in self.r.owned_:
            self.r.drop(partition)
            self.r.forget_told(lambda p: p == partition)
        self._take(frozen, partition)

    def _assign(self) -> None:
        away = sorted(set(range(PARTITIONS)) - set(self.w.owner))
        if away:
            self._take(self.r, self.random.choice(away))

    def _take(self, r: Replica, partition: int) -> None:
        """Give a partition to a replica. What others have on the wire for it happens now or never.

        A request that a vendor carries out after the heir's is beyond what can be promised.
        """
        for other in self.replicas:
            for granted in other.under_way if other is not r else ():
                if any(origin[0] == partition for origin in granted.origins):
                    if self.random.random() < 0.5:
                        self._act_on(granted)
                    self.acted.setdefault(granted.calls[0].id, (Unknown(),) * len(granted.calls))
        if partition in r.owned_:  # as a zombie, that hears of both at once
            r.drop(partition)
        r.assign(partition)

    def _crash(self) -> None:
        """End a process. What is under way may have happened. Its partitions come back to it, or some do."""
        r = self.r
        now = (r.submitted is not None, r.number in self.untold, bool(r.under_way), r.told_and_not_kept())
        self.seen.update(point for point, so in zip(CRASHES, now, strict=True) if so)
        for granted in list(r.under_way):
            if self.random.random() < 0.5:
                self._act_on(granted)
            self._lose(granted)
        r.forget_told()
        self.untold.pop(r.number, None)
        for p in [p for p, owner in self.w.owner.items() if owner == r.number]:
            del self.w.owner[p]
        r.start()
        self._pass(self.random.choice((0, SECOND)))
        away = sorted(set(range(PARTITIONS)) - set(self.w.owner))
        for p in self.random.sample(away, min(len(away), self.random.choice((1, 3)))):
            self._take(r, p)

    # -- the vendors -----------------------------------------------------------------------------------

    def _act(self) -> None:
        """Let a vendor act on a request, and keep its answer on the way."""
        if self.r.under_way:
            self._act_on(self.random.choice(self.r.under_way))

    def _act_on(self, granted: Granted) -> tuple[Outcome, ...]:
        name = granted.calls[0].id
        if name not in self.acted:
            self.acted[name] = tuple(self._perform(granted.account, call) for call in granted.calls)
            self._count(granted)
        return self.acted[name]

    def _perform(self, account: str, call: Call) -> Outcome:
        at, vendor = self.w.real.at, self.w.vendors[account]
        if self.copies is None:
            return vendor.perform(call, at)
        if call.purpose in READS and self.random.random() < 0.5:
            self.seen["read from an old copy"] += 1
            return self.copies.choose(account, self.random).perform(call, at)
        outcome = vendor.perform(call, at)
        self.copies.keep(account)
        return outcome

    def _forget(self) -> None:
        """Let a vendor lose a ban or a region block that is in force."""
        now = self.w.real.at
        vendor = self.w.vendors[self.random.choice(ACCOUNTS)]
        bans = [("ban", target) for target, end in vendor._bans.items() if end > now]
        blocks = [("region block", target) for target in vendor._regions if vendor._blocked(target, now)[0]]
        if not bans and not blocks:
            return
        what, target = self.random.choice(self.random.choice([kind for kind in (bans, blocks) if kind]))
        if what == "ban":
            del vendor._bans[target]
        else:
            del vendor._regions[target]
        self.w.forgotten.add(target)
        self.seen[f"a vendor lost a {what}"] += 1

    def _count(self, granted: Granted) -> None:
        self.counted[granted.account, granted.calls[0].operation].append(self.w.real.at)

    def _lose(self, granted: Granted) -> None:
        for call in granted.calls:
            if call.id in self.w.made:
                self.w.made[call.id].lost = True

    def _answer(self) -> None:
        if not self.r.under_way:
            return
        granted, fate = self.random.choice(self.r.under_way), self.random.random()
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
                good = isinstance(outcome, Done | AlreadySo | NotThere)
                heard = self.w.owner.get(self.w.home(call.target.stream)) == self.r.number
                made.told = good and heard
                made.lost = isinstance(outcome, Unknown) or (good and not heard)
            elif made is not None:
                del self.w.made[call.id]
        self.r.answer(granted, *said, sent=sent, started_at=self.sent_at[granted.calls[0].id])

    # -- the end ---------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Let everything go well until nothing is left to do; then look at everything."""
        for r in self.replicas:
            r.hear_of_loss()
        for p in sorted(set(range(PARTITIONS)) - set(self.w.owner)):
            self.replicas[p % len(self.replicas)].assign(p)
        self._work_off()
        for key in sorted({key for key, _ in self.verdicts}):
            self._give(key, "approve")
        self._work_off()
        for _ in range(3 if self.forgets else 0):
            self._forget()
        if self.forgets:
            self._let_compare()
        self.check()

    def _let_compare(self) -> None:
        """Let time pass until each stream was compared, and what was lost is applied again."""
        behind = max(0, *(self.w.real.at - r.clock.at for r in self.replicas))  # a clock was set back so far
        over = self.w.real.at + 2 * PERIOD + behind
        while self.w.real.at < over:
            self._pass(min(self._until_next(r) for r in self.replicas))
            self._work_off()

    def _work_off(self) -> None:
        for _ in range(2_000):
            for r in self.replicas:
                self.r = r
                if self.late:
                    self._come_late()
                self._go_on()
            pending = self.pending()
            if not any(number for name, number in pending.items() if name != PARKED):
                break
            self._pass(min(self._until_next(r) for r in self.replicas))

    def _come_late(self) -> None:
        """Let vendors act on what they were sent a moment ago, or answer what they have acted on."""
        for granted in list(self.r.under_way):
            if granted.calls[0].id in self.acted:
                self._say(granted, *self.acted[granted.calls[0].id])
            elif self.random.random() < 0.4:
                self._act_on(granted)

    def _go_on(self) -> None:
        """Let all go well that can at this moment."""
        r = self.r
        for _ in range(50):
            r.poll()
            r.turn()
            self._note_sent()
            busy = r.submitted is not None or r.number in self.untold or bool(r.under_way and not self.late)
            self._commit()
            for granted in r.under_way if self.late else ():
                if self.random.random() < 0.05:
                    self._act_on(granted)
            for granted in list(r.under_way) if not self.late else ():
                self._say(granted, *self._act_on(granted))
            if not busy and r.inbox.empty():
                break

    def _until_next(self, r: Replica) -> Millis:
        """Return how long nothing will happen by itself; at least the 20 ms for which a batch gathers."""
        if self.late and any(other.under_way for other in self.replicas):
            return 700
        if r.engine._batch.partitions:
            return 20
        at = min(r.engine._wakes.next_at(), r.accounts.next_at(r.clock.at), FOREVER)
        return max(20, min(at - r.clock.at, MINUTE))

    def pending(self) -> dict[str, int]:
        """Return how much of each kind is unfinished."""
        w, everyone = self.w, self.replicas
        opens = [f for r in everyone for part in r.engine.partitions.values() for f in part.opens.values()]
        return {
            "not idle": sum(not r.engine.idle() for r in everyone),
            "calls under way": sum(r.accounts.under_way() for r in everyone),
            "slots taken": sum(r.slots_taken() for r in everyone),
            "streams busy": sum(found.busy for found in opens),
            PARKED: sum(len(found.parked) for found in opens),
            "states away from home": sum(
                w.home((record.key or b"").decode()) != p for p in w.states for record in w.states[p].values()
            ),
            "records unread": sum(len(w.input[p]) - w.offsets[p] for p in range(PARTITIONS)),
        }

    def check(self) -> None:
        """Hold the end against the invariants."""
        invariants.nothing_pending(self.pending())
        invariants.one_terminal_each(self.w.told, self.due, self.commands)
        if not self._frees_early():
            invariants.within_quota(self.counted, self.quotas)
            if self.guarded:
                invariants.within_guard(self.w.acting, GUARD)
        if self.copies is None:
            self._check_vendors()

    def _frees_early(self) -> bool:
        """Whether quota slots may have come free early: a clock was set forward, or lies before another."""
        return self.jumped and (self.jumps == "forward" or len(self.replicas) > 1)

    def _check_vendors(self) -> None:
        w = self.w
        now, apart = w.real.at, max(abs(w.real.at - r.clock.at) for r in self.replicas)
        records = [record for part in w.states.values() for record in part.values()]
        states = [decoded(r.value) for r in records if r.value and stream_of(r.key) is not None]
        known = {(t.target.account, t.target): t for state in states for t in state.targets.values()}
        for account, vendor in w.vendors.items():
            touched = {target for name, target in known if name == account}
            for target in sorted(touched | set(vendor._bans) | set(vendor._regions), key=repr):
                invariants.strongest_in_force(
                    known.get((account, target)),
                    vendor._bans.get(target, 0),
                    vendor._blocked(target, w.real.at)[0],
                    now,
                    apart,
                    w.policy.absorb_slack,
                )
