"""``run``: the worker."""

import argparse
import gc

from worker.commands.parts.arguments import CommandLine, config_path, seconds, settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    run = commands.add("run", _run, "Run the worker.")
    run.add_argument(
        "--until-idle",
        metavar="S",
        type=seconds,
        help="end with 0 once the input is read to its end and nothing has been without its terminal "
        "result for S seconds",
    )


def _run(arguments: argparse.Namespace) -> int:
    gc.disable()  # what an import makes stays: a tenth of the start went into looking for what does not
    try:
        found = settings(arguments)
        from worker.app import run
    finally:
        gc.enable()
    return run(found, arguments.until_idle, config_path(arguments))
