"""The composition root: the only file that knows every concrete class."""

import gc
import logging
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from random import Random
from types import FrameType

from prometheus_client import CollectorRegistry

from worker import __version__
from worker.core.context import AccountView, Context
from worker.core.outcome import NextPage, NotThere, Observed, Outcome, Refused
from worker.core.routes import Routes
from worker.events.result import Result, WorkerRef
from worker.runtime import logs
from worker.runtime.accounts import AccountPart, Accounts
from worker.runtime.caller import Caller
from worker.runtime.clock import SystemClock
from worker.runtime.engine import Engine
from worker.runtime.kafka_client import ClientLogFilter
from worker.runtime.kafka_log import KafkaLog
from worker.runtime.messages import Answered, Granted, Message
from worker.runtime.metrics import PARKED_REASONS, Metrics
from worker.runtime.ops import Ops, OpsError
from worker.runtime.partition import oldest_end, oldest_pending, parked
from worker.runtime.reload import Reload
from worker.settings import Settings
from worker.vendors import load_spec, make
from worker.words import READS, Call, Target

log = logging.getLogger(__name__)

DRAIN_S = 15.0
"""How long a stop may take to let calls under way end and to make their answers durable."""
STUCK_S = 30.0
"""A loop that has not turned for so long is not healthy."""
COLLECT_EVERY = 50_000
"""After so many new objects the interpreter looks for cycles: more than live in one batch, so that these
have gone by themselves. With its default of 700 it looks at each of them twice, a tenth of all CPU time."""


def run(settings: Settings, until_idle: float | None = None, path: str | None = None) -> int:
    """Run the worker until it is told to stop, or has been idle for ``until_idle`` seconds.

    ``path`` is the file that the settings came from; policy and routes follow its changes.
    Returns the exit code: 0 after SIGTERM or when idle, 1 after a failure that a restart must mend (it is
    logged), 130 after an interrupt.
    """
    parts = account_parts(settings)
    configure_logs(settings, parts)
    return _Worker(settings, parts, until_idle, path).run()


