"""``backtest``: what another policy would have decided on recorded verdicts."""

import argparse

from worker.commands import OK, Refusal
from worker.commands.parts.arguments import CommandLine, connected_settings, moment

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Say what another policy would have decided on the recorded verdicts; changes nothing."
    backtest = commands.add("backtest", _backtest, about)
    backtest.add_argument(
        "--policy",
        metavar="FILE",
        required=True,
        help="the other policy: a whole configuration, or policy and perhaps routes alone",
    )
    backtest.add_argument("--from", dest="since", metavar="TIME", type=moment, help="verdicts from then on")
    backtest.add_argument("--to", dest="until", metavar="TIME", type=moment, help="verdicts up to then")
    backtest.add_argument("--json", action="store_true", help="an object")
    backtest.add_argument(
        "--show-streams", action="store_true", help="name the streams of the examples, not only the verdicts"
    )


def _backtest(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import backtesting
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.progress import Progress
    from worker.commands.parts.topic_reader import TopicReader
    from worker.events import codec
    from worker.settings import load_policy
    from worker.settings_file import ConfigError

    try:
        other = load_policy(arguments.policy, settings)
    except ConfigError as error:
        raise Refusal([f"{arguments.policy}: {problem}" for problem in error.problems]) from None
    comparison = backtesting.Comparison(settings, other, show_streams=arguments.show_streams)
    topic = settings.kafka.topics.verdicts
    with brokers(settings.kafka), Progress() as progress, TopicReader(settings.kafka, progress) as reader:
        for record in reader.read(topic, since=arguments.since):
            forwarded = any(name == codec.FORWARDED_FROM for name, _ in record.headers)
            late = arguments.until is not None and record.timestamp > arguments.until
            if not forwarded and not late:
                event = codec.decode(record.key, record.value, record.headers, record.timestamp)
                comparison.take(event, record.timestamp)
    found = comparison.finish()
    print(backtesting.as_json(found) if arguments.json else backtesting.as_text(found))
    return OK
