"""What replicas and the quota store say to each other: permits, which are slots that may be others'.

Without a store a partition owns slots of every window (``quota``), and its ledger says what they were used
for. A *permit* of the store is one slot in each *pooled* window that a call counts in, whichever partition
owns it. It belongs to the partition whose ledger will tell of its use.

The store counts a permit until its slot comes free: one window after the vendor's answer was told to it
(*settled*), at once if its call was never sent (*given back*), and, if neither is heard, when the call has
been answered for certain. So what a replica takes with it when it dies comes free by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from worker.vendors.base import Quota
from worker.words import Millis, value

LONGEST_POOLED: Millis = 3_600_000
"""Windows up to this long are pooled. A store that was lost cannot say who used what, so what is pooled may
have to wait one window; a day's slots stay with their partitions, whose ledgers always know."""

USED_WITHIN: Millis = 10_000
"""A permit's call leaves so long after it was asked for, or not at all."""

LATEST: Millis = 4_000
"""What the store hears later than this after it was said counts as never said."""

LEASE_BEYOND: Millis = 5_000
"""A partition that the store has not heard of for the brokers' session timeout and this is on its own:
its slots are nobody else's any more. Until then its next owner may go on where the last one was."""


@value()
class Pool:
    """One pooled window. ``reserve``: the share for critical calls; ``timeout`` bounds one request."""

    account: str
    name: str
    quota: Quota
    reserve: float
    timeout: Millis

    @property
    def longest(self) -> Millis:
        """How long after it was asked for a permit may count at the vendor."""
        return USED_WITHIN + self.timeout + self.quota.window


@value()
class Permit:
    """A slot in each of some windows, for a call charged to ``partition`` that leaves by ``until``."""

    id: str
    partition: int
    pools: tuple[Pool, ...]
    until: Millis


@value()
class Ask:
    """A wish for so many permits as there are ``ids``, all for windows ``pools``."""

    ids: tuple[str, ...]
    partition: int
    pools: tuple[Pool, ...]
    critical: bool
    until: Millis

    def permits(self, number: int) -> list[Permit]:
        """Return the first permits asked for."""
        return [Permit(name, self.partition, self.pools, self.until) for name in self.ids[:number]]


@value()
class Told:
    """What a partition's slots are used for: of each pool each use's name, and in how long it comes free."""

    partition: int
    uses: Mapping[Pool, Sequence[tuple[str, Millis]]]


@value()
class Said:
    """One message to the store.

    ``here``: the partitions that are ours, about which it is to say whether they have to be told;
    ``pools`` are then all there are.
    """

    here: tuple[int, ...] | None = None
    pools: tuple[Pool, ...] = ()
    told: Sequence[Told] = ()
    settled: Sequence[Permit] = ()
    given_back: Sequence[Permit] = ()
    asks: Sequence[Ask] = ()


@value()
class Given:
    """The answer to an Ask: so many of its permits, and how long until there may be one more."""

    ask: Ask
    number: int
    wait: Millis


@value()
class Heard:
    """The store's answer. ``untold``: partitions of ours whose uses it does not know.

    ``used``: of each pool how many slots are in use, and how many there are; where ``here`` was said.
    """

    given: Sequence[Given] = ()
    untold: tuple[int, ...] = ()
    used: Mapping[Pool, tuple[int, int]] = field(default_factory=dict)
