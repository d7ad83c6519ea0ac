"""What replicas are doing, as their metrics and the state topic tell it.

Counters become rates between two looks; gauges of several replicas are added up where they count, and the
worst of them stands where they compare.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from kafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from worker.core.state import StreamState, decode, stream_of
from worker.runtime import kafka_client
from worker.runtime.partition import due
from worker.settings import KafkaSettings
from worker.words import Millis, digest

TIMEOUT_S = 3.0
SLOWEST = 10
READ_S = 2.0
"""So long at most one look reads the state topic; the next one goes on."""

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]
"""Values by name (without the prefix) and labels."""

_PREFIX = "moderation_"
_open = build_opener(ProxyHandler({})).open  # replicas are never behind a proxy


@dataclass(frozen=True, slots=True)
class Look:
    """One replica's metrics at one moment; ``error`` where it does not answer."""

    url: str
    at: float
    samples: Samples = field(default_factory=dict, repr=False)
    error: str | None = None


def look(url: str) -> Look:
    """Ask one replica."""
    at = time.monotonic()
    try:
        with _open(f"{url.rstrip('/')}/metrics", timeout=TIMEOUT_S) as answer:
            return Look(url, at, samples(answer.read().decode()))
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return Look(url, at, error=str(getattr(reason, "strerror", None) or reason))


