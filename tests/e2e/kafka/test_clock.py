"""The clock of the machine is set an hour forth and an hour back while the worker works.

Each vendor refuses a request whose signature is so far off in time, so nothing goes through meanwhile.
"""

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.kafka import play
from tests.e2e.kafka.test_commands import cli
from tests.e2e.playing import books, now, wait_for
from worker.events.times import format_rfc3339, parse_rfc3339
from worker.sandbox.books import problems
from worker.sandbox.load import ACTED, Load, Owed
from worker.sandbox.stage import ACCOUNTS, Stage, plain
from worker.sandbox.worker_process import WorkerProcess
from worker.words import Millis

pytestmark = pytest.mark.kafka

HOUR: Millis = 3_600_000
STEPS: tuple[Millis, ...] = (HOUR, 0, -HOUR, 0)
EVERY: Millis = 2_000
"""So long each time is kept, the true one before the first step too."""
AT_ONCE = 4
CHANGES = {
    "kafka": play.CHANGES["kafka"],
    "accounts": {name: {"concurrency": AT_ONCE} for name in ACCOUNTS},
    "policy": {
        "verify": "off",
        "rules": [{"name": "all", "then": {"action": "forbid", "for": "3h"}}],
    },
}


def seen(name: str, stream: str, at: Millis, **fields: Any) -> dict[str, Any]:
    about = {"verdict_id": name, "stream": {"key": stream}, "category": "violence", "severity": "high"}
    return {**about, "detected_at": format_rfc3339(at), **fields}


def released(stream: str) -> dict[str, Any]:
    command = {"command_id": f"c-{stream}", "command": "release", "by": "mod"}
    return {**command, "stream": {"key": stream}, "issued_at": format_rfc3339(now())}


def the_load(began: Millis) -> Load:
    """Old verdicts that are good for hours, whatever the clock says; fresh ones; releases of early ones."""
    load = Load(EVERY * (len(STEPS) + 1))
    for n, at in enumerate(range(0, load.lasts, 100)):
        account = list(ACCOUNTS)[n % 3]
        good_for = {"expires_at": format_rfc3339(began + 3 * HOUR)}
        old = seen(f"v-{n}", f"{account}/old-{n}", began - HOUR, **good_for)
        fresh = seen(f"f-{n}", f"{account}/fresh-{n}", began + at)
        load.records += [(at, plain(old)), (at, plain(fresh))]
        load.owed[f"v-{n}"] = Owed(ACTED, (account,))
        load.owed[f"f-{n}"] = Owed(ACTED | {"stale"}, (account,))
        if at < EVERY // 2:
            load.records.append((at + 2 * EVERY - 1000, plain(released(f"{account}/old-{n}"))))
            load.owed[f"c-{account}/old-{n}"] = Owed(frozenset({"released"}), (account,))
    load.records.sort(key=lambda record: record[0])
    return load


def unbalanced(theatre: Stage, load: Load) -> list[str]:
    """Return what does not balance, but for the requests that the vendors refused by their date."""
    return [one for one in problems(books(theatre, load)) if not one.endswith("signatures")]


def waiting(theatre: Stage) -> dict[str, Millis]:
    """Return the streams whose call waits for a moment to come, and that moment."""
    return {
        key: target["retry_at"]
        for key, state in theatre.states().items()
        for target in state.get("targets", {}).values()
        if target.get("retry_at", 0) > now()
    }


def give_up(theatre: Stage, load: Load, streams: Iterable[str]) -> None:
    """Release what an operator does not want to wait for."""
    for stream in streams:
        theatre.produce([released(stream)])
        load.owed[f"c-{stream}"] = Owed(frozenset({"released"}), None)
        for verdict_id in ("v-", "f-"):
            name = verdict_id + stream.rpartition("-")[2]
            load.owed[name] = replace(load.owed[name], outcomes=load.owed[name].outcomes | {"cancelled"})


def test_an_hour_forth_and_an_hour_back(stage: Callable[..., Stage]) -> None:
    theatre = stage(changes=CHANGES, simulators=play.SIMULATORS)
    config, log = theatre.configuration(), theatre.folder / "w1.log"
    program = ("-m", "tests.e2e.kafka.clocked", ",".join(map(str, STEPS)))
    set_at: list[Millis] = []

    with WorkerProcess(config, log, program=program) as worker:

        def step() -> None:
            set_at.append(now())
            os.kill(worker.pid, signal.SIGUSR1)

        play.ready(worker)
        load = the_load(now())
        play.play(theatre, load, [(EVERY * (n + 1), step) for n in range(len(STEPS))])
        assert play.restored(worker)[4:] == [], "no partition was lost over it"
        aside = [r for r in theatre.dead_letters() if dict(r.headers)["dead_letter_reason"] == b"time"]
        assert aside, "what seems to lie an hour ahead goes aside"
        wait_for(lambda: worker.get("/readyz")[0] == 200, 60, "the vendors take its requests again")
        cli("replay", "--config", config, "--reason", "time")
        load.dead_letters = len(aside)

        # What was refused while the clock was ahead waits as much longer now that it is not, and no more.
        longer = waiting(theatre)
        assert len(longer) <= AT_ONCE * len(ACCOUNTS), "the account stopped: none but those under way"
        assert all(set_at[0] + HOUR <= moment <= now() + HOUR for moment in longer.values()), longer
        give_up(theatre, load, longer)
        wait_for(lambda: not unbalanced(theatre, load), 60, "the books balance", 0.5)
        worker.terminate()
        assert worker.wait(30) == 0
        assert not play.complaints(worker)
    assert unbalanced(theatre, load) == []

    stale = [result for result in theatre.results() if result["outcome"] == "stale"]
    assert stale, "ten minutes are over for a clock that is an hour ahead"
    for result in stale:
        assert result["verdict_id"].startswith("f-"), "the others were good for longer than the clock was off"
        assert parse_rfc3339(result["at"]) > now() + HOUR // 2, "the clock was right"
    lifted = {call["stream"] for call in theatre.vendor_log() if call["operation"] in {"unblock", "resume"}}
    assert lifted <= {name.rpartition("/")[2] for name in load.owed if name.startswith("c-")}
