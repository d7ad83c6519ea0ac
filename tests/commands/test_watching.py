"""What ``top`` shows is what the metrics and the states say."""

import json
from io import StringIO

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.core.machine import MINUTE, NOW, SECOND, Machine
from worker import vendors
from worker.commands.parts.watching import Look, View, as_json, look, samples, slowest, view
from worker.core.outcome import Unreachable
from worker.core.state import StreamState
from worker.runtime.metrics import Metrics
from worker.words import digest


class Replica:
    """A replica's metrics, and what a look at them gives."""

    def __init__(self, url: str) -> None:
        self.url, self.registry = url, CollectorRegistry()
        self.metrics = Metrics(self.registry, {"hw": vendors.load_spec("huawei")}, ["blast"], "1.2")

    def look(self, at: float) -> Look:
        return Look(self.url, at, samples(generate_latest(self.registry).decode()))


def watched() -> View:
    one, two = Replica("http://one"), Replica("http://two")
    for replica in (one, two):
        replica.metrics.results_total.labels("verified", "forbid", "huawei").inc(5)
        replica.metrics.events_consumed_total.labels("verdict").inc(5)
    before = [one.look(10.0), two.look(10.0)]
    one.metrics.events_consumed_total.labels("verdict").inc(20)
    two.metrics.events_consumed_total.labels("command").inc(4)
    two.metrics.results_total.labels("failed", "cut", "huawei").inc(2)
    one.metrics.calls_waiting.labels("hw", "high").set(3)
    two.metrics.calls_waiting.labels("hw", "high").set(4)
    one.metrics.quota_used_ratio.labels("hw", "block").set(0.5)
    two.metrics.quota_used_ratio.labels("hw", "block").set(0.99)
    two.metrics.guard_open.labels("blast").set(1)
    one.metrics.parked.labels("approval").set(2)
    two.metrics.parked.labels("approval").set(1)
    one.metrics.consumer_lag_records.labels("t", 0).set(7)
    two.metrics.consumer_lag_records.labels("t", 1).set(8)
    one.metrics.oldest_pending_seconds.set(3)
    two.metrics.oldest_pending_seconds.set(9)
    two.metrics.policy_reloads_total.labels("refused").inc()
    return view(before, [one.look(12.0), two.look(12.0), Look("http://gone", 12.0, error="refused")])


def test_counts_are_added_up_and_the_worst_ratio_stands() -> None:
    shown = watched()
    assert shown.rates == {"events": 12.0, "dead_letters": 0.0, "results": 1.0, "requests": 0.0}
    assert shown.outcomes == {
        "verified": {"total": 10, "per_s": 0.0},
        "failed": {"total": 2, "per_s": 1.0},
    }
    assert shown.waiting["hw"]["high"] == 7
    assert shown.quotas["hw/block"] == 0.99
    assert (shown.guards["blast"], shown.parked["approval"]) == (True, 3)
    assert (shown.lag, shown.oldest_pending_s, shown.refused_reloads) == (15, 9, 1)
    assert [(each["version"], each["error"]) for each in shown.replicas] == [
        ("1.2", None),
        ("1.2", None),
        (None, "refused"),
    ]


def test_a_restarted_replica_gives_no_negative_rate() -> None:
    before, after = Replica("http://one"), Replica("http://one")
    before.metrics.events_consumed_total.labels("verdict").inc(100)
    after.metrics.events_consumed_total.labels("verdict").inc(1)
    assert view([before.look(1.0)], [after.look(2.0)]).rates["events"] == 0


def test_a_replica_that_does_not_answer_is_said() -> None:
    found = look("http://127.0.0.1:1")
    assert found.error is not None
    assert "refused" in found.error


def test_the_slowest_streams_come_first_and_by_digest() -> None:
    old, young, held = Machine(), Machine(), Machine()
    old.verdict("violence")
    old.grant()
    old.answered(old.calls[0], Unreachable())
    young.now = held.now = NOW + MINUTE
    young.verdict("violence")
    held.verdict("doubtful")
    states = [state for each in (young, held, old) if (state := each.state) is not None]

    found = slowest(states, NOW + MINUTE + SECOND, show_streams=False)

    assert [(each.pending_s, each.accounts, each.waits) for each in found] == [
        (61.0, ("hw",), "waits for its call"),
        (1.0, ("hw",), "waits for its call"),
    ]
    assert {each.stream for each in found} == {None}
    assert found[0].digest == digest("acme/room42")
    assert slowest(states, NOW, show_streams=True)[0].stream == "acme/room42"
    assert slowest([StreamState("k")], NOW, show_streams=True) == []
    (soon,) = slowest([states[2]], NOW + 1, show_streams=False)
    assert soon.waits.startswith("tried again after ")


@pytest.mark.sandbox
@pytest.mark.parametrize("slow", [True, False])
def test_everything_fits_on_a_screen(slow: bool) -> None:
    shown = watched()
    if slow:
        one = Machine()
        one.verdict("violence")
        assert one.state is not None
        shown.slowest = slowest([one.state], NOW + SECOND, show_streams=False)
    else:
        shown.topics_error = "broker away"
    from rich.console import Console  # noqa: PLC0415 - needs the top extra, and so does the screen

    from worker.commands.parts.screen import screen  # noqa: PLC0415 - see above

    said = StringIO()
    Console(width=160, file=said).print(screen(shown))
    text = said.getvalue()
    for part in ("http://gone  refused", "hw/block", "99%", "guard blast", "parks", "verified", "approval"):
        assert part in text
    assert (digest("acme/room42") in text) is slow
    assert ("broker away" in text) is not slow
    assert json.loads(as_json(shown, lines=True))["parked"]["approval"] == 3
