"""A stream of events as an upstream would send it, good and bad; it knows what each of them is owed.

The same arguments always give the same load. It fits the configuration of ``stage``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from worker.events.codec import MAX_VALUE
from worker.events.partition import home_partition
from worker.events.times import format_rfc3339
from worker.sandbox.stage import ACCOUNTS, APP, PLAY, PUSH, Incoming
from worker.words import Millis

SECOND: Millis = 1_000
MINUTE: Millis = 60 * SECOND

MOST_REGION_BLOCKS = 150
"""Alibaba keeps 200 for a domain."""

Event = dict[str, Any]

ACTED = frozenset(
    {"applied", "verified", "already", "absorbed", "superseded", "no_action", "failed/ambiguous"}
)
"""What may become of a verdict that asks for an action. A cut may find nothing live (``no_action``); where
its answer got lost and the vendor cannot tell, it is ``failed/ambiguous``."""


@dataclass(frozen=True, slots=True)
class Owed:
    """What an event is owed: exactly one terminal result at each of ``accounts``, its outcome one of these.

    ``accounts`` None: at whatever it touches, but once at least; an account None: a result without a
    target. Of a failure the error's class is part of the outcome (``failed/config``).
    """

    outcomes: frozenset[str]
    accounts: tuple[str | None, ...] | None


@dataclass(slots=True)
class Load:
    """Records and when to send them (from 0 to ``lasts``), and what must become of them.

    ``events`` has every verdict and command once, ``records`` also copies and what is broken.
    ``owed`` is by verdict or command id. ``live`` has the encoders that publish at the start: vendor,
    stream, and after how long one comes back when it was cut (None: never).
    """

    lasts: Millis
    records: list[tuple[Millis, Incoming]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    owed: dict[str, Owed] = field(default_factory=dict)
    dead_letters: int = 0
    live: list[tuple[str, str, Millis | None]] = field(default_factory=list)


def build(seed: int, events: int, start: Millis, lasts: Millis = 0, partitions: int = 4) -> Load:
    """Return a load of about so many events; ``start`` is the moment when its first record will be sent."""
    load = Load(lasts)
    _Builder(load, Random(seed), start, partitions).fill(events)
    load.records.sort(key=lambda record: record[0])
    return load


class _Builder:
    """Adds scenes to a load until it is full."""

    def __init__(self, load: Load, random: Random, start: Millis, partitions: int) -> None:
        self._load, self._random, self._start, self._partitions = load, random, start, partitions
        self._rooms: list[str] = []
        self._number = self._region_blocks = 0

    def fill(self, events: int) -> None:
        """Add scenes; the rare ones are in every load."""
        rare: list[Callable[[], None]] = [
            self._flood,
            self._sessions,
            self._clear,
            self._withdraw,
            self._release,
            self._query,
            self._approve,
            self._reject,
            self._named,
            self._lost,
            self._nowhere,
            self._expired,
        ]
        for scene in rare:
            scene()
        for letter in _broken(format_rfc3339(self._start)):
            self._put(self._moment(), letter)
            self._load.dead_letters += 1
        while len(self._load.owed) < events:
            if self._random.random() < 0.15:  # noqa: PLR2004 - so many of the scenes are rare ones
                self._random.choice(rare[1:])()
            else:
                self._single()

    # Scenes.

    def _single(self) -> None:
        """Add a verdict about a new stream, or one that was spoken of before."""
        random, at = self._random, self._moment()
        again = bool(self._rooms) and random.random() < 0.2  # noqa: PLR2004 - a share
        room = random.choice(self._rooms) if again else self._room()
        if not again:
            self._rooms.append(room)
        category, outcomes = random.choice(_CATEGORIES)
        if category == "gambling":
            self._region_blocks += 1
            category = category if self._region_blocks <= MOST_REGION_BLOCKS else "nudity"
        event = self._verdict(room, at, category=category, **_WISHES.get(category, {}))
        if random.random() < 0.05:  # noqa: PLR2004 - a share
            event["mode"] = "shadow"
            outcomes = frozenset({"no_action"}) if outcomes == _NOTHING else frozenset({"shadow"})
        self._send(at, event, outcomes, strays=random.random() < 0.1)  # noqa: PLR2004 - a share

    def _flood(self) -> None:
        """Add a stream with a verdict for each frame."""
        room, frames = self._room(), 40
        for frame in range(frames):
            at = self._load.lasts * frame // frames
            self._send(at, self._verdict(room, at, category="nudity", labels={"frame": str(frame)}), ACTED)

    def _sessions(self) -> None:
        """Add a verdict about a broadcast of which a later one is known."""
        room, at = self._room(), self._moment()
        for name, age, outcomes in (
            ("late", MINUTE, ACTED),
            ("early", 60 * MINUTE, frozenset({"wrong_session"})),
        ):
            event = self._verdict(room, at, category="spam")
            event["stream"]["session"] = {"id": name, "started_at": self._time(at - age)}
            self._send(at, event, outcomes)

    def _clear(self) -> None:
        room, at = self._room(), self._moment()
        self._send(at, self._verdict(room, at, category="violence"), ACTED | {"cancelled"})
        event = self._verdict(room, at, category="violence", kind="clear")
        self._send(self._later(at), event, frozenset({"released"}), anywhere=True)

    def _withdraw(self) -> None:
        room, at = self._room(), self._moment()
        first = self._verdict(room, at, category="nudity")
        self._send(at, first, ACTED | {"cancelled"})
        event = self._verdict(room, at, kind="withdraw", withdraws=first["verdict_id"])
        self._send(self._later(at), event, frozenset({"released"}), anywhere=True)

    def _release(self) -> None:
        room, at = self._room(), self._moment()
        self._send(at, self._verdict(room, at, category="nudity"), ACTED | {"cancelled"})
        self._send(self._later(at), self._command(room, "release"), frozenset({"released"}), anywhere=True)

    def _query(self) -> None:
        self._send(self._moment(), self._command(self._room(), "query"), frozenset({"observed"}))

    def _approve(self) -> None:
        self._parked("approve", ACTED)

    def _reject(self) -> None:
        self._parked("reject", frozenset({"cancelled"}))

    def _parked(self, word: str, outcomes: frozenset[str]) -> None:
        room, at = self._room(), self._moment()
        self._send(at, self._verdict(room, at, category="drastic"), outcomes)
        command = self._command(room, word)
        self._send(self._later(at), command, frozenset({"applied"}), accounts=(None,))

    def _named(self) -> None:
        """Add a verdict that says itself where the stream runs."""
        account, at = self._random.choice(list(ACCOUNTS)), self._moment()
        room = self._room("elsewhere", account)
        event = self._verdict(room, at, category="nudity")
        event["stream"]["targets"] = [_target(account, room)]
        self._send(at, event, ACTED, accounts=(account,))

    def _lost(self) -> None:
        """Add a verdict about an account that is not configured."""
        room, at = self._room("elsewhere"), self._moment()
        event = self._verdict(room, at, category="violence")
        event["stream"]["targets"] = [_target("lost", room)]
        self._send(at, event, frozenset({"failed/config"}), accounts=("lost",))

    def _nowhere(self) -> None:
        """Add a verdict that no route matches."""
        at = self._moment()
        event = self._verdict(self._room("nowhere"), at, category="nudity")
        self._send(at, event, frozenset({"failed/config"}), accounts=(None,))

    def _expired(self) -> None:
        at = self._moment()
        event = self._verdict(self._room(), at - 20 * MINUTE, category="nudity")
        self._send(at, event, frozenset({"stale"}))

    # What scenes are made of.

    def _room(self, prefix: str | None = None, account: str | None = None) -> str:
        """Return the key of a new stream; some are live, and some of those come back when they are cut."""
        self._number += 1
        if prefix is None:
            prefix = account = self._random.choices([*ACCOUNTS, "all"], [3, 3, 3, 1])[0]
        room = f"{prefix}/room-{self._number}"
        if self._random.random() < 0.5:  # noqa: PLR2004 - a share
            comes_back = 2 * SECOND if self._random.random() < 0.3 else None  # noqa: PLR2004 - a share
            names = list(ACCOUNTS) if account == "all" else [account] if account else []
            self._load.live += [(ACCOUNTS[name], room.rpartition("/")[2], comes_back) for name in names]
        return room

    def _verdict(self, room: str, seen_at: Millis, **fields: Any) -> Event:
        self._number += 1
        return {
            "verdict_id": f"v-{self._number}",
            "stream": {"key": room},
            "detected_at": self._time(seen_at),
            "severity": self._random.choice(("low", "medium", "high", "critical")),
            **fields,
        }

    def _command(self, room: str, word: str) -> Event:
        self._number += 1
        return {
            "command_id": f"c-{self._number}",
            "command": word,
            "stream": {"key": room},
            "by": "moderator-17",
            "issued_at": self._time(0),
        }

    def _send(
        self,
        at: Millis,
        event: Event,
        outcomes: frozenset[str],
        *,
        accounts: Sequence[str | None] = (),
        anywhere: bool = False,
        strays: bool = False,
    ) -> None:
        """Add an event, and sometimes the same again. ``strays``: without a key, by a wrong partition."""
        key = event["stream"]["key"]
        routed = {"all": tuple(ACCOUNTS)} | {name: (name,) for name in ACCOUNTS}
        where = tuple(accounts) or routed[key.partition("/")[0]]
        event_id = event.get("verdict_id") or event["command_id"]
        self._load.events.append(event)
        self._load.owed[event_id] = Owed(outcomes, None if anywhere else where)
        home = home_partition(key.encode(), self._partitions, "murmur2")
        partition = (home + 1) % self._partitions if strays else home
        self._put(at, self._record(event, partition, keyless=strays))
        if self._random.random() < 0.1:  # noqa: PLR2004 - a share
            self._put(self._later(at), self._record(event, home, keyless=False))

    def _record(self, event: Event, partition: int, *, keyless: bool) -> Incoming:
        """Return an event in one of the three forms."""
        key = None if keyless else event["stream"]["key"].encode()
        word = "verdict" if "verdict_id" in event else "command"
        envelope = {
            "specversion": "1.0",
            "id": f"m-{self._random.getrandbits(64):x}",
            "source": "/sandbox/load",
            "type": f"moderation.{word}.v1",
        }
        match self._random.randrange(3):
            case 0:
                return Incoming(key, json.dumps(event).encode(), (), partition)
            case 1:
                headers = tuple((f"ce_{name}", value.encode()) for name, value in envelope.items())
                return Incoming(key, json.dumps(event).encode(), headers, partition)
            case _:
                structured = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
                value = json.dumps({**envelope, "data": event}).encode()
                return Incoming(key, value, structured, partition)

    def _put(self, at: Millis, record: Incoming) -> None:
        self._load.records.append((min(at, self._load.lasts), record))

    def _moment(self) -> Millis:
        return self._random.randrange(self._load.lasts * 4 // 5 + 1)

    def _later(self, at: Millis) -> Millis:
        return min(self._load.lasts, at + self._random.randrange(self._load.lasts // 5 + 1))

    def _time(self, at: Millis) -> str:
        return format_rfc3339(self._start + at)


def _target(account: str, room: str) -> dict[str, str]:
    name = room.rpartition("/")[2]
    return {"account": account, "app": APP, "stream": name, "push_domain": PUSH, "play_domain": PLAY}


_NOTHING = frozenset({"no_action"})
_CATEGORIES: Sequence[tuple[str, frozenset[str]]] = (
    ("nudity", ACTED),
    ("nudity", ACTED),
    ("violence", ACTED),
    ("minors", ACTED),
    ("asked", ACTED),
    ("gambling", ACTED),
    ("spam", ACTED),
    ("trial", frozenset({"shadow"})),
    ("look", frozenset({"observed"})),
    ("weather", _NOTHING),
)
_WISHES: dict[str, Event] = {
    "asked": {"requested": {"action": "forbid", "for_s": 900}},
    "gambling": {"regions": ["DE", "AT"]},
}


def _broken(now: str) -> Iterable[Incoming]:
    """Yield records that nobody can understand, one for each reason."""
    good: Event = {
        "verdict_id": "bad",
        "stream": {"key": "hw/broken"},
        "detected_at": now,
        "category": "nudity",
        "severity": "high",
    }
    key = b"hw/broken"
    changes: Sequence[Event] = (
        {"severity": "dreadful"},
        {"category": None},
        {"stream": {}},
        {"detected_at": "yesterday"},
        {"reason": "x" * MAX_VALUE},
        {"verdict_id": None},
    )
    for change in changes:
        yield Incoming(key, json.dumps(good | change).encode())
    yield Incoming(key, b"\xff\xfe not UTF-8")
    yield Incoming(key, b'{"verdict_id": "bad",')
    yield Incoming(key, None)
    yield Incoming(None, json.dumps(good).encode(), (("ce_type", b"moderation.verdict.v1"),))
