"""The chart: what it renders is what Kubernetes and Prometheus accept, and what a replica needs."""

import itertools
import re
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tests.chart.rendering import BARE, CHART, FULL, GATED, SETS, configuration, container, render
from worker import __version__
from worker.app import DRAIN_S

pytestmark = pytest.mark.chart

OPERATOR = ("PodMonitor", "PrometheusRule")
"""Kinds whose schemas come with the Prometheus operator, not with Kubernetes."""
SUPPORTED = sorted({version for version in all_versions() if version >= "1.27"})


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_lints_it_strictly(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True, namespace="moderation")
    assert report["errors"] == []
    findings = [message["error"] for message in report["messages"]]
    assert findings == ["icon is recommended"]


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_kubernetes_accepts_every_manifest(version: str, values: dict[str, Any]) -> None:
    manifests = [manifest for kind, manifest in render(values).items() if kind not in OPERATOR]
    assert len(manifests) >= 3
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_oldest_kubernetes_checked_is_the_oldest_promised() -> None:
    promised = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert promised == f">={min(SUPPORTED)}-0"


def test_a_wrong_manifest_would_be_refused() -> None:
    manifest = render({})["StatefulSet"]
    manifest["spec"]["template"]["spec"]["restartPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolice"):
        kubernetes_validate.validate(manifest, SUPPORTED[-1], strict=True)


def test_the_pod_monitor_is_what_the_prometheus_operator_reads() -> None:
    # Without its schema every field stands here instead.
    manifest = render(FULL)["PodMonitor"]
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    selector = {"app.kubernetes.io/name": "moderation-worker", "app.kubernetes.io/instance": "prod"}
    assert manifest["spec"] == {
        "selector": {"matchLabels": selector},
        "podMetricsEndpoints": [{"port": "ops", "path": "/metrics", "interval": "30s"}],
    }
    unset = render({"podMonitor": {"enabled": True}})["PodMonitor"]
    assert unset["spec"]["podMetricsEndpoints"] == [{"port": "ops", "path": "/metrics"}]


def test_what_is_switched_off_is_not_there() -> None:
    assert set(render({})) == {
        "ConfigMap", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"
    }  # fmt: skip
    assert set(render(BARE)) == {"ConfigMap", "Service", "StatefulSet"}
    assert set(render(FULL)) - set(render({})) == {"NetworkPolicy", *OPERATOR}
    assert set(render(GATED)) - set(render(FULL)) == {"gate Deployment", "gate Service"}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 3}, "'replica' not allowed"),
        ({"image": {"repo": "x"}}, "'repo' not allowed"),
        ({"probes": {"liveness": {"initialDelay": 3}}}, "'initialDelay' not allowed"),
        ({"replicas": "3"}, "got string, want integer"),
        ({"replicas": -1}, "minimum"),
        ({"image": {"repository": "moderation-worker:1.0"}}, "does not match pattern"),
        ({"image": {"pullPolicy": "Sometimes"}}, "must be one of"),
        ({"fullnameOverride": "w" * 53}, "maxLength"),
        ({"config": {"kafka": {"bootstrap_servers": []}}}, "minItems"),
        ({"config": {"accounts": {"hw": {}}}}, "missing property 'vendor'"),
        ({"config": None}, "missing property 'config'"),
        ({"secrets": {"env": {"HW_KEY": "literal"}}}, "got string, want object"),
        ({"secrets": {"env": {"HOSTNAME": {"name": "a", "key": "b"}}}}, "HOSTNAME"),
        ({"extraEnv": [{"name": "HOSTNAME", "value": "one"}]}, "/extraEnv/0/name"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "app.kubernetes.io/name"),
        ({"terminationGracePeriodSeconds": 29}, "minimum"),
        ({"gate": {"enable": True}}, "'enable' not allowed"),
        ({"podMonitor": {"interval": "often"}}, "does not match pattern"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
    ],
    ids=str,
)
def test_the_schema_refuses(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(complaint)):
        render(values)


def test_the_schema_and_the_values_name_the_same_keys() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema, values = chart.schema, chart.values
    assert schema is not None
    assert set(values) == set(schema["required"]) == set(schema["properties"]) - {"global"}


