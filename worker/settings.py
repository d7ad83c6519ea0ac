"""The YAML file and the environment -> Settings. The only reader of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.core.policy import Policy
from worker.core.routes import Route
from worker.vendors.base import Account, Quota
from worker.words import Millis


@dataclass(frozen=True, slots=True)
class Topics:
    """The five topics' names."""

    verdicts: str = "moderation.verdicts"
    results: str = "moderation.results"
    state: str = "moderation.stream-state"
    dead_letters: str = "moderation.dead-letters"
    control: str = "moderation.control"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The ``kafka`` section. ``client`` holds kafka-python options and may hold a password: no ``repr``.

    ``gather`` is how long the journal waits for more steps before a transaction, in milliseconds.
    """

    bootstrap_servers: tuple[str, ...]
    group_id: str
    instance_id: str
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    partitioner: Literal["murmur2", "crc32", "fnv1a"] = "murmur2"
    session_timeout: Millis = 10_000
    gather: Millis = 0
    max_invalid_in_a_row: int = 1000
    partitions: int = 12
    replication: int = 3
    create_topics: bool = False
    topics: Topics = field(default_factory=Topics)
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class OpsSettings:
    """Where /metrics, /healthz and /readyz are served. Port 0 takes any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's probes come from outside
    port: int = 9464


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One account: its credentials, how hard it may be used, and how long an answer may take.

    ``quotas`` are the vendor's own, replaced where the file says otherwise. ``reserve`` is the share of
    each quota kept for ``critical`` calls (0.05 = 5 %, at least one slot; none for windows up to 1 s).
    ``timeout`` bounds one whole request, in milliseconds.
    """

    account: Account
    quotas: Mapping[str, tuple[Quota, ...]]
    timeout: Millis = 10_000
    concurrency: int = 10
    reserve: float = 0.05
    allow_insecure: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the file says."""

    kafka: KafkaSettings
    accounts: Mapping[str, AccountSettings]
    policy: Policy
    routes: tuple[Route, ...] = ()
    ops: OpsSettings = field(default_factory=OpsSettings)
