"""One HTTP exchange at a time, and an account's connections. The only module that speaks HTTP.

No retry, no redirect, no cookies, no decompression, HTTP/1.1, TLS verified against ``SSL_CERT_FILE`` or
the bundled authorities. A total deadline bounds an exchange, from the connection to the end of the body.
No proxy is taken from the environment: it would see, or silently reroute, signed requests (and httpcore
sends a request's own target to a proxy's CONNECT); an account's ``endpoint`` can name one that fronts
the vendor.

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
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from worker import __version__
from worker.core.outcome import Outcome, Refused, Unknown, Unreachable
from worker.runtime.logs import frames
from worker.runtime.unconnected import why_not_connected
from worker.settings import AccountSettings
from worker.vendors.base import Request, Response
from worker.words import Millis

log = logging.getLogger(__name__)
logging.getLogger("httpcore").setLevel(logging.WARNING)  # below that it writes headers, tokens among them

CONNECTIONS = 4
KEEP_ALIVE_S = 3.0
"""Shorter than servers keep a connection (5 s and up): one that closes it as we send is an Unknown."""

LARGEST = 1_048_576
"""The longest body that is read, in bytes."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"moderation-worker/{__version__}"}
_LIMITS = httpx.Limits(
    max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S
)


def tls_context() -> ssl.SSLContext:
    """Return what TLS is verified with; one for all accounts, since reading it takes some 10 ms."""
    return httpx.create_ssl_context()


class Connections:
    """One account's connections. Used on the caller's thread only."""

    def __init__(self, settings: AccountSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._transports: dict[httpx.AsyncHTTPTransport, int] = {}
        self._spoiled: set[httpx.AsyncHTTPTransport] = set()

    async def exchange(
        self, request: Request, may_leave: Callable[[], bool] = lambda: True
    ) -> tuple[Response | Outcome, bool]:
        """Return the answer, or why there is none; and whether anything was tried on the wire.

        ``may_leave`` is asked once there is a connection, right before the first byte of the request.
        Raises KeptBackError if it says no.
        """
        progress = _Progress(may_leave)
        timeout = self._settings.timeout
        try:
            written = _on_the_wire(request, progress)
        except Exception as error:  # noqa: BLE001 - an adapter's mistake must not stop the others
            about = {"account": self._settings.account.name, "error": type(error).__name__}
            log.error("an adapter's request is none", extra={**about, "at": frames(error)})  # noqa: TRY400 - its text may hold a name
            return Refused("internal", detail="the request could not be made"), False
        if written.url.scheme != "https" and not self._settings.allow_insecure:
            return Refused("config", detail="the endpoint is not https (allow_insecure)"), False
        try:
            async with asyncio.timeout(timeout / 1000), self._transport() as transport:
                return await _exchange(transport, written), True
        except KeptBackError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - cancelled by stop alone
            return _failed(error, progress, timeout), True

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
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


class KeptBackError(Exception):
    """The request was ready, but must not leave any more."""


class _Progress:
    """How far a request got, as httpcore's trace tells."""

    def __init__(self, may_leave: Callable[[], bool]) -> None:
        self.left = False
        self._may_leave = may_leave

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """Note an event. Whatever was connected before, this is where bytes of the request go out."""
        if event == "http11.send_request_headers.started":
            if not self._may_leave():
                raise KeptBackError
            self.left = True


class _TooLongError(Exception):
    """The body is longer than LARGEST."""


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
