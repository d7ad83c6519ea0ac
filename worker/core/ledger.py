"""The record of a partition's slots, of quotas and of guards, which moves with the partition.

JSON, under ``state.LEDGER`` in the partition's part of the state topic, written in the transaction that
commits a grant, or a demand that counts for a guard. Readable as it is::

    {"quotas": {"hw": {"block": [{"window": 60000, "answers": [1790000000060, 0, 120],
                                  "under_way": {"id": 1790000000130}}]}},
     "guards": {"blast": {"hw": [{"window": 600000, "answers": [1790000000400]}]}}}

Of ``answers`` the first is a moment, the others say how much later than the one before. Moments are
rounded up to a thousandth of their window, so that a record stays short whatever the limit is. A guard's
"answers" are the moments at which its demands were placed, for each account, tenant or rule.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from itertools import accumulate, pairwise
from typing import Any

from worker.core.quota import Kept, Use
from worker.words import Millis, value

GRAINS = 1_000

Uses = Mapping[str, Mapping[str, Iterable[Kept]]]
"""What slots are used for: by account and quota name, or by guard and what it counts for."""


@value()
class Ledger:
    """What a partition's slots are used for. ``full_at``: until a window after it none is free.

    ``guards_full_at``: the same of guards; it stays, since what they count for only shows with time.
    """

    uses: Mapping[str, Mapping[str, Mapping[Millis, Kept]]]
    full_at: Millis | None = None
    guards: Mapping[str, Mapping[str, Mapping[Millis, Kept]]] = field(default_factory=dict)
    guards_full_at: Millis | None = None


def encode(uses: Uses, guards: Uses | None = None, guards_full_at: Millis | None = None) -> bytes:
    """Return the record's value."""
    said = {"quotas": _said(uses), "guards": _said(guards or {}), "guards_full_at": guards_full_at}
    return _bytes({name: part for name, part in said.items() if part})


def encode_full(at: Millis) -> bytes:
    """Return the value for a partition that is new to a topic in use: others had its slots until ``at``."""
    return _bytes({"full_at": at, "guards_full_at": at})


def decode(record: bytes | None) -> Ledger:
    """Return what a record says; an empty ledger where there is none. Raises ValueError for another's."""
    said = json.loads(record) if record else {}
    return Ledger(
        _used(said.get("quotas", {})),
        said.get("full_at"),
        _used(said.get("guards", {})),
        said.get("guards_full_at"),
    )


def _used(said: Mapping[str, Any]) -> dict[str, dict[str, dict[Millis, Kept]]]:
    return {
        name: {of: {one["window"]: _kept(one) for one in windows} for of, windows in them.items()}
        for name, them in said.items()
    }


def _said(uses: Uses) -> dict[str, Any]:
    found = {name: dict(_quotas(quotas)) for name, quotas in uses.items()}
    return {name: quotas for name, quotas in found.items() if quotas}


def _quotas(quotas: Mapping[str, Iterable[Kept]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, windows in quotas.items():
        found = [_window(kept) for kept in windows if kept.answers or kept.under_way]
        if found:
            yield name, found


def _window(kept: Kept) -> dict[str, Any]:
    grain = max(1, kept.window // GRAINS)
    moments = [-(-at // grain) * grain for at in kept.answers]
    answers = moments[:1] + [after - before for before, after in pairwise(moments)]
    said: dict[str, Any] = {"window": kept.window, "answers": answers}
    if kept.under_way:
        said["under_way"] = {use.id: use.granted_at for use in kept.under_way}
    return said


def _kept(said: Mapping[str, Any]) -> Kept:
    under_way = [Use(name, at) for name, at in said.get("under_way", {}).items()]
    return Kept(said["window"], tuple(accumulate(said["answers"])), tuple(under_way))


def _bytes(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
