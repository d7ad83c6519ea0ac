"""A real stream on a real server: cut, kept out, let in again; and its neighbour never notices."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.kafka.member import wait_for
from tests.media.conftest import Theatre
from tests.media.server import Encoder
from worker.events.times import format_rfc3339

pytestmark = [pytest.mark.media, pytest.mark.kafka]

Open = Callable[..., Theatre]


def now() -> int:
    return time.time_ns() // 1_000_000


def command(name: str, stream: str, **fields: Any) -> dict[str, Any]:
    about = {"command": name, "by": "mod", "issued_at": format_rfc3339(now())}
    return {"command_id": f"{name}-1", "stream": {"key": f"acme/{stream}"}, **about, **fields}


def outcomes(results: list[dict[str, Any]]) -> list[str]:
    return [result["outcome"] + ("*" if result["terminal"] else "") for result in results]


def attempts(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(tried["operation"], tried["outcome"]) for tried in result["attempts"]]


def test_a_forbidden_stream_ends_stays_away_and_may_come_back_when_its_time_is_over(theatre: Open) -> None:
    stage = theatre()
    server = stage.server
    with Encoder(server, "room-1") as bad, Encoder(server, "room-2") as good:
        bad.live()
        good.live()
        neighbour, came_in = server.publishers()["room-2"], bad.came_in

        stage.verdict("v-1", "room-1")
        wait_for(lambda: bad.came_in > came_in, what="its broadcast ends")
        wait_for(lambda: bad.refused >= 2, what="it is refused, and again")
        told = stage.over("v-1")
        # It may slip in once more before the gate has read the ban; it is then cut again.
        assert {*outcomes(told)} - {"reappeared"} == {"applied", "verified*"}
        assert attempts(told[-1])[0] == ("drop", "done")
        assert not server.published("room-1")
        assert stage.gate.metrics("moderation_gate_answers_total", decision="refused") >= 2

        with Encoder(server, "room-1", arguments="?name=room-9&app=other", again=False) as disguised:
            wait_for(disguised.ended.is_set, what="a stream in disguise gives up")
            assert (disguised.refused, disguised.came_in) == (1, 0)

        stage.send(command("extend", "room-1", until=format_rfc3339(now() + 3_000)))
        bad.live()
        assert outcomes(stage.told("v-1"))[-1:] in (["expired"], ["verified*"])
        wait_for(lambda: "expired" in outcomes(stage.told("v-1")), what="the worker tells that it ended")

        after = server.publishers()["room-2"]
        assert after.client == neighbour.client, "the neighbour is still on its first connection"
        assert after.received > neighbour.received
        assert (good.refused, good.came_in) == (0, 0)


def test_a_cut_ends_one_broadcast_and_what_is_not_live_cannot_be_cut(theatre: Open) -> None:
    stage = theatre()
    odd = "room+1%41=a;b~*"
    with Encoder(stage.server, odd) as encoder:
        encoder.live()
        before = stage.server.publishers()[odd].client
        stage.verdict("v-1", odd, "spam")
        wait_for(lambda: encoder.came_in == 1, what="its broadcast ends")
        encoder.live()
        assert stage.server.publishers()[odd].client != before
        told = stage.over("v-1")
        assert attempts(told[-1])[0] == ("drop", "done")
        assert {result["outcome"] for result in told} <= {"applied", "verified"}

        stage.verdict("v-2", "room-nobody", "spam")
        (nothing,) = stage.over("v-2")
        assert (nothing["outcome"], nothing["reason"]) == ("no_action", "not_live")
        assert attempts(nothing) == [("drop", "absent"), ("stat", "observed")]
        assert (encoder.came_in, encoder.refused) == (1, 0), "nothing else was cut"


def test_of_several_processes_the_right_one_is_found(theatre: Open) -> None:
    stage = theatre(processes=2)
    names = [f"room-{number}" for number in range(4)]
    with ExitStack() as encoders:
        for name in names:
            encoders.enter_context(Encoder(stage.server, name, again=False))
        bystander = encoders.enter_context(Encoder(stage.server, "room-other"))
        wait_for(lambda: stage.server.publishers().keys() == {*names, "room-other"}, what="all are live")
        for name in names:
            stage.verdict(f"v-{name}", name, "spam")
        stage.verdict("v-nobody", "room-nobody", "spam")
        for name in names:
            told = stage.over(f"v-{name}")
            assert outcomes(told) == ["applied", "verified*"], attempts(told[-1])
            assert ("drop", "done") in attempts(told[-1])
        assert outcomes(stage.over("v-nobody")) == ["no_action*"]
        assert stage.server.publishers().keys() == {"room-other"}
        assert (bystander.came_in, bystander.refused) == (0, 0)


def test_what_a_cut_cannot_reach_ends_at_its_next_update(theatre: Open) -> None:
    """nginx denies its control page, as a process of an old configuration would not be reached by it."""
    stage = theatre(control=False, update_s=1)
    with Encoder(stage.server, "room-1") as bad, Encoder(stage.server, "room-2") as good:
        bad.live()
        good.live()
        stage.verdict("v-1", "room-1")
        wait_for(lambda: bad.came_in == 1 and bad.refused > 0, what="the gate ends it, and keeps it out")
        (failed,) = [result for result in stage.over("v-1") if result["terminal"]]
        assert (failed["outcome"], failed["error"]["class"]) == ("failed", "vendor")
        assert not stage.server.published("room-1")
        assert (good.came_in, good.refused) == (0, 0)


def test_a_gate_that_knows_nothing_lets_nobody_begin(theatre: Open) -> None:
    stage = theatre()
    stage.gate.terminate()
    assert stage.gate.wait(30) == 0
    with Encoder(stage.server, "room-1", again=False) as encoder:
        wait_for(encoder.ended.is_set, what="nobody answers: nginx refuses")
        assert (encoder.refused, encoder.came_in) == (1, 0)
