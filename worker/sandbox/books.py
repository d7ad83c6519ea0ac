"""The books: what went in, what came out and what the vendors saw, held against each other.

Pure functions. Each returns sentences about what does not balance; empty means that it does. Results are
their JSON data, calls are the simulators' log lines, states are the worker's own, decoded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from worker.events.times import parse_rfc3339
from worker.sandbox.load import Owed
from worker.vendors import load_spec
from worker.words import READS, Millis, Purpose

SLACK: Millis = 60_000
"""Ends that differ by no more than this are as good as the same: the usual ``policy.absorb_slack``. Where an
answer was lost and the vendor tells no ends, nobody can know better than that."""
SOON: Millis = 5_000
"""What ends so soon may have ended at one side and not yet at the other."""

Json = Mapping[str, Any]

_BRINGS: Mapping[str, tuple[Purpose, ...]] = {
    "forbid": ("forbid", "move_end"),
    "block_regions": ("block_regions", "forbid", "move_end"),
    # A cut whose answer got lost is settled by asking whether the stream is live.
    "cut": ("cut", "read_live"),
}
_HEARD = frozenset({"done", "already", "absent", "refused", "throttled"})
_DONE_UNHEARD = frozenset({"done_then_hang", "done_then_reset"})


@dataclass(frozen=True, slots=True)
class Books:
    """Everything there is to compare, once the worker has nothing left to do.

    ``letters`` is how many dead letters are owed. ``vendors`` maps accounts to their vendors.
    """

    owed: Mapping[str, Owed]
    letters: int
    results: Sequence[Json]
    dead_letters: Sequence[Any]
    calls: Sequence[Json]
    stats: Mapping[str, Json]
    states: Mapping[str, Json]
    vendor_state: Mapping[str, Json]
    vendors: Mapping[str, str]
    now: Millis


def problems(books: Books, *, repeats: bool = False) -> list[str]:
    """Return everything that does not balance.

    ``repeats``: results and dead letters may be there more than once, as after a crash without
    transactions; a result then has the same ``result_id`` each time.
    """
    return [
        *identities(books.results, repeats=repeats),
        *answers(books.owed, books.results),
        *letters(books.letters, books.dead_letters),
        *deeds(books.results, books.calls),
        *counts(books.results, books.calls),
        *quotas(books.stats),
        *signatures(books.stats),
        *in_force(books.states, books.vendor_state, books.vendors, books.now),
    ]


def identities(results: Iterable[Json], *, repeats: bool) -> Iterator[str]:
    """Yield results that share an id and should not."""
    seen: dict[str, tuple[Any, ...]] = {}
    for result in results:
        about = (result["verdict_id"], result["command_id"], _account(result), result["terminal"])
        before = seen.setdefault(result["result_id"], about)
        if before != about:
            yield f"result {result['result_id']} is the id of different results"
        elif not repeats and seen[result["result_id"]] is not about:
            yield f"result {result['result_id']} was published twice"


def answers(owed: Mapping[str, Owed], results: Iterable[Json]) -> Iterator[str]:
    """Yield events without their terminal results, with too many, or with one that cannot be."""
    terminal: dict[tuple[str, str | None], dict[str, str]] = defaultdict(dict)
    for result in results:
        event = _event(result)
        if event not in owed:
            yield f"a result ({result['outcome']}) answers {event}, which was never sent"
        elif result["terminal"]:
            terminal[event, _account(result)][result["result_id"]] = _outcome(result)
    found: dict[str, set[str | None]] = defaultdict(set)
    for (event, account), outcomes in terminal.items():
        found[event].add(account)
        if len(outcomes) > 1:
            yield f"{event} at {account} has {len(outcomes)} terminal results: {', '.join(outcomes.values())}"
        for outcome in sorted(set(outcomes.values()) - owed[event].outcomes):
            yield f"{event} at {account} became {outcome}; that cannot be"
    for event, debt in owed.items():
        if debt.accounts is None:
            if not found[event]:
                yield f"{event} has no terminal result"
            continue
        for account in debt.accounts:
            if account not in found[event]:
                yield f"{event} at {account} has no terminal result"
        for account in found[event].difference(debt.accounts):
            yield f"{event} has a terminal result at {account}, where it is owed none"


def letters(owed: int, found: Iterable[Any]) -> Iterator[str]:
    """Yield whether records are missing among the dead letters, or too many; a repeated one counts once."""
    origins = set()
    for record in found:
        headers = dict(record.headers)
        origins.add((headers["source_partition"], headers["source_offset"]))
    if len(origins) != owed:
        yield f"{owed} records should be dead letters; {len(origins)} are"


def deeds(results: Iterable[Json], calls: Sequence[Json]) -> Iterator[str]:
    """Yield results that tell of an action for which the vendor's log has no call that succeeded."""
    done: set[tuple[str, Purpose, Any]] = set()
    for call in calls:
        if succeeded(call):
            done |= {(call["vendor"], purpose, _stream(call)) for purpose in _purposes(call)}
    for result in results:
        target, action = result["target"], result["action"]
        if result["outcome"] not in {"applied", "verified"} or target is None or action not in _BRINGS:
            continue
        stream = (target["app"], target["stream"])
        ways = [(target["vendor"], purpose, stream) for purpose in _BRINGS[action]]
        if result["command_id"] is None and not done.intersection(ways):
            yield (
                f"{_event(result)} at {target['account']} is {result['outcome']} ({action}), "
                "but the vendor has carried out no such call"
            )


