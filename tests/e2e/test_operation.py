"""What an operator sees of a running worker: its pages, and a log that tells no secrets."""

import re
from collections.abc import Callable
from functools import partial

import pytest

from tests.e2e.playing import BRISK, dumps, outcomes, verdict, wait_for
from worker.sandbox.stage import Incoming, Stage

pytestmark = pytest.mark.sandbox

MakeStage = Callable[..., Stage]


def test_the_pages_of_a_running_worker(make_stage: MakeStage) -> None:
    stage = make_stage(changes=BRISK)
    worker = stage.start_worker()
    assert worker.get("/healthz") == (200, "ok\n")
    wait_for(lambda: worker.get("/readyz") == (200, "ok\n"), 30, "the worker is ready")
    assert worker.get("/nothing")[0] == 404
    stage.produce([verdict("v1", "hw/room"), verdict("v2", "hw/room"), verdict("v3", "ali/hall", "spam")])
    stage.produce([Incoming(None, b"garbage"), verdict("v1", "hw/room")])
    wait_for(lambda: sum(result["terminal"] for result in stage.results()) == 3, 30, "three terminal results")
    wait_for(lambda: worker.metrics("moderation_streams") == 2, 10, "the gauges are up to date")
    results = stage.results()
    for outcome in ("applied", "verified", "absorbed", "duplicate"):
        told = sum(result["outcome"] == outcome for result in results)
        assert worker.metrics("moderation_results_total", outcome=outcome) == told
    calls = stage.vendor_log()
    for account, vendor in (("hw", "huawei"), ("ali", "aliyun")):
        seen = sum(call["vendor"] == vendor for call in calls)
        assert worker.metrics("moderation_vendor_requests_total", account=account) == seen
    assert worker.metrics("moderation_events_consumed_total", type="verdict") == 4
    assert worker.metrics("moderation_dead_letters_total", reason="json") == 1
    assert worker.metrics("moderation_verdict_to_action_seconds_count", severity="high") == 2
    assert worker.metrics("moderation_time_to_dark_seconds_count", severity="high") == 2
    assert worker.metrics("moderation_oldest_pending_seconds") == 0
    assert worker.metrics("moderation_consumer_lag_records") == 0
    assert worker.metrics("moderation_quota_used_ratio", account="hw", operation="block") > 0
    assert worker.metrics("moderation_journal_resets_total") == 0
    assert worker.metrics("moderation_build_info") == 1


def test_a_refused_login_turns_readiness_red_and_its_verdicts_wait(make_stage: MakeStage) -> None:
    stage = make_stage(changes={"accounts": {"cdn": {"api_key": "wrong"}}, "policy": {"verify": "off"}})
    worker = stage.start_worker()
    stage.produce([verdict("v1", "cdn/room"), verdict("v2", "hw/room")])
    wait_for(lambda: outcomes(stage.results(), "v1"), 30, "the verdict is held")
    assert outcomes(stage.results(), "v1") == ["held"]
    status, text = worker.get("/readyz")
    assert status == 503
    assert 'account "cdn"' in text
    wait_for(lambda: outcomes(stage.results(), "v2") == ["applied*"], 30, "other accounts go on")
    assert worker.get("/healthz")[0] == 200
    wait_for(lambda: worker.metrics("moderation_parked", reason="account") == 1, 10, "the gauge shows it")


def test_neither_stream_names_nor_secrets_get_into_logs_or_pages(make_stage: MakeStage) -> None:
    secret, stream = "s3cret-c4nary", "stre4m-c4nary"
    accounts = {"accounts": {"sandbox-key": secret}}
    stage = make_stage(
        changes={
            "policy": BRISK["policy"],
            "accounts": {
                "hw": {"secret_key": secret},
                "ali": {"access_key_secret": secret},
                "cdn": {"api_key": f"wrong-{secret}"},
            },
        },
        simulators={"huawei": accounts, "aliyun": accounts, "cdnetworks": accounts},
        script=[
            {"operation": ["block", "forbid"], "effect": "error_code", "code": "Unheard.Of", "every": 3},
            {"operation": ["block", "forbid"], "effect": "done_then_reset", "every": 4},
            {"operation": ["list_blocks", "list_online"], "effect": "garbage", "every": 3},
        ],
    )
    worker = stage.start_worker()
    broken = dumps(verdict("bad", f"hw/{stream}") | {"severity": stream})
    rooms = [f"{account}/{stream}-{i}" for i in range(12) for account in ("hw", "ali", "cdn")]
    stage.produce([verdict(f"v-{i}", room) for i, room in enumerate(rooms)])
    stage.produce([Incoming(f"hw/{stream}".encode(), broken), Incoming(None, broken[:-5])])
    wait_for(
        lambda: (
            sum(result["terminal"] or result["outcome"] == "held" for result in stage.results()) >= len(rooms)
        ),
        60,
        "every verdict is answered, or held",
    )
    seen = {call["stream"] for call in stage.vendor_log() if call["stream"]}
    assert any(stream in name for name in seen), "the vendors must see what the log must not"
    pages = [worker.get(page)[1] for page in ("/metrics", "/readyz", "/healthz", f"/{stream}")]
    worker.terminate()
    assert worker.wait(30) == 0
    shown = "\n".join([worker.log_text(), *pages])
    assert "started" in shown
    assert "c4nary" not in shown
    assert not re.search(r"Traceback|uncaught|failed; see", shown)
    assert all(
        "c4nary" not in dict(letter.headers)["dead_letter_detail"].decode() for letter in stage.dead_letters()
    )


def test_an_account_with_a_user_renews_its_token_and_shows_neither_it_nor_the_password(
    make_stage: MakeStage,
) -> None:
    password = "pa55-c4nary"
    user = {"users": {"bot": [password, "acme"]}, "token_life_ms": 2_000}
    stage = make_stage(changes=BRISK, simulators={"huawei": user})
    iam = {"user": "bot", "password": password, "domain": "acme", "endpoint": stage.vendors.urls["huawei"]}
    stage.change({"accounts": {"hw": {"access_key": None, "secret_key": None, "iam": iam}}})
    worker = stage.start_worker()
    for number in range(50):
        if stage.vendor_stats()["huawei"]["calls"].get("login", 0) >= 3:
            break
        stage.produce([verdict(name := f"v{number}", f"hw/room{number}")])
        wait_for(partial(verified, stage, name), 30, "it is verified")
    stats = stage.vendor_stats()["huawei"]
    assert stats["calls"]["login"] >= 3, "a token of two seconds is renewed"
    assert stats["signatures_refused"] == 0, "and never too old"
    assert worker.metrics("moderation_vendor_requests_total", account="hw", operation="login") >= 3
    worker.terminate()
    assert worker.wait(30) == 0
    log = (stage.folder / "w1.log").read_text("utf-8")
    assert password not in log
    assert "MII" not in log


def verified(stage: Stage, name: str) -> bool:
    return "verified*" in outcomes(stage.results(), name)
