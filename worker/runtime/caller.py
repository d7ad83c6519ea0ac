"""Sends what was granted, and reports what became of it. The only module that speaks HTTP.

An asyncio loop in a thread of its own makes one exchange for each grant: no retry, no redirect, no
cookies, no decompression, HTTP/1.1, TLS verified against ``SSL_CERT_FILE`` or the bundled authorities.
A total deadline bounds it, from the connection to the end of the body. No proxy is taken from the
environment: it would see, or silently reroute, signed requests (and httpcore sends a request's own
target to a proxy's CONNECT); an account's ``endpoint`` can name one that fronts the vendor.

What an exchange that failed means hangs on one question: had the request begun to leave?

=========================  =======================================================
before that                ``Unreachable``: refused, no such name, bad certificate
from then on               ``Unknown``: reset, deadline, unreadable or endless answer
=========================  =======================================================

Connections are few per transport, since httpcore's pool takes time in proportion to the square of its
size: each account has as many transports, of ``CONNECTIONS`` each, as its calls under way need.
"""

import asyncio
import logging
import secrets
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from worker import __version__
from worker.core.outcome import Outcome, Refused, Unknown, Unreachable, Wire, word
from worker.runtime.clock import Clock
from worker.runtime.logs import frames
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.runtime.unconnected import why_not_connected
from worker.settings import AccountSettings
from worker.vendors.base import InProcess, Request, Response, Vendor
from worker.words import Call, Millis, Purpose

log = logging.getLogger(__name__)

CONNECTIONS = 4
KEEP_ALIVE_S = 3.0
"""Shorter than servers keep a connection (5 s and up): one that closes it as we send is an Unknown."""

LARGEST = 1_048_576
"""The longest body that is read, in bytes."""

GRACE_S = 5.0
"""How long the thread may take to end, once the calls under way have ended or been given up."""

_WITH_END: frozenset[Purpose] = frozenset({"forbid", "move_end", "block_regions"})
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"moderation-worker/{__version__}"}
_LIMITS = httpx.Limits(
    max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S
)

MaySend = Callable[[int, int], bool]
"""Whether a partition (first) is still ours in an epoch (second), under a fresh lease."""


class Caller:
    """Sends granted requests, each account's up to its concurrency, and answers each exactly once.

    ``answered`` gets every Answered, on the caller's thread (after ``stop``: on the sender's), and must
    not block. ``may_send`` is asked right before sending, for each origin; it must be thread-safe.
    """

    def __init__(
        self,
        accounts: Mapping[str, tuple[Vendor, AccountSettings]],
        answered: Callable[[Answered], None],
        may_send: MaySend,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        tls = httpx.create_ssl_context()
        self._accounts = {
            name: _Account(vendor, settings, tls) for name, (vendor, settings) in accounts.items()
        }
        self._answered = answered
        self._may_send = may_send
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()  # orders send against stop
        self._loop: asyncio.AbstractEventLoop | None = None  # None: not running
        self._thread = threading.Thread(target=self._run, name="caller", daemon=True)
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._timeout = 0.0
        self._under_way: set[asyncio.Task[None]] = set()

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
        now = self._clock.now()
        ours = [
            call
            for call, (partition, epoch, _, _) in zip(granted.calls, granted.origins, strict=True)
            if self._may_send(partition, epoch)
        ]
        if not ours:
            return self._unsent(granted, "no fresh lease on its partition")
        useful = [call for call in ours if not _too_late(call, now)]
        if not useful:
            return self._unsent(granted, "its end passed before it could be sent")
        begun = self._clock.monotonic()
        asked = useful[0]
        if isinstance(account.vendor, InProcess):
            outcomes, wire = self._perform(account.vendor, granted, now), True
        else:
            outcomes, wire = await self._ask(account, granted, asked, now)
        if wire:
            duration = self._clock.monotonic() - begun
            metrics, operation = self._metrics, asked.operation
            metrics.vendor_request_duration_seconds.labels(account.vendor.code, operation).observe(duration)
            metrics.vendor_requests_total.labels(granted.account, operation, word(outcomes[0])).inc()
        return Answered(granted, outcomes, now, self._clock.now())

    async def _ask(
        self, account: "_Account", granted: Granted, asked: Call, now: Millis
    ) -> tuple[tuple[Outcome, ...], bool]:
        """Return an outcome for each call, and whether anything was tried on the wire."""
        everyone = len(granted.calls)
        progress = _Progress()
        try:
            signed = _signed(account.vendor, asked, now)
            if isinstance(signed, Refused):
                return (signed,) * everyone, False
            request = _on_the_wire(signed, progress)
        except Exception as error:  # noqa: BLE001 - an adapter's mistake must not stop the others
            _mistake("request", granted.account, asked, error)
            return (Refused("internal", detail="the request could not be made"),) * everyone, False
        if request.url.scheme != "https" and not account.settings.allow_insecure:
            return (Refused("config", detail="the endpoint is not https (allow_insecure)"),) * everyone, False
        try:
            async with asyncio.timeout(account.settings.timeout / 1000), account.transport() as transport:
                response = await _exchange(transport, request)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - cancelled by stop alone
            return (_failed(error, progress, account.settings.timeout),) * everyone, True
        return tuple(self._read(account.vendor, call, response) for call in granted.calls), True

    def _read(self, vendor: Vendor, call: Call, response: Response) -> Outcome:
        try:
            return vendor.read(call, response, self._clock.now())
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
    """One account's adapter, transports, and what is under way. Used on the caller's thread only."""

    def __init__(self, vendor: Vendor, settings: AccountSettings, tls: ssl.SSLContext) -> None:
        self.vendor = vendor
        self.settings = settings
        self.busy = 0
        self.waiting: deque[Granted] = deque()
        self._tls = tls
        self._transports: dict[httpx.AsyncHTTPTransport, int] = {}
        self._spoiled: set[httpx.AsyncHTTPTransport] = set()

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """Lend the least busy transport; a new one if all are full.

        One whose request was cancelled is not lent again: httpcore may keep that connection's place for ever.
        """
        sound = self._transports.keys() - self._spoiled
        least = min(sound, key=self._transports.__getitem__, default=None)
        if least is None or self._transports[least] >= CONNECTIONS:
            least = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=_LIMITS)
            self._transports[least] = 0
        self._transports[least] += 1
        try:
            yield least
        except asyncio.CancelledError:
            self._spoiled.add(least)
            raise
        finally:
            self._transports[least] -= 1
            if least in self._spoiled and not self._transports[least]:
                del self._transports[least]
                self._spoiled.remove(least)
                await least.aclose()

    async def close(self) -> None:
        """Close the connections."""
        for transport in self._transports:
            await transport.aclose()


