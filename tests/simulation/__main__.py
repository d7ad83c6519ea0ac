"""Run many schedules: ``python -m tests.simulation --schedules N --jobs 2 --seed S --state FILE``.

A failing seed is printed, made shorter, and ends the run with 1. With ``--state`` a run that was stopped
(Ctrl-C, SIGTERM, or the machine's end) goes on where it was when the same command is given again.
"""

import signal
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pool
from pathlib import Path
from time import monotonic

from tests.simulation.life import CRASHES, LATER
from tests.simulation.many import lives
from tests.simulation.progress import OtherRunError, Progress, code
from tests.simulation.shrink import shortest

TOLD_EVERY = 10.0
CHUNK = 100
STOPPED = 130

Chunk = tuple[range, dict[str, str], Counter[str]]
"""Seeds, what some of them broke, and what happened in all."""


def say(text: str) -> None:
    """Write a line at once."""
    print(text, flush=True)  # noqa: T201 - it is a program


def some(seeds: range) -> Chunk:
    """Run some schedules."""
    seen: Counter[str] = Counter()
    broken = {}
    for seed, said, happened in lives(seeds):
        seen += happened
        if said is not None:
            broken[str(seed)] = said
    return seeds, broken, seen


def _left_to_us() -> None:
    """Let only the first process decide when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def chunks(seeds: range, jobs: int) -> Iterator[Iterator[Chunk]]:
    """Run schedules in so many processes; yields what became of them, in their order."""
    parts = (seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK))
    if jobs == 1:
        yield map(some, parts)
        return
    with Pool(jobs, _left_to_us) as pool:
        yield pool.imap(some, parts)


def run(progress: Progress, end: int, jobs: int, save: Callable[[], None]) -> None:
    """Run what is left up to a seed, saving and telling on the way."""
    total = end - progress.first
    last = told = monotonic()
    with chunks(range(progress.next, end), jobs) as outcomes:
        for seeds, failed, seen in outcomes:
            progress.add(seeds, failed, seen)
            progress.seconds += monotonic() - last
            last = monotonic()
            save()
            for seed, said in failed.items():
                say(f"seed {seed}: {said}")
            if last - told >= TOLD_EVERY:
                told = last
                left = progress.seconds / progress.done * (total - progress.done)
                say(
                    f"{progress.done:,}/{total:,} schedules, {len(progress.failed)} failed, "
                    f"{progress.seconds:,.0f} s, about {left / 60:,.0f} minutes left"
                )


def tell(progress: Progress) -> None:
    """Say what was found so far."""
    say(
        f"{progress.done:,} schedules from seed {progress.first}, {len(progress.failed)} failed, "
        f"{progress.seconds:,.0f} s"
    )
    crashes = (f"{progress.seen[point]} {point}" for point in (*CRASHES, *LATER))
    say(f"crashes: {'; '.join(crashes)}")
    rest = (
        f"{number} {name}" for name, number in progress.seen.most_common() if name not in (*CRASHES, *LATER)
    )
    say(f"events: {', '.join(rest)}")


def main(given: Sequence[str] | None = None) -> int:
    """Run them, and tell how it goes."""
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--state", type=Path, help="a file that keeps what was done; goes on from it")
    told = parser.parse_args(given)
    try:
        progress = Progress.of(told.state, told.seed, code())
        progress.save(told.state)
    except (OtherRunError, OSError) as odd:
        parser.error(f"--state: {odd}")
    if progress.done:
        say(f"going on from seed {progress.next}: {progress.done:,} schedules are done")
    try:
        run(progress, told.seed + told.schedules, told.jobs, lambda: progress.save(told.state))
    except KeyboardInterrupt:
        tell(progress)
        kept = f"the same command goes on: {told.state} knows how far it came" if told.state else "not kept"
        say(f"stopped before seed {progress.next}; {kept}")
        return STOPPED
    tell(progress)
    for seed in [int(seed) for seed in progress.failed][:1]:
        left = shortest(seed)
        say(f"seed {seed} still fails with {len(left)} of its events: {left}")
        say(f"replay: MW_SEED={seed} python -m pytest tests/simulation/test_schedules.py")
    return 1 if progress.failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
