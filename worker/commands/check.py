"""``check``: configuration, policy and routes; with ``--connect`` also what they name."""

import argparse
from typing import TYPE_CHECKING

from worker.commands import FAILED, OK, Failure
from worker.commands.parts.arguments import CommandLine, connected_settings

if TYPE_CHECKING:
    from worker.settings import Settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    check = commands.add("check", _check, "Check configuration, policy and routes.")
    check.add_argument(
        "--strict", action="store_true", help="end with 1 where there is a warning, not only with a mistake"
    )
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
    warned = _lint(settings)
    if arguments.connect:
        _check_connections(settings)
    return FAILED if warned and arguments.strict else OK


def _lint(settings: "Settings") -> bool:
    """Print what is odd about policy and routes; return whether there are warnings."""
    from worker import vendors
    from worker.core.lint import lint

    specs = {name: vendors.load_spec(one.account.vendor) for name, one in settings.accounts.items()}
    found = lint(settings.policy, settings.routes, specs)
    for finding in found:
        print(finding)
    return any(finding.level == "warning" for finding in found)


def _check_connections(settings: "Settings") -> None:
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
