"""What the vendor has otherwise than we believe, and what becomes of it."""

from dataclasses import replace

import pytest

from tests.core.machine import (
    HOUR,
    KEY,
    MINUTE,
    NOW,
    POLICY,
    SECOND,
    Machine,
    Vendor,
    purposes,
    said,
)
from worker.core.outcome import AlreadySo, Done, Facts, Observed, Outcome, Unknown
from worker.core.state import Ban, Block, TargetState
from worker.words import Call

CHECKED = replace(POLICY, verify_after=(5 * SECOND, 30 * SECOND), reconcile=None)


def target(m: Machine) -> TargetState:
    assert m.state is not None
    (only,) = m.state.targets.values()
    return only


def ban(m: Machine) -> Ban:
    found = target(m).ban
    assert found is not None
    return found


def block(m: Machine) -> Block:
    found = target(m).block
    assert found is not None
    return found


def enforced(category: str, **fields: object) -> tuple[Machine, Vendor]:
    """Return a machine and its vendor, a demand in force and verified, all checks over."""
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict(category, **fields)
    m.run()
    m.wait(MINUTE)
    assert ("v1", "verified*") in said(m.results)
    assert target(m).check is None
    return m, vendor


# -- a query's answer ------------------------------------------------------------------------------------


def test_a_ban_that_a_query_does_not_find_is_applied_again_and_verified() -> None:
    m, vendor = enforced("violence")
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted")]
    assert (m.results[-1].reason, m.results[-1].hold) == ("query", target(m).holds[0].id)
    assert vendor.banned_until == ban(m).until == NOW + HOUR
    assert said(m.wait(MINUTE)) == [("v1", "verified")]
    assert (m.results[-1].reason, target(m).holds[0].lost) == ("drift", False)


def test_a_region_block_that_a_query_does_not_find_is_applied_again_and_verified() -> None:
    m, vendor = enforced("gambling", regions=["DE", "FR"])
    vendor.regions = ()
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted")]
    assert vendor.blocked == block(m).regions == ("DE", "FR")
    assert said(m.wait(MINUTE)) == [("v1", "verified")]


def test_its_return_is_told_as_applied_where_nothing_verifies_it() -> None:
    m = Machine()
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    m.wait(5 * MINUTE)
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "drifted"), ("v1", "applied")]
    assert m.results[-1].reason == "drift"


def test_only_the_demand_whose_regions_are_open_is_told() -> None:
    m, vendor = enforced("gambling", regions=["DE"])
    m.verdict("gambling", regions=["FR"])
    m.run()
    m.wait(MINUTE)
    assert vendor.blocked == ("DE", "FR")
    vendor.regions = ("DE",)
    m.command("query")
    assert said(m.run()) == [("c3", "observed*"), ("v2", "drifted")]
    assert vendor.blocked == ("DE", "FR")


def test_what_is_left_of_a_block_is_lifted_when_its_demand_goes_away() -> None:
    m, vendor = enforced("gambling", regions=["DE", "FR"])
    vendor.regions = ("DE",)
    m.command("query")
    for _ in range(3):
        (call,) = m.grant()
        m.answered(call, vendor(call))
    assert block(m).regions == ("DE",)
    m.command("release")
    m.run()
    assert vendor.blocked == ()


def test_an_end_that_was_moved_at_the_vendor_is_moved_back() -> None:
    m, vendor = enforced("violence")
    for until in (NOW + 20 * MINUTE, NOW + 3 * HOUR, None):
        vendor.banned_until = until or vendor.banned_until
        m.command("query")
        m.run()
        assert vendor.banned_until == ban(m).until == NOW + HOUR
    assert purposes(m.calls).count("move_end") == 2
    assert "drifted" not in [told.outcome for told in m.results]


def test_the_end_of_somebody_elses_ban_is_taken_as_it_is() -> None:
    m, vendor = enforced("violence")
    found = ban(m)
    assert m.state is not None
    (name,) = m.state.targets
    others = replace(target(m), ban=replace(found, ours=False))
    m.state = replace(m.state, targets={name: others})
    vendor.banned_until = NOW + 3 * HOUR
    m.command("query")
    m.run()
    assert (ban(m).until, ban(m).ours, vendor.banned_until) == (NOW + 3 * HOUR, False, NOW + 3 * HOUR)
    vendor.banned_until = None
    m.command("query")
    assert said(m.run())[-1] == ("v1", "drifted")
    assert (ban(m).until, ban(m).ours, purposes(m.calls)[-1]) == (NOW + HOUR, True, "forbid")


def test_the_end_of_a_block_that_was_moved_is_moved_back() -> None:
    m, vendor = enforced("gambling", regions=["DE"])
    until = vendor.regions_until

    def answer(call: Call) -> Outcome:
        if call.purpose == "read_regions":
            return Observed(Facts(regions=vendor.blocked, regions_until=vendor.regions_until))
        return vendor(call)

    m.answer, vendor.regions_until = answer, NOW + HOUR
    m.command("query")
    m.run()
    assert (vendor.blocked, vendor.regions_until) == (("DE",), until)


