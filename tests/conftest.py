"""Which tiers run. ``MW_NO_SKIP=1`` (set by .ci/run) turns every missing tool into a failure."""

import os
import shutil
from importlib.util import find_spec

import pytest

MISSING = {
    "kafka": lambda: [tool for tool in ("java", "mvn") if shutil.which(tool) is None],
    "sandbox": lambda: [name for name in ("confluent_kafka", "aiohttp", "rich") if find_spec(name) is None],
    "chart": lambda: [name for name in ("helm_sdk", "kubernetes_validate") if find_spec(name) is None],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a tier whose tools are missing, unless nothing may be skipped."""
    if os.environ.get("MW_NO_SKIP") == "1":
        return
    for tier, missing in MISSING.items():
        names = missing()
        if names:
            skip = pytest.mark.skip(reason=f"the {tier} tier needs {', '.join(names)}")
            for item in items:
                if item.get_closest_marker(tier):
                    item.add_marker(skip)
