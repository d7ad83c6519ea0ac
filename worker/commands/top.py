"""``top``: what the replicas are doing, live."""

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from worker.commands import OK, Failure
from worker.commands.parts.arguments import CommandLine, connected_settings, now, seconds

if TYPE_CHECKING:
    from worker.commands.parts.watching import View
    from worker.settings import Settings

# ruff: noqa: PLC0415 - what costs time to import is imported by the body

AGAIN_S = 30.0
"""After so long brokers that were away are asked again."""


def add(commands: CommandLine) -> None:
    """Add the commands of this group."""
    top = commands.add(
        "top", _top, "Show what the replicas are doing: rates, lag, queues, quotas, what is held."
    )
    top.add_argument(
        "--url",
        action="append",
        metavar="URL",
        help="a replica's ops port (http://HOST:PORT); may be repeated; without it, this machine's",
    )
    top.add_argument("--every", metavar="S", type=seconds, default=2.0, help="seconds between two looks (2)")
    top.add_argument("--once", action="store_true", help="look once, and end")
    top.add_argument("--json", action="store_true", help="an object; without --once, one a line")
    top.add_argument(
        "--show-streams", action="store_true", help="name the slowest streams, instead of their digests"
    )


def _top(arguments: argparse.Namespace) -> int:
    settings = connected_settings(arguments)
    views = _views(settings, arguments)
    if arguments.json:
        from worker.commands.parts.watching import as_json

        for view in views:
            print(as_json(view, lines=not arguments.once), flush=True)
        return OK
    try:
        from rich.console import Console
        from rich.live import Live
    except ModuleNotFoundError:
        raise Failure(["top needs rich, of the top extra: pip install 'moderation-worker[top]'"]) from None
    from worker.commands.parts.screen import screen

    if arguments.once:
        for view in views:
            Console().print(screen(view))
        return OK
    with Live(screen=True, auto_refresh=False) as live:
        for view in views:
            live.update(screen(view), refresh=True)
    return OK


def _views(settings: "Settings", arguments: argparse.Namespace) -> Iterator["View"]:
    """Yield what there is to see, again and again unless once is enough."""
    from kafka.errors import KafkaError

    from worker.commands.parts import watching
    from worker.runtime import preflight

    urls: list[str] = arguments.url or [f"http://127.0.0.1:{settings.ops.port}"]
    streams: watching.OpenStreams | None = None
    trouble, ask_at = "", 0.0
    before = [watching.look(url) for url in urls]
    while True:
        if streams is None and time.monotonic() >= ask_at:
            try:
                streams = watching.OpenStreams(settings.kafka)
            except KafkaError as error:
                said = preflight.examine(settings.kafka)
                trouble = "; ".join(said) or f"Kafka: {type(error).__name__}"
                ask_at = time.monotonic() + AGAIN_S
        time.sleep(arguments.every)
        after = [watching.look(url) for url in urls]
        view = watching.view(before, after)
        before = after
        if streams is None:
            view.topics_error = trouble
        else:
            try:
                streams.read()
                view.slowest = streams.slowest(now(), show_streams=arguments.show_streams)
            except KafkaError as error:
                view.topics_error = f"Kafka: {type(error).__name__}"
        yield view
        if arguments.once:
            return
