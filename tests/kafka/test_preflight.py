"""Every way in which a connection can fail has its own sentence."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.apache import PASSWORD, USER, Broker, certificate, expired_certificate, free_port
from worker.runtime.preflight import examine
from worker.settings import KafkaSettings


def settings_at(address: str, **client: Any) -> KafkaSettings:
    return KafkaSettings((address,), "group", "a", client=client)


def test_a_name_that_does_not_resolve() -> None:
    (sentence,) = examine(settings_at("broker.invalid:9092"))
    assert sentence.startswith("broker broker.invalid:9092: the name cannot be resolved")


def test_a_closed_port() -> None:
    (sentence,) = examine(settings_at(f"127.0.0.1:{free_port()}"))
    assert "TCP connection failed" in sentence


def test_an_address_that_is_none() -> None:
    (sentence,) = examine(settings_at("http://broker"))
    assert "write host:port" in sentence


@pytest.fixture(params=[certificate])
def echo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A TLS server that is no Kafka broker; its certificate is for localhost."""
    request.param(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            plain, _ = server.accept()
            with plain, context.wrap_socket(plain, server_side=True) as stream:
                stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                stream.recv(1000)
        except OSError:
            return  # the client did not like it, or the test is over

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def test_a_server_that_does_not_speak_kafka(echo: str, tmp_path: Path) -> None:
    (sentence,) = examine(settings_at(echo, security_protocol="SSL", ssl_cafile=str(tmp_path / "ca.pem")))
    assert "the answer is not Kafka's" in sentence


def test_a_certificate_for_another_name(echo: str, tmp_path: Path) -> None:
    address = echo.replace("127.0.0.1", "127.1")  # the same place by another name
    (sentence,) = examine(settings_at(address, security_protocol="SSL", ssl_cafile=str(tmp_path / "ca.pem")))
    assert "certificate is refused" in sentence
    assert "127.1" in sentence


@pytest.mark.parametrize("echo", [expired_certificate], indirect=True)
def test_a_certificate_that_has_expired(echo: str, tmp_path: Path) -> None:
    (sentence,) = examine(settings_at(echo, security_protocol="SSL", ssl_cafile=str(tmp_path / "ca.pem")))
    assert "certificate is refused (certificate has expired)" in sentence


def test_a_certificate_of_an_unknown_authority(echo: str) -> None:
    (sentence,) = examine(settings_at(echo, security_protocol="SSL"))
    assert "certificate is refused (self-signed certificate)" in sentence


def test_a_ca_file_that_cannot_be_read(echo: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    (sentence,) = examine(settings_at(echo, security_protocol="SSL", ssl_cafile=missing))
    assert "TLS files cannot be read" in sentence


SCRAM = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": USER,
    "sasl_plain_password": PASSWORD,
}


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"sasl_plain_password": "not-the-secret"}, "refuses the login"),
        ({"sasl_plain_username": "nobody"}, "refuses the login"),
        ({"sasl_mechanism": "PLAIN"}, "refuses sasl_mechanism PLAIN; it offers SCRAM-SHA-512"),
        ({"sasl_mechanism": "MAGIC"}, "sasl_mechanism MAGIC cannot be used here"),
        ({"security_protocol": "SSL"}, "does not answer Kafka requests"),
        ({"security_protocol": "PLAINTEXT"}, "perhaps it wants TLS or a login"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "does not answer as a SASL listener"),
    ],
)
def test_the_secure_listener(broker: Broker, changes: dict[str, str], expected: str | None) -> None:
    client = {**SCRAM, "ssl_cafile": broker.cafile, **changes}
    found = examine(settings_at(broker.secure, **client))
    assert len(found) == (expected is not None)
    for sentence in found:
        assert str(expected) in sentence
        assert client["sasl_plain_password"] not in sentence


@pytest.mark.kafka
def test_the_plain_listener(broker: Broker) -> None:
    assert examine(settings_at(broker.plain)) == []
    (sentence,) = examine(settings_at(broker.plain, security_protocol="SSL", ssl_cafile=broker.cafile))
    assert "is this a TLS port?" in sentence
