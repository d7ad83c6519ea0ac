"""The alerts: each looks at series that a worker has from its start, under labels that they have there."""

import re
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.chart.rendering import CHART, FULL, render
from worker.runtime.metrics import Metrics
from worker.vendors import load_spec

pytestmark = pytest.mark.chart

(GROUP,) = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]
SELECTOR = re.compile(r"(moderation_\w+)(?:\{(\w+)=\"(\w+)\"\})?")
GIVEN = {"namespace"}
"""What Prometheus adds to every series of a pod."""


def series() -> dict[str, list[dict[str, str]]]:
    """Return the series of a worker that has just started: the labels of each, by name."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"ali": load_spec("aliyun")}, ["blast"])
    metrics.consumer_lag_records.labels("verdicts", 0).set(0)  # with its first partition
    found: dict[str, list[dict[str, str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_looks_at_what_there_is(rule: dict[str, Any]) -> None:
    known = series()
    selected = SELECTOR.findall(rule["expr"])
    assert selected
    for name, label, value in selected:
        assert name in known, f"{name} is no series of the worker"
        matching = [labels for labels in known[name] if not label or labels.get(label) == value]
        assert matching, (
            f'{name}{{{label}="{value}"}} is not there from the start: a first increase is missed'
        )
        for labels in re.findall(r"by \(([\w, ]+)\)", rule["expr"]):
            assert set(labels.split(", ")) <= GIVEN | set(matching[0])
    told = " ".join(rule["annotations"].values())
    for label in re.findall(r"\$labels\.(\w+)", told):
        assert label in rule["expr"], "only what the expression keeps can be told"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_the_matter_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert all(text.endswith(".") for text in rule["annotations"].values())


def test_the_chart_wraps_them() -> None:
    manifest = render(FULL)["PrometheusRule"]
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    assert manifest["spec"] == {"groups": [GROUP]}
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
