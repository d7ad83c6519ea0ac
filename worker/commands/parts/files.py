"""Events from files and from standard input, as people write them: JSON objects, one a line or over many."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.commands import Refusal
from worker.events.codec import Invalid, decode
from worker.events.incoming import Event
from worker.words import Millis

Headers = Sequence[tuple[str, bytes]]

_STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


@dataclass(frozen=True, slots=True)
class Found:
    """One event, where it stood (``FILE:LINE``), and the record that carries it."""

    where: str
    event: Event
    value: bytes = field(repr=False)
    headers: Headers = field(repr=False)


def read_events(paths: Sequence[str], now: Millis) -> list[Found]:
    """Return all events of some files; ``-`` is standard input.

    An object with ``specversion`` is a CloudEvent in structured mode. Raises Refusal, with file and
    line, for each that the worker would not understand, and where there is none at all.
    """
    found: list[Found] = []
    problems: list[str] = []
    for path in paths:
        try:
            documents = list(_documents(path))
        except Refusal as refusal:
            problems.append(str(refusal))
            continue
        if not documents:
            problems.append(f"{path}: holds no event")
        for where, value, headers in documents:
            decoded = decode(None, value, headers, now)
            if isinstance(decoded, Invalid):
                problems.append(f"{where}: {decoded.detail} ({decoded.reason})")
            else:
                found.append(Found(where, decoded.event, value, headers))
    if problems:
        raise Refusal(problems)
    return found


def _documents(path: str) -> Iterator[tuple[str, bytes, Headers]]:
    text, decoder = _text(path), json.JSONDecoder()
    position, line = 0, 1
    while True:
        start = position + len(text[position:]) - len(text[position:].lstrip())
        line += text.count("\n", position, start)
        if start == len(text):
            return
        where = f"{path}:{line}"
        try:
            document, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise Refusal([f"{path}:{error.lineno}: not JSON ({error.msg})"]) from None
        except (ValueError, RecursionError):
            raise Refusal(
                [f"{where}: not JSON that can be read (a number too long, or nested too deeply)"]
            ) from None
        structured = isinstance(document, dict) and "specversion" in document
        yield where, text[start:position].encode(), _STRUCTURED if structured else ()
        line += text.count("\n", start, position)


def _text(path: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise Refusal([f"{path}: cannot be read ({error.strerror})"]) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal([f"{path}: is not UTF-8 text"]) from None
