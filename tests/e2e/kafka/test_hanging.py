"""The operator of the chaos runs: a transaction that was left open is ended, and readers go on."""

from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from benchmarks.common.hanging import end_hanging
from tests.e2e.playing import wait_for
from tests.kafka.apache import Broker
from worker.sandbox.stage import Stage

pytestmark = pytest.mark.kafka


def test_what_hangs_is_ended_and_what_is_young_is_left_alone(
    stage: Callable[..., Stage], broker: Broker
) -> None:
    theatre = stage()
    topic = theatre.kafka.topics["results"]
    owner = KafkaProducer(bootstrap_servers=broker.plain, transactional_id=f"{topic}-gone")
    owner.init_transactions()
    owner.begin_transaction()
    owner.send(topic, b"{}", partition=1).get(timeout=10)
    after = KafkaProducer(bootstrap_servers=broker.plain)
    after.send(topic, b"{}", partition=1).get(timeout=10)
    assert theatre.records("results") == []

    assert end_hanging(broker.plain, [topic]) == []
    (sentence,) = end_hanging(broker.plain, [topic], hangs_after=0)

    assert sentence.startswith(f"{topic}/1: producer ")
    wait_for(lambda: len(theatre.records("results")) == 1, 10, "what came after it is read")
    assert end_hanging(broker.plain, [topic], hangs_after=0) == []
    for producer in (owner, after):
        producer.close(timeout=1)
