"""What another policy would have done differently, told from verdicts alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_reasons import AT, verdict
from worker.commands.parts.backtesting import Backtest, Comparison, as_json, as_text
from worker.events.codec import Decoded, Invalid
from worker.events.times import format_rfc3339
from worker.settings import Settings, load, load_policy
from worker.settings_file import ConfigError

CONFIG = """
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
accounts: {dry: {vendor: memory}, other: {vendor: memory}}
routes: [{targets: [{account: dry, app: live, stream: "{stream.name}"}]}]
"""
OLD = """
policy:
  version: old
  rules:
    - {name: nudity, when: {category: nudity}, then: {action: forbid, for: 10m}}
    - {name: asked, when: {category: asked}, then: {action: forbid, for: requested, max: 1h}}
    - {name: spam, when: {category: spam}, then: {action: cut}}
"""


@pytest.fixture
def before(tmp_path: Path) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG + OLD, "utf-8")
    return load(str(path))


def other(before: Settings, tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "new.yaml"
    path.write_text(text, "utf-8")
    return load_policy(str(path), before)


def compare(before: Settings, after: Settings, *given: dict[str, Any], **options: bool) -> Backtest:
    comparison = Comparison(before, after, **options)
    for number, fields in enumerate(given):
        data = {"verdict_id": f"v-{number}", "detected_at": format_rfc3339(AT), **fields}
        comparison.take(Decoded(verdict(**data), "acme/room", None), AT + number)
    return comparison.finish()


def changes(found: Backtest) -> list[tuple[int, str, str]]:
    return [(change.count, str(change.before), str(change.after)) for change in found.changes]


def test_what_would_be_done_otherwise_is_counted_by_what_and_why(before: Settings, tmp_path: Path) -> None:
    new = OLD.replace("old", "new").replace("for: 10m", "for: 1h").replace("max: 1h", "max: 2h")
    after = other(
        before,
        tmp_path,
        new.replace("{name: spam, when: {category: spam}", "{name: junk, when: {category: s}"),
    )
    asks = [{"category": "asked", "requested": {"for_s": seconds}} for seconds in (60, 4000, 5000)]

    found = compare(before, after, {}, {}, {"category": "spam"}, {"category": "calm"}, *asks)

    assert (found.policy_before, found.policy_after) == ("old", "new")
    assert (found.verdicts, found.same, found.different) == (7, 2, 5)
    assert (found.since, found.until) == (AT, AT + 6)
    assert changes(found) == [
        (2, "forbid 10m (nudity)", "forbid 1h (nudity)"),
        (2, "forbid at most 1h (asked)", "forbid at most 2h (asked)"),
        (1, "cut (spam)", "no_action"),
    ]
    assert [example.verdict_id for example in found.changes[0].examples] == ["v-0", "v-1"]


def test_another_rule_that_does_the_same_makes_no_difference(before: Settings, tmp_path: Path) -> None:
    after = other(before, tmp_path, OLD.replace("name: nudity", "name: bare"))
    assert changes(compare(before, after, {}, {})) == []


def test_other_routes_and_priorities_make_a_difference(before: Settings, tmp_path: Path) -> None:
    routes = CONFIG[CONFIG.index("routes") :].replace("account: dry", "account: other")
    assert changes(compare(before, other(before, tmp_path, routes + OLD), {})) == [
        (1, "forbid 10m (nudity)", "not_reached"),
        (1, "not_reached", "forbid 10m (nudity)"),
    ]
    urgent = OLD.replace("for: 10m", "for: 10m, priority: critical")
    (change,) = compare(before, other(before, tmp_path, urgent), {}).changes
    assert (change.before.priority, change.after.priority) == ("high", "critical")


def test_what_is_no_decision_is_left_out_and_said(before: Settings) -> None:
    comparison = Comparison(before, before)
    once = Decoded(verdict(detected_at=format_rfc3339(AT)), "acme/room", None)
    for each in (once, once, Invalid("json", "x"), Decoded(verdict(verdict_id="w", kind="clear"), "k", None)):
        comparison.take(each, AT)
    found = comparison.finish()
    assert (found.verdicts, found.repeated, found.takes_back, found.unreadable) == (1, 1, 1, 1)
    assert "left out: 1 sent again, 1 clears and withdrawals, 1 unreadable" in as_text(found)


def test_streams_are_named_only_when_asked_for(before: Settings, tmp_path: Path) -> None:
    after = other(before, tmp_path, OLD.replace("for: 10m", "for: 1h"))
    for show in (False, True):
        found = compare(before, after, {}, show_streams=show)
        assert ("acme/room" in as_text(found)) is show
        assert ("acme/room" in as_json(found)) is show
        (change,) = json.loads(as_json(found))["changes"]
        assert (change["before"]["length"], change["after"]["length"]) == ("10m", "1h")


def test_the_other_policy_may_be_a_whole_configuration_or_wrong(before: Settings, tmp_path: Path) -> None:
    assert other(before, tmp_path, CONFIG + OLD.replace("old", "x")).policy.version == "x"
    assert other(before, tmp_path, OLD) == replace(before, policy=before.policy)
    with pytest.raises(ConfigError, match=r'then\.for: "soon" is not a duration'):
        other(before, tmp_path, OLD.replace("10m", "soon"))
    with pytest.raises(ConfigError, match="policy: is required"):
        other(before, tmp_path, "rules: []")
