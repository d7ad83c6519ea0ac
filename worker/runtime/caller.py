"""Sends what was granted, and reports what became of it.

An asyncio loop in a thread of its own makes one exchange for each grant (``exchange``), after a login
where the account needs one (``logins``).
"""

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping

from worker.core.outcome import Outcome, Refused, Unknown, Unreachable, Wire, word
from worker.runtime.clock import Clock
from worker.runtime.exchange import Connections, KeptBackError, tls_context
from worker.runtime.logins import Login
from worker.runtime.logs import frames
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.settings import AccountSettings
from worker.vendors.base import InProcess, LoggedIn, LogsIn, Request, Response, Vendor
from worker.vendors.reading import seen_by_the_clock
from worker.words import Call, Millis, Purpose

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""How long the thread may take to end, once the calls under way have ended or been given up."""

LOST = "no fresh lease on its partition"
_WITH_END: frozenset[Purpose] = frozenset({"forbid", "move_end", "block_regions"})
MaySend = Callable[[int, int], bool]
"""Whether a partition (first) is still ours in an epoch (second), under a fresh lease."""


class Caller:
    """Sends granted requests, each account's up to its concurrency, and answers each exactly once.

    ``answered`` gets every Answered, on the caller's thread (after ``stop``: on the sender's), and must
    not block. ``may_send`` is asked for each origin, before a connection is sought for the request and
    again right before its first byte (the process may have been frozen meanwhile); it must be thread-safe.
    """

    def __init__(
        self,
        accounts: Mapping[str, tuple[Vendor, AccountSettings]],
        answered: Callable[[Answered], None],
        may_send: MaySend,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        tls = tls_context()
        self._accounts: dict[str, _Account] = {}
        for name, (vendor, settings) in accounts.items():
            connections = Connections(settings, tls)
            login = self._login(name, vendor, connections)
            self._accounts[name] = _Account(vendor, settings, connections, login)
        self._answered = answered
        self._may_send = may_send
        self._lock = threading.Lock()  # orders send against stop
        self._loop: asyncio.AbstractEventLoop | None = None  # None: not running
        self._thread = threading.Thread(target=self._run, name="caller", daemon=True)
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._timeout = 0.0
        self._under_way: set[asyncio.Task[None]] = set()

    def _login(self, name: str, vendor: Vendor, connections: Connections) -> Login | None:
        """Return the login that an account's calls need first, if they do."""
        if not isinstance(vendor, LogsIn) or vendor.login(self._clock.now()) is None:
            return None
        begun = 0.0

        async def put(request: Request) -> Response | Outcome:
            nonlocal begun
            begun = self._clock.monotonic()
            answer, _ = await connections.exchange(request)
            return answer

        def told(found: LoggedIn | Outcome) -> None:
            became = "done" if isinstance(found, LoggedIn) else word(found)
            self._tried(name, vendor.code, "login", became, begun)

        return Login(name, vendor, put, told, self._clock)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._started.wait()

    def send(self, granted: Granted) -> None:
        """Let a request go out. Thread-safe, at once. Raises KeyError for an unknown account."""
        account = self._accounts[granted.account]
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin, account, granted)
                return
        self._answered(self._unsent(granted, "the worker is shutting down"))

    def stop(self, timeout: float) -> None:
        """Let the calls under way end, for ``timeout`` seconds; what was not sent is answered as such.

        What is still under way then is given up: Unknown, or Unreachable if it never left.
        """
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        self._timeout = timeout
        loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout + GRACE_S)
        if self._thread.is_alive():
            log.error("the caller did not end in time", extra={"timeout_s": timeout})

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    # On the caller's thread

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._live(loop))
        finally:
            with self._lock:
                self._loop = None
            loop.close()  # does not wait for name look-ups that hang

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._started.set()
        await self._stopping.wait()
        for account in self._accounts.values():
            while account.waiting:
                self._answered(self._unsent(account.waiting.popleft(), "the worker is shutting down"))
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self._timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for account in self._accounts.values():
            await account.close()

    def _begin(self, account: "_Account", granted: Granted) -> None:
        if account.busy >= account.settings.concurrency:
            account.waiting.append(granted)
            return
        account.busy += 1
        task = asyncio.get_running_loop().create_task(self._work(account, granted))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _work(self, account: "_Account", granted: Granted) -> None:
        """Make one call after the other while any waits."""
        try:
            while True:
                self._answered(await self._safely(account, granted))
                if not account.waiting:
                    return
                granted = account.waiting.popleft()
        finally:
            account.busy -= 1

    async def _safely(self, account: "_Account", granted: Granted) -> Answered:
        """Make a call; should the worker itself fail in it, it may have happened."""
        now = self._clock.now()
        try:
            return await self._call(account, granted)
        except Exception as error:  # noqa: BLE001 - the engine waits for an answer
            _mistake("the worker", granted.account, granted.calls[0], error)
            outcome = Unknown(detail=f"the worker failed: {type(error).__name__}")
            return Answered(granted, (outcome,) * len(granted.calls), now, now)

    async def _call(self, account: "_Account", granted: Granted) -> Answered:
        vendor = account.vendor
        if account.login is not None:
            login = await account.login.admitted()
            if not isinstance(login, LoggedIn):
                return Answered(granted, (login,) * len(granted.calls), None, self._clock.now())
            vendor = login.vendor
        now = self._clock.now()
        ours = self._ours(granted)
        if not ours:
            return self._unsent(granted, LOST)
        if granted.not_after is not None and now > granted.not_after:
            return self._unsent(granted, "its commit took too long")
        useful = [call for call in ours if not _too_late(call, now)]
        if not useful:
            return self._unsent(granted, "its end passed before it could be sent")
        begun = self._clock.monotonic()
        asked = useful[0]
        if isinstance(vendor, InProcess):
            outcomes, wire = self._perform(vendor, granted, now), True
        else:
            try:
                outcomes, wire = await self._ask(account, vendor, granted, asked, now)
            except KeptBackError:
                return self._unsent(granted, LOST)
        if wire:
            self._tried(granted.account, vendor.code, asked.operation, word(outcomes[0]), begun)
        return Answered(granted, outcomes, now, self._clock.now())

    def _ours(self, granted: Granted) -> list[Call]:
        """Return the calls that may be sent; none without a fresh lease on the slots they use."""
        if not all(self._may_send(*charged) for charged in granted.charged):
            return []
        return [
            call
            for call, (partition, epoch, _, _) in zip(granted.calls, granted.origins, strict=True)
            if self._may_send(partition, epoch)
        ]

    def _tried(self, account: str, vendor: str, operation: str, became: str, begun: float) -> None:
        duration = self._clock.monotonic() - begun
        self._metrics.vendor_request_duration_seconds.labels(vendor, operation).observe(duration)
        self._metrics.vendor_requests_total.labels(account, operation, became).inc()

    async def _ask(
        self, account: "_Account", vendor: Vendor, granted: Granted, asked: Call, now: Millis
    ) -> tuple[tuple[Outcome, ...], bool]:
        """Return an outcome for each call, and whether anything was tried on the wire.

        Raises KeptBackError if the lease was lost while a connection was sought.
        """
        everyone = len(granted.calls)
        try:
            request = vendor.request(asked, now, secrets.token_hex(16))
        except ValueError as refusal:  # the adapter's sentence why it must not be put to this vendor
            return (Refused("invalid", detail=str(refusal)),) * everyone, False
        except Exception as error:  # noqa: BLE001 - an adapter's mistake must not stop the others
            _mistake("request", granted.account, asked, error)
            return (Refused("internal", detail="the request could not be made"),) * everyone, False
        response, wire = await account.connections.exchange(request, lambda: asked in self._ours(granted))
        if not isinstance(response, Response):
            return (response,) * everyone, wire
        if account.login is not None and isinstance(vendor, LogsIn) and vendor.logged_out(response):
            account.login.lost(vendor)
        return tuple(self._read(vendor, call, response) for call in granted.calls), True

    def _read(self, vendor: Vendor, call: Call, response: Response) -> Outcome:
        try:
            now = self._clock.now()
            return seen_by_the_clock(vendor.read(call, response, now), response, now)
        except Exception as error:  # noqa: BLE001 - an adapter's mistake must not stop the others
            _mistake("read", call.target.account, call, error)
            return Unknown(Wire(http_status=response.status), "the answer could not be read")

    def _perform(self, vendor: InProcess, granted: Granted, now: Millis) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        for call in granted.calls:
            try:
                outcomes.append(vendor.perform(call, now))
            except Exception as error:  # noqa: BLE001 - an adapter's mistake must not stop the others
                _mistake("perform", granted.account, call, error)
                outcomes.append(Unknown(detail="the vendor failed"))
        return tuple(outcomes)

    def _unsent(self, granted: Granted, why: str) -> Answered:
        outcomes = (Unreachable(detail=f"not sent: {why}"),) * len(granted.calls)
        return Answered(granted, outcomes, None, self._clock.now())


class _Account:
    """One account's adapter, its connections, and what is under way. Used on the caller's thread only."""

    def __init__(
        self, vendor: Vendor, settings: AccountSettings, connections: Connections, login: Login | None
    ) -> None:
        self.vendor = vendor
        self.settings = settings
        self.connections = connections
        self.login = login
        self.busy = 0
        self.waiting: deque[Granted] = deque()

    async def close(self) -> None:
        """Give up a login that is under way, and close the connections."""
        if self.login is not None:
            await self.login.close()
        await self.connections.close()


def _too_late(call: Call, now: Millis) -> bool:
    """Tell whether a call is no longer to be sent; a vendor reads an end in the past as its default."""
    ended = call.purpose in _WITH_END and call.until is not None and call.until <= now
    return ended or (call.not_after is not None and call.not_after < now)


def _mistake(what: str, account: str, call: Call, error: Exception) -> None:
    """Log what an adapter raised, or we did, without its text."""
    about = {"in": what, "account": account, "operation": call.operation}
    log.error("an unexpected exception", extra={**about, "error": type(error).__name__, "at": frames(error)})
