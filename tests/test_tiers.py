"""The tier switch: what cannot run is skipped loudly, and never where nothing may be skipped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"
CONFIG = """
[tool.pytest.ini_options]
addopts = ["-p", "no:cacheprovider", "-ra", "--strict-markers"]
markers = ["kafka: x", "media: x", "store: x", "sandbox: x", "chart: x", "sdk: x"]
"""
WITHOUT_HELM = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "helm_python" else super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""

KAFKA = """
import pytest

@pytest.mark.kafka
def test_broker(): ...

def test_plain(): ...
"""
CHART = """
import helm_python

def test_chart(): ...
"""
MISTAKE = """
import no_such_module
"""


def run(folder: Path, test: str, *words: str, no_skip: bool = False) -> tuple[int, str]:
    """Run a test file where neither Java nor helm is; return pytest's exit code and what it said."""
    shutil.copy(CONFTEST, folder)
    (folder / "pyproject.toml").write_text(CONFIG)
    (folder / "sitecustomize.py").write_text(WITHOUT_HELM)
    (folder / "test_it.py").write_text(test)
    environ = {**os.environ, "PATH": "", "PYTHONPATH": str(folder), "MW_NO_SKIP": "1" if no_skip else ""}
    command = [sys.executable, "-m", "pytest", *words, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)  # noqa: S603 - fixed words
    return done.returncode, done.stdout + done.stderr


def test_a_tier_without_its_tools_is_skipped_and_named_at_the_end(tmp_path: Path) -> None:
    code, said = run(tmp_path, KAFKA)
    assert code == pytest.ExitCode.OK
    assert "1 passed, 1 skipped" in said
    assert "TIER SKIPPED: the kafka tier needs java, mvn" in said


def test_a_module_that_needs_the_tools_to_be_imported_is_skipped_too(tmp_path: Path) -> None:
    code, said = run(tmp_path, CHART)
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "1 skipped" in said
    assert "TIER SKIPPED: the chart tier needs helm_python" in said


def test_a_module_with_a_mistake_is_an_error(tmp_path: Path) -> None:
    code, said = run(tmp_path, MISTAKE)
    assert code == pytest.ExitCode.INTERRUPTED
    assert "No module named 'no_such_module'" in said


@pytest.mark.parametrize(
    ("test", "code", "complaint"),
    [
        (KAFKA, pytest.ExitCode.USAGE_ERROR, "the kafka tier needs java, mvn, and MW_NO_SKIP=1"),
        (CHART, pytest.ExitCode.INTERRUPTED, "No module named 'helm_python'"),
    ],
)
def test_where_nothing_may_be_skipped_a_missing_tool_ends_the_run(
    tmp_path: Path, test: str, code: int, complaint: str
) -> None:
    ended, said = run(tmp_path, test, no_skip=True)
    assert ended == code
    assert complaint in said
    assert "passed" not in said


def test_a_tier_that_was_not_asked_for_needs_no_tools(tmp_path: Path) -> None:
    code, said = run(tmp_path, KAFKA, "-m", "not kafka", no_skip=True)
    assert code == pytest.ExitCode.OK
    assert "1 passed, 1 deselected" in said
