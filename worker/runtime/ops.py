"""/metrics, /healthz and /readyz over HTTP: read-only, for probes and Prometheus.

A gate answers a media server's questions on the same port: they are forms, and change nothing either.
"""

import errno
import logging
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from time import monotonic
from typing import Any, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.settings_ports import OpsSettings

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long one request may take, from the connection to the end of the answer."""

LONGEST_FORM = 16_384
"""In bytes. A media server sends a name, an address and a few URLs, each of a few hundred bytes at most."""

Reasons = Callable[[], Sequence[str]]
Hook = Callable[[str, bytes], tuple[HTTPStatus, str]]
"""Answers a form that was sent to a path."""


class OpsError(Exception):
    """The ops port cannot be opened. The text is a sentence for the operator."""


class Ops:
    """Serves the ops port from threads of its own. Usable as a context manager.

    ``not_ready`` and ``not_healthy`` return why not, a sentence each, or nothing when all is well. They
    are called from the server's threads, must not block, and their sentences must show no stream name.
    ``hook``, called so too, answers what is asked at any other path. ``section`` is where the settings stand.
    """

    def __init__(
        self,
        settings: OpsSettings,
        registry: CollectorRegistry,
        *,
        not_ready: Reasons,
        not_healthy: Reasons,
        hook: Hook | None = None,
        section: str = "ops",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings, self._hook, self._section = settings, hook, section
        self._routes = {
            "/metrics": lambda accept: _metrics(registry, accept),
            "/readyz": lambda _: _verdict(not_ready()),
            "/healthz": lambda _: _verdict(not_healthy()),
        }
        self._patience_s = patience_s
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._serve, name="ops", daemon=True)

    def start(self) -> None:
        """Open the port and serve. Raises OpsError when it cannot be opened."""
        host, port = self._settings.host, self._settings.port
        try:
            self._server = _Server((host, port), self._routes, self._hook, self._patience_s)
        except OSError as error:
            why = _why(error, self._section)
            raise OpsError(f"{self._section}: cannot listen on {host} port {port}: {why}") from None
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that is open (the settings' one, or the free one that 0 found)."""
        if self._server is None:
            raise RuntimeError("not started")
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Close the port. Requests that are being answered are cut off."""
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        if self._server is not None:
            self._server.serve_forever(poll_interval=0.1)


_Answer = tuple[HTTPStatus, str, bytes]
_PLAIN = "text/plain; charset=utf-8"


def _metrics(registry: CollectorRegistry, accept: str) -> _Answer:
    encoder, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encoder(registry)


def _verdict(reasons: Sequence[str]) -> _Answer:
    if not reasons:
        return HTTPStatus.OK, _PLAIN, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, "".join(f"{each}\n" for each in reasons).encode()


class _Server(ThreadingHTTPServer):
    """Gives each connection a thread and ends it when it takes too long, however it dawdles."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # all encoders of a server come back at once

    def __init__(
        self,
        address: tuple[str, int],
        routes: dict[str, Callable[[str], _Answer]],
        hook: Hook | None,
        patience_s: float,
    ) -> None:
        self.routes, self.hook = routes, hook
        self._patience_s = patience_s
        self._open: dict[Any, float] = {}
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service for our own name as http.server would."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note when the connection came, and give it a thread."""
        with self._lock:
            self._open[request] = monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off what has had its time; its thread then ends with an error of the socket."""
        self._cut_off(before=monotonic() - self._patience_s)

    def close(self) -> None:
        """Close the port and every connection."""
        self.server_close()
        self._cut_off(before=float("inf"))

    def _cut_off(self, before: float) -> None:
        with self._lock:
            late = [request for request, since in self._open.items() if since <= before]
        for request in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed meanwhile
                log.debug("a connection was gone before it was cut off")

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - http.server's
        """Name the error only (http.server would print its traceback); clients may go away."""
        kind = sys.exc_info()[0] or Exception
        level = logging.DEBUG if issubclass(kind, OSError) else logging.ERROR
        log.log(level, "a connection to the ops port broke off", extra={"error": kind.__name__})


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "moderation-worker"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, with the body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer, without the body."""
        self._answer(body=False)

    def do_POST(self) -> None:
        """Answer a form."""
        path = self.path.split("?", 1)[0]
        if self.server.hook is None or path in self.server.routes:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > LONGEST_FORM:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._ask(self.server.hook, path, self.rfile.read(int(length)))

    def _ask(self, hook: Hook, path: str, form: bytes, *, body: bool = True) -> None:
        try:
            status, text = hook(path, form)
        except Exception as error:  # noqa: BLE001 - whoever asks must get an answer
            log.error("a hook failed", extra={"error": type(error).__name__})  # noqa: TRY400 - it may show a name
            status, text = HTTPStatus.INTERNAL_SERVER_ERROR, "failed"
        content = f"{text}\n".encode()
        self._send(status, _PLAIN, content if body else b"", len(content))

    def _answer(self, *, body: bool) -> None:
        path, _, query = self.path.partition("?")
        route = self.server.routes.get(path)
        if route is None and self.server.hook is not None:
            self._ask(self.server.hook, path, query.encode("ascii", "replace"), body=body)
            return
        if route is None:
            status, content_type, content = HTTPStatus.NOT_FOUND, _PLAIN, b"not found\n"
        else:
            try:
                status, content_type, content = route(self.headers.get("Accept", ""))
            except Exception as error:  # noqa: BLE001 - a broken gauge must not look like a healthy worker
                log.error(  # noqa: TRY400 - the text may show anything
                    "an ops page failed", extra={"page": self.path, "error": type(error).__name__}
                )
                status, content_type, content = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b"failed\n"
        self._send(status, content_type, content if body else b"", len(content))

    def _send(self, status: HTTPStatus, content_type: str, content: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - http.server's
        """Answer what http.server could not read, or has no method for (405), in plain text."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED
        status = HTTPStatus(code)
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD" if self.server.hook is None else "GET, HEAD, POST")
        text = f"{status.phrase.lower()}\n".encode()
        self.send_header("Content-Type", _PLAIN)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Keep probes out of the log."""


def _why(error: OSError, section: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; choose another ({section}.port), or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"not allowed; choose a port from 1024 up ({section}.port)"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"not an address of this machine ({section}.host)"
    return error.strerror or type(error).__name__
