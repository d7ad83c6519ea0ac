"""``schemas``: JSON Schemas and AsyncAPI."""

import argparse
from pathlib import Path

from worker.commands import OK, Failure
from worker.commands.parts.arguments import CommandLine

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    schemas = commands.add("schemas", _schemas, "Write JSON Schemas and AsyncAPI.", configured=False)
    schemas.add_argument("--out", type=Path, required=True, metavar="DIR")


def _schemas(arguments: argparse.Namespace) -> int:
    from worker.events.schemas import generate

    try:
        print("\n".join(map(str, generate(arguments.out))))
    except OSError as error:
        raise Failure([f"{error.filename or arguments.out}: cannot be written ({error.strerror})"]) from None
    return OK
