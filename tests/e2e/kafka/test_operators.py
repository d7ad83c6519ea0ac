"""What operators look at while a worker runs: each command against the same stage, on Apache Kafka."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.e2e.kafka import play, tour
from tests.e2e.kafka.test_commands import answered, cli
from tests.e2e.playing import verdict, wait_for
from tests.kafka.apache import Broker
from worker.events.partition import home_partition
from worker.sandbox.stage import Kafka, Stage

pytestmark = pytest.mark.kafka

PARTITIONS = 4
CHANGES = {
    "policy": {"verify": {"after": ["500ms"]}},
    "accounts": {"ali": {"quotas": {"forbid": "4/10m"}, "reserve": "1%"}},
}


def neighbours(prefix: str, count: int) -> list[str]:
    """Return keys of streams that live in one partition."""
    keys = (f"{prefix}/room-{n}" for n in range(1000))
    return [key for key in keys if home_partition(key.encode(), PARTITIONS, "murmur2") == 1][:count]


QUEUE = neighbours("ali", 7)


@pytest.fixture(scope="module")
def theatre(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give a stage with a worker, after two demands on one stream, one that is held, and a queue."""
    kafka = Kafka(broker.plain, prefix=f"e2e-{uuid4().hex[:8]}")
    with Stage(tmp_path_factory.mktemp("stage"), kafka, changes=CHANGES) as opened:
        worker = opened.start_worker()
        play.ready(worker)
        opened.produce([verdict("v-nudity", "hw/star", confidence=0.95, reason="seen at 12:00")])
        wait_for(lambda: answered(opened, "v-nudity"), 20, "the first demand is verified")
        opened.produce([
            verdict("v-minors", "hw/star", "minors", severity="critical"),
            verdict("v-drastic", "cdn/held", "drastic"),
            *(verdict(f"v-{n}", key, "violence") for n, key in enumerate(QUEUE[:6])),
            verdict("v-6", QUEUE[6], "violence", severity="low"),
        ])  # fmt: skip
        wait_for(lambda: answered(opened, "v-minors"), 20, "the second demand is verified")
        wait_for(lambda: sum(len(answered(opened, f"v-{n}")) for n in range(7)) == 3, 20, "the queue stands")
        yield opened
        worker.terminate()
        assert worker.wait(30) == 0
        assert not play.complaints(worker)


def explain(theatre: Stage, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("explain", "--config", config(theatre), key, "--json"))
    assert set(found) == {"stream", "session", "in_force", "holds", "waiting", "history"}
    assert found["stream"] == key
    return found


def config(theatre: Stage) -> Path:
    return theatre.folder / "w1.yaml"


def test_explain_tells_what_is_in_force_and_the_way_there(theatre: Stage) -> None:
    found = explain(theatre, "hw/star")

    (place,) = found["in_force"]
    assert [place[name] for name in ("action", "sure", "shown", "renewed")] == ["forbid", True, True, True]
    assert place["target"]["vendor"] == "huawei"
    holds = {hold["verdict_id"]: hold for hold in found["holds"]}
    assert place["because"][-1] == holds["v-minors"]["id"]
    assert holds["v-minors"]["standing"] == "in_force"
    assert holds["v-nudity"]["standing"] == "behind"
    assert holds["v-nudity"]["covered_by"] == [holds["v-minors"]["id"]]
    kinds = [(entry["kind"], entry["data"].get("verdict_id")) for entry in found["history"]]
    assert kinds[0] == ("verdict", "v-nudity")
    (minors,) = (
        e for e in found["history"] if e["kind"] == "verdict" and e["data"]["verdict_id"] == "v-minors"
    )
    assert minors["looked_at"] == [{"rule": "minors", "matches": True, "why": ""}]
    tried = [t["operation"] for e in found["history"] for t in e["data"].get("attempts") or ()]
    assert {"block", "update_block"} <= set(tried)

    story = cli("explain", "--config", config(theatre), "hw/star")
    for line in (
        "(the latest end it takes, moved on in time), because of v-nudity, v-minors; the vendor shows it",
        f"moderation-worker release hw/star --hold {holds['v-nudity']['id']} --config {config(theatre)}",
        'verdict v-nudity (nudity, high, confidence 0.95, machine): "seen at 12:00"',
        "not minors: category is nudity, not minors",
        "rule nudity matches",
        "hw: v-nudity applied forbid until",
        "hw: block (ban) -> 204 done in",
    ):
        assert line in story
    story = story[story.index("What happened") :]
    assert story.index("hw: v-nudity applied") < story.index("verdict v-minors") < story.index("hw: v-minors")


def test_explain_tells_what_lets_a_held_demand_go(theatre: Stage) -> None:
    found = explain(theatre, "cdn/held")
    (hold,) = found["holds"]
    (wait,) = found["waiting"]
    assert (hold["standing"], wait["why"], wait["hold"]) == ("parked", "approval", hold["id"])
    assert wait["lets_go"] == [
        f"moderation-worker {word} cdn/held --hold {hold['id']} --config {config(theatre)}"
        for word in ("approve", "reject")
    ]
    assert wait["lets_go"][0] in cli("explain", "--config", config(theatre), "cdn/held")


def test_explain_tells_the_place_in_a_quota_s_queue(theatre: Stage) -> None:
    (wait,) = explain(theatre, QUEUE[6])["waiting"]
    assert (wait["why"], wait["quota"], wait["ahead"]) == ("quota", "forbid", 3)
    assert 0 < wait["about_ms"] <= 4 * 600_000
    assert "waits for quota of ali/forbid, 3 ahead, about" in wait["detail"]
    tour.shows("queue", lambda: cli("explain", "--config", config(theatre), QUEUE[6]), config(theatre))


