"""Logs: one form, no secret, no stream name."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.runtime import logs
from worker.runtime.exchange import _on_the_wire, _Progress
from worker.vendors.base import Request

SECRET = 'p"ä/s w'
NAME = "room42-publish-key"

Configured = Callable[..., io.StringIO]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    """Configure logging for a test, and put everything back after it."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in logs.QUIET}
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root.handlers = []

    def configure(*, human: bool = False, level: int | str = logging.INFO) -> io.StringIO:
        stream = io.StringIO()
        logs.configure([SECRET, ""], stream=stream, human=human, level=level)
        return stream

    yield configure
    logging.captureWarnings(capture=False)
    root.handlers, root.level = before
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_object(configured: Configured) -> None:
    stream = configured()
    logging.getLogger("worker.x").warning(
        "two %s\nlines", 2, extra={"account": "hw", "wait_ms": 7, "parts": (1, None), "level": "mine"}
    )
    logging.getLogger("worker.x").debug("unseen")
    (line,) = lines(stream)
    assert line.pop("time")[-5] == "."
    assert line == {
        "level": "WARNING",
        "logger": "worker.x",
        "message": "two 2\nlines",
        "account": "hw",
        "wait_ms": 7,
        "parts": [1, None],
        "level_": "mine",
    }


def test_times_are_rfc3339_in_utc_with_milliseconds() -> None:
    record = logging.makeLogRecord({"msg": "x", "created": 1_795_341_900.0129})
    assert json.loads(logs.JsonFormatter().format(record))["time"] == "2026-11-22T10:05:00.012Z"


def test_secrets_are_replaced_wherever_they_appear(configured: Configured) -> None:
    stream = configured()
    logging.getLogger("worker").error(
        "with %s %s",
        SECRET,
        SECRET,
        extra={
            SECRET: f"a{SECRET}b",
            "url": "http://h/p%22%C3%A4%2Fs%20w?k=p%22%C3%A4%2Fs+w&l=1",
            "deep": [{"x": (SECRET,)}],
        },
    )
    (line,) = lines(stream)
    assert line["message"] == "with [redacted] [redacted]"
    assert line["[redacted]"] == "a[redacted]b"
    assert line["url"] == "http://h/[redacted]?k=[redacted]&l=1"
    assert line["deep"] == [{"x": ["[redacted]"]}]


def test_the_longer_of_two_secrets_goes_first() -> None:
    record = logging.makeLogRecord({"msg": "abcdef abc"})
    line = json.loads(logs.JsonFormatter(["abc", "abcdef"]).format(record))
    assert line["message"] == "[redacted] [redacted]"


def fail() -> None:
    """Raise what an adapter might: its own error, from one that holds a name."""
    try:
        int(NAME)
    except ValueError as error:
        raise LookupError(NAME) from error


def test_an_exception_is_its_type_and_place_but_not_its_text(configured: Configured) -> None:
    stream = configured()
    try:
        _on_the_wire(Request("GET", f"ftp://{NAME}", {}), _Progress(lambda: True))
    except ValueError:
        logging.getLogger("worker").exception("it failed")
    try:
        fail()
    except LookupError:
        logging.getLogger("worker").exception("it failed")
    ours, foreign = lines(stream)
    assert NAME not in stream.getvalue()
    assert [each["type"] for each in foreign["exception"]] == ["LookupError", "ValueError"]
    assert ours["exception"][0]["type"] == "ValueError"
    (place,) = ours["exception"][0]["at"]
    assert place.startswith("worker.runtime.exchange:")
    assert place.endswith(" _on_the_wire")
    assert foreign["exception"][0]["at"][-1].endswith(" fail")


def test_every_member_of_a_group_is_shown_once() -> None:
    group = ExceptionGroup(NAME, [KeyError(NAME), ValueError(NAME)])
    group.__context__ = group.exceptions[0]
    group.exceptions[0].__context__ = group  # a circle
    assert [type(each).__name__ for each in logs.chain(group)] == ["ExceptionGroup", "KeyError", "ValueError"]


def test_values_that_are_not_plain_show_their_type_only(configured: Configured) -> None:
    class Holder:
        def __repr__(self) -> str:
            return NAME

    stream = configured()
    logging.getLogger("worker").info("x", extra={"held": Holder(), "much": float("inf"), "lone": "\ud800"})
    (line,) = lines(stream)
    assert line["held"].endswith("Holder")
    assert (line["much"], line["lone"]) == ("inf", "?")
    assert NAME not in stream.getvalue()


def test_arguments_that_do_not_fit_lose_nothing(configured: Configured) -> None:
    stream = configured()
    logging.getLogger("worker").info("a %d b", NAME)
    (line,) = lines(stream)
    assert line["message"] == "a %d b"


def test_libraries_that_log_urls_are_quiet(configured: Configured) -> None:
    stream = configured(level=logging.DEBUG)
    for name in ("httpx", "httpcore.http11", "kafka.client", "asyncio"):
        logging.getLogger(name).info(NAME)
        logging.getLogger(name).warning("careful")
    assert [line["message"] for line in lines(stream)] == ["careful"] * 4


def test_asyncio_does_not_tell_the_text_of_an_exception(configured: Configured) -> None:
    stream = configured()
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: ValueError(%r)", NAME)
    assert [line["message"] for line in lines(stream)] == ["Task exception was never retrieved"]


def test_uncaught_exceptions_are_logged_like_others(configured: Configured) -> None:
    stream = configured()
    thread = threading.Thread(target=fail, name="poll")
    thread.start()
    thread.join()
    try:
        fail()
    except LookupError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [(line["in_thread"], line["exception"][0]["type"]) for line in lines(stream)] == [
        ("poll", "LookupError"),
        ("main", "LookupError"),
    ]
    assert NAME not in stream.getvalue()


def test_warnings_are_logged(configured: Configured) -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "careful" in line["message"]


def test_people_get_a_line_without_control_characters(configured: Configured) -> None:
    stream = configured(human=True)
    logging.getLogger("worker.x").warning("two\nlines \x1b[31m", extra={"account": "hw", "key": SECRET})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text[12:] == (' WARNING worker.x: two\\u000alines \\u001b[31m account="hw" key="[redacted]"\n')


def test_a_terminal_gets_the_form_for_people(configured: Configured) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    configured()
    stream = Terminal()
    logs.configure(stream=stream)
    logging.getLogger("worker").info("hello")
    assert stream.getvalue().endswith(" INFO    worker: hello\n")
