"""The demo as its user runs it: it ends well, leaves what it says, and what it says is so."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.playing import wait_for
from worker.sandbox.process import ROOT
from worker.sandbox.summary import once, percentile, to_action

pytestmark = pytest.mark.sandbox

DEMO = [sys.executable, "-m", "worker", "demo"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(text: str, title: str) -> list[list[str]]:
    """The rows of a table of the demo's output."""
    found = []
    for line in text.partition(title)[2].splitlines():
        if line.startswith("│"):
            found.append([cell.strip() for cell in line.strip("│").split("│")])
        elif line.startswith("└"):
            break
    return found


def test_the_demo_ends_with_0_and_its_numbers_are_those_of_the_files_it_leaves(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own program
        DEMO,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began < 90
    assert done.stderr == ""
    assert "The books balance" in done.stdout
    (folder,) = tmp_path.glob("moderation-demo-*")
    assert str(folder) in done.stdout
    results = once(lines(folder / "results.jsonl"))
    told = Counter(
        (
            f"{one['outcome']} {one['error']['class'] if one['error'] else ''}".strip(),
            "terminal" if one["terminal"] else "on the way",
        )
        for one in results
    )
    shown = {(outcome, kind): int(number) for outcome, kind, number in rows(done.stdout, "Results")}
    assert shown == told
    assert shown["verified", "terminal"] > 50
    calls = Counter((call["vendor"], call["operation"]) for call in lines(folder / "vendor-calls.jsonl"))
    seen = rows(done.stdout, "Calls the vendors saw")
    assert {(vendor, operation): int(number) for vendor, operation, number, _ in seen} == calls
    assert sum(int(spoiled or 0) for *_, spoiled in seen) > 0
    stats = json.loads((folder / "vendor-stats.json").read_text("utf-8"))
    used = {
        (vendor, window["quota"], f"{window['max_used']} of {window['limit']}")
        for vendor, counted in stats.items()
        for window in counted["quotas"]
    }
    quotas = rows(done.stdout, "Quotas, as the vendors counted")
    assert {(vendor, quota, text.partition(" in ")[0]) for vendor, quota, text, _ in quotas} == used
    lengths = to_action(results)
    (acted, _) = rows(done.stdout, "From the moment a violation was seen")
    assert acted[1:] == [
        *(f"{percentile(lengths, share)} ms" for share in (0.5, 0.95, 0.99)),
        str(len(lengths)),
    ]
    letters = re.search(r"Dead letters: (\d+)", done.stdout)
    assert letters
    assert int(letters[1]) == len(lines(folder / "dead-letters.jsonl")) > 0
    plan = [*DEMO[:-1], "plan", "--config", str(folder / "w1.yaml"), str(folder / "verdicts.jsonl"), "--json"]
    planned = subprocess.run(plan, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)  # noqa: S603 - our own program
    assert {one["verdict_id"] for one in json.loads(planned.stdout)} == {
        verdict["verdict_id"] for verdict in lines(folder / "verdicts.jsonl")
    }


def children(pid: int) -> set[int]:
    """All processes below one, as the kernel lists them."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children(child)
    return found


def test_an_interrupted_demo_ends_with_130_and_leaves_no_process_behind(tmp_path: Path) -> None:
    # A shell's background jobs, and all they start, ignore the signal.
    command = ["env", "--default-signal=INT", *DEMO]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as demo:
        assert demo.stdout is not None
        while "sent:" not in demo.stdout.readline():
            assert demo.poll() is None
        below = children(demo.pid)
        assert len(below) >= 3, "broker, simulators and worker"
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(timeout=30) == 130
    assert "Interrupted" in rest
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 10, "every process is gone")
