"""Logs on stderr: one JSON object a line, or a line for people where stderr is a terminal.

Each has ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, and whatever was given as
``extra``. What is configured as a secret is replaced wherever it appears, also percent-encoded. An
exception is shown by its type and by where it came from, never by its text or its values, since those
may hold a stream's name.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from traceback import walk_tb
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
QUIET = ("httpx", "httpcore", "kafka", "asyncio", "urllib3")
"""Loggers that show from WARNING on: at INFO and DEBUG they write URLs, which hold stream names."""

_OURS = "worker"
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")


def configure(
    redact: Iterable[str] = (),
    *,
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
    human: bool | None = None,
) -> None:
    """Send all logging, warnings and uncaught exceptions to ``stream`` (stderr), in this form only.

    ``redact`` are the secrets. ``human`` None: for people if the stream is a terminal.
    """
    stream = stream or sys.stderr
    formatter = HumanFormatter if (stream.isatty() if human is None else human) else JsonFormatter
    output = logging.StreamHandler(stream)
    output.setFormatter(formatter(redact))
    logging.basicConfig(handlers=[output], level=level, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # what it would write on a failed write holds the message's values
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def frames(error: BaseException) -> list[str]:
    """Return where an exception came from, the outermost first: module, line and function.

    Only frames of this program, and the innermost one whosever it is.
    """
    stack = [(frame, line) for frame, line in walk_tb(error.__traceback__)]
    names = [(str(frame.f_globals.get("__name__", "?")), line, frame.f_code.co_name) for frame, line in stack]
    return [
        f"{module}:{line} {function}"
        for place, (module, line, function) in enumerate(names, start=1)
        if module.split(".", 1)[0] == _OURS or place == len(names)
    ]


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from, each once; of a group, its members too."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        each = ahead.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            ahead.append(each.__cause__ or each.__context__)  # hidden (from None) or not
            if isinstance(each, BaseExceptionGroup):
                ahead += reversed(each.exceptions)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, redact: Iterable[str] = ()) -> None:
        super().__init__()
        self._redact = _redactor(redact)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, without its end."""
        return json.dumps(self.fields(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what is to be shown of a record, redacted."""
        shown: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in record.__dict__.items():
            if name not in _USUAL:
                shown[name if name not in shown else f"{name}_"] = value
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            shown["exception"] = [
                {"type": type(each).__qualname__, "at": frames(each)} for each in chain(error)
            ]
        cleaned: dict[str, Any] = self._clean(shown)
        return cleaned

    def _clean(self, value: Any) -> Any:
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if abs(value) < float("inf") else str(value)
            case str():
                return self._redact(value.encode("utf-8", "replace").decode())
            case Mapping():
                return {self._redact(str(key)): self._clean(each) for key, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._clean(each) for each in value]
            case _:
                return type(value).__qualname__  # its text might show anything


class HumanFormatter(JsonFormatter):
    """A line for a terminal: time, level, logger, message and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, without its end."""
        shown = self.fields(record)
        time, level, logger, message = (shown.pop(name) for name in ("time", "level", "logger", "message"))
        rest = "".join(f" {name}={json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())
        return _CONTROL.sub(_escape, f"{time[11:23]} {level:<7} {logger}: {message}{rest}")


def _redactor(secrets: Iterable[str]) -> Any:
    """Return a function that replaces every secret in a text."""
    written = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))}
    written.discard("")
    if not written:
        return lambda text: text
    pattern = re.compile("|".join(re.escape(each) for each in sorted(written, key=len, reverse=True)))
    return lambda text: pattern.sub(REDACTED, text)


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit
        message = str(record.msg)
    # asyncio writes the exception's own text below the first line of its message
    return message.split("\n", 1)[0] if record.name == "asyncio" else message


def _rfc3339(created: float) -> str:
    moment = datetime.fromtimestamp(created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None, thread: str = "main"
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(_OURS).critical(
        "uncaught exception", exc_info=(kind, error, traceback), extra={"in_thread": thread}
    )


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback, name)
