"""A real Redis, from Debian's package: started on a free port, killed, frozen and started again."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka.apache import free_port


class RedisServer:
    """A server in a folder of its own. ``keeps``: its data survives a restart."""

    def __init__(self, folder: Path, *, keeps: bool = False, password: str | None = None) -> None:
        self.port = free_port()
        self._folder, self._keeps, self._password = folder, keeps, password
        self.start()

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        options += ["--appendonly", "yes" if self._keeps else "no", "--appendfsync", "always"]
        if self._password:
            options += ["--requirepass", self._password]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *options], stdout=log)  # noqa: S603, S607 - Debian's
        until = time.monotonic() + 20
        while not self._listens():
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
            probe.sendall(b"PING\r\n")
            return not probe.recv(64).startswith(b"-LOADING")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
