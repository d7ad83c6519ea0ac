"""The worker with one deliberate bug: ``python -m tests.e2e.kafka.broken BUG run --config F``.

A harness that cannot fail proves nothing. These bugs show in real processes only.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from worker.cli import main
from worker.runtime.messages import Polled, Restored
from worker.runtime.ownership import Ownership


def first_records_lost() -> None:
    """The first records of each assignment are taken for read, and are not."""
    publish, begun = Ownership.publish, set[tuple[int, int]]()

    def deaf(self: Ownership, message: Any) -> bool:
        if isinstance(message, Polled) and (message.partition, message.epoch) not in begun:
            begun.add((message.partition, message.epoch))
            return True
        return publish(self, message)

    Ownership.publish = deaf  # type: ignore[method-assign]  # on purpose


def states_forgotten() -> None:
    """Nothing is known of a restored partition's streams."""
    publish = Ownership.publish

    def forgetful(self: Ownership, message: Any) -> bool:
        return publish(self, replace(message, states=()) if isinstance(message, Restored) else message)

    Ownership.publish = forgetful  # type: ignore[method-assign]  # on purpose


BUGS: dict[str, Callable[[], None]] = {bug.__name__: bug for bug in (first_records_lost, states_forgotten)}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
