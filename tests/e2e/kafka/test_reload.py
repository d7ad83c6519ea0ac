"""A running worker follows its configuration file, and a bad one changes nothing."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import answered
from tests.e2e.playing import verdict, wait_for
from worker.sandbox.stage import Stage
from worker.sandbox.worker_process import WorkerProcess

pytestmark = pytest.mark.kafka


def swap(link: Path, text: str) -> None:
    """Replace what a link leads to, as Kubernetes replaces a mounted file."""
    target = link.with_name(f"version-{len(list(link.parent.glob('version-*')))}")
    target.write_text(text, "utf-8")
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


def reloads(worker: WorkerProcess) -> tuple[float, float]:
    name = "moderation_policy_reloads_total"
    return worker.metrics(name, result="ok"), worker.metrics(name, result="refused")


def decided(theatre: Stage, name: str) -> Mapping[str, Any]:
    theatre.produce([verdict(name, f"hw/{name}", "violence")])
    wait_for(lambda: answered(theatre, name), 20, "the verdict is carried out")
    (result,) = answered(theatre, name)
    return result


def test_policy_is_reloaded_without_a_restart(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes={"policy": {"verify": "off"}})
    config = theatre.configuration()
    text = config.read_text("utf-8")
    swap(config, text)
    with WorkerProcess(config, theatre.folder / "w1.log") as worker:
        play.ready(worker)
        first = decided(theatre, "v-1")
        assert (first["action"], first["policy_version"]) == ("forbid", "sandbox-1")

        swap(config, text.replace("sandbox-1", "sandbox-2").replace("name: violence", "name: gentle"))
        wait_for(lambda: reloads(worker) == (1, 0), 20, "the file is read again by itself")
        second = decided(theatre, "v-2")
        assert (second["rule"], second["policy_version"]) == ("gentle", "sandbox-2")

        swap(config, text.replace("for: 1h", "for: soon"))
        os.kill(worker.pid, signal.SIGHUP)
        wait_for(lambda: reloads(worker) == (1, 1), 20, "a bad file is refused")
        third = decided(theatre, "v-3")
        assert (third["rule"], third["policy_version"]) == ("gentle", "sandbox-2")

        worker.terminate()
        assert worker.wait(30) == 0
        (complaint,) = play.complaints(worker)
        assert "policy sandbox-2 stays in force" in complaint["message"]
        assert 'then.for: "soon" is not a duration' in complaint["message"]
