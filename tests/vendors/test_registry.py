"""The registry: names, what a vendor.toml may say, and making an adapter."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from worker import vendors
from worker.vendors import UnknownVendor, load_spec, make, parse_spec, vendor_names
from worker.vendors.base import Account, Capacity, Operation, Setting, VendorSpec
from worker.words import Call, Quota, Target

MINIMAL = """
name = "acme"
title = "Acme"
summary = "Nothing."
[operations.stop]
title = "Stop"
serves = ["cut"]
"""

BANS = """
[capacities.bans]
title = "Bans"
takes = "forbid"
limit = 7
per = "domain"
domain = "push_domain"
shown_by = "look"
"""


def install(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Pretend that distributions with these entry points are installed."""
    found = tuple(EntryPoint(name, value, vendors.GROUP) for name, value in points)
    monkeypatch.setattr(vendors, "installed", lambda: found)


def test_installed_vendors_are_looked_for_once_and_in_their_own_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("acme", "acme:Acme", group)]

    monkeypatch.setattr(vendors, "entry_points", entry_points)
    vendors.installed.cache_clear()
    try:
        assert "acme" in vendor_names()
        load_spec("huawei")
    finally:
        vendors.installed.cache_clear()
    assert asked == ["moderation_worker.vendors"]


def test_the_vendors_of_this_tree_are_named() -> None:
    assert set(vendor_names()) >= {"aliyun", "cdnetworks", "huawei", "memory", "nginx_rtmp"}
    assert list(vendor_names()) == sorted(vendor_names())


@pytest.mark.parametrize("name", ["aliyun", "cdnetworks", "huawei", "memory", "nginx_rtmp"])
def test_every_file_of_this_tree_can_be_read(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert spec.serving("cut") is not None
    assert spec.serving("forbid") is not None or spec.gate


def test_the_operations_have_the_names_that_configurations_use() -> None:
    assert list(load_spec("huawei").operations) == [
        "block_once",
        "block",
        "update_block",
        "unblock",
        "list_blocks",
        "list_online",
    ]


def test_what_is_read_from_huaweis_file() -> None:
    spec = load_spec("huawei")
    assert spec.operations["block"] == Operation(
        name="block",
        title="Put a stream on the block list until a time",
        serves=("forbid",),
        charges=("block",),
        doc="https://support.huaweicloud.com/api-live/live_03_0010.html",
        max_length=(90 * 24 - 1) * 3_600_000,
        needs=("push_domain",),
    )
    assert spec.quotas["block_once"] == (Quota(300, 60_000),)
    assert {setting.name for setting in spec.settings if setting.secret} == {
        "access_key",
        "secret_key",
        "security_token",
        "iam.password",
    }
    served = spec.serving("lift")
    assert served is not None
    assert served.name == "unblock"
    assert spec.serving("block_regions") is None


def test_an_unknown_vendor_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownVendor, match=r'^"hauwei" is not a vendor \(.*huawei, memory.*\)$'):
        load_spec("hauwei")


def test_asking_for_names_imports_no_adapter() -> None:
    code = (
        "import sys; from worker.vendors import vendor_names; vendor_names(); "
        "print([name for name in sys.modules if name.startswith('worker.vendors.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    assert run.stdout.strip() == "['worker.vendors.base']"


def test_an_installed_vendor_is_found_with_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "acme_cdn"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "adapter.py").write_text(
        "class Acme:\n    def __init__(self, spec, account):\n        self.made = spec.title, account.name\n"
    )
    (package / "vendor.toml").write_text(MINIMAL)
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, ("acme", "acme_cdn.adapter:Acme"))

    assert "acme" in vendor_names()
    spec = load_spec("acme")
    assert vars(make(spec, Account("a", "acme", {}))) == {"made": ("Acme", "a")}


