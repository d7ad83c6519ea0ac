"""A worker with nothing to do: it ends when asked to, and costs next to nothing until then."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kafka import play
from worker.sandbox.stage import Stage

pytestmark = pytest.mark.kafka
log = logging.getLogger(__name__)


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time a process has taken, of all its threads; None once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    if fields[0] == "Z":
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_worker_ends_with_0_and_hardly_costs_anything(stage: Callable[..., Stage]) -> None:
    worker = stage().start_worker(until_idle=5)
    play.ready(worker)
    time.sleep(0.5)
    began, first = time.monotonic(), cpu_seconds(worker.pid)
    assert first is not None
    time.sleep(3.5)
    last, idle = cpu_seconds(worker.pid), time.monotonic() - began
    assert last is not None
    share = (last - first) / idle
    log.info("%.1f %% of a core over %.1f idle seconds", 100 * share, idle)
    assert share < 0.2
    assert worker.wait(20) == 0
    assert not play.complaints(worker)
