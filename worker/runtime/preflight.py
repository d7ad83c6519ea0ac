"""Where a connection fails, and what to do: one sentence for each broker address.

The client says the same of a closed port, a wrong password and a foreign certificate: "unable to
bootstrap". So the steps are walked on a socket of our own: name, TCP, TLS, SASL mechanism, login, first
request. Nothing secret is ever part of a sentence.
"""

import re
import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.net.sasl import get_sasl_mechanism

from worker.settings import KafkaSettings

TIMEOUT_S = 5.0
_MIN_ANSWER, _MAX_ANSWER = 4, 1 << 20

_SASL_HANDSHAKE, _SASL_AUTHENTICATE, _API_VERSIONS, _METADATA = 17, 36, 18, 3
_SECRETS = ("sasl_plain_password", "ssl_password")


class _Trouble(Exception):  # noqa: N818 - a finding, not an error of ours
    """A step failed; the text says which and what to do."""


def examine(settings: KafkaSettings) -> list[str]:
    """Return what is wrong with each bootstrap address, one sentence each; empty if all answer."""
    options = {**KafkaConsumer.DEFAULT_CONFIG, **settings.client}
    found = []
    for address in settings.bootstrap_servers:
        try:
            _examine(address, options)
        except _Trouble as trouble:
            found.append(f"broker {address}: {_redact(str(trouble), options)}")
    return found


def _redact(text: str, options: Mapping[str, Any]) -> str:
    for name in _SECRETS:
        if options.get(name):
            text = text.replace(str(options[name]), "***")
    return text


def _examine(address: str, options: Mapping[str, Any]) -> None:
    parts = re.fullmatch(r"(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d+))?", address)
    if parts is None:
        raise _Trouble("not an address; write host:port")
    host, port = parts["v6"] or parts["host"], int(parts["port"] or 9092)
    with _connected(host, port) as plain:
        protocol = str(options["security_protocol"])
        stream = _secured(plain, host, options) if protocol.endswith("SSL") else plain
        try:
            if protocol.startswith("SASL"):
                _log_in(stream, host, options)
            _ask(stream, protocol)
        finally:
            stream.close()


def _connected(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _Trouble(
            f"the name cannot be resolved ({error.strerror}); check bootstrap_servers and DNS"
        ) from None
    refusal: OSError | None = None
    for family, kind, number, _, where in found:
        connection = socket.socket(family, kind, number)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(where)
        except OSError as error:
            connection.close()
            refusal = error
        else:
            return connection
    why = (
        "no answer"
        if isinstance(refusal, TimeoutError)
        else str(refusal.strerror if refusal else "no address")
    )
    raise _Trouble(
        f"TCP connection failed ({why}); check that the broker listens there and no firewall is between"
    )


def _secured(plain: socket.socket, host: str, options: Mapping[str, Any]) -> ssl.SSLSocket:
    try:
        context = _context(options)
    except (OSError, ssl.SSLError) as error:
        raise _Trouble(
            f"the TLS files cannot be read ({error}); check ssl_cafile, ssl_certfile, ssl_keyfile"
        ) from None
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise _Trouble(
            f"its certificate is refused ({error.verify_message}); check ssl_cafile and its names"
        ) from None
    except ssl.SSLError as error:
        raise _Trouble(f"TLS handshake failed ({error.reason or error}); is this a TLS port?") from None
    except OSError as error:
        raise _Trouble(f"TLS handshake failed ({error.strerror or error}); is this a TLS port?") from None


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    if options["ssl_context"] is not None:
        given: ssl.SSLContext = options["ssl_context"]
        return given
    context = ssl.create_default_context(cafile=options["ssl_cafile"])
    context.check_hostname = bool(options["ssl_check_hostname"])
    if options["ssl_ciphers"]:
        context.set_ciphers(options["ssl_ciphers"])
    if options["ssl_certfile"]:
        context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"], options["ssl_password"])
    return context


def _log_in(stream: socket.socket, host: str, options: Mapping[str, Any]) -> None:
    name = str(options["sasl_mechanism"])
    try:
        mechanism = get_sasl_mechanism(name)(**{**options, "host": host})
    except Exception as error:  # noqa: BLE001 - each mechanism has its own, and its own libraries
        raise _Trouble(
            f"sasl_mechanism {name} cannot be used here ({type(error).__name__}); check its options"
        ) from None
    try:
        answer = _call(stream, _SASL_HANDSHAKE, 1, _text(name))
    except OSError as error:
        raise _Trouble(
            f"it does not answer as a SASL listener ({error}); check security_protocol and the port"
        ) from None
    (code,) = struct.unpack(">h", answer[:2])
    if code:
        raise _Trouble(
            f"it refuses sasl_mechanism {name}; it offers {', '.join(_texts(answer[2:])) or 'none'}"
        )
    try:
        accepted = _exchange(stream, mechanism)
    except Exception as error:  # noqa: BLE001 - a mechanism may raise anything when it distrusts the broker
        raise _Trouble(
            f"the login failed ({type(error).__name__}); check the user and the password"
        ) from None
    if not accepted:
        raise _Trouble("it refuses the login; check sasl_plain_username and sasl_plain_password")


def _exchange(stream: socket.socket, mechanism: Any) -> bool:
    """Exchange tokens until one side is content or refuses."""
    while not mechanism.is_done():
        token = mechanism.auth_bytes()
        answer = _call(stream, _SASL_AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)
        code, size = struct.unpack(">hh", answer[:4])
        if code:
            return False
        rest = answer[4 + max(size, 0) :]
        (size,) = struct.unpack(">i", rest[:4])
        mechanism.receive(rest[4 : 4 + size])
    return bool(mechanism.is_authenticated())


def _ask(stream: socket.socket, protocol: str) -> None:
    try:
        _call(stream, _API_VERSIONS, 0, b"")
        _call(stream, _METADATA, 1, struct.pack(">i", 0))
    except OSError as error:
        advice = "perhaps it wants TLS or a login" if protocol == "PLAINTEXT" else "check security_protocol"
        raise _Trouble(f"it does not answer Kafka requests ({error}); {advice}") from None


def _call(stream: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Send one request (header version 1) and return the answer's body."""
    message = struct.pack(">hhi", api, version, 1) + _text("moderation-worker") + body
    stream.sendall(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", _read(stream, 4))
    if not _MIN_ANSWER <= size < _MAX_ANSWER:
        raise ConnectionError("the answer is not Kafka's")
    return _read(stream, size)[4:]


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionError("it closes the connection")
        data += more
    return data


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def _texts(raw: bytes) -> list[str]:
    (count,) = struct.unpack(">i", raw[:4])
    found, at = [], 4
    for _ in range(count):
        (size,) = struct.unpack(">h", raw[at : at + 2])
        found.append(raw[at + 2 : at + 2 + size].decode("ascii", "replace"))
        at += 2 + size
    return found
