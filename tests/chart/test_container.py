"""The image: its recipe is clean, it copies what is there, and the chart and it agree."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.rendering import container, render

pytestmark = pytest.mark.chart

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RUNTIME = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def hadolint(text: str) -> str:
    """Return what hadolint says about a Dockerfile; nothing when it is content."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program
    words = [program, "--no-color", "--failure-threshold", "style", "-"]
    run = subprocess.run(words, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    assert (run.returncode == 0) == (run.stdout == "")
    return run.stdout


def test_hadolint_finds_nothing() -> None:
    assert hadolint(DOCKERFILE) == ""
    assert "DL3007" in hadolint(
        DOCKERFILE.replace("ARG BASE=python:3.13-slim", "").replace("${BASE}", "python:latest")
    )


def instruction(name: str) -> str:
    """Return the one instruction of that name in the stage that runs."""
    (found,) = re.findall(rf"^{name} (.+)$", RUNTIME, re.MULTILINE)
    return str(found)


def test_it_starts_the_worker_itself_and_stops_it_softly() -> None:
    assert instruction("ENTRYPOINT") == '["moderation-worker"]'
    assert instruction("CMD") == '["run"]'
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_chart_and_the_image_agree() -> None:
    manifests = render({})
    user = manifests["StatefulSet"]["spec"]["template"]["spec"]["securityContext"]
    assert instruction("USER") == f"{user['runAsUser']}:{user['runAsGroup']}" == "10001:10001"
    worker = container(manifests)
    assert [instruction("EXPOSE")] == [str(port["containerPort"]) for port in worker["ports"]]
    (file,) = re.findall(r"MODERATION_WORKER_CONFIG=(\S+)", RUNTIME)
    assert {"name": "MODERATION_WORKER_CONFIG", "value": file} in worker["env"]
    assert worker["args"] == ["run", "--config", file]


def test_what_it_copies_is_let_through_and_nothing_else() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    missing = [source for source in sorted(copied) if not (ROOT / source).exists()]
    assert missing == []
