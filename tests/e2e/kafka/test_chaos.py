"""A short run of ``benchmarks/chaos.py``: nothing lost, nothing twice. And a worker with a bug is noticed."""

from pathlib import Path

import pytest

from benchmarks.chaos import chaos
from benchmarks.common.troubles import Plan, Report
from tests.e2e.kafka.broken import BUGS
from tests.kafka.apache import Broker
from worker.sandbox.stage import Kafka

pytestmark = pytest.mark.kafka

SHORT = Plan(
    seed=1, verdicts=600, kills=10, brokers=2, zombies=2, others=1, pause=(0.5, 1.5), away_s=0, refused_s=10,
    patience_s=240,
)  # fmt: skip
BRIEF = Plan(
    seed=2, verdicts=150, kills=3, brokers=0, zombies=0, others=0, pause=(1.0, 2.0), away_s=0, refused_s=0,
    patience_s=20,
)  # fmt: skip


def played(folder: Path, broker: Broker, kafka: Kafka, plan: Plan, *program: str) -> Report:
    said: list[str] = []
    found = chaos(folder, [broker], kafka, plan, said.append, program or ("-m", "worker"))
    print("\n".join([*said, *found.repeated, *found.wrong]))  # noqa: T201 - shown when it fails
    return found


@pytest.mark.timeout(600)
def test_whatever_crashes_nothing_is_lost_and_nothing_twice(
    tmp_path: Path, broker: Broker, kafka: Kafka
) -> None:
    found = played(tmp_path, broker, kafka, SHORT)
    assert not found.wrong
    done = found.troubles
    assert (done["replica killed"], done["broker killed"], done["replica frozen"]) == (10, 2, 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
def test_a_worker_with_a_bug_is_noticed(tmp_path: Path, broker: Broker, kafka: Kafka, bug: str) -> None:
    found = played(tmp_path, broker, kafka, BRIEF, "-m", "tests.e2e.kafka.broken", bug)
    assert found.wrong
