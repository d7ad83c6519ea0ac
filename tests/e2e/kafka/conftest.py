"""What the end-to-end tests against Apache Kafka share: stages with topics of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.kafka.apache import Broker
from worker.sandbox.stage import Kafka, Stage


@pytest.fixture
def kafka(broker: Broker) -> Kafka:
    return Kafka(broker.plain, prefix=f"e2e-{uuid4().hex[:8]}")


@pytest.fixture
def stage(kafka: Kafka, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Open a stage; it takes the keyword arguments of Stage."""
    with ExitStack() as stages:
        yield lambda **given: stages.enter_context(Stage(tmp_path, kafka, **given))
