"""A vendor outside the tree: the example's wheel is built, installed elsewhere, found and used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/vendor-ovenmedia"
CONFIG = """
kafka: {bootstrap_servers: ["127.0.0.1:9092"], instance_id: w1}
accounts:
  ome: {vendor: ovenmedia, access_token: "${OME_TOKEN}", endpoint: "https://media.example:8081"}
policy:
  version: "1"
  rules:
    - {name: any, when: {category: nudity}, then: {action: cut}}
"""


def run(*words: str | Path, path: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module elsewhere than in the tree, with some folders of modules beside it."""
    folders = os.pathsep.join(map(str, filter(None, (path, ROOT))))
    environ = {**os.environ, "PYTHONPATH": folders, "PIP_NO_INDEX": "1", **more}
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)  # noqa: S603 - fixed words


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example's wheel, install it into a folder, and return that."""
    folder = tmp_path_factory.mktemp("outside")
    wheels, target = folder / "wheels", folder / "target"
    pip = ("pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, EXAMPLE)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.iterdir()
    done = run(*pip, "install", "--no-deps", "--target", target, wheel)
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_carries_what_the_vendor_is_described_by(installed: Path) -> None:
    assert (installed / "moderation_worker_ovenmedia/vendor.toml").exists()


def test_it_is_listed_and_shown(installed: Path) -> None:
    listed = run("worker", "vendors", path=installed)
    assert "ovenmedia" in [line.split()[0] for line in listed.stdout.splitlines()], listed.stderr
    shown = run("worker", "vendors", "ovenmedia", path=installed)
    assert shown.returncode == 0, shown.stderr
    for part in (
        "access_token",
        "required, secret",
        "delete_stream",
        "cut",
        "https://docs.ovenmediaengine.com/",
    ):
        assert part in shown.stdout
    assert run("worker", "vendors", "ovenmedia").returncode == 2, "it is there without being installed"


def test_an_account_of_it_is_checked(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    checked = run("worker", "check", "--config", config, path=installed, OME_TOKEN="t0ken")
    assert (checked.returncode, checked.stderr) == (0, "")
    config.write_text(CONFIG.replace('access_token: "${OME_TOKEN}", ', ""))
    refused = run("worker", "check", "--config", config, path=installed)
    assert refused.returncode == 2
    assert "access_token" in refused.stderr


def test_its_own_tests_pass(installed: Path) -> None:
    words = ("pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", EXAMPLE)
    tested = run(*words, EXAMPLE / "tests", path=installed)
    assert tested.returncode == 0, tested.stdout
