"""The stage: a broker's topics, simulators of three vendors, and real workers between them.

What the demo, the end-to-end tests and the benchmarks have in common. Everything that remains for a
later look (configurations, logs) lies in one folder. All traffic is on loopback.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import yaml
from kafka import KafkaProducer

from worker.core.state import stream_of
from worker.durations import format_duration
from worker.runtime import topics
from worker.sandbox.broker import EmbeddedBroker
from worker.sandbox.process import SimulatorProcess
from worker.sandbox.reading import TopicReader
from worker.sandbox.simulators.common import DOMAINS
from worker.sandbox.worker_process import WorkerProcess
from worker.settings import load
from worker.words import Millis

ACCOUNTS: Mapping[str, str] = {"hw": "huawei", "ali": "aliyun", "cdn": "cdnetworks"}
"""The accounts of the stage's configuration, and whose they are."""
((PUSH, PLAY),) = DOMAINS.items()
APP = "live"

KEYS: Mapping[str, Mapping[str, Any]] = {
    "hw": {
        "region": "cn-north-4",
        "project_id": "sandbox-project",
        "access_key": "sandbox-key",
        "secret_key": "sandbox-secret",
    },
    "ali": {"access_key_id": "sandbox-key", "access_key_secret": "sandbox-secret"},
    "cdn": {"username": "sandbox-key", "api_key": "sandbox-secret"},
}

QUOTAS: Mapping[str, Mapping[str, tuple[int, Millis]]] = {"cdn": {"forbid_query": (10, 5_000)}}
"""Where the stage departs from a vendor's documented quota, at both ends: ten queries in five minutes would
make it wait a minute for the last verifications. (Calls, milliseconds.)"""

POLICY: Mapping[str, Any] = {
    "version": "sandbox-1",
    "max_age": "10m",
    "verify": {"after": ["1s", "3s", "8s"]},
    "rules": [
        {
            "name": "minors",
            "when": {"category": "minors"},
            "then": {"action": "forbid", "for": "permanent", "priority": "critical"},
        },
        {
            "name": "nudity",
            "when": {"category": "nudity", "min_confidence": 0.9},
            "then": {"action": "forbid", "for": "10m"},
        },
        {"name": "violence", "when": {"category": "violence"}, "then": {"action": "forbid", "for": "1h"}},
        {
            "name": "as-asked",
            "when": {"category": "asked"},
            "then": {"action": "forbid", "for": "requested", "max": "1h"},
        },
        {
            "name": "gambling",
            "when": {"category": "gambling"},
            "then": {"action": "block_regions", "regions": "verdict", "for": "7d", "otherwise": "cut"},
        },
        {"name": "spam", "when": {"category": "spam"}, "then": {"action": "cut"}},
        {
            "name": "drastic",
            "when": {"category": "drastic"},
            "then": {"action": "forbid", "for": "30m", "approval": "required"},
        },
        {"name": "trial", "when": {"category": "trial"}, "then": {"action": "cut", "mode": "shadow"}},
        {"name": "look", "when": {"category": "look"}, "then": {"action": "query"}},
        {"name": "rest", "then": {"action": "none"}},
    ],
}
"""A policy with every action there is."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """Where the brokers are and how to speak to them: the ``kafka`` section's words.

    ``topics_exist``: they were made with the brokers; otherwise the stage makes them.
    """

    bootstrap_servers: str
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    client: Mapping[str, Any] | None = None
    prefix: str = "moderation"
    partitions: int = 4
    replication: int = 1
    topics_exist: bool = False

    @property
    def topics(self) -> dict[str, str]:
        """The five topics' names."""
        return topic_names(self.prefix)

    def options(self) -> dict[str, Any]:
        """Return the options for a client of kafka-python."""
        found = {"bootstrap_servers": self.bootstrap_servers.split(","), **(self.client or {})}
        if isinstance(found.get("api_version"), list):
            found["api_version"] = tuple(found["api_version"])  # as in the configuration: YAML has no tuples
        return found


def topic_names(prefix: str) -> dict[str, str]:
    """Return the names of the five topics by what they are."""
    words = ("verdicts", "results", "stream-state", "dead-letters", "control")
    keys = ("verdicts", "results", "state", "dead_letters", "control")
    return {key: f"{prefix}.{word}" for key, word in zip(keys, words, strict=True)}


