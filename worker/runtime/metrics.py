"""Every metric, in one place: name, labels, unit, buckets, and the label values known from the start.

Whoever owns a number counts it here through the attribute of its name, less the prefix. Stream keys,
stream names, tenants and free text are never label values. What is not known (the vendor of an
account that is not configured, the action of a query) has the label ``none``.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

from worker.core.outcome import OutcomeWord
from worker.events.codec import InvalidReason
from worker.vendors.base import VendorSpec
from worker.words import PRIORITIES, Action, ResultOutcome, Severity

EVENT_TYPES = ("verdict", "command", "stream")
RELOADS = ("ok", "refused")
RESET_REASONS = ("fenced", "membership", "timeout", "connection", "too_large", "refused", "error")
GATE_DECISIONS = ("allowed", "refused", "failed_open", "failed_closed")
PARKED_REASONS = ("approval", "guard", "pause", "account", "invalid_records")

REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From a vendor next door to past the default timeout of 10 s."""

ACTION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
"""Dense where a pipeline aims (1 to 10 s); 600 s is the default age at which a verdict goes stale."""

DARK_BUCKETS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 3600)
"""Later than the action: the checks come after 5 s, 30 s and 2 min by default."""

WAIT_BUCKETS = (0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
"""Up to the longest window of a quota, a day."""

COMMIT_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 20, 30)
"""A transaction takes about 20 ms; 30 s is when it is given up."""


