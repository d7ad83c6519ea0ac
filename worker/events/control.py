"""Records of the control topic: what operators decide for every replica. The key names the scope.

::

    pause/all  pause/account/NAME  pause/tenant/NAME     Pause; a tombstone ends it
    guard/NAME                                           Ruling: what becomes of all that it has parked so far
    partitions                                           LetGo: partitions stopped so far go on

The topic is compacted: the last record of a scope is what holds. Keys of other forms are for others.
"""

from typing import Literal

from pydantic import ConfigDict, ValidationError

from worker.events.incoming import Id, Model
from worker.events.times import TimeIn

EVERYTHING = "pause/all"
PARTITIONS = "partitions"
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


class LetGo(Model):
    """Partitions go on that too many unreadable records in a row have stopped so far."""

    model_config = ConfigDict(title="Control: partitions")

    by: Id
    """Who let them go on."""
    reason: str | None = None
    """A sentence for people."""
    at: TimeIn
    """When."""


Scope = Pause | Ruling | LetGo


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
    if name == PARTITIONS:
        return LetGo.model_validate_json(value)
    return Ruling.model_validate_json(value) if name.startswith(GUARD) else None
