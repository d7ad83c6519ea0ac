"""A vendor in the process: it keeps what it is told and calls nobody. For dry runs and tests.

What it keeps is gone when the process ends, as if a vendor had lost every ban; and it grows with the
number of targets it is told about.
"""

from collections.abc import Callable
from typing import ClassVar

from worker.core.outcome import AlreadySo, Done, Facts, NotThere, Observed, Outcome, Unknown
from worker.vendors.base import Account, Request, Response, VendorSpec
from worker.words import Call, Millis, Purpose, Target

OFF_AIR: Millis = 300_000
"""How long a cut stream is taken to stay away, where streams are assumed live."""

_NEVER: Millis = 1 << 62
"""The end of what has none, so that ends can be compared."""


class Memory:
    """The adapter for one account; each has a memory of its own."""

    code: ClassVar[str] = "memory"

    def __init__(self, spec: VendorSpec, account: Account) -> None:  # noqa: ARG002 - as every vendor
        self._assume_live = account.settings.get("assume_live") is True
        self._bans: dict[Target, Millis] = {}
        self._regions: dict[Target, tuple[frozenset[str], Millis]] = {}
        self._cuts: dict[Target, Millis] = {}
        self._serving: dict[Purpose, Callable[[Call, Millis], Outcome]] = {
            "cut": self._cut,
            "forbid": self._forbid,
            "move_end": self._move_end,
            "lift": self._lift,
            "block_regions": self._block_regions,
            "unblock_regions": self._unblock_regions,
            "read_forbid": self._read_forbid,
            "read_regions": self._read_regions,
            "read_live": self._read_live,
        }

    def perform(self, call: Call, now: Millis) -> Outcome:
        """Carry out a call: a change is in force at once, and ends by itself at its time."""
        return self._serving[call.purpose](call, now)

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - as every vendor
        """Raise ValueError: there is no wire; ``perform`` is asked instead."""
        raise ValueError("the memory vendor sends nothing: it is asked by perform")

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:  # noqa: ARG002 - as every vendor
        """Return Unknown: no answer can come from a vendor that nothing is sent to."""
        return Unknown(detail="the memory vendor sends nothing and expects no answer")

    def shared(self, call: Call) -> str | None:  # noqa: ARG002 - as every vendor
        """Return None: a look into memory needs no sharing."""
        return None

    def _live(self, target: Target, now: Millis) -> bool | None:
        away = self._bans.get(target, now) > now or self._cuts.get(target, now) > now
        return not away if self._assume_live else None

    def _cut(self, call: Call, now: Millis) -> Outcome:
        if self._live(call.target, now) is False:
            return NotThere()
        self._cuts[call.target] = now + OFF_AIR
        return Done()

    def _forbid(self, call: Call, now: Millis) -> Outcome:
        """Ban, but never shorten a ban: that is ``move_end``."""
        end, in_force = _kept(call.until), self._bans.get(call.target, now)
        if in_force > now and in_force >= end:
            return AlreadySo()
        self._bans[call.target] = end
        return Done()

    def _move_end(self, call: Call, now: Millis) -> Outcome:
        if self._bans.get(call.target, now) <= now:
            return NotThere()
        self._bans[call.target] = _kept(call.until)
        return Done()

    def _lift(self, call: Call, now: Millis) -> Outcome:
        return Done() if self._bans.pop(call.target, now) > now else NotThere()

    def _read_forbid(self, call: Call, now: Millis) -> Outcome:
        end = self._bans.get(call.target, now)
        return Observed(Facts(forbidden=end > now, forbidden_until=_told(end) if end > now else None))

    def _read_live(self, call: Call, now: Millis) -> Outcome:
        return Observed(Facts(live=self._live(call.target, now)))

    def _blocked(self, target: Target, now: Millis) -> tuple[frozenset[str], Millis]:
        regions, end = self._regions.get(target, (frozenset(), now))
        return (regions, end) if end > now else (frozenset(), now)

    def _block_regions(self, call: Call, now: Millis) -> Outcome:
        """Block these regions and no others: the last rule of a stream counts, as at real vendors."""
        rule = (frozenset(call.regions), _kept(call.until))
        if self._blocked(call.target, now) == rule:
            return AlreadySo()
        self._regions[call.target] = rule
        return Done()

    def _unblock_regions(self, call: Call, now: Millis) -> Outcome:
        regions, _ = self._blocked(call.target, now)
        self._regions.pop(call.target, None)
        return Done() if regions else NotThere()

    def _read_regions(self, call: Call, now: Millis) -> Outcome:
        regions, end = self._blocked(call.target, now)
        return Observed(Facts(regions=tuple(sorted(regions)), regions_until=_told(end) if regions else None))


def _kept(until: Millis | None) -> Millis:
    return _NEVER if until is None else until


def _told(end: Millis) -> Millis | None:
    return None if end == _NEVER else end
