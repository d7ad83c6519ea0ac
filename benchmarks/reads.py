"""Reads beside a queue of bans: with the vendor's quota used up, verifying and comparing take what is left.

The real worker on Apache Kafka; one account at CDNetworks, whose quota of all requests is the only one that
bans and reads share. The same queue of bans is worked off twice: without reads, and with verifications and
comparisons of all that is in force, as often as the policy can ask for. What arrived is what the
simulated vendor's log says. The exit code is 1 if reads cost the bans more than ``MOST`` of their pace, if
none is made once the queue is empty, or if the vendor saw more requests in a window than its quota.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accept import wait
from benchmarks.backlog import most_in_a_window, ready
from benchmarks.common import ground, report
from worker.sandbox.stage import Kafka, Stage
from worker.words import Millis

WINDOW: Millis = 10_000
LIMIT = 100
MOST = 0.05
"""A pace over few windows is measured no finer."""
READS: Mapping[str, Any] = {"verify": {"after": ["100ms", "2s", "8s"]}, "reconcile": "5s"}
NO_READS: Mapping[str, Any] = {"verify": "off", "reconcile": "off"}
ROOMY = 1_000_000


@dataclass(frozen=True)
class Run:
    """When the vendor was asked to ban something, and when it was asked what there is."""

    bans: Sequence[Millis]
    reads: Sequence[Millis]

    @property
    def used(self) -> float:
        """The part of the quota that bans used while some waited: 1 if no slot came late.

        The first window's worth goes at once; each later slot comes free a window after it was used.
        """
        later = len(self.bans) - LIMIT
        return later / LIMIT * WINDOW / (self.bans[-1] - self.bans[LIMIT - 1])

    @property
    def meanwhile(self) -> int:
        """How many reads came between the first ban and the last."""
        return sum(self.bans[0] <= read <= self.bans[-1] for read in self.reads)

    @property
    def most(self) -> int:
        """The most requests in a window."""
        return most_in_a_window(sorted([*self.bans, *self.reads]), WINDOW)


def work_off(folder: Path, kafka: Kafka, policy: Mapping[str, Any], bans: int) -> Run:
    """Let the worker work off a queue; wait for some reads after it, if the policy asks for any."""
    roomy = {"writes": ROOMY, "forbid_query": ROOMY}
    ours = {name: f"{limit}/{WINDOW}ms" for name, limit in {"all": LIMIT, **roomy}.items()}
    theirs = {name: [[limit, WINDOW]] for name, limit in {"requests": LIMIT, **roomy}.items()}
    account = {"quotas": ours, "reserve": "0%"}
    simulators = {"cdnetworks": {"quotas": theirs}}
    changes = {"policy": {"max_age": "6h", **policy}, "accounts": {"cdn": account}}
    with Stage(folder, kafka, changes=changes, simulators=simulators) as scene, ready(scene) as worker:
        scene.produce(ground.verdict(f"v{n}", f"s{n}", "violence", "cdn") for n in range(bans))
        log = ground.VendorLog(scene.request_log)
        wait(lambda: len(banned(log)) >= bans, "the queue is not worked off", ground.PATIENCE_S)
        if policy is READS:
            wait(lambda: len(asked(log)) >= LIMIT // 2, "nothing is read", ground.PATIENCE_S)
        worker.terminate()
        worker.wait(60)
        return Run(banned(log), asked(log))


def banned(log: ground.VendorLog) -> list[Millis]:
    """Return when the vendor was asked to ban a stream."""
    return sorted(line["at_ms"] for line in log.read() if line["operation"] == "forbid")


def asked(log: ground.VendorLog) -> list[Millis]:
    """Return when the vendor was asked anything else."""
    return sorted(line["at_ms"] for line in log.read() if line["operation"] != "forbid")


def main() -> int:
    """Run it; 1 if a promise is broken."""
    bans = LIMIT * (3 if report.arguments(__doc__).parse_args().quick else 7)
    with ground.apache_kafka() as (servers, folder):
        runs = {}
        for name, policy in (("no reads", NO_READS), ("verifications and comparisons", READS)):
            if sys.stderr.isatty():
                print(f"{name}: about {bans // LIMIT * WINDOW // 1000} s", file=sys.stderr)
            prefix = name.partition(" ")[0]
            runs[name] = work_off(folder / prefix, ground.fresh_topics(servers, prefix), policy, bans)
    alone, beside = runs.values()
    ratio = beside.used / alone.used
    report.show(
        f"{bans} bans through a quota of {LIMIT} requests in {WINDOW // 1000} s, as the vendor counted them",
        ("", "quota used by bans", "to without", "reads meanwhile", "reads after", "most in a window"),
        [
            (
                name,
                f"{run.used:.1%}",
                f"{run.used / alone.used:.2f} x",
                run.meanwhile,
                len(run.reads) - run.meanwhile,
                f"{run.most} of {LIMIT}",
            )
            for name, run in runs.items()
        ],
    )
    return int(ratio < 1 - MOST or max(alone.most, beside.most) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
