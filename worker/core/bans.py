"""What is forbidden where our publish gate answers: an index of the states in the state topic."""

import json
from collections.abc import Iterable, Mapping

from worker.core.holds import end
from worker.core.state import decode, stream_of
from worker.words import Millis

Door = tuple[str, str, str]
"""Account, application and stream: what a server names when it asks."""
Home = tuple[int, bytes]
"""Partition and key of a state's record: two streams of the platform may run at one door."""


class Bans:
    """The bans at some accounts, kept up to date from the records of the state topic.

    Only what is needed is kept, and only the states that name one of the accounts are decoded at all. A ban
    ends by itself at its time. One thread takes records; others may ask meanwhile, and never see a state half
    taken: what they look at is replaced, not changed.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        self._accounts = frozenset(accounts)
        named = (json.dumps(name, ensure_ascii=False) for name in self._accounts)
        self._marks = tuple(f'"account":{name}'.encode() for name in named)
        self._doors: dict[Home, tuple[Door, ...]] = {}
        self._ends: dict[Door, Mapping[Home, Millis]] = {}

    def take(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Take a record: a stream's state, or none any more. Raises ValueError for a state that is none."""
        if key is None or stream_of(key) is None:
            return
        home, found = (partition, key), self._found(value)
        for door, until in found.items():
            self._ends[door] = {**self._ends.get(door, {}), home: until}
        for door in self._doors.pop(home, ()):
            if door in found:
                continue
            left = {other: until for other, until in self._ends[door].items() if other != home}
            if left:
                self._ends[door] = left
            else:
                del self._ends[door]
        if found:
            self._doors[home] = tuple(found)

    def _found(self, value: bytes | None) -> dict[Door, Millis]:
        found: dict[Door, Millis] = {}
        if value is None or not any(mark in value for mark in self._marks):
            return found
        for state in decode(value).targets.values():
            target, ban = state.target, state.ban
            if target.account in self._accounts and ban is not None:
                door = (target.account, target.app, target.stream)
                found[door] = max(end(ban.until), found.get(door, 0))
        return found

    def forbidden(self, door: Door, now: Millis) -> bool:
        """Whether a stream must not be published now."""
        return any(until > now for until in self._ends.get(door, {}).values())

    def __len__(self) -> int:
        """Return at how many doors there is a ban, ended ones included until their state says so."""
        return len(self._ends)