def test_a_stream_that_a_query_shows_live_again_is_forbidden_again() -> None:
    m, vendor = enforced("violence")
    vendor.live_since = m.now - SECOND
    m.command("query")
    assert said(m.run()) == [("c2", "observed*"), ("v1", "reappeared")]
    assert vendor.live_since is None


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(live=False),
        Facts(forbidden=True, forbidden_until=None),
        Facts(regions=(), in_progress=True),
        Facts(live=True, live_since=NOW - HOUR),
        Facts(live=True),
    ],
)
@pytest.mark.parametrize("category", ["violence", "gambling"])
def test_what_a_read_cannot_tell_changes_nothing(category: str, facts: Facts) -> None:
    m, _ = enforced(category, regions=["DE"])
    before, calls = target(m), purposes(m.calls)
    m.answer = lambda call: Observed(facts)
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert set(purposes(m.calls[len(calls) :])) == {"read_forbid", "read_regions", "read_live"}
    assert (target(m).ban, target(m).block) == (before.ban, before.block)


def test_a_belief_that_is_not_sure_stays_until_its_call_is_repeated() -> None:
    m, vendor = enforced("violence")
    m.command("extend", until="2036-01-01T00:00:00Z")
    (call,) = m.grant()
    m.answered(call, Unknown(), jitter=0.99)
    assert not ban(m).sure
    vendor.banned_until = None
    m.command("query")
    m.run()
    assert ("v1", "drifted") not in said(m.results)
    assert not ban(m).sure


def test_what_was_told_since_the_reading_began_is_newer() -> None:
    m = Machine(policy=replace(CHECKED, verify_after=()))
    vendor = Vendor(m)
    m.command("query", stream={"key": KEY, "targets": [{"account": "hw", "app": "live", "stream": "room42"}]})
    (read,) = m.grant()
    m.answered(read, vendor(read))  # it is not forbidden
    m.verdict("violence", stream={"targets": [{"account": "hw", "app": "live", "stream": "room42"}]})
    (forbid,) = m.grant()
    m.answered(forbid, vendor(forbid))
    m.now += HOUR // 2
    m.run()
    assert purposes(m.calls) == ["read_forbid", "forbid", "read_regions", "read_live"]
    assert ("v2", "drifted") not in said(m.results)
    assert ban(m).sure


def test_a_list_that_does_not_have_it_yet_proves_nothing() -> None:
    m = Machine(policy=replace(CHECKED, verify_after=()))
    vendor = Vendor(m)
    m.verdict("violence")
    m.run()
    vendor.banned_until = None
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert ban(m).sure
    m.now += 2 * MINUTE
    m.command("query")
    assert ("v1", "drifted") in said(m.run())


def test_what_the_vendor_ended_a_moment_early_is_not_told_as_lost() -> None:
    m, vendor = enforced("violence")
    m.now = NOW + HOUR - 3 * SECOND
    vendor.banned_until = m.now
    m.command("query")
    assert said(m.run()) == [("c2", "observed*")]
    assert purposes(m.calls).count("forbid") == 1


# -- a verification --------------------------------------------------------------------------------------


def test_a_block_that_was_shown_and_is_gone_is_told_and_applied_again_at_once() -> None:
    m = Machine(policy=CHECKED)
    vendor = Vendor(m)
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert said(m.wait(6 * SECOND)) == [("v1", "verified*")]
    vendor.regions = ()
    assert said(m.wait(MINUTE)) == [("v1", "drifted"), ("v1", "verified")]
    assert vendor.blocked == ("DE",)


def test_a_block_that_never_showed_has_failed_and_is_not_told_as_lost() -> None:
    m = Machine(policy=replace(CHECKED, reconcile=10 * MINUTE))
    m.answer = lambda call: Observed(Facts(regions=())) if call.purpose == "read_regions" else Done()
    m.verdict("gambling", regions=["DE"])
    m.run()
    assert said(m.wait(MINUTE)) == [("v1", "failed*")]
    assert purposes(m.calls).count("block_regions") == 1


def test_a_second_loss_is_told_again() -> None:
    m, vendor = enforced("violence")
    for number in range(2, 4):
        vendor.banned_until = None
        m.command("query")
        assert said(m.run()) == [(f"c{number}", "observed*"), ("v1", "drifted")]
        assert said(m.wait(MINUTE)) == [("v1", "verified")]
    assert len({told.result_id for told in m.results}) == len(m.results)


def test_what_is_there_again_already_is_told_all_the_same() -> None:
    m, vendor = enforced("violence")
    vendor.banned_until = None
    m.command("query")
    for _ in range(3):
        (call,) = m.grant()
        m.answered(call, vendor(call))
    vendor.banned_until = NOW + HOUR
    m.answer = lambda call: AlreadySo() if call.purpose == "forbid" else vendor(call)
    assert said(m.run())[-1] == ("v1", "applied")
    assert purposes(m.calls)[-2:] == ["forbid", "read_forbid"]
