"""The simulators and the embedded broker as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import InvalidRequestError

from tests.sandbox.signing import PUSH, Clock, Signer
from worker.sandbox.broker import CLIENT_OPTIONS, EmbeddedBroker
from worker.sandbox.process import ROOT, ChildProcess, SimulatorProcess

pytestmark = pytest.mark.sandbox

ROOM = {"domain": PUSH, "app_name": "live", "stream_name": "room"}
GROUP: dict[str, Any] = {
    **CLIENT_OPTIONS["consumer"],
    "group_id": "readers",
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
}


def test_the_log_is_complete_when_the_process_is_killed(http: httpx.Client, tmp_path: Path) -> None:
    log, config, script = tmp_path / "calls.jsonl", tmp_path / "config.json", tmp_path / "script.json"
    config.write_text(json.dumps({"huawei": {"quotas": {"block_once": [[2, 60_000]]}}}))
    script.write_text(json.dumps([{"vendor": "aliyun", "effect": "hang"}]))
    with SimulatorProcess(["huawei", "aliyun"], config=config, script=script, log=log) as simulators:
        signer = Signer(http, simulators.urls["huawei"], Clock(int(time.time() * 1000)))
        answers = [signer.huawei("POST", "stream/block-once", ROOM).status_code for _ in range(3)]
        os.kill(simulators.pid, signal.SIGKILL)
    assert answers == [204, 204, 429]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["operation"], line["http_status"], line["over_quota"]) for line in lines] == [
        ("block_once", 204, False),
        ("block_once", 204, False),
        ("block_once", 429, True),
    ]
    assert lines[0]["account"] == "sandbox-key"


@pytest.mark.parametrize("module", ["worker.sandbox.simulators", "worker.sandbox.broker"])
def test_a_process_writes_its_address_and_ends_on_sigterm(module: str, tmp_path: Path) -> None:
    address = tmp_path / "address"
    arguments = ["--vendor", "huawei"] if module.endswith("simulators") else ["--topic", "a:1"]
    with ChildProcess(module, [*arguments, "--port-file", str(address)]) as child:
        assert address.read_text().strip() == child.greeting
        os.kill(child.pid, signal.SIGTERM)
        assert child._process.wait(timeout=5) == 0


def test_a_process_that_cannot_start_says_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.json")
    with pytest.raises(RuntimeError, match="ended with 2 before it was ready"):
        ChildProcess("worker.sandbox.simulators", ["--vendor", "huawei", "--config", missing])
    with pytest.raises(RuntimeError, match="ended with 2 before it was ready"):
        EmbeddedBroker({"verdicts": 0})


def test_the_broker_ends_when_its_parent_is_killed() -> None:
    program = (
        "import time; from worker.sandbox.broker import EmbeddedBroker;"
        "broker = EmbeddedBroker({'a': 1}); print(broker.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        os.kill(broker, 0)
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{broker}").exists() and "Z" not in Path(f"/proc/{broker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the broker outlived its parent"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"verdicts": 4, "rebalanced": 4}) as broker:
        yield broker


class PatientAssignor(RangePartitionAssignor):  # type: ignore[misc]  # kafka-python has no types
    """Lets the other members ask first, as CLIENT_OPTIONS explains."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        time.sleep(0.3)
        return super().assign(cluster, members)


def produce(broker: EmbeddedBroker, topic: str, records: int) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, **CLIENT_OPTIONS["producer"])
    futures = [producer.send(topic, key=b"%d" % n, value=b"value-%d" % n) for n in range(records)]
    producer.flush(30)
    assert all(future.succeeded() for future in futures)
    producer.close()


def test_two_thousand_records_come_back_in_order_and_offsets_are_kept(broker: EmbeddedBroker) -> None:
    produce(broker, "verdicts", 2000)
    consumer = KafkaConsumer("verdicts", bootstrap_servers=broker.bootstrap_servers, **GROUP)
    seen: dict[int, list[int]] = {}
    deadline = time.monotonic() + 60
    while sum(map(len, seen.values())) < 2000 and time.monotonic() < deadline:
        for partition, records in consumer.poll(timeout_ms=500).items():
            seen.setdefault(partition.partition, []).extend(int(record.key) for record in records)
    consumer.commit()
    consumer.close()
    assert sorted(seen) == [0, 1, 2, 3]
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(2000))
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    again = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, **GROUP)
    committed = {n: again.committed(TopicPartition("verdicts", n)) for n in range(4)}
    again.close()
    assert committed == {n: len(numbers) for n, numbers in seen.items()}


def test_two_consumers_share_the_partitions_and_one_inherits_all(broker: EmbeddedBroker) -> None:
    assigned: dict[str, set[int]] = {}
    leave = {name: threading.Event() for name in ("first", "second")}

    def read(name: str) -> None:
        options = {**GROUP, "group_id": "sharers", "partition_assignment_strategy": [PatientAssignor]}
        consumer = KafkaConsumer("rebalanced", bootstrap_servers=broker.bootstrap_servers, **options)
        while not leave[name].is_set():
            with suppress(InvalidRequestError):  # see CLIENT_OPTIONS: poll again
                consumer.poll(timeout_ms=250)
            assigned[name] = {partition.partition for partition in consumer.assignment()}
        consumer.close()
        assigned[name] = set()

    def settles(*expected: int) -> bool:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            shares = [assigned.get(name, set()) for name in ("first", "second")]
            if [len(share) for share in shares] == list(expected) and set.union(*shares) == {0, 1, 2, 3}:
                return True
            time.sleep(0.05)
        return False

    threads = {name: threading.Thread(target=read, args=(name,)) for name in leave}
    try:
        threads["first"].start()
        assert settles(4, 0)
        threads["second"].start()
        assert settles(2, 2)
        leave["first"].set()
        assert settles(0, 4)
    finally:
        for name, thread in threads.items():
            leave[name].set()
            if thread.ident is not None:
                thread.join()
