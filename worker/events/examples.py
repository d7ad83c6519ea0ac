"""Events and results as they look on the wire; published with the schemas, and read back by the tests."""

from typing import Any

from worker.events.times import format_rfc3339
from worker.words import Millis, digest

Json = dict[str, Any]

NOON: Millis = 1_795_348_800_000
"""2026-11-22T12:00:00Z; every example was made before it."""


def _at(seconds: float) -> str:
    """Return a moment counted from 10:05:00Z of the examples' day, when the violation was seen."""
    return format_rfc3339(NOON - 6_900_000 + round(seconds * 1000))


TARGET = {
    "account": "hw",
    "push_domain": "push.acme.example",
    "play_domain": "play.acme.example",
    "app": "live",
    "stream": "room42",
}
STREAM: Json = {"key": "acme/room42"}
SESSION = {"id": "s-77", "started_at": _at(-300)}

MINIMAL: Json = {
    "verdict_id": "v-20261122-0002",
    "stream": STREAM,
    "detected_at": _at(0),
    "category": "spam",
    "severity": "low",
}
FULL: Json = {
    "verdict_id": "v-20261122-0001",
    "kind": "violation",
    "tenant": "acme",
    "stream": STREAM | {"session": SESSION, "targets": [TARGET]},
    "detected_at": _at(0),
    "expires_at": _at(600),
    "category": "nudity",
    "severity": "high",
    "confidence": 0.97,
    "origin": "machine",
    "regions": [],
    "requested": {"action": "forbid", "for_s": 600},
    "reason": "Nudity in a public room",
    "evidence": [{"uri": "s3://evidence/room42/0001.jpg", "sha256": "9f86d081884c7d65"}],
    "mode": "live",
    "labels": {"model": "nsfw-7"},
}


def _command(number: int, command: str, **more: Any) -> Json:
    return {
        "command_id": f"c-{number}",
        "command": command,
        "stream": STREAM,
        "by": "moderator-17",
        "issued_at": _at(60),
    } | more


def _stream_event(what: str, seconds: float, **more: Any) -> Json:
    return {"stream_event": what, "stream": STREAM | more, "at": _at(seconds)}


def _result(outcome: str, seconds: float, *, terminal: bool = True, **more: Any) -> Json:
    """Return a result about FULL at TARGET; ``more`` replaces fields."""
    body = {
        "result_id": digest(FULL["verdict_id"], outcome),
        "verdict_id": FULL["verdict_id"],
        "command_id": None,
        "stream": {"key": STREAM["key"], "session_id": SESSION["id"]},
        "tenant": "acme",
        "target": {"account": "hw", "vendor": "huawei"} | TARGET,
        "outcome": outcome,
        "terminal": terminal,
        "action": "forbid",
        "until": _at(600.02),
        "regions": [],
        "hold": "h-5tBq0x",
        "rule": "nudity-high",
        "policy_version": "2026-11-01",
        "reason": "policy",
        "detail": "",
        "caused_by": None,
        "attempts": [],
        "timing": {
            "detected_at": _at(0),
            "received_at": _at(0.01),
            "decided_at": _at(0.02),
            "called_at": None,
            "answered_at": None,
            "verified_at": None,
        },
        "error": None,
        "observed": None,
        "mode": "live",
        "worker": {"instance": "worker-0", "version": "1.0.0"},
        "at": _at(seconds),
    }
    return body | more


def _attempt(number: int, operation: str, seconds: float, status: int | None, outcome: str) -> Json:
    return {
        "n": number,
        "operation": operation,
        "at": _at(seconds),
        "duration_ms": 41 if status else None,
        "http_status": status,
        "vendor_code": None,
        "vendor_request_id": f"req-{number}" if status else None,
        "outcome": outcome,
    }


_BLOCKED = _attempt(1, "block", 0.06, 204, "done")
_TIMING = _result("applied", 0)["timing"] | {"called_at": _at(0.06), "answered_at": _at(0.101)}

