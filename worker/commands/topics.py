"""``topics create`` and ``topics describe``: the five topics."""

import argparse

from worker.commands import OK, Failure
from worker.commands.parts.arguments import CommandLine, connected_settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    topics = commands.group("topics", "Make or describe the five topics.")
    topics.add("create", _create, "Make the topics that are missing.")
    topics.add("describe", _describe, "Show what the brokers say about the topics.")


def _create(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import broker

    print(broker.make_topics(settings.kafka))
    return OK


def _describe(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import broker

    table, problems = broker.describe_topics(settings.kafka)
    print(table)
    if problems:
        raise Failure(problems)
    return OK
