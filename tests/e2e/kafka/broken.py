"""The worker with one deliberate bug: ``python -m tests.e2e.kafka.broken BUG run --config F``.

A harness that cannot fail proves nothing. These bugs show in real processes only.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from worker.cli import main
from worker.runtime.consumer import Consumer
from worker.runtime.messages import Restored
from worker.runtime.ownership import Ownership


def offsets_ignored() -> None:
    """A restored partition is read from its newest record: what came meanwhile is lost."""
    seek = Consumer.seek

    def later(self: Consumer, partition: int, epoch: int, offset: int) -> None:
        seek(self, partition, epoch, offset + 3 if offset else offset)

    Consumer.seek = later  # type: ignore[method-assign]  # on purpose


def states_forgotten() -> None:
    """Nothing is known of a restored partition's streams."""
    publish = Ownership.publish

    def forgetful(self: Ownership, message: Any) -> bool:
        return publish(self, replace(message, states=()) if isinstance(message, Restored) else message)

    Ownership.publish = forgetful  # type: ignore[method-assign]  # on purpose


BUGS: dict[str, Callable[[], None]] = {bug.__name__: bug for bug in (offsets_ignored, states_forgotten)}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
