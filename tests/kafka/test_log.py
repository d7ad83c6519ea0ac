"""The promises, on a real broker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient

from tests.kafka.apache import PASSWORD, USER, Broker
from tests.kafka.member import Member, produce, read, results, wait_for
from worker.runtime import journal, kafka_client, restore, topics
from worker.runtime.messages import Batch, PartitionBatch, Record, Restored
from worker.settings import KafkaSettings

pytestmark = pytest.mark.kafka

Join = Callable[..., Member]


def numbered(start: int, stop: int, streams: int = 20) -> list[tuple[str, str]]:
    return [(f"s{n % streams}", f"v{n:06d}") for n in range(start, stop)]


def verdicts(sent: list[tuple[str, str]]) -> list[str]:
    return sorted(verdict for _, verdict in sent)


def test_every_verdict_gets_one_result(settings: KafkaSettings, join: Join) -> None:
    sent = numbered(0, 500)
    produce(settings, sent)
    member = join()
    wait_for(lambda: len(member.seen()) == len(sent) and member.idle())
    assert member.ready()
    assert member.log.lag() == dict.fromkeys(range(4), 0)
    assert sorted(results(settings)) == verdicts(sent)
    assert member.resets == []
    member.stop()
    again = join()
    wait_for(again.idle)
    assert again.seen() == set(verdicts(sent))


@pytest.mark.parametrize("moment", ["before_offsets", "before_commit", "after_commit"])
def test_a_crash_in_a_transaction_loses_nothing_and_repeats_nothing(
    settings: KafkaSettings, join: Join, moment: str
) -> None:
    sent = numbered(0, 300)
    produce(settings, sent)
    crash(settings, moment)
    member = join()
    wait_for(lambda: len(member.seen()) == len(sent) and member.idle())
    assert sorted(results(settings)) == verdicts(sent)


def crash(settings: KafkaSettings, moment: str) -> None:
    """Let a process of its own consume until it kills itself at that moment."""
    arguments = [settings.group_id, settings.topics.verdicts.partition(".")[0], settings.delivery, moment]
    command = [sys.executable, "-m", "tests.kafka.crash", settings.bootstrap_servers[0], *arguments]
    done = subprocess.run(command, timeout=60, check=False)  # noqa: S603 - our own program
    assert done.returncode == -signal.SIGKILL


def test_at_least_once_loses_nothing_in_a_crash(settings: KafkaSettings, join: Join) -> None:
    settings = replace(settings, delivery="at_least_once")
    sent = numbered(0, 300)
    produce(settings, sent)
    crash(settings, "offset_commit")
    member = join(delivery="at_least_once")
    wait_for(lambda: len(member.seen()) == len(sent) and member.idle())
    assert sorted(set(results(settings))) == verdicts(sent)
    assert member.resets == []
    member.stop()
    again = join(delivery="at_least_once")
    wait_for(again.ready)
    assert sum(restored.next_offset for restored in again.of(Restored)) == len(sent)


def test_partitions_move_with_their_states_and_offsets(settings: KafkaSettings, join: Join) -> None:
    first, second = numbered(0, 1000), numbered(1000, 2000)
    produce(settings, first)
    a = join("a")
    wait_for(lambda: len(a.seen()) == len(first))
    feeder = threading.Thread(target=produce, args=(settings, second))
    feeder.start()
    b = join("b")
    wait_for(lambda: a.log.held() == b.log.held() == 2, what="partitions shared out")
    feeder.join()
    wait_for(lambda: a.idle() and b.idle() and len(a.seen() | b.seen()) == 2000)
    assert sorted(results(settings)) == verdicts(first + second)
    by_stream = defaultdict(list)
    for record in read(settings, settings.topics.results):
        by_stream[record.key].append(record.value)
    assert all(values == sorted(values) for values in by_stream.values())
    assert set(a.log.owned()) | set(b.log.owned()) == {0, 1, 2, 3}
    kept = set(a.log.owned())
    assert all(m.epoch <= 1 + len(a.resets) for m in a.of(Restored) if m.partition in kept), (
        "what stayed was read again"
    )
    b.stop()  # a static member keeps its partitions until its session ends
    produce(settings, numbered(2000, 2100))
    wait_for(lambda: a.log.held() == 4 and len(a.seen()) == 2100 and a.idle(), 20)
    assert sorted(results(settings)) == verdicts(numbered(0, 2100))


def test_a_failed_record_fails_the_whole_batch(settings: KafkaSettings, join: Join) -> None:
    spoilt: list[PartitionBatch] = []

    def spoil(batch: Batch) -> None:
        if not spoilt:
            part = next(iter(batch.partitions.values()))
            part.records.append(
                Record(settings.topics.results, b"k", os.urandom(2 << 20), (), part.partition)
            )
            spoilt.append(part)

    sent = numbered(0, 100)
    produce(settings, sent)
    member = join(before_submit=spoil)
    wait_for(lambda: len(member.seen()) == len(sent) and member.idle())
    assert member.resets == ["too_large"]
    assert sorted(results(settings)) == verdicts(sent)


def test_a_record_that_is_too_large_holds_up_its_own_partition_only(
    settings: KafkaSettings, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "REFUSED_S", 2.0)
    spoiling = threading.Event()
    spoiling.set()

    def spoil(batch: Batch) -> None:
        if spoiling.is_set() and 0 in batch.partitions:
            batch.partitions[0].records.append(
                Record(settings.topics.results, b"k", os.urandom(2 << 20), (), 0)
            )

    sent = numbered(0, 200)
    produce(settings, sent)
    member = join(before_submit=spoil)
    elsewhere = [r for r in read(settings, settings.topics.verdicts) if r.partition != 0]
    assert 0 < len(elsewhere) < len(sent)
    wait_for(lambda: len(member.seen()) == len(elsewhere), what="the other partitions are done")
    found = [sentence for sentence in member.log.reasons_not_ready() if "max.message.bytes" in sentence]
    assert len(found) == 1
    assert found[0].startswith("partition 0 ")
    assert settings.topics.results in found[0]
    spoiling.clear()
    wait_for(lambda: member.ready() and member.idle())
    assert sorted(results(settings)) == verdicts(sent)
    assert set(member.resets) == {"too_large"}


def test_a_restore_sees_what_was_committed_a_moment_ago(settings: KafkaSettings, join: Join) -> None:
    member = join()
    wait_for(member.ready)
    ownership = member.log._ownership
    for n in range(10):
        produce(settings, numbered(n, n + 1, streams=1))
        wait_for(lambda n=n: len(member.commits) == n + 1)  # type: ignore[misc]  # a default binds n
        before = len(member.of(Restored))
        ownership.void("test")
        ownership.settle()
        wait_for(lambda before=before: len(member.of(Restored)) == before + 4)  # type: ignore[misc]  # the same
        wait_for(member.inbox.empty)
        assert len(member.seen()) == n + 1


def test_a_partition_that_waits_for_a_dead_owner_says_so_and_holds_up_no_other(
    settings: KafkaSettings,
    join: Join,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(restore, "OVERDUE_S", 1.0)
    dead = kafka_client.transactional_producer(replace(settings, instance_id="dead"))
    dead.begin_transaction()
    dead.send(settings.topics.state, b"[]", b"never committed", partition=2)
    dead.flush(10)
    member = join()
    wait_for(lambda: "a transaction is open on" in caplog.text)
    assert [m.partition for m in member.of(Restored)] == [0, 1, 3]
    assert any("partition 2 has not been restored" in reason for reason in member.log.reasons_not_ready())
    dead.abort_transaction()
    dead.close(5)
    wait_for(member.ready)
    assert member.states[2] == {}


def test_a_second_process_of_the_same_name_ends_the_first(settings: KafkaSettings, join: Join) -> None:
    produce(settings, numbered(0, 50))
    first = join("a")
    wait_for(first.idle)
    second = join("a")
    wait_for(lambda: first.fatal, what="the first is told")
    assert "instance_id 'a'" in first.fatal[0]
    first.stop()
    produce(settings, numbered(50, 100))
    wait_for(lambda: len(second.seen()) == 100 and second.idle())
    assert second.fatal == []
    assert sorted(results(settings)) == verdicts(numbered(0, 100))


def test_a_zombie_transaction_is_not_seen(settings: KafkaSettings, join: Join) -> None:
    """A process that was given up for dead wakes up in the middle of its transaction."""
    held, go_on = threading.Event(), threading.Event()

    def freeze(_batch: Batch) -> None:
        if not held.is_set():
            held.set()
            go_on.wait(30)

    sent = numbered(0, 50)
    produce(settings, sent)
    zombie = join("a", before_submit=freeze)
    assert held.wait(20)
    owner = join("a")  # takes its name, its partitions and its transactional id
    wait_for(lambda: len(owner.seen()) == len(sent) and owner.idle())
    go_on.set()
    wait_for(lambda: zombie.resets or zombie.fatal)
    assert zombie.commits == []
    assert sorted(results(settings)) == verdicts(sent)


def test_twenty_thousand_states_come_back(settings: KafkaSettings, join: Join) -> None:
    sent = [(f"s{n}", "v" * 20 + str(n)) for n in range(20_000)]
    produce(settings, sent)
    member = join()
    wait_for(lambda: len(member.seen()) == len(sent) and member.idle(), 60)
    member.stop()
    again = join()
    wait_for(lambda: again.ready() and again.idle(), 60)
    assert sum(len(restored.states) for restored in again.of(Restored)) == len(sent)
    assert again.seen() == {verdict for _, verdict in sent}


def test_back_pressure_and_a_stopped_partition_hold_records_back(settings: KafkaSettings, join: Join) -> None:
    member = join()
    wait_for(member.ready)
    member.log.set_back_pressure(on=True)
    time.sleep(0.6)  # longer than a poll
    produce(settings, numbered(0, 100))
    time.sleep(0.6)
    assert member.seen() == set()
    assert not member.log.caught_up()
    assert sum(member.log.lag().values()) == 100
    member.log.stop_partition(2)
    member.log.set_back_pressure(on=False)
    wait_for(lambda: len(member.seen()) == 100 - member.log.lag()[2] > 0)
    assert member.states[2] == {}
    assert not member.log.caught_up()
    assert member.log.lag()[2] > 0
    member.log.resume_partition(2)
    wait_for(lambda: len(member.seen()) == 100 and member.idle())


def test_tls_and_scram_work(settings: KafkaSettings, broker: Broker, join: Join) -> None:
    client = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": USER,
        "sasl_plain_password": PASSWORD,
        "ssl_cafile": broker.cafile,
    }
    produce(settings, numbered(0, 50))
    member = join(bootstrap_servers=(broker.secure,), client=client)
    wait_for(lambda: len(member.seen()) == 50 and member.idle())


def test_a_verdict_topic_that_has_grown_is_refused(
    settings: KafkaSettings, broker: Broker, join: Join
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.plain)
    admin.create_partitions({settings.topics.verdicts: 6})
    admin.close()
    wait_for(lambda: topics.describe(settings)[settings.topics.verdicts].partitions == 6)
    member = join()
    wait_for(lambda: member.fatal)
    assert "topics grow" in member.fatal[0]
    assert member.heard == []


def test_a_broker_that_dies_and_comes_back_costs_nothing(
    settings: KafkaSettings, broker: Broker, join: Join
) -> None:
    produce(settings, numbered(0, 200))
    member = join()
    wait_for(lambda: len(member.seen()) == 200)
    broker.kill()
    try:
        wait_for(lambda: not member.ready(), 20)
        assert member.log.alive()
    finally:
        broker.start()
    produce(settings, numbered(200, 400))
    wait_for(lambda: len(member.seen()) == 400 and member.idle(), 60)
    wait_for(member.ready)
    assert sorted(results(settings)) == verdicts(numbered(0, 400))
