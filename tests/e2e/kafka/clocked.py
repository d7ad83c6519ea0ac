"""The worker on a machine whose clock is set while it works.

``python -m tests.e2e.kafka.clocked OFFSETS run --config F``: each SIGUSR1 sets the clock to the next of these
offsets from the true time (milliseconds, comma-separated) and logs it.
"""

import logging
import signal
import sys
import time
from types import FrameType

from worker.cli import main
from worker.runtime.clock import SystemClock
from worker.words import Millis

log = logging.getLogger(__name__)


def set_when_told(offsets: list[Millis]) -> None:
    """Let the clock of this process be set by signals."""
    offset, left = 0, iter(offsets)

    def now(self: SystemClock) -> Millis:  # noqa: ARG001 - a method
        return time.time_ns() // 1_000_000 + offset

    def step(_number: int, _frame: FrameType | None) -> None:
        nonlocal offset
        offset = next(left)
        log.warning("the clock is off by %d ms", offset)

    SystemClock.now = now  # type: ignore[method-assign]  # both of the clocks that the worker makes
    signal.signal(signal.SIGUSR1, step)


if __name__ == "__main__":
    set_when_told([int(offset) for offset in sys.argv[1].split(",")])
    sys.exit(main(sys.argv[2:]))
