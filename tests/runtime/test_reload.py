"""What becomes of a configuration file that changes while the worker runs."""

import logging
from pathlib import Path

import pytest

from worker.core.guard import GuardLedger
from worker.core.policy import Guard
from worker.runtime.messages import PolicyChanged
from worker.runtime.reload import Reload
from worker.settings import load

CONFIG = """
kafka: {bootstrap_servers: ["127.0.0.1:1"], instance_id: w1}
accounts: {dry: {vendor: memory}}
routes: [{targets: [{account: dry, app: live, stream: "{stream.name}"}]}]
policy:
  version: "1"
  rules: [{name: spam, when: {category: spam}, then: {action: cut}}]
"""


class Watched:
    """A file, and what its watcher has said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(CONFIG, "utf-8")
        self.said: list[PolicyChanged | str] = []
        self.reload = Reload(str(path), load(str(path)), self.said.append, self.said.append)

    def becomes(self, text: str) -> list[PolicyChanged | str]:
        """Replace the file, look twice, and return what was said."""
        self.said.clear()
        draft = self.path.with_suffix(".new")
        draft.write_text(text, "utf-8")
        draft.replace(self.path)
        self.reload.look()
        self.reload.look()
        return self.said


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "config.yaml")


def test_a_changed_policy_is_taken_whole(watched: Watched) -> None:
    assert watched.becomes(CONFIG) == []
    changed = CONFIG.replace('"1"', '"2"').replace("action: cut", "action: forbid, for: 10m")

    message, word = watched.becomes(changed)

    assert isinstance(message, PolicyChanged)
    assert (message.policy.version, message.policy.rules[0].then.action, word) == ("2", "forbid", "ok")
    assert [target.app for target in message.routes.resolve("a/b", None)] == ["live"]
    assert watched.becomes(changed + "# a remark\n") == []


def test_changed_routes_are_taken_too(watched: Watched) -> None:
    message, word = watched.becomes(CONFIG.replace("app: live", "app: stage"))
    assert isinstance(message, PolicyChanged)
    assert [target.app for target in message.routes.resolve("a/b", None)] == ["stage"]
    assert word == "ok"


def test_a_bad_file_leaves_the_policy_and_is_said_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    bad = CONFIG.replace("action: cut", "action: forbid, for: soon").replace("version", "vershun")

    assert watched.becomes(bad) == ["refused"]

    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "policy 1 stays in force: policy.vershun: unknown key" in line.getMessage()
    assert 'policy.rules[0].then.for: "soon" is not a duration' in line.getMessage()
    assert watched.becomes(bad + "\n") == ["refused"]
    assert watched.becomes(CONFIG) == []  # as it was all the time


def test_a_file_that_is_gone_leaves_the_policy(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.path.unlink()
    watched.reload.look()
    watched.reload.look()
    assert watched.said == ["refused"]
    assert "cannot be read" in caplog.text
    assert watched.becomes(CONFIG) == []


def test_what_needs_a_restart_is_named(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    changed = CONFIG.replace("instance_id: w1", "instance_id: w2").replace("dry:", "dry2:")
    assert watched.becomes(changed.replace("account: dry", "account: dry2")) == ["refused"]
    assert "routes: dry2 is no account of the running worker: restart it" in caplog.text

    caplog.clear()
    message, _ = watched.becomes(CONFIG.replace("instance_id: w1", "instance_id: w2").replace('"1"', '"3"'))
    assert isinstance(message, PolicyChanged)
    assert "kafka will count after a restart" in caplog.text


def test_a_guard_that_keeps_its_name_keeps_its_count() -> None:
    from tests.core.machine import MINUTE, Machine  # noqa: PLC0415 - a hold is made by a machine

    one = Machine()
    one.verdict("violence")
    assert one.last is not None
    ((account, hold),) = one.last.placed
    guards = [Guard(name, 1, MINUTE, "account", ("forbid",)) for name in ("a", "b")]
    ledger = GuardLedger(guards)
    ledger.hold(0, 1, {})
    ledger.count(0, [(account, hold)])
    assert ledger.parks(account, hold) == "a"

    ledger.change([Guard("a", 2, MINUTE, "account", ("forbid",)), guards[1]])
    assert ledger.parks(account, hold) == "b"
    ledger.change([])
    ledger.change(guards[1:])
    assert ledger.parks(account, hold) is None
