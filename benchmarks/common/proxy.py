"""A TCP proxy of our own, to make a broker slow or its connections break: it delays, cuts and half-closes."""

import contextlib
import socket
import threading
import time
from typing import Self

CHUNK = 65_536


class Proxy:
    """Forwards what comes to one address to another, on loopback. ``delay_s`` may be set at any time.

    A context manager: at its end every connection is cut.
    """

    def __init__(self, listen: str, to: str) -> None:
        host, port = listen.split(":")
        self._to = to
        self.delay_s = 0.0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._server = socket.create_server((host, int(port)))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection at once, at both sides."""
        self._end(socket.SHUT_RDWR)

    def half_close(self) -> None:
        """Say on every connection that the broker will send no more; what the client says still arrives."""
        self._end(socket.SHUT_WR)

    def _end(self, how: int) -> None:
        for client, broker in list(self._pairs):
            with contextlib.suppress(OSError):
                client.shutdown(how)
            if how == socket.SHUT_RDWR:
                with contextlib.suppress(OSError):
                    broker.shutdown(how)

    def _accept(self) -> None:
        host, port = self._to.split(":")
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((host, int(port)), timeout=5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            pair = (client, broker)
            self._pairs.add(pair)
            for source, sink in (pair, (broker, client)):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                time.sleep(self.delay_s)
                sink.sendall(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if pair in self._pairs and source is pair[1]:
            self._pairs.discard(pair)
            for each in pair:
                each.close()
