"""Whole lists, read from the simulators: every page, every login, within what the quotas leave over."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.sandbox.signing import KEY, PLAY, PUSH, SECRET, Clock, Signer, utc
from worker.commands.parts import whole_lists
from worker.commands.parts.whole_lists import Listing, Place, read_lists
from worker.core.ledger import Ledger
from worker.core.policy import Policy
from worker.core.quota import Kept, Use
from worker.core.routes import Route, TargetTemplate
from worker.core.state import StreamState, TargetState
from worker.sandbox.simulators import SIMULATORS, Simulator
from worker.settings import AccountSettings, KafkaSettings, Settings
from worker.vendors import load_spec
from worker.vendors.base import Account
from worker.words import Millis, Purpose, Target

pytestmark = pytest.mark.sandbox

LOGINS: dict[str, dict[str, str]] = {
    "huawei": {"project_id": "sandbox-project", "access_key": KEY, "secret_key": SECRET},
    "aliyun": {"access_key_id": KEY, "access_key_secret": SECRET},
    "cdnetworks": {"username": KEY, "api_key": SECRET},
}
LISTS: list[tuple[str, Purpose, str]] = [
    ("huawei", "read_forbid", PUSH),
    ("aliyun", "read_forbid", PLAY),
    ("cdnetworks", "read_forbid", PUSH),
]
NAMES = ["room42", "直播 1+1~100%", "a/b"]


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with SIMULATORS[request.param]() as made:
        yield made


def settings(simulator: Simulator, **more: str) -> Settings:
    """Return the settings of one account at a simulator."""
    spec = load_spec(simulator.vendor)
    login = more or LOGINS[simulator.vendor]
    account = Account("acc", simulator.vendor, login, simulator.url)
    one = AccountSettings(account, spec.quotas, timeout=1_000, allow_insecure=True)
    return Settings(KafkaSettings(("b",), "g", "i"), {"acc": one}, Policy("", ()))


def until() -> Millis:
    return (int(time.time()) + 3_600) * 1000


def read(made: Settings, purpose: Purpose, domain: str, told: list[str] | None = None) -> Listing:
    said = [] if told is None else told
    (listing,) = read_lists(made, [Place("acc", purpose, domain)], [], said.append)
    return listing


@pytest.mark.parametrize(("simulator", "purpose", "domain"), LISTS, indirect=["simulator"])
def test_a_list_is_read_to_its_end(simulator: Simulator, purpose: Purpose, domain: str) -> None:
    names = [*NAMES, *(f"s{number}" for number in range(2_100))]
    end = until()
    for name in names:
        simulator.ban(PUSH, "live", name, end)
    listing = read(settings(simulator), purpose, domain)
    assert not listing.problem
    assert {entry.name for entry in listing.entries} == {f"live/{name}" for name in names}
    assert len(listing.entries) == len(names)
    told = {entry.until for entry in listing.entries}
    assert told == ({None} if simulator.vendor == "aliyun" else {end})
    assert simulator.stats()["signatures_refused"] == 0


@pytest.mark.parametrize("simulator", ["aliyun"], indirect=True)
def test_region_blocks_are_listed_with_their_regions_and_ends(
    http: httpx.Client, simulator: Simulator
) -> None:
    end = until()
    signer = Signer(http, simulator.url, Clock(round(time.time() * 1000)))
    rule = {"DomainName": PLAY, "AppName": "live", "BlockType": "blacklist", "LocationList": "KR,CN"}
    for name in ("one", "two"):
        asked = {**rule, "StreamName": name, "ReleaseTime": utc(end)}
        assert signer.aliyun("SetLiveStreamBlock", asked).json()["Status"] == "ok"
    listing = read(settings(simulator), "read_regions", PLAY)
    found = {entry.name: (entry.until, entry.regions) for entry in listing.entries}
    assert found == {"live/one": (end, ("CN", "KR")), "live/two": (end, ("CN", "KR"))}


@pytest.mark.parametrize("simulator", ["huawei"], indirect=True)
def test_an_account_that_logs_in_reads_with_its_token(simulator: Simulator) -> None:
    simulator.ban(PUSH, "live", "room42", until())
    iam = {"user": "sandbox-user", "password": "sandbox-password", "domain": "sandbox-domain"}
    login = {f"iam.{key}": value for key, value in iam.items()}
    made = settings(simulator, project_id="sandbox-project", **login, **{"iam.endpoint": simulator.url})
    listing = read(made, "read_forbid", PUSH)
    assert [entry.name for entry in listing.entries] == ["live/room42"]
    assert simulator.stats()["calls"] == {"login": 1, "list_blocks": 1}


@pytest.mark.parametrize("simulator", ["huawei"], indirect=True)
def test_what_passes_is_asked_again_and_what_does_not_is_said(simulator: Simulator) -> None:
    simulator.ban(PUSH, "live", "room42", until())
    simulator.play_script([{"operation": "list_blocks", "effect": "status", "status": 503, "first": 1}])
    listing = read(settings(simulator), "read_forbid", PUSH)
    assert len(listing.entries) == 1
    assert simulator.stats()["calls"] == {"list_blocks": 2}
    refused = read(settings(simulator, **LOGINS["huawei"] | {"secret_key": "wrong"}), "read_forbid", PUSH)
    assert "signature" in refused.problem
    unknown = read(settings(simulator), "read_forbid", "another.example")
    assert "domain is unknown" in unknown.problem


@pytest.mark.parametrize("simulator", ["cdnetworks"], indirect=True)
def test_what_the_workers_read_lately_counts(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten reads in five minutes half are for this; four of them the workers have made."""
    slept: list[float] = []
    began = round(time.time() * 1000)
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(whole_lists, "_now", lambda: round(sum(slept) * 1000) + began)
    used = (began - 60_000,) * 2
    kept = {300_000: Kept(300_000, used, (Use("c", began - 60_000),))}
    ledgers = [
        Ledger({"acc": {"forbid_query": kept}}),
        Ledger({"acc": {"forbid_query": {300_000: Kept(300_000, used[:1])}}}),
    ]
    told: list[str] = []
    places = [Place("acc", "read_forbid", PUSH)] * 3
    listings = read_lists(settings(simulator), places, ledgers, told.append)
    assert not any(listing.problem for listing in listings)
    assert len(told) == len(slept) == 1
    assert 239 < slept[0] < 241
    assert told[0].startswith("account acc: waiting 240 s")


def test_lists_are_read_of_the_domains_that_routes_and_states_name() -> None:
    template = TargetTemplate("acc", "live", "{stream.name}", "Push.one", "play.one")
    named = TargetTemplate("acc", "live", "s", "{tenant}.two", None)
    made = Settings(
        KafkaSettings(("b",), "g", "i"),
        {},
        Policy("", ()),
        (Route((template, named)),),
    )
    target = Target("acc", "live", "s", "push.three", None)
    states = [StreamState("k", targets={target.id: TargetState(target)})]
    lists: dict[str, tuple[tuple[Purpose, str], ...]] = {
        "acc": (("read_forbid", "push_domain"), ("read_regions", "play_domain"))
    }
    assert whole_lists.places_of(made, states, lists) == [
        Place("acc", "read_forbid", "push.one"),
        Place("acc", "read_forbid", "push.three"),
        Place("acc", "read_regions", "play.one"),
    ]
