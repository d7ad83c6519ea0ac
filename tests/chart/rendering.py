"""Sets of values, and what the chart makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "helm" / "moderation-worker"

ENVIRON = {"HW_PROJECT_ID": "p", "HW_ACCESS_KEY": "AK-2f9c", "KAFKA_PASSWORD": "pw-77d1"}
FULL: dict[str, Any] = {
    "replicas": 3,
    "image": {"repository": "images.example:5000/moderation-worker", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "puller"}],
    "config": {
        "kafka": {
            "bootstrap_servers": ["kafka-0:9093", "kafka-1:9093"],
            "max_invalid_in_a_row": 1000000,
            "client": {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "worker",
                "sasl_plain_password": "${KAFKA_PASSWORD}",
            },
        },
        "accounts": {
            "hw": {
                "vendor": "huawei",
                "region": "cn-north-4",
                "project_id": "${HW_PROJECT_ID}",
                "access_key": "${HW_ACCESS_KEY}",
                "secret_key": "${file:/run/secrets/hw_secret_key}",
                "timeout_s": 10,
                "quotas": {"block_once": "300/60s"},
            },
        },
        "policy": {
            "version": "2026-11-01",
            "verify": {"after": ["5s", "30s"]},
            "rules": [
                {
                    "name": "nudity-high",
                    "when": {"category": "nudity", "severity": ["high", "critical"], "min_confidence": 0.9},
                    "then": {"action": "forbid", "for": "10m", "priority": "high"},
                },
            ],
        },
    },
    "secrets": {
        "existingSecret": "worker-files",
        "env": {name: {"name": "worker-env", "key": name.lower()} for name in ENVIRON},
    },
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "podMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "networkPolicy": {
        "enabled": True,
        "opsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443}]}],
    },
    "serviceAccount": {"name": "moderator", "annotations": {"example.com/owner": "safety"}},
    "podAnnotations": {"example.com/team": "safety"},
    "podLabels": {"team": "safety"},
    "priorityClassName": "urgent",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
    ],
}  # fmt: skip
BARE: dict[str, Any] = {
    "replicas": 1,
    "podDisruptionBudget": {"enabled": False},
    "serviceAccount": {"create": False},
    "topologySpreadConstraints": [],
    "resources": {"requests": None, "limits": None},
}
EDGE = {"vendor": "nginx_rtmp", "control_url": "http://10.0.0.7/control", "stat_url": "http://10.0.0.7/stat"}
GATED: dict[str, Any] = {
    **FULL,
    "config": {**FULL["config"], "accounts": {"edge": {**EDGE, "allow_insecure": True}}},
    "gate": {"enabled": True, "replicas": 3},
}
SETS = {"default": {}, "full": FULL, "bare": BARE, "gated": GATED}

Manifests = Mapping[str, dict[str, Any]]


def render(values: Mapping[str, Any], release: str = "prod") -> Manifests:
    """Return the rendered manifests by kind; the gate's are "gate KIND", and else no two are of one kind."""
    # Through YAML, as values reach Helm in real life.
    parsed = helm_python.values_from_yaml(yaml.safe_dump(dict(values)))
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(parsed, name=release, namespace="moderation")
    found = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")]
    manifests = [manifest for manifest in found if manifest]
    kinds = {_kind(manifest): manifest for manifest in manifests}
    assert len(kinds) == len(manifests)
    return kinds


def _kind(manifest: Mapping[str, Any]) -> str:
    gate = manifest["metadata"]["name"].endswith("-gate")
    return f"{'gate ' if gate else ''}{manifest['kind']}"


def container(manifests: Manifests) -> dict[str, Any]:
    """Return the worker's container."""
    (only,) = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def configuration(manifests: Manifests) -> str:
    """Return the worker's configuration file as the ConfigMap holds it."""
    assert set(manifests["ConfigMap"]["data"]) == {"config.yaml"}
    return str(manifests["ConfigMap"]["data"]["config.yaml"])
