"""The commands: each module here is one group of them, with their arguments and what they do and print.

Another command goes into the module of its group, or into a module of its own, which ``worker.cli`` lists:
``add`` says its name, its arguments and its body, and the body returns the exit code. What costs time to
import is imported by the body, since ``--help`` loads every group. What is worth a test of its own, or
what another command needs too, goes to ``worker.commands.parts``.
"""

from collections.abc import Sequence

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: done, failed while running, wrong usage or configuration, interrupted."""


class Refusal(Exception):  # noqa: N818 - the command was refused; nothing has failed
    """What was given is wrong, so nothing was done: one sentence for each problem. Exit code 2."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


class Failure(Exception):  # noqa: N818 - it reads as what it says where it is raised
    """It failed on the way: one sentence for each reason. Exit code 1."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
