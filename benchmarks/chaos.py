"""Replicas, brokers and vendors go wrong while verdicts come; afterwards the books must balance.

Three replicas as processes on Apache Kafka, one of them behind a proxy of ours; simulated vendors that answer
one request in ten badly. Meanwhile replicas are killed, replaced and frozen, the broker is killed, its
connections are delayed, cut and half-closed, replicas join and leave, the state topic is compacted, vendors
hang, throttle and are away. At the end every event has its results, every repeated change is explained by a
crash, and each stream's order was kept.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from benchmarks.common import report
from benchmarks.common.aftermath import Kill, disorder, recoveries
from benchmarks.common.hanging import end_hanging
from benchmarks.common.proxy import Proxy
from benchmarks.common.troubles import CHANGES, LASTING, SIMULATORS, Plan, Report, tell
from tests.e2e.kafka import play
from tests.e2e.playing import books, now
from tests.kafka.apache import Broker, running_cluster
from worker.sandbox import load as loads
from worker.sandbox.books import answers, problems
from worker.sandbox.stage import Kafka, Stage
from worker.sandbox.worker_process import WorkerProcess
from worker.words import Millis

SESSION: Millis = 6_000
PATIENCE_S = 180.0
"""For a replica's start and its end: a busy machine takes its time."""


