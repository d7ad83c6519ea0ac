"""``gate``: the publish gate of self-hosted media servers."""

import argparse

from worker.commands import Refusal
from worker.commands.parts.arguments import CommandLine, settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Answer self-hosted media servers' publish hooks from what is in force."
    commands.add("gate", _gate, about)


def _gate(arguments: argparse.Namespace) -> int:
    found = settings(arguments)
    from worker.gate import gated, run

    if not gated(found):
        raise Refusal(["accounts: none is at a server that asks a gate (vendor: nginx_rtmp)"])
    return run(found)
