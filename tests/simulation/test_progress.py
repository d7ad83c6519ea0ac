"""A run that is stopped goes on where it was, and only over the code it began with."""

from pathlib import Path

import pytest

from tests.simulation import __main__ as simulation
from tests.simulation.progress import OtherRunError, Progress, code


def events(told: str) -> str:
    """Return the line that says how often each event happened."""
    return next(line for line in told.splitlines() if line.startswith("events"))


def test_a_run_is_stopped_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "kept" / "run.json"
    real, ran = simulation.some, []

    def stopped_in_the_second(seeds: range) -> simulation.Chunk:
        ran.append(seeds)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return real(seeds)

    monkeypatch.setattr(simulation, "CHUNK", 2)
    monkeypatch.setattr(simulation, "some", stopped_in_the_second)
    command = ["--schedules", "5", "--seed", "40", "--state", str(state)]
    assert simulation.main(command) == simulation.STOPPED
    assert "stopped before seed 42" in capsys.readouterr().out
    assert simulation.main(command) == 0
    in_parts = events(capsys.readouterr().out)
    assert ran == [range(40, 42), range(42, 44), range(42, 44), range(44, 45)]
    assert simulation.main(command) == 0
    assert len(ran) == 4, "what was done is not run again"
    capsys.readouterr()
    assert simulation.main(command[:4]) == 0
    assert events(capsys.readouterr().out) == in_parts


def test_what_failed_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "run.json"
    progress = Progress.of(state, 0, code())
    progress.add(range(3), {"1": "lost: one"}, progress.seen)
    progress.save(state)
    monkeypatch.setattr(simulation, "shortest", lambda _: [])
    assert simulation.main(["--schedules", "3", "--state", str(state)]) == 1
    assert "MW_SEED=1 " in capsys.readouterr().out


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    Progress.of(state, 0, "one").save(state)
    with pytest.raises(OtherRunError, match="other code"):
        Progress.of(state, 0, "two")
    with pytest.raises(OtherRunError, match="from seed 0, not 7"):
        Progress.of(state, 7, "one")
    state.write_text("[]")
    with pytest.raises(OtherRunError, match="no run"):
        Progress.of(state, 0, "one")
