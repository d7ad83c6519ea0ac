"""The sections of the file that open a port: ``ops`` and ``gate``."""

from dataclasses import dataclass
from typing import Literal

from worker.settings_file import Entry, duration, one_of, text, whole
from worker.words import Millis


@dataclass(frozen=True, slots=True)
class OpsSettings:
    """Where /metrics, /healthz and /readyz are served. Port 0 takes any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's probes come from outside
    port: int = 9464


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Where the publish gate is asked. ``fail``: what it answers while it does not know what is forbidden.

    ``away``: how old its knowledge may be, in milliseconds.
    """

    host: str = "0.0.0.0"  # noqa: S104 - media servers ask from outside
    port: int = 9465
    fail: Literal["closed", "open"] = "closed"
    away: Millis = 30_000


def read_ops(entry: Entry) -> OpsSettings:
    """Read the ``ops`` section."""
    section, usual = entry.section("host", "port"), OpsSettings()
    return OpsSettings(
        host=section.read("host", text, usual.host), port=section.read("port", whole(0, 65535), usual.port)
    )


def read_gate(entry: Entry) -> GateSettings:
    """Read the ``gate`` section."""
    section, usual = entry.section("host", "port", "fail", "away"), GateSettings()
    fail: tuple[Literal["closed", "open"], ...] = ("closed", "open")
    return GateSettings(
        host=section.read("host", text, usual.host),
        port=section.read("port", whole(0, 65535), usual.port),
        fail=section.read("fail", one_of("a way to fail", fail), usual.fail),
        away=section.read("away", _away, usual.away),
    )


def _away(entry: Entry) -> Millis:
    if (found := duration(entry)) < 2_000:  # noqa: PLR2004 - the brokers are asked once a second
        raise entry.wrong(f"{entry.show()} is expected to be 2s or more")
    return found
