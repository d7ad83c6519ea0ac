"""What every simulated vendor shares: the server, the order of checks, the log, the control endpoints.

A request is identified, authenticated, counted against its quotas and matched with the fault script;
then it is refused or carried out, and one line goes to the log. Authentication before quotas, and
quotas before parameters, is a choice: the vendors document each, not their order.

Control endpoints, without a signature:

======================  =============================================================
``GET /_sim/state``     live streams, bans, cuts, and what else the vendor keeps
``GET /_sim/log``       the last log lines, as a JSON list (the log file has all)
``GET /_sim/stats``     calls, quotas and their violations, refused signatures, cuts
``POST /_sim/publish``  ``{domain, app, stream, started_at?, reconnects_after_ms?}``
``POST /_sim/unpublish`` ``{domain, app, stream}``
``POST /_sim/ban``      ``{domain, app, stream, until}``: as if somebody else had asked for it
``POST /_sim/lift``     ``{domain, app, stream}``: likewise, or as if the vendor had lost it
``POST /_sim/unblock``  ``{domain, app, stream}``: the same of a region block
``POST /_sim/script``   a fault script (see ``faults``), replacing the one in force
======================  =============================================================
"""

import asyncio
import json
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TextIO

from aiohttp import web

from worker.sandbox.simulators.faults import Rule, Script
from worker.sandbox.simulators.quotas import Limits, Quotas
from worker.sandbox.simulators.wire import Answer, Exchange, Refusal
from worker.sandbox.simulators.world import World
from worker.words import Millis

ACCOUNTS: Mapping[str, str] = {"sandbox-key": "sandbox-secret"}
DOMAINS: Mapping[str, str] = {"push.sandbox.example": "play.sandbox.example"}
_KEPT_LINES = 100_000
_GARBAGE = "\x15\x03\x01 <<not an answer>>"


def wall_clock() -> Millis:
    """Return the moment, in milliseconds."""
    return time.time_ns() // 1_000_000


