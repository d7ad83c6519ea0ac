"""The command line: collects the commands, runs one, and turns how it ended into an exit code.

Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from worker import __version__
from worker.commands import (
    FAILED,
    INTERRUPTED,
    OK,
    WRONG,
    Failure,
    Refusal,
    backtest,
    check,
    control,
    explain,
    gate,
    plan,
    publish,
    reconcile,
    replay,
    run,
    sandbox,
    schemas,
    top,
    topics,
    vendors,
)
from worker.commands.parts.arguments import CommandLine

GROUPS = (
    run,
    gate,
    check,
    plan,
    explain,
    backtest,
    publish,
    control,
    reconcile,
    top,
    replay,
    topics,
    vendors,
    schemas,
    sandbox,
)
"""Every module of ``worker.commands``, in the order of ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        body: Callable[[argparse.Namespace], int] = arguments.body
        return body(arguments)
    except SystemExit as end:  # argparse has said why
        return int(end.code or OK)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return WRONG
    except Failure as failure:
        print(failure, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read our output has read enough; Python would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moderation-worker", description="Carries out live-stream moderation verdicts at the CDN."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = CommandLine(parser)
    for group in GROUPS:
        group.add(commands)
    return parser