def collect_seldom() -> None:
    """Let the interpreter look for cycles seldom, and never among what is there by now."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)


class _Worker:
    """One replica: all its threads, from start to drain."""

    def __init__(
        self,
        settings: Settings,
        parts: Mapping[str, AccountPart],
        until_idle: float | None,
        path: str | None,
    ) -> None:
        self._settings = settings
        self._until_idle = until_idle
        self._idle_since: float | None = None
        self._signal: int | None = None
        self._fatal: str | None = None
        self._clock = SystemClock()
        specs = {name: part.spec for name, part in parts.items()}
        registry = CollectorRegistry(auto_describe=True)
        guards = [guard.name for guard in settings.policy.guards]
        self.metrics = Metrics(registry, specs, guards, __version__)
        self._accounts = Accounts(parts, self.metrics)
        inbox: SimpleQueue[Message] = SimpleQueue()
        self._log = KafkaLog(settings.kafka, put=inbox.put, on_fatal=self._die, observer=self)
        self._caller = Caller(
            {name: (part.vendor, part.settings) for name, part in parts.items()},
            inbox.put,
            self._log.lease_fresh,
            self._clock,
            self.metrics,
        )
        ctx = Context(
            settings.policy,
            {name: AccountView.of(part.spec) for name, part in parts.items()},
            WorkerRef(instance=settings.kafka.instance_id, version=__version__),
            Routes(settings.routes),
        )
        self._engine = Engine(
            inbox,
            settings.kafka,
            ctx,
            self._accounts,
            self._log,
            self._caller.send,
            self._observe,
            self._die,
            self.metrics,
            self._clock,
            Random(),
        )
        self._reload = Reload(path, settings, inbox.put, self._on_reload) if path is not None else None
        self._ops = Ops(settings.ops, registry, not_ready=self.not_ready, not_healthy=self.not_healthy)
        self._gauges_at = 0.0
        self._gauges()

    def run(self) -> int:
        """Start everything, turn until the end, drain."""
        try:
            self._ops.start()
        except OpsError as error:
            log.critical("%s", error)
            return 1
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._caller.start()
        self._log.start()
        if self._reload is not None:
            self._reload.start()
            signal.signal(signal.SIGHUP, self._on_hangup)
        about = {"instance": self._settings.kafka.instance_id, "version": __version__}
        log.info("started", extra={**about, "ops_port": self._ops.port})
        collect_seldom()
        try:
            self._engine.run(self._over)
            if self._fatal is None:
                self._engine.drain(time.monotonic() + DRAIN_S)
        finally:
            if self._reload is not None:
                self._reload.stop(timeout_s=1.0)
            self._caller.stop(timeout=1.0)
            self._log.stop(timeout_s=5.0)
            self._ops.stop()
        if self._fatal is not None:
            return 1
        log.info("stopped")
        return 130 if self._signal == signal.SIGINT else 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        if self._reload is not None:
            self._reload.look_now()

    def _die(self, sentence: str) -> None:
        self._fatal = sentence

    def _over(self) -> bool:
        if self._clock.monotonic() - self._gauges_at >= 1:
            self._gauges()
        if self._fatal is not None or self._signal is not None:
            return True
        if self._until_idle is None:
            return False
        if not self._engine.idle():
            self._idle_since = None
            return False
        now = self._clock.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since >= self._until_idle

    # -- what the ops port shows -----------------------------------------------------------------------

    def not_ready(self) -> list[str]:
        """Return why this replica cannot do its work now."""
        reasons = self._log.reasons_not_ready()
        refused = sorted(self._accounts.stopped)
        reasons += [f'account "{name}": the vendor refuses its login' for name in refused]
        reasons += [
            f"partition {number} is stopped: too many unreadable records in a row"
            for number in sorted(self._log.stopped())
        ]
        return reasons + self._accounts.below_one()

    def not_healthy(self) -> list[str]:
        """Return which loop does not turn."""
        reasons = []
        if self._clock.monotonic() - self._engine.turned_at > STUCK_S:
            reasons.append("the engine does not turn")
        if not self._log.alive():
            reasons.append("a Kafka loop does not turn")
        if not self._caller.alive:
            reasons.append("the caller does not run")
        return reasons

    def on_commit(self, seconds: float) -> None:
        """Count a transaction."""
        self.metrics.journal_commit_seconds.observe(seconds)

    def on_reset(self, reason: str) -> None:
        """Count a reset of the journal."""
        self.metrics.journal_resets_total.labels(reason).inc()

    def _on_reload(self, result: str) -> None:
        """Count a change of the file; a guard that is gone has no gauge any more."""
        self.metrics.policy_reloads_total.labels(result).inc()
        if result == "ok":
            self.metrics.guard_open.clear()  # those that stay are set again with the other gauges

    def _observe(self, results: Sequence[Result]) -> None:
        """Count results that are committed, a batch at a time: they are many and alike."""
        for labels, number in Counter(map(_counted_as, results)).items():
            self.metrics.results_total.labels(*labels).inc(number)
        for result in results:
            if result.outcome in ("applied", "verified"):
                self._time(result)

    def _time(self, result: Result) -> None:
        timing, severity = result.timing, result.severity
        if severity is None or timing.detected_at is None:
            return
        if result.outcome == "applied" and result.reason == "policy" and timing.answered_at is not None:
            seconds = max(0, timing.answered_at - timing.detected_at) / 1000
            self.metrics.verdict_to_action_seconds.labels(severity).observe(seconds)
        elif result.outcome == "verified" and timing.verified_at is not None:
            seconds = max(0, timing.verified_at - timing.detected_at) / 1000
            self.metrics.time_to_dark_seconds.labels(severity).observe(seconds)

    def _gauges(self) -> None:
        """Set what is measured rather than counted. On the engine's thread, about once a second."""
        self._gauges_at = self._clock.monotonic()
        metrics, engine, now = self.metrics, self._engine, self._clock.now()
        for account, priority, number in self._accounts.waiting():
            metrics.calls_waiting.labels(account, priority).set(number)
        for account, is_open in self._accounts.open():
            metrics.account_open.labels(account).set(is_open)
        for account, quota, ratio in self._accounts.used_ratios(now):
            metrics.quota_used_ratio.labels(account, quota).set(ratio)
        for account, capacity, ratio in self._accounts.capacities.used_ratios():
            metrics.vendor_capacity_used_ratio.labels(account, capacity).set(ratio)
        waiting = parked(engine.partitions)
        waiting["invalid_records"] = len(self._log.stopped())
        for reason in PARKED_REASONS:
            metrics.parked.labels(reason).set(waiting[reason])
        for guard, parks in self._accounts.guards.parking(now).items():
            metrics.guard_open.labels(guard).set(parks)
        since = oldest_pending(engine.partitions)
        metrics.oldest_pending_seconds.set(0 if since is None else max(0, now - since) / 1000)
        ended = oldest_end(engine.partitions)
        overdue = max(engine.overdue, 0 if ended is None else now - ended)
        metrics.oldest_overdue_expiry_seconds.set(overdue / 1000)
        metrics.streams.set(sum(len(part.raw) for part in engine.partitions.values()))
        lags = self._log.lag()  # may wait for the brokers: not while the series are gone
        metrics.consumer_lag_records.clear()
        for partition, lag in lags.items():
            metrics.consumer_lag_records.labels(self._settings.kafka.topics.verdicts, partition).set(lag)


