"""A real engine under random verdicts, commits, resets, moves, answers and restarts, by seed.

``MW_SEEDS=10000`` runs more of them; a failing seed replays alone with ``MW_SEED=n``. The world checks as
it goes that no call goes out before its commit or twice; at the end the books must balance.
"""

import json
import os
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import pytest

from tests.runtime.engine_world import MINUTE, POLICY, SECOND, World
from worker.core.outcome import Outcome, Refused, Throttled, Unknown, Unreachable, Wire
from worker.events.times import format_rfc3339
from worker.runtime.messages import Batch, Committed, Granted
from worker.vendors.base import Quota

SEEDS = int(os.environ.get("MW_SEEDS", "40"))
ONLY = os.environ.get("MW_SEED")
ACCOUNTS = ("m", "s")
QUOTAS = {"forbid": (Quota(6, 20 * SECOND),), "cut": (Quota(4, 10 * SECOND), Quota(9, MINUTE))}
CATEGORIES = ("nudity", "nudity", "minors", "gambling", "spam", "spam", "odd", "fine")
ACTIONS = (
    *("verdict",) * 6,
    *("poll",) * 5,
    *("turn",) * 6,
    *("commit",) * 6,
    *("answer",) * 5,
    *("wait",) * 3,
    *("command", "reset", "drop", "drop", "assign", "assign", "restart"),
)


class Life:
    """One replica's life: what is done to it is drawn by lot."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        verify_after = self.random.choice(((), (5 * SECOND, 30 * SECOND)))
        self.w = World(
            partitions=3,
            accounts=ACCOUNTS,
            quotas=QUOTAS,
            concurrency=self.random.choice((1, 3, 10)),
            policy=replace(POLICY, verify_after=verify_after),
            gather=self.random.choice((0, 20)),
        )
        self.due: Counter[tuple[str, str]] = Counter()  # terminal results, by verdict and account
        self.untold: Batch | None = None  # durable, and the engine does not know yet
        self.sent_at: dict[int, int] = {}
        self.counted: dict[tuple[str, str], list[int]] = defaultdict(list)  # as the vendor counts
        self.w.assign()

    def play(self, turns: int) -> None:
        for _ in range(turns):
            getattr(self, f"_{self.random.choice(ACTIONS)}")()
            self._note_sent()
        self._rest()

    def _note_sent(self) -> None:
        for granted in self.w.under_way:
            self.sent_at.setdefault(id(granted), self.w.clock.at)

    def _verdict(self) -> None:
        key = f"k{self.random.randrange(12)}"
        accounts = tuple(self.random.sample(ACCOUNTS, self.random.choice((1, 1, 2))))
        partition = self.random.choice((None, None, None, self.random.randrange(3)))
        category = self.random.choice(CATEGORIES)
        name = self.w.verdict(key, category, partition, accounts=accounts)
        self.due.update((name, account) for account in accounts)

    def _command(self) -> None:
        key = f"k{self.random.randrange(12)}"
        self.w._n += 1
        command = {
            "command_id": f"c{self.w._n}",
            "command": "release",
            "stream": {"key": key},
            "by": "m",
            "issued_at": format_rfc3339(self.w.clock.at),
        }
        self.w.write(self.w.home(key), json.dumps(command).encode(), key)

    def _poll(self) -> None:
        self.w.poll(self.random.choice((1, 3, 500)))

    def _turn(self) -> None:
        self.w.turn(self.random.choice((1, 2)))

    def _wait(self) -> None:
        self.w.clock.at += self.random.choice((1, 30, SECOND, 3 * SECOND, 10 * SECOND))

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
            if self.random.random() < 0.5:
                self.w.turn()
            for p in self.w.owned_:
                self.w.restore(p)

    def _drop(self) -> None:
        if self.w.owned_:
            self.w.drop(self.random.choice(sorted(self.w.owned_)))

    def _assign(self) -> None:
        away = sorted(set(range(3)) - self.w.owned_)
        if away:
            self.w.assign(self.random.choice(away))

    def _restart(self) -> None:
        """Crash: what was under way may have happened."""
        if self.random.random() < 0.6:
            return
        for granted in self.w.under_way:
            if self.random.random() < 0.5:
                for call in granted.calls:
                    self.w.vendors[granted.account].perform(call, self.w.clock.at)
            self._count(granted)
        self.untold = None
        self.w.start()
        self.w.clock.at += self.random.choice((0, SECOND))
        for p in self.random.sample(range(3), self.random.choice((1, 3))):
            self.w.assign(p)

    def _answer(self) -> None:
        if not self.w.under_way:
            return
        granted = self.random.choice(self.w.under_way)
        fate = self.random.random()
        told: tuple[Outcome, ...] = ()
        if fate < 0.08:
            self.w.answer(granted, Unreachable(), sent=False)
            return
        if fate < 0.35:
            said = (Throttled(SECOND), Unreachable(), Unknown(), Unknown(Wire(502)), Refused("auth"))
            told = (self.random.choice(said),)
        self._count(granted)
        self.w.answer(granted, *told)

    def _count(self, granted: Granted) -> None:
        """Count a request as the vendor may: at any moment between its sending and its answer."""
        at = self.random.randint(self.sent_at.pop(id(granted)), self.w.clock.at)
        self.counted[granted.account, granted.calls[0].operation].append(at)

    # -- the end ---------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Let everything go well until nothing is left to do; then look at the books."""
        w = self.w
        for p in range(3):
            if p not in w.owned_:
                w.assign(p)
        for _ in range(3_000):
            w.poll()
            w.turn()
            self._note_sent()
            self._commit()
            for granted in list(w.under_way):
                self._count(granted)
                w.answer(granted)
            w.clock.at += 300
            if w.engine.idle() and not w.accounts.under_way():
                break
        assert w.engine.idle()
        self._balance()

    def _balance(self) -> None:
        w = self.w
        told = Counter(
            (result["verdict_id"], result["target"]["account"])
            for result in w.results
            if result["terminal"] and result["verdict_id"] is not None
        )
        assert told == self.due, "one terminal result for each verdict and target"
        assert w.slots_taken() == w.accounts.under_way() == 0, "every slot was given back"
        for p in range(3):
            assert w.offsets[p] == len(w.input[p])
            for record in w.states[p].values():
                assert w.home((record.key or b"").decode()) == p
        for (account, operation), counted in self.counted.items():
            for quota in QUOTAS.get(operation, ()):
                counted.sort()
                for first, last in zip(counted, counted[quota.limit :], strict=False):
                    assert last - first >= quota.window, f"{account}/{operation} is over its quota"


@pytest.mark.parametrize("seed", [int(ONLY)] if ONLY else range(SEEDS))
def test_the_books_balance(seed: int) -> None:
    Life(seed).play(400)
