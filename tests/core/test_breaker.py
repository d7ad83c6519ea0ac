"""A vendor that is away is left alone, asked by one call now and then, and met slowly when it is back."""

from worker.core.breaker import FAILURES, LONGEST, RAMP, SHORTEST, Breaker


def opened(now: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(now)
    assert breaker.is_open
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(0)
        breaker.answered(0)
    assert not breaker.is_open
    assert breaker.wait(0) == 0


def test_one_probe_at_a_time_and_ever_longer_pauses() -> None:
    breaker, now = opened(), 0
    pauses = []
    for _ in range(8):
        wait = breaker.wait(now)
        assert wait
        pauses.append(wait)
        now += wait
        assert breaker.wait(now) == 0
        breaker.went(now, 10)
        assert breaker.wait(now) is None, "its probe is under way"
        breaker.failed(now)
    assert pauses == [SHORTEST, 2_000, 4_000, 8_000, 16_000, LONGEST, LONGEST, LONGEST]


def test_what_went_out_before_prolongs_nothing() -> None:
    breaker = opened()
    for _ in range(10):
        breaker.failed(500)
    assert breaker.wait(500) == SHORTEST - 500


def test_a_probe_that_was_never_sent_is_made_again() -> None:
    breaker = opened()
    breaker.went(SHORTEST, 10)
    breaker.neither()
    assert breaker.wait(SHORTEST) == 0


def test_after_an_answer_calls_are_spaced_out_for_a_while() -> None:
    breaker = opened()
    breaker.went(SHORTEST, 10)
    breaker.answered(2_000)
    assert not breaker.is_open
    assert breaker.wait(2_000) == 0
    breaker.went(2_000, 200)
    assert breaker.wait(2_000) == 200
    breaker.went(2_000 + RAMP - 1, 200)
    assert breaker.wait(2_000 + RAMP) == 0
    breaker.went(2_000 + RAMP, 200)
    assert breaker.wait(2_000 + RAMP) == 0


def test_failures_on_the_ramp_open_it_for_longer_but_single_ones_do_not() -> None:
    breaker = opened()
    breaker.went(SHORTEST, 10)
    breaker.answered(2_000)
    for _ in range(20):
        breaker.failed(3_000)
        breaker.answered(3_000)
    assert not breaker.is_open
    for _ in range(FAILURES):
        breaker.failed(3_000)
    assert breaker.wait(3_000) == 2 * SHORTEST


def test_a_clock_set_back_prolongs_nothing_by_much() -> None:
    breaker = opened(10**9)
    assert breaker.wait(0) == LONGEST
    breaker = opened()
    breaker.went(SHORTEST, 10)
    breaker.answered(10**9)
    breaker.went(10**9, 200)
    assert breaker.wait(0) == RAMP
    assert breaker.wait(RAMP) == 0
