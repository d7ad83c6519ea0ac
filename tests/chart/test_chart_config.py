"""What the chart gives the worker: its configuration file, its secrets and its name."""

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.chart.rendering import CHART, ENVIRON, FULL, GATED, configuration, container, render
from worker.settings import load
from worker.settings_file import ConfigError
from worker.vendors import load_spec, vendor_names

pytestmark = pytest.mark.chart


def secret_keys() -> list[str]:
    """Return the keys whose values the chart takes for secrets."""
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    (names,) = re.findall(r'define "moderation-worker.secretKeys" -}}\n(.*)\n', helpers)
    return sorted(names.split())


def test_the_worker_reads_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "hw_secret_key").write_text("SK-b41e\n")
    # The pod's mount, moved to where this test may write.
    text = configuration(render(FULL)).replace("/run/secrets", str(tmp_path))
    file = tmp_path / "config.yaml"
    file.write_text(text)
    hosts = ["prod-moderation-worker-0", "prod-moderation-worker-1"]
    settings = [load(str(file), {**ENVIRON, "HOSTNAME": host}) for host in hosts]
    assert [one.kafka.instance_id for one in settings] == hosts
    assert (settings[0].ops.host, settings[0].ops.port) == ("0.0.0.0", 9464)  # noqa: S104 - for the probes
    assert settings[0].kafka.bootstrap_servers == ("kafka-0:9093", "kafka-1:9093")
    assert settings[0].kafka.max_invalid_in_a_row == 1_000_000
    assert settings[0].kafka.client["sasl_plain_password"] == "pw-77d1"
    assert settings[0].accounts["hw"].account.settings["secret_key"] == "SK-b41e"


def test_the_gate_reads_it_too(tmp_path: Path) -> None:
    failing = {**GATED, "config": {**GATED["config"], "gate": {"fail": "open", "port": 1}}}
    file = tmp_path / "config.yaml"
    file.write_text(configuration(render(failing)))
    gate = load(str(file), {**ENVIRON, "HOSTNAME": "prod-moderation-worker-gate-0"}).gate
    assert (gate.host, gate.port, gate.fail) == ("0.0.0.0", 9465, "open")  # noqa: S104 - for the servers


def test_nothing_but_an_account_is_missing_from_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(configuration(render({})))
    with pytest.raises(ConfigError) as caught:
        load(str(file), {"HOSTNAME": "prod-moderation-worker-0"})
    assert caught.value.problems == ("accounts: names no account",)


def test_a_variable_without_its_secret_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(configuration(render(FULL)))
    with pytest.raises(ConfigError, match="KAFKA_PASSWORD"):
        load(str(file), {"HOSTNAME": "prod-moderation-worker-0"})


@pytest.mark.parametrize("section", ["ops", "kafka"])
def test_what_the_chart_sets_itself_is_refused(section: str) -> None:
    key = {"ops": {"port": 1}, "kafka": {"instance_id": "one"}}[section]
    with pytest.raises(helm_python.HelmRenderError, match="set by the chart"):
        render({"config": {section: key}})


KAFKA = {"sasl_plain_password", "ssl_password"}


def test_the_chart_knows_every_secret_key() -> None:
    declared = {
        setting.name.rpartition(".")[2]
        for name in vendor_names()
        for setting in load_spec(name).settings
        if setting.secret
    }
    assert declared
    assert set(secret_keys()) == declared | KAFKA


@pytest.mark.parametrize("key", secret_keys())
@pytest.mark.parametrize("where", ["accounts.a", "accounts.a.iam", "kafka.client"])
def test_a_secret_in_the_configuration_is_refused_and_not_shown(key: str, where: str) -> None:
    def config(value: str) -> dict[str, Any]:
        section: dict[str, Any] = {key: value}
        for name in reversed(where.split(".")):
            section = {name: section}
        accounts = section.get("accounts", {})
        return {"config": {**section, "accounts": {"a": {"vendor": "any", **accounts.get("a", {})}}}}

    for literal in ("hunter2", "$hunter2", "12345"):
        with pytest.raises(helm_python.HelmRenderError, match=re.escape(f"config.{where}.{key} ")) as caught:
            render(config(literal))
        assert literal not in str(caught.value)
    assert f"{key}: ${{SECRET}}" in configuration(render(config("${SECRET}")))


def test_secrets_reach_the_pod_as_references() -> None:
    manifests = render(FULL)
    environment = {entry["name"]: entry for entry in container(manifests)["env"]}
    for name in ENVIRON:
        source = environment[name]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "worker-env", "key": name.lower()}
    (volume,) = (
        v for v in manifests["StatefulSet"]["spec"]["template"]["spec"]["volumes"] if v["name"] == "secrets"
    )
    assert volume["secret"]["secretName"] == "worker-files"
    mounts = {mount["name"]: mount for mount in container(manifests)["volumeMounts"]}
    assert mounts["secrets"] == {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True}
    assert "Secret" not in manifests
