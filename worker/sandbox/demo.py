"""The demo: a broker, three vendors and the real worker, under a stream of verdicts with everything in it.

What it shows is read from the results topic and from the simulators; the worker's own counters are not
asked. At the end the books are balanced: what does not fit is said, and the exit code is 1.
"""

import json
import logging
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from worker.sandbox import books, summary
from worker.sandbox.load import Load, build
from worker.sandbox.stage import ACCOUNTS, Incoming, Stage, embedded_kafka
from worker.sandbox.worker_process import WorkerProcess
from worker.words import Millis

SEED = 42
EVENTS = 360
LASTS: Millis = 20_000
IDLE_S = 4.0
ENDS_WITHIN_S = 85.0
"""After so long the demo gives up waiting."""
INTERRUPTED = 130

FAULTS: Sequence[dict[str, Any]] = (
    {
        "vendor": "aliyun",
        "operation": "forbid",
        "effect": "throttle",
        "retry_after_ms": 500,
        "probability": 0.15,
        "seed": SEED,
    },
    {
        "operation": ["block", "forbid", "block_once"],
        "effect": "status",
        "status": 500,
        "body": "Internal Server Error",
        "probability": 0.05,
        "seed": SEED,
    },
    {"operation": ["block", "forbid"], "effect": "done_then_hang", "probability": 0.03, "seed": SEED},
    {"operation": "*", "effect": "delay_ms", "ms": 40},
)
"""One vendor throttles, all of them fail now and then, and some answers never come."""