EXAMPLES: dict[str, Json] = {
    "verdict-minimal": MINIMAL,
    "verdict-full": FULL,
    "verdict-clear": {
        "verdict_id": "v-20261122-0003",
        "kind": "clear",
        "stream": STREAM,
        "detected_at": _at(120),
        "category": "nudity",
    },
    "verdict-withdraw": {
        "verdict_id": "v-20261122-0004",
        "kind": "withdraw",
        "withdraws": "v-20261122-0001",
        "stream": STREAM,
        "detected_at": _at(150),
        "origin": "human",
        "reason": "A statue",
    },
    "command-release": _command(1, "release", holds=None, reason="Appeal accepted"),
    "command-approve": _command(2, "approve", holds=["h-5tBq0x"]),
    "command-reject": _command(3, "reject", holds=["h-5tBq0x"], reason="A statue"),
    "command-extend": _command(4, "extend", until=_at(86_400)),
    "command-query": _command(5, "query"),
    "stream-event-started": _stream_event(
        "started", 6_300, session={"id": "s-78", "started_at": _at(6_300)}, targets=[TARGET]
    ),
    "stream-event-ended": _stream_event("ended", 6_000, session=SESSION),
    "result-applied": _result(
        "applied",
        0.101,
        terminal=False,
        detail="Forbidden until 10:15 UTC; to be verified.",
        attempts=[_BLOCKED],
        timing=_TIMING,
    ),
    "result-verified": _result(
        "verified",
        5.2,
        detail="Forbidden until 10:15 UTC; the vendor's list shows it.",
        attempts=[_BLOCKED, _attempt(2, "list_blocks", 5.1, 200, "observed")],
        timing=_TIMING | {"verified_at": _at(5.2)},
    ),
    "result-absorbed": _result(
        "absorbed",
        9,
        verdict_id="v-20261122-0005",
        detail="A hold that ends no earlier is in force.",
        reason="covered",
        caused_by=FULL["verdict_id"],
    ),
    "result-no-action": _result(
        "no_action",
        0.02,
        verdict_id=MINIMAL["verdict_id"],
        stream={"key": STREAM["key"], "session_id": None},
        target=None,
        tenant=None,
        action="none",
        until=None,
        hold=None,
        rule=None,
        reason="no_rule",
        detail="No rule matches.",
    ),
    "result-held": _result(
        "held",
        0.02,
        terminal=False,
        reason="guard",
        detail="More than 50 forbids within 10 minutes at this account; waits for a human.",
    ),
    "result-failed": _result(
        "failed",
        600,
        hold=None,
        reason="gave_up",
        detail="The vendor could not be reached until the verdict expired.",
        attempts=[_attempt(1, "block", 0.06, None, "unreachable")],
        timing=_TIMING | {"answered_at": None},
        error={"class": "network", "message": "The vendor could not be reached."},
    ),
    "result-released": _result(
        "released",
        61,
        verdict_id=None,
        command_id="c-1",
        until=None,
        rule=None,
        reason="command",
        detail="Lifted: nothing else demands it.",
        attempts=[_attempt(1, "unblock", 60.9, 204, "done")],
    ),
    "result-observed": _result(
        "observed",
        70,
        verdict_id=None,
        command_id="c-5",
        action="query",
        until=None,
        hold=None,
        rule=None,
        reason="command",
        detail="Forbidden until 10:15 UTC; not live.",
        attempts=[_attempt(1, "list_blocks", 69.9, 200, "observed")],
        observed={
            "forbidden": True,
            "forbidden_until": _at(600.02),
            "live": False,
            "live_since": None,
            "regions": None,
            "regions_until": None,
        },
    ),
    "control-pause": {"by": "operator-3", "reason": "A model gone wrong", "at": _at(200)},
    "control-guard-release": {
        "decision": "release",
        "by": "operator-3",
        "reason": "They were right",
        "at": _at(400),
    },
    "control-partitions": {"by": "operator-3", "reason": "The upstream is mended", "at": _at(500)},
    "control-guard-reject": {"decision": "reject", "by": "operator-3", "reason": None, "at": _at(400)},
    "cloudevent-verdict": {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/pipelines/nsfw",
        "type": "moderation.verdict.v1",
        "time": _at(0.005),
        "datacontenttype": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": FULL,
    },
}
"""The examples by file name; the part before the last dash (or all of it) names their schema's file."""