class _Progress:
    """How far a request got, as httpcore's trace tells."""

    def __init__(self) -> None:
        self.left = False

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """Note an event. Whatever was connected before, this is where bytes of the request go out."""
        if event == "http11.send_request_headers.started":
            self.left = True


class _TooLongError(Exception):
    """The body is longer than LARGEST."""


def _signed(vendor: Vendor, call: Call, now: Millis) -> Request | Refused:
    """Return the request for a call, or the adapter's sentence why it must not be put to this vendor."""
    try:
        return vendor.request(call, now, secrets.token_hex(16))
    except ValueError as error:
        return Refused("invalid", detail=str(error))


def _on_the_wire(request: Request, progress: _Progress) -> httpx.Request:
    """Return the request for httpx, byte for byte as signed.

    httpx would normalise the path and the query, so they go past it as ``target``. Raises ValueError
    or httpx.InvalidURL for a URL that is not one.
    """
    scheme, separator, rest = request.url.partition("://")
    if scheme not in {"http", "https"} or not separator:
        raise ValueError("not an http or https URL")
    ends = [place for place in map(rest.find, "/?#") if place >= 0]
    authority, target = rest[: min(ends, default=len(rest))], rest[min(ends, default=len(rest)) :]
    if "#" in target:
        raise ValueError("a URL on the wire has no fragment")
    if not target.startswith("/"):
        target = f"/{target}"
    given = {name.lower() for name in request.headers}
    headers = [*request.headers.items(), *((n, v) for n, v in _HEADERS.items() if n.lower() not in given)]
    return httpx.Request(
        request.method,
        f"{scheme}://{authority}/",
        headers=headers,
        content=request.content,
        extensions={"target": target.encode("ascii"), "trace": progress.trace},
    )


async def _exchange(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> Response:
    answer = await transport.handle_async_request(request)
    try:
        content = bytearray()
        async for part in answer.aiter_raw():
            content += part
            if len(content) > LARGEST:
                raise _TooLongError
    finally:
        await answer.aclose()
    return Response(answer.status_code, dict(answer.headers.items()), bytes(content))


def _failed(error: BaseException, progress: _Progress, timeout: Millis) -> Outcome:
    """Return what an exchange that ended in an exception means."""
    if isinstance(error, httpx.LocalProtocolError):  # httpcore raises it for the head alone, unsent
        return Refused("internal", detail="the request is not valid HTTP")
    if not progress.left:
        return Unreachable(detail=why_not_connected(error, timeout))
    match error:
        case TimeoutError():
            return Unknown(detail=f"no complete answer within {timeout} ms")
        case asyncio.CancelledError():
            return Unknown(detail="no answer before the worker shut down")
        case _TooLongError():
            return Unknown(detail=f"the answer is longer than {LARGEST} bytes")
        case httpx.RemoteProtocolError():
            return Unknown(detail="the connection ended early, or the answer is not HTTP")
        case httpx.TransportError():
            return Unknown(detail="the connection broke after sending")
    log.error("an exchange failed", extra={"error": type(error).__name__, "at": frames(error)})
    return Unknown(detail="the exchange failed")


def _too_late(call: Call, now: Millis) -> bool:
    """Tell whether a call is no longer to be sent; a vendor reads an end in the past as its default."""
    ended = call.purpose in _WITH_END and call.until is not None and call.until <= now
    return ended or (call.not_after is not None and call.not_after < now)


def _mistake(what: str, account: str, call: Call, error: Exception) -> None:
    """Log what an adapter raised, or we did, without its text."""
    about = {"in": what, "account": account, "operation": call.operation}
    log.error("an unexpected exception", extra={**about, "error": type(error).__name__, "at": frames(error)})
