"""The embedded broker: librdkafka's mock cluster, from the library inside the confluent-kafka wheel.

``python -m worker.sandbox.broker --topic moderation.verdicts:4 --port-file F`` serves the Kafka protocol
on loopback until its standard input closes or SIGTERM. Records are kept in memory only.

It proves the main work, restarts and rebalances. It never proves atomicity: transactions are accepted
and do nothing, so the worker runs against it with ``delivery: at_least_once``. It knows no CreateTopics
(a topic that is not named at the start appears on first use, with 4 partitions), no TLS and no SASL.
The calls are those of librdkafka's ``rdkafka_mock.h``.
"""

import argparse
import ctypes
import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.sandbox.process import ChildProcess, serve_until_end

CLIENT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "producer": {"api_version": (2, 3)},
    "consumer": {
        "api_version": (2, 3),
        "session_timeout_ms": 3000,
        "heartbeat_interval_ms": 500,
        "fetch_max_wait_ms": 50,
    },
    "admin": {"api_version": (2, 3)},
}
"""What kafka-python needs against this broker, by kind of client.

The mock cluster does not answer the version probe in a way the client accepts, so the version is
pinned; a waiting fetch is not woken by new data, so it waits briefly; groups settle only with short
heartbeats. Where a transactional producer has written, consumers need ``check_crcs=False`` too.

Rebalances: joining takes the session timeout less a second. A follower whose SyncGroup arrives after
the leader's gets InvalidRequestError out of ``poll()`` and the group joins once more: poll again.
"""

REBALANCE_DELAY_MS = 100
_PRODUCER = 0
_ERRSTR = 512


class MockCluster:
    """A cluster of librdkafka's, in this process. Raises RuntimeError with librdkafka's own words."""

    def __init__(self, brokers: int, topics: Mapping[str, int], rebalance_delay_ms: int) -> None:
        library = self._library = ctypes.CDLL(str(find_library()))
        pointer = ctypes.c_void_p
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(library, name).restype = pointer
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        library.rd_kafka_err2str.restype = ctypes.c_char_p
        error = ctypes.create_string_buffer(_ERRSTR)
        conf = pointer(library.rd_kafka_conf_new())
        library.rd_kafka_conf_set(conf, b"log_level", b"2", error, _ERRSTR)  # it misses its bootstrap.servers
        self._client = pointer(library.rd_kafka_new(_PRODUCER, conf, error, _ERRSTR))
        if self._client.value is None:
            raise RuntimeError(f"librdkafka: {error.value.decode()}")
        self._cluster = pointer(library.rd_kafka_mock_cluster_new(self._client, brokers))
        if self._cluster.value is None:
            raise RuntimeError("librdkafka made no mock cluster")
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, rebalance_delay_ms)
        for topic, partitions in topics.items():
            code = library.rd_kafka_mock_topic_create(
                self._cluster, topic.encode(), partitions, min(brokers, 3)
            )
            if code:
                raise RuntimeError(f"topic {topic}: {library.rd_kafka_err2str(code).decode()}")

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, comma-separated."""
        found: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return found.decode()

    def close(self) -> None:
        """End the cluster; its records are gone."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


def find_library() -> Path:
    """Return the librdkafka that the confluent-kafka wheel brings. Raises RuntimeError if there is none."""
    try:
        files = importlib.metadata.files("confluent-kafka") or []
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError("the embedded broker needs the sandbox extra (confluent-kafka)") from None
    for file in files:
        if file.name.startswith("librdkafka") and {".so", ".dylib", ".dll"} & set(file.suffixes):
            return Path(str(file.locate()))
    raise RuntimeError("this confluent-kafka brings no librdkafka of its own (is it not a wheel?)")


class EmbeddedBroker(ChildProcess):
    """The broker in a process that ends with this one. ``topics`` maps names to partition counts."""

    def __init__(
        self, topics: Mapping[str, int], *, brokers: int = 1, rebalance_delay_ms: int = REBALANCE_DELAY_MS
    ) -> None:
        arguments = ["--brokers", str(brokers), "--rebalance-delay-ms", str(rebalance_delay_ms)]
        for topic, partitions in topics.items():
            arguments += ["--topic", f"{topic}:{partitions}"]
        super().__init__("worker.sandbox.broker", arguments)

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, comma-separated."""
        return self.greeting


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.rpartition(":")
    if not name or int(partitions) < 1:
        raise ValueError(text)
    return name, int(partitions)


def main() -> int:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="worker.sandbox.broker", description="Serve an embedded broker.")
    parser.add_argument("--topic", action="append", type=_topic, default=[], metavar="NAME:PARTITIONS")
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--rebalance-delay-ms", type=int, default=REBALANCE_DELAY_MS)
    parser.add_argument("--port-file", type=Path, help="write the bootstrap servers here once it is up")
    arguments = parser.parse_args()
    try:
        cluster = MockCluster(arguments.brokers, dict(arguments.topic), arguments.rebalance_delay_ms)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    serve_until_end(cluster.bootstrap_servers, arguments.port_file, watch_stdin=True)
    cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
