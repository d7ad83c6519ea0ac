"""``vendors``: what is fixed about each."""

import argparse

from worker.commands import OK, Refusal
from worker.commands.parts.arguments import CommandLine

# ruff: noqa: PLC0415 - what costs time to import is imported by the body


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    about = "Show the vendors, or one with its settings, operations and quotas."
    vendors = commands.add("vendors", _vendors, about, configured=False)
    vendors.add_argument("vendor", nargs="?", metavar="NAME")


def _vendors(arguments: argparse.Namespace) -> int:
    from worker.commands.parts import tables
    from worker.vendors import UnknownVendor

    try:
        print(tables.one_vendor(arguments.vendor) if arguments.vendor else tables.all_vendors())
    except UnknownVendor as error:
        raise Refusal([str(error)]) from None
    return OK
