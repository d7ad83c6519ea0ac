"""Make a failing schedule shorter: leave events out while it still breaks the same promise."""

from tests.simulation.invariants import Broken
from tests.simulation.life import Event, Life, events

TRIES = 300


def failure(life: Life, happens: list[Event]) -> str | None:
    """Return what a life breaks, or None. It begins with the promise's name."""
    try:
        life.play(happens)
    except Broken as broken:
        return str(broken)
    return None


def shortest(seed: int) -> list[Event]:
    """Return as few of a failing seed's events as were found in ``TRIES`` runs (delta debugging)."""
    left = events(seed)
    promise = _promise(seed, left)
    size, tries = max(1, len(left) // 2), 0
    while tries < TRIES:
        place, before = 0, len(left)
        while place < len(left) and tries < TRIES:
            shorter = left[:place] + left[place + size :]
            tries += 1
            if _promise(seed, shorter) == promise:
                left = shorter
            else:
                place += size
        if size == 1 and len(left) == before:
            break
        size = max(1, size // 2)
    return left


def _promise(seed: int, happens: list[Event]) -> str | None:
    said = failure(Life(seed), happens)
    return said.split(":")[0] if said is not None else None
