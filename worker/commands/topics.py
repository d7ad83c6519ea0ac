"""``topics create``, ``describe`` and ``grow``: the five topics."""

import argparse

from worker.commands import OK, Failure
from worker.commands.parts.arguments import CommandLine, connected_settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    topics = commands.group("topics", "Make, describe or enlarge the five topics.")
    topics.add("create", _create, "Make the topics that are missing.")
    topics.add("describe", _describe, "Show what the brokers say about the topics.")
    about = "After the verdict topic has grown: enlarge results and states, and move states to their homes."
    topics.add("grow", _grow, about)


def _create(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import broker

    print(broker.make_topics(settings.kafka))
    return OK


def _grow(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import growing
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.progress import Progress

    with brokers(settings.kafka), Progress() as progress:
        growing.grow(settings.kafka, print, progress)
    return OK


def _describe(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import broker

    table, problems = broker.describe_topics(settings.kafka)
    print(table)
    if problems:
        raise Failure(problems)
    return OK
