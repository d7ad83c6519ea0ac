"""``send``, and the commands that are published: ``release``, ``query``."""

import argparse

from worker.commands import OK
from worker.commands.parts.arguments import FILES, CommandLine, connected_settings, now, user

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    send = commands.add("send", _send, "Publish verdicts, commands or stream events.")
    send.add_argument("event", nargs="+", metavar="EVENT", help=FILES)
    for name, about in (
        ("release", "Lift what is in force for a stream."),
        ("query", "Ask every target of a stream what it has in force."),
    ):
        order = commands.add(name, _order, about)
        order.add_argument("stream_key", metavar="STREAM_KEY", help="the platform's name for the stream")
        order.add_argument(
            "--hold", metavar="ID", action="append", default=[], help="only this hold; may be repeated"
        )
        order.add_argument("--by", metavar="NAME", help="who says so; without it, the user's name")
        order.add_argument("--reason", metavar="TEXT", help="why; results repeat it")


def _send(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts.files import read_events

    events = read_events(arguments.event, now())
    from worker.commands.parts.broker import publish

    print("\n".join(publish(settings.kafka, events)))
    return OK


def _order(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts.broker import command, publish

    by = arguments.by or user()
    order = command(arguments.name, arguments.stream_key, arguments.hold, by, arguments.reason, now())
    print("\n".join(publish(settings.kafka, [order])))
    return OK
