"""What is seen of a chaos run when it is over: the order of decisions, how long each recovery took."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.playing import now
from worker.events.codec import Decoded, decode
from worker.events.partition import home_partition
from worker.sandbox.stage import ACCOUNTS, Stage
from worker.words import Millis

_ACCOUNT_OF = {vendor: account for account, vendor in ACCOUNTS.items()}


@dataclass(frozen=True)
class Kill:
    """When a replica was killed, and when its next process had started."""

    name: str
    at: Millis
    started: Millis


def disorder(stage: Stage) -> list[str]:
    """Return the verdicts that were decided before one that lies before them, of the same stream."""
    decided: dict[str, str] = {}
    for result in stage.results():
        if result["verdict_id"] and result["timing"]["decided_at"] and result["outcome"] != "duplicate":
            decided.setdefault(result["verdict_id"], result["timing"]["decided_at"])
    latest: dict[str, str] = {}
    wrong, seen = [], set()
    for record in stage.records("verdicts"):
        read = decode(record.key, record.value, record.headers, now())
        name = getattr(read.event, "verdict_id", None) if isinstance(read, Decoded) else None
        if not isinstance(read, Decoded) or name is None or name in seen or name not in decided:
            continue
        if home_partition(read.stream_key.encode(), stage.kafka.partitions, "murmur2") != record.partition:
            continue
        seen.add(name)
        if decided[name] < latest.get(read.stream_key, ""):
            wrong.append(f"{name} was decided before a verdict that came before it")
        latest[read.stream_key] = max(latest.get(read.stream_key, ""), decided[name])
    return wrong


def recoveries(
    stage: Stage, kills: Sequence[Kill], moves: Sequence[tuple[Millis, str, int]]
) -> dict[str, list[Millis]]:
    """Return how long after each kill there was a process again; the partitions it had; a call for each.

    ``moves``: when which replica had restored which partition. A partition that is lost once more before it
    is restored counts from the first kill. A call is taken for one of its account's own streams: the few
    that run at several accounts, one in ten, may count for another partition.
    """
    calls: dict[int, list[Millis]] = defaultdict(list)
    for call in stage.vendor_log():
        home = home_partition(
            f"{_ACCOUNT_OF[call['vendor']]}/{call['stream']}".encode(), stage.kafka.partitions, "murmur2"
        )
        calls[home].append(call["at_ms"])
    found: dict[str, list[Millis]] = defaultdict(list)
    for kill in kills:
        found["process started"].append(kill.started - kill.at)
        for partition in range(stage.kafka.partitions):
            places = [(at, name) for at, name, number in moves if number == partition]
            had = [name for at, name in places if at < kill.at]
            restored = next((at for at, _ in places if at > kill.at), None)
            if restored is None or had[-1:] != [kill.name]:
                continue
            found["partition restored"].append(restored - kill.at)
            first = next((at for at in calls[partition] if at >= restored), None)
            if first is not None:
                found["first call for it"].append(first - kill.at)
    return found
