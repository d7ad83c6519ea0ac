"""What the end-to-end tests share: a stage on an embedded broker of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Build stages; arguments are those of Stage. Each has its own folder and broker, gone at the end."""
    from worker.sandbox.stage import Stage, embedded_kafka  # noqa: PLC0415 - needs the sandbox extra

    with ExitStack() as stack:

        def build(**options: Any) -> Stage:
            kafka = stack.enter_context(embedded_kafka())
            return stack.enter_context(Stage(tmp_path / "stage", kafka, **options))

        yield build
