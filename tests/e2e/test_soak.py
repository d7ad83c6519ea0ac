"""The soak, for a few seconds: it samples what it says, its books balance, and a leak would be noticed."""

from pathlib import Path

import pytest

from benchmarks.common.trend import trend
from benchmarks.soak import LIMITS, Soaked, lives, soak

pytestmark = pytest.mark.sandbox

LEVEL = dict(zip(LIMITS, (80.0, 32.0, 14.0, 1.0, 400.0), strict=True))
LEAK = dict(zip(LIMITS, (2.0, 5.0, 2.0, 5.0, 60.0), strict=True))
"""So much within the second half of a run."""


def sampled(leaking: str | None) -> Soaked:
    """A run of ten minutes that fills for five, is level then, and noisy; but for one leak."""
    found = Soaked()
    for at in range(0, 600, 5):
        for name, level in LEVEL.items():
            filled = min(1.0, at / 250) * level
            leaked = LEAK[name] * max(0, at - 300) / 300 if name == leaking else 0.0
            found.samples[name].append((at, filled + leaked + level * 0.004 * (at % 3 - 1)))
    return found


def test_what_only_fills_at_first_does_not_grow() -> None:
    assert sampled(None).growing() == []


@pytest.mark.parametrize("leaking", LIMITS)
def test_a_leak_is_noticed_and_named(leaking: str) -> None:
    (sentence,) = sampled(leaking).growing()
    assert sentence.startswith(f"{leaking}: +")


def test_the_trend_is_that_of_the_second_half() -> None:
    found = trend([(0, 100.0), (10, 0.0), (20, 2.0), (30, 4.0), (40, 6.0)])
    assert (found.mean, round(found.per_hour), round(found.growth, 6)) == (4.0, 720, 4.0)


def test_every_broadcast_goes_through_its_whole_life() -> None:
    life = [what for beat in range(200) for number, what in lives(beat, 4.0) if number == 16]
    assert life == ["started", "first", "second", "release", "ended"]


def test_a_worker_is_soaked(tmp_path: Path) -> None:
    said: list[str] = []
    found = soak(tmp_path, 6, 4.0, said.append)
    assert found.wrong == []
    assert found.verdicts >= 20
    assert found.calls > 10
    assert set(found.samples) == set(LIMITS)
    for name, series in found.samples.items():
        assert series[-1][1] > 0, name
    assert said
