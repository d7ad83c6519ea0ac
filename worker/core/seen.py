"""How many streams of each tenant a partition has seen within the last hour, in bounded memory.

A stream is a number drawn from its key. For each tenant and third of an hour the ``KEPT`` smallest numbers
are kept: so few streams are counted exactly, and of more, how closely the smallest lie tells how many there
are (Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002). That is right within 6 % (one
standard deviation); what is told is two of these less, so that it is hardly ever too many. What was seen 40
to 60 minutes ago may count or not. Where there are many tenants those with the most streams are counted.

The record, under ``state.SEEN`` in the partition's part of the state topic, is JSON: for each third of an
hour, by its number since 1970, the digest of each tenant, and its numbers, big-endian and as base64. It is
written once a minute, beside what is written anyway; after a crash what was seen since then counts as not
seen.
"""

import json
import sys
from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from heapq import nlargest, nsmallest
from typing import TypeAlias

from worker.words import Millis, digest

SPAN: Millis = 20 * 60_000
SPANS = 3
KEPT = 256
FEWER = 1 - 2 / (KEPT - 2) ** 0.5
"""What is told of an estimate: two standard deviations less."""
TENANTS = 100
"""So many are written for each span; in memory there are at most twice as many."""
WRITTEN_EVERY: Millis = 60_000
ALL = 1 << 32

_Numbers: TypeAlias = "array[int]"


class SeenStreams:
    """One partition's. Moments come in as ``now``."""

    def __init__(self, record: bytes | None = None) -> None:
        self._spans: dict[int, dict[str, _Numbers]] = defaultdict(dict)
        self._told: dict[str, tuple[int, int]] = {}  # by tenant, in which span and what
        self._written: Millis = 0
        self._changed = False
        for span, tenants in json.loads(record or b"{}").items():
            self._spans[int(span)] = {tenant: _decoded(numbers) for tenant, numbers in tenants.items()}

    def add(self, tenant: str, key: str, now: Millis) -> None:
        """Note that a stream of a tenant was seen."""
        name, number = digest(tenant), _number(key)
        span = self._spans[now // SPAN]
        numbers = span.get(name)
        if numbers is None:
            numbers = self._begin(name, now // SPAN)
        place = bisect_left(numbers, number)
        if place == KEPT or (place < len(numbers) and numbers[place] == number):
            return
        numbers.insert(place, number)
        del numbers[KEPT:]
        self._changed = True
        self._told.pop(name, None)

    def number(self, tenant: str, now: Millis) -> int:
        """Return how many streams of a tenant were seen."""
        name, span = digest(tenant), now // SPAN
        known = self._told.get(name)
        if known is not None and known[0] == span:
            return known[1]
        number = self._count(name, span)
        if number:
            self._told[name] = span, number
        return number

    def record(self, now: Millis) -> bytes | None:
        """Return the record, if it is to be written once more; it then counts as written."""
        if not self._changed or abs(now - self._written) < WRITTEN_EVERY:
            return None
        self._changed, self._written = False, now
        spans = range(now // SPAN - SPANS + 1, now // SPAN + 1)
        said = {span: _most(self._spans[span]) for span in spans if span in self._spans}
        texts = {span: {name: _encoded(numbers) for name, numbers in of.items()} for span, of in said.items()}
        return json.dumps(texts, separators=(",", ":")).encode()

    def _begin(self, name: str, span: int) -> _Numbers:
        """Make room for a tenant, and forget what is too old."""
        for old in [old for old in self._spans if not span - SPANS < old <= span]:
            del self._spans[old]
            self._told.clear()
        tenants = self._spans[span]
        if len(tenants) >= 2 * TENANTS:
            tenants = self._spans[span] = _most(tenants)
            self._told.clear()
        numbers = tenants[name] = array("I")
        return numbers

    def _count(self, name: str, span: int) -> int:
        spans = (self._spans.get(each, {}) for each in range(span - SPANS + 1, span + 1))
        smallest = nsmallest(KEPT, set().union(*(tenants.get(name, ()) for tenants in spans)))
        if len(smallest) < KEPT:
            return len(smallest)
        return max(KEPT, int(FEWER * (KEPT - 1) * ALL / smallest[-1]))


def _number(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _most(tenants: Mapping[str, _Numbers]) -> dict[str, _Numbers]:
    """Return those with the most streams: of full ones the smaller the largest number, the more there are."""
    return dict(
        nlargest(TENANTS, tenants.items(), key=lambda item: (len(item[1]), -item[1][-1] if item[1] else 0))
    )


def _encoded(numbers: _Numbers) -> str:
    return b64encode(_big_endian(numbers).tobytes()).decode()


def _decoded(text: str) -> _Numbers:
    numbers = array("I")
    numbers.frombytes(b64decode(text))
    return _big_endian(numbers)


def _big_endian(numbers: _Numbers) -> _Numbers:
    """Return numbers as they are written, or back: the same where bytes are in this order anyway."""
    swapped = array("I", numbers)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
