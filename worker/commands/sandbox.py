"""``demo``: all of it on this machine."""

import argparse

from worker.commands import Failure
from worker.commands.parts.arguments import CommandLine

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Run an embedded broker, vendor simulators and a stream of verdicts."
    commands.add("demo", _demo, about, configured=False)


def _demo(_arguments: argparse.Namespace) -> int:
    try:
        from worker.sandbox.demo import main as demo
    except ModuleNotFoundError as error:
        if str(error.name).startswith("worker."):
            raise
        extra = "pip install 'moderation-worker[sandbox]'"
        raise Failure([f"the demo needs {error.name}, of the sandbox extra: {extra}"]) from None
    return demo()
