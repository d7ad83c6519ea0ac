"""What a step may know besides the state and the event: policy, routes, what each vendor can do."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from worker.core.control import NOTHING_DECIDED, Control
from worker.core.policy import Policy
from worker.core.routes import NO_ROUTES, Routes
from worker.core.state import Hold
from worker.events.result import WorkerRef
from worker.vendors.base import Capacity, Operation, VendorSpec
from worker.words import Millis, Purpose, Target, value


@value()
class AccountView:
    """What the machine needs of an account: its vendor's powers."""

    vendor: str
    serves: Mapping[Purpose, Operation]
    forbid_cuts: bool = True
    capacities: tuple[Capacity, ...] = ()
    gate: bool = False
    """Whether bans need no call: our publish gate answers from the committed state."""

    @classmethod
    def of(cls, spec: VendorSpec) -> "AccountView":
        """Return the view of an account at this vendor."""
        serves = {
            purpose: operation for operation in spec.operations.values() for purpose in operation.serves
        }
        capacities = tuple(spec.capacities.values())
        return cls(spec.name, serves, spec.forbid_cuts, capacities, spec.gate)


class GuardView(Protocol):
    """Which guard, if any, parks one more demand now. Asking takes nothing."""

    def parks(self, account: str, hold: Hold, placed: Iterable[tuple[str, Hold]]) -> str | None:
        """Return the guard's name, or None. ``placed``: what the same step has placed already."""
        ...


class CapacityView(Protocol):
    """What vendors still take of what they keep at most."""

    def left(self, purpose: Purpose, target: Target, now: Millis) -> int | None:
        """Return how many more of what a purpose brings about; None where no limit is known."""
        ...


@value()
class Context:
    """The surroundings of a step. ``stopped`` are the accounts whose login was refused."""

    policy: Policy
    accounts: Mapping[str, AccountView]
    worker: WorkerRef
    routes: Routes = NO_ROUTES
    stopped: frozenset[str] = frozenset()
    guards: GuardView | None = None
    capacities: CapacityView | None = None
    control: Control = NOTHING_DECIDED

    def unpaused(self) -> "Context":
        """Return the same surroundings as if nothing were paused."""
        return replace(self, control=NOTHING_DECIDED) if self.control.pauses else self
