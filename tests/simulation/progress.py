"""What a long run has found so far, kept in a file, so that it can be stopped and gone on with."""

import json
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]


class OtherRunError(Exception):
    """The file is of another run; says what differs and what to do."""


@dataclass
class Progress:
    """How far a run has come. Every seed from ``first`` up to ``next``, without it, was run."""

    code: str
    first: int
    next: int
    failed: dict[str, str] = field(default_factory=dict)
    """What each seed broke."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often each event and each crash happened."""
    seconds: float = 0.0
    """How long it ran, without the time between its parts."""

    @classmethod
    def of(cls, file: Path | None, first: int, code: str) -> Self:
        """Return what a file says of this run, or the beginning of one where there is none.

        Raises OtherRunError if the file is of a run over other code or from another seed, or of none.
        """
        if file is None or not file.exists():
            return cls(code, first, first)
        try:
            told = cls(**json.loads(file.read_text("utf-8")))
        except (ValueError, TypeError) as odd:
            raise OtherRunError(f"{file} holds no run of the simulation ({odd}): name another file") from odd
        if told.first != first:
            raise OtherRunError(f"{file} is of a run from seed {told.first}, not {first}: name another file")
        if told.code != code:
            raise OtherRunError(f"{file} is of a run over other code ({told.code}, now {code}): begin anew")
        told.seen = Counter(told.seen)
        return told

    @property
    def done(self) -> int:
        """Return how many schedules were run."""
        return self.next - self.first

    def add(self, seeds: range, failed: dict[str, str], seen: Counter[str]) -> None:
        """Count the seeds that come next."""
        self.next = seeds.stop
        self.failed |= failed
        self.seen += seen

    def save(self, file: Path | None) -> None:
        """Write it, whole or not at all."""
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            beside = file.with_name(f"{file.name}.new")
            beside.write_text(json.dumps(vars(self)), "utf-8")
            beside.replace(file)


def code() -> str:
    """Return what tells the code that is simulated, and the simulation, from any other."""
    told = sha256()
    for folder in ("worker", "tests/simulation", "tests/runtime"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".toml"} and not path.name.startswith("test_"):
                told.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return told.hexdigest()[:12]
