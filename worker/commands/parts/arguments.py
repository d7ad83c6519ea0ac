"""How a command is added, and the arguments that several of them take."""

import argparse
import getpass
import logging
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING

from worker.commands import Refusal
from worker.words import Millis

if TYPE_CHECKING:
    from worker.settings import Settings

# `--help` loads this module: what costs time to import is imported where it is needed.
# ruff: noqa: PLC0415

Body = Callable[[argparse.Namespace], int]
"""What a command does with its arguments; returns the exit code. It may raise Refusal and Failure."""

FILES = "a file with one JSON object or one a line, or - for standard input"


class CommandLine:
    """Where a group adds its commands."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, name: str, body: Body, about: str, *, configured: bool = True) -> argparse.ArgumentParser:
        """Add a command and return its parser. ``configured``: it takes --config; see ``settings``."""
        parser = self._commands.add_parser(name, help=about, description=about)
        parser.set_defaults(body=body, name=name)
        if configured:
            parser.add_argument(
                "--config",
                metavar="FILE",
                help="the YAML file; without it, MODERATION_WORKER_CONFIG names it",
            )
        return parser

    def group(self, name: str, about: str) -> "CommandLine":
        """Add a word that has commands of its own (``topics create``)."""
        return CommandLine(self._commands.add_parser(name, help=about, description=about))


def config_path(arguments: argparse.Namespace) -> str:
    """Return the configuration file's path. Raises Refusal where none is named."""
    from worker.settings import default_path

    path: str | None = arguments.config or default_path()
    if path is None:
        raise Refusal(["no configuration: give --config FILE, or set MODERATION_WORKER_CONFIG"])
    return path


def settings(arguments: argparse.Namespace) -> "Settings":
    """Return what the configuration file says. Raises Refusal with every mistake in it."""
    from worker.settings import load
    from worker.settings_file import ConfigError

    try:
        return load(config_path(arguments))
    except ConfigError as error:
        raise Refusal(error.problems) from None


def connected_settings(arguments: argparse.Namespace) -> "Settings":
    """Return the same for a command that talks to the brokers: what their client raises says enough."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return settings(arguments)


def user() -> str:
    """Return the name of who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        raise Refusal(["this user has no name: say with --by who asks for it"]) from None


def now() -> Millis:
    """Return this moment."""
    return round(time() * 1000)


# Types of arguments.


def seconds(text: str) -> float:
    """Read a number of seconds, at most a day."""
    found = float(text)
    if not 0 <= found <= 86_400:  # noqa: PLR2004 - a day; NaN fails too
        raise argparse.ArgumentTypeError("expected seconds, from 0 to 86400")
    return found


def moment(text: str) -> Millis:
    """Read a moment (RFC 3339)."""
    from worker.events.times import parse_rfc3339

    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
