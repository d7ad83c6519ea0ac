"""``replay``: dead letters back into the verdict topic, each once."""

import argparse
from typing import get_args

from worker.commands import OK
from worker.commands.parts.arguments import CommandLine, connected_settings, moment, now

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    replay = commands.add("replay", _replay, "Put dead letters back into the verdict topic, each once.")
    replay.add_argument(
        "--reason", metavar="R", help="only those put aside for this reason (json, schema, …)"
    )
    replay.add_argument(
        "--from", dest="since", metavar="TIME", type=moment, help="only those put aside since"
    )
    replay.add_argument("--to", dest="until", metavar="TIME", type=moment, help="only those put aside before")
    replay.add_argument("--partition", metavar="N", type=int, help="only those of this dead-letter partition")
    replay.add_argument("--dry-run", action="store_true", help="say which, and change nothing")


def _replay(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments).kafka
    from worker.commands import Refusal
    from worker.commands.parts import replaying
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.progress import Progress
    from worker.commands.parts.tables import table
    from worker.commands.parts.topic_reader import TopicReader
    from worker.events.codec import InvalidReason

    reason = arguments.reason
    if reason is not None and reason not in get_args(InvalidReason):
        raise Refusal([f"--reason: {reason!r} is not a reason ({', '.join(get_args(InvalidReason))})"])
    wanted = replaying.Wanted(reason, arguments.since, arguments.until, arguments.partition)
    with brokers(settings), Progress() as progress:
        if wanted.partition is not None:
            with TopicReader(settings) as reader:
                count = reader.partitions(settings.topics.dead_letters)
            if not 0 <= wanted.partition < count:
                raise Refusal([f"--partition: {wanted.partition} is not one of 0 to {count - 1}"])
        letters = (replaying.look if arguments.dry_run else replaying.replay)(settings, wanted, progress)
    if arguments.dry_run and letters:
        heads = ("REASON", "PARTITION", "OFFSET", "PUT ASIDE", "", "SIZE")
        print(table([heads, *(replaying.row(letter, now()) for letter in letters)]))
    print(f"{len(letters)} dead letters {'would be ' if arguments.dry_run else ''}replayed")
    return OK
