"""``check``: configuration, policy and routes; with ``--connect`` also what they name."""

import argparse
from typing import TYPE_CHECKING

from worker.commands import OK, Failure
from worker.commands.parts.arguments import CommandLine, connected_settings

if TYPE_CHECKING:
    from worker.settings import Settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    check = commands.add("check", _check, "Check configuration, policy and routes.")
    check.add_argument(
        "--connect",
        action="store_true",
        help="also the brokers, the topics and one read-only call per account",
    )


def _check(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    counts = {"accounts": settings.accounts, "routes": settings.routes, "rules": settings.policy.rules}
    found = ", ".join(f"{what} {len(them)}" for what, them in counts.items())
    print(f"configuration: fine ({found}, policy version {settings.policy.version})")
    return _check_connections(settings) if arguments.connect else OK


def _check_connections(settings: "Settings") -> int:
    from worker.app import probe_accounts
    from worker.commands.parts import broker

    problems = broker.check(settings.kafka)
    if not problems:
        print("brokers and topics: fine")
    for name, fine, sentence in probe_accounts(settings):
        if fine:
            print(f"account {name}: {sentence}")
        else:
            problems.append(f"account {name}: {sentence}")
    if problems:
        raise Failure(problems)
    return OK
