"""The sums of what is open are those that one would find by looking at each stream."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from worker.core.stream import NOTHING_OPEN, Open
from worker.runtime.opens import GRAIN, Opens

MOMENTS = st.none() | st.integers(0, 1_000)
OPEN = st.just(NOTHING_OPEN) | st.builds(
    Open,
    since=MOMENTS,
    parked=st.lists(st.sampled_from(["approval", "guard", "pause"]), max_size=3).map(tuple),
    busy=st.booleans(),
    ended=MOMENTS,
)


@given(st.lists(st.tuples(st.sampled_from("abcd"), OPEN), max_size=30))
def test_the_sums_are_those_of_what_is_open(changes: list[tuple[str, Open]]) -> None:
    opens, plain = Opens(), dict[str, Open]()
    for key, found in changes:
        opens.put(key, found)
        plain[key] = found
        there = [one for one in plain.values() if one != NOTHING_OPEN]
        assert dict(opens) == {name: one for name, one in plain.items() if one != NOTHING_OPEN}
        assert +opens.parked == Counter(reason for one in there for reason in one.parked)
        for said, moments in (
            (opens.since(), [o.since for o in there]),
            (opens.ended(), [o.ended for o in there]),
        ):
            oldest = min((at for at in moments if at is not None), default=None)
            assert said == (oldest // GRAIN * GRAIN if oldest is not None else None)
