"""After the verdict topic has grown: the topics beside it grow too, and states move to their new homes.

Each state is written to its new home and taken from its old one in the same transaction, so it is never
in both and never in none. The results topic grows last: until then a worker refuses to start, and after a
failure this is simply run again. A partition's own record (see ``core.state.LEDGER``) stays where it is;
a new partition begins with one that says that its quota slots have just been used.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kafka.errors import GroupIdNotFoundError, KafkaError

from worker.commands import Failure
from worker.commands.parts.topic_reader import Progress, TopicReader, silent
from worker.core.ledger import encode_full
from worker.core.state import LEDGER, decode, encode, stream_of
from worker.events.partition import home_partition
from worker.runtime import kafka_client, topics
from worker.runtime.messages import Headers
from worker.settings import KafkaSettings

AT_ONCE = 500
"""How many states one transaction moves."""
PAUSE_S = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Move:
    key: bytes
    value: bytes
    headers: Headers
    old: int
    new: int


def grow(settings: KafkaSettings, tell: Tell, progress: Progress = silent, at_once: int = AT_ONCE) -> None:
    """Make results and states fit the verdict topic; ``tell`` is told what was done.

    Raises Failure where that cannot be, and KafkaError where the brokers are away.
    """
    present = topics.describe(settings)
    names = settings.topics
    missing = [sentence for sentence in topics.problems(settings, present) if " is missing: " in sentence]
    if missing:
        raise Failure(missing)
    wanted = present[names.verdicts].partitions
    larger = [name for name in (names.state, names.results) if present[name].partitions > wanted]
    if larger:
        raise Failure([
            topics.partitions_differ(names.verdicts, wanted, name, present[name].partitions)
            for name in larger
        ])  # fmt: skip
    _wait_until_nobody_works(settings, tell)
    with _producer(settings):
        pass  # whatever a run before this one has left open is ended
    _enlarge(settings, present[names.state], wanted, tell)
    moved = 0
    with TopicReader(settings, progress) as reader:
        for number in range(wanted):
            moves = list(_moves(reader, settings, number, wanted))
            moved += len(moves)
            for start in range(0, len(moves), at_once):
                _carry_out(settings, moves[start : start + at_once])
                progress(f"and moving partition {number}", start, len(moves))
    tell(f"{names.state}: {moved} states moved to their new homes")
    _refuse_workers(settings)
    _begin_ledgers(settings, range(present[names.results].partitions, wanted))
    _enlarge(settings, present[names.results], wanted, tell)


def _moves(reader: TopicReader, settings: KafkaSettings, number: int, wanted: int) -> Iterator[_Move]:
    """Yield the states of a partition that belong to another one."""
    states: dict[bytes, tuple[bytes, Headers]] = {}
    for record in reader.read(settings.topics.state, [number]):
        if record.value is None:
            states.pop(record.key, None)
        elif stream_of(record.key) is not None:
            states[record.key] = (record.value, record.headers)
    for key, (value, headers) in states.items():
        home = home_partition(key, wanted, settings.partitioner)
        if home != number:
            yield _Move(key, value, headers, number, home)


def _carry_out(settings: KafkaSettings, moves: Sequence[_Move]) -> None:
    topic = settings.topics.state
    with _producer(settings) as producer:
        futures = []
        for move in moves:
            # The offset that a state remembers is one of its old partition.
            value = encode(replace(decode(move.value), offset=-1))
            futures.append(producer.send(topic, value, move.key, list(move.headers), move.new))
        _settle(producer, futures)
        _settle(producer, [producer.send(topic, None, move.key, [], move.old) for move in moves])


def _begin_ledgers(settings: KafkaSettings, new: range) -> None:
    """Have new partitions wait a window for their quota slots: until now these were the old partitions'."""
    record = encode_full(time.time_ns() // 1_000_000)
    with _producer(settings) as producer:
        sent = [producer.send(settings.topics.state, record, LEDGER, [], number) for number in new]
        _settle(producer, sent)


@contextmanager
def _producer(settings: KafkaSettings) -> Iterator[Any]:
    """Give a producer whose records count together, where the brokers can do that.

    Where they cannot, what was written to the new homes is whole before anything is taken from the old.
    """
    if settings.delivery == "at_least_once":
        plain = kafka_client.plain_producer(settings)
        try:
            yield plain
        finally:
            kafka_client.bury(plain)
        return
    # Its name keeps two of these from working at the same time: the second fences the first.
    producer = kafka_client.transactional_producer(replace(settings, instance_id="topics-grow"))
    try:
        producer.begin_transaction()
        yield producer
        producer.commit_transaction()
    finally:
        kafka_client.bury(producer)


def _settle(producer: Any, futures: Sequence[Any]) -> None:
    producer.flush(timeout=kafka_client.FLUSH_S)
    for future in futures:
        if not future.succeeded():
            raise future.exception or KafkaError("a state was not acknowledged in time")


# Who works, and how large topics are.


def _members(settings: KafkaSettings) -> list[str]:
    admin = kafka_client.admin_client(settings)
    try:
        group = admin.describe_groups([settings.group_id])[settings.group_id]
    except GroupIdNotFoundError:
        return []
    finally:
        admin.close()
    return sorted(
        str(member.get("group_instance_id") or member.get("member_id")) for member in group["members"]
    )


def _wait_until_nobody_works(settings: KafkaSettings, tell: Tell) -> None:
    """Wait until the group is empty. A worker that has stopped counts as a member until its session ends."""
    session_s = kafka_client.session_timeout(settings) / 1000
    until = time.monotonic() + session_s + 1
    told = False
    while _members(settings):
        if not told:
            tell(f"waiting up to {session_s:g} s until stopped workers have left group {settings.group_id}")
            told = True
        if time.monotonic() > until:
            _refuse_workers(settings)
        time.sleep(PAUSE_S)


def _refuse_workers(settings: KafkaSettings) -> None:
    members = _members(settings)
    if members:
        names = ", ".join(members)
        raise Failure([f"workers are running ({names}): stop them all, and run this again"])


def _enlarge(settings: KafkaSettings, topic: topics.Topic, wanted: int, tell: Tell) -> None:
    if topic.partitions == wanted:
        tell(f"{topic.name}: has {wanted} partitions")
        return
    topics.enlarge(settings, topic.name, wanted)
    tell(f"{topic.name}: {topic.partitions} -> {wanted} partitions")
