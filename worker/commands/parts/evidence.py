"""What the topics hold about one stream: read from its home partitions only, and nothing written."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker import vendors
from worker.commands.parts import planning
from worker.commands.parts.explaining import Entry, event_entry, result_entry, with_looks
from worker.commands.parts.topic_reader import TopicReader
from worker.commands.parts.waiting import Around
from worker.core.calls import need
from worker.core.control import Control
from worker.core.ledger import Ledger
from worker.core.ledger import decode as decode_ledger
from worker.core.state import LEDGER, StreamState, decode, stream_of
from worker.events import codec
from worker.events.incoming import Verdict
from worker.events.partition import home_partition
from worker.runtime.partition import due
from worker.settings import Settings
from worker.words import Millis


@dataclass(frozen=True, slots=True)
class States:
    """A partition's states, most of them as bytes (key, value and headers), and its quota slots' ledger."""

    number: int
    partitions: int
    raw: dict[bytes, tuple[bytes, Sequence[tuple[str, bytes]]]]
    ledger: bytes | None = None


def read_states(reader: TopicReader, settings: Settings, key: str) -> States:
    """Return the states of a stream's home partition."""
    topic = settings.kafka.topics.state
    partitions = reader.partitions(topic)
    number = home_partition(key.encode(), partitions, settings.kafka.partitioner)
    raw: dict[bytes, tuple[bytes, Sequence[tuple[str, bytes]]]] = {}
    ledger: bytes | None = None
    for record in reader.read(topic, [number]):
        if stream_of(record.key) is None:
            ledger = record.value if record.key == LEDGER else ledger
            continue
        if record.value is None:
            raw.pop(record.key, None)
        else:
            raw[record.key] = (record.value, record.headers)
    return States(number, partitions, raw, ledger)


def read_all_states(reader: TopicReader, settings: Settings) -> tuple[list[StreamState], list[Ledger]]:
    """Return the states of all streams, and the ledger of each partition that has one."""
    raw: dict[bytes, bytes] = {}
    ledgers: dict[int, bytes | None] = {}
    for record in reader.read(settings.kafka.topics.state):
        if stream_of(record.key) is None:
            ledgers |= {record.partition: record.value} if record.key == LEDGER else {}
        elif record.value is None:
            raw.pop(record.key, None)
        else:
            raw[record.key] = record.value
    return [decode(value) for value in raw.values()], [decode_ledger(value) for value in ledgers.values()]


def around(settings: Settings, states: States, state: StreamState, control: Control, now: Millis) -> Around:
    """Return what the stream's waiting depends on; its neighbours only if it needs a call now."""
    ctx = replace(planning.context(settings), control=control)
    specs = {name: vendors.load_spec(one.account.vendor) for name, one in settings.accounts.items()}
    wanted = [need(target, now, ctx) for target in state.targets.values()]
    streams: list[StreamState] = []
    if any(one is not None and one.not_before <= now for one in wanted):
        streams = [decode(value) for value, headers in states.raw.values() if due(headers)[0] == 0]
    return Around(
        ctx,
        {name: vendors.make(specs[name], one.account) for name, one in settings.accounts.items()},
        specs,
        {name: one.quotas for name, one in settings.accounts.items()},
        streams,
        states.partitions,
        decode_ledger(states.ledger),
    )


def read_history(reader: TopicReader, settings: Settings, state: StreamState, since: Millis) -> list[Entry]:
    """Return what was published about a stream since some moment, with the rules its verdicts met."""
    key = state.key
    verdicts: dict[str, Verdict] = {}
    entries: list[Entry] = []
    for record in _of_home(reader, settings.kafka.topics.verdicts, settings, key, since):
        found = codec.decode(record.key, record.value, record.headers, record.timestamp)
        if isinstance(found, codec.Decoded) and found.stream_key == key:
            entries.append(event_entry(found.event, _data(record), record.timestamp))
            if isinstance(found.event, Verdict):
                verdicts.setdefault(found.event.verdict_id, found.event)
    entries += [
        result_entry(json.loads(record.value))
        for record in _of_home(reader, settings.kafka.topics.results, settings, key, since)
        if record.key == key.encode()
    ]
    return list(with_looks(entries, state, settings.policy, verdicts))


def _of_home(reader: TopicReader, topic: str, settings: Settings, key: str, since: Millis) -> Iterator[Any]:
    """Yield the records of a stream's home partition that may be about it, whatever their own key is."""
    name = key.encode()
    home = home_partition(name, reader.partitions(topic), settings.kafka.partitioner)
    for record in reader.read(topic, [home], since):
        # A key may also be written with escapes.
        if record.value is not None and (record.key == name or name in record.value or b"\\" in record.value):
            yield record


def _data(record: Any) -> dict[str, Any]:
    """Return the event of a record that was understood, without its envelope."""
    found: dict[str, Any] = json.loads(record.value)
    data = found.get("data") if "specversion" in found else found
    return data if isinstance(data, dict) else found
