"""A vendor whose reads are answered from a copy that is not up to date."""

from collections.abc import Mapping
from copy import copy
from random import Random

from worker.vendors.memory import Memory


class Copies:
    """What each vendor was like after each of its last changes."""

    KEPT = 5

    def __init__(self, vendors: Mapping[str, Memory]) -> None:
        self._vendors = vendors
        self._kept: dict[str, list[Memory]] = {name: [] for name in vendors}
        for name in vendors:
            self.keep(name)

    def keep(self, name: str) -> None:
        """Keep a copy of a vendor as it is now."""
        vendor = self._vendors[name]
        kept = Memory.__new__(Memory)
        kept.__dict__.update({field: copy(value) for field, value in vars(vendor).items()})
        kept._serving = {purpose: getattr(kept, serve.__name__) for purpose, serve in vendor._serving.items()}
        self._kept[name] = [*self._kept[name], kept][-self.KEPT :]

    def choose(self, name: str, random: Random) -> Memory:
        """Return one of a vendor's copies."""
        return random.choice(self._kept[name])