def samples(text: str) -> Samples:
    """Return the samples of a page of metrics. Raises ValueError."""
    return {
        (sample.name.removeprefix(_PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass(slots=True)
class Slow:
    """A stream with something that waits for its terminal result. ``stream`` only where it may be shown."""

    digest: str
    pending_s: float
    accounts: tuple[str, ...]
    waits: str
    stream: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class View:
    """Everything that is shown. Rates are per second, ratios 1 for all."""

    replicas: list[dict[str, Any]] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    lag: int = 0
    streams: int = 0
    oldest_pending_s: float = 0
    overdue_s: float = 0
    outcomes: dict[str, dict[str, float]] = field(default_factory=dict)
    waiting: dict[str, dict[str, int]] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)
    guards: dict[str, bool] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    refused_reloads: int = 0
    journal_resets: int = 0
    slowest: list[Slow] | None = None
    topics_error: str | None = None


_JSON = TypeAdapter(View)


def as_json(view: View, *, lines: bool) -> str:
    """Return a view as JSON; ``lines``: on one line."""
    return _JSON.dump_json(view, indent=None if lines else 2).decode()


def view(before: Sequence[Look], after: Sequence[Look]) -> View:
    """Return what two looks at the same replicas tell."""
    earlier = {one.url: one for one in before}
    shown = View()
    totals: Counter[str] = Counter()
    paces: dict[str, float] = defaultdict(float)
    for now in after:
        then = earlier.get(now.url, now)
        shown.replicas.append(_replica(now))
        seconds = now.at - then.at
        for (name, labels), number in now.samples.items():
            rate = max(0.0, number - then.samples.get((name, labels), number)) / seconds if seconds else 0.0
            _add(shown, name, dict(labels), number, rate)
            if name == "results_total":
                outcome = dict(labels)["outcome"]
                totals[outcome] += int(number)
                paces[outcome] += rate
    shown.outcomes = {
        outcome: {"total": total, "per_s": round(paces[outcome], 2)}
        for outcome, total in totals.most_common()
        if total
    }
    shown.rates = {name: round(rate, 2) for name, rate in shown.rates.items()}
    return shown


def _replica(now: Look) -> dict[str, Any]:
    versions = [dict(labels)["version"] for name, labels in now.samples if name == "build_info"]
    return {"url": now.url, "version": versions[0] if versions else None, "error": now.error}


_RATES = {
    "events_consumed_total": "events",
    "results_total": "results",
    "vendor_requests_total": "requests",
    "dead_letters_total": "dead_letters",
}


def _add(shown: View, name: str, labels: Mapping[str, str], number: float, rate: float) -> None:
    if name in _RATES:
        shown.rates[_RATES[name]] = shown.rates.get(_RATES[name], 0.0) + rate
    match name:
        case "consumer_lag_records":
            shown.lag += int(number)
        case "streams":
            shown.streams += int(number)
        case "oldest_pending_seconds":
            shown.oldest_pending_s = max(shown.oldest_pending_s, number)
        case "oldest_overdue_expiry_seconds":
            shown.overdue_s = max(shown.overdue_s, number)
        case "calls_waiting":
            queue = shown.waiting.setdefault(labels["account"], {})
            queue[labels["priority"]] = queue.get(labels["priority"], 0) + int(number)
        case "quota_used_ratio":
            key = f"{labels['account']}/{labels['operation']}"
            shown.quotas[key] = max(shown.quotas.get(key, 0.0), round(number, 3))
        case "guard_open":
            shown.guards[labels["guard"]] = shown.guards.get(labels["guard"], False) or number > 0
        case "parked":
            shown.parked[labels["reason"]] = shown.parked.get(labels["reason"], 0) + int(number)
        case "policy_reloads_total" if labels["result"] == "refused":
            shown.refused_reloads += int(number)
        case "journal_resets_total":
            shown.journal_resets += int(number)
        case _:
            pass


# The state topic.


class OpenStreams:
    """Follows the state topic, and keeps what is open in it. Raises KafkaError."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = kafka_client.reading_consumer(settings, committed_only=True)
        topic = settings.topics.state
        numbers = self._consumer.partitions_for_topic(topic) or ()
        self._places = [TopicPartition(topic, number) for number in numbers]
        self._consumer.assign(self._places)
        self._consumer.seek_to_beginning(*self._places)
        self._open: dict[bytes, bytes] = {}

    def read(self) -> None:
        """Read what is new, for so long as it takes or a look may take."""
        until = time.monotonic() + READ_S
        ends = self._consumer.end_offsets(self._places)
        while time.monotonic() < until and any(self._consumer.position(p) < ends[p] for p in self._places):
            for records in self._consumer.poll(timeout_ms=200, max_records=5_000).values():
                for record in records:
                    self._take(record)

    def _take(self, record: Any) -> None:
        if stream_of(record.key) is None:
            return
        if record.value is not None and due(record.headers)[0] == 0:
            self._open[record.key] = record.value
        else:
            self._open.pop(record.key, None)

    def slowest(self, now: Millis, *, show_streams: bool) -> list[Slow]:
        """Return the streams that have waited longest for a terminal result."""
        return slowest(map(decode, self._open.values()), now, show_streams=show_streams)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def slowest(states: Iterable[StreamState], now: Millis, *, show_streams: bool) -> list[Slow]:
    """Return the streams whose oldest open event is the oldest. What waits for a human is left out."""
    found = []
    for state in states:
        pending = list(_pending(state, now))
        if pending:
            since = min(at for at, _, _ in pending)
            accounts: dict[str, str] = defaultdict(str)
            for _, account, waits in sorted(pending):
                accounts.setdefault(account, waits)
            waits = ", ".join(dict.fromkeys(accounts.values()))
            shown = state.key if show_streams else None
            found.append(Slow(digest(state.key), (now - since) / 1000, tuple(accounts), waits, shown))
    return sorted(found, key=lambda one: -one.pending_s)[:SLOWEST]


def _pending(state: StreamState, now: Millis) -> Iterator[tuple[Millis, str, str]]:
    for target in state.targets.values():
        if target.call is not None:
            waits = f"{target.call.operation} is under way"
        elif target.retry_at > now:
            waits = f"tried again after {target.error or 'no answer'}"
        elif target.check is not None:
            waits = "to be verified"
        else:
            waits = "waits for its call"
        for hold in target.holds:
            if hold.parked is None and hold.phase != "closed":
                yield hold.placed_at, target.target.account, waits
        for ask in target.asks:
            yield ask.cause.decided_at or now, target.target.account, waits
