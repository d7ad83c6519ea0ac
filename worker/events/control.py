"""Records of the control topic: what operators decide for every replica. The key names the scope.

::

    pause/all  pause/account/NAME  pause/tenant/NAME     Pause; a tombstone ends it
    guard/NAME                                           Ruling: what becomes of all that it has parked so far

The topic is compacted: the last record of a scope is what holds. Keys of other forms are for others.
"""

from typing import Literal

from pydantic import ConfigDict, ValidationError

from worker.events.incoming import Id, Model
from worker.events.times import TimeIn

EVERYTHING = "pause/all"
ACCOUNT, TENANT, GUARD = "pause/account/", "pause/tenant/", "guard/"


class Pause(Model):
    """No replica cuts, forbids or blocks in this scope until it is ended by a tombstone."""

    model_config = ConfigDict(title="Control: pause")

    by: Id = "somebody"
    """Who paused it."""
    reason: str | None = None
    """A sentence for people; results repeat it."""
    at: TimeIn | None = None
    """When it was paused."""


class Ruling(Model):
    """What a human has decided about all that a guard had parked by then."""

    model_config = ConfigDict(title="Control: guard")

    decision: Literal["release", "reject"]
    """``release`` lets it go: each is decided anew; ``reject`` ends it."""
    by: Id
    """Who decided."""
    reason: str | None = None
    """A sentence for people; results repeat it."""
    at: TimeIn
    """When; later than in every ruling about this guard before it. What is parked later waits for another."""


Scope = Pause | Ruling


def read(key: bytes, value: bytes) -> Scope | None:
    """Return what a record says; None where its key is of another form. Raises ValueError.

    A pause that cannot be read is a pause all the same: whoever wrote it wanted things to stop.
    """
    name = key.decode("utf-8", "replace")
    if name == EVERYTHING or name.startswith((ACCOUNT, TENANT)):
        try:
            return Pause.model_validate_json(value)
        except ValidationError:
            return Pause()
    return Ruling.model_validate_json(value) if name.startswith(GUARD) else None