def counts(results: Iterable[Json], calls: Iterable[Json]) -> Iterator[str]:
    """Yield writes of which results tell more, or fewer, than the vendors saw.

    A call whose answer was heard is in the vendor's log. What is in the log is among the attempts of
    some result; the answer may be lost (``unknown``), and then the call need not be in the log.
    """
    attempts: dict[tuple[Any, ...], set[tuple[Any, ...]]] = defaultdict(set)
    for result in results:
        target = result["target"]
        for tried in result["attempts"]:
            if target is not None and _writes(target["vendor"], tried["operation"]):
                place = (target["vendor"], tried["operation"], (target["app"], target["stream"]))
                attempts[place].add((tried["at"], tried["n"], tried["outcome"]))
    seen = Counter(
        (call["vendor"], call["operation"], _stream(call))
        for call in calls
        if _writes(call["vendor"], call["operation"])
    )
    for place in {**attempts, **seen}:
        vendor, operation, (_, stream) = place
        told = attempts.get(place, set())
        heard = sum(outcome in _HEARD for _, _, outcome in told)
        if not heard <= seen[place] <= len(told):
            yield (
                f"{vendor} {operation} of {stream}: results tell of {len(told)} calls ({heard} answered), "
                f"the vendor saw {seen[place]}"
            )


def quotas(stats: Mapping[str, Json]) -> Iterator[str]:
    """Yield quota windows with more calls than their limit."""
    for vendor, counted in stats.items():
        for window in counted["quotas"]:
            if window["max_used"] > window["limit"] or window["violations"]:
                yield (
                    f"{vendor} {window['quota']}: {window['max_used']} calls within "
                    f"{window['window_ms']} ms, {window['limit']} are allowed"
                )


def signatures(stats: Mapping[str, Json]) -> Iterator[str]:
    """Yield vendors that refused a signature."""
    for vendor, counted in stats.items():
        if counted["signatures_refused"]:
            yield f"{vendor} refused {counted['signatures_refused']} signatures"


def in_force(
    states: Mapping[str, Json], vendor_state: Mapping[str, Json], vendors: Mapping[str, str], now: Millis
) -> Iterator[str]:
    """Yield bans and region blocks that only one side believes in, or with another end."""
    believed: dict[tuple[str, str, str, str], Millis | None] = {}
    unsure = set()
    for state in states.values():
        for target in state.get("targets", {}).values():
            where = target["target"]
            vendor = vendors.get(where["account"], "")
            for word in ("ban", "block"):
                has = target.get(word)
                if has is None:
                    continue
                place = (word, vendor, where["app"], where["stream"])
                believed[place] = has["until"]
                if has.get("sure") is False:
                    unsure.add(place)
    real = {place: until for place, until in _real(vendor_state) if until > now + SOON}
    for place, until in believed.items():
        sure = place not in unsure and (until is None or until > now + SOON)
        if sure and place not in real:
            yield f"the worker believes in a {_named(place)}; the vendor does not have it"
        elif until is not None and place in real and abs(real[place] - until) > SLACK:
            yield f"the {_named(place)} ends {real[place] - until:+} ms from what the worker believes"
    for place in real:
        if place not in believed:
            yield f"the vendor has a {_named(place)}; the worker does not know of it"


def succeeded(call: Json) -> bool:
    """Return whether a vendor carried a call out, as its log says."""
    if not call["signature_ok"] or call["code"] not in {None, "0", "00"}:
        return False
    status = call["http_status"]
    return call["fault"] in _DONE_UNHEARD if status is None else 200 <= status < 300  # noqa: PLR2004 - 2xx


def _real(vendor_state: Mapping[str, Json]) -> Iterator[tuple[tuple[str, str, str, str], Millis]]:
    over = {4, 5}  # a region rule that has ended, or is being taken away
    for vendor, state in vendor_state.items():
        for ban in state["bans"]:
            yield ("ban", vendor, ban["app"], ban["stream"]), ban["until"]
        for rule in state.get("region_blocks", ()):
            if rule["Status"] not in over:
                yield (
                    ("block", vendor, rule["AppName"], rule["StreamName"]),
                    parse_rfc3339(rule["ReleaseTime"]),
                )


def _named(place: tuple[str, str, str, str]) -> str:
    word, vendor, _, stream = place
    return f"{word} of {stream} at {vendor}"


def _event(result: Json) -> str:
    event: str = result["verdict_id"] or result["command_id"]
    return event


def _account(result: Json) -> str | None:
    return None if result["target"] is None else result["target"]["account"]


def _outcome(result: Json) -> str:
    error = result["error"]
    return f"{result['outcome']}/{error['class']}" if error else str(result["outcome"])


def _stream(call: Json) -> tuple[Any, Any]:
    return call["app"], call["stream"]


def _purposes(call: Json) -> tuple[Purpose, ...]:
    return _serves(call["vendor"]).get(call["operation"], ())


def _writes(vendor: str, operation: str) -> bool:
    serves = _serves(vendor).get(operation, ())
    return bool(serves) and not READS.intersection(serves)


@cache
def _serves(vendor: str) -> Mapping[str, tuple[Purpose, ...]]:
    return {name: operation.serves for name, operation in load_spec(vendor).operations.items()}