def account_parts(settings: Settings) -> dict[str, AccountPart]:
    """Return each account with its vendor's adapter."""
    parts = {}
    for name, account in settings.accounts.items():
        spec = load_spec(account.account.vendor)
        parts[name] = AccountPart(spec, make(spec, account.account), account)
    return parts


def configure_logs(settings: Settings, parts: Mapping[str, AccountPart]) -> None:
    """Log as a service does: no secret in it, and the Kafka client's repetitions left out."""
    logs.configure(redact=_secrets(settings, parts))
    for handler in logging.getLogger().handlers:
        handler.addFilter(ClientLogFilter())


def _secrets(settings: Settings, parts: Mapping[str, AccountPart]) -> list[str]:
    """Return every value that must never be shown."""
    found = [str(value) for name, value in settings.kafka.client.items() if "password" in name and value]
    for part in parts.values():
        values = part.settings.account.settings
        secret = [setting.name for setting in part.spec.settings if setting.secret]
        found += [str(values[name]) for name in secret if name in values]
    return found


# -- check --connect -----------------------------------------------------------------------------------


def probe_accounts(settings: Settings) -> list[tuple[str, bool, str]]:
    """Make one read-only call for each account; return (account, whether it is fine, a sentence).

    The call asks about a stream that does not exist, at the domains of the first route that names the
    account; an account without a route cannot be asked.
    """
    parts = account_parts(settings)
    answers: SimpleQueue[Answered] = SimpleQueue()
    metrics = Metrics(CollectorRegistry())
    clock = SystemClock()
    caller = Caller(
        {name: (part.vendor, part.settings) for name, part in parts.items()},
        answers.put,
        lambda partition, epoch: True,  # noqa: ARG005 - there is no partition to lose
        clock,
        metrics,
    )
    caller.start()
    found: dict[str, tuple[bool, str]] = {}
    asked = 0
    for name, part in parts.items():
        call = _probe(name, part, settings)
        if isinstance(call, str):
            found[name] = (True, call)
            continue
        caller.send(Granted(name, (call,), ((0, 0, "", ""),)))
        asked += 1
    longest = max((part.settings.timeout for part in parts.values()), default=0) / 1000 + 5
    try:
        for _ in range(asked):
            answered = answers.get(timeout=longest)
            found[answered.granted.account] = _verdict(answered.outcomes[0])
    except Empty:
        log.debug("an account gave no answer in time")
    caller.stop(timeout=0.0)
    return [(name, *found.get(name, (False, "no answer in time"))) for name in parts]


def _counted_as(result: Result) -> tuple[str, str, str]:
    """Return the labels of ``results_total``."""
    vendor = result.target.vendor if result.target else None
    return result.outcome, result.action or "none", vendor or "none"


def _probe(name: str, part: AccountPart, settings: Settings) -> Call | str:
    template = next(
        (target for route in settings.routes for target in route.targets if target.account == name), None
    )
    if template is None:
        return "not asked: no route names it, so no domain is known to ask about"
    target = Target(name, template.app, PROBE_STREAM, template.push_domain, template.play_domain)
    for operation in part.spec.operations.values():
        reads = [purpose for purpose in operation.serves if purpose in READS]
        if reads and all(getattr(target, need) is not None for need in operation.needs):
            return Call("probe", reads[0], operation.name, target)
    return "not asked: the vendor has no read-only call"


PROBE_STREAM = "moderation-worker-check"


def _verdict(outcome: Outcome) -> tuple[bool, str]:
    match outcome:
        case Observed() | NextPage() | NotThere():
            return True, "the login is accepted"
        case Refused(error="auth"):
            return False, f"the login is refused. {outcome.detail}".strip()
        case Refused():
            return False, f"refused ({outcome.error}). {outcome.detail}".strip()
        case _:
            return False, outcome.detail or "no usable answer"
