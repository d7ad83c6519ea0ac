"""What users of such systems complain about, one story each: a real worker, Kafka, vendors that misbehave.

Each looks at the vendor's own state, at what was called, at the results, and at how ``explain`` tells it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.kafka import play, tour
from tests.e2e.kafka.test_commands import answered, cli
from tests.e2e.playing import now, outcomes, verdict, wait_for
from worker.events.times import format_rfc3339, parse_rfc3339
from worker.sandbox.stage import ACCOUNTS, APP, KEYS, PLAY, PUSH, Kafka, Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.vendors import load_spec, make
from worker.vendors.base import Account
from worker.words import Call, Millis, Purpose, Target

pytestmark = pytest.mark.kafka

CHANGES: Mapping[str, Any] = {
    "accounts": {name: {"timeout_s": 1} for name in ACCOUNTS},
    "policy": {"verify": {"after": ["500ms", "1500ms", "3s"]}, "reconcile": "4s"},
}
SIMULATORS = {"aliyun": {"max_forbidden": 3}}
MINUTE: Millis = 60_000
DAY: Millis = 86_400_000


@dataclass
class Theatre:
    """A stage with a worker on it, and what the stories ask of both."""

    stage: Stage
    worker: WorkerProcess

    def send(self, *events: Mapping[str, Any]) -> None:
        self.stage.produce(events)

    def told(self, event: str, *expected: str, timeout_s: float = 30) -> None:
        """Wait until an event has had these outcomes, a star marking a terminal one, and no others."""
        wanted = list(expected)
        wait_for(lambda: outcomes(self.stage.results(), event) == wanted, timeout_s, f"{event}: {wanted}")

    def has_answer(self, event: str, what: str) -> None:
        """Wait until an event has a terminal result."""
        wait_for(lambda: answered(self.stage, event), 30, what)

    def result(self, event: str, outcome: str) -> Mapping[str, Any]:
        (found,) = (
            one
            for one in self.stage.results()
            if event in (one["verdict_id"], one["command_id"]) and one["outcome"] == outcome
        )
        return found

    def ban(self, account: str, stream: str) -> Millis | None:
        """Return when the vendor's own ban of a stream ends."""
        bans = self.stage.vendor_state()[ACCOUNTS[account]]["bans"]
        return next((ban["until"] for ban in bans if ban["stream"] == stream), None)

    def live(self, account: str, stream: str) -> bool:
        return any(one["stream"] == stream for one in self.stage.vendor_state()[ACCOUNTS[account]]["live"])

    def calls(self, stream: str) -> list[str]:
        """Return the operations that vendors were asked for about a stream, reads of whole lists left out."""
        return [one["operation"] for one in self.stage.vendor_log() if one["stream"] == stream]

    @property
    def config(self) -> Path:
        return self.stage.folder / "w1.yaml"

    def explain(self, key: str) -> str:
        return cli("explain", "--config", self.config, key)

    def quiet(self, key: str) -> None:
        """Wait until no check of a stream is to come."""
        wait_for(
            lambda: not any("check" in target for target in self.stage.states()[key]["targets"].values()),
            30,
            "the last check is made",
        )

    def release(self, key: str, hold: str) -> str:
        """Release one hold as an operator does; return the command's id."""
        more = ("--hold", hold, "--by", "mod", "--reason", "appeal")
        return cli("release", "--config", self.config, key, *more).split()[1].rstrip(":")

    def somebody_else(
        self, account: str, purpose: Purpose, operation: str, stream: str, until: Millis
    ) -> None:
        """Make a call that is not the worker's, with the account's own keys."""
        vendor, url = ACCOUNTS[account], self.stage.vendors.urls[ACCOUNTS[account]]
        adapter = make(load_spec(vendor), Account(account, vendor, dict(KEYS[account]), url))
        call = Call("other", purpose, operation, Target(account, APP, stream, PUSH, PLAY), until=until)
        request = adapter.request(call, now(), "somebody-else")
        answer = httpx.request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=request.content,
            trust_env=False,
        )
        assert answer.status_code < 300, answer.text