@pytest.mark.parametrize(
    "section", [None, "image", "secrets", "gate", "podMonitor", "networkPolicy", "serviceAccount"]
)
def test_every_value_has_its_comment(section: str) -> None:
    # What a pod has under the same name needs no words.
    plain = {"podAnnotations", "podLabels", "priorityClassName", "nodeSelector", "tolerations", "affinity",
             "extraVolumeMounts", "securityContext", "pullPolicy", "annotations"}  # fmt: skip
    text = (CHART / "values.yaml").read_text()
    if section:
        text = re.split(r"\n(?=\S)", text.split(f"\n{section}:\n")[1])[0]
    indent = "  " if section else ""
    bare = {
        line.split(":")[0].strip()
        for before, line in itertools.pairwise(["", *text.splitlines()])
        if re.match(indent + r"[A-Za-z]+:.*\S$", line) and not before.strip().startswith("#")
        if not line.endswith(":") and line.strip() != "enabled: false"
    }
    assert bare <= plain


def test_instance_ids_are_distinct_and_stable() -> None:
    first, second = render(FULL), render({**FULL, "image": {"tag": "9.9.9"}, "podLabels": {"other": "label"}})
    for manifests in (first, second):
        host = next(entry for entry in container(manifests)["env"] if entry["name"] == "HOSTNAME")
        assert host["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
        assert yaml.safe_load(configuration(manifests))["kafka"]["instance_id"] == "${HOSTNAME}"
    # A StatefulSet names its pods <name>-<ordinal>, again and again.
    assert first["StatefulSet"]["metadata"]["name"] == second["StatefulSet"]["metadata"]["name"]
    other = render(FULL, release="canary")
    assert first["StatefulSet"]["metadata"]["name"] != other["StatefulSet"]["metadata"]["name"]


@pytest.mark.parametrize("release", ["prod", "moderation-worker", "r" * 53])
def test_names_leave_room_for_kubernetes(release: str) -> None:
    name = render({}, release)["StatefulSet"]["metadata"]["name"]
    assert len(f"{name}-0123456789") <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_selectors_match_the_pods_and_only_this_releases() -> None:
    manifests = render(FULL)
    labels = manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    others = render(FULL, release="canary")["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["StatefulSet"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["PodMonitor"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        manifests["StatefulSet"]["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"][
            "matchLabels"
        ],
    ]
    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= others