@pytest.mark.parametrize(
    "points",
    [
        [("huawei", "elsewhere:Huawei")],
        [("acme", "one:Acme"), ("acme", "two:Acme")],
    ],
)
def test_a_name_that_is_taken_is_refused(
    monkeypatch: pytest.MonkeyPatch, points: list[tuple[str, str]]
) -> None:
    install(monkeypatch, *points)
    with pytest.raises(ValueError, match=rf'vendor "{points[-1][0]}" of {points[-1][1]}: the name is '):
        vendor_names()
    with pytest.raises(ValueError, match="the name is "):
        load_spec("memory")


def test_a_file_says_all_there_is_to_say() -> None:
    text = """
name = "acme"
title = "Acme"
summary = "Nothing."
endpoint = "https://{zone}.acme.example"
forbid_cuts = false
asynchronous = ["forbid"]
one_of = [["user", "key"], ["token"]]
[links]
api = "https://acme.example/api"
[settings.zone]
help = "Where."
default = "eu"
[settings.user]
help = "Who."
[settings.key]
help = "Key."
required = true
secret = true
[settings.token]
help = "Token."
type = "boolean"
[operations.stop]
title = "Stop"
doc = "https://acme.example/stop"
serves = ["cut", "forbid"]
charges = ["stop", "writes"]
max_length = "30d"
needs = ["push_domain", "play_domain"]
[operations.look]
title = "Look"
serves = ["read_live"]
[quotas]
stop = "5/1s"
writes = ["10/5m", "500/1d"]
[capacities.bans]
title = "Bans"
takes = "forbid"
limit = 7
per = "domain"
domain = "push_domain"
shown_by = "look"
"""
    assert parse_spec("acme", text) == VendorSpec(
        name="acme",
        title="Acme",
        summary="Nothing.",
        links={"api": "https://acme.example/api"},
        settings=(
            Setting("zone", "Where.", default="eu"),
            Setting("user", "Who."),
            Setting("key", "Key.", required=True, secret=True),
            Setting("token", "Token.", type="boolean"),
        ),
        operations={
            "stop": Operation(
                name="stop",
                title="Stop",
                serves=("cut", "forbid"),
                charges=("stop", "writes"),
                doc="https://acme.example/stop",
                max_length=30 * 86_400_000,
                needs=("push_domain", "play_domain"),
            ),
            "look": Operation("look", "Look", ("read_live",), ("look",), ""),
        },
        quotas={"stop": (Quota(5, 1_000),), "writes": (Quota(10, 300_000), Quota(500, 86_400_000))},
        one_of=(("user", "key"), ("token",)),
        endpoint="https://{zone}.acme.example",
        forbid_cuts=False,
        asynchronous=("forbid",),
        capacities={"bans": Capacity("bans", "Bans", "forbid", 7, "domain", "push_domain", "look")},
    )


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ('[operations.look]\nserves = ["read_live"]', "operations.look.title: Field required"),
        ('[operations.look]\ntitle = "L"\nserves = ["kill"]', "operations.look.serves.0: Input should be"),
        ('[operations.look]\ntitle = "L"\nserves = ["cut"]', "operations: cut is served twice"),
        (
            '[operations.look]\ntitle = "L"\nserves = ["lift"]\nmax_length = "soon"',
            'operations.look.max_length: Value error, "soon" is not a duration',
        ),
        (
            '[operations.look]\ntitle = "L"\nserves = ["lift"]\nneeds = ["domain"]',
            "operations.look.needs.0: Input should be",
        ),
        ('[quotas]\nstop = "many"', 'quotas.stop: Value error, "many" is not a quota'),
        ("[quotas]\nstop = 5", "quotas.stop.0: "),
        ('[quotas]\nstpo = "5/1s"', "quotas.stpo: no operation charges it"),
        ('[settings.key]\nhelp = "K"\nsecrte = true', "settings.key.secrte: Extra inputs"),
        ("[settings]\nkey = 1", "settings.key: "),
        (BANS.replace("forbid", "cut"), "capacities.bans.takes: Input should be"),
        (BANS, "capacities.bans.takes: no operation serves forbid"),
        (BANS.replace("7", "0"), "capacities.bans.limit: Input should be greater than 0"),
        (BANS.replace("look", "list"), "capacities.bans.shown_by: list is no operation"),
        ('[settings."a.b.c"]\nhelp = "K"', "settings.a.b.c: at most one dot"),
        ('[settings.a]\nhelp = "K"\n[settings."a.b"]\nhelp = "K"', "settings.a.b: a is a setting of its own"),
        ("[[links]]", "links: "),
        ("[nonsense", ""),
    ],
)
def test_a_mistake_in_a_file_is_named(extra: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).+") as caught:
        parse_spec("acme", MINIMAL + extra)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ('endpoint = "https://{zone}.acme.example"', "endpoint: zone is no setting"),
        ('one_of = [["key"]]', "one_of: key is no setting"),
        ('asynchronous = ["lift"]', "asynchronous: no operation serves lift"),
        ('colour = "blue"', "colour: Extra inputs"),
        ("gate = true", "gate: expected forbid_cuts = false beside it"),
    ],
)
def test_parts_of_a_file_fit_each_other(head: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_spec("acme", head + MINIMAL)


def test_a_gate_takes_the_place_of_a_bans_operations_and_needs_one_that_cuts() -> None:
    gated = f"gate = true\nforbid_cuts = false\n{MINIMAL}"
    assert parse_spec("acme", gated).gate
    with pytest.raises(ValueError, match="gate: an operation serves lift"):
        parse_spec("acme", gated.replace('["cut"]', '["cut", "lift"]'))
    with pytest.raises(ValueError, match="gate: expected an operation that serves cut"):
        parse_spec("acme", gated.replace('["cut"]', '["read_live"]'))


def test_a_file_has_the_name_it_is_registered_by() -> None:
    with pytest.raises(ValueError, match='name: expected "other", as it is registered'):
        parse_spec("other", MINIMAL)


def test_a_mistake_says_whose_file_it_is_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_cdn").mkdir()
    (tmp_path / "broken_cdn" / "__init__.py").write_text("")
    (tmp_path / "broken_cdn" / "vendor.toml").write_text('name = "broken"')
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, ("broken", "broken_cdn:Broken"))
    with pytest.raises(ValueError, match=r"^vendor.toml of broken: title: Field required; summary: "):
        load_spec("broken")


