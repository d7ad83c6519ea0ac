"""Whatever the bytes are, decoding gives an event or a reason."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.events.codec import Decoded, Invalid, dead_letter, decode
from worker.events.examples import EXAMPLES, NOON

INCOMING = [example for name, example in EXAMPLES.items() if not name.startswith("result")]
NAMES = ["verdict_id", "command_id", "stream_event", "stream", "key", "kind", "labels", "detected_at", "at"]

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=6)
    ),
    max_leaves=20,
)
names = st.sampled_from(
    ["ce_specversion", "ce_id", "ce_source", "ce_type", "content-type", "traceparent", "ce_traceparent", "x"]
)
texts = st.sampled_from(
    [
        b"1.0",
        b"moderation.verdict.v1",
        b"moderation.stream.v1",
        b"application/cloudevents+json; charset",
        b"e-1",
    ]
)
headers = st.lists(st.tuples(names | st.text(), texts | st.binary() | st.none()), max_size=8)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good event with some of its bytes replaced."""
    raw = json.dumps(draw(st.sampled_from(INCOMING))).encode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 20)))
        raw = (
            raw[:start]
            + draw(st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"\\u", b"9" * 99]))
            + raw[end:]
        )
    return raw


@st.composite
def overlaid(draw: st.DrawFn) -> bytes:
    """A good event with some of its fields replaced."""
    event: dict[str, Any] = dict(draw(st.sampled_from(INCOMING)))
    for name in draw(st.lists(st.sampled_from(sorted(event)), min_size=1, max_size=3)):
        event[name] = draw(documents)
    return json.dumps(event).encode()


values = st.none() | st.binary() | documents.map(json.dumps).map(str.encode) | mutated() | overlaid()


@settings(max_examples=400, deadline=None)
@given(key=st.none() | st.binary(), value=values, headers=headers)
def test_decoding_never_raises(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    found = decode(key, value, headers, NOON)
    if isinstance(found, Decoded):
        assert found.stream_key == found.event.stream.key
        assert found.stream_key.encode()
    else:
        assert isinstance(found, Invalid)
        assert 0 < len(found.detail.encode()) < 2000
        letter = dead_letter(
            key, value, headers, topic="t", partition=0, offset=7, invalid=found, dead_letter_topic="d"
        )
        assert (letter.key, letter.value, letter.headers[: len(headers)]) == (key, value, headers)
