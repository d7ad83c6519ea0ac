"""Long work says how far it is, on stderr: a line that moves on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Self, TextIO

FIRST_S, EVERY_S, EVERY_LINE_S = 1.0, 0.2, 5.0
"""Short work says nothing; a terminal's line moves more often than lines follow each other in a log."""


class Progress:
    """What ``TopicReader`` tells, for people. A context manager: its end clears the moving line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._moves = self._stream.isatty()
        self._next = time.monotonic() + FIRST_S
        self._shown = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell how far it is."""
        now = time.monotonic()
        if now < self._next or done >= total:
            return
        self._next = now + (EVERY_S if self._moves else EVERY_LINE_S)
        text = f"reading {what}: {done:,} of {total:,} ({done * 100 // total} %)"
        if self._moves:
            self._stream.write(f"\r{text:<{self._shown}}")
            self._shown = len(text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._stream.write(f"\r{'':<{self._shown}}\r")
            self._stream.flush()
