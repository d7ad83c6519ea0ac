"""How a stream's history reads: in its order, with what each request was for and what came of it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.core.machine import NOW, POLICY, SECOND
from tests.e2e.kafka import tour
from worker.commands.parts.explaining import Entry, Explained, event_entry, result_entry, with_looks
from worker.commands.parts.story import as_text
from worker.commands.parts.waiting import Lines
from worker.core.state import StreamState
from worker.events.incoming import Verdict
from worker.events.times import format_rfc3339

TARGET = {"account": "hw", "vendor": "huawei", "push_domain": "push.example", "app": "live", "stream": "a"}


def tried(n: int, operation: str, at: int, **more: Any) -> dict[str, Any]:
    return {"n": n, "operation": operation, "at": format_rfc3339(at), "duration_ms": 7, **more}


def told(outcome: str, at: int, *attempts: Mapping[str, Any], **more: Any) -> Entry:
    return result_entry(
        {
            "verdict_id": "v",
            "outcome": outcome,
            "target": TARGET,
            "action": "cut",
            "attempts": attempts,
            "detail": "it is so",
            "rule": "spam",
            "policy_version": "p1",
            "at": format_rfc3339(at),
            **more,
        }
    )


def lines(*history: Entry) -> list[str]:
    text = as_text(Explained("k", None, (), (), (), history), NOW, Lines(None))
    return [line.strip() for line in text[text.index("What happened") :].splitlines()[2:]]


def test_a_request_stands_where_it_was_made_and_once() -> None:
    lost = tried(1, "block_once", NOW, outcome="unknown", duration_ms=1000)
    asked = tried(2, "list_online", NOW + 2 * SECOND, outcome="observed", http_status=200)
    story = lines(
        told("applied", NOW + 3 * SECOND, lost, asked),
        told("verified", NOW + 4 * SECOND, lost, asked),
        Entry(NOW + SECOND, "verdict", {"verdict_id": "w", "category": "spam"}),
    )
    assert [line[14:] if line[2] == ":" else line for line in story] == [
        "hw: block_once (cut) -> unknown: no answer after 1000 ms, it may have happened",
        "verdict w (spam, machine)",
        "hw: list_online (question whether it is live) -> 200 observed in 7 ms",
        "hw: v applied cut",
        "It is so (rule spam, policy p1)",
        "hw: v verified cut",
        "It is so (rule spam, policy p1)",
    ]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"outcome": "refused", "http_status": 400, "vendor_code": "X.1"}, "400 X.1 refused in 7 ms"),
        ({"outcome": "unreachable"}, "unreachable: nothing was sent"),
        ({"outcome": "unreachable", "http_status": 503}, "503 unreachable in 7 ms"),
        ({"outcome": "unknown", "http_status": 502}, "502 unknown in 7 ms"),
        ({"outcome": "unknown", "duration_ms": None}, "unknown: no answer, it may have happened"),
    ],
)
def test_what_came_of_a_request(about: Mapping[str, Any], said: str) -> None:
    story = lines(told("applied", NOW, {**tried(1, "block", NOW), **about}))
    assert story[0].endswith(f"hw: block (ban) -> {said}")


def test_a_vendor_that_is_not_installed_here_still_has_its_requests_told() -> None:
    gone = {**TARGET, "vendor": "gone"}
    story = lines(told("applied", NOW, tried(1, "stop", NOW, outcome="done", http_status=200), target=gone))
    assert story[0].endswith("hw: stop -> 200 done in 7 ms")


@pytest.mark.parametrize(
    ("result", "met"),
    [
        ({"outcome": "applied"}, True),
        ({"outcome": "no_action", "rule": None}, True),
        ({"outcome": "stale", "rule": None}, False),
        ({"outcome": "wrong_session", "rule": None}, False),
        ({"outcome": "applied", "policy_version": "older"}, False),
        (None, False),
    ],
)
def test_only_a_verdict_that_was_decided_has_met_rules(result: Mapping[str, Any] | None, met: bool) -> None:
    data = {
        "verdict_id": "v",
        "stream": {"key": "k"},
        "detected_at": "2026-11-22T10:05:00Z",
        "category": "spam",
        "severity": "high",
    }
    verdict = Verdict.model_validate(data)
    entries = [event_entry(verdict, data, NOW)]
    entries += [told(**{"at": NOW, **result})] if result is not None else []
    first, *_ = with_looks(entries, StreamState("k"), POLICY, {"v": verdict})
    assert (first.looked_at is not None) is met


def test_the_tour_notices_a_story_that_goes_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, config = tmp_path / "tour.md", tmp_path / "w1.yaml"
    shown = "  AV9eUo-G1S3J at hw: forbid until 2026-11-26T07:09:08.735Z\n  07:00:09.293  forbid in 3 ms"
    page.write_text(f"<!-- story: one -->\n```text\n{shown}\n```\n", "utf-8")
    monkeypatch.setattr(tour, "PAGE", page)
    monkeypatch.setattr(tour, "WRITES", False)
    again = "  silV1bW2LQj2 at hw: forbid until 2027-01-01T00:00:00Z\n  01:00:00.1  forbid in 14 ms\n"
    tour.shows("one", lambda: again, config)
    for other in (again.replace("hw", "ali"), again.replace("forbid in", "block in"), again * 2):
        with pytest.raises(AssertionError, match="MW_TOUR=write"):
            tour.shows("one", partial(str, other), config, timeout_s=0)
    with pytest.raises(AssertionError, match="no place"):
        tour.shows("two", lambda: again, config)
    monkeypatch.setattr(tour, "WRITES", True)
    tour.shows("one", lambda: f"--config {config}", config)
    assert page.read_text("utf-8") == "<!-- story: one -->\n```text\n--config config.yaml\n```\n"