@pytest.fixture(scope="module")
def theatre(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    kafka = Kafka(broker.plain, prefix="stories")
    folder = tmp_path_factory.mktemp("stage")
    with Stage(folder, kafka, changes=CHANGES, simulators=SIMULATORS) as stage:
        worker = stage.start_worker()
        play.ready(worker)
        opened = Theatre(stage, worker)
        yield opened
        opened.worker.terminate()
        assert opened.worker.wait(30) == 0
        assert not play.complaints(opened.worker)


def in_order(text: str, *parts: str) -> None:
    """Check that a story tells these things, one after the other."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is missing, or comes too early, in:\n{text}"
        at = found + len(part)


def story(text: str) -> str:
    return text[text.index("What happened") :]


def test_a_cut_whose_answer_was_lost_is_asked_about_and_not_made_again(theatre: Theatre) -> None:
    theatre.stage.go_live("huawei", "lost")
    theatre.stage.play_script("huawei", [{"operation": "block_once", "effect": "done_then_hang", "first": 1}])
    theatre.send(verdict("v-lost", "hw/lost", "spam"))
    theatre.told("v-lost", "applied", "verified*")
    assert theatre.calls("lost").count("block_once") == 1
    assert not theatre.live("hw", "lost")
    tour.shows("lost", lambda: theatre.explain("hw/lost"), theatre.config)


def test_an_encoder_that_comes_back_after_three_seconds_stays_out(theatre: Theatre) -> None:
    theatre.stage.go_live("aliyun", "stubborn", reconnects_after=3_000)
    theatre.send(verdict("v-stubborn", "ali/stubborn", "nudity", confidence=0.99))
    theatre.told("v-stubborn", "applied", "verified*")
    began = now()
    wait_for(lambda: now() > began + 4_000, 10, "the encoder has tried again", pause_s=0.5)
    assert not theatre.live("ali", "stubborn")
    assert theatre.calls("stubborn").count("forbid") == 1
    order = cli("query", "--config", theatre.config, "ali/stubborn", "--by", "moderator-17")
    theatre.told(order.split()[1].rstrip(":"), "observed*")
    theatre.quiet("ali/stubborn")
    tour.shows("stubborn", lambda: theatre.explain("ali/stubborn"), theatre.config)


def test_a_verdict_of_a_broadcast_that_is_over_does_not_cut_the_next(theatre: Theatre) -> None:
    began = now() - 10 * MINUTE
    sessions = [{"id": f"s-{n}", "started_at": format_rfc3339(began + n * 4 * MINUTE)} for n in range(2)]
    stream = {"key": "hw/next"}
    theatre.stage.go_live("huawei", "next")
    theatre.send(
        {
            "stream_event": "started",
            "stream": {**stream, "session": sessions[1]},
            "at": format_rfc3339(now()),
        },
        verdict("v-late", "hw/next", "spam", stream={**stream, "session": sessions[0]}),
    )
    theatre.told("v-late", "wrong_session*")
    assert theatre.calls("next") == []
    assert theatre.live("hw", "next")
    in_order(story(theatre.explain("hw/next")), "broadcast s-1 started", "v-late wrong_session")


@pytest.mark.parametrize("order", [("nudity", "minors"), ("minors", "nudity")], ids="-then-".join)
def test_the_longer_ban_wins_in_whatever_order_they_come(theatre: Theatre, order: Sequence[str]) -> None:
    key, stream = f"hw/{order[0]}-first", f"{order[0]}-first"
    names = {category: f"v-{category}-{n}" for n, category in enumerate(order, 1)}
    for category, name in names.items():
        theatre.send(verdict(name, key, category, confidence=0.99, severity="critical"))
        theatre.has_answer(name, "it is answered")
    until = theatre.ban("hw", stream)
    assert until is not None
    assert until > now() + 80 * DAY, "the permanent one is in force, as long as the vendor takes"

    theatre.told(theatre.release(key, theatre.result(names["minors"], "applied")["hold"]), "released*")
    until = theatre.ban("hw", stream)
    assert until is not None
    assert until <= now() + 11 * MINUTE, "the other demand stands, and its end comes first now"
    told = theatre.explain(key)
    assert f"because of {names['nudity']}" in told
    in_order(story(told), *names.values(), "by mod", "ban's new end", "released")
    if order[0] == "nudity":
        theatre.quiet(key)
        tour.shows("both", lambda: theatre.explain(key), theatre.config)


def test_a_ban_that_ended_while_every_replica_was_down_is_told(theatre: Theatre) -> None:
    theatre.send(verdict("v-short", "cdn/short", "asked", requested={"action": "forbid", "for_s": 6}))
    theatre.has_answer("v-short", "it is in force")
    theatre.worker.terminate()
    assert theatre.worker.wait(30) == 0
    wait_for(lambda: theatre.ban("cdn", "short") is None, 30, "the vendor has ended it", pause_s=0.3)
    theatre.worker = theatre.stage.start_worker()
    play.ready(theatre.worker)
    wait_for(lambda: outcomes(theatre.stage.results(), "v-short")[-1] == "expired", 30, "its end is told")
    in_order(story(theatre.explain("cdn/short")), "verdict v-short", "v-short expired")


def test_a_shorter_ban_that_was_there_before_is_not_taken_for_ours(theatre: Theatre) -> None:
    theatre.somebody_else("hw", "forbid", "block", "taken", now() + 2 * MINUTE)
    theatre.send(verdict("v-taken", "hw/taken", "nudity", confidence=0.99))
    theatre.told("v-taken", "applied", "verified*")
    asked = parse_rfc3339(theatre.result("v-taken", "verified")["until"])
    until = theatre.ban("hw", "taken")
    assert until is not None
    assert abs(until - asked) <= 1_000
    in_order(
        story(theatre.explain("hw/taken")),
        "block (ban) -> 400 LIVE.103011018 already",
        "list_blocks (question whether it is forbidden) -> 200 observed",
        "update_block (ban's new end) -> 204 done",
    )


def test_a_full_blacklist_fails_aloud_and_is_tried_again_when_there_is_room(theatre: Theatre) -> None:
    there = len(theatre.stage.vendor_state()["aliyun"]["bans"])
    filling = [f"ali/full-{n}" for n in range(3 - there)]
    theatre.send(*(verdict(f"v-{key}", key, "violence") for key in filling))
    for key in filling:
        theatre.has_answer(f"v-{key}", "there is room for it")
    theatre.send(verdict("v-over", "ali/over", "violence"))
    theatre.told("v-over", "failed*")
    assert theatre.result("v-over", "failed")["error"]["class"] == "quota"
    assert theatre.worker.metrics("moderation_results_total", outcome="failed", vendor="aliyun") >= 1
    assert "v-over failed forbid" in theatre.explain("ali/over")

    order = cli("release", "--config", theatre.config, filling[0], "--by", "mod")
    theatre.told(order.split()[1].rstrip(":"), "released*")
    wait_for(lambda: theatre.ban("ali", "over") is not None, 30, "the demand was kept, and is met now")
    wait_for(lambda: outcomes(theatre.stage.results(), "v-over")[1:2] == ["applied"], 30, "that is told")


def test_a_vendor_that_says_done_and_does_nothing_is_found_out(theatre: Theatre) -> None:
    theatre.stage.play_script(
        "huawei", [{"operation": "block", "effect": "status", "status": 204, "body": "", "first": 1}]
    )
    theatre.send(verdict("v-lie", "hw/lie", "violence"))
    theatre.told("v-lie", "applied", "failed*", "applied", timeout_s=40)
    assert theatre.result("v-lie", "failed")["error"]["class"] == "vendor"
    assert theatre.ban("hw", "lie") is not None, "what was given up is tried again"
    in_order(
        story(theatre.explain("hw/lie")),
        "block (ban) -> 204 done",
        "v-lie applied",
        "v-lie failed",
        "block (ban) -> 204 done",
        "v-lie applied",
    )


def test_regions_of_two_demands_are_blocked_together_and_opened_one_by_one(theatre: Theatre) -> None:
    def blocked() -> set[str]:
        blocks = theatre.stage.vendor_state()["aliyun"]["region_blocks"]
        return {
            code
            for block in blocks
            if block["StreamName"] == "borders" and block["Status"] == 2
            for code in block["LocationList"].split(",")
        }

    for name, regions in (("v-cn", ["CN"]), ("v-kr", ["KR", "JP"])):
        theatre.send(verdict(name, "ali/borders", "gambling", regions=regions))
        theatre.has_answer(name, "it is in force")
    assert blocked() == {"CN", "KR", "JP"}
    order = theatre.release("ali/borders", theatre.result("v-kr", "applied")["hold"])
    theatre.told(order, "released*")
    wait_for(lambda: blocked() == {"CN"}, 30, "what only it asked for is open again")
    told = theatre.explain("ali/borders")
    assert "blocked in CN until" in told
    in_order(story(told), "verdict v-cn", "verdict v-kr", "by mod", "set_region_block", "released")