class Metrics:
    """The metrics of one process, registered with ``registry``.

    ``accounts`` maps each configured account to its vendor. Counters of what has not happened yet start
    at 0, so that an alert on an increase sees the first one. Turns off ``_created`` series, for the
    whole process.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        accounts: Mapping[str, VendorSpec] | None = None,
        guards: Iterable[str] = (),
        version: str = "",
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it out
        self.registry = registry
        self.events_consumed_total = self._counter(
            "events_consumed_total", "Records read from the verdict topic and understood.", "type"
        )
        self.dead_letters_total = self._counter(
            "dead_letters_total", "Records that could not be understood and were put aside.", "reason"
        )
        self.results_total = self._counter(
            "results_total", "Results published.", "outcome", "action", "vendor"
        )
        self.vendor_requests_total = self._counter(
            "vendor_requests_total",
            "Requests to vendors, by what became of them; attempts to connect included.",
            "account",
            "operation",
            "outcome",
        )
        self.vendor_request_duration_seconds = self._histogram(
            "vendor_request_duration_seconds",
            "From the start of a request to a vendor to the end of its answer, or to its failure.",
            REQUEST_BUCKETS,
            "vendor",
            "operation",
        )
        self.verdict_to_action_seconds = self._histogram(
            "verdict_to_action_seconds",
            "From the detection of a violation to the vendor's acknowledgement of the action.",
            ACTION_BUCKETS,
            "severity",
        )
        self.time_to_dark_seconds = self._histogram(
            "time_to_dark_seconds",
            "From the detection of a violation to the vendor's confirmation that the action shows.",
            DARK_BUCKETS,
            "severity",
        )
        self.calls_waiting = self._gauge(
            "calls_waiting", "Calls that wait for a slot of an account.", "account", "priority"
        )
        self.account_open = self._gauge(
            "account_open",
            "Whether a vendor is taken for away (1), so that its calls wait, or not (0).",
            "account",
        )
        self.quota_used_ratio = self._gauge(
            "quota_used_ratio",
            "Used part of the fullest window of a quota (this replica's share of it); 1 is all.",
            "account",
            "operation",
        )
        self.vendor_capacity_used_ratio = self._gauge(
            "vendor_capacity_used_ratio",
            "Taken part of what a vendor keeps of bans or region blocks, of the fullest domain; 1 is all.",
            "account",
            "capacity",
        )
        self.quota_wait_seconds = self._histogram(
            "quota_wait_seconds",
            "How long a call that was due was kept back by quota or concurrency.",
            WAIT_BUCKETS,
            "account",
        )
        self.parked = self._gauge("parked", "Actions, or partitions, that wait for a human.", "reason")
        self.oldest_pending_seconds = self._gauge(
            "oldest_pending_seconds", "Age of the oldest verdict without its terminal result; 0 if none."
        )
        self.oldest_overdue_expiry_seconds = self._gauge(
            "oldest_overdue_expiry_seconds",
            "How long ago the oldest hold should have ended that is still in force at its vendor; 0 if none.",
        )
        self.streams = self._gauge("streams", "Streams whose state this replica holds.")
        self.consumer_lag_records = self._gauge(
            "consumer_lag_records", "Records not yet read, of each assigned partition.", "topic", "partition"
        )
        self.journal_commit_seconds = self._histogram(
            "journal_commit_seconds", "Duration of a transaction that was committed.", COMMIT_BUCKETS
        )
        self.journal_resets_total = self._counter(
            "journal_resets_total", "Transactions that failed, after which states are read again.", "reason"
        )
        self.guard_open = self._gauge("guard_open", "Whether a guard parks actions (1) or not (0).", "guard")
        self.policy_reloads_total = self._counter(
            "policy_reloads_total",
            "Changes of policy or routes in the configuration file that were taken or refused.",
            "result",
        )
        self.build_info = self._gauge("build_info", "Always 1; the label says what runs.", "version")
        self.build_info.labels(version).set(1)
        self._begin(accounts or {}, guards)

    def _begin(self, accounts: Mapping[str, VendorSpec], guards: Iterable[str]) -> None:
        """Make the series exist whose labels are known."""
        vendors = sorted({spec.name for spec in accounts.values()})
        _begin(self.events_consumed_total, EVENT_TYPES)
        _begin(self.dead_letters_total, get_args(InvalidReason))
        _begin(self.journal_resets_total, RESET_REASONS)
        _begin(self.policy_reloads_total, RELOADS)
        _begin(self.results_total, get_args(ResultOutcome), get_args(Action), [*vendors, "none"])
        _begin(self.verdict_to_action_seconds, get_args(Severity))
        _begin(self.time_to_dark_seconds, get_args(Severity))
        _begin(self.calls_waiting, accounts, PRIORITIES)
        _begin(self.quota_wait_seconds, accounts)
        _begin(self.account_open, accounts)
        _begin(self.parked, PARKED_REASONS)
        _begin(self.guard_open, guards)
        for account, spec in accounts.items():
            _begin(self.vendor_requests_total, [account], spec.operations, get_args(OutcomeWord))
            _begin(self.vendor_request_duration_seconds, [spec.name], spec.operations)
            _begin(self.quota_used_ratio, [account], spec.quotas)
            _begin(self.vendor_capacity_used_ratio, [account], spec.capacities)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"moderation_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"moderation_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"moderation_{name}", text, labels, registry=self.registry, buckets=buckets)


class GateMetrics:
    """The metrics of a publish gate, registered with ``registry``. ``accounts`` are those it answers for."""

    def __init__(self, registry: CollectorRegistry, accounts: Iterable[str], version: str = "") -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it out
        self.gate_answers_total = Counter(
            "moderation_gate_answers_total",
            "Answers to media servers, by what was decided.",
            ("account", "decision"),
            registry=registry,
        )
        self.gate_knowledge_age_seconds = Gauge(
            "moderation_gate_knowledge_age_seconds",
            "How long ago the gate knew all that was committed; NaN until it has read everything.",
            registry=registry,
        )
        self.gate_bans = Gauge(
            "moderation_gate_bans",
            "Streams that the gate knows a ban of, ended ones included.",
            registry=registry,
        )
        build = Gauge(
            "moderation_build_info", "Always 1; the label says what runs.", ("version",), registry=registry
        )
        build.labels(version).set(1)
        _begin(self.gate_answers_total, accounts, GATE_DECISIONS)
        _begin(self.gate_answers_total, ["none"], ["unknown_account"])


def _begin(metric: MetricWrapperBase, *values: Iterable[str]) -> None:
    for labels in product(*values):
        metric.labels(*labels)
