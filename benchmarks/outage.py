"""A vendor goes away under load and comes back: nothing is lost, nothing stampedes, the worst goes first.

The real worker on Apache Kafka, with two accounts at their vendors' documented quotas. Verdicts come at an
even pace; one vendor then resets connections, answers 503 or does not answer at all, for ten minutes. What it
was asked, and when, is what its own log says. The exit code is 1 if a verdict was lost, if the vendor was
asked faster than its quota's pace when it was back, or if the other account had to wait.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from statistics import median
from threading import Event
from typing import Any

from benchmarks.accept import wait
from benchmarks.common import ground, report
from worker.sandbox.simulators.huawei import HuaweiSimulator
from worker.sandbox.stage import Stage
from worker.words import Millis

RATE = 12.0
"""Verdicts a second; of a dozen ten are ordinary, one is critical, and one is for the other account."""
CALM: Millis = 20_000
"""Before the vendor goes away."""
FIRST: Millis = 10_000
"""How long after the first answer a stampede would show."""
CHANGES = {"policy": {"verify": "off", "max_age": "2h"}}

AWAY: Sequence[Mapping[str, Any]] = (
    {"operation": "*", "effect": "reset_before", "every": 3},
    {"operation": "*", "effect": "status", "status": 503, "every": 2},
    {"operation": "*", "effect": "hang"},
)


@dataclass(frozen=True)
class Moments:
    """When the vendor went away, and when it was there again."""

    away: Millis
    back: Millis


@dataclass(frozen=True)
class Call:
    """A request for a ban as the vendor's log has it."""

    at: Millis
    stream: str
    answered: bool


def load(ended: Event) -> Iterator[Mapping[str, Any]]:
    """Yield verdicts, each about another stream, until it is enough."""
    for number in count():
        if ended.is_set():
            return
        match number % 12:
            case 5:
                found = ground.verdict(f"c{number}", f"c{number}", "minors")
                yield {**found, "severity": "critical"}
            case 11:
                yield ground.verdict(f"o{number}", f"o{number}", "violence", "ali")
            case _:
                yield {**ground.verdict(f"v{number}", f"v{number}", "violence"), "severity": "medium"}


def play(scene: Stage, away_s: float) -> tuple[Moments, Mapping[str, Millis]]:
    """Let the vendor go away and come back under load; return when, and when each verdict was sent."""
    ended, log = Event(), ground.VendorLog(scene.request_log)
    with scene.start_worker() as worker, ThreadPoolExecutor(1) as pool:
        wait(lambda: worker.get("/readyz")[0] == 200, "the worker is not ready")  # noqa: PLR2004 - HTTP's OK
        sending = pool.submit(ground.send_evenly, scene.kafka, load(ended), RATE)
        try:
            time.sleep(CALM / 1000)
            scene.play_script("huawei", AWAY)
            away = ground.now()
            while (left := away_s - (ground.now() - away) / 1000) > 0:
                if sys.stderr.isatty():
                    waiting = worker.metrics("moderation_calls_waiting", account="hw")
                    print(
                        f"\raway for {left:.0f} s more; {waiting:,.0f} calls wait ", end="", file=sys.stderr
                    )
                time.sleep(min(left, 1.0))
            scene.play_script("huawei", [])
            back = ground.now()
            wait(
                lambda: worker.metrics("moderation_calls_waiting", account="hw") < RATE,
                "the queue is not worked off",
                ground.PATIENCE_S,
            )
        finally:
            ended.set()
        sent = sending.result()
        wait(
            lambda: len({call.stream for call in calls(log) if call.answered}) == len(sent), "not all called"
        )
        wait(lambda: sum(one["terminal"] for one in scene.results()) >= len(sent), "results are missing")
    return Moments(away, back), sent


def calls(log: ground.VendorLog) -> list[Call]:
    """Return the requests for bans at both vendors."""
    return [
        Call(line["at_ms"], line["stream"], line["http_status"] in (200, 201, 204) and not line["throttled"])
        for line in log.read()
        if line["operation"] in {"block", "forbid"}
    ]


