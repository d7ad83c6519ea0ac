"""The quota store: a Redis or Valkey server, and the one script that is run there.

Everything that is said goes as one call of the script, which is atomic and reads the server's clock.
Nothing is ever repeated by itself: what had no answer may have been heard, for ``LATEST`` after it was said.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.core.permits import LATEST, USED_WITHIN, Given, Heard, Permit, Pool, Said
from worker.words import Millis

TIMEOUT_S = 2.0
"""How long to wait for a connection, and for each answer."""

SCRIPT = files(__package__).joinpath("store.lua").read_text("utf-8")


class StoreError(Exception):
    """The store cannot be asked, or gave no answer. The text shows no password."""


class Store:
    """One replica's connection to the store. Used by one thread.

    ``group`` keeps the groups of one server apart; ``partitions`` tells how many there are, ``me`` names this
    process, and ``lease`` is how long a partition counts as heard of.
    """

    def __init__(
        self,
        url: str,
        group: str,
        me: str,
        lease: Millis,
        partitions: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
        script: str = SCRIPT,
    ) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
            decode_responses=True,
        )
        self._script = self._redis.register_script(script)
        self._prefix = f"moderation-quota:{{{group}}}"
        self._me, self._lease, self._partitions = me, lease, partitions
        self._monotonic = monotonic
        self._clock: tuple[Millis, float] | None = None  # the server's, and when ours showed what

    def hello(self) -> None:
        """Learn the server's time; it changes nothing there. Raises StoreError."""
        self._clock = None
        self._run([f"{self._prefix}:heard"], {})

    def say(self, said: Said) -> Heard:
        """Say something, and return the answer. Raises StoreError: then it may have been heard, or not."""
        if self._clock is None:
            raise StoreError("the store's clock is not known")
        pools = list(dict.fromkeys([*said.pools, *(pool for one in _spoken_of(said) for pool in one)]))
        place = {pool: number for number, pool in enumerate(pools, 1)}
        server, ours = self._clock
        message = {
            # A lower bound of the server's time now: the answer was some time on its way.
            "at": server + int((self._monotonic() - ours) * 1000),
            "latest": LATEST,
            "used_within": USED_WITHIN,
            "lease": self._lease,
            "me": self._me,
            "partitions": self._partitions(),
            "windows": [_window(pool) for pool in pools],
            "here": said.here or (),
            "count": said.here is not None,
            "told": [
                {
                    "partition": one.partition,
                    "uses": [[place[pool], *use] for pool, uses in one.uses.items() for use in uses],
                }
                for one in said.told
            ],
            "settled": [_named(permit, place) for permit in said.settled],
            "given_back": [_named(permit, place) for permit in said.given_back],
            "asks": [
                {
                    "ids": ask.ids,
                    "partition": ask.partition,
                    "critical": ask.critical,
                    "windows": [place[pool] for pool in ask.pools],
                }
                for ask in said.asks
            ],
        }
        answer = self._run([f"{self._prefix}:heard", *map(self._key, pools)], message)
        if answer.get("late"):
            self._clock = None
            raise StoreError("what was said came too late")
        return Heard(
            tuple(Given(ask, *found) for ask, found in zip(said.asks, answer["given"], strict=True)),
            tuple(answer["untold"]),
            dict(zip(pools, map(tuple, answer["used"]), strict=False)),
        )

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _key(self, pool: Pool) -> str:
        return f"{self._prefix}:{pool.account}/{pool.name}/{pool.quota.window}"

    def _run(self, keys: Sequence[str], message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._script(keys, [json.dumps(message)]))
        except RedisError as error:
            self._clock = None
            raise StoreError(_why(error)) from None
        self._clock = (answer["at"], self._monotonic())
        return answer


def _why(error: RedisError) -> str:
    """Return what went wrong, in the library's words: they name the address, never the password."""
    return f"{type(error).__name__}: {error}"


def _spoken_of(said: Said) -> Iterable[Iterable[Pool]]:
    yield from (one.uses for one in said.told)
    yield from (permit.pools for permit in (*said.settled, *said.given_back))
    yield from (ask.pools for ask in said.asks)


def _window(pool: Pool) -> dict[str, Any]:
    return {
        "limit": pool.quota.limit,
        "window": pool.quota.window,
        "reserve": pool.reserve,
        "timeout": pool.timeout,
    }


def _named(permit: Permit, place: Mapping[Pool, int]) -> dict[str, Any]:
    return {
        "member": f"{permit.partition}/{permit.id}",
        "windows": [place[pool] for pool in permit.pools],
    }
