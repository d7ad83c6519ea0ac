"""The real worker (or gate) as a process: ``python -m worker run``, its log in a file, its ops port found."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from worker.sandbox.process import ROOT

STARTS_WITHIN_S = 120.0
"""Long: on a machine that is busy with brokers and replicas a start may take most of a minute."""


class WorkerProcess:
    """A worker that has started. Raises RuntimeError, with the end of its log, if it does not start.

    ``program`` is what Python runs: the worker, or a module that changes it first.
    ``log`` is a file its standard error is appended to. Usable as a context manager, which kills it if it
    still runs: call ``wait`` before the end to let it finish. ``command`` may be ``gate``.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        *,
        until_idle: float | None = None,
        command: str = "run",
        program: Sequence[str] = ("-m", "worker"),
    ) -> None:
        words = [sys.executable, *program, command, "--config", str(config)]
        if until_idle is not None:
            words += ["--until-idle", f"{until_idle:g}"]
        self._log = log
        self._log_from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, by our own interpreter
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=ROOT,
                start_new_session=True,  # an interrupt at the terminal is ours to pass on
            )
        try:
            self.ops_url = f"http://127.0.0.1:{self._find_ops_port()}"
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def log_text(self) -> str:
        """Return what this process has logged so far."""
        with self._log.open("rb") as lines:
            lines.seek(self._log_from)
            return lines.read().decode("utf-8", "replace")

    def terminate(self) -> None:
        """Ask it to drain and end (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it without a word, as a crash would, and wait until it is gone. Harmless if it has ended."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float) -> int:
        """Return its exit code once it has ended. Raises TimeoutError."""
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the worker still runs after {timeout_s:g} s") from None

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of the ops port. Raises httpx.TransportError if it is closed."""
        answer = httpx.get(f"{self.ops_url}{path}", timeout=5, trust_env=False)
        return answer.status_code, answer.text

    def metrics(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples (``moderation_…``, as exposed) that have these labels."""
        samples = (
            sample
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        )
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _find_ops_port(self) -> int:
        until = time.monotonic() + STARTS_WITHIN_S
        while self.running and time.monotonic() < until:
            for line in self._log_lines():
                if isinstance(port := line.get("ops_port"), int):
                    return port
            time.sleep(0.02)
        code = self._process.poll()
        what = "has not started in time" if code is None else f"ended with {code} before it had started"
        raise RuntimeError(f"the worker {what}:\n{self.log_text()[-2000:]}")

    def _log_lines(self) -> Iterator[dict[str, object]]:
        for line in self.log_text().splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # half a line, or a mistake in the configuration
                continue
            if isinstance(found, dict):
                yield found
