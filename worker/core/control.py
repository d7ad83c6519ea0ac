"""What operators have decided for every replica: what is paused, and what becomes of what guards parked."""

from collections.abc import Iterable, Mapping
from dataclasses import field

from worker.core.state import TargetState
from worker.events.control import ACCOUNT, EVERYTHING, GUARD, TENANT, LetGo, Pause, Ruling, Scope
from worker.words import value


@value()
class Control:
    """The control topic as far as it was read. A pause stops calls, and takes no demand back."""

    everything: Pause | None = None
    accounts: Mapping[str, Pause] = field(default_factory=dict)
    tenants: Mapping[str, Pause] = field(default_factory=dict)
    rulings: Mapping[str, Ruling] = field(default_factory=dict)
    """By the name of the guard."""
    let_go: LetGo | None = None

    @property
    def pauses(self) -> bool:
        """Whether anything is paused."""
        return bool(self.everything or self.accounts or self.tenants)

    def differs(self, before: "Control", accounts: Iterable[str]) -> list[str]:
        """Return those of some accounts for whose streams other pauses hold than before."""
        if (self.everything, self.tenants) != (before.everything, before.tenants):
            return list(accounts)
        return [name for name in accounts if self.accounts.get(name) != before.accounts.get(name)]

    def paused(self, target: TargetState) -> tuple[str, Pause] | None:
        """Return the scope for which enforcement is paused at a target, and its pause.

        A tenant's streams are those of which it has a demand.
        """
        if not self.pauses:
            return None
        if self.everything is not None:
            return EVERYTHING, self.everything
        account = target.target.account
        if account in self.accounts:
            return f"{ACCOUNT}{account}", self.accounts[account]
        for hold in target.holds:
            tenant = hold.cause.tenant
            if tenant is not None and tenant in self.tenants:
                return f"{TENANT}{tenant}", self.tenants[tenant]
        return None


NOTHING_DECIDED = Control()


def gather(records: Iterable[tuple[str, Scope]]) -> Control:
    """Return what the last record of each scope comes to."""
    accounts: dict[str, Pause] = {}
    tenants: dict[str, Pause] = {}
    rulings: dict[str, Ruling] = {}
    everything: Pause | None = None
    let_go: LetGo | None = None
    for key, scope in records:
        match scope:
            case LetGo():
                let_go = scope
            case Ruling():
                rulings[key.removeprefix(GUARD)] = scope
            case Pause() if key == EVERYTHING:
                everything = scope
            case Pause() if key.startswith(ACCOUNT):
                accounts[key.removeprefix(ACCOUNT)] = scope
            case Pause():
                tenants[key.removeprefix(TENANT)] = scope
    return Control(everything, accounts, tenants, rulings, let_go)


def sentence(scope: str, pause: Pause) -> str:
    """Return a sentence about a pause."""
    _, kind, *name = scope.split("/", 2)
    where = f" for {kind} {name[0]}" if name else ""
    because = f": {pause.reason}" if pause.reason else ""
    return f"Enforcement is paused{where} by {pause.by}{because.rstrip('.')}."