def waits(found: Sequence[Call], sent: Mapping[str, Millis], moments: Moments) -> dict[str, list[float]]:
    """Return how long the other account's verdicts took to their request (ms): before, and meanwhile."""
    took: dict[str, list[float]] = {"before": [], "meanwhile": []}
    for call in found:
        if call.stream.startswith("o"):
            at = sent[call.stream]
            if at < moments.away:
                took["before"].append(call.at - at)
            elif at < moments.back:
                took["meanwhile"].append(call.at - at)
    return took


def main() -> int:
    """Run it; 1 if a promise is broken."""
    away_s = 60.0 if report.arguments(__doc__).parse_args().quick else 600.0
    with ground.apache_kafka() as (servers, folder):
        kafka = ground.fresh_topics(servers, "outage")
        with Stage(folder / "outage", kafka, changes=CHANGES) as scene:
            moments, sent = play(scene, away_s)
            found = calls(ground.VendorLog(scene.request_log))
            terminal = Counter(one["verdict_id"] for one in scene.results() if one["terminal"])
            outcomes = Counter(one["outcome"] for one in scene.results() if one["terminal"])
    return tell(moments, sent, found, terminal, outcomes)


def tell(
    moments: Moments,
    sent: Mapping[str, Millis],
    found: Sequence[Call],
    terminal: Mapping[str, int],
    outcomes: Mapping[str, int],
) -> int:
    """Print what was found; 1 if a promise is broken."""
    ours = [call for call in found if not call.stream.startswith("o")]
    later = [call for call in ours if call.at >= moments.back]
    first = next(call.at for call in later if call.answered)
    limit, window = HuaweiSimulator.quotas["block"][0]
    allowed = limit * FIRST // window + 1
    soon = [call for call in later if first <= call.at < first + FIRST]
    fullest = max(Counter((call.at - first) // 1000 for call in soon).values())
    in_time = {call.stream for call in ours if call.answered and call.at < moments.back}
    old = {name for name, at in sent.items() if at < moments.back and name[0] in "vc"} - in_time
    done = {call.stream: call.at for call in later if call.answered}
    criticals = max(done[name] for name in old if name.startswith("c"))
    before = sum(at < criticals for name, at in done.items() if name in old and name.startswith("v"))
    drained = max(done[name] for name in old)
    seconds = (drained - first) / 1000
    other = waits(found, sent, moments)
    one_each = sum(terminal.get(name) == 1 for name in sent)
    during = sum(moments.away <= call.at < moments.back for call in ours)
    rows = [
        ("verdicts", f"{len(sent):,}", ""),
        ("with exactly one terminal result", f"{one_each:,}", f"{len(sent):,}"),
        ("outcomes", ", ".join(f"{word} {number:,}" for word, number in outcomes.items()), ""),
        ("requests to the vendor while it was away", during, ""),
        ("waiting when it was back", f"{len(old):,}", ""),
        ("it answered again after", f"{(first - moments.back) / 1000:.1f} s", "at most 30 s"),
        (f"requests in the {FIRST // 1000} s from then", len(soon), f"at most {allowed}"),
        ("in the fullest second of these", fullest, ""),
        ("ordinary calls before the last critical one that waited", before, "0"),
        ("worked off after", f"{seconds:.1f} s ({len(old) / seconds:.0f}/s)", ""),
        *((f"other account, sent to request, {when}", spread(took), "") for when, took in other.items()),
    ]
    away = (moments.back - moments.away) / 1000
    report.show(
        f"A vendor away for {away:.0f} s, {RATE:g} verdicts a second", ("", "found", "expected"), rows
    )
    return int(one_each < len(sent) or len(soon) > allowed)


def spread(took: Sequence[float]) -> str:
    """Return the middle and the slow end of some times."""
    return f"p50 {median(took):.0f} ms, p99 {report.percentile(took, 0.99):.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
