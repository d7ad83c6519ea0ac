"""What the commands do, without the command line: each gives data or text, ``worker.cli`` prints."""

from collections.abc import Sequence


class Refusal(Exception):  # noqa: N818 - the command was refused; nothing has failed
    """What was given is wrong, so nothing was done: one sentence for each problem. Exit code 2."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


class Failure(Exception):  # noqa: N818 - it reads as what it says where it is raised
    """It failed on the way: one sentence for each reason. Exit code 1."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