def test_the_gate_is_reached_and_no_replica_is_taken_for_it() -> None:
    manifests = render(GATED)
    deployment, service = manifests["gate Deployment"]["spec"], manifests["gate Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 3
    assert service["selector"] == deployment["selector"]["matchLabels"] == labels
    assert service["publishNotReadyAddresses"], "what it answers while it knows nothing is for it to say"
    (gate,) = deployment["template"]["spec"]["containers"]
    assert gate["ports"] == [{"name": "gate", "containerPort": 9465}]
    assert service["ports"] == [{"name": "gate", "port": 9465, "targetPort": "gate"}]
    assert gate["args"] == ["gate", "--config", "/etc/moderation-worker/config.yaml"]
    replica = manifests["StatefulSet"]["spec"]
    assert not replica["selector"]["matchLabels"].items() <= labels.items()
    assert not service["selector"].items() <= replica["template"]["metadata"]["labels"].items()
    worker, pods = container(manifests), (replica["template"]["spec"], deployment["template"]["spec"])
    assert pods[0]["volumes"] == pods[1]["volumes"]
    for name in ("image", "volumeMounts", "securityContext"):
        assert gate[name] == worker[name]
    assert gate["env"] == [entry for entry in worker["env"] if entry["name"] != "HOSTNAME"]


def test_a_constraint_keeps_its_own_selector() -> None:
    own = {
        "maxSkew": 1,
        "topologyKey": "rack",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"tier": "edge"}},
    }
    pod = render({"topologySpreadConstraints": [own]})["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["topologySpreadConstraints"] == [own]


def test_references_between_manifests_hold() -> None:
    manifests = render(FULL)
    spec = manifests["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    assert spec["serviceName"] == manifests["Service"]["metadata"]["name"]
    assert manifests["Service"]["spec"]["clusterIP"] == "None"
    assert pod["serviceAccountName"] == manifests["ServiceAccount"]["metadata"]["name"] == "moderator"
    assert render(BARE)["StatefulSet"]["spec"]["template"]["spec"]["serviceAccountName"] == "default"
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container(manifests)["volumeMounts"]} == volumes
    (port,) = container(manifests)["ports"]
    assert port == {"name": "ops", "containerPort": 9464}
    assert container(manifests)["args"][-1] == "/etc/moderation-worker/config.yaml"


def test_probes_ask_the_right_questions() -> None:
    worker = container(render({}))
    paths = {name: worker[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "ops"},
        "livenessProbe": {"path": "/healthz", "port": "ops"},
        "readinessProbe": {"path": "/readyz", "port": "ops"},
    }


def test_a_changed_configuration_rolls_the_replicas() -> None:
    def checksum(values: dict[str, Any]) -> str:
        return str(
            render(values)["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        )

    changed = {**FULL, "config": {**FULL["config"], "routes": [{"match": {"tenant": "acme"}, "targets": []}]}}
    assert checksum(FULL) == checksum({**FULL, "replicas": 9})
    assert checksum(FULL) != checksum(changed)


def test_the_pod_is_restricted() -> None:
    manifests = render({})
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert manifests["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_replica_has_time_to_drain() -> None:
    # As long again as the calls get, for the last commit and for the threads to end.
    with helm_python.Chart.load(CHART) as chart:
        schema = chart.schema
    assert schema is not None
    least = schema["properties"]["terminationGracePeriodSeconds"]["minimum"]
    assert least >= 2 * DRAIN_S
    pod = render({})["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > least


def test_the_network_policy_lets_names_be_resolved() -> None:
    spec = render(FULL)["NetworkPolicy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert {"port": 53, "protocol": "UDP"} in spec["egress"][0]["ports"]
    assert spec["egress"][1:] == FULL["networkPolicy"]["egress"]
    assert spec["ingress"] == [
        {"ports": [{"port": "ops", "protocol": "TCP"}], "from": FULL["networkPolicy"]["opsFrom"]}
    ]
    open_egress = render({"networkPolicy": {"enabled": True}})["NetworkPolicy"]["spec"]
    assert open_egress["policyTypes"] == ["Ingress"]
    assert "egress" not in open_egress


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"moderation-worker:{__version__}"),
        ({"tag": "2.0"}, "moderation-worker:2.0"),
        (
            {"repository": "images.example:5000/w", "tag": "2.0", "digest": "sha256:" + "b" * 64},
            "images.example:5000/w@sha256:" + "b" * 64,
        ),
    ],
)
def test_the_image_is_the_one_named(image: dict[str, str], expected: str) -> None:
    assert container(render({"image": image}))["image"] == expected


def test_everything_given_in_full_arrives() -> None:
    pod = render(FULL)["StatefulSet"]["spec"]["template"]
    for value in ("imagePullSecrets", "priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert pod["spec"][value] == FULL[value]
    assert FULL["podLabels"].items() <= pod["metadata"]["labels"].items()
    assert FULL["podAnnotations"].items() <= pod["metadata"]["annotations"].items()
    assert FULL["extraVolumes"][0] in pod["spec"]["volumes"]
    assert FULL["extraVolumeMounts"][0] in container(render(FULL))["volumeMounts"]
    assert FULL["extraEnv"][0] in container(render(FULL))["env"]
    assert render(FULL)["ServiceAccount"]["metadata"]["annotations"] == FULL["serviceAccount"]["annotations"]


def test_the_notes_say_what_is_still_missing() -> None:
    with helm_python.Chart.load(CHART) as chart:
        empty, full = (
            chart.render(values, name="prod", namespace="moderation")["moderation-worker/templates/NOTES.txt"]
            for values in ({}, FULL)
        )
    assert "config.accounts is empty" in empty
    assert "config.accounts is empty" not in full


def test_the_chart_is_of_this_version() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert metadata["appVersion"] == metadata["version"] == __version__