ONE_OF = """
[settings.user]
help = "U"
[settings.key]
help = "K"
[settings.token]
help = "T"
"""


@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ({"user": "u", "key": "k"}, True),
        ({"token": "t"}, True),
        ({}, False),
        ({"user": "u"}, False),
        ({"user": "", "key": "k"}, False),
        ({"user": "u", "key": "k", "token": "t"}, False),
        ({"user": "u", "token": "t"}, False),
    ],
)
def test_exactly_one_group_of_settings_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str | bool], accepted: bool
) -> None:
    (tmp_path / "choosy_cdn.py").write_text("class Choosy:\n    def __init__(self, spec, account): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, ("acme", "choosy_cdn:Choosy"))
    spec = parse_spec("acme", 'one_of = [["user", "key"], ["token"]]' + MINIMAL + ONE_OF)
    if accepted:
        assert type(make(spec, Account("a", "acme", settings))).__name__ == "Choosy"
    else:
        with pytest.raises(ValueError, match=r"^expected exactly one of: user \+ key; token$"):
            make(spec, Account("a", "acme", settings))


def test_an_account_shows_no_setting() -> None:
    account = Account("hw", "huawei", {"secret_key": "SK-visible"}, "https://live.example")
    assert "SK-visible" not in repr(account)
    assert account.text("secret_key") == "SK-visible"
    assert account.text("absent") == ""


@pytest.mark.parametrize("name", ["huawei", "memory"])
def test_an_adapter_is_made_for_its_account(name: str) -> None:
    settings = {"region": "cn-north-4", "project_id": "p", "access_key": "a", "secret_key": "s"}
    vendor = make(load_spec(name), Account("x", name, settings))
    assert vendor.code == name
    call = Call("c", "read_live", "list_online", Target("x", "live", "room42", "push.acme.example"))
    assert vendor.shared(call) is None
