"""What the machine runs out of costs no verdict."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.playing import BRISK, outcomes, verdict, wait_for
from tests.kafka.apache import free_port
from worker.sandbox.process import ROOT
from worker.sandbox.stage import Stage

pytestmark = pytest.mark.sandbox


def test_a_disk_that_is_full_for_logs(make_stage: Callable[..., Stage]) -> None:
    """The worker goes on when nothing that it logs can be written."""
    port = free_port()
    stage = make_stage(changes={**BRISK, "ops": {"port": port}})
    command = [sys.executable, "-m", "worker", "run", "--config", str(stage.configuration())]
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stderr=full, cwd=ROOT) as worker:  # noqa: S603 - our own program
        try:
            wait_for(lambda: _ready(port), 60, "the worker is ready")
            stage.produce([verdict("v-1", "hw/room-1")])
            wait_for(
                lambda: "verified*" in outcomes(stage.results(), "v-1"), 60, "the verdict is carried out"
            )
            worker.terminate()
            assert worker.wait(40) == 0
        finally:
            worker.kill()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
