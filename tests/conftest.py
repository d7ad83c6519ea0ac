"""Which tiers run. A tier whose tools are missing is skipped, loudly; ``MW_NO_SKIP=1`` (CI) forbids it."""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


def tools(*names: str) -> list[str]:
    """Return the programs that are neither beside this Python nor on the path."""
    here = str(Path(sys.executable).parent)
    return [name for name in names if not (shutil.which(name, path=here) or shutil.which(name))]


def modules(*names: str) -> list[str]:
    """Return the modules that are not installed."""
    return [name for name in names if find_spec(name) is None]


def files(*paths: str) -> list[str]:
    """Return the files that are not there."""
    return [path for path in paths if not Path(path).exists()]


MISSING: Mapping[str, Callable[[], list[str]]] = {
    "kafka": lambda: tools("java", "mvn"),
    "sandbox": lambda: modules("confluent_kafka", "aiohttp", "rich"),
    "media": lambda: tools("nginx", "ffmpeg") + files("/usr/lib/nginx/modules/ngx_rtmp_module.so"),
    "store": lambda: tools("redis-server") + modules("redis"),
    "chart": lambda: modules("helm_python", "kubernetes_validate") + tools("hadolint"),
    "sdk": lambda: modules("alibabacloud_live20161101", "huaweicloudsdkiam", "huaweicloudsdklive", "wangsu"),
}
WITH_PROCESSES = ("kafka", "sandbox", "media")
NO_SKIP = os.environ.get("MW_NO_SKIP") == "1"
SKIPPED = pytest.StashKey[dict[str, str]]()


def absent() -> dict[str, str]:
    """Return the tiers that cannot run here, and why."""
    missing = {tier: names() for tier, names in MISSING.items()}
    return {tier: f"the {tier} tier needs {', '.join(names)}" for tier, names in missing.items() if names}


def pytest_configure(config: pytest.Config) -> None:
    """Remember what is absent before anything is collected."""
    config.stash[SKIPPED] = absent()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that cannot even be imported without the tools of an absent tier."""
    report = yield
    if report.failed and not NO_SKIP:
        for tier, why in collector.config.stash[SKIPPED].items():
            if any(f"No module named '{name}" in report.longreprtext for name in MISSING[tier]()):
                report.outcome = "skipped"
                report.longrepr = (str(collector.path), 0, why)
                break
    return report


def _waits(test: pytest.Item) -> int:
    """Return how much a test waits rather than computes: the longest computations are 0."""
    if any(test.get_closest_marker(tier) for tier in WITH_PROCESSES):
        return 2
    return int("simulation" not in test.path.parts)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests of an absent tier, unless nothing may be skipped; put those with processes last.

    Side by side with tests that only compute, processes would wait for the processor instead of each other.
    """
    items.sort(key=_waits)
    for tier, why in config.stash[SKIPPED].items():
        tests = [item for item in items if item.get_closest_marker(tier)]
        if tests and NO_SKIP:
            raise pytest.UsageError(f"{why}, and MW_NO_SKIP=1 lets no tier be skipped")
        for test in tests:
            test.add_marker(pytest.mark.skip(reason=why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it once more where it is read: at the end."""
    for why in config.stash[SKIPPED].values():
        terminalreporter.write_line(f"TIER SKIPPED: {why}", yellow=True, bold=True)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give Apache Kafka (a ``Broker``), started once for all the tests that ask for it."""
    from tests.kafka.apache import running_broker  # noqa: PLC0415 - only where it is asked for

    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running
