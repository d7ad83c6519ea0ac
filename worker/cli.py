"""The command line: parse, call, print; nothing else.

Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration, 130 interrupted.
"""

import argparse
import getpass
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time

from worker import __version__
from worker.commands import Failure, Refusal
from worker.events.times import parse_rfc3339
from worker.settings import Settings, default_path, load
from worker.settings_file import ConfigError
from worker.vendors import UnknownVendor
from worker.words import Millis

# What only some commands need is imported where they need it: the Kafka client alone takes longer to
# load than `plan` takes to run.
# ruff: noqa: PLC0415

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except SystemExit as end:  # argparse has said why
        return int(end.code or OK)
    except (ConfigError, Refusal, UnknownVendor) as wrong:
        print(wrong, file=sys.stderr)
        return WRONG
    except Failure as failure:
        print(failure, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read our output has read enough; Python would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    from worker.app import run

    return run(settings, arguments.until_idle)


def _check(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    counts = {"accounts": settings.accounts, "routes": settings.routes, "rules": settings.policy.rules}
    found = ", ".join(f"{what} {len(them)}" for what, them in counts.items())
    print(f"configuration: fine ({found}, policy version {settings.policy.version})")
    return _check_connections(settings) if arguments.connect else OK


def _check_connections(settings: Settings) -> int:
    _silence_client()
    from worker.app import probe_accounts
    from worker.commands import broker

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


def _plan(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    from worker.commands import plan
    from worker.commands.files import read_events
    from worker.events.incoming import Verdict

    now = _now() if arguments.at is None else arguments.at
    events = read_events(arguments.verdict, now)
    others = [f"{one.where}: is not a verdict" for one in events if not isinstance(one.event, Verdict)]
    if others:
        raise Refusal(others)
    context = plan.context(settings)
    planned = [
        line
        for one in events
        if isinstance(one.event, Verdict)
        for line in plan.plan(context, one.event, now)
    ]
    print(plan.as_json(planned) if arguments.json else plan.as_text(planned))
    return OK


def _send(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    from worker.commands.files import read_events

    events = read_events(arguments.event, _now())
    _silence_client()
    from worker.commands.broker import publish

    print("\n".join(publish(settings.kafka, events)))
    return OK


def _order(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    _silence_client()
    from worker.commands.broker import command, publish

    by = arguments.by or _user()
    order = command(arguments.name, arguments.stream_key, arguments.hold, by, arguments.reason, _now())
    print("\n".join(publish(settings.kafka, [order])))
    return OK


def _topics_create(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    _silence_client()
    from worker.commands import broker

    print(broker.make_topics(settings.kafka))
    return OK


def _topics_describe(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    _silence_client()
    from worker.commands import broker

    table, problems = broker.describe_topics(settings.kafka)
    print(table)
    if problems:
        raise Failure(problems)
    return OK


def _vendors(arguments: argparse.Namespace) -> int:
    from worker.commands import tables

    print(tables.one_vendor(arguments.vendor) if arguments.vendor else tables.all_vendors())
    return OK


def _schemas(arguments: argparse.Namespace) -> int:
    from worker.events.schemas import generate

    try:
        print("\n".join(map(str, generate(arguments.out))))
    except OSError as error:
        raise Failure([f"{error.filename or arguments.out}: cannot be written ({error.strerror})"]) from None
    return OK


def _demo(_arguments: argparse.Namespace) -> int:
    try:
        from worker.sandbox.demo import main as demo
    except ModuleNotFoundError as error:
        if str(error.name).startswith("worker."):
            raise
        extra = "pip install 'moderation-worker[sandbox]'"
        raise Failure([f"the demo needs {error.name}, of the sandbox extra: {extra}"]) from None
    return demo()


def _settings(arguments: argparse.Namespace) -> Settings:
    path = arguments.config or default_path()
    if path is None:
        raise Refusal(["no configuration: give --config FILE, or set MODERATION_WORKER_CONFIG"])
    return load(path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        raise Refusal(["this user has no name: say with --by who asks for it"]) from None


def _silence_client() -> None:
    """Keep the Kafka client from talking into a command's output: what it raises says enough."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _now() -> Millis:
    return round(time() * 1000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moderation-worker", description="Carries out live-stream moderation verdicts at the CDN."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument(
        "--config", metavar="FILE", help="the YAML file; without it, MODERATION_WORKER_CONFIG names it"
    )

    def add(
        name: str, command: Callable[[argparse.Namespace], int], about: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=about, description=about, parents=parents)
        found.set_defaults(command=command, name=name)
        return found

    run = add("run", _run, "Run the worker.", configured)
    run.add_argument(
        "--until-idle",
        metavar="S",
        type=_seconds,
        help="end with 0 once the input is read to its end and nothing has been without its terminal "
        "result for S seconds",
    )
    check = add("check", _check, "Check configuration, policy and routes.", configured)
    check.add_argument(
        "--connect",
        action="store_true",
        help="also the brokers, the topics and one read-only call per account",
    )
    plan = add("plan", _plan, "Say what would be done for verdicts, and why; offline.", configured)
    plan.add_argument("verdict", nargs="+", metavar="VERDICT", help=_FILES)
    plan.add_argument("--json", action="store_true", help="an array, one object per verdict and target")
    plan.add_argument(
        "--at", metavar="TIME", type=_moment, help="as if it were then (2026-11-22T10:05:00Z), not now"
    )
    send = add("send", _send, "Publish verdicts, commands or stream events.", configured)
    send.add_argument("event", nargs="+", metavar="EVENT", help=_FILES)
    for name, about in (
        ("release", "Lift what is in force for a stream."),
        ("query", "Ask every target of a stream what it has in force."),
    ):
        order = add(name, _order, about, configured)
        order.add_argument("stream_key", metavar="STREAM_KEY", help="the platform's name for the stream")
        order.add_argument(
            "--hold", metavar="ID", action="append", default=[], help="only this hold; may be repeated"
        )
        order.add_argument("--by", metavar="NAME", help="who says so; without it, the user's name")
        order.add_argument("--reason", metavar="TEXT", help="why; results repeat it")
    topics = add("topics", _topics_create, "Make or describe the five topics.")
    of_topics = topics.add_subparsers(metavar="COMMAND", required=True)
    for name, command, about in (
        ("create", _topics_create, "Make the topics that are missing."),
        ("describe", _topics_describe, "Show what the brokers say about the topics."),
    ):
        of_topics.add_parser(name, help=about, description=about, parents=[configured]).set_defaults(
            command=command
        )
    vendors = add("vendors", _vendors, "Show the vendors, or one with its settings, operations and quotas.")
    vendors.add_argument("vendor", nargs="?", metavar="NAME")
    schemas = add("schemas", _schemas, "Write JSON Schemas and AsyncAPI.")
    schemas.add_argument("--out", type=Path, required=True, metavar="DIR")
    add("demo", _demo, "Run an embedded broker, vendor simulators and a stream of verdicts.")
    return parser


_FILES = "a file with one JSON object or one a line, or - for standard input"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:  # noqa: PLR2004 - a day; NaN fails too
        raise argparse.ArgumentTypeError("expected seconds, from 0 to 86400")
    return seconds


def _moment(text: str) -> Millis:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
