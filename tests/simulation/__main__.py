"""Run many schedules: ``python -m tests.simulation --schedules N --jobs 2 --seed S``.

A failing seed is printed, made shorter, and ends the run with 1.
"""

import sys
from argparse import ArgumentParser
from collections import Counter
from multiprocessing import Pool
from time import monotonic

from tests.simulation.life import CRASHES, LATER
from tests.simulation.many import lives
from tests.simulation.shrink import shortest

TOLD_EVERY = 10.0
CHUNK = 100


def say(text: str) -> None:
    """Write a line at once."""
    print(text, flush=True)  # noqa: T201 - it is a program


def some(seeds: range) -> tuple[int, list[tuple[int, str]], Counter[str]]:
    """Return how many schedules were run, what some of them broke, and what happened in all."""
    seen: Counter[str] = Counter()
    broken = []
    for seed, said, happened in lives(seeds):
        seen += happened
        if said is not None:
            broken.append((seed, said))
    return len(seeds), broken, seen


def main() -> int:
    """Run them, and tell how it goes."""
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    told = parser.parse_args()
    seeds = range(told.seed, told.seed + told.schedules)
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    seen: Counter[str] = Counter()
    broken: list[int] = []
    done = 0
    began = last = monotonic()
    with Pool(told.jobs) as pool:
        for number, failed, happened in pool.imap_unordered(some, chunks):
            done += number
            seen += happened
            for seed, said in failed:
                broken.append(seed)
                say(f"seed {seed}: {said}")
            if monotonic() - last >= TOLD_EVERY:
                last = monotonic()
                say(f"{done}/{len(seeds)} schedules, {len(broken)} failed, {last - began:.0f} s")
    say(f"{len(seeds)} schedules from seed {told.seed}, {len(broken)} failed, {monotonic() - began:.0f} s")
    crashes = (f"{seen[point]} {point}" for point in (*CRASHES, *LATER))
    say(f"crashes: {'; '.join(crashes)}")
    rest = (f"{number} {name}" for name, number in seen.most_common() if name not in (*CRASHES, *LATER))
    say(f"events: {', '.join(rest)}")
    for seed in broken[:1]:
        left = shortest(seed)
        say(f"seed {seed} still fails with {len(left)} of its events: {left}")
        say(f"replay: MW_SEED={seed} python -m pytest tests/simulation/test_schedules.py")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
