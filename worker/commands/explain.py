"""``explain``: what is in force for a stream, because of what, and what would lift it."""

import argparse

from worker.commands import OK
from worker.commands.parts.arguments import CommandLine, connected_settings, moment, now

# ruff: noqa: PLC0415 - what costs time to import is imported by the body

DAY = 86_400_000
"""So far back the history is read at least, in milliseconds."""


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Say what is in force for a stream, because of what, what it waits for and what would lift it."
    explain = commands.add("explain", _explain, about)
    explain.add_argument("stream_key", metavar="STREAM_KEY", help="the platform's name for the stream")
    explain.add_argument("--json", action="store_true", help="an object, with the whole history")
    explain.add_argument(
        "--from",
        dest="since",
        metavar="TIME",
        type=moment,
        help="read the history from then on (2026-11-22T10:05:00Z); without it, from the oldest demand "
        "that stands, and a day at least",
    )


def _explain(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import evidence, explaining, story
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.control import scopes
    from worker.commands.parts.progress import Progress
    from worker.commands.parts.topic_reader import TopicReader
    from worker.commands.parts.waiting import Lines
    from worker.core.control import gather
    from worker.core.state import StreamState, decode

    key: str = arguments.stream_key
    with brokers(settings.kafka), Progress() as progress, TopicReader(settings.kafka, progress) as reader:
        states = evidence.read_states(reader, settings, key)
        at = now()
        raw = states.raw.get(key.encode())
        state = decode(raw[0]) if raw is not None else StreamState(key)
        holds = [hold for target in state.targets.values() for hold in target.holds]
        since = min([at - DAY, *(hold.placed_at - DAY // 24 for hold in holds)])
        since = since if arguments.since is None else arguments.since
        history = evidence.read_history(reader, settings, state, since)
        control = gather(scopes(reader, settings.kafka).items())
        around = evidence.around(settings, states, state, control, at)
    lines = Lines(arguments.config)
    explained = explaining.explain(state, history, around, at, lines)
    print(explaining.as_json(explained) if arguments.json else story.as_text(explained, since, lines))
    return OK
