"""Replicas at a real store, whose clock a test sets by hand."""

from collections.abc import Iterable, Sequence
from itertools import count

from redis import Redis

from tests.store.server import RedisServer
from worker.core.permits import USED_WITHIN, Ask, Given, Heard, Permit, Pool, Said
from worker.runtime.store import SCRIPT, Store
from worker.vendors.base import Quota

LEASE = 15_000
BY_HAND = SCRIPT.replace("redis.call('TIME')", "{redis.call('GET', 'clock') / 1000, 0}")
_ids = count()


def pool(limit: int, window: int, *, reserve: float = 0.0, timeout: int = 1_000, name: str = "block") -> Pool:
    return Pool("hw", name, Quota(limit, window), reserve, timeout)


class Clock:
    """The server's clock, and the time that passes for everyone."""

    def __init__(self, server: RedisServer) -> None:
        self.redis = Redis.from_url(server.url)
        self.redis.flushall()
        self.set(1_790_000_000_000)

    def set(self, at: int) -> None:
        self.now = at
        self.redis.set("clock", at)

    def passes(self, length: int) -> None:
        self.set(self.now + length)


class Replica:
    """One process's store."""

    def __init__(
        self, server: RedisServer, clock: Clock, name: str = "a", partitions: int = 1, lease: int = LEASE
    ) -> None:
        self.clock = clock
        self.store = Store(
            server.url, "g", name, lease, lambda: partitions, lambda: clock.now / 1000, BY_HAND
        )
        self.store.hello()

    def here(self, pools: Sequence[Pool], *partitions: int) -> Heard:
        return self.store.say(Said(here=partitions, pools=tuple(pools)))

    def ask(
        self, pools: Iterable[Pool], number: int = 1, *, critical: bool = False, partition: int = 0
    ) -> tuple[list[Permit], int]:
        """Return the permits that were given, and the wait for one more."""
        ids = tuple(f"p{next(_ids)}" for _ in range(number))
        ask = Ask(ids, partition, tuple(pools), critical, self.clock.now + USED_WITHIN)
        (given,) = self.store.say(Said(asks=(ask,))).given
        assert given == Given(ask, given.number, given.wait)
        return ask.permits(given.number), given.wait

    def settle(self, *permits: Permit) -> None:
        self.store.say(Said(settled=permits))

    def give_back(self, *permits: Permit) -> None:
        self.store.say(Said(given_back=permits))
