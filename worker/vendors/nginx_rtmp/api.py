"""nginx-rtmp's control and stat pages: what is asked, and what an answer means.

What the wiki does not say was read in the module's source (1.2.2) and measured: arguments are compared as
they stand in the request, without decoding, so a name can only be asked for if it passes unchanged; an
argument that is missing means "all"; and each page speaks for the one nginx process that answers it.

Control: https://github.com/arut/nginx-rtmp-module/wiki/Control-module
Stat: https://github.com/arut/nginx-rtmp-module/wiki/Directives#statistics
"""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from worker.core.outcome import Done, Facts, NextPage, NotThere, Observed, Outcome, Unknown, Wire
from worker.vendors.base import Response
from worker.words import Call, Millis

LONGEST = 255
"""Longer names are cut there by nginx, and would name another stream."""
PAGES_PER_WORKER = 20
"""How often the stat page is asked in one reading for each process that has to answer."""

_NAME = re.compile(r"[!\"$%'->@-~]+")
"""What passes unchanged: visible ASCII but ``# & ?``."""

# --- what is asked ---------------------------------------------------------------------------------


def drop(call: Call, server: int) -> str:
    """Return the path and query that cut one stream's publisher, below the control page.

    Without a name nginx drops every stream of the application, without an application those of all.
    Raises ValueError for a name that nginx would read as another one, or that no stream can have.
    https://github.com/arut/nginx-rtmp-module/wiki/Control-module
    """
    app, name = plain(call.target.app, "application"), plain(call.target.stream, "stream")
    return f"/drop/publisher?srv={server}&app={app}&name={name}"


def plain(name: str, whose: str) -> str:
    """Return a name that reaches nginx as it is. Raises ValueError for any other."""
    if not name:
        raise ValueError(f"the {whose} has no name: nginx would take that for all of them")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the {whose}'s name has other characters than nginx-rtmp can be asked for: "
            "visible ASCII, without # & ?"
        )
    if len(name) > LONGEST:
        raise ValueError(f"the {whose}'s name is over {LONGEST} characters long")
    return name


# --- what an answer means --------------------------------------------------------------------------


def dropped(response: Response, wire: Wire) -> Outcome:
    """Read how many publishers were dropped.

    0 says only that this process has none: the stream may be live at another one, so that is asked.
    """
    match re.fullmatch(rb"\d{1,9}", response.content.strip()):
        case None:
            return Unknown(wire, "the answer is not a number of dropped publishers")
        case found if int(found[0]) == 0:
            return NotThere(wire, "the process that answered has no such publisher", sure=False)
        case _:
            return Done(wire)


def live(call: Call, response: Response, wire: Wire, now: Millis, server: int, workers: int) -> Outcome:
    """Read whether a stream is published, and since when its publisher has been connected.

    The page is one process's. Where there are several, a stream that is not on it is asked for until as
    many have answered, with the ones that did and the number of pages in the cursor; if some never do,
    nothing is known. ``rtmp_stat live`` leaves the clients out, and with them since when it is live.
    """
    root = _tree(response.content)
    servers = root.findall("server") if root is not None and root.tag == "rtmp" else []
    if root is None or len(servers) <= server:
        return Unknown(wire, "the answer is not the stat page, or it has no such server")
    for stream in _streams(servers[server], call):
        if stream.find("publishing") is not None:
            return Observed(Facts(live=True, live_since=_since(stream, now)), wire)
    asked, *seen = (call.cursor or "0").split(" ")
    answered = sorted({*seen, root.findtext("pid", "")})
    if len(answered) >= workers:
        return Observed(Facts(live=False), wire)
    if int(asked) >= workers * PAGES_PER_WORKER:
        return Observed(Facts(), wire, f"{len(answered)} of {workers} processes answered")
    return NextPage(" ".join([str(int(asked) + 1), *answered]), wire)


def _streams(server: ET.Element, call: Call) -> Iterator[ET.Element]:
    for application in server.findall("application"):
        if application.findtext("name") == call.target.app:
            for stream in application.findall("live/stream"):
                if stream.findtext("name") == call.target.stream:
                    yield stream


def _since(stream: ET.Element, now: Millis) -> Millis | None:
    """Return when the publisher connected: a stream's own time may be that of a player who waited for it."""
    for client in stream.findall("client"):
        time = client.findtext("time", "")
        if client.find("publishing") is not None and re.fullmatch(r"\d{1,15}", time, re.ASCII):
            return now - int(time)
    return None


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document that declares a type, and with it any entity of its own."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 - the library's
        """Raise ValueError."""
        raise ValueError("a document type")


def _tree(content: bytes) -> ET.Element | None:
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - no document type, no entities
    try:
        parser.feed(content)
        root: Any = parser.close()
    except (ET.ParseError, ValueError, LookupError):
        return None
    return root if isinstance(root, ET.Element) else None
