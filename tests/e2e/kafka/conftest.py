"""What the end-to-end tests against Apache Kafka share: stages with topics of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.kafka.apache import Broker
from worker.sandbox.stage import Kafka, Stage


@pytest.fixture
def kafka(broker: Broker) -> Kafka:
    return Kafka(broker.plain, prefix=f"e2e-{uuid4().hex[:8]}")


@pytest.fixture
def stage(kafka: Kafka, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Open a stage; it takes the keyword arguments of Stage. ``topics_exist``: let it make none."""
    with ExitStack() as stages:

        def build(*, topics_exist: bool = False, **given: Any) -> Stage:
            ours = replace(kafka, topics_exist=topics_exist)
            return stages.enter_context(Stage(tmp_path, ours, **given))

        yield build