@contextmanager
def embedded_kafka(partitions: int = 4) -> Iterator[Kafka]:
    """Serve the embedded broker with the five topics. It has no transactions."""
    made = dict.fromkeys(topic_names("moderation").values(), partitions)
    # Of the options in ``broker.CLIENT_OPTIONS``, those that a configuration file sets.
    client = {"api_version": [2, 3], "heartbeat_interval_ms": 500, "fetch_max_wait_ms": 50}
    with EmbeddedBroker(made) as broker:
        yield Kafka(
            broker.bootstrap_servers, "at_least_once", client, partitions=partitions, topics_exist=True
        )


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record for the verdict topic. ``partition`` None: where its key belongs."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def plain(event: Mapping[str, Any]) -> Incoming:
    """Return an event as a plain record, keyed by its stream."""
    return Incoming(event["stream"]["key"].encode(), json.dumps(event).encode())


class Stage:
    """Simulators and workers around given brokers. A context manager: at its end every worker is killed.

    ``changes`` are merged into the workers' configuration (mappings member by member, anything else is
    replaced); ``script`` are fault rules and ``simulators`` constructor arguments by vendor (see
    ``worker.sandbox.simulators``).
    """

    def __init__(
        self,
        folder: Path,
        kafka: Kafka,
        *,
        changes: Mapping[str, Any] | None = None,
        script: Sequence[Mapping[str, Any]] = (),
        simulators: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self.kafka = kafka
        self.request_log = folder / "vendor-calls.jsonl"
        self._changes = [changes or {}]
        self._script = script
        self._simulators = simulators or {}
        self._workers: list[WorkerProcess] = []
        self._readers: dict[str, TopicReader] = {}
        self._producer: Any = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        script, config = self.folder / "vendor-faults.json", self.folder / "vendor-settings.json"
        script.write_text(json.dumps(list(self._script), indent=1), encoding="utf-8")
        given = {
            ACCOUNTS[name]: {"quotas": {quota: [limit] for quota, limit in quotas.items()}}
            for name, quotas in QUOTAS.items()
        }
        config.write_text(json.dumps(_merged(given, self._simulators), indent=1), encoding="utf-8")
        self.vendors = SimulatorProcess(ACCOUNTS.values(), config=config, script=script, log=self.request_log)
        self._http = httpx.Client(timeout=10, trust_env=False)
        if not self.kafka.topics_exist:
            topics.create(load(str(self.configuration())).kafka)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        for reader in self._readers.values():
            reader.close()
        if self._producer is not None:
            self._producer.close(timeout=5)
        self._http.close()
        self.vendors.stop()

    # Workers.

    def change(self, changes: Mapping[str, Any]) -> None:
        """Merge further changes: of what is known only once the simulators run."""
        self._changes.append(changes)

    def configuration(self, instance: str = "w1") -> Path:
        """Write one replica's configuration and return its file."""
        path = self.folder / f"{instance}.yaml"
        text = yaml.safe_dump(self._settings(instance), sort_keys=False, width=100)
        path.write_text(text, encoding="utf-8")
        return path

    def start_worker(self, instance: str = "w1", until_idle: float | None = None) -> WorkerProcess:
        """Start a replica and return it once it has started. Its log is ``<instance>.log``."""
        log = self.folder / f"{instance}.log"
        worker = WorkerProcess(self.configuration(instance), log, until_idle=until_idle)
        self._workers.append(worker)
        return worker

    def _settings(self, instance: str) -> dict[str, Any]:
        kafka: dict[str, Any] = {
            "bootstrap_servers": self.kafka.bootstrap_servers.split(","),
            "group_id": f"{self.kafka.prefix}-worker",
            "instance_id": instance,
            "delivery": self.kafka.delivery,
            "session_timeout": "6s",
            "topic_defaults": {"partitions": self.kafka.partitions, "replication": self.kafka.replication},
            "topics": self.kafka.topics,
            "client": dict(self.kafka.client or {}),
        }
        accounts = {
            name: {
                "vendor": vendor,
                "endpoint": self.vendors.urls[vendor],
                "allow_insecure": True,
                "timeout_s": 2,
                "quotas": {
                    quota: f"{limit}/{format_duration(window)}"
                    for quota, (limit, window) in QUOTAS.get(name, {}).items()
                },
                **KEYS[name],
            }
            for name, vendor in ACCOUNTS.items()
        }
        everywhere = {"all": list(ACCOUNTS)} | {name: [name] for name in ACCOUNTS}
        settings = {
            "kafka": kafka,
            "ops": {"host": "127.0.0.1", "port": 0},
            "accounts": accounts,
            "routes": [
                {"match": {"key": f"{prefix}/*"}, "targets": [_target(name) for name in names]}
                for prefix, names in everywhere.items()
            ],
            "policy": POLICY,
        }
        # JSON there and back: YAML would write what appears twice as an anchor and its aliases.
        for changes in self._changes:
            settings = _merged(settings, changes)
        copied: dict[str, Any] = json.loads(json.dumps(settings))
        return copied

    # The topics.

    def produce(self, records: Iterable[Incoming | Mapping[str, Any]]) -> None:
        """Publish records, or events as plain records, and wait until the brokers have them."""
        if self._producer is None:
            options = {
                name: value
                for name, value in self.kafka.options().items()
                if name in KafkaProducer.DEFAULT_CONFIG
            }
            self._producer = KafkaProducer(**options, acks="all")
        futures = []
        for record in records:
            one = record if isinstance(record, Incoming) else plain(record)
            futures.append(
                self._producer.send(
                    self.kafka.topics["verdicts"],
                    key=one.key,
                    value=one.value,
                    headers=list(one.headers),
                    partition=one.partition,
                )
            )
        self._producer.flush(timeout=30)
        for future in futures:
            if not future.succeeded():
                raise future.exception or TimeoutError("a record was not acknowledged in time")

    def records(self, topic: str) -> list[Any]:
        """Return all committed records (ConsumerRecords) of one of the five topics, by what it is."""
        if topic not in self._readers:
            self._readers[topic] = TopicReader(self.kafka.topics[topic], self.kafka.options())
        return self._readers[topic].read()

    def results(self) -> list[dict[str, Any]]:
        """Return the data of every result, partition by partition in order."""
        return [json.loads(record.value) for record in self.records("results")]

    def dead_letters(self) -> list[Any]:
        """Return every dead letter as a ConsumerRecord."""
        return self.records("dead_letters")

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the last state of every stream that has one."""
        # By partition too: a state that has moved was taken from its old one.
        last = {(stream_of(r.key), r.partition): r.value for r in self.records("state")}
        streams = ((key, value) for (key, _), value in last.items() if key is not None and value is not None)
        return {key: json.loads(value) for key, value in streams}

    # The vendors.

    def vendor_log(self) -> list[dict[str, Any]]:
        """Return what the simulators have logged: a line for each request, in order."""
        if not self.request_log.exists():
            return []
        return [json.loads(line) for line in self.request_log.read_text("utf-8").splitlines()]

    def vendor_stats(self) -> dict[str, dict[str, Any]]:
        """Return each vendor's counters and quota windows."""
        return {vendor: self._ask(vendor, "stats") for vendor in ACCOUNTS.values()}

    def vendor_state(self) -> dict[str, dict[str, Any]]:
        """Return what each vendor has in force, and what is live there."""
        return {vendor: self._ask(vendor, "state") for vendor in ACCOUNTS.values()}

    def go_live(self, vendor: str, stream: str, reconnects_after: Millis | None = None) -> None:
        """Start an encoder at a vendor; it comes back after each cut if asked to."""
        body = {"domain": PUSH, "app": APP, "stream": stream, "reconnects_after_ms": reconnects_after}
        self._tell(vendor, "publish", body)

    def go_off(self, vendor: str, stream: str) -> None:
        """End an encoder at a vendor."""
        self._tell(vendor, "unpublish", {"domain": PUSH, "app": APP, "stream": stream})

    def meddle(
        self, vendor: str, what: Literal["ban", "lift", "unblock"], stream: str, **more: Millis
    ) -> None:
        """Change what a vendor has in force behind the worker's back."""
        self._tell(vendor, what, {"domain": PUSH, "app": APP, "stream": stream, **more})

    def play_script(self, vendor: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the faults of one vendor."""
        self._tell(vendor, "script", list(rules))

    def _ask(self, vendor: str, page: str) -> dict[str, Any]:
        answer = self._http.get(f"{self.vendors.urls[vendor]}/_sim/{page}")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def _tell(self, vendor: str, page: str, body: Any) -> None:
        self._http.post(f"{self.vendors.urls[vendor]}/_sim/{page}", json=body).raise_for_status()


def _target(account: str) -> dict[str, str]:
    return {
        "account": account,
        "push_domain": PUSH,
        "play_domain": PLAY,
        "app": APP,
        "stream": "{stream.name}",
    }


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with changes in it; a member that is None is taken away."""
    merged = dict(base)
    for name, value in changes.items():
        inner = merged.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            merged[name] = _merged(inner, value)
        else:
            merged[name] = value
    return {name: value for name, value in merged.items() if value is not None}
