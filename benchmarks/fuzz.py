"""Fuzzed records: every one is understood or goes aside as it was, whatever it is.

``--records`` go through the decoder, ``--carried`` of them through a real worker on Apache Kafka.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.common import ground, report
from tests.e2e.kafka import play
from tests.e2e.playing import now, verdict
from worker.events.codec import Decoded, decode
from worker.events.examples import EXAMPLES
from worker.events.incoming import StreamEvent, Verdict
from worker.sandbox.stage import Incoming, Kafka, Stage

GOOD = [example for name, example in EXAMPLES.items() if not name.startswith("result")]
ODD: list[Any] = [None, True, -1, 0, 2**70, 1e308, "", "é\u0000", "x" * 300, [], {}, [[]], {"a": {"b": []}}]
BITS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"\\u",
    b"\\ud800",
    b"9" * 99,
    b"\xff",
    b"\x00",
    b"null",
    b"\xef\xbb\xbf",
    b",",
]
ENVELOPE = {"specversion": "1.0", "id": "f-1", "source": "/fuzz"}
TYPES = ("moderation.verdict.v1", "moderation.command.v1", "moderation.stream.v1", "moderation.other.v1", "")
STRUCTURED = (
    b"application/cloudevents+json",
    b"application/cloudevents+json; charset=latin-1",
    b"application/cloudevents",
)
PARTITIONS = 4


def records(seed: int, number: int) -> Iterator[Incoming]:
    """Yield records: bytes, JSON, changed events; plain and in CloudEvents' two modes."""
    random = Random(seed)
    for n in range(number):
        value = _value(random, n)
        headers: tuple[tuple[str, bytes], ...] = ()
        mode = random.random()
        if mode < 0.2:  # noqa: PLR2004 - a share
            envelope = {**ENVELOPE, "type": random.choice(TYPES)}
            headers = tuple((f"ce_{name}", text.encode()) for name, text in envelope.items())
            headers = tuple(one for one in headers if random.random() < 0.95)  # noqa: PLR2004 - a share
        elif mode < 0.4:  # noqa: PLR2004 - a share
            headers = (("content-type", random.choice(STRUCTURED)),)
            head = json.dumps({**ENVELOPE, "type": random.choice(TYPES)}).encode()
            value = head[:-1] + b', "data": ' + (value or b"null") + b"}"
        elif mode < 0.5:  # noqa: PLR2004 - a share
            headers = ((random.choice(("traceparent", "x", "ce_x", "ê")), random.randbytes(5)),)
        keys = (b"", random.randbytes(4), b"hw/room", *((None,) if value is not None else ()))
        key = random.choice(keys)  # kafka-python sends nothing that has neither key nor value
        yield Incoming(key, value, headers, random.randrange(PARTITIONS))


def _value(random: Random, n: int) -> bytes | None:
    match random.randrange(6):
        case 0:
            return random.choice((None, b"", random.randbytes(random.randrange(80))))
        case 1:
            return json.dumps(random.choice(ODD)).encode()
        case 2:
            return json.dumps(verdict(f"f-{n}", f"hw/fuzz-{random.randrange(500)}", "fine")).encode()
        case 3:
            event = dict(random.choice(GOOD))
            for name in random.sample(sorted(event), random.choice((1, 2))):
                event[name] = random.choice(ODD)
            return json.dumps(event).encode()
        case 4:
            return json.dumps({**random.choice(GOOD), random.choice(("verdict_id", "x")): f"f-{n}"}).encode()
        case _:
            raw = json.dumps(random.choice(GOOD)).encode()
            for _ in range(random.choice((1, 3))):
                start = random.randrange(len(raw))
                raw = raw[:start] + random.choice(BITS) + raw[start + random.randrange(9) :]
            return raw


def decoded(seed: int, number: int, tell_every: int = 100_000) -> Counter[str]:
    """Decode so many records; return how many were understood, and why the others were not.

    Raises whatever the decoder raises, which it must not.
    """
    found: Counter[str] = Counter()
    began, at = time.monotonic(), now()
    for n, one in enumerate(records(seed, number), 1):
        read = decode(one.key, one.value, one.headers, at)
        found["understood" if isinstance(read, Decoded) else read.reason] += 1
        if n % tell_every == 0:
            print(
                f"{n:,} records, {time.monotonic() - began:.0f} s, {resident_kb():,} kB resident", flush=True
            )
    return found


def resident_kb(pid: str | int = "self") -> int:
    """Return how much memory a process has, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def carried(stage: Stage, seed: int, number: int, patience_s: float = 120) -> list[str]:
    """Put so many records through a worker; return what became of them that should not have."""
    given = list(records(seed, number))
    worker = stage.start_worker()
    play.ready(worker)
    first, before = given[: number // 2], 0
    stage.produce(first)
    letters, names = _expected(first)
    _until(stage, letters, names, patience_s)
    before = resident_kb(worker.pid)
    stage.produce(given[number // 2 :])
    letters, names = _expected(given)
    _until(stage, letters, names, patience_s)
    after = resident_kb(worker.pid)
    print(f"the worker: {before:,} kB after the first half, {after:,} kB after the second")
    worker.terminate()
    wrong = [f"the worker ended with {code}"] if (code := worker.wait(40)) else []
    wrong += [f"it complained: {line['message']}" for line in play.complaints(worker)]
    said = Counter((one.key, one.value, _plain(one.headers)) for one in given if not _reads(one))
    ours = {"dead_letter_reason", "dead_letter_detail", "source_topic", "source_partition", "source_offset"}
    aside = Counter(
        (r.key, r.value, _plain([h for h in r.headers if h[0] not in ours])) for r in stage.dead_letters()
    )
    if said != aside:
        wrong.append(
            f"{(said - aside).total()} dead letters are missing, {(aside - said).total()} are too many"
        )
    unanswered = names - _answered(stage)
    if unanswered:
        wrong.append(f"{len(unanswered)} verdicts and commands have no result")
    return wrong


def _plain(headers: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, bytes(value)) for name, value in headers if name != "forwarded_from")


def _reads(one: Incoming) -> bool:
    return isinstance(decode(one.key, one.value, one.headers, now()), Decoded)


def _expected(given: list[Incoming]) -> tuple[int, set[str]]:
    letters = 0
    names: set[str] = set()
    for one in given:
        read = decode(one.key, one.value, one.headers, now())
        if not isinstance(read, Decoded):
            letters += 1
        elif not isinstance(read.event, StreamEvent):
            event = read.event
            names.add((event.verdict_id or "") if isinstance(event, Verdict) else event.command_id)
    return letters, names


def _answered(stage: Stage) -> set[str]:
    return {result["verdict_id"] or result["command_id"] for result in stage.results()}


def _until(stage: Stage, letters: int, names: set[str], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if len(stage.dead_letters()) >= letters and names <= _answered(stage):
            return
        time.sleep(0.5)


def main() -> int:
    """Run it, and tell."""
    parser = report.arguments(__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--carried", type=int, default=100_000, help="so many through a worker")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    number, through = (20_000, 1_000) if told.quick else (told.records, told.carried)
    found = decoded(told.seed, number)
    report.show("Records", ("what became of them", "number"), found.most_common())
    if not through:
        return 0
    with (
        ground.apache_kafka() as (servers, folder),
        Stage(folder / "stage", Kafka(servers, prefix="fuzz")) as stage,
    ):
        wrong = carried(stage, told.seed, through, 1_800)
    print(
        *(f"WRONG: {one}" for one in wrong),
        f"{through:,} records through a worker: {len(wrong)} wrong",
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
