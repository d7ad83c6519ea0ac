"""The simulators' tests, with a clock of their own."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import httpx
import pytest

MISSING = [name for name in ("aiohttp", "confluent_kafka") if find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING and os.environ.get("MW_NO_SKIP") != "1" else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if collect_ignore_glob:
        terminalreporter.write_line(f"tests/sandbox was left out: it needs {', '.join(MISSING)}")


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client
