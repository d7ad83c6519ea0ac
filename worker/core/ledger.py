"""The record of a partition's quota slots, which moves with the partition.

JSON, under ``state.LEDGER`` in the partition's part of the state topic, written in the transaction that
commits a grant. Readable as it is::

    {"hw": {"block": [{"window": 60000, "answers": [1790000000060, 0, 120],
                       "under_way": {"id": 1790000000130}}]}}

Of ``answers`` the first is a moment, the others say how much later than the one before. Moments are
rounded up to a thousandth of their window, so that a record stays short whatever the limit is.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any

from worker.core.quota import Kept, Use
from worker.words import Millis, value

GRAINS = 1_000

Uses = Mapping[str, Mapping[str, Iterable[Kept]]]
"""What slots are used for, by account and quota name."""


@value()
class Ledger:
    """What a partition's slots are used for. ``full_at``: until a window after it none is free."""

    uses: Mapping[str, Mapping[str, Mapping[Millis, Kept]]]
    full_at: Millis | None = None


def encode(uses: Uses) -> bytes:
    """Return the record's value."""
    accounts = {name: dict(_quotas(quotas)) for name, quotas in uses.items()}
    return _bytes({name: quotas for name, quotas in accounts.items() if quotas})


def encode_full(at: Millis) -> bytes:
    """Return the value for a partition that is new to a topic in use: others had its slots until ``at``."""
    return _bytes({"": at})


def decode(record: bytes | None) -> Ledger:
    """Return what a record says; an empty ledger where there is none. Raises ValueError for another's."""
    said = json.loads(record) if record else {}
    full_at = said.pop("", None)
    uses = {
        account: {quota: {one["window"]: _kept(one) for one in windows} for quota, windows in quotas.items()}
        for account, quotas in said.items()
    }
    return Ledger(uses, full_at)


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