class Simulator(ABC):
    """A vendor's API on a loopback port.

    ``accounts`` maps access keys to secrets; ``domains`` push domains to play domains; ``quotas``
    replaces those it names of the vendor's documented ones (an empty list: none); ``log`` is a file to
    append to; ``clock`` returns the moment in milliseconds. Usable as a context manager.
    """

    vendor: ClassVar[str]
    quotas: ClassVar[Mapping[str, Limits]]
    charges: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Quota names an operation counts against, where it is not its own name alone."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, str] = ACCOUNTS,
        domains: Mapping[str, str] = DOMAINS,
        quotas: Mapping[str, Limits] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
        log: Path | None = None,
        clock: Callable[[], Millis] = wall_clock,
    ) -> None:
        if unknown := set(quotas or ()) - set(self.quotas):
            raise ValueError(f"{self.vendor} has no quota {', '.join(sorted(unknown))}")
        self.accounts = dict(accounts)
        self.world = World(domains)
        self.clock = clock
        self.url = ""
        self._quotas = Quotas({**self.quotas, **(quotas or {})})
        self._script = Script(script)
        self._log_path = log
        self._log_file: TextIO | None = None
        self._lines: deque[dict[str, Any]] = deque(maxlen=_KEPT_LINES)
        self._violations: deque[dict[str, Any]] = deque(maxlen=_KEPT_LINES)
        self._counts: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    # What a vendor gives.

    @abstractmethod
    def identify(self, exchange: Exchange) -> None:
        """Find out operation, parameters and stream of a request. Refuses nothing."""

    @abstractmethod
    def authenticate(self, exchange: Exchange) -> str:
        """Return the account that signed the request, or refuse."""

    @abstractmethod
    def perform(self, exchange: Exchange) -> Answer:
        """Check the parameters and carry the operation out, or refuse."""

    @abstractmethod
    def throttled(self, limit: int, length: Millis, retry_after: Millis | None = None) -> Answer:
        """Return the answer to a call over a quota."""

    @abstractmethod
    def failure(self, status: int, code: str, message: str) -> Answer:
        """Return an error in the vendor's envelope."""

    def state(self) -> dict[str, Any]:
        """Return what the vendor has in force, as JSON."""
        with self._lock:
            return self.world.state(self.clock())

    # What tests and the control endpoints do.

    def publish(
        self,
        domain: str,
        app: str,
        stream: str,
        started_at: Millis | None = None,
        reconnects_after_ms: Millis | None = None,
    ) -> bool:
        """Start an encoder; return whether its stream is live now. It reconnects after every cut if asked to.

        Raises ValueError for an unknown domain.
        """
        push = self.world.push_domain(domain)
        if push is None:
            raise ValueError(f"unknown domain {domain}")
        with self._lock:
            now = self.clock()
            start = now if started_at is None else started_at
            return self.world.publish((push, app, stream), start, reconnects_after_ms, now)

    def unpublish(self, domain: str, app: str, stream: str) -> bool:
        """Stop an encoder for good; return whether there was one."""
        with self._lock:
            return self.world.unpublish((self.world.push_domain(domain) or domain, app, stream))

    def ban(self, domain: str, app: str, stream: str, until: Millis) -> bool:
        """Ban a stream behind everybody's back; return whether that changed anything."""
        with self._lock:
            return self.world.ban(
                (self.world.push_domain(domain) or domain, app, stream), until, self.clock()
            )

    def lift(self, domain: str, app: str, stream: str) -> bool:
        """Take a ban away behind everybody's back; return whether there was one."""
        with self._lock:
            return self.world.lift((self.world.push_domain(domain) or domain, app, stream), self.clock())

    def unblock(self, domain: str, app: str, stream: str) -> bool:  # noqa: ARG002 - for vendors that have some
        """Take a region block away behind everybody's back; return whether there was one."""
        return False

    def play_script(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """Replace the fault script. Raises ValueError for a rule that makes no sense."""
        script = Script(rules)
        with self._lock:
            self._script = script

    def stats(self) -> dict[str, Any]:
        """Return counters, and every quota window with its most used and its violations."""
        with self._lock:
            windows = self._quotas.report()
            return {
                "vendor": self.vendor,
                "calls": dict(self._calls),
                "quotas": windows,
                "violations": self._counts["violations"],
                "violating_calls": list(self._violations),
                "signatures_refused": self._counts["signatures_refused"],
                "throttled": self._counts["throttled"],
                "changed": self._counts["changed"],
                "faults": self._counts["faults"],
                "cuts": self.world.cuts,
            }

    def lines(self) -> list[dict[str, Any]]:
        """Return the last log lines."""
        with self._lock:
            return list(self._lines)

    # The server.

    async def serve(self, port: int = 0) -> str:
        """Listen on a loopback port (0: any free one) and return the base URL."""
        if self._log_path is not None:
            self._log_file = self._log_path.open("a", encoding="utf-8", buffering=1)
        self._closing = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def close(self) -> None:
        """Stop listening; connections that hang are dropped."""
        self._closing.set()
        await self._runner.cleanup()
        if self._log_file is not None:
            self._log_file.close()

    def start(self, port: int = 0) -> str:
        """Serve from a thread of its own, with its own loop; return the base URL."""
        started: Future[str] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(port, started),), daemon=True)
        self._thread.start()
        return started.result(timeout=30)

    def stop(self) -> None:
        """End what ``start`` began."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(timeout=30)
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _live(self, port: int, started: "Future[str]") -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            started.set_result(await self.serve(port))
        except OSError as error:
            started.set_exception(error)
            return
        await self._stopped.wait()
        await self.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        body = await request.read()
        if path.startswith("/_sim/"):
            return self._control(request.method, path, body)
        exchange = Exchange(request.method, path, query, request.headers, body, self.clock())
        with self._lock:
            delay, rule = self._arrive(exchange)
        if delay:
            await asyncio.sleep(delay / 1000)
        effect = rule.effect if rule else None
        if effect in {"hang", "reset_before"}:
            self._write(exchange, None, rule)
        else:
            with self._lock:
                answer = self._decide(exchange, rule)
                self._write(exchange, answer, rule)
            if effect not in {"done_then_hang", "done_then_reset"}:
                return self._send(request, answer, effect)
        if effect in {"hang", "done_then_hang"}:
            await self._closing.wait()
        _drop(request.transport, b"")
        return web.Response()

    def _arrive(self, exchange: Exchange) -> tuple[Millis, Rule | None]:
        self.identify(exchange)
        operation = exchange.operation or "unknown"
        self._calls[operation] += 1
        try:
            exchange.account = self.authenticate(exchange)
        except Refusal as refusal:
            exchange.refused = refusal.answer
            self._counts["signatures_refused"] += 1
        else:
            names = self.charges.get(operation, (operation,))
            exceeded = self._quotas.arrive(exchange.account, names, exchange.at)
            if exceeded is not None:
                exchange.over_quota = True
                exchange.refused = self.throttled(exceeded.limit, exceeded.window_ms)
        return self._script.pick(exchange.operation)

    def _decide(self, exchange: Exchange, rule: Rule | None) -> Answer:
        spec: Mapping[str, Any] = rule.spec if rule else {}
        effect = rule.effect if rule else None
        if effect == "throttle":
            return self.throttled(1, 1000, spec.get("retry_after_ms"))
        if effect == "status":
            return Answer(int(spec["status"]), spec.get("body"))
        if effect == "error_code":
            message = spec.get("message", "Injected by the fault script.")
            return self.failure(int(spec.get("status", 400)), str(spec["code"]), message)
        if exchange.refused is not None:
            return exchange.refused
        try:
            return self.perform(exchange)
        except Refusal as refusal:
            return refusal.answer

    def _send(self, request: web.BaseRequest, answer: Answer, effect: str | None) -> web.StreamResponse:
        content, status = answer.content(), answer.status
        headers = {"Content-Type": "application/json", **answer.headers}
        if effect == "garbage":
            content, status = _GARBAGE.encode("latin-1"), 200 if answer.status == 204 else answer.status  # noqa: PLR2004 - no content
        if effect == "truncated":
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            _drop(request.transport, head + content[: len(content) // 2] if content else head[:-4])
            return web.Response()
        if not content:
            del headers["Content-Type"]
        return web.Response(status=status, body=content or None, headers=headers)

    def _write(self, exchange: Exchange, answer: Answer | None, rule: Rule | None) -> None:
        """Write the line of a request; ``answer`` None means that nothing was done."""
        effect = rule.effect if rule else None
        sent = answer if effect not in {"done_then_hang", "done_then_reset"} else None
        throttled = effect == "throttle" or (exchange.over_quota and answer is exchange.refused)
        line = {
            "at_ms": exchange.at,
            "answered_ms": self.clock() if sent else None,
            "vendor": self.vendor,
            "account": exchange.account,
            "operation": exchange.operation,
            "domain": exchange.domain,
            "app": exchange.app,
            "stream": exchange.stream,
            "until": exchange.until,
            "http_status": sent.status if sent else None,
            "code": sent.code if sent else None,
            "signature_ok": exchange.account is not None,
            "throttled": throttled,
            "over_quota": exchange.over_quota,
            "fault": effect,
            "changed": bool(answer and answer.changed),
        }
        with self._lock:
            self._lines.append(line)
            self._counts.update(
                violations=exchange.over_quota,
                throttled=throttled,
                faults=bool(rule),
                changed=bool(line["changed"]),
            )
            if exchange.over_quota:
                self._violations.append(line)
            if self._log_file is not None:
                self._log_file.write(json.dumps(line) + "\n")

    def _control(self, method: str, path: str, body: bytes) -> web.Response:
        reads = {"/_sim/state": self.state, "/_sim/log": self.lines, "/_sim/stats": self.stats}
        names = ("publish", "unpublish", "ban", "lift", "unblock")
        writes = {f"/_sim/{name}": getattr(self, name) for name in names}
        try:
            if method == "GET" and path in reads:
                return web.json_response(reads[path]())
            if method == "POST" and path in writes:
                return web.json_response({"changed": writes[path](**json.loads(body))})
            if method == "POST" and path == "/_sim/script":
                self.play_script(json.loads(body))
                return web.json_response({"rules": len(self._script.rules)})
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"error": "no such control endpoint"}, status=404)


def _drop(transport: asyncio.Transport | None, last: bytes) -> None:
    """End a connection: after some last bytes in order, without any by a reset."""
    if transport is None:
        return
    if last:
        transport.write(last)
        transport.close()
        return
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
