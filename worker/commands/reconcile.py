"""``reconcile``: what should be in force against what each account's own lists say."""

import argparse
import sys
from typing import TYPE_CHECKING

from worker.commands import OK, Failure, Refusal
from worker.commands.parts.arguments import CommandLine, connected_settings, now, user

if TYPE_CHECKING:
    from worker.core.ledger import Ledger
    from worker.core.state import StreamState

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Compare what should be in force with each account's own lists, and show the differences."
    reconcile = commands.add("reconcile", _reconcile, about)
    reconcile.add_argument("--account", metavar="NAME", help="only this account")
    reconcile.add_argument(
        "--apply",
        action="store_true",
        help="let the workers look at each stream of ours that differs, and put it right",
    )
    reconcile.add_argument("--by", metavar="NAME", help="who says so (--apply); without it, the user's name")


def _reconcile(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    names = [arguments.account] if arguments.account else list(settings.accounts)
    if arguments.account and arguments.account not in settings.accounts:
        known = ", ".join(settings.accounts)
        raise Refusal([f'--account: "{arguments.account}" is no account of the configuration ({known})'])
    by = (arguments.by or user()) if arguments.apply else ""
    from worker import vendors
    from worker.commands.parts import broker, evidence, planning, reconciling, whole_lists
    from worker.commands.parts.progress import Progress
    from worker.commands.parts.topic_reader import TopicReader

    specs = {name: vendors.load_spec(settings.accounts[name].account.vendor) for name in names}
    lists = {name: whole_lists.able(specs[name], settings.accounts[name]) for name in names}
    without = {name: f"{specs[name].name} has no list to compare with" for name in names if not lists[name]}

    def remembered() -> "tuple[list[StreamState], list[Ledger]]":
        kafka = settings.kafka
        with broker.brokers(kafka), Progress() as progress, TopicReader(kafka, progress) as reader:
            return evidence.read_all_states(reader, settings)

    states, ledgers = remembered()
    places = whole_lists.places_of(settings, states, lists)
    asked = {place.account for place in places}
    unnamed = [name for name, able in lists.items() if able and name not in asked]
    without |= dict.fromkeys(unnamed, "no route and no stream names a domain of it")
    listings = whole_lists.read_lists(settings, places, ledgers, lambda said: print(said, file=sys.stderr))
    sides = {(name, purpose): side for name, found in lists.items() for purpose, side in found}
    # What was brought about while the lists were read is no difference.
    found = reconciling.differences(remembered()[0], listings, sides, planning.context(settings), now())
    print(reconciling.as_text(found, listings, without))
    streams = list(dict.fromkeys(one.stream for one in found if one.stream and one.what != "unknown to us"))
    if arguments.apply and streams:
        reason = "reconcile"
        orders = [broker.command("query", stream, [], by, reason, now()) for stream in streams]
        print("\n".join(broker.publish(settings.kafka, orders)))
    if unread := reconciling.problems(listings):
        raise Failure(unread)
    return OK
