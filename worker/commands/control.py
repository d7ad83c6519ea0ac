"""``pause``, ``resume``, ``guard release``, ``guard reject``: what operators decide for every replica."""

import argparse
from typing import TYPE_CHECKING

from worker.commands import OK, Refusal
from worker.commands.parts.arguments import CommandLine, connected_settings, now, user

if TYPE_CHECKING:
    from worker.settings import Settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    pause = commands.add("pause", _pause, "Stop all cuts, forbids and region blocks, on every replica.")
    resume = commands.add("resume", _resume, "End a pause, or let stopped partitions go on.")
    for parser in (pause, resume):
        parser.add_argument("--account", metavar="A", help="for this account only")
        parser.add_argument("--tenant", metavar="T", help="for this tenant's streams only")
        _add_who(parser)
    guard = commands.group("guard", "Decide about what a guard has parked.")
    for name, about in (
        ("release", "Let go what a guard has parked so far; each is decided anew."),
        ("reject", "End what a guard has parked so far."),
    ):
        parser = guard.add(name, _guard, about)
        parser.add_argument("guard", metavar="NAME", help="the guard's name in policy.guards")
        _add_who(parser)


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", metavar="NAME", help="who says so; without it, the user's name")
    parser.add_argument("--reason", metavar="TEXT", help="why; results repeat it")


def _scopes(arguments: argparse.Namespace) -> list[str]:
    from worker.events.control import ACCOUNT, EVERYTHING, TENANT

    named = [(ACCOUNT, arguments.account), (TENANT, arguments.tenant)]
    return [f"{prefix}{name}" for prefix, name in named if name] or [EVERYTHING]


def _pause(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    if arguments.account and arguments.account not in settings.accounts:
        raise Refusal(
            [f"--account: {arguments.account!r} is not an account ({', '.join(settings.accounts)})"]
        )
    from worker.commands.parts import control
    from worker.commands.parts.broker import brokers

    value = control.record(arguments.by or user(), arguments.reason, now())
    wanted = dict.fromkeys(_scopes(arguments), value)
    with brokers(settings.kafka):
        control.decide(settings.kafka, wanted)
    for scope in wanted:
        print(f"paused: {control.in_words(scope)}. Lifting, verification and queries go on.")
    return OK


def _resume(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    from worker.commands.parts import control
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.topic_reader import TopicReader
    from worker.events.control import EVERYTHING, PARTITIONS, Pause

    with brokers(settings.kafka):
        with TopicReader(settings.kafka) as reader:
            paused = [
                name for name, one in control.scopes(reader, settings.kafka).items() if isinstance(one, Pause)
            ]
        wanted = _scopes(arguments)
        records: dict[str, bytes | None] = dict.fromkeys(wanted)
        if EVERYTHING in records:
            records[PARTITIONS] = control.record(arguments.by or user(), arguments.reason, now())
        control.decide(settings.kafka, records)
    for scope in wanted:
        print(f"{'resumed' if scope in paused else 'was not paused'}: {control.in_words(scope)}")
    if EVERYTHING in wanted:
        print("partitions stopped by unreadable records go on")
    for scope in sorted(set(paused) - set(wanted)):
        print(
            f"still paused: {control.in_words(scope)} ({' '.join(['resume', *control.scope_options(scope)])})"
        )
    return OK


def _guard(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    name: str = arguments.guard
    _refuse_unknown_guard(settings, name)
    from worker.commands.parts import control
    from worker.commands.parts.broker import brokers
    from worker.commands.parts.topic_reader import TopicReader
    from worker.events.control import GUARD, Ruling

    scope, at, by = f"{GUARD}{name}", now(), arguments.by or user()
    with brokers(settings.kafka):
        with TopicReader(settings.kafka) as reader:
            before = control.scopes(reader, settings.kafka).get(scope)
        # Rulings about a guard are told apart by their moments, whichever clock they come from.
        at = max(at, before.at + 1) if isinstance(before, Ruling) else at
        value = control.record(by, arguments.reason, at, decision=arguments.name)
        control.decide(settings.kafka, {scope: value})
    done = {"release": "is let go: each is decided anew", "reject": "is ended"}[arguments.name]
    print(f"guard {name}: all that it has parked so far {done}.")
    return OK


def _refuse_unknown_guard(settings: "Settings", name: str) -> None:
    known = [guard.name for guard in settings.policy.guards]
    if name not in known:
        raise Refusal([f"guard {name!r} is not in policy.guards ({', '.join(known) or 'there are none'})"])
