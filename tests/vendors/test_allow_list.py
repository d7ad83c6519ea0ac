"""A vendor that is told the allowed regions has the same ones blocked as one that is told the others."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.machine import FULL, HOUR, NOW, POLICY, Machine, purposes, rule, said
from worker.core.context import AccountView
from worker.core.outcome import Done, Facts, NotThere, Observed, Outcome
from worker.events.regions import REGIONS
from worker.vendors import parse_spec
from worker.vendors.base import Request, Response, VendorSpec
from worker.vendors.reading import left_allowed, others
from worker.words import Call, Millis, Target

SPEC = """
name = "geo"
title = "Geo"
summary = "Region rules only."
[operations.rule]
title = "Block regions"
serves = ["block_regions"]
[operations.clear]
title = "Lift it"
serves = ["unblock_regions"]
[operations.look]
title = "Which regions"
serves = ["read_regions"]
"""
DENIES = parse_spec("geo", SPEC)
ALLOWS = parse_spec(
    "geo", SPEC.replace('serves = ["block_regions"]', 'serves = ["block_regions"]\nregions = "allowed"')
)
EVERYWHERE = tuple(sorted(REGIONS))


@dataclass
class Geo:
    """An adapter of such a vendor: the list it names is the allowed regions, or the blocked ones."""

    code: ClassVar[str] = "geo"
    spec: VendorSpec

    @property
    def allows(self) -> bool:
        return self.spec.operations["rule"].regions == "allowed"

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - as every vendor
        regions = (
            left_allowed(call.regions) if self.allows and call.purpose == "block_regions" else call.regions
        )
        return Request(call.operation, "https://geo.example", {}, json.dumps(regions).encode())

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:  # noqa: ARG002 - as every vendor
        if call.purpose != "read_regions":
            return Done() if response.status == 200 else NotThere()
        named = json.loads(response.content)
        if named is None:
            return Observed(Facts(regions=()))
        return Observed(Facts(regions=others(named) if self.allows else tuple(named)))


class Server:
    """Keeps one list as it was sent. None: there is no rule."""

    def __init__(self) -> None:
        self.kept: list[str] | None = None

    def __call__(self, request: Request) -> Response:
        there = self.kept is not None
        if request.method == "rule":
            self.kept = json.loads(request.content)
            assert self.kept, "an empty list may mean everywhere"
        elif request.method == "clear":
            self.kept = None
            return Response(200 if there else 404, {}, b"")
        return Response(200, {}, json.dumps(self.kept).encode())


def wired(spec: VendorSpec, otherwise: str | None = None) -> tuple[Machine, Callable[[], set[str]]]:
    """Return a machine whose vendor is one of the two, and what is blocked there."""
    adapter, server = Geo(spec), Server()
    geo = rule("geo", "gambling", action="block_regions", regions="verdict", length=HOUR, otherwise=otherwise)
    view = AccountView.of(spec)
    if otherwise:
        view = replace(view, serves={**view.serves, "forbid": FULL["forbid"], "lift": FULL["lift"]})
    m = Machine({"hw": view}, replace(POLICY, rules=(geo,)))

    def answer(call: Call) -> Outcome:
        if call.purpose in ("forbid", "lift"):
            return Done()
        return adapter.read(call, server(adapter.request(call, m.now, "n")), m.now)

    m.answer = answer

    def blocked() -> set[str]:
        if server.kept is None:
            return set()
        return set(others(server.kept)) if adapter.allows else set(server.kept)

    return m, blocked


DEMANDS = st.lists(
    st.tuples(
        st.one_of(
            st.sets(st.sampled_from(EVERYWHERE[:-1]), min_size=1, max_size=4),  # the last one is always left
            st.sets(st.sampled_from(EVERYWHERE), max_size=3).map(lambda few: set(EVERYWHERE[:-4]) - few),
        ),
        st.integers(1, 50),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(DEMANDS, st.integers(0, 3))
def test_both_have_the_same_regions_blocked_at_every_moment(
    demands: list[tuple[set[str], int]], released: int
) -> None:
    seen = []
    for spec in (DENIES, ALLOWS):
        m, blocked = wired(spec)
        moments = []
        for regions, _ in demands:
            m.verdict("gambling", regions=sorted(regions))
            m.run()
            moments.append(blocked())
        hold = next((r.hold for r in m.results if r.verdict_id == f"v{released + 1}" and r.hold), None)
        if hold is not None:
            m.command("release", holds=[hold])
            m.run()
        moments.append(blocked())
        m.command("query")
        (told,) = (r.observed for r in m.run() if r.outcome == "observed")
        assert told is not None
        assert set(told.regions or ()) == blocked()
        seen.append(moments)
    assert seen[0] == seen[1]


def test_the_wire_names_the_regions_that_stay_allowed() -> None:
    call = Call("c", "block_regions", "rule", Target("hw", "live", "room42"), regions=("DE", "FR"))
    for spec, named in ((DENIES, {"DE", "FR"}), (ALLOWS, REGIONS - {"DE", "FR"})):
        assert set(json.loads(Geo(spec).request(call, NOW, "n").content)) == named
    with pytest.raises(ValueError, match="no region would stay allowed"):
        Geo(ALLOWS).request(replace(call, regions=EVERYWHERE), NOW, "n")


@pytest.mark.parametrize(
    "parts", [[EVERYWHERE], [EVERYWHERE[:200], EVERYWHERE[200:]]], ids=["at once", "in two"]
)
def test_where_no_region_would_be_left_nothing_is_sent(parts: list[tuple[str, ...]]) -> None:
    m, blocked = wired(ALLOWS)
    for part in parts:
        m.verdict("gambling", regions=list(part))
        m.run()
    last = m.results[-1]
    assert said([last]) == [(f"v{len(parts)}", "failed*")]
    assert last.error is not None
    assert last.error.kind == "unsupported"
    assert purposes(m.calls) == ["block_regions"] * (len(parts) - 1)
    assert blocked() == set().union(*parts[:-1])
    denies, all_blocked = wired(DENIES)
    denies.verdict("gambling", regions=list(EVERYWHERE))
    denies.run()
    assert all_blocked() == REGIONS, "who is told what is blocked can block all"


def test_where_no_region_would_be_left_the_rule_s_otherwise_is_taken() -> None:
    m, _ = wired(ALLOWS, otherwise="forbid")
    m.verdict("gambling", regions=list(EVERYWHERE))
    (told,) = m.run()
    assert (told.outcome, told.action) == ("applied", "forbid")
    assert purposes(m.calls) == ["forbid"]


def test_a_file_that_declares_it_of_another_operation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"operations\.clear\.regions: it serves no region block"):
        parse_spec(
            "geo",
            SPEC.replace('serves = ["unblock_regions"]', 'serves = ["unblock_regions"]\nregions = "allowed"'),
        )