class Chaos:
    """One run on a stage. ``program`` as in WorkerProcess."""

    def __init__(
        self,
        stage: Stage,
        brokers: Sequence[Broker],
        proxy: Proxy,
        plan: Plan,
        program: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._stage, self._brokers, self._proxy, self._plan, self._say = stage, brokers, proxy, plan, say
        self._servers = stage.kafka.bootstrap_servers
        self._program = program
        self._random = random.Random(plan.seed)
        self._workers: dict[str, WorkerProcess] = {}
        self._everyone: list[tuple[str, WorkerProcess]] = []
        self._losses: list[tuple[Millis, Millis, str]] = []  # from, until, what
        self._kills: list[Kill] = []
        self._rules: dict[str, float] = {}  # vendor: until when its faults are special
        self._fault: BaseException | None = None
        self.report = Report()

    # -- replicas --------------------------------------------------------------------------------------

    def start(self, name: str) -> WorkerProcess:
        """Start a replica; the third one's brokers are behind the proxy."""
        path = self._stage.configuration(name)
        if name == "w3":
            settings = yaml.safe_load(path.read_text("utf-8"))
            settings["kafka"]["bootstrap_servers"] = [self._brokers[0].proxied]
            path.write_text(yaml.safe_dump(settings), "utf-8")
        worker = WorkerProcess(path, self._stage.folder / f"{name}.log", program=self._program)
        self._workers[name] = worker
        self._everyone.append((name, worker))
        return worker

    def _anyone(self) -> str:
        return self._random.choice(sorted(self._workers))

    def kill(self) -> None:
        """Kill -9, and start it again at once."""
        name, at = self._anyone(), now()
        self._workers[name].kill()
        self.start(name)
        self._losses.append((at, now(), f"{name} was killed"))
        self._kills.append(Kill(name, at, now()))

    def replace(self) -> None:
        """SIGTERM, and start it again: a rolling restart of one."""
        name = self._anyone()
        self._workers[name].terminate()
        if self._workers[name].wait(PATIENCE_S) != 0:
            self.report.wrong.append(f"{name} did not end well when it was told to")
        self.start(name)

    def join_and_leave(self) -> None:
        """Start a fourth replica, or end it."""
        if "w4" in self._workers:
            worker = self._workers.pop("w4")
            worker.terminate()
            worker.wait(PATIENCE_S)
        else:
            self.start("w4")

    def zombie(self) -> None:
        """Freeze a replica for longer than its session lasts, then let it go on."""
        name, at = self._anyone(), now()
        os.kill(self._workers[name].pid, signal.SIGSTOP)
        time.sleep(SESSION / 1000 + 2)
        os.kill(self._workers[name].pid, signal.SIGCONT)
        self._losses.append((at, now() + SESSION, f"{name} was frozen"))

    # -- brokers ---------------------------------------------------------------------------------------

    def broker(self, away_s: float = 0.0) -> None:
        """Kill -9 a broker, and start it again: of several, whatever it coordinates moves to the others."""
        broker, at = self._random.choice(self._brokers), now()
        broker.kill()
        time.sleep(away_s)
        broker.start()
        self._losses.append((at, now() + 2 * SESSION, "the broker was killed"))

    def slow(self) -> None:
        """Delay all that one replica says to its broker and hears from it, for a while."""
        self._proxy.delay_s = 0.15
        time.sleep(3)
        self._proxy.delay_s = 0.0

    def compact(self) -> None:
        """Have the state topic cleaned as soon as anything in it is out of date."""
        admin = KafkaAdminClient(bootstrap_servers=self._servers)
        hard = {"min.cleanable.dirty.ratio": "0.001", "segment.ms": "1000", "max.compaction.lag.ms": "1000"}
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, self._stage.kafka.topics["state"], hard)]
        )
        admin.close()

    def _operate(self) -> None:
        """Do what an operator has to do beside the worker: end the transactions that hang."""
        try:
            self.report.hanging += end_hanging(self._servers, self._stage.kafka.topics.values())
        except KafkaError as error:  # it is only just coming back: at the next turn
            self._say(f"the broker does not say what hangs ({type(error).__name__})")

    # -- vendors ---------------------------------------------------------------------------------------

    def vendor(self, rule: Mapping[str, Any], seconds: float) -> None:
        """Have one vendor go wrong altogether for a while; the others go on as badly as always."""
        name = self._random.choice(["huawei", "aliyun", "cdnetworks"])
        self._stage.play_script(name, [{"operation": "*", **rule}])
        self._rules[name] = time.monotonic() + seconds

    def _mend_vendors(self, *, now_: bool = False) -> None:
        for name, until in list(self._rules.items()):
            if now_ or time.monotonic() > until:
                del self._rules[name]
                self._stage.play_script(name, play.FAULTS)

    # -- the run ---------------------------------------------------------------------------------------

    def _troubles(self) -> list[tuple[str, Callable[[], None]]]:
        plan = self._plan
        once: list[tuple[str, Callable[[], None]]] = [
            ("replica replaced", self.replace),
            ("replica joined or left", self.join_and_leave),
            ("connections cut", self._proxy.cut),
            ("connections half-closed", self._proxy.half_close),
            ("broker slow", self.slow),
            ("vendor hangs", lambda: self.vendor({"effect": "hang"}, 4)),
            ("vendor resets after the deed", lambda: self.vendor({"effect": "done_then_reset"}, 4)),
            ("vendor throttles", lambda: self.vendor({"effect": "throttle"}, 5)),
        ]
        found = [("replica killed", self.kill)] * plan.kills + [
            ("replica frozen", self.zombie)
        ] * plan.zombies
        found += [("broker killed", self.broker)] * plan.brokers + once * plan.others
        self._random.shuffle(found)
        found.insert(0, ("state topic compacted hard", self.compact))
        refused = lambda: self.vendor({"effect": "status", "status": 503}, plan.refused_s)  # noqa: E731 - one of many
        found.insert(len(found) // 3, (f"vendor answers 503 for {plan.refused_s:.0f} s", refused))
        away = (f"broker away for {plan.away_s:.0f} s", lambda: self.broker(plan.away_s))
        return [*found[: len(found) // 2], *([away] if plan.away_s else []), *found[len(found) // 2 :]]

    def run(self) -> Report:
        """Let it all happen, wait until the books balance, and say what was found."""
        troubles = self._troubles()
        lasts = round(1000 * len(troubles) * sum(self._plan.pause) / 2)
        for name in ("w1", "w2", "w3"):
            self.start(name)
        for worker in self._workers.values():
            play.ready(worker, PATIENCE_S)
        load = loads.build(self._plan.seed, self._plan.verdicts, now(), lasts)
        for encoder in load.live:
            self._stage.go_live(*encoder)
        publisher = threading.Thread(target=self._publish, args=(load,), daemon=True)
        publisher.start()
        try:
            self._go_wrong(troubles)
            publisher.join()
            if self._fault is not None:
                raise self._fault
            self._mend_vendors(now_=True)
            self._until_balanced(load)
        finally:
            for worker in self._workers.values():
                worker.kill()
        self._examine(load)
        return self.report

    def _go_wrong(self, troubles: Sequence[tuple[str, Callable[[], None]]]) -> None:
        next_at = time.monotonic()
        for done, (name, deed) in enumerate(troubles, 1):
            next_at = max(time.monotonic(), next_at + self._random.uniform(*self._plan.pause))
            time.sleep(max(0.0, next_at - time.monotonic()))
            self._mend_vendors()
            self._operate()
            self._say(f"{done}/{len(troubles)} {name}")
            deed()
            self.report.troubles[name] += 1

    def _publish(self, load: loads.Load) -> None:
        """Publish each record at its moment; one that the broker is not there for is tried until it is."""
        try:
            producer = KafkaProducer(
                bootstrap_servers=self._servers, acks="all", delivery_timeout_ms=600_000, linger_ms=5
            )
            began, futures = now(), []
            for moment, record in load.records:
                time.sleep(max(0, moment - (now() - began)) / 1000)
                named = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                futures.append(
                    producer.send(self._stage.kafka.topics["verdicts"], partition=record.partition, **named)
                )
            producer.flush(timeout=300)
            for future in futures:
                future.get(timeout=1)
            producer.close()
        except BaseException as fault:  # noqa: BLE001 - raised again by run
            self._fault = fault

    def _until_balanced(self, load: loads.Load) -> None:
        began = time.monotonic()
        while found := list(answers(load.owed, self._stage.results())) or problems(books(self._stage, load)):
            if time.monotonic() - began > self._plan.patience_s or any(
                "was published twice" in one for one in found
            ):
                break
            self._say(f"{len(found)} accounts are open after {time.monotonic() - began:.0f} s: {found[0]}")
            self._operate()
            time.sleep(2)
        else:
            found = []
        for sentence in found[:5]:
            self._say(f"open to the last: {sentence}")
        for name, worker in list(self._workers.items()):
            worker.terminate()
            if worker.wait(PATIENCE_S) != 0:
                self.report.wrong.append(f"{name} did not end well")
        self.report.wrong += problems(books(self._stage, load))

    # -- what is found ---------------------------------------------------------------------------------

    def _examine(self, load: loads.Load) -> None:
        found = self.report
        found.events, found.results = len(load.owed), len(self._stage.results())
        moves = sorted({(at, name, p) for name, w in self._everyone for at, p in play.restored(w)})
        for name, worker in self._everyone:
            found.wrong += [f"{name} complained: {line['message']}" for line in play.complaints(worker)]
        losses = [*self._losses, *((at, at, f"{name} took over partition {p}") for at, name, p in moves)]
        unexplained = play.unexplained(
            self._stage, load, [at for begin, end, _ in losses for at in range(begin, end + 1, 200)]
        )
        for before, after in play.repeats(self._stage):
            sentence = f"{after['vendor']} {after['operation']} of {after['stream']} at {after['at_ms']}"
            why = before["fault"] or self._why(before["at_ms"], after["at_ms"], losses)
            found.repeated.append(f"{sentence}: {why}")
        found.wrong += [f"repeated, and no crash explains it: {one}" for one in unexplained]
        found.wrong += disorder(self._stage)
        found.recoveries = recoveries(self._stage, self._kills, moves)

    def _why(self, before: Millis, after: Millis, losses: Sequence[tuple[Millis, Millis, str]]) -> str:
        causes = [
            what
            for begin, end, what in losses
            if end >= before and begin <= min(after, before + play.DURABLE_AFTER)
        ]
        return causes[0] if causes else "its answer came too late, or another verdict asked for it"


def chaos(
    folder: Path,
    brokers: Sequence[Broker],
    kafka: Kafka,
    plan: Plan,
    say: Callable[[str], None],
    program: Sequence[str] = ("-m", "worker"),
) -> Report:
    """Run a plan against a broker or a cluster, with topics of its own."""
    with (
        Proxy(brokers[0].proxied, brokers[0].behind) as proxy,
        Stage(
            folder, kafka, changes={**CHANGES, "policy": LASTING}, simulators=SIMULATORS, script=play.FAULTS
        ) as stage,
    ):
        return Chaos(stage, brokers, proxy, plan, program, say).run()


def main() -> int:
    """Run it, and tell."""
    import tempfile  # noqa: PLC0415 - the program's only

    parser = report.arguments(__doc__)
    parser.add_argument("--verdicts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--brokers", type=int, default=1, help="with three, coordinators move at each kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pause", type=float, nargs=2, default=(2.0, 4.0), help="seconds between two troubles"
    )
    parser.add_argument(
        "--away", type=float, default=60.0, help="how long the broker is away once, in seconds"
    )
    parser.add_argument(
        "--refused", type=float, default=300.0, help="how long one vendor answers 503, in seconds"
    )
    told = parser.parse_args()
    plan = Plan(
        told.seed,
        told.verdicts,
        told.kills,
        pause=tuple(told.pause),
        away_s=told.away,
        refused_s=told.refused,
    )
    if told.quick:
        plan = Plan(told.seed, 300, 3, 1, 1, 0, (1.0, 2.0), 0, 5)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        (Path(scratch) / "kafka").mkdir()
        with running_cluster(Path(scratch) / "kafka", told.brokers) as brokers:
            servers = ",".join(broker.plain for broker in brokers)
            kafka = Kafka(servers, prefix="chaos", replication=told.brokers)
            found = chaos(Path(scratch) / "stage", brokers, kafka, plan, say)
    tell(found)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
