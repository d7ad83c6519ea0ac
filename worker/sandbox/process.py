"""Parts of the sandbox as processes of their own, which never outlive the one that started them."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]


class ChildProcess:
    """A module of this package in a process; ``greeting`` is the first line it prints, once it is ready.

    The process ends when its standard input closes, so also when this one is killed. Raises
    RuntimeError if it ends before its greeting. Usable as a context manager.
    """

    def __init__(self, module: str, arguments: Iterable[str] = ()) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        self.greeting = self._process.stdout.readline().strip()
        if not self.greeting:
            self.stop()
            raise RuntimeError(f"{module} ended with {self._process.returncode} before it was ready")

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def stop(self) -> None:
        """End the process: by closing its input, and by force after ten seconds. May be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class SimulatorProcess(ChildProcess):
    """Simulators of some vendors in one process; ``urls`` has the base URL of each.

    ``config`` is a file of constructor arguments, ``script`` one of fault rules, ``log`` gets a line for
    each request; see ``python -m worker.sandbox.simulators --help``.
    """

    def __init__(
        self,
        vendors: Iterable[str],
        *,
        config: Path | None = None,
        script: Path | None = None,
        log: Path | None = None,
    ) -> None:
        arguments = ["--until-stdin-closes"]
        for vendor in vendors:
            arguments += ["--vendor", vendor]
        for name, path in (("--config", config), ("--script", script), ("--log", log)):
            if path is not None:
                arguments += [name, str(path.resolve())]
        super().__init__("worker.sandbox.simulators", arguments)
        self.urls: dict[str, str] = json.loads(self.greeting)


def serve_until_end(greeting: str, port_file: Path | None, *, watch_stdin: bool) -> None:
    """Say that a child is ready, on standard output and in a file that appears complete, and wait.

    Returns on SIGTERM or SIGINT, or (``watch_stdin``) when standard input closes or the parent dies.
    """
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _: ended.append(signum))
    parent = os.getppid()
    if port_file is not None:
        draft = port_file.with_name(f"{port_file.name}.{os.getpid()}")
        draft.write_text(f"{greeting}\n", encoding="utf-8")
        draft.replace(port_file)
    sys.stdout.write(f"{greeting}\n")
    sys.stdout.flush()
    while not ended:
        readable, _, _ = select.select([0] if watch_stdin else [], [], [], 0.2)
        if watch_stdin and ((readable and not os.read(0, 65_536)) or os.getppid() != parent):
            return
