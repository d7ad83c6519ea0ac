"""What operators have decided, once it is heard: whom it concerns, and which calls are kept back."""

from collections.abc import Iterator, Mapping

from worker.core.calls import still_goes
from worker.core.control import Control
from worker.runtime.accounts import Accounts
from worker.runtime.messages import Granted
from worker.runtime.partition import Partition
from worker.words import Millis


def concerned(
    before: Control, after: Control, partitions: Mapping[int, Partition], accounts: Accounts
) -> Iterator[tuple[Partition, str]]:
    """Yield the streams that must be looked at again: what waits for a slot, and what was parked."""
    parked = set()
    if before.rulings != after.rulings:
        parked.add("guard")
    if names := after.differs(before, accounts.names):
        parked.add("pause")
        for number, key in accounts.waiting_at(names):
            if number in partitions:
                yield partitions[number], key
    if parked:
        for part in partitions.values():
            yield from (
                (part, key) for key, found in part.opens.items() if not parked.isdisjoint(found.parked)
            )


def kept_back(granted: Granted, partitions: Mapping[int, Partition], control: Control, now: Millis) -> bool:
    """Whether a request that was granted before a pause is not to be sent any more."""
    if not control.pauses:
        return False
    for call, (number, _, key, target) in zip(granted.calls, granted.origins, strict=True):
        part = partitions.get(number)
        state = part.state(key).targets.get(target) if part is not None else None
        if state is not None and not still_goes(state, call.purpose, control, now):
            return True
    return False
