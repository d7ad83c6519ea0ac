"""The caller: requests a second to a vendor that answers at once, against a bare httpx loop.

Both run in this process, in turns, against one aiohttp server in another. The bare loop has as many
coroutines as connections, each sending one request after the other through one ``AsyncClient``; its best
pool size counts. The caller is given all its requests at once, as the engine gives it what was granted.
"""

import asyncio
import time
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from statistics import median
from typing import ClassVar

import httpx
from prometheus_client import CollectorRegistry

from benchmarks.common import report
from worker.core.outcome import Done, Outcome, Refused, Wire
from worker.runtime.caller import Caller
from worker.runtime.clock import SystemClock
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.sandbox.process import ChildProcess
from worker.settings import AccountSettings
from worker.vendors.base import Account, Request, Response, VendorSpec
from worker.words import Call, Millis, Target

POOLS = (1, 2, 4, 10)
CONCURRENCIES = (4, 10, 32, 100)
TARGET = 0.8
PATH, BODY = "/v1/streams/forbid", b'{"domain":"push.example","app":"live","stream":"room42"}'
HEADERS = {"Content-Type": "application/json", "Authorization": "none"}


class Plain:
    """An adapter that does next to nothing: what is measured is the caller."""

    code: ClassVar[str] = "plain"

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        self._url = f"{spec.endpoint_for(account)}{PATH}"

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing is signed
        """Return the same request every time."""
        return Request("POST", self._url, HEADERS, BODY)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:  # noqa: ARG002 - as every vendor
        """Look at the status alone."""
        wire = Wire(http_status=response.status)
        return Done(wire) if response.status == httpx.codes.OK else Refused("vendor", wire)

    def shared(self, call: Call) -> str | None:  # noqa: ARG002 - as every vendor
        """Share nothing."""
        return None


def bare(url: str, pool: int, number: int) -> None:
    """Send requests through one client."""

    async def one_by_one(client: httpx.AsyncClient, left: "count[int]") -> None:
        while next(left) < number:
            answer = await client.post(f"{url}{PATH}", content=BODY, headers=HEADERS)
            if answer.status_code != httpx.codes.OK:
                raise RuntimeError(f"answered {answer.status_code}")

    async def run() -> None:
        limits = httpx.Limits(max_connections=pool, max_keepalive_connections=pool)
        async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
            left = count()
            await asyncio.gather(*(one_by_one(client, left) for _ in range(pool)))

    asyncio.run(run())


def through_caller(url: str, concurrency: int, number: int) -> None:
    """Send requests through the caller."""
    spec = VendorSpec("plain", "Plain", "", {}, (), {}, {}, endpoint=url)
    account = Account("a", "plain", {})
    settings = AccountSettings(account, {}, concurrency=concurrency, allow_insecure=True)
    answers: SimpleQueue[Answered] = SimpleQueue()
    caller = Caller(
        {"a": (Plain(spec, account), settings)},
        answers.put,
        lambda partition, epoch: True,  # noqa: ARG005 - every lease is fresh
        SystemClock(),
        Metrics(CollectorRegistry()),
    )
    caller.start()
    target = Target("a", "live", "room42", "push.example")
    for i in range(number):
        caller.send(Granted("a", (Call(str(i), "forbid", "forbid", target),), ((0, 0, "s", target.id),)))
    for _ in range(number):
        outcome = answers.get(timeout=60).outcomes[0]
        if outcome != Done(outcome.wire):
            raise RuntimeError(f"answered {outcome}")
    caller.stop(timeout=1)


Way = Callable[[str, int, int], None]


def main() -> None:
    """Run it."""
    quick = report.arguments(__doc__).parse_args().quick
    number, repetitions = (300, 1) if quick else (1_000, 3)
    ways: list[tuple[str, Way, int]] = [
        *((f"bare httpx, {pool} connections", bare, pool) for pool in POOLS),
        *((f"caller, concurrency {size}", through_caller, size) for size in CONCURRENCIES),
    ]
    rates: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    cpu: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    with ChildProcess("benchmarks.common.instant_vendor") as vendor:
        bare(vendor.greeting, 4, 100)  # warm
        for _ in range(repetitions):
            for name, way, size in ways:
                began, used = time.monotonic(), time.process_time()
                way(vendor.greeting, size, number)
                rates[name].append(number / (time.monotonic() - began))
                cpu[name].append((time.process_time() - used) / number * 1e6)
    best = max((name for name, way, _ in ways if way is bare), key=lambda name: median(rates[name]))
    rows = [
        (
            name,
            f"{median(rates[name]):,.0f}",
            f"{median(cpu[name]):,.0f}",
            report.spread([a / b for a, b in zip(rates[name], rates[best], strict=True)]),
        )
        for name, _, _ in ways
    ]
    title = (
        f"Caller: {number:,} requests, medians of {repetitions} rounds; ratio to {best} (target >= {TARGET})"
    )
    report.show(title, ("", "requests/s", "CPU us", "ratio"), rows)


if __name__ == "__main__":
    main()
