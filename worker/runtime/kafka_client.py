"""kafka-python, tamed: its clients with our settings.

The library's own behaviour is repaired here in a few places, and nowhere else; ``kafka_records.py`` goes
around what it does for each record. Both look for the private names they need and refuse to go on without
them, so that an upgrade cannot drop them silently.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import FencedInstanceIdError, KafkaConnectionError, KafkaError, RebalanceInProgressError
from kafka.net import inet, transport
from kafka.net.compat import KafkaNetClient

from worker.runtime.kafka_records import private
from worker.settings import KafkaSettings
from worker.words import Millis

log = logging.getLogger(__name__)

FLUSH_S = 22.0
"""How long writing may take: a little more than ``delivery_timeout_ms``, which settles every record."""

WATCHDOG_S = 30.0
"""After this long a transaction is given up: three of its calls have no timeout of their own."""

TRANSACTION_TIMEOUT_S = 30.0
"""After this long the broker aborts what a dead owner left open."""

_COMMON: Mapping[str, Any] = {
    "metrics_enabled": False,
    "reconnect_backoff_max_ms": 1000,
    "request_timeout_ms": 5000,
    "bootstrap_timeout_ms": 10_000,
    "allow_auto_create_topics": False,
}

_PRODUCER: Mapping[str, Any] = {
    "delivery_timeout_ms": 20_000,
    # A timed-out transactional request is fatal, and a dead broker is noticed only after 9 s.
    "request_timeout_ms": 15_000,
    "max_block_ms": 15_000,
    "linger_ms": 0,
    "batch_size": 256 * 1024,
    # The broker's limit decides, not the client's: dead letters may be larger than the default.
    "max_request_size": 16 * 1024 * 1024,
}

_OURS = frozenset(
    {
        "acks",
        "auto_offset_reset",
        "bootstrap_servers",
        "enable_auto_commit",
        "enable_idempotence",
        "group_id",
        "group_instance_id",
        "isolation_level",
        "kafka_client",
        "key_deserializer",
        "key_serializer",
        "partition_assignment_strategy",
        "transactional_id",
        "value_deserializer",
        "value_serializer",
    }
)
"""Options on which the promises rest. The configuration cannot set them."""


def unknown_client_options(options: Mapping[str, Any]) -> list[str]:
    """Return the options that no kafka-python client knows, or that are the worker's own to set."""
    known = {*KafkaConsumer.DEFAULT_CONFIG, *KafkaProducer.DEFAULT_CONFIG, *KafkaAdminClient.DEFAULT_CONFIG}
    return sorted(name for name in options if name not in known or name in _OURS)


def session_timeout(settings: KafkaSettings) -> Millis:
    """Return after how long the group will give our partitions away, as the group consumer tells it."""
    return int(settings.client.get("session_timeout_ms", settings.session_timeout))


def _options(kind: Any, settings: KafkaSettings, defaults: Mapping[str, Any], **ours: Any) -> dict[str, Any]:
    """Merge ours over the user's over the defaults, and keep what this client knows."""
    user = dict(settings.client)
    if isinstance(user.get("api_version"), list):
        user["api_version"] = tuple(user["api_version"])  # YAML has no tuples
    merged = {"client_id": f"moderation-worker.{settings.instance_id}", **_COMMON, **defaults, **user, **ours}
    merged["bootstrap_servers"] = list(settings.bootstrap_servers)
    return {name: value for name, value in merged.items() if name in kind.DEFAULT_CONFIG}


def _client(kind: Any, settings: KafkaSettings, defaults: Mapping[str, Any], **ours: Any) -> Any:
    """Build a client; if that fails, end the thread which its constructor has started and forgets."""
    started: list[Any] = []

    def start(**configs: Any) -> Any:
        network = KafkaNetClient(**configs)
        started.append(network)
        return network

    try:
        return kind(**_options(kind, settings, defaults, **ours, kafka_client=start))
    except BaseException:
        for network in started:
            network.close()
        raise


