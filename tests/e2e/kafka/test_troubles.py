"""What keeps the worker from its brokers or topics is said in a sentence that names the step."""

import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.playing import wait_for
from tests.kafka.apache import PASSWORD, USER, Broker, certificate, expired_certificate, free_port
from worker.runtime import topics
from worker.sandbox.process import ROOT
from worker.sandbox.stage import Kafka, Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.settings import load

pytestmark = pytest.mark.kafka

LOGIN = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": USER,
    "sasl_plain_password": PASSWORD,
}
BRISK = {"bootstrap_timeout_ms": 2000}
"""The client gives up sooner, so that the tests take less time."""


def check(config: Path) -> tuple[int, str]:
    """Run ``check --connect``; return its exit code and what it complained of."""
    done = subprocess.run(  # noqa: S603 - our own program, by our own interpreter
        [sys.executable, "-m", "worker", "check", "--connect", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def start(theatre: Stage, config: Path) -> WorkerProcess:
    return WorkerProcess(config, theatre.folder / "trouble.log")


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(
    stage: Callable[..., Stage], kafka: Kafka
) -> None:
    theatre = stage(topics_exist=True)
    config = theatre.configuration()
    code, said = check(config)
    sentences = [
        f"topic {name} is missing: make it with `moderation-worker topics create`"
        for name in kafka.topics.values()
    ]
    assert code == 1
    assert all(sentence in said for sentence in sentences)
    with start(theatre, config) as worker:
        assert worker.wait(30) == 1
        (complaint,) = play.complaints(worker)
        assert all(sentence in complaint["message"] for sentence in sentences)


def test_a_grown_verdict_topic_is_refused_and_the_way_out_named(
    stage: Callable[..., Stage], kafka: Kafka
) -> None:
    theatre = stage(topics_exist=True)
    config = theatre.configuration()
    settings = load(str(config)).kafka
    topics.create(replace(settings, topics=replace(settings.topics, verdicts=f"{kafka.prefix}.other")))
    topics.create(replace(settings, partitions=8))
    code, said = check(config)
    assert code == 1
    assert "has 8 partitions but" in said
    assert "`moderation-worker topics grow`" in said
    with start(theatre, config) as worker:
        assert worker.wait(30) == 1
        (complaint,) = play.complaints(worker)
        assert "`moderation-worker topics grow`" in complaint["message"]


def refused(_: Broker) -> tuple[str, Mapping[str, Any]]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}", {}


TROUBLES: Mapping[str, tuple[Callable[[Broker, Path], tuple[str, Mapping[str, Any]]], str]] = {
    "nobody listens": (lambda broker, folder: refused(broker), "TCP connection failed"),
    "wrong password": (
        lambda broker, folder: (
            broker.secure,
            {**LOGIN, "sasl_plain_password": "c4n4ry", "ssl_cafile": broker.cafile},
        ),
        "it refuses the login",
    ),
    "unknown authority": (
        lambda broker, folder: (broker.secure, {**LOGIN, "ssl_cafile": other_authority(folder)}),
        "its certificate is refused",
    ),
    "another name": (
        lambda broker, folder: (
            broker.secure.replace("127.0.0.1", "127.1"),  # the same place
            {**LOGIN, "ssl_cafile": broker.cafile},
        ),
        "its certificate is refused (Hostname mismatch",
    ),
    "plaintext to a TLS port": (
        lambda broker, folder: (broker.secure, {}),
        "it does not answer Kafka requests",
    ),
}


def other_authority(folder: Path) -> str:
    certificate(folder)
    return str(folder / "ca.pem")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_step_that_fails_is_named_and_tried_again_without_a_flood(
    stage: Callable[..., Stage], broker: Broker, tmp_path_factory: pytest.TempPathFactory, trouble: str
) -> None:
    make, step = TROUBLES[trouble]
    address, client = make(broker, tmp_path_factory.mktemp("authority"))
    is_named(stage, address, client, step)


def test_a_certificate_that_has_expired_is_named_too(stage: Callable[..., Stage], tmp_path: Path) -> None:
    expired_certificate(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    files = ("-cert", str(tmp_path / "ca.pem"), "-key", str(tmp_path / "key.pem"))
    with subprocess.Popen(  # noqa: S603 - no shell
        ["openssl", "s_server", "-quiet", "-accept", address, *files],  # noqa: S607 - where it lies differs
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            client = {**LOGIN, "ssl_cafile": str(tmp_path / "ca.pem")}
            is_named(stage, address, client, "its certificate is refused (certificate has expired)")
        finally:
            server.kill()


def is_named(stage: Callable[..., Stage], address: str, client: Mapping[str, Any], step: str) -> None:
    """Check that a worker and ``check --connect`` say what is wrong with a connection."""
    theatre = stage(
        topics_exist=True, changes={"kafka": {"bootstrap_servers": [address], "client": {**client, **BRISK}}}
    )
    config = theatre.configuration()
    with start(theatre, config) as worker:
        code, said = check(config)  # the worker tries again meanwhile
        assert code == 1
        assert f"broker {address}: {step}" in said
        wait_for(lambda: step in worker.log_text(), 30, "the step is named in the log")
        status, reasons = worker.get("/readyz")
        assert status == 503
        assert step in reasons
        worker.terminate()
        assert worker.wait(40) == 0
        assert not play.complaints(worker)
        assert len(worker.log_text().splitlines()) < 100
        assert "c4n4ry" not in said + worker.log_text()


def test_tls_and_login_that_are_right_work(stage: Callable[..., Stage], broker: Broker) -> None:
    client = {**LOGIN, "ssl_cafile": broker.cafile}
    theatre = stage(changes={"kafka": {"bootstrap_servers": [broker.secure], "client": client}})
    worker = theatre.start_worker()
    play.ready(worker)
    events = play.verdicts(5, "hw")
    play.play(theatre, events)
    play.balanced(theatre, events, [worker], 30)
    assert check(theatre.configuration()) == (0, "")
