"""Every metric of the contract, with its labels, and nothing else."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from worker.runtime.journal import REASONS
from worker.runtime.metrics import RESET_REASONS, GateMetrics, Metrics
from worker.vendors.base import Capacity, Operation, Quota, VendorSpec

CONTRACT = """
| `events_consumed_total` | counter | `type` |
| `dead_letters_total` | counter | `reason` |
| `results_total` | counter | `outcome`, `action`, `vendor` |
| `vendor_requests_total` | counter | `account`, `operation`, `outcome` |
| `vendor_request_duration_seconds` | histogram | `vendor`, `operation` |
| `verdict_to_action_seconds` | histogram | `severity` |
| `time_to_dark_seconds` | histogram | `severity` |
| `calls_waiting` | gauge | `account`, `priority` |
| `account_open` | gauge | `account` |
| `quota_used_ratio` | gauge | `account`, `operation` |
| `vendor_capacity_used_ratio` | gauge | `account`, `capacity` |
| `quota_wait_seconds` | histogram | `account` |
| `parked` | gauge | `reason` |
| `oldest_pending_seconds` | gauge | |
| `oldest_overdue_expiry_seconds` | gauge | |
| `streams` | gauge | |
| `consumer_lag_records` | gauge | `topic`, `partition` |
| `journal_commit_seconds` | histogram | |
| `journal_resets_total` | counter | `reason` |
| `guard_open` | gauge | `guard` |
| `policy_reloads_total` | counter | `result` |
| `build_info` | gauge | `version` |
"""

SPEC = VendorSpec(
    name="fake",
    title="Fake",
    summary="",
    links={},
    settings=(),
    operations={name: Operation(name, "", (), (), "") for name in ("forbid", "list")},
    quotas={"forbid": (Quota(1, 1),), "writes": (Quota(1, 1),)},
    capacities={"bans": Capacity("bans", "", "forbid", 1, "account", "push_domain")},
)


def table(text: str = CONTRACT) -> dict[str, tuple[str, set[str]]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()]
    return {
        name.strip("`"): (kind, {label.strip("` ") for label in labels.split(",") if label})
        for name, kind, labels in rows
    }


def test_the_metrics_are_those_of_the_contract() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"acc": SPEC}, ["blast"], "1.2.3")
    metrics.consumer_lag_records.labels("t", 0).set(1)
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name.removeprefix("moderation_")] = (family.type, labels)
        assert name.startswith("moderation_")
        assert family.documentation.endswith(".")
    assert found == table()


GATE = """
| `gate_answers_total` | counter | `account`, `decision` |
| `gate_knowledge_age_seconds` | gauge | |
| `gate_bans` | gauge | |
| `build_info` | gauge | `version` |
"""


def test_the_gates_metrics_exist_from_the_start() -> None:
    registry = CollectorRegistry()
    GateMetrics(registry, ["edge"], "1.2.3")
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name.removeprefix("moderation_")] = (family.type, labels)
    assert found == table(GATE)
    known = {"account": "edge", "decision": "failed_closed"}
    assert registry.get_sample_value("moderation_gate_answers_total", known) == 0


def test_every_metric_is_an_attribute_of_its_name() -> None:
    metrics = Metrics(CollectorRegistry())
    assert {name for name in vars(metrics) if name != "registry"} == table().keys()


def test_what_is_known_exists_from_the_start() -> None:
    registry = CollectorRegistry()
    Metrics(registry, {"acc": SPEC}, ["blast"], "1.2.3")
    for name, labels in [
        ("events_consumed_total", {"type": "verdict"}),
        ("dead_letters_total", {"reason": "oversize"}),
        ("results_total", {"outcome": "failed", "action": "forbid", "vendor": "fake"}),
        ("results_total", {"outcome": "failed", "action": "none", "vendor": "none"}),
        ("vendor_requests_total", {"account": "acc", "operation": "list", "outcome": "absent"}),
        ("vendor_request_duration_seconds_count", {"vendor": "fake", "operation": "forbid"}),
        ("verdict_to_action_seconds_count", {"severity": "critical"}),
        ("time_to_dark_seconds_count", {"severity": "low"}),
        ("calls_waiting", {"account": "acc", "priority": "high"}),
        ("quota_used_ratio", {"account": "acc", "operation": "writes"}),
        ("vendor_capacity_used_ratio", {"account": "acc", "capacity": "bans"}),
        ("quota_wait_seconds_count", {"account": "acc"}),
        ("parked", {"reason": "approval"}),
        ("guard_open", {"guard": "blast"}),
        ("policy_reloads_total", {"result": "refused"}),
        ("journal_resets_total", {"reason": "fenced"}),
        ("streams", {}),
    ]:
        assert registry.get_sample_value(f"moderation_{name}", labels) == 0, name
    assert registry.get_sample_value("moderation_build_info", {"version": "1.2.3"}) == 1
    assert {*REASONS.values(), "error"} == set(RESET_REASONS)


def test_a_gauge_can_ask_its_owner() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    waiting = [1, 2]
    metrics.streams.set_function(lambda: len(waiting))
    waiting.append(3)
    assert registry.get_sample_value("moderation_streams") == 3
