"""The YAML file and the environment -> Settings. The only reader of the environment."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import yaml

from worker import vendors
from worker.core.policy import Policy
from worker.core.routes import Route
from worker.settings_file import (
    ConfigError,
    Entry,
    How,
    Mistake,
    Section,
    T,
    boolean,
    duration,
    hint,
    length,
    name,
    number,
    one_of,
    one_or_each,
    parse,
    share,
    text,
    whole,
)
from worker.settings_policy import quota, read_policy, read_routes
from worker.settings_ports import GateSettings, OpsSettings, read_gate, read_ops
from worker.vendors.base import Account, Quota, Setting, VendorSpec
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
class AccountSettings:
    """One account: its credentials, how hard it may be used, and how long an answer may take.

    ``quotas`` are the vendor's own, replaced where the file says otherwise. ``reserve`` is the share of
    each quota kept for ``critical`` calls (0.05 = 5 %, at least one slot; none for windows up to 1 s), and
    of the ``concurrency`` (at least one place, at most a quarter).
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
    gate: GateSettings = field(default_factory=GateSettings)


def default_path(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the file that MODERATION_WORKER_CONFIG names."""
    return environ.get("MODERATION_WORKER_CONFIG") or None


def load(path: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return what a YAML file and the environment say.

    Raises ConfigError with every problem at once, a line each. ``HOSTNAME`` is the host's name where
    the environment does not have it.
    """
    return _read(path, environ, _settings)


def load_policy(path: str, base: Settings, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return settings with the policy of another file, and with its routes where it has any.

    The file is a whole configuration, or no more than ``policy`` and perhaps ``routes``; everything else
    is then ``base``'s. Raises ConfigError as ``load`` does.
    """

    def read(root: Entry) -> Settings:
        if {"kafka", "accounts"} & set(root.members()):
            return _settings(root)
        section = root.section("policy", "routes", required=("policy",))
        specs = {key: vendors.load_spec(one.account.vendor) for key, one in base.accounts.items()}
        return replace(
            base,
            policy=section.read("policy", read_policy, base.policy),
            routes=section.read("routes", lambda entry: read_routes(entry, specs), base.routes),
        )

    return _read(path, environ, read)


def _read(path: str, environ: Mapping[str, str], how: How[Settings]) -> Settings:
    try:
        root = parse(path, {"HOSTNAME": socket.gethostname(), **environ})
        settings = root.source.attempt(how, root, None)
    except RecursionError:
        raise ConfigError([f"{path}: is nested too deeply"]) from None
    if root.source.problems or settings is None:
        raise ConfigError(root.source.problems)
    return settings


def _settings(root: Entry) -> Settings:
    keys = ("kafka", "ops", "gate", "accounts", "routes", "policy", "quota_store")
    section = root.section(*keys, required=("kafka", "accounts", "policy"))
    if "quota_store" in section.members:
        root.source.problems.append(
            "quota_store: this version has no shared store of quotas; leave it out, "
            "and each replica takes the share of the partitions it holds"
        )
    specs: dict[str, VendorSpec | None] = {}
    accounts: dict[str, AccountSettings] = section.read("accounts", lambda entry: _accounts(entry, specs), {})
    return Settings(
        kafka=section.read("kafka", _kafka, KafkaSettings((), "", "")),
        accounts=accounts,
        policy=section.read("policy", read_policy, Policy("", ())),
        routes=section.read("routes", lambda entry: read_routes(entry, specs), ()),
        ops=section.read("ops", read_ops, OpsSettings()),
        gate=section.read("gate", read_gate, GateSettings()),
    )


def _kafka(entry: Entry) -> KafkaSettings:
    keys = (
        "bootstrap_servers",
        "group_id",
        "instance_id",
        "delivery",
        "partitioner",
        "session_timeout",
        "gather",
        "max_invalid_in_a_row",
        "topic_defaults",
        "create_topics",
        "topics",
        "client",
    )
    section = entry.section(*keys, required=("bootstrap_servers",))
    usual = KafkaSettings((), "moderation-worker", entry.source.environ["HOSTNAME"])
    delivery: tuple[Literal["exactly_once", "at_least_once"], ...] = ("exactly_once", "at_least_once")
    partitioner: tuple[Literal["murmur2", "crc32", "fnv1a"], ...] = ("murmur2", "crc32", "fnv1a")
    partitions, replication = section.read(
        "topic_defaults", _topic_defaults, (usual.partitions, usual.replication)
    )
    return KafkaSettings(
        bootstrap_servers=section.read("bootstrap_servers", _servers, ()),
        group_id=section.read("group_id", name, usual.group_id),
        instance_id=section.read("instance_id", name, usual.instance_id),
        delivery=section.read("delivery", one_of("a delivery", delivery), usual.delivery),
        partitioner=section.read("partitioner", one_of("a partitioner", partitioner), usual.partitioner),
        session_timeout=section.read("session_timeout", duration, usual.session_timeout),
        gather=section.read("gather", length(0), usual.gather),
        max_invalid_in_a_row=section.read("max_invalid_in_a_row", _COUNT, usual.max_invalid_in_a_row),
        partitions=partitions,
        replication=replication,
        create_topics=section.read("create_topics", boolean, usual.create_topics),
        topics=section.read("topics", _topics, usual.topics),
        client=section.read("client", _client, {}),
    )


_COUNT = whole(1, 1_000_000)


def _topic_defaults(entry: Entry) -> tuple[int, int]:
    section, usual = entry.section("partitions", "replication"), KafkaSettings((), "", "")
    partitions = section.read("partitions", _COUNT, usual.partitions)
    return partitions, section.read("replication", _COUNT, usual.replication)


def _servers(entry: Entry) -> tuple[str, ...]:
    """Read a list of HOST:PORT, or one text with commas between them."""
    found = [server.strip() for part in one_or_each(text)(entry) for server in part.split(",")]
    if not all(re.fullmatch(r"[^\s/@]+:[0-9]{1,5}", server) for server in found):
        raise entry.wrong("expected HOST:PORT, or a list of them")
    return tuple(found)


def _topics(entry: Entry) -> Topics:
    names = [field.name for field in fields(Topics)]
    section = entry.section(*names)
    found = {key: section.read(key, _topic, "") for key in names if key in section.members}
    topics = Topics(**found)
    if len({getattr(topics, key) for key in names}) < len(names):
        raise entry.wrong("the five topics are expected to be five")
    return topics


def _topic(entry: Entry) -> str:
    value = entry.text()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value):
        raise entry.wrong(f"{entry.show()} is not a topic's name (letters, digits, dots, _ and -)")
    return value


def _client(entry: Entry) -> dict[str, Any]:
    """Read options of the Kafka client. Passwords are among them: none of their values is ever shown."""
    # The client library loads slowly, and the file of most development set-ups needs none of its options.
    from worker.runtime.kafka_client import unknown_client_options  # noqa: PLC0415 - see above

    members = replace(entry, hidden=True).members()
    for key in unknown_client_options(dict.fromkeys(members)):
        entry.source.problems.append(
            f"{members[key].path}: is not an option of kafka-python, or not one that a file may set"
        )
    return {key: entry.source.attempt(_option, one, None) for key, one in members.items()}


def _option(entry: Entry) -> Any:
    if isinstance(entry.node, yaml.SequenceNode):
        return [_option(element) for element in entry.elements()]
    if entry.kind == "a boolean":
        return boolean(entry)
    value = entry.text()
    if entry.kind != "a number":
        return value
    try:
        return float(value) if entry.node.tag.endswith("float") else int(value)
    except ValueError:
        raise entry.wrong("expected a plain number") from None


def _accounts(entry: Entry, specs: dict[str, VendorSpec | None]) -> dict[str, AccountSettings]:
    """Read the ``accounts`` section, and note each account's vendor in ``specs``."""
    found: dict[str, AccountSettings] = {}
    members = entry.members()
    if not members:
        raise entry.wrong("names no account")
    for key, one in members.items():
        specs[key] = None
        try:
            found[key] = _account(one, key, specs)
        except Mistake as mistake:
            entry.source.problems.append(str(mistake))
    return found


def _account(entry: Entry, key: str, specs: dict[str, VendorSpec | None]) -> AccountSettings:
    members = entry.members()
    if "vendor" not in members:
        raise Mistake(f"{entry.path}.vendor: is required ({', '.join(vendors.vendor_names())})")
    vendor = one_of("a vendor", vendors.vendor_names())(members["vendor"])
    spec = specs[key] = vendors.load_spec(vendor)
    before = len(entry.source.problems)
    section = entry.section(
        *("vendor", "endpoint", "timeout_s", "concurrency", "quotas", "reserve", "allow_insecure"),
        *dict.fromkeys(setting.name.partition(".")[0] for setting in spec.settings),
        required=[one.name for one in spec.settings if one.required and "." not in one.name],
    )
    allow_insecure = section.read("allow_insecure", boolean, False)
    account = Account(key, vendor, _values(section, spec), section.read("endpoint", text, None))
    for where, value in {**account.settings, "endpoint": account.endpoint}.items():
        if isinstance(value, str) and value.lower().startswith("http://") and not allow_insecure:
            entry.source.problems.append(
                f"{entry.path}.{where}: http:// is refused unless allow_insecure: true stands beside it"
            )
    settings = AccountSettings(
        account=account,
        quotas={**spec.quotas, **section.read("quotas", lambda one: _quotas(one, spec), {})},
        timeout=round(section.read("timeout_s", number(0.1, 600), 10.0) * 1000),
        concurrency=section.read("concurrency", whole(1, 1000), 10),
        reserve=section.read("reserve", share, 0.05),
        allow_insecure=allow_insecure,
    )
    if len(entry.source.problems) == before:
        try:
            vendors.make(spec, account)
        except ValueError as error:
            names_key = str(error).partition(": ")[0] in {"endpoint", *(one.name for one in spec.settings)}
            raise Mistake(f"{entry.path}{'.' if names_key else ': '}{error}") from None
    return settings


def _values(section: Section, spec: VendorSpec) -> dict[str, str | bool]:
    """Read the vendor's own keys; what is absent has its default, or is left out."""
    found: dict[str, str | bool | None] = {}
    parts = {"": section, **_nested(section, spec)}
    for setting in spec.settings:
        part, _, key = setting.name.rpartition(".")
        how: How[str | bool] = boolean if setting.type == "boolean" else text
        if setting.secret:
            how = _hidden(how)
        if part in parts:
            found[setting.name] = parts[part].read(key, how, setting.default)
    return {key: value for key, value in found.items() if value is not None}


def _nested(section: Section, spec: VendorSpec) -> dict[str, Section]:
    """Read the mappings that some of the vendor's keys stand in, those that are given."""
    wanted: dict[str, list[Setting]] = {}
    for setting in spec.settings:
        part, _, _ = setting.name.rpartition(".")
        if part in section.members:
            wanted.setdefault(part, []).append(setting)
    found: dict[str, Section] = {}
    for part, settings in wanted.items():
        keys = {one.name.rpartition(".")[2]: one.required for one in settings}
        entry = section.members[part]
        try:
            found[part] = entry.section(*keys, required=[key for key, needed in keys.items() if needed])
        except Mistake as mistake:
            entry.source.problems.append(str(mistake))
    return found


def _hidden(how: How[T]) -> How[T]:
    return lambda entry: how(replace(entry, hidden=True))


def _quotas(entry: Entry, spec: VendorSpec) -> dict[str, tuple[Quota, ...]]:
    charged = {key for operation in spec.operations.values() for key in operation.charges}
    found: dict[str, tuple[Quota, ...]] = {}
    for key, one in entry.members().items():
        if key not in charged:
            entry.source.problems.append(
                f"{one.path}: is not an operation of {spec.name} ({hint(key, sorted(charged))})"
            )
        found[key] = entry.source.attempt(one_or_each(quota), one, ())
    return found
