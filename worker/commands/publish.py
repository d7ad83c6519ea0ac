"""``send``, and what is published: ``release``, ``approve``, ``reject``, ``extend``, ``query``."""

import argparse

from worker.commands import OK
from worker.commands.parts.arguments import FILES, CommandLine, connected_settings, moment, now, user

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    send = commands.add("send", _send, "Publish verdicts, commands or stream events.")
    send.add_argument("event", nargs="+", metavar="EVENT", help=FILES)
    for name, about in (
        ("release", "Lift what is in force for a stream."),
        ("approve", "Let go what waits for a human at a stream."),
        ("reject", "End what waits for a human at a stream."),
        ("extend", "Move the end of what is in force for a stream."),
        ("query", "Ask every target of a stream what it has in force."),
    ):
        order = commands.add(name, _order, about)
        order.add_argument("stream_key", metavar="STREAM_KEY", help="the platform's name for the stream")
        order.add_argument(
            "--hold", metavar="ID", action="append", default=[], help="only this hold; may be repeated"
        )
        if name == "extend":
            order.add_argument(
                "--until", metavar="T", type=moment, required=True, help="the new end (RFC 3339)"
            )
        else:
            order.set_defaults(until=None)
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
    order = command(
        arguments.name, arguments.stream_key, arguments.hold, by, arguments.reason, now(), arguments.until
    )
    print("\n".join(publish(settings.kafka, [order])))
    return OK
