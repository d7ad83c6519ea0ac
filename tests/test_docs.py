"""What is made from the vendors' files is up to date, and what is claimed as proven has its test."""

import re
from pathlib import Path

import pytest

from docs.generate import BEGIN, END, between, files, page, proof, secret_keys, specs
from worker.vendors import parse_spec

ROOT = Path(__file__).parents[1]
ODD = """
name = "odd"
title = "Odd"
summary = "A | B."
forbid_cuts = false
asynchronous = ["forbid"]
one_of = [["user", "key"], ["token"]]
[settings.user]
help = "Who."
[settings.key]
help = "Its key."
secret = true
[settings.token]
help = "A token."
secret = true
[settings.fast]
help = "Hurry."
type = "boolean"
default = true
[operations.ban]
title = "Ban"
doc = "https://vendor.example/ban"
serves = ["forbid"]
charges = ["ban", "all"]
max_length = "2d"
needs = ["play_domain"]
[quotas]
all = ["3/1s", "500/24h"]
"""


@pytest.mark.parametrize("path", files())
def test_what_is_made_is_up_to_date(path: str) -> None:
    place = ROOT / path
    assert place.exists(), f"make docs writes {path}"
    assert place.read_text("utf-8") == files()[path], f"make docs writes {path} anew"


def test_no_page_is_left_of_a_vendor_that_is_gone() -> None:
    pages = {path.name for path in (ROOT / "docs/vendors").glob("*.md")}
    assert pages == {f"{spec.name}.md" for spec in specs()}


def test_a_page_says_all_that_stands_in_the_file() -> None:
    text = page(parse_spec("odd", ODD), {"sdk": ["ban"], "open": ["how long it takes"]})
    for said in (
        "| `forbid` | `ban` |",
        "[Ban](https://vendor.example/ban): serves `forbid`; needs `play_domain`; at most 2d.",
        "| `key` | secret | Its key. |",
        "| `fast` | boolean, default `true` | Hurry. |",
        "Exactly one of: `user` and `key` or `token`.",
        "3 in 1s, 500 in 1d | `ban` |",
        "A ban ends no running broadcast.",
        "Acknowledged before it is in force: `forbid`.",
        "| `ban` | yes | - | - |",
        "- how long it takes",
    ):
        assert said in text


def test_the_secrets_of_every_vendor_are_listed() -> None:
    assert {"key", "token", "ssl_password"} <= set(secret_keys([parse_spec("odd", ODD)]))


def test_a_text_without_its_marks_is_not_written() -> None:
    assert between(f"a {BEGIN}old{END} b", BEGIN, END, "new") == f"a {BEGIN}new{END} b"
    with pytest.raises(ValueError, match="vendors"):
        between(f"a {BEGIN} b", BEGIN, END, "new")


def test_every_vendor_with_a_wire_says_what_was_proven() -> None:
    wired = {
        spec.name for spec in specs() if spec.endpoint or any(one.doc for one in spec.operations.values())
    }
    assert proof().keys() == wired


@pytest.mark.parametrize("vendor", proof())
def test_only_operations_are_proven_and_only_by_tests_that_are(vendor: str) -> None:
    proven = proof()[vendor]
    (spec,) = (spec for spec in specs() if spec.name == vendor)
    assert proven.keys() <= {"sdk", "simulator", "server", "server_test", "open", "logins"}
    for way in ("sdk", "simulator", "server"):
        assert set(proven.get(way, ())) <= spec.operations.keys()
    assert proven["open"]
    assert ("server" in proven) == ("server_test" in proven)
    logins = proven.get("logins", [])
    claims = [login[name] for login in logins for name in ("simulator", "vector") if name in login]
    for claim in [*claims, *([proven["server_test"]] if "server_test" in proven else [])]:
        path, _, test = claim.partition("::")
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    groups = {tuple(login["settings"])[:2] for login in logins}
    assert {tuple(group)[:2] for group in spec.one_of} <= groups, "a login that nothing was proven of"
    assert {name for login in logins for name in login["settings"]} <= {one.name for one in spec.settings}


@pytest.mark.sdk
@pytest.mark.parametrize("vendor", proof())
def test_an_operation_claims_an_sdk_exactly_where_one_drives_it(vendor: str) -> None:
    from tests.sdk.test_simulators import STEPS  # noqa: PLC0415 - needs the SDKs

    assert set(proof()[vendor].get("sdk", ())) == {step[0] for step in STEPS.get(vendor, ())}


@pytest.mark.sdk
@pytest.mark.parametrize("vendor", proof())
def test_a_login_claims_an_sdk_exactly_where_one_signs_so(vendor: str) -> None:
    from tests.sdk.clients import WAYS  # noqa: PLC0415 - needs the SDKs

    claimed = [login["sdk"] for login in proof()[vendor].get("logins", []) if "sdk" in login]
    assert claimed == list(WAYS.get(vendor, ()))


@pytest.mark.sandbox
@pytest.mark.parametrize("vendor", proof())
def test_an_operation_claims_a_simulator_exactly_where_one_serves_it(vendor: str) -> None:
    from worker.sandbox.simulators import SIMULATORS  # noqa: PLC0415 - needs the sandbox extra

    (spec,) = (spec for spec in specs() if spec.name == vendor)
    served = set(SIMULATORS[vendor].quotas) & spec.operations.keys() if vendor in SIMULATORS else set()
    assert set(proof()[vendor].get("simulator", ())) == served
