"""``plan``: what would be done for verdicts, and why; offline."""

import argparse

from worker.commands import OK, Refusal
from worker.commands.parts.arguments import FILES, CommandLine, moment, now, settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    plan = commands.add("plan", _plan, "Say what would be done for verdicts, and why; offline.")
    plan.add_argument("verdict", nargs="+", metavar="VERDICT", help=FILES)
    plan.add_argument("--json", action="store_true", help="an array, one object per verdict and target")
    plan.add_argument(
        "--at", metavar="TIME", type=moment, help="as if it were then (2026-11-22T10:05:00Z), not now"
    )


def _plan(arguments: argparse.Namespace) -> int:
    found = settings(arguments)
    from worker.commands.parts import planning
    from worker.commands.parts.files import read_events
    from worker.events.incoming import Verdict

    at = now() if arguments.at is None else arguments.at
    events = read_events(arguments.verdict, at)
    others = [f"{one.where}: is not a verdict" for one in events if not isinstance(one.event, Verdict)]
    if others:
        raise Refusal(others)
    context = planning.context(found)
    planned = [
        line
        for one in events
        if isinstance(one.event, Verdict)
        for line in planning.plan(context, one.event, at, explain=True)
    ]
    print(planning.as_json(planned) if arguments.json else planning.as_text(planned))
    return OK
