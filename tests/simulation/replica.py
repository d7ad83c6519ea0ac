"""One replica of a simulated group, over what all share; its every deed is held against the promises.

What outlives a process is shared: the topics, the vendors, who has which partition, and the books.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from prometheus_client import CollectorRegistry

from tests.runtime.engine_world import NOW, SPEC, Hands, World
from tests.simulation import invariants
from tests.simulation.invariants import Made
from worker.core import stream
from worker.core.outcome import Unreachable
from worker.core.state import StreamState, decode
from worker.runtime.messages import Answered, Granted, PartitionBatch
from worker.runtime.metrics import Metrics
from worker.runtime.partition import Partition
from worker.words import READS, Millis, Target

SHARED = (
    *("input", "states", "own", "offsets", "results", "dead", "ids", "vendors"),
    *("real", "owner", "told", "made", "last", "released", "forgotten", "acting"),
)
"""What a replica has in common with those beside it."""

decoded = lru_cache(maxsize=8_192)(decode)
"""A committed state by its bytes: it is looked at again and again, and never changed."""


@cache
def metrics() -> Metrics:
    """Return the metrics of every replica: nothing is read from them, and to make them is dear."""
    return Metrics(CollectorRegistry(), {"m": SPEC, "s": SPEC}, [])


class Replica(World):
    """A world whose every commit and every request is held against the invariants.

    ``real`` is the vendors' time; the replica's clock may differ from it. ``owner`` says to whom the group
    has given a partition; ``owned_`` is what this replica believes to have. It is a *zombie* where it has
    not heard yet that the group gave a partition to another.
    """

    def __init__(self, number: int, beside: "Replica | None", **settings: Any) -> None:
        self.number = number
        self.real = Hands(NOW)
        self.owner: dict[int, int] = {}
        self.told: Counter[tuple[str, str | None]] = Counter()
        self.made: dict[str, Made] = {}
        self.last: dict[tuple[str, str], Made] = {}  # the last change asked for, by stream and target
        self.released: set[str] = set()
        self.forgotten: set[Target] = set()  # of which a vendor has lost something
        self.acting: dict[str, list[Millis]] = {}  # by account, when each demand came that a guard let act
        self.old_copies = False
        self.steady = True  # no clock is ever set
        self.unsent = 0
        self.mine: set[str] = set()  # the calls that this process has sent
        super().__init__(**settings)
        for name in SHARED if beside is not None else ():
            setattr(self, name, getattr(beside, name))
        self.clock.ticks = lambda: (self.real.at - NOW) / 1000

    def start(self) -> None:
        """Start a new process."""
        self.instance = f"i{self.number}"
        super().start()
        self.mine = set()
        self._step, self.engine._step = self.engine._step, self._watched_step  # type: ignore[method-assign]  # to see each grant

    def _watched_step(self, part: Partition, key: str, event: stream.Event, now: Millis) -> stream.Step:
        before = part.state(key)
        step = self._step(part, key, event, now)
        if isinstance(event, stream.Grant) and step.call is not None:
            invariants.cuts_what_is_demanded(step.call, before.targets[event.target], before.past)
        return step

    def make_metrics(self) -> Metrics:
        return metrics()

    def remembered(self, partition: int, key: str) -> StreamState | None:
        record = self.states[partition].get(key)
        return decoded(record.value) if record is not None and record.value is not None else None

    def ours(self, partition: int, epoch: int) -> bool:
        """Whether a partition is ours in this epoch, as the group has it."""
        return self.owner.get(partition) == self.number and self.owned().get(partition) == epoch

    def lost(self) -> list[int]:
        """Return the partitions that the group has given to others, and we still believe to have."""
        return sorted(p for p in self.owned_ if self.owner.get(p) != self.number)

    def hear_of_loss(self) -> None:
        """Be told what the group has given to others."""
        for partition in self.lost():
            self.drop(partition)

    def assign(self, *partitions: int) -> None:
        self.owner.update(dict.fromkeys(partitions, self.number))
        super().assign(*partitions)

    def drop(self, partition: int) -> None:
        if self.owner.get(partition) == self.number:
            del self.owner[partition]
        super().drop(partition)

    def _send(self, granted: Granted) -> None:
        ours = granted.only(self.ours)
        if not ours.calls:  # there is no fresh lease
            self.unsent += 1
            nothing = (Unreachable(),) * len(granted.calls)
            self.inbox.put(Answered(granted, nothing, None, self.clock.at))
            return
        super()._send(ours)
        self.sent[-1] = self.under_way[-1] = granted
        for call, (number, _, key, target) in zip(ours.calls, ours.origins, strict=True):
            last, stream = self.last.get((key, target)), self.committed(number, key)
            state = stream.targets[target]
            seq = state.call.seq if state.call is not None else 0
            waiting = frozenset(h.id for h in state.holds if h.phase == "waiting" and h.seq < seq)
            if call.purpose in READS:
                if last is not None and call.purpose == "read_live":
                    last.asked = True
                continue
            if not (self.old_copies or call.target in self.forgotten):  # a read may show a change undone
                invariants.repeated_only_where_lost(last, call, waiting)
            invariants.a_lost_cut_is_asked_about(last, call, waiting)
            self.mine.add(call.id)
            self.made[call.id] = self.last[key, target] = Made(call, waiting)

    def _write_part(self, p: int, part: PartitionBatch) -> None:
        before = {key: self.remembered(p, key) for key in part.states}
        first = len(self.results)
        super()._write_part(p, part)
        names = set()
        for result in self.results[first:]:
            if result["outcome"] == "drifted" and self.steady and not self.old_copies:
                invariants.told_as_lost_where_it_is(result, self.forgotten)
            if result["terminal"]:
                name = result["verdict_id"] or result["command_id"]
                told = (name, result["target"]["account"] if result["target"] else None)
                self.told[told] += 1
                names.add(told)
        invariants.at_most_one_terminal(Counter({name: self.told[name] for name in names}))
        for key, state in before.items():
            after = self.remembered(p, key)
            if state is not None:
                self._compare(state, after)
            if self.policy.guards and after is not None:
                self._note_acting(state, after)

    def _note_acting(self, before: StreamState | None, after: StreamState) -> None:
        """Note the demands that a batch has placed, and that a guard counts."""
        (guard,) = self.policy.guards
        for name, target in after.targets.items():
            known = before.targets.get(name) if before is not None else None
            old = {hold.id for hold in known.holds} if known is not None else set()
            acting = self.acting.setdefault(target.target.account, [])
            for hold in target.holds:
                # What is closed at once was in force already; what a human let go comes on top.
                new = hold.id not in old and hold.active and hold.phase == "waiting" and not hold.humans
                if new and hold.action in guard.actions and hold.priority not in guard.excepted:
                    acting.append(hold.placed_at)

    def _compare(self, before: StreamState, after: StreamState | None) -> None:
        for name, target in before.targets.items():
            now = after.targets.get(name) if after is not None else None
            if now is target:
                continue
            invariants.releasing_spares_the_others(target, now, self.released, self.clock.at)
            made = self.made.get(target.call.id) if target.call is not None else None
            if made is None and target.call is not None and target.call.purpose not in READS:
                self.last.pop((before.key, name), None)  # committed, and perhaps never sent: a doubt
            if made is not None and (now is None or now.call is None or now.call.id != made.call.id):
                made.kept = made.told

    def forget_told(self, which: Callable[[int], bool] = lambda _: True) -> None:
        """Lose the answers that this process has and has not committed: those of some partitions."""
        for name in self.mine:
            made = self.made.get(name)
            if made is not None and made.told and not made.kept and which(self.home(made.call.target.stream)):
                made.told, made.lost = False, True

    def told_and_not_kept(self) -> bool:
        """Whether this process has an answer that is not committed."""
        found = (self.made[name] for name in self.mine if name in self.made)
        return any(made.told and not made.kept for made in found)