def main() -> int:
    """Run the demo. Returns 0, 1 if something does not balance, 130 when it is interrupted."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the client's complaints are not the demo's
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="moderation-demo-"))
    try:
        return _run(console, folder)
    except KeyboardInterrupt:
        console.print(f"Interrupted. What there is lies in {folder}")
        return INTERRUPTED
    except (KafkaError, OSError, RuntimeError) as error:
        console.print(f"The demo failed: {type(error).__name__}: {error}\nWhat there is lies in {folder}")
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(console: Console, folder: Path) -> int:
    began = time.monotonic()
    console.print("Starting an embedded broker, three simulated vendors and the worker …")
    with embedded_kafka() as kafka, Stage(folder, kafka, script=FAULTS) as stage:
        worker = stage.start_worker(until_idle=IDLE_S)
        for encoder in build(SEED, EVENTS, _now(), LASTS, kafka.partitions).live:
            stage.go_live(*encoder)
        load = build(SEED, EVENTS, _now(), LASTS, kafka.partitions)  # the same, but for its times
        console.print(
            f"{len(load.records)} records about {len(load.owed)} verdicts and commands come within "
            f"{LASTS // 1000} s; {len(load.live)} streams are live. Vendors throttle and fail on purpose.\n"
        )
        code = _play(console, stage, worker, load, began + ENDS_WITHIN_S)
        found = books.Books(
            load.owed,
            load.dead_letters,
            stage.results(),
            stage.dead_letters(),
            stage.vendor_log(),
            stage.vendor_stats(),
            stage.states(),
            stage.vendor_state(),
            ACCOUNTS,
            _now(),
        )
        wrong = [] if code == 0 else [f"the worker ended with {code}"]
        wrong += books.problems(found)
        _leave(folder, load, found)
    _tell(console, folder, found, wrong, time.monotonic() - began)
    return 1 if wrong else 0


def _play(console: Console, stage: Stage, worker: WorkerProcess, load: Load, until: float) -> int | None:
    """Send the load at its pace and wait for the worker. Returns its exit code, None if it takes too long."""
    start, sent = time.monotonic(), 0
    with _progress(console) as show:
        while worker.running and time.monotonic() < until:
            due = _due(load, sent, round((time.monotonic() - start) * 1000))
            if due:
                stage.produce(due)
                sent += len(due)
            show.update(stage, load, sent)
            time.sleep(0.1)
    return None if worker.running else worker.wait(0)


def _due(load: Load, sent: int, elapsed: Millis) -> list[Incoming]:
    return [record for at, record in load.records[sent:] if at <= elapsed]


class _Progress:
    """Shows how far things are: a table that is drawn anew, or a line now and then."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live
        self._pause = 3.0 if live is None else 0.4
        self._next = 0.0
        self._began = time.monotonic()

    def update(self, stage: Stage, load: Load, sent: int) -> None:
        """Show the present, unless it was shown a moment ago."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause
        results = stage.results()
        terminal = Counter(one["outcome"] for one in results if one["terminal"])
        calls = Counter(call["vendor"] for call in stage.vendor_log())
        answered = {event for event, _ in summary.answered(results)}
        figures = {
            "sent": f"{sent} of {len(load.records)} records",
            "answered": f"{len(answered)} of {len(load.owed)} verdicts and commands",
            "results": ", ".join(f"{word} {number}" for word, number in terminal.most_common(6)) or "-",
            "calls": ", ".join(f"{vendor} {number}" for vendor, number in sorted(calls.items())) or "-",
        }
        seconds = f"{time.monotonic() - self._began:3.0f} s"
        if self._live is None:
            told = "; ".join(f"{word}: {figure}" for word, figure in figures.items() if word != "results")
            self._console.print(f"{seconds}  {told}", soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2))
        table.add_row("time", seconds)
        for word, figure in figures.items():
            table.add_row(word, figure)
        self._live.update(table)


@contextmanager
def _progress(console: Console) -> Iterator[_Progress]:
    if not console.is_terminal:
        yield _Progress(console, None)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield _Progress(console, live)


def _leave(folder: Path, load: Load, found: books.Books) -> None:
    """Write what lies in the topics into files: the broker keeps nothing."""
    verdicts = [event for event in load.events if "verdict_id" in event]
    letters = [
        {
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": [[name, _text(value)] for name, value in record.headers],
        }
        for record in found.dead_letters
    ]
    for name, lines in (
        ("verdicts", verdicts),
        ("results", found.results),
        ("dead-letters", letters),
        ("states", [{"stream": key, **state} for key, state in found.states.items()]),
    ):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "vendor-stats.json").write_text(json.dumps(found.stats, indent=1), encoding="utf-8")


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _tell(console: Console, folder: Path, found: books.Books, wrong: Sequence[str], seconds: float) -> None:
    results = summary.once(found.results)
    for table in summary.tables(results, found.calls, found.stats):
        console.print(table)
    reasons = Counter(_text(dict(record.headers)["dead_letter_reason"]) for record in found.dead_letters)
    told = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items(), key=str))
    console.print(f"Dead letters: {sum(reasons.values())} ({told})")
    if wrong:
        console.print(f"\nThe books do not balance, {len(wrong)} problems:", style="bold red")
        for problem in wrong:
            console.print(f"  {problem}", soft_wrap=True, markup=False)
    else:
        console.print(
            "The books balance: every verdict and command has exactly its results, and the vendors saw "
            "exactly the calls that the results tell of.",
            style="bold green",
        )
    config = folder / "w1.yaml"
    console.print(f"\nIt took {seconds:.0f} s. To look further:\n", highlight=False)
    for line in (
        f"  {folder}",
        "    w1.yaml              the worker's configuration; w1.log is its log",
        "    verdicts.jsonl       what was asked; results.jsonl, dead-letters.jsonl, states.jsonl what came",
        "    vendor-calls.jsonl   every request the vendors saw; vendor-faults.json what they did wrong",
        "",
        f"  moderation-worker plan --config {config} {folder / 'verdicts.jsonl'}",
        f"  moderation-worker check --config {config}",
        "  moderation-worker vendors huawei",
    ):
        console.print(line, soft_wrap=True, markup=False)


def _now() -> Millis:
    return time.time_ns() // 1_000_000
