"""The publish gate: answers a media server that asks whether a stream may be published.

It follows the state topic, in which a ban is in force once it is committed, and answers from memory. One
gate serves many servers, and many gates one: they keep nothing. nginx-rtmp::

    on_publish http://gate:9465/edge;      # edge: the account whose server this is
"""

import logging
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Collection
from http import HTTPStatus
from types import FrameType
from urllib.parse import unquote_to_bytes

from prometheus_client import CollectorRegistry

from worker import __version__
from worker.app import account_parts, configure_logs
from worker.core.bans import Bans
from worker.runtime.follower import Follower
from worker.runtime.metrics import GateMetrics
from worker.runtime.ops import Ops, OpsError
from worker.settings import Settings
from worker.settings_ports import GateSettings, OpsSettings
from worker.words import Millis

log = logging.getLogger(__name__)

KNOWN_STRANGERS = 100
"""So many accounts that are none are named in the log, each once."""

Answer = tuple[HTTPStatus, str]


class Gate:
    """Decides. ``bans`` gives what is forbidden, or None while that is not known."""

    def __init__(
        self,
        settings: GateSettings,
        accounts: Collection[str],
        bans: Callable[[], Bans | None],
        metrics: GateMetrics,
        now: Callable[[], Millis] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._fail, self._accounts, self._bans = settings.fail, frozenset(accounts), bans
        self._metrics, self._now = metrics, now
        self._strangers: set[str] = set()

    def answer(self, path: str, form: bytes) -> Answer:
        """Answer a question: 200 lets the stream be published, anything else does not.

        Whatever is asked of a forbidden stream is refused, whichever hook it comes from (``on_publish``,
        ``on_play``, ``on_update``). While the gate knows nothing, only who begins to publish is answered
        as configured: what runs already is not ended for that.
        """
        account = path.removeprefix("/")
        if account not in self._accounts:
            self._stranger(account)
            self._metrics.gate_answers_total.labels("none", "unknown_account").inc()
            return HTTPStatus.FORBIDDEN, "no such account"
        asked = fields(form)
        status, decision = self._decide(account, asked)
        self._metrics.gate_answers_total.labels(account, decision).inc()
        return status, decision

    def _decide(self, account: str, asked: dict[str, str]) -> Answer:
        bans = self._bans()
        if bans is None:
            if self._fail == "open" or asked.get("call", "publish") != "publish":
                return HTTPStatus.OK, "failed_open"
            return HTTPStatus.SERVICE_UNAVAILABLE, "failed_closed"
        if bans.forbidden((account, asked.get("app", ""), asked.get("name", "")), self._now()):
            return HTTPStatus.FORBIDDEN, "refused"
        return HTTPStatus.OK, "allowed"

    def _stranger(self, account: str) -> None:
        """Say once that somebody asks at a wrong address; not what else it could hold."""
        shown = account if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", account) else "another path"
        if shown not in self._strangers and len(self._strangers) < KNOWN_STRANGERS:
            self._strangers.add(shown)
            about = {"asked": shown, "expected": sorted(self._accounts)}
            log.warning("a server asks for an account that this gate does not serve: refused", extra=about)


def fields(form: bytes) -> dict[str, str]:
    """Return a form's fields, of each name the first.

    A server appends the publisher's own arguments to what it says itself, so a later ``name`` is an
    attempt. ``+`` stands for itself: nginx writes a space as ``%20``, and leaves ``+`` as it is.
    """
    found: dict[str, str] = {}
    for part in form.split(b"&"):
        name, _, value = part.partition(b"=")
        found.setdefault(_text(name), _text(value))
    return found


def _text(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def gated(settings: Settings) -> tuple[str, ...]:
    """Return the accounts whose server asks a gate."""
    return tuple(name for name, part in account_parts(settings).items() if part.spec.gate)


def run(settings: Settings) -> int:
    """Serve until told to stop.

    Returns the exit code: 0 after SIGTERM, 130 after an interrupt, 1 if the port cannot be opened.
    """
    configure_logs(settings, account_parts(settings))
    accounts = gated(settings)
    registry = CollectorRegistry(auto_describe=True)
    metrics = GateMetrics(registry, accounts, __version__)
    follower = Follower(settings.kafka, accounts, settings.gate.away)
    metrics.gate_knowledge_age_seconds.set_function(lambda: _or_nan(follower.age_s()))
    metrics.gate_bans.set_function(lambda: len(follower.bans() or ()))
    server = Ops(
        OpsSettings(settings.gate.host, settings.gate.port),
        registry,
        not_ready=follower.reasons_not_known,
        not_healthy=lambda: [] if follower.alive() else ["the follower of the states does not run"],
        hook=Gate(settings.gate, accounts, follower.bans, metrics).answer,
        section="gate",
    )
    ended = _Ended()
    follower.start()
    try:
        server.start()
    except OpsError as error:
        log.critical("%s", error)
        follower.stop(timeout_s=1.0)
        return 1
    log.info("started", extra={"version": __version__, "accounts": accounts, "ops_port": server.port})
    ended.wait()
    server.stop()
    follower.stop(timeout_s=1.0)
    log.info("stopped")
    return 130 if ended.by == signal.SIGINT else 0


class _Ended:
    """Waits for SIGTERM or an interrupt."""

    def __init__(self) -> None:
        self.by: int | None = None
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.by = number
        self._event.set()

    def wait(self) -> None:
        """Return once told to end."""
        self._event.wait()


def _or_nan(age_s: float | None) -> float:
    return math.nan if age_s is None else age_s