def test_backtest_tells_what_another_policy_would_have_done(theatre: Stage, tmp_path: Path) -> None:
    settings = yaml.safe_load(config(theatre).read_text("utf-8"))
    policy = tmp_path / "new.yaml"
    rules = [{**rule} for rule in settings["policy"]["rules"]]
    rules[2]["then"] = {"action": "cut"}
    policy.write_text(yaml.safe_dump({"policy": {"version": "new", "rules": rules}}), "utf-8")

    def backtest(*more: str) -> dict[str, Any]:
        said = cli("backtest", "--config", config(theatre), "--policy", policy, "--json", *more)
        found: dict[str, Any] = json.loads(said)
        return found

    found = backtest()
    (change,) = found["changes"]
    assert (found["verdicts"], found["same"], found["different"], change["count"]) == (10, 3, 7, 7)
    assert (change["before"]["action"], change["before"]["length"], change["after"]["action"]) == (
        "forbid",
        "1h",
        "cut",
    )
    assert all(example["verdict_id"][2:].isdigit() for example in change["examples"])
    assert backtest("--to", found["since"])["verdicts"] == 1
    assert backtest("--from", found["until"])["verdicts"] in range(1, 10)
    assert backtest("--from", "2100-01-01T00:00:00Z")["verdicts"] == 0
    table = cli("backtest", "--config", config(theatre), "--policy", policy)
    assert "3 as before, 7 different" in table
    assert "forbid 1h (violence)" in table

    policy.write_text("policy: {rules: [{name: a}]}", "utf-8")
    cli("backtest", "--config", config(theatre), "--policy", policy, code=2)


def test_top_tells_what_the_replica_and_the_topics_say(theatre: Stage) -> None:
    (worker,) = theatre._workers
    top = ("top", "--config", config(theatre), "--url", worker.ops_url, "--once", "--every", "0.5")

    shown = json.loads(cli(*top, "--json"))

    assert [(each["url"], each["error"]) for each in shown["replicas"]] == [(worker.ops_url, None)]
    assert shown["parked"]["approval"] == 1
    assert (shown["waiting"]["ali"]["high"], shown["waiting"]["ali"]["low"]) == (3, 1)
    assert shown["outcomes"]["verified"]["total"] == 5
    assert (shown["lag"], shown["topics_error"]) == (0, None)
    assert shown["quotas"]["ali/forbid"] == 0.75
    assert len(shown["slowest"]) == 4
    assert {(tuple(slow["accounts"]), slow["waits"]) for slow in shown["slowest"]} == {
        (("ali",), "waits for its call")
    }
    assert not [key for key in QUEUE if key in json.dumps(shown)]
    text = cli(*top, "--show-streams")
    assert QUEUE[6] in text
    assert "ali/forbid" in text
    away = json.loads(
        cli("top", "--config", config(theatre), "--url", "http://127.0.0.1:1", "--once", "--json")
    )
    assert "refused" in away["replicas"][0]["error"]


def test_explain_says_that_it_knows_nothing(theatre: Stage) -> None:
    found = explain(theatre, "nobody/knows")
    assert found["session"] is None
    assert [found[name] for name in ("in_force", "holds", "waiting", "history")] == [[], [], [], []]
    assert cli("explain", "--config", config(theatre), "nobody/knows").startswith(
        "Nothing is known of nobody/knows: no state, and nothing was published about it since "
    )


def test_reconcile_shows_what_the_vendors_lists_say_otherwise_and_changes_nothing(theatre: Stage) -> None:
    theatre.meddle("huawei", "ban", "stranger", until=2_000_000_000_000)
    theatre.meddle("huawei", "lift", "star")
    before = len(theatre.records("verdicts"))
    shown = cli("reconcile", "--config", config(theatre), "--account", "hw")
    rows = [line.split("  ") for line in shown.splitlines()]
    assert [[cell.strip() for cell in row if cell][:2] for row in rows[:2]] == [
        ["hw", "missing"],
        ["hw", "unknown to us"],
    ]
    assert "live/star" in shown.splitlines()[0]
    assert "hw/star" in shown.splitlines()[0]
    assert "live/stranger" in shown.splitlines()[1]
    assert shown.splitlines()[2].endswith("1 missing, 1 unknown to us")
    assert len(theatre.records("verdicts")) == before
    assert "ali" in cli("reconcile", "--config", config(theatre))

    applied = cli("reconcile", "--config", config(theatre), "--account", "hw", "--apply", "--by", "op")
    assert "query c-" in applied.splitlines()[-1]
    wait_for(lambda: queried(theatre), 20, "the worker has looked at the stream")
    (told,) = queried(theatre)
    assert told["observed"]["forbidden"] is False
    wait_for(lambda: "drifted" in outcomes(theatre), 20, "it is told as lost")
    wait_for(lambda: outcomes(theatre)[-1] == "verified", 20, "it is applied again")
    shown = cli("reconcile", "--config", config(theatre), "--account", "hw")
    assert [line for line in shown.splitlines() if "hw/star" in line] == []


def outcomes(theatre: Stage) -> list[str]:
    """Return what was told of the stream that is forbidden for good."""
    return [one["outcome"] for one in theatre.results() if one["verdict_id"] == "v-minors"]


def queried(theatre: Stage) -> list[dict[str, Any]]:
    return [
        one for one in theatre.results() if one["outcome"] == "observed" and one["stream"]["key"] == "hw/star"
    ]