def group_consumer(
    settings: KafkaSettings,
    *,
    on_heartbeat: Callable[[float], None],
    on_fenced: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Return the consumer that joins the group, a static member.

    ``on_heartbeat(sent_at)`` is told, on the client's own thread, when (by ``clock``, in seconds) an
    answered heartbeat was *sent*. ``on_fenced`` is told that another process took this member's name;
    the library itself would only stop its heartbeats.

    Cooperative assignment: partitions that stay keep their states, their calls under way and their
    records flowing, where an eager rebalance would read the states of the whole group again.
    """
    consumer = _client(
        KafkaConsumer,
        settings,
        {
            "session_timeout_ms": session_timeout(settings),
            "heartbeat_interval_ms": session_timeout(settings) // 6,
            "max_poll_interval_ms": 60_000,
            "fetch_max_wait_ms": 100,
        },
        group_id=settings.group_id,
        group_instance_id=settings.instance_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=[CooperativeStickyAssignor],
    )
    _watch_heartbeats(consumer, on_heartbeat, on_fenced, clock)
    return consumer


def restore_consumer(settings: KafkaSettings, *, committed_only: bool) -> Any:
    """Return a consumer outside the group. It knows the group's name only to ask for its offsets."""
    return _outsider(settings, settings.group_id, committed_only=committed_only)


def reading_consumer(settings: KafkaSettings, *, committed_only: bool, wait: Millis = 50) -> Any:
    """Return a consumer of no group at all: whoever may read topics may use it. ``wait`` for new records."""
    return _outsider(settings, None, committed_only=committed_only, wait=wait)


def _outsider(
    settings: KafkaSettings, group_id: str | None, *, committed_only: bool, wait: Millis = 50
) -> Any:
    return _client(
        KafkaConsumer,
        settings,
        {"max_partition_fetch_bytes": 4 << 20, "fetch_max_wait_ms": wait},
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed_only else "read_uncommitted",
    )


def transactional_producer(settings: KafkaSettings) -> Any:
    """Return a producer that has ended whatever its predecessor of the same name left open.

    Raises KafkaError after at most ``bootstrap_timeout_ms`` + ``max_block_ms``.
    """
    producer = _client(
        KafkaProducer,
        settings,
        # A commit that meets the last one still completing sleeps this long: the default costs 300 ms.
        {
            **_PRODUCER,
            "retry_backoff_ms": 10,
            "transaction_timeout_ms": int(TRANSACTION_TIMEOUT_S * 1000),
        },
        transactional_id=f"{settings.group_id}.{settings.instance_id}",
    )
    _survive_refusals(producer)
    try:
        producer.init_transactions()
    except BaseException:
        bury(producer)
        raise
    return producer


def plain_producer(settings: KafkaSettings) -> Any:
    """Return an idempotent producer that waits for all replicas, for brokers without transactions."""
    return _client(KafkaProducer, settings, _PRODUCER, acks="all", enable_idempotence=True)


def admin_client(settings: KafkaSettings) -> Any:
    """Return an admin client."""
    return _client(KafkaAdminClient, settings, {})


def bury(producer: Any) -> None:
    """Close a producer that failed, without waiting for what it still holds.

    ``close()`` alone would flush first, fail at that, and leave the sender thread alive, which could
    still fence its successor. What the producer still held is lost on purpose: a restore decides.
    """
    sender = private(producer, "_sender")
    private(sender, "force_close")()

    def close(patience_s: float) -> None:
        sender.join(timeout=patience_s)
        if not sender.is_alive():
            with contextlib.suppress(KafkaError):
                producer.close(timeout=0)

    close(2.0)
    if sender.is_alive():  # in a call that ends with its own timeout
        threading.Thread(target=close, args=(2 * WATCHDOG_S,), name="bury", daemon=True).start()


def heartbeat_soon(consumer: Any) -> None:
    """Let a member that has just joined prove itself at once instead of after a whole interval."""
    coordinator = private(consumer, "_coordinator")
    # A failed heartbeat is repeated after retry_backoff_ms; nothing else looks at the mark.
    private(coordinator, "heartbeat").fail_heartbeat()
    private(coordinator, "_heartbeat_wakeup").notify()


def _watch_heartbeats(
    consumer: Any,
    on_heartbeat: Callable[[float], None],
    on_fenced: Callable[[], None],
    clock: Callable[[], float],
) -> None:
    coordinator = private(consumer, "_coordinator")
    send = private(coordinator, "_send_heartbeat_request")

    async def watched() -> None:
        sent_at = clock()  # not when the answer is read: a frozen process reads old answers
        try:
            await send()
        except RebalanceInProgressError:
            on_heartbeat(sent_at)  # the broker knows us still
            raise
        except FencedInstanceIdError:
            on_fenced()
            raise
        on_heartbeat(sent_at)

    coordinator._send_heartbeat_request = watched  # noqa: SLF001 - one of the repairs of this file


def _survive_refusals(producer: Any) -> None:
    """Keep a transactional request that meets a coordinator which refuses connections.

    The library lets ``await_ready`` raise, and then forgets the request: its caller waits for ever.
    """
    client = private(private(producer, "_sender"), "_client")
    await_ready = private(client, "await_ready")

    def patient(node: Any, timeout_ms: int = 2000) -> bool:
        try:
            return bool(await_ready(node, min(timeout_ms, 2000)))
        except KafkaConnectionError:
            time.sleep(0.02)
            return False

    client.await_ready = patient


def _repair_connecting() -> None:
    """Close the socket of a connection that fails before it is made.

    The library leaves it to the garbage collector, in a cycle. While a broker is away every attempt leaks
    one, and an idle process runs out of file descriptors before a full collection comes.
    """
    sockets, secure = inet.KafkaNetSocket, transport.KafkaSSLTransport
    connect, handshake = private(sockets, "sock_connect"), private(secure, "handshake")
    private(secure, "abort")

    async def sock_connect(self: Any, net: Any, sock: Any, where: Any, timeout_at: Any = None) -> Any:
        try:
            return await connect(self, net, sock, where, timeout_at=timeout_at)
        except Exception:
            sock.close()
            raise

    async def shake_hands(self: Any) -> None:
        try:
            await handshake(self)
        except Exception as error:
            self.abort(error)
            raise

    sockets.sock_connect = sock_connect
    secure.handshake = shake_hands


_repair_connecting()


class ClientLogFilter(logging.Filter):
    """Lets through a few of each kind of the ``kafka`` loggers' messages, and counts the rest.

    The client repeats some warnings thousands of times while a broker is away. Below WARNING nothing
    passes: those messages show keys and values. Attach it to handlers, since a logger's own filter does
    not see its children's records.
    """

    def __init__(
        self, burst: int = 5, per_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes; the first of a new period says how many did not."""
        if record.name.partition(".")[0] != "kafka":
            return True
        if record.levelno < logging.WARNING:
            return False
        kind, now = (record.name, str(record.msg)), self._clock()
        since, count = self._seen.get(kind, (now, 0))
        if now - since >= self._per_s:
            if count > self._burst:
                record.msg = f"{record.getMessage()} ({count - self._burst} more like this were left out)"
                record.args = ()
            since, count = now, 0
        self._seen[kind] = (since, count + 1)
        return count < self._burst
